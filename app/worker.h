/* The role that moves one volume's data. It gets the volume key once, and needs nothing else: it
 * goes on serving if the supervisor is gone. */
#ifndef APP_WORKER_H
#define APP_WORKER_H

#include "platform/status.h"

/* Serves until the supervisor says stop, or SIGTERM comes. */
MUST_CHECK enum status worker_run(int socket_fd);

#endif
