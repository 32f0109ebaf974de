/* The disk (or image file) that an encrypted volume lies on: claiming it, what it is, and moving
 * bytes, either at once (headers) or through a ring (data). It knows nothing of what the bytes
 * mean.
 */
#ifndef IO_BACKING_DISK_H
#define IO_BACKING_DISK_H

#include "io/ring.h"
#include "platform/status.h"

/* The disk's slot among the registered files of any ring that it is attached to. */
#define BACKING_DISK_SLOT 0

/* Offsets, sizes and memory addresses at multiples of this are never split or copied on the way. */
#define BACKING_DISK_ALIGNMENT 4096

struct backing_disk {
	int fd;           /* -1 if not open */
	const char *path; /* kept: for log lines */
	uint64_t size_bytes;
	uint32_t logical_block_size; /* the smallest unit that can be read or written */
	uint32_t physical_block_size;
	uint32_t discard_granularity; /* bytes; 0 if a ring cannot discard on it */
	bool is_block_device;         /* else a regular file */
	bool is_writable;             /* opened so */
	bool is_direct;               /* O_DIRECT: nothing stays behind in the page cache */
	bool is_rotational;
	bool has_write_cache; /* volatile: written data is safe only after a flush */
	bool has_fua;         /* a durable write is one command, not write and flush */
};

enum backing_disk_claim {
	BACKING_DISK_LOOK,            /* read, also while somebody else serves it */
	BACKING_DISK_HEADER,          /* read and write beside the process that serves the data */
	BACKING_DISK_SERVE,           /* read and write, and nobody else may claim or mount it */
	BACKING_DISK_SERVE_READ_ONLY, /* the same, never written */
};

/* Keeps `path`. A block device is claimed with O_EXCL, a file with a lock on the open file (not
 * flock, which is cryptsetup's for the header). Failures, logged where the system gave an errno:
 * FAIL_DISK_ABSENT, FAIL_DISK_KIND, FAIL_DISK_MOUNTED, FAIL_DISK_IN_USE, FAIL_DISK_READ_ONLY,
 * FAIL_NOT_ROOT (no permission), FAIL_DISK_IO. */
MUST_CHECK enum status backing_disk_open(struct backing_disk *disk, const char *path,
					 enum backing_disk_claim claim);

/* The same for a descriptor from another process, already claimed there: takes `fd`. */
MUST_CHECK enum status backing_disk_adopt(struct backing_disk *disk, const char *path, int fd);

void backing_disk_close(struct backing_disk *disk); /* harmless if never opened */

/* At once. Any offset, size and address for a read; a write must begin and end on
 * BACKING_DISK_ALIGNMENT. FAIL_DISK_IO, also past the end of the disk; FAIL_DISK_FULL when a file
 * cannot grow. A write that fails may have written a part. */
MUST_CHECK enum status backing_disk_read(const struct backing_disk *disk, uint64_t offset_bytes,
					 void *target, size_t size);
MUST_CHECK enum status backing_disk_write(const struct backing_disk *disk, uint64_t offset_bytes,
					  const void *source, size_t size);
/* Everything written before is on stable storage when this returns OK. */
MUST_CHECK enum status backing_disk_flush(const struct backing_disk *disk);

/* Makes the disk known to a ring, whose memory must be registered already. */
MUST_CHECK enum status backing_disk_attach(const struct backing_disk *disk, struct ring *ring);

/* Through an attached ring; the completion's result is a count of bytes (maybe short) or -errno.
 * Addresses lie in the ring's registered memory; offset, size and address are multiples of the
 * logical block size. */
void backing_disk_start_read(const struct backing_disk *disk, struct ring *ring, uint64_t token,
			     uint8_t *target, size_t size, uint64_t offset_bytes);
void backing_disk_start_write(const struct backing_disk *disk, struct ring *ring, uint64_t token,
			      const uint8_t *source, size_t size, uint64_t offset_bytes,
			      bool is_durable);
void backing_disk_start_flush(const struct backing_disk *disk, struct ring *ring, uint64_t token);
void backing_disk_start_discard(const struct backing_disk *disk, struct ring *ring, uint64_t token,
				uint64_t offset_bytes, uint64_t size);

#endif
