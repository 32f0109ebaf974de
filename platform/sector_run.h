/* What the data path hands to the cipher: a list of runs of whole sectors. It stands here because
 * crypto and io, which never include each other, both speak of it. */
#ifndef PLATFORM_SECTOR_RUN_H
#define PLATFORM_SECTOR_RUN_H

#include "platform/base.h"

/* The XTS tweak counts 512-byte units even where sectors are 4096 bytes: dm-crypt does so unless
 * told iv_large_sectors, and a volume must open in both. */
#define SECTOR_UNIT_SIZE 512

struct sector_run {
	uint64_t first_unit;   /* tweak of the first sector; in units of 512 bytes */
	const uint8_t *source; /* any alignment */
	uint8_t *target;       /* equal to source (in place), or not overlapping it at all */
	size_t size;           /* bytes; a multiple of the cipher's sector size, may be 0 */
};

#endif
