#include "crypto/antiforensic.h"

#include <string.h>

#include "tests/unit/test.h"

static uint8_t stripes[ANTIFORENSIC_SIZE(ANTIFORENSIC_KEY_SIZE_MAX)];

TEST(what_is_split_merges_again_for_every_hash_and_key_size)
{
	static const size_t key_sizes[] = {1, 16, 20, 31, 32, 33, 64, 65, 128};
	uint8_t key[ANTIFORENSIC_KEY_SIZE_MAX], merged[ANTIFORENSIC_KEY_SIZE_MAX];

	for (enum hash_kind kind = 0; kind < HASH_KINDS; kind++) {
		for (size_t i = 0; i < ARRAY_COUNT(key_sizes); i++) {
			size_t size = key_sizes[i];

			test_fill(key, sizeof(key), i);
			test_fill(stripes, sizeof(stripes), i + 1);
			antiforensic_split(kind, stripes, key, size);
			antiforensic_merge(kind, merged, stripes, size);
			EXPECT_BYTES(merged, key, size);
		}
	}
}

/* Computed with Python's hashlib from the description in the LUKS1 on-disk format, section 2.4. */
static const struct {
	enum hash_kind kind;
	size_t key_size;
	const char *key;
} merged_keys[] = {
	{HASH_SHA1, 64,
	 "608bc3f49b532f098baebdb29ea89525018c4e61a889805d0cda07b17072b146"
	 "7d8bd06f6bd104bd77ec64244929cd10897006de7005fe2e0c2c0997b582deab"},
	{HASH_SHA256, 32, "5c9d91073df96b08da6b3c4df113753ac4661fe8c53272141e93c17f6c55063a"},
	{HASH_SHA256, 64,
	 "edb86c8a67e8a099b4947322926745a7e8272ed2f84d3a8ac0efb9a203da3399"
	 "c825aee9b0f873eedc51fb2cf3846f2ec724b28a2029ca465558704964ec2050"},
	{HASH_SHA512, 64,
	 "8c3cd09b4eb3b6c9a17a7b5916887892dc0267fed6fd4a9bf8e5ed41a249c513"
	 "426370fc8588c249b5a21b332e5774d272339dfab3768944ab3c4cd04a68cbb5"},
	{HASH_SHA256, 40,
	 "09bf90f9eb31113eea99b26b8e414f12e10557380fc0f4f84ec46e037a05379e"
	 "65a7a8e1e5c80f7b"},
};

TEST(stripes_merge_to_what_another_program_makes_of_them)
{
	uint8_t key[ANTIFORENSIC_KEY_SIZE_MAX], expected[ANTIFORENSIC_KEY_SIZE_MAX];

	for (size_t i = 0; i < sizeof(stripes); i++)
		stripes[i] = (uint8_t)(7 * i + (i >> 8));
	for (size_t i = 0; i < ARRAY_COUNT(merged_keys); i++) {
		size_t size = test_from_hex(expected, sizeof(expected), merged_keys[i].key);

		EXPECT_EQUAL(size, merged_keys[i].key_size);
		antiforensic_merge(merged_keys[i].kind, key, stripes, size);
		EXPECT_BYTES(key, expected, size);
	}
}

TEST(splitting_writes_the_last_stripe_only)
{
	static uint8_t before[sizeof(stripes)];
	size_t size = 64;
	uint8_t key[64];

	test_fill(key, sizeof(key), 1);
	test_fill(stripes, sizeof(stripes), 2);
	memcpy(before, stripes, sizeof(stripes));
	antiforensic_split(HASH_SHA256, stripes, key, size);
	EXPECT_BYTES(stripes, before, ANTIFORENSIC_SIZE(size) - size);
	EXPECT_BYTES(stripes + ANTIFORENSIC_SIZE(size), before + ANTIFORENSIC_SIZE(size),
		     sizeof(stripes) - ANTIFORENSIC_SIZE(size));
}

TEST(one_changed_bit_anywhere_changes_the_whole_key)
{
	uint8_t key[64], merged[64];

	test_fill(key, sizeof(key), 1);
	for (size_t stripe = 0; stripe < ANTIFORENSIC_STRIPES - 1; stripe += 1333) {
		unsigned equal = 0;

		test_fill(stripes, sizeof(stripes), 3);
		antiforensic_split(HASH_SHA256, stripes, key, sizeof(key));
		stripes[stripe * sizeof(key)] ^= 1;
		/* The first piece of a block is not mixed into the second: so the first half only.
		 */
		antiforensic_merge(HASH_SHA256, merged, stripes, sizeof(key));
		for (size_t i = 0; i < 32; i++)
			equal += merged[i] == key[i];
		EXPECT_TRUE(equal < 8);
	}
}

TEST(key_sizes_beyond_the_limit_stop_the_program)
{
	uint8_t key[ANTIFORENSIC_KEY_SIZE_MAX] = {0};

	EXPECT_ABORT(antiforensic_split(HASH_SHA256, stripes, key, 0));
	EXPECT_ABORT(antiforensic_merge(HASH_SHA256, key, stripes, ANTIFORENSIC_KEY_SIZE_MAX + 1));
}
