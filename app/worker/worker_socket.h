/* run_directory/NAME.worker: where a worker is found by a supervisor that did not start it. Made
 * for root only. The worker leaves the file behind; who finds that nobody listens removes it. */
#ifndef APP_WORKER_WORKER_SOCKET_H
#define APP_WORKER_WORKER_SOCKET_H

#include "platform/status.h"

#define WORKER_SOCKET_PATH_SIZE 108 /* that of a unix socket's address */

/* FAIL_CONFIG if the path is too long. */
MUST_CHECK enum status worker_socket_path(char path[static WORKER_SOCKET_PATH_SIZE],
					  const char *run_directory, const char *name);

/* For a worker. Closed on exec. FAIL_NAME_TAKEN if another one listens there; FAIL_FILE (logged).
 */
MUST_CHECK enum status worker_socket_listen(int *fd, const char *path);

/* The next supervisor, whose socket never waits, or -1: nobody but root is heard. */
int worker_socket_accept(int listening_fd);

/* For a supervisor; never waits. FAIL_ROLE_DIED if nobody listens: the file is then removed.
 * FAIL_FILE (logged). */
MUST_CHECK enum status worker_socket_connect(int *fd, const char *path);

/* Calls `each` with the name of every worker that has a socket there. */
void worker_socket_find_all(const char *run_directory,
			    void (*each)(void *context, const char *name), void *context);

#endif
