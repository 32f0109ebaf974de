#include "platform/process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

static void close_from(int first_fd)
{
	if (syscall(SYS_close_range, first_fd, ~0u, 0) != 0)
		for (int fd = first_fd; fd < 1024; fd++)
			close(fd);
}

/* In the child, after fork: only calls that are safe there. */
__attribute__((noreturn)) static void become_role(int socket_fd, const char *program,
						  const char *role, const char *subject)
{
	char *const environment[] = {NULL};
	char *const arguments[] = {(char *)program, (char *)PROCESS_ROLE_FLAG, (char *)role,
				   (char *)subject, NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* dup2 onto itself would keep close-on-exec. */
	if (socket_fd == PROCESS_SOCKET_FD) {
		if (fcntl(socket_fd, F_SETFD, 0) != 0)
			_exit(127);
	} else if (dup2(socket_fd, PROCESS_SOCKET_FD) < 0) {
		_exit(127);
	}
	close_from(PROCESS_SOCKET_FD + 1);
	execve("/proc/self/exe", arguments, environment);
	_exit(127);
}

static enum status start(struct process *process, const char *program, const char *role,
			 const char *subject)
{
	int sockets[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make a socketpair for the %s", role);
		return FAIL_SYSTEM;
	}
	pid = fork();
	if (pid == 0)
		become_role(sockets[1], program, role, subject);
	close(sockets[1]);
	if (pid < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot start the %s", role);
		close(sockets[0]);
		return FAIL_SYSTEM;
	}
	*process = (struct process){.pid = pid, .socket_fd = sockets[0], .watch_fd = -1};
	return OK;
}

enum status process_start(struct process *process, const char *role, const char *subject)
{
	return start(process, "byok", role, subject);
}

enum status process_start_to_the_last(struct process *process, const char *role,
				      const char *subject)
{
	return start(process, "@byok", role, subject);
}

/* In the child, as above. */
__attribute__((noreturn)) static void become_program(char *const arguments[])
{
	char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	sigset_t none;
	int nothing = open("/dev/null", O_RDONLY);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Programs expect to end when nobody reads what they write. */
	(void)signal(SIGPIPE, SIG_DFL);
	if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(2, 1) < 0 || setsid() < 0)
		_exit(127);
	close_from(3);
	execve(arguments[0], arguments, environment);
	_exit(127);
}

enum status process_run_program(pid_t *pid, char *const arguments[])
{
	*pid = fork();
	if (*pid == 0)
		become_program(arguments);
	if (*pid > 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot run %s", arguments[0]);
	*pid = 0;
	return FAIL_SYSTEM;
}

/* The credentials of whoever listens at the other end, or has connected from there. */
static bool get_peer(int socket_fd, struct ucred *peer)
{
	socklen_t size = sizeof(*peer);

	return getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0;
}

bool process_peer_is_ours(int socket_fd)
{
	struct ucred peer;

	return get_peer(socket_fd, &peer) && peer.uid == geteuid();
}

enum status process_join(struct process *process, int socket_fd)
{
	struct ucred peer;
	int watch_fd;

	if (!get_peer(socket_fd, &peer) || peer.uid != geteuid()) {
		close(socket_fd);
		return FAIL_NOT_ROOT;
	}
	watch_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	if (watch_fd < 0) {
		const int error = errno;

		close(socket_fd);
		if (error == ESRCH)
			return FAIL_ROLE_DIED;
		log_errno(LOG_PRIORITY_ERROR, error, "cannot watch process %d", (int)peer.pid);
		return FAIL_SYSTEM;
	}
	*process = (struct process){.pid = peer.pid, .socket_fd = socket_fd, .watch_fd = watch_fd};
	return OK;
}

enum status process_catch_signals(int *signal_fd, bool is_supervisor)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (is_supervisor) {
		sigaddset(&signals, SIGCHLD);
		sigaddset(&signals, PROCESS_SIGNAL_LEAVE);
	}
	*signal_fd = -1;
	if (sigprocmask(SIG_BLOCK, &signals, NULL) == 0)
		*signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*signal_fd >= 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot receive signals");
	return FAIL_SYSTEM;
}

int process_take_signal(int signal_fd)
{
	struct signalfd_siginfo information;

	return read(signal_fd, &information, sizeof(information)) == (ssize_t)sizeof(information)
		       ? (int)information.ssi_signo
		       : 0;
}

enum status process_never_wait(const struct process *process)
{
	int flags = fcntl(process->socket_fd, F_GETFL);

	if (flags >= 0 && fcntl(process->socket_fd, F_SETFL, flags | O_NONBLOCK) == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot set a socket to not wait");
	return FAIL_SYSTEM;
}

void process_kill(const struct process *process)
{
	if (process->watch_fd >= 0)
		(void)syscall(SYS_pidfd_send_signal, process->watch_fd, SIGKILL, NULL, 0);
	else if (process->pid != 0)
		kill(process->pid, SIGKILL);
}

/* By a call of our own: musl's function refuses, as POSIX means whole processes by it. */
void process_run_first(void)
{
	const struct sched_param lowest_of_the_first = {.sched_priority = 1};

	if (syscall(SYS_sched_setscheduler, 0, SCHED_RR | SCHED_RESET_ON_FORK,
		    &lowest_of_the_first) != 0)
		log_errno(LOG_PRIORITY_DEBUG, errno, "running as others do");
}

void process_part(struct process *process)
{
	if (process->socket_fd >= 0)
		close(process->socket_fd);
	if (process->watch_fd >= 0)
		close(process->watch_fd);
	*process = PROCESS_NONE;
}

enum status process_outcome(int wait_status)
{
	enum status status;

	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) != 0 &&
	    status_from_number(&status, (uint32_t)WEXITSTATUS(wait_status)))
		return status;
	return FAIL_ROLE_DIED;
}

int process_end(struct process *process, uint64_t patience_ms)
{
	uint64_t deadline_ms = clock_now_ms() + patience_ms;
	int wait_status = 0;
	pid_t ended;

	if (process->pid == 0)
		return 0;
	CHECK(process->watch_fd < 0);
	if (process->socket_fd >= 0)
		close(process->socket_fd);
	while ((ended = waitpid(process->pid, &wait_status, WNOHANG)) == 0 &&
	       clock_left_ms(deadline_ms) > 0)
		clock_sleep_ms(2);
	if (ended == 0) {
		kill(process->pid, SIGKILL);
		(void)waitpid(process->pid, &wait_status, 0);
	}
	*process = PROCESS_NONE;
	return wait_status;
}
