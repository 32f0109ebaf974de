/* Starts byok again in another role, joined to this process by a socketpair. */
#ifndef PLATFORM_PROCESS_H
#define PLATFORM_PROCESS_H

#include <sys/types.h>

#include "platform/status.h"

/* The descriptor at which a role finds its end of the socketpair. */
#define PROCESS_SOCKET_FD 3

/* argv[1] of a process that was started in a role; argv[2] is the role's name. */
#define PROCESS_ROLE_FLAG "--role"

struct process {
	pid_t pid;     /* 0: none */
	int socket_fd; /* our end; SOCK_SEQPACKET, close-on-exec */
};

/* Runs the very file that runs now, even if it was replaced on the disk since, as
 * `byok --role ROLE SUBJECT` with an empty environment and no descriptor but 0, 1, 2 and its
 * socket. The caller waits for `pid` and closes `socket_fd`. FAIL_SYSTEM is logged. */
MUST_CHECK enum status process_start(struct process *process, const char *role,
				     const char *subject);

/* From now on SIGTERM and SIGINT (and SIGCHLD, if wished for) do nothing but make `signal_fd`
 * readable, as struct signalfd_siginfo. Before there are threads. FAIL_SYSTEM is logged. */
MUST_CHECK enum status process_catch_signals(int *signal_fd, bool children_too);

/* Makes sending to and hearing from the role fail rather than wait, for a caller that waits for
 * nobody. */
MUST_CHECK enum status process_never_wait(const struct process *process);

/* Closes the socket, which tells a role to end, waits up to `patience_ms`, then kills. */
void process_end(struct process *process, uint64_t patience_ms);

#endif
