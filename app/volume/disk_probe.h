/* What is on a disk, and who uses it: asked before anything is written to it. Only reads. */
#ifndef APP_VOLUME_DISK_PROBE_H
#define APP_VOLUME_DISK_PROBE_H

#include "app/volume/disk_signatures.h"
#include "platform/status.h"

#define DISK_PROBE_SIGNATURES 8
#define DISK_PROBE_USER_SIZE 256

enum disk_user_kind {
	DISK_USER_NONE,
	DISK_USER_MOUNT,  /* the disk, or a partition of it, is mounted; user is the mount point */
	DISK_USER_SWAP,   /* user is the device */
	DISK_USER_HOLDER, /* a device on top of it; user is that device, "dm-0" */
	DISK_USER_OPEN,   /* somebody has it open exclusively; user is empty */
};

struct disk_probe {
	uint64_t size_bytes;
	uint32_t block_size; /* logical; 512 for images */
	bool is_block_device;
	bool is_read_only;
	bool is_blank; /* no byte but zero where signatures live: the first and last MiB */
	enum disk_user_kind user_kind;
	char user[DISK_PROBE_USER_SIZE]; /* printable */
	size_t signature_count;          /* further ones are not listed */
	struct disk_signature signatures[DISK_PROBE_SIGNATURES];
};

/* FAIL_DISK_ABSENT, FAIL_DISK_KIND, FAIL_NOT_ROOT, FAIL_DISK_IO. */
MUST_CHECK enum status disk_probe(struct disk_probe *probe, const char *disk_path);

/* The first reason not to overwrite the disk: FAIL_DISK_MOUNTED, FAIL_DISK_IN_USE,
 * FAIL_DISK_READ_ONLY, whatever `force` says; then, unless forced, FAIL_DISK_HAS_... */
MUST_CHECK enum status disk_probe_may_overwrite(const struct disk_probe *probe, bool force);

/* Writes what would be destroyed, "GPT partition table, ext4 file system"; empty if nothing is
 * known. Cut if it does not fit. */
void disk_probe_describe(const struct disk_probe *probe, char *text, size_t size);

#endif
