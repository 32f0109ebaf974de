#include "platform/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

/* In the child, after fork: only calls that are safe there. */
__attribute__((noreturn)) static void become_role(int socket_fd, const char *role,
						  const char *subject)
{
	char *const environment[] = {NULL};
	char *const arguments[] = {(char *)"byok", (char *)PROCESS_ROLE_FLAG, (char *)role,
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
	if (syscall(SYS_close_range, PROCESS_SOCKET_FD + 1, ~0u, 0) != 0)
		for (int fd = PROCESS_SOCKET_FD + 1; fd < 1024; fd++)
			close(fd);
	execve("/proc/self/exe", arguments, environment);
	_exit(127);
}

enum status process_start(struct process *process, const char *role, const char *subject)
{
	int sockets[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make a socketpair for the %s", role);
		return FAIL_SYSTEM;
	}
	pid = fork();
	if (pid == 0)
		become_role(sockets[1], role, subject);
	close(sockets[1]);
	if (pid < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot start the %s", role);
		close(sockets[0]);
		return FAIL_SYSTEM;
	}
	*process = (struct process){.pid = pid, .socket_fd = sockets[0]};
	return OK;
}

enum status process_catch_signals(int *signal_fd, bool children_too)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (children_too)
		sigaddset(&signals, SIGCHLD);
	*signal_fd = -1;
	if (sigprocmask(SIG_BLOCK, &signals, NULL) == 0)
		*signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*signal_fd >= 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot receive signals");
	return FAIL_SYSTEM;
}

enum status process_never_wait(const struct process *process)
{
	int flags = fcntl(process->socket_fd, F_GETFL);

	if (flags >= 0 && fcntl(process->socket_fd, F_SETFL, flags | O_NONBLOCK) == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot set a socket to not wait");
	return FAIL_SYSTEM;
}

void process_end(struct process *process, uint64_t patience_ms)
{
	uint64_t deadline_ms = clock_now_ms() + patience_ms;
	pid_t ended;

	if (process->pid == 0)
		return;
	if (process->socket_fd >= 0)
		close(process->socket_fd);
	while ((ended = waitpid(process->pid, NULL, WNOHANG)) == 0 &&
	       clock_left_ms(deadline_ms) > 0)
		clock_sleep_ms(2);
	if (ended == 0) {
		kill(process->pid, SIGKILL);
		(void)waitpid(process->pid, NULL, 0);
	}
	*process = (struct process){.socket_fd = -1};
}
