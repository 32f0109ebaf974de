#include "io/ublk_control_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/ring.h"
#include "platform/clock.h"
#include "platform/log.h"

#define DRIVER_SLOT 0

/* --- in the new process --- */

struct server {
	struct ublk_exchange *exchange;
	struct ring ring;
	unsigned handler;
	bool is_done;
};

static void command_done(void *context, uint32_t index, int32_t result)
{
	struct server *server = context;

	CHECK(index == 0);
	server->exchange->result = result;
	server->is_done = true;
}

static enum status open_ring(struct server *server, int driver_fd)
{
	const struct ring_options options = {
		.operations_max = 1,
		.file_count = 1,
		.has_large_submissions = true,
	};

	TRY(ring_open(&server->ring, &options));
	server->handler = ring_add_handler(&server->ring, command_done, server);
	return ring_set_file(&server->ring, DRIVER_SLOT, driver_fd);
}

static enum status give_command(struct server *server)
{
	const struct ublk_exchange *exchange = server->exchange;
	const struct ublk_control_command command = {
		.device_id = exchange->device_id,
		.queue_id = UBLK_NO_QUEUE,
		.buffer_size = (uint16_t)exchange->size,
		.buffer = exchange->size == 0 ? 0 : (uint64_t)(uintptr_t)exchange->buffer,
		.argument = exchange->argument,
	};

	server->is_done = false;
	ring_command(&server->ring, ring_token(server->handler, 0), DRIVER_SLOT,
		     exchange->operation, &command, sizeof(command));
	while (!server->is_done)
		TRY(ring_turn(&server->ring, true));
	return OK;
}

static void set_attribute(uint32_t device_id, const char *name, const char *value)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/queue/%s", device_id, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		log_errno(LOG_PRIORITY_DEBUG, errno, "%s", path);
	if (fd >= 0)
		close(fd);
}

/* The kernel lets nobody set these before the requests under way are answered. */
static enum status tune(struct server *server)
{
	const uint32_t device_id = server->exchange->device_id;

	/* The backing disk has a scheduler of its own. */
	set_attribute(device_id, "scheduler", "none");
	/* Of a server that died with every request of a queue in its hands, nothing but this timer
	 * tells the kernel; it is 30 s. It has no other effect: a living server may take as long
	 * as it likes. */
	set_attribute(device_id, "io_timeout", "1000");
	server->exchange->result = 0;
	return OK;
}

static void close_range_of_files(int first, int last)
{
	if (first <= last)
		(void)syscall(SYS_close_range, first, last, 0);
}

/* What the caller has open is its own: held here too, a disk would stay claimed and a socket would
 * seem alive after the caller's death. */
static void close_all_but(int a, int b)
{
	close_range_of_files(STDERR_FILENO + 1, MINIMUM(a, b) - 1);
	close_range_of_files(MINIMUM(a, b) + 1, MAXIMUM(a, b) - 1);
	close_range_of_files(MAXIMUM(a, b) + 1, INT32_MAX);
}

/* Until the caller closes its end, or dies. */
__attribute__((noreturn)) static void serve(struct ublk_exchange *exchange, int socket_fd,
					    int driver_fd)
{
	struct server server = {.exchange = exchange};
	char turn = 0;
	sigset_t all;

	/* A signal to all of a service is for the caller to act on. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	close_all_but(socket_fd, driver_fd);
	exchange->status = open_ring(&server, driver_fd);
	while (send(socket_fd, &turn, 1, MSG_NOSIGNAL) == 1 && recv(socket_fd, &turn, 1, 0) == 1)
		exchange->status = exchange->operation == UBLK_CONTROL_TUNE ? tune(&server)
									    : give_command(&server);
	_exit(EXIT_SUCCESS);
}

/* --- in ours --- */

/* False if it has died, or not answered in time. */
static bool wait_for_answer(const struct ublk_control_process *process, uint64_t patience_ms)
{
	const uint64_t deadline_ms = clock_now_ms() + patience_ms;
	struct pollfd poll_fd = {.fd = process->socket_fd, .events = POLLIN};
	char turn;
	int count;

	do
		count = poll(&poll_fd, 1, (int)clock_left_ms(deadline_ms));
	while (count < 0 && errno == EINTR);
	return count == 1 && recv(process->socket_fd, &turn, 1, MSG_DONTWAIT) == 1;
}

enum status ublk_control_process_run(struct ublk_control_process *process, const char *what,
				     uint64_t patience_ms)
{
	char turn = 0;

	if (process->is_stuck)
		return FAIL_UBLK;
	if (send(process->socket_fd, &turn, 1, MSG_NOSIGNAL) != 1 ||
	    !wait_for_answer(process, patience_ms)) {
		log_error("ublk %s: no answer within %u s", what, (unsigned)(patience_ms / 1000));
		process->is_stuck = true;
		return FAIL_UBLK;
	}
	return process->exchange->status;
}

static enum status launch(struct ublk_control_process *process, int driver_fd)
{
	int sockets[2];

	process->exchange = mmap(NULL, sizeof(*process->exchange), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (process->exchange == MAP_FAILED) {
		process->exchange = NULL;
		return FAIL_OUT_OF_MEMORY;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "socketpair");
		return FAIL_SYSTEM;
	}
	process->pid = fork();
	if (process->pid == 0)
		serve(process->exchange, sockets[1], driver_fd);
	close(sockets[1]);
	process->socket_fd = sockets[0];
	if (process->pid > 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "fork");
	process->pid = 0;
	return FAIL_OUT_OF_MEMORY;
}

enum status ublk_control_process_start(struct ublk_control_process *process, int driver_fd)
{
	enum status status;

	*process = (struct ublk_control_process){.socket_fd = -1};
	status = launch(process, driver_fd);
	if (status == OK)
		status = wait_for_answer(process, 10000) ? process->exchange->status : FAIL_SYSTEM;
	if (status != OK)
		ublk_control_process_end(process);
	return status;
}

void ublk_control_process_end(struct ublk_control_process *process)
{
	if (process->socket_fd >= 0)
		close(process->socket_fd);
	/* One that is stuck may be so for ever; init will take care of it. */
	if (process->pid > 0 && process->is_stuck)
		kill(process->pid, SIGKILL);
	else if (process->pid > 0)
		while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
			;
	if (process->exchange != NULL)
		munmap(process->exchange, sizeof(*process->exchange));
	*process = (struct ublk_control_process){.socket_fd = -1};
}
