#include "app/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/messages.h"
#include "app/volume_name.h"
#include "app/volume_server.h"
#include "platform/bytes.h"
#include "platform/log.h"
#include "platform/process.h"

static enum status report(int socket_fd, enum worker_state state, enum status status,
			  const char *device_path)
{
	struct message_worker_state message = {.state = state, .status = status};

	snprintf(message.device_path, sizeof(message.device_path), "%s", device_path);
	return message_send(socket_fd, MESSAGE_WORKER_STATE, 0, &message);
}

static bool start_is_valid(const struct message_worker_start *start)
{
	uint64_t end;

	return start->header.type == MESSAGE_WORKER_START &&
	       message_text_is_valid(start->disk_path, sizeof(start->disk_path)) &&
	       message_text_is_valid(start->name, sizeof(start->name)) &&
	       message_text_is_valid(start->socket_path, sizeof(start->socket_path)) &&
	       volume_name_check(start->name) == OK && start->data_path < DATA_PATH_KINDS &&
	       (start->sector_size == 512 || start->sector_size == 4096) &&
	       start->data_offset_bytes % start->sector_size == 0 && start->data_size_bytes > 0 &&
	       start->data_size_bytes % start->sector_size == 0 &&
	       bytes_add(&end, start->data_offset_bytes, start->data_size_bytes);
}

/* True if it shall stop. A device that is in use stays, unless forced. */
static bool hear_supervisor(int *socket_fd, const struct volume_server *server)
{
	struct message_worker_stop stop = {0};
	enum status status = message_receive(*socket_fd, &stop.header, sizeof(stop));

	if (status == OK && stop.header.type == MESSAGE_WORKER_STOP) {
		if (stop.force != 0 || !data_path_is_in_use(&server->path))
			return true;
		if (report(*socket_fd, WORKER_SERVING, FAIL_DEVICE_IN_USE,
			   data_path_where(&server->path)) == OK)
			return false;
	}
	log_warning("the supervisor is gone or says nonsense; serving goes on until SIGTERM");
	*socket_fd = -1;
	return false;
}

static enum status serve(int socket_fd, int signal_fd, const struct volume_server *server)
{
	enum { SUPERVISOR, SIGNALS, ENDED };

	for (;;) {
		struct pollfd polls[] = {
			[SUPERVISOR] = {.fd = socket_fd, .events = POLLIN},
			[SIGNALS] = {.fd = signal_fd, .events = POLLIN},
			[ENDED] = {.fd = data_path_ended_fd(&server->path), .events = POLLIN},
		};

		if (poll(polls, ARRAY_COUNT(polls), -1) < 0) {
			CHECK(errno == EINTR);
			continue;
		}
		if (polls[SUPERVISOR].revents != 0 && hear_supervisor(&socket_fd, server))
			return OK;
		if (polls[SIGNALS].revents != 0)
			return OK;
		if (polls[ENDED].revents != 0) {
			log_error("%s has ended by itself", data_path_where(&server->path));
			return FAIL_UBLK;
		}
	}
}

enum status worker_run(const char *volume_name)
{
	const int socket_fd = PROCESS_SOCKET_FD;
	static struct volume_server server = {.disk = {.fd = -1}};
	static struct message_worker_start start;
	enum status status, closed;
	int signal_fd;

	(void)volume_name;
	TRY(message_receive(socket_fd, &start.header, sizeof(start)));
	status = start_is_valid(&start) ? process_catch_signals(&signal_fd, false) : FAIL_MESSAGE;
	if (status != OK)
		secret_wipe_bytes(&start, sizeof(start));
	if (status == OK)
		status = volume_server_open(&server, &start);
	if (status == OK)
		status = report(socket_fd, WORKER_SERVING, OK, data_path_where(&server.path));
	if (status == OK)
		status = serve(socket_fd, signal_fd, &server);
	closed = volume_server_close(&server);
	if (status == OK)
		status = closed;
	/* Nobody hears it if the supervisor is gone. */
	if (report(socket_fd, status == OK ? WORKER_STOPPED : WORKER_FAILED, status, "") != OK)
		log_debug("nobody hears that this worker ends");
	return status;
}
