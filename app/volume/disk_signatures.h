/* What lies on a disk, by the magic bytes of file systems, partition tables, RAID, swap and the
 * like: those that blkid and wipefs know, by a table of our own. Pure: the disk is read through a
 * pointer.
 */
#ifndef APP_VOLUME_DISK_SIGNATURES_H
#define APP_VOLUME_DISK_SIGNATURES_H

#include "platform/base.h"

enum disk_signature_kind {
	DISK_SIGNATURE_FILE_SYSTEM,
	DISK_SIGNATURE_PARTITIONS,
	DISK_SIGNATURE_LUKS,
	DISK_SIGNATURE_OTHER, /* swap, LVM, RAID, ... */
};

struct disk_signature {
	enum disk_signature_kind kind;
	const char *name;      /* "btrfs"; static text */
	uint64_t offset_bytes; /* of its magic */
};

struct disk_signatures_reader {
	/* False if it cannot be read: then nothing is there. Never asked for bytes past the end. */
	bool (*read)(const void *context, uint64_t offset, void *bytes, size_t size);
	const void *context;
	uint64_t size_bytes;
};

/* Returns how many there are, each name once; the first signature_max of them are written. */
size_t disk_signatures_find(struct disk_signature *signatures, size_t signature_max,
			    const struct disk_signatures_reader *reader);

#endif
