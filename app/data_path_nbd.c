/* NBD on a unix socket: for any kernel and any NBD client. The server wants a thread for itself;
 * this one starts it, hears that it listens, and later tells it to stop. */
#include "app/data_path.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "app/features.h"
#include "io/nbd_server.h"
#include "platform/log.h"

#define CONNECTIONS_MAX 16
#define THREAD_STACK_SIZE (512 * 1024)

/* Clients may ask for more at once than the block layer does, and not all heed the limit that they
 * are told: 1 MiB is what copying programs like. */
#define REQUEST_SIZE_LEAST (1024 * 1024)

struct served {
	struct nbd_server_options options;
	const struct block_volume *volume;
	pthread_t thread;
	int stop_fd;
	int opened_fd;
	int ended_fd;
	enum status open_status;
	enum status serve_status;
};

static void signal_event(int fd)
{
	const uint64_t one = 1;

	CHECK(write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

/* Only the thread that opened the ring may use it, so opening, serving and closing are all here. */
static void *serve(void *argument)
{
	struct served *served = argument;
	struct nbd_server *server = NULL;

	served->open_status = nbd_server_open(&server, &served->options, served->volume);
	signal_event(served->opened_fd);
	if (served->open_status == OK)
		served->serve_status = nbd_server_serve(server);
	nbd_server_close(&server);
	signal_event(served->ended_fd);
	return NULL;
}

static enum status probe(void)
{
	return OK;
}

static enum status prepare_process(void)
{
	return OK;
}

static bool make_events(struct served *served)
{
	served->stop_fd = eventfd(0, EFD_CLOEXEC);
	served->opened_fd = eventfd(0, EFD_CLOEXEC);
	served->ended_fd = eventfd(0, EFD_CLOEXEC);
	return served->stop_fd >= 0 && served->opened_fd >= 0 && served->ended_fd >= 0;
}

static void close_events(const struct served *served)
{
	const int fds[] = {served->stop_fd, served->opened_fd, served->ended_fd};

	for (size_t i = 0; i < ARRAY_COUNT(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static bool start_thread(struct served *served)
{
	pthread_attr_t attributes;
	bool done = pthread_attr_init(&attributes) == 0 &&
		    pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE) == 0 &&
		    pthread_create(&served->thread, &attributes, serve, served) == 0;

	pthread_attr_destroy(&attributes);
	return done;
}

static void wait_until_opened(const struct served *served)
{
	struct pollfd opened = {.fd = served->opened_fd, .events = POLLIN};

	while (poll(&opened, 1, -1) < 0)
		CHECK(errno == EINTR);
}

static enum status open_server(void **state, const struct data_path_options *options,
			       const struct block_volume *volume)
{
	struct served *served = calloc(1, sizeof(*served));
	enum status status;

	if (served == NULL)
		return FAIL_OUT_OF_MEMORY;
	served->volume = volume;
	if (!make_events(served)) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make an eventfd");
		close_events(served);
		free(served);
		return FAIL_SYSTEM;
	}
	served->options = (struct nbd_server_options){
		.socket_path = options->socket_path,
		.export_name = options->name,
		.connections_max = CONNECTIONS_MAX,
		.queue_depth = feature_queue_depth(),
		.request_size_max = MAXIMUM(feature_request_size_max_bytes(), REQUEST_SIZE_LEAST),
		.stop_fd = served->stop_fd,
	};
	if (!start_thread(served)) {
		close_events(served);
		free(served);
		return FAIL_SYSTEM;
	}
	wait_until_opened(served);
	if (served->open_status == OK) {
		*state = served;
		return OK;
	}
	status = served->open_status;
	pthread_join(served->thread, NULL);
	close_events(served);
	free(served);
	return status;
}

static enum status close_server(void **state)
{
	struct served *served = *state;
	enum status status;

	signal_event(served->stop_fd);
	pthread_join(served->thread, NULL);
	status = served->serve_status;
	close_events(served);
	free(served);
	*state = NULL;
	return status;
}

static const char *where(const void *state)
{
	return ((const struct served *)state)->options.socket_path;
}

static int ended_fd(const void *state)
{
	return ((const struct served *)state)->ended_fd;
}

/* A client that is told of the end reconnects or gives up; the socket itself holds nothing. */
static bool is_in_use(const void *state)
{
	(void)state;
	return false;
}

const struct data_path_calls data_path_nbd = {
	.kind = DATA_PATH_NBD_SOCKET,
	.probe = probe,
	.prepare_process = prepare_process,
	.open = open_server,
	.close = close_server,
	.where = where,
	.ended_fd = ended_fd,
	.is_in_use = is_in_use,
};
