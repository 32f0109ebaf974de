/* The unix socket that NBD clients connect to: made for its owner only, never in place of one that
 * somebody answers on, and gone at the end.
 */
#ifndef IO_NBD_SOCKET_H
#define IO_NBD_SOCKET_H

#include <sys/types.h>

#include "platform/status.h"

struct nbd_socket {
	int fd;           /* listening; -1 if not open */
	const char *path; /* kept */
	dev_t device;     /* with inode: which file at that path is ours */
	ino_t inode;
};

MUST_CHECK enum status nbd_socket_open(struct nbd_socket *socket, const char *path);

/* Removes the file if it is still ours. Harmless if never opened (fd -1). */
void nbd_socket_close(struct nbd_socket *socket);

#endif
