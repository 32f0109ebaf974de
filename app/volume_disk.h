/* The few calls by which volume.c touches a disk or image. Tests link a disk in memory in its
 * place, which cuts the power or fails at any of them; there is no other way from volume.c to a
 * disk.
 *
 * Who first sees a system error logs it, so these log.
 */
#ifndef APP_VOLUME_DISK_H
#define APP_VOLUME_DISK_H

#include "platform/status.h"

enum volume_disk_access {
	VOLUME_DISK_READ,   /* under a shared lock of the header */
	VOLUME_DISK_CHANGE, /* under an exclusive lock of the header; the data may be in use */
	VOLUME_DISK_CLAIM,  /* the same, and nobody else has a block device mounted or held */
};

struct volume_disk {
	int fd;      /* -1: not open */
	int lock_fd; /* cryptsetup's lock file of a block device; -1 for images */
	uint64_t size_bytes;
	uint32_t block_size; /* logical; 512 for images */
	enum volume_disk_access access;
};

#define VOLUME_DISK_SCOPE __attribute__((cleanup(volume_disk_close)))

/* Opens and locks as cryptsetup does: flock on /run/cryptsetup/L_<major>:<minor> for block devices,
 * on the file itself for images. Waits a few seconds for others, then FAIL_HEADER_LOCKED.
 * FAIL_DISK_ABSENT, FAIL_DISK_KIND, FAIL_DISK_READ_ONLY (CHANGE and CLAIM), FAIL_DISK_IN_USE
 * (CLAIM), FAIL_NOT_ROOT, FAIL_DISK_IO. `disk` is open on OK only. */
MUST_CHECK enum status volume_disk_open(struct volume_disk *disk, const char *path,
                                        enum volume_disk_access access);
void volume_disk_close(struct volume_disk *disk); /* unlocks; harmless if not open */

/* Whole or not at all: FAIL_DISK_IO, for reads past the end too; FAIL_DISK_FULL. */
MUST_CHECK enum status volume_disk_read(const struct volume_disk *disk, uint64_t offset,
                                        void *bytes, size_t size);
MUST_CHECK enum status volume_disk_write(const struct volume_disk *disk, uint64_t offset,
                                         const void *bytes, size_t size);
MUST_CHECK enum status volume_disk_sync(const struct volume_disk *disk);

#endif
