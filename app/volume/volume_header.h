/* Both copies of a volume's header on an open disk: reading and judging them, writing one. The
 * inside of volume.c and its neighbours; nobody else includes it. */
#ifndef APP_VOLUME_VOLUME_HEADER_H
#define APP_VOLUME_VOLUME_HEADER_H

#include "app/volume/volume.h"
#include "app/volume/volume_disk.h"

/* Working memory, about 500 KiB and one copy of the header; no secrets. */
struct volume_work {
	struct luks2_nodes nodes;
	struct luks2_text text;
	struct luks2_metadata metadata;
	struct volume current; /* what a change finds on the disk */
	uint8_t *copy;         /* one whole copy: header_size bytes; NULL at first */
	size_t copy_size;
};

#define VOLUME_WORK_SCOPE __attribute__((cleanup(volume_header_end_work)))

MUST_CHECK enum status volume_header_begin_work(struct volume_work **work);
void volume_header_end_work(struct volume_work **work);

/* Reads and judges; fills everything of `volume` but the path, which the caller has set. Writes
 * nothing. See volume_load. */
MUST_CHECK enum status volume_header_read(struct volume *volume, struct volume_work *work,
					  const struct volume_disk *disk);

/* Writes one copy, with a fresh salt, and syncs. */
MUST_CHECK enum status volume_header_write(const struct volume_disk *disk, struct volume_work *work,
					   enum luks2_copy copy, const struct luks2_header *header,
					   const struct luks2_text *text);

/* Opens the disk of `volume` for a change, and makes sure that it still holds what was loaded:
 * FAIL_HEADER_CHANGED. `work->current` is then what it holds. */
MUST_CHECK enum status volume_header_open_unchanged(struct volume_disk *disk,
						    struct volume_work *work,
						    const struct volume *volume);

#endif
