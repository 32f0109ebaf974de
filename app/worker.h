/* The role that moves one volume's data. It gets the volume key once, and needs nothing else: it
 * goes on serving if the supervisor is gone. */
#ifndef APP_WORKER_H
#define APP_WORKER_H

#include "platform/status.h"

/* Serves until the supervisor, at PROCESS_SOCKET_FD, says stop, or SIGTERM comes. The name is only
 * for whoever looks at the list of processes: what counts is in the message. */
MUST_CHECK enum status worker_run(const char *volume_name);

#endif
