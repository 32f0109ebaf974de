#include "app/worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/worker/volume_server.h"
#include "app/worker/worker_socket.h"
#include "platform/clock.h"
#include "platform/log.h"
#include "platform/process.h"

#define REMOVAL_PATIENCE_MS 10000
#define REMOVAL_RETRY_MS 100

/* `handover` is in hidden memory, for it holds the volume key. */
struct worker {
	struct volume_server server;
	struct secret_memory memory;
	struct message_handover *handover;
	int supervisor_fd; /* -1: none, one is waited for */
	int listening_fd;
	int signal_fd;
};

enum verdict { GO_ON, STOP, LEAVE };

struct program_identity worker_program(void)
{
	struct stat file;

	if (stat("/proc/self/exe", &file) != 0)
		return (struct program_identity){0};
	return (struct program_identity){
		.device = file.st_dev,
		.inode = file.st_ino,
		.changed_ns = (uint64_t)file.st_mtim.tv_sec * 1000000000u +
			      (uint64_t)file.st_mtim.tv_nsec,
	};
}

static enum status report(const struct worker *worker, enum worker_state state, enum status status,
			  const char *device_path)
{
	struct message_worker_state message = {.state = state, .status = status};

	if (worker->supervisor_fd < 0)
		return FAIL_ROLE_DIED;
	snprintf(message.device_path, sizeof(message.device_path), "%s", device_path);
	return message_send(worker->supervisor_fd, MESSAGE_WORKER_STATE, 0, &message);
}

static void part_from_supervisor(struct worker *worker)
{
	close(worker->supervisor_fd);
	worker->supervisor_fd = -1;
}

/* True if it shall stop. A device that is in use stays, unless forced. */
static bool is_stop_granted(struct worker *worker, bool is_forced)
{
	if (is_forced || !data_path_is_in_use(&worker->server.path))
		return true;
	if (report(worker, WORKER_SERVING, FAIL_DEVICE_IN_USE,
		   data_path_where(&worker->server.path)) != OK)
		part_from_supervisor(worker);
	return false;
}

static enum status hand_over(struct worker *worker)
{
	snprintf(worker->handover->device_path, sizeof(worker->handover->device_path), "%s",
		 data_path_where(&worker->server.path));
	return message_send(worker->supervisor_fd, MESSAGE_HANDOVER, 0, worker->handover);
}

/* Whoever is at the other end is root, and this process holds nothing that root may not have. */
static enum verdict hear_supervisor(struct worker *worker)
{
	union {
		struct message_header header;
		struct message_worker_stop stop;
		struct message_worker_leave leave;
		struct message_handover_request request;
	} message;
	enum status status =
		message_receive(worker->supervisor_fd, &message.header, sizeof(message));

	if (status == OK && message.header.type == MESSAGE_WORKER_STOP)
		return is_stop_granted(worker, message.stop.force != 0) ? STOP : GO_ON;
	if (status == OK && message.header.type == MESSAGE_WORKER_LEAVE)
		return LEAVE;
	if (status == OK && message.header.type == MESSAGE_HANDOVER_REQUEST)
		status = hand_over(worker);
	else if (status == OK)
		status = FAIL_MESSAGE;
	if (status == OK)
		return GO_ON;
	log_warning("the supervisor %s; serving goes on until there is another one",
		    status == FAIL_ROLE_DIED ? "is gone" : "says nonsense");
	part_from_supervisor(worker);
	return GO_ON;
}

static enum verdict hear_signal(const struct worker *worker)
{
	process_take_signal(worker->signal_fd);
	if (!data_path_is_in_use(&worker->server.path))
		return STOP;
	log_warning("%s is in use: it is served on; unmount it first",
		    data_path_where(&worker->server.path));
	return GO_ON;
}

static enum status serve(struct worker *worker, enum verdict *verdict)
{
	enum { SUPERVISOR, LISTENER, SIGNALS, ENDED };

	for (*verdict = GO_ON; *verdict == GO_ON;) {
		/* One supervisor at a time: the next one waits until the last one is gone. */
		struct pollfd polls[] = {
			[SUPERVISOR] = {.fd = worker->supervisor_fd, .events = POLLIN},
			[LISTENER] = {.fd = worker->supervisor_fd < 0 ? worker->listening_fd : -1,
				      .events = POLLIN},
			[SIGNALS] = {.fd = worker->signal_fd, .events = POLLIN},
			[ENDED] = {.fd = data_path_ended_fd(&worker->server.path),
				   .events = POLLIN},
		};

		if (poll(polls, ARRAY_COUNT(polls), -1) < 0) {
			CHECK(errno == EINTR);
			continue;
		}
		if (polls[ENDED].revents != 0) {
			log_error("%s has ended by itself", data_path_where(&worker->server.path));
			return FAIL_UBLK;
		}
		if (polls[SIGNALS].revents != 0)
			*verdict = hear_signal(worker);
		else if (polls[SUPERVISOR].revents != 0)
			*verdict = hear_supervisor(worker);
		else if (polls[LISTENER].revents != 0)
			worker->supervisor_fd = worker_socket_accept(worker->listening_fd);
	}
	return OK;
}

/* With the descriptors, the rings and the threads, all at once: nothing of the engine may be ended
 * before, and the key least of all, for what it has taken in hand is not yet with the disk. The
 * kernel sends that again to the next worker, and clears this one's memory. */
__attribute__((noreturn)) static void leave(void)
{
	log_info("making room for another worker");
	_exit(0);
}

static enum status receive_start(struct worker *worker)
{
	struct message_worker_start *start;

	TRY(secret_memory_open_hidden(&worker->memory, sizeof(*worker->handover)));
	worker->handover = (struct message_handover *)(void *)worker->memory.bytes;
	worker->handover->state = WORKER_SERVING;
	worker->handover->version = HANDOVER_VERSION;
	worker->handover->program = worker_program();
	start = &worker->handover->start;
	TRY(message_receive(worker->supervisor_fd, &start->header, sizeof(*start)));
	if (start->header.type == MESSAGE_WORKER_PREPARE && message_start_is_valid(start)) {
		data_path_reserve((enum data_path_kind)start->data_path, start->queue_count);
		TRY(message_receive(worker->supervisor_fd, &start->header, sizeof(*start)));
	}
	if (start->header.type != MESSAGE_WORKER_START || !message_start_is_valid(start))
		return FAIL_MESSAGE;
	return process_catch_signals(&worker->signal_fd, false);
}

static enum status open_and_serve(struct worker *worker)
{
	const struct message_worker_start *start = &worker->handover->start;
	enum verdict verdict;
	enum status status, closed;

	if (start->worker_path[0] != '\0')
		TRY(worker_socket_listen(&worker->listening_fd, start->worker_path));
	TRY(volume_server_open(&worker->server, start));
	/* It goes on also if nobody hears that. */
	if (report(worker, WORKER_SERVING, OK, data_path_where(&worker->server.path)) != OK)
		log_debug("nobody hears that this worker serves");
	status = serve(worker, &verdict);
	if (status == OK && verdict == LEAVE &&
	    data_path_outlives_process((enum data_path_kind)start->data_path))
		leave();
	closed = volume_server_close(&worker->server);
	return status != OK ? status : closed;
}

/* A process that was killed is seen as alive until its requests at the disk have ended. */
static enum status remove_remains(const struct message_worker_start *start)
{
	const enum data_path_kind kind = (enum data_path_kind)start->data_path;
	const uint64_t deadline_ms = clock_now_ms() + REMOVAL_PATIENCE_MS;
	const struct data_path_options options = {
		.name = start->name, .uuid = start->uuid, .mark = start->mark};
	enum status status = data_path_remove_remains(kind, &options);

	while (status == FAIL_NAME_TAKEN && clock_left_ms(deadline_ms) > 0) {
		clock_sleep_ms(REMOVAL_RETRY_MS);
		status = data_path_remove_remains(kind, &options);
	}
	return status;
}

enum status worker_run(const char *volume_name)
{
	static struct worker worker = {
		.server = {.disk = {.fd = -1}},
		.supervisor_fd = PROCESS_SOCKET_FD,
		.listening_fd = -1,
		.signal_fd = -1,
	};
	enum status status;

	(void)volume_name;
	status = receive_start(&worker);
	/* There is no key to be had, or no need for this worker any more. */
	if (status == FAIL_ROLE_DIED)
		return OK;
	if (status == OK)
		status = worker.handover->start.purpose == WORKER_REMOVES_REMAINS
				 ? remove_remains(&worker.handover->start)
				 : open_and_serve(&worker);
	/* Nobody hears it if the supervisor is gone. */
	if (report(&worker, status == OK ? WORKER_STOPPED : WORKER_FAILED, status, "") != OK)
		log_debug("nobody hears that this worker ends");
	if (worker.memory.bytes != NULL)
		secret_memory_close(&worker.memory);
	return status;
}
