/* Making one keyslot of a volume: its parameters, and what must stand in its area. The inside of
 * volume_create.c and volume_change.c; nobody else includes it. */
#ifndef APP_VOLUME_VOLUME_KEYSLOT_H
#define APP_VOLUME_VOLUME_KEYSLOT_H

#include "app/volume/volume.h"

#define VOLUME_KEYSLOT_ITERATIONS_RANDOM 1000 /* for secrets of full entropy */

/* `area` is memory for LUKS2_AREA_SIZE secret bytes; on OK it holds what must stand at area_offset
 * of the disk, encrypted. */
MUST_CHECK enum status volume_keyslot_make(struct luks2_keyslot *keyslot, uint8_t *area,
					   uint64_t area_offset,
					   const struct volume_keyslot_options *options,
					   const struct secret *volume_key);

/* The recovery token of that keyslot, in the text, under a free number. FAIL_METADATA_FULL if there
 * is none. */
MUST_CHECK enum status volume_keyslot_mark_recovery(struct luks2_text *text,
						    struct luks2_nodes *nodes,
						    const struct luks2_metadata *metadata,
						    unsigned keyslot);

/* A number that no token of the metadata has; false if there is none. */
MUST_CHECK bool volume_keyslot_free_token(unsigned *number, const struct luks2_metadata *metadata);

#endif
