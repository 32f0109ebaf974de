/* An NBD server in a thread of its own: only the thread that opened a ring may use it, so opening,
 * serving and closing are all there, and whoever starts it waits until it is open. */
#ifndef APP_WORKER_SERVER_THREAD_H
#define APP_WORKER_SERVER_THREAD_H

#include "io/nbd_server.h"

struct server_thread;

/* Keeps `volume` and what the options point to; stop_fd is set here. The failures of
 * nbd_server_open, FAIL_OUT_OF_MEMORY, FAIL_SYSTEM. */
MUST_CHECK enum status server_thread_start(struct server_thread **thread,
					   const struct nbd_server_options *options,
					   const struct block_volume *volume);

/* Ends it, if it has not ended by itself: what nbd_server_serve returned. */
MUST_CHECK enum status server_thread_stop(struct server_thread **thread);

int server_thread_ended_fd(const struct server_thread *thread); /* readable: it has ended */

#endif
