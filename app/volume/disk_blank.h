/* Proof that nothing is lost when a disk is formatted: what is on it is read, and only zeros are
 * nothing. Only reads. Any thread. */
#ifndef APP_VOLUME_DISK_BLANK_H
#define APP_VOLUME_DISK_BLANK_H

#include <stdatomic.h>

#include "platform/status.h"

enum disk_blank_care {
	/* Everything on disks of up to 4 GiB. Of larger ones the first 256 MiB, the last 16 MiB,
	 * and of every 16 MiB between 4 KiB at a random place: of a disk of which only 1 % is not
	 * zero a TiB of it looks blank once in 10^286 times, and what a file system writes in one
	 * place is found for certain if it is 32 MiB or more. */
	DISK_BLANK_SAMPLE,
	DISK_BLANK_WHOLE, /* every byte */
};

/* OK if what was read is zero; of a disk that bears the mark of a volume_create that was cut short,
 * what lies before the data does not count. FAIL_DISK_NOT_BLANK, with the place of the first 4 KiB
 * that are not; those of backing_disk_open and backing_disk_read; FAIL_OUT_OF_MEMORY. `done_bytes`,
 * which any thread may read, goes up to the disk's size. */
MUST_CHECK enum status disk_blank_prove(uint64_t *place, const char *disk_path,
					enum disk_blank_care care, _Atomic uint64_t *done_bytes);

#endif
