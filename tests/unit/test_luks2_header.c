#include "crypto/luks2_header.h"

#include <string.h>

#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

static uint8_t copy[LUKS2_SAMPLE_SIZE];

TEST(a_header_of_cryptsetup_is_read)
{
	struct luks2_header header;

	luks2_sample_copy(copy);
	EXPECT_OK(luks2_header_decode(&header, copy, LUKS2_PRIMARY, 0));
	EXPECT_OK(luks2_header_check(copy, sizeof(copy)));
	EXPECT_EQUAL(header.header_size, LUKS2_SAMPLE_SIZE);
	EXPECT_EQUAL(header.sequence_id, 6);
	EXPECT_TEXT(header.label, "vector-label");
	EXPECT_TEXT(header.subsystem, "vector-subsystem");
	EXPECT_TEXT(header.uuid, "01234567-89ab-4cde-8f01-23456789abcd");
}

TEST(what_cryptsetup_wrote_is_written_again_to_the_byte)
{
	uint8_t again[LUKS2_SAMPLE_SIZE];
	struct luks2_header header;

	luks2_sample_copy(copy);
	EXPECT_OK(luks2_header_decode(&header, copy, LUKS2_PRIMARY, 0));
	memcpy(again, copy, sizeof(again));
	memset(again, 0xff, LUKS2_BINARY_SIZE);
	luks2_header_encode(again, &header, LUKS2_PRIMARY, copy + 0x68);
	EXPECT_BYTES(again, copy, sizeof(again));
}

TEST(a_secondary_copy_is_told_from_a_primary)
{
	struct luks2_header header, decoded;
	uint8_t salt[LUKS2_HEADER_SALT_SIZE];

	luks2_sample_copy(copy);
	EXPECT_OK(luks2_header_decode(&header, copy, LUKS2_PRIMARY, 0));
	test_fill(salt, sizeof(salt), 1);
	luks2_header_encode(copy, &header, LUKS2_SECONDARY, salt);
	EXPECT_OK(luks2_header_decode(&decoded, copy, LUKS2_SECONDARY, LUKS2_SAMPLE_SIZE));
	EXPECT_OK(luks2_header_check(copy, sizeof(copy)));
	EXPECT_STATUS(luks2_header_decode(&decoded, copy, LUKS2_PRIMARY, 0), FAIL_NOT_LUKS);
	EXPECT_STATUS(luks2_header_decode(&decoded, copy, LUKS2_SECONDARY, 2 * LUKS2_SAMPLE_SIZE),
		      FAIL_HEADER_FIELDS);
}

TEST(every_changed_bit_is_noticed)
{
	struct luks2_header header;

	luks2_sample_copy(copy);
	for (size_t at = 0; at < sizeof(copy); at += at < 0x200 ? 1 : 61) {
		enum status status;

		/* The part of the checksum's field that SHA-256 leaves free counts as zeros,
		 * whatever it is. */
		if (at >= 0x1e0 && at < 0x200)
			continue;
		copy[at] ^= (uint8_t)(1u << at % 8);
		status = luks2_header_decode(&header, copy, LUKS2_PRIMARY, 0);
		if (status == OK)
			status = header.header_size == sizeof(copy)
					 ? luks2_header_check(copy, sizeof(copy))
					 : FAIL_HEADER_TRUNCATED;
		EXPECT_NOT_EQUAL(status, OK);
		copy[at] ^= (uint8_t)(1u << at % 8);
	}
}

static enum status decode_with(size_t at, const char *bytes, size_t size)
{
	struct luks2_header header;

	luks2_sample_copy(copy);
	EXPECT_TRUE(memcmp(copy + at, bytes, size) != 0);
	memcpy(copy + at, bytes, size);
	return luks2_header_decode(&header, copy, LUKS2_PRIMARY, 0);
}

TEST(fields_that_cannot_be_are_refused_before_the_rest_is_read)
{
	char unended[LUKS2_LABEL_SIZE];

	memset(unended, 'x', sizeof(unended));
	EXPECT_STATUS(decode_with(0, "M", 1), FAIL_NOT_LUKS);
	EXPECT_STATUS(decode_with(6, "\0\1", 2), FAIL_LUKS_VERSION);
	EXPECT_STATUS(decode_with(6, "\0\3", 2), FAIL_LUKS_VERSION);
	EXPECT_STATUS(decode_with(8, "\0\0\0\0\0\0\x20\0", 8), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(8, "\0\0\0\0\0\0\x60\0", 8), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(8, "\0\0\0\0\0\x80\0\0", 8), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(0x18, unended, 48), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(0x48, unended, 32), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(0xa8, unended, 40), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(0xd0, unended, 48), FAIL_HEADER_FIELDS);
	EXPECT_STATUS(decode_with(0x100, "\0\0\0\0\0\0\x40\0", 8), FAIL_HEADER_FIELDS);
}

TEST(a_checksum_of_an_unknown_kind_proves_nothing)
{
	EXPECT_OK(decode_with(0x48, "md5\0\0\0", 6));
	EXPECT_STATUS(luks2_header_check(copy, sizeof(copy)), FAIL_HEADER_DAMAGED);
}

TEST(a_secondary_header_has_nine_places)
{
	EXPECT_EQUAL(luks2_header_secondary_offset(0), 0x4000);
	EXPECT_EQUAL(luks2_header_secondary_offset(2), 0x10000);
	EXPECT_EQUAL(luks2_header_secondary_offset(8), 0x400000);
	EXPECT_ABORT((void)luks2_header_secondary_offset(9));
}
