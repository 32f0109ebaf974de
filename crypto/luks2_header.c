#include "crypto/luks2_header.h"

#include <string.h>

#include "crypto/hash.h"
#include "platform/bytes.h"

/* On-disk format §2.1; big-endian, no padding that a compiler would add. */
struct binary_header {
	uint8_t magic[6];
	uint8_t version[2];
	uint8_t header_size[8];
	uint8_t sequence_id[8];
	char label[LUKS2_LABEL_SIZE];
	char checksum_kind[32];
	uint8_t salt[LUKS2_HEADER_SALT_SIZE];
	char uuid[LUKS2_UUID_SIZE];
	char subsystem[LUKS2_LABEL_SIZE];
	uint8_t offset[8];
	uint8_t zeros[184];
	uint8_t checksum[64];
	uint8_t more_zeros[3584];
};

_Static_assert(sizeof(struct binary_header) == LUKS2_BINARY_SIZE, "the format's size");
_Static_assert(offsetof(struct binary_header, salt) == 0x68, "the format's offset");
_Static_assert(offsetof(struct binary_header, offset) == 0x100, "the format's offset");
_Static_assert(offsetof(struct binary_header, checksum) == 0x1c0, "the format's offset");
_Static_assert(HASH_SIZE_MAX <= sizeof(((struct binary_header *)0)->checksum), "it must fit");
_Static_assert(LUKS2_HEADER_SIZE_MIN << (LUKS2_SECONDARY_OFFSETS - 1) == LUKS2_HEADER_SIZE_MAX,
	       "all sizes are counted");

static const uint8_t magics[LUKS2_COPIES][6] = {
	[LUKS2_PRIMARY] = {'L', 'U', 'K', 'S', 0xba, 0xbe},
	[LUKS2_SECONDARY] = {'S', 'K', 'U', 'L', 0xba, 0xbe},
};

uint64_t luks2_header_secondary_offset(unsigned index)
{
	CHECK(index < LUKS2_SECONDARY_OFFSETS);
	return (uint64_t)LUKS2_HEADER_SIZE_MIN << index;
}

static bool size_is_possible(uint64_t size)
{
	for (unsigned i = 0; i < LUKS2_SECONDARY_OFFSETS; i++)
		if (size == luks2_header_secondary_offset(i))
			return true;
	return false;
}

static bool ends_with_nul(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/* Names of disks are shown to people and passed between processes. */
static bool is_printable_text(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	for (size_t i = 0; i < length; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return length < size;
}

enum status luks2_header_decode(struct luks2_header *header,
				const uint8_t bytes[static LUKS2_BINARY_SIZE], enum luks2_copy copy,
				uint64_t offset)
{
	struct binary_header binary;
	uint64_t size;

	CHECK(copy < LUKS2_COPIES);
	memcpy(&binary, bytes, sizeof(binary));
	if (memcmp(binary.magic, magics[copy], sizeof(binary.magic)) != 0)
		return FAIL_NOT_LUKS;
	if (bytes_load_be16(binary.version) != 2)
		return FAIL_LUKS_VERSION;
	size = bytes_load_be64(binary.header_size);
	if (!size_is_possible(size) || bytes_load_be64(binary.offset) != offset ||
	    offset != (copy == LUKS2_PRIMARY ? 0 : size))
		return FAIL_HEADER_FIELDS;
	if (!ends_with_nul(binary.label, sizeof(binary.label)) ||
	    !ends_with_nul(binary.subsystem, sizeof(binary.subsystem)) ||
	    !is_printable_text(binary.uuid, sizeof(binary.uuid)) ||
	    !ends_with_nul(binary.checksum_kind, sizeof(binary.checksum_kind)))
		return FAIL_HEADER_FIELDS;
	header->header_size = size;
	header->sequence_id = bytes_load_be64(binary.sequence_id);
	memcpy(header->label, binary.label, sizeof(header->label));
	memcpy(header->subsystem, binary.subsystem, sizeof(header->subsystem));
	memcpy(header->uuid, binary.uuid, sizeof(header->uuid));
	return OK;
}

/* The checksum field counts as zeros. */
static void checksum_of(uint8_t *digest, enum hash_kind kind, const struct binary_header *binary,
			const uint8_t *area, size_t area_size)
{
	struct binary_header blank = *binary;
	struct hash_state state;

	memset(blank.checksum, 0, sizeof(blank.checksum));
	hash_init(&state, kind);
	hash_update(&state, &blank, sizeof(blank));
	hash_update(&state, area, area_size);
	hash_finish(&state, digest);
}

enum status luks2_header_check(const uint8_t *copy_bytes, size_t header_size)
{
	struct binary_header binary;
	uint8_t digest[HASH_SIZE_MAX];
	enum hash_kind kind;

	CHECK(size_is_possible(header_size));
	memcpy(&binary, copy_bytes, sizeof(binary));
	CHECK(ends_with_nul(binary.checksum_kind, sizeof(binary.checksum_kind)));
	if (!hash_from_name(&kind, binary.checksum_kind, strlen(binary.checksum_kind)))
		return FAIL_HEADER_DAMAGED;
	checksum_of(digest, kind, &binary, copy_bytes + LUKS2_BINARY_SIZE,
		    header_size - LUKS2_BINARY_SIZE);
	return memcmp(digest, binary.checksum, hash_size(kind)) == 0 ? OK : FAIL_HEADER_DAMAGED;
}

void luks2_header_encode(uint8_t *copy_bytes, const struct luks2_header *header,
			 enum luks2_copy copy, const uint8_t salt[static LUKS2_HEADER_SALT_SIZE])
{
	struct binary_header binary = {.version = {0, 2}, .checksum_kind = "sha256"};

	CHECK(copy < LUKS2_COPIES && size_is_possible(header->header_size));
	memcpy(binary.magic, magics[copy], sizeof(binary.magic));
	bytes_store_be64(binary.header_size, header->header_size);
	bytes_store_be64(binary.sequence_id, header->sequence_id);
	bytes_store_be64(binary.offset, copy == LUKS2_PRIMARY ? 0 : header->header_size);
	memcpy(binary.label, header->label, sizeof(binary.label));
	memcpy(binary.subsystem, header->subsystem, sizeof(binary.subsystem));
	memcpy(binary.uuid, header->uuid, sizeof(binary.uuid));
	memcpy(binary.salt, salt, sizeof(binary.salt));
	checksum_of(binary.checksum, HASH_SHA256, &binary, copy_bytes + LUKS2_BINARY_SIZE,
		    header->header_size - LUKS2_BINARY_SIZE);
	memcpy(copy_bytes, &binary, sizeof(binary));
}
