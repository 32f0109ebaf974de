/* The few calls by which volume*.c touches a disk or image, under cryptsetup's lock of the header.
 * Tests link a disk in memory in its place, which cuts the power or fails at any of these calls. */
#ifndef APP_VOLUME_VOLUME_DISK_H
#define APP_VOLUME_VOLUME_DISK_H

#include "io/backing_disk.h"

enum volume_disk_access {
	VOLUME_DISK_READ,   /* under a shared lock of the header */
	VOLUME_DISK_CHANGE, /* under the exclusive lock; the data may be in use */
	VOLUME_DISK_CLAIM, /* the same, and nobody else may have the disk mounted, held or served */
};

/* Writes begin and end at multiples of this, except that volume_disk_zero may end with the disk. */
#define VOLUME_DISK_ALIGNMENT BACKING_DISK_ALIGNMENT

struct volume_disk {
	struct backing_disk backing;
	int lock_fd; /* cryptsetup's lock file of a block device; -1 for images */
	uint64_t size_bytes;
	uint32_t block_size; /* logical; at least 512 */
	bool is_read_only;   /* only a reader may meet one */
	bool is_open;
};

#define VOLUME_DISK_SCOPE __attribute__((cleanup(volume_disk_close)))

/* Opens and locks as cryptsetup does: flock on /run/cryptsetup/L_<major>:<minor> for block devices,
 * on the file itself for images. Waits a few seconds for others, then FAIL_HEADER_LOCKED. The
 * failures of backing_disk_open; FAIL_SYSTEM if there can be no lock file. `path` is kept. */
MUST_CHECK enum status volume_disk_open(struct volume_disk *disk, const char *path,
					enum volume_disk_access access);
void volume_disk_close(struct volume_disk *disk); /* unlocks; harmless if not open */

/* From and into memory of any alignment, but not hidden memory. FAIL_DISK_IO, for reads past the
 * end too; FAIL_DISK_FULL. */
MUST_CHECK enum status volume_disk_read(const struct volume_disk *disk, uint64_t offset,
					void *bytes, size_t size);
MUST_CHECK enum status volume_disk_write(const struct volume_disk *disk, uint64_t offset,
					 const void *bytes, size_t size);
MUST_CHECK enum status volume_disk_zero(const struct volume_disk *disk, uint64_t offset,
					uint64_t size);
MUST_CHECK enum status volume_disk_sync(const struct volume_disk *disk);

#endif
