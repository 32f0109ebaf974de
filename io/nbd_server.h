/* Serves one volume to NBD clients on a unix socket, or to one that is connected already, all from
 * the calling thread: sockets and disk share one ring. A client that stalls, dies or lies harms
 * itself only.
 */
#ifndef IO_NBD_SERVER_H
#define IO_NBD_SERVER_H

#include "io/block_engine.h"
#include "platform/status.h"

struct nbd_server_options {
	const char *socket_path;   /* made with mode 0600; removed at the end; NULL: none */
	const char *export_name;   /* what LIST shows; "" is served as well */

	/* Without a socket: the ends of a client that needs no handshake, the kernel's. Serving
	 * ends when it has left all of them. */
	const int *connected_fds;
	unsigned connected_count; /* no more than connections_max */
	unsigned connections_max;  /* a further client waits; no more than queue_depth */
	unsigned queue_depth;      /* requests at once, of all connections together */
	uint32_t request_size_max; /* bytes of one READ or WRITE; a multiple of 4096 */
	uint32_t piece_size;       /* as struct block_engine_options */
	int stop_fd; /* serving ends when this becomes readable (signalfd, eventfd, pipe); not read
		      */
};

struct nbd_server;

/* Takes all memory, listens; clients may connect from now on. Keeps `volume` and the strings, takes
 * the connected descriptors in any case. A socket file that nobody answers on is replaced;
 * FAIL_NBD_SOCKET if somebody does, if it is not a socket, or if the path will not do. */
MUST_CHECK enum status nbd_server_open(struct nbd_server **server,
				       const struct nbd_server_options *options,
				       const struct block_volume *volume);

/* Until stop_fd is readable, or nobody is left where nobody can come: then takes no new request,
 * finishes and answers those begun, and flushes the disk. FAIL_DISK_IO if that flush fails,
 * FAIL_SYSTEM if the ring does. Same thread as nbd_server_open. */
MUST_CHECK enum status nbd_server_serve(struct nbd_server *server);

void nbd_server_close(struct nbd_server **server); /* harmless if NULL */

#endif
