/* Starts byok again in another role, joined to this process by a socketpair. */
#ifndef PLATFORM_PROCESS_H
#define PLATFORM_PROCESS_H

#include <signal.h>
#include <sys/types.h>

#include "platform/status.h"

/* The descriptor at which a role finds its end of the socketpair. */
#define PROCESS_SOCKET_FD 3

/* argv[1] of a process that was started in a role; argv[2] is the role's name. */
#define PROCESS_ROLE_FLAG "--role"

/* Tells a supervisor to end and leave everything to the next one. */
#define PROCESS_SIGNAL_LEAVE SIGUSR1

struct process {
	pid_t pid;     /* 0: none */
	int socket_fd; /* our end; SOCK_SEQPACKET, close-on-exec */
	int watch_fd;  /* of a process that is not our child: readable at its end; else -1 */
};

#define PROCESS_NONE ((struct process){.socket_fd = -1, .watch_fd = -1})

/* Runs the very file that runs now, even if it was replaced on the disk since, as
 * `byok --role ROLE SUBJECT` with an empty environment and no descriptor but 0, 1, 2 and its
 * socket. The caller waits for `pid` and closes `socket_fd`. FAIL_SYSTEM is logged. */
MUST_CHECK enum status process_start(struct process *process, const char *role,
				     const char *subject);

/* The same for a role that file systems may stand on: when the machine stops, systemd kills what is
 * left before it unmounts what is left, but not processes whose argv[0] begins with '@'. */
MUST_CHECK enum status process_start_to_the_last(struct process *process, const char *role,
						 const char *subject);

/* Runs a program of somebody else's, by its path, as the leader of a process group of its own, so
 * that kill(-pid, ...) ends whatever it starts; with an environment of PATH alone, nothing to read,
 * and both outputs to where this process logs. The caller waits for `pid`. FAIL_SYSTEM is logged;
 * a program that cannot be run ends with 127. */
MUST_CHECK enum status process_run_program(pid_t *pid, char *const arguments[]);

/* Joins a process that another one started, over a socket that it is connected to: takes
 * `socket_fd`. Its end is seen at watch_fd. FAIL_NOT_ROOT if it is another user's, FAIL_ROLE_DIED
 * if it is gone, FAIL_SYSTEM (logged). */
MUST_CHECK enum status process_join(struct process *process, int socket_fd);

/* Whether the other end of a unix socket is a process of the user that this one runs as: root. */
MUST_CHECK bool process_peer_is_ours(int socket_fd);

/* From now on SIGTERM and SIGINT (of a supervisor also SIGCHLD and PROCESS_SIGNAL_LEAVE) do nothing
 * but make `signal_fd` readable, as struct signalfd_siginfo. Before there are threads. FAIL_SYSTEM
 * is logged. */
MUST_CHECK enum status process_catch_signals(int *signal_fd, bool is_supervisor);

/* The calling thread runs before others as soon as it has something to do, if it may
 * (CAP_SYS_NICE, RLIMIT_RTPRIO): for threads that others wait for, and that mostly wait. */
void process_run_first(void);

/* Takes the next signal out of `signal_fd`: its number, or 0 if there is none. */
int process_take_signal(int signal_fd);

/* Makes sending to and hearing from the role fail rather than wait, for a caller that waits for
 * nobody. */
MUST_CHECK enum status process_never_wait(const struct process *process);

/* SIGKILL; the end is then seen as any other. */
void process_kill(const struct process *process);

/* Closes our end, and leaves the process alone. */
void process_part(struct process *process);

/* What a role ended with, by its wait status: a failure of its own, else FAIL_ROLE_DIED. */
MUST_CHECK enum status process_outcome(int wait_status);

/* Closes the socket, which tells a role to end, waits up to `patience_ms`, then kills. Gives its
 * wait status. */
int process_end(struct process *process, uint64_t patience_ms);

#endif
