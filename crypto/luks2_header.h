/* The binary header of LUKS2 (on-disk format §2.1): 4096 bytes in front of each of the two copies
 * of the JSON metadata. Pure bytes; what the JSON says is luks2_metadata's business, and which copy
 * to believe is app/volume's. */
#ifndef CRYPTO_LUKS2_HEADER_H
#define CRYPTO_LUKS2_HEADER_H

#include "platform/status.h"

#define LUKS2_BINARY_SIZE 4096       /* of the binary header */
#define LUKS2_HEADER_SIZE_MIN 0x4000 /* of one copy: binary header and JSON area */
#define LUKS2_HEADER_SIZE_MAX 0x400000
#define LUKS2_HEADER_SIZE_DEFAULT 0x10000
#define LUKS2_SECONDARY_OFFSETS 9 /* the powers of two from SIZE_MIN to SIZE_MAX */
#define LUKS2_LABEL_SIZE 48       /* with the NUL, as all text sizes here */
#define LUKS2_UUID_SIZE 40
#define LUKS2_HEADER_SALT_SIZE 64

enum luks2_copy { LUKS2_PRIMARY, LUKS2_SECONDARY, LUKS2_COPIES };

/* The fields that both copies share. */
struct luks2_header {
	uint64_t header_size; /* of one copy; the secondary stands at this offset */
	uint64_t sequence_id; /* the copy with the higher one is newer */
	char label[LUKS2_LABEL_SIZE];
	char subsystem[LUKS2_LABEL_SIZE];
	char uuid[LUKS2_UUID_SIZE];
};

/* Where a secondary header may stand when the primary cannot tell: index < LUKS2_SECONDARY_OFFSETS.
 */
uint64_t luks2_header_secondary_offset(unsigned index);

/* What the first LUKS2_BINARY_SIZE bytes of a copy say about themselves, before its JSON area is
 * read: OK with the fields; FAIL_NOT_LUKS without the magic of that copy; FAIL_LUKS_VERSION for
 * another version; FAIL_HEADER_FIELDS for a size, offset or text that cannot be. Nothing is proved
 * until luks2_header_check has seen the whole copy. `offset` is where the copy was read from. */
MUST_CHECK enum status luks2_header_decode(struct luks2_header *header,
					   const uint8_t bytes[static LUKS2_BINARY_SIZE],
					   enum luks2_copy copy, uint64_t offset);

/* The checksum over the whole copy, header_size bytes that luks2_header_decode found OK.
 * FAIL_HEADER_DAMAGED if it does not agree, or is of a kind that byok does not know. */
MUST_CHECK enum status luks2_header_check(const uint8_t *copy_bytes, size_t header_size);

/* Writes the binary header in front of the JSON area that already stands at
 * copy_bytes + LUKS2_BINARY_SIZE (zeros behind the text), with its SHA-256 checksum. */
void luks2_header_encode(uint8_t *copy_bytes, const struct luks2_header *header,
			 enum luks2_copy copy, const uint8_t salt[static LUKS2_HEADER_SALT_SIZE]);

#endif
