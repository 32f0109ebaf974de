/* The role that moves one volume's data. It gets the volume key once, and needs nothing else: it
 * goes on serving if the supervisor is gone, and waits for the next one. */
#ifndef APP_WORKER_WORKER_H
#define APP_WORKER_WORKER_H

#include "app/messages.h"

/* Serves until the supervisor, at PROCESS_SOCKET_FD or later at the worker's own socket, says stop,
 * or SIGTERM comes while the device is not in use. The name is only for whoever looks at the list
 * of processes: what counts is in the message. */
MUST_CHECK enum status worker_run(const char *volume_name);

/* The file that this process was started from. All zeros if that is not known. */
struct program_identity worker_program(void);

#endif
