/* The kernel's own NBD client, told by generic netlink to make a block device of sockets that this
 * process serves at their other ends. There is no handshake: what it would tell is told here.
 *
 * The device outlives the process: its users wait until another process connects again with the
 * same identifier, or NBD_KERNEL_PATIENCE_S are over.
 */
#ifndef IO_NBD_KERNEL_H
#define IO_NBD_KERNEL_H

#include "platform/status.h"

#define NBD_KERNEL_CONNECTIONS_MAX 16
#define NBD_KERNEL_IDENTIFIER_SIZE 64

/* How long a device waits for another process. */
#define NBD_KERNEL_PATIENCE_S 300

/* After this a request that has no answer is sent again, over another connection. The kernel knows
 * no other way to get an answer that a dead process owes, so that long users wait for it. */
#define NBD_KERNEL_REQUEST_TIMEOUT_S 10

struct nbd_kernel_volume {
	const char *identifier; /* by which a later process finds the device */
	uint64_t size_bytes;
	uint32_t sector_size;
	bool is_read_only;
	bool is_rotational;
	bool has_write_cache; /* flushes mean something */
	bool can_trim;
};

struct nbd_kernel {
	int netlink_fd;
	uint16_t family;
	uint32_t sequence;
	uint32_t index; /* of the device, when connected */
	char path[32];  /* "/dev/nbd3" */
};

/* Finds the driver. Before lockdown: the socket must be of the machine's own network namespace.
 * FAIL_NBD_KERNEL_ABSENT (not logged), FAIL_NOT_ROOT, FAIL_NBD_KERNEL, FAIL_SYSTEM (logged). */
MUST_CHECK enum status nbd_kernel_open(struct nbd_kernel *kernel);
void nbd_kernel_close(struct nbd_kernel *kernel); /* the device stays; harmless if not open */

/* Makes the device, or connects the one that waits under that identifier, and gives `fds`, our ends
 * of *count connections, on which requests may come at once; of a device that waits these may be
 * fewer than asked for, but never none. FAIL_NBD_KERNEL, FAIL_SYSTEM (logged). */
MUST_CHECK enum status nbd_kernel_connect(struct nbd_kernel *kernel,
					  const struct nbd_kernel_volume *volume,
					  int fds[static NBD_KERNEL_CONNECTIONS_MAX],
					  unsigned *count);

/* By default the kernel sends larger requests than a server may take. When requests are served, for
 * it may wait for some. FAIL_NBD_KERNEL (logged). */
MUST_CHECK enum status nbd_kernel_limit_requests(const struct nbd_kernel *kernel,
						 uint32_t size_max);

/* Takes the device away; who still uses it gets errors. */
MUST_CHECK enum status nbd_kernel_disconnect(struct nbd_kernel *kernel);

/* The same for the device that a process which died left under that identifier, if there is one. */
MUST_CHECK enum status nbd_kernel_remove_remains(const char *identifier);

/* Whether anybody has claimed it, as a file system does. */
bool nbd_kernel_is_in_use(const struct nbd_kernel *kernel);

/* --- for the tests: the messages, bytes in, bytes out --- */

#define NBD_KERNEL_MESSAGE_SIZE 1024

/* `device_index` of a device that waits; NULL: a new one. Returns the size. */
size_t nbd_kernel_encode_connect(const struct nbd_kernel *kernel,
				 uint8_t message[static NBD_KERNEL_MESSAGE_SIZE],
				 const struct nbd_kernel_volume *volume, const int *fds,
				 unsigned count, const uint32_t *device_index);

/* Looks through what the kernel sent: false until the answer to the last request is in it. *error
 * is then 0 or an errno, and *value the number in the attribute of that type, if there is one. */
MUST_CHECK bool nbd_kernel_decode_answer(const struct nbd_kernel *kernel, const uint8_t *bytes,
					 size_t size, uint16_t attribute, int *error,
					 uint32_t *value);

#endif
