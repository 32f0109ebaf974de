/* The first copy of the header of a volume that cryptsetup 2.6.1 made: luksFormat with pbkdf2 and
 * sha512, luksAddKey with argon2id, config --priority prefer, token import. */
#ifndef TESTS_UNIT_LUKS2_SAMPLE_H
#define TESTS_UNIT_LUKS2_SAMPLE_H

#include "crypto/luks2_metadata.h"

#define LUKS2_SAMPLE_SIZE 0x4000

/* Its metadata, as they stand on the disk. */
extern const char luks2_sample_json[];

/* Its volume key, in hexadecimal. */
extern const char luks2_sample_volume_key[];

/* The whole copy as it stands on the disk. */
void luks2_sample_copy(uint8_t copy[static LUKS2_SAMPLE_SIZE]);

void luks2_sample_text(struct luks2_text *text);

/* The sample's metadata with the first `from` replaced by `to`. The test fails if there is no
 * `from`: a defect that is not there proves nothing. */
void luks2_sample_text_with(struct luks2_text *text, const char *from, const char *to);

#endif
