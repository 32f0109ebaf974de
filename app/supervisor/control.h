/* The supervisor's control socket, run_directory/control: how other byok commands reach it. Only
 * root can: the socket has mode 0600. */
#ifndef APP_SUPERVISOR_CONTROL_H
#define APP_SUPERVISOR_CONTROL_H

#include "app/config.h"
#include "app/messages.h"

/* Makes run_directory and the socket, and holds a lock so that only one supervisor runs per folder:
 * FAIL_SERVICE_RUNNING. FAIL_FILE (logged). Both descriptors are closed by control_close. */
struct control_server {
	int socket_fd;
	int lock_fd;
	char socket_path[CONFIG_TEXT_SIZE + 16];
};

MUST_CHECK enum status control_open(struct control_server *server, const struct config *config);
void control_close(struct control_server *server); /* harmless if it failed to open */

/* The next client, or -1. It has a second to say what it wants. */
int control_accept(const struct control_server *server);

/* FAIL_MESSAGE unless a well-formed request came. */
MUST_CHECK enum status control_receive(int client_fd, struct message_control_request *request);

/* For commands: connects to the supervisor. FAIL_SERVICE_ABSENT, FAIL_NOT_ROOT, FAIL_SYSTEM. */
MUST_CHECK enum status control_connect(int *fd, const struct config *config);

/* Has a supervisor, if one runs, look at headers and keys now: one was changed. */
void control_tell_change(const struct config *config);

/* Asks, calls `each` for every volume that is answered with (may be NULL), and returns the
 * supervisor's status. FAIL_MESSAGE for an answer that is not valid. */
MUST_CHECK enum status
control_ask(int fd, struct message_control_request *request, struct message_control_done *done,
	    void (*each)(void *context, const struct message_control_volume *volume),
	    void *context);

#endif
