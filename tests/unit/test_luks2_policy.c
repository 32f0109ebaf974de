#include "crypto/luks2_policy.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

#define DISK_SIZE (32u * 1024 * 1024)

static struct luks2_text text;
static struct luks2_nodes nodes;
static struct luks2_metadata metadata;
static struct luks2_layout layout;
static const struct luks2_header header = {.header_size = LUKS2_SAMPLE_SIZE};

static enum status check_with(const char *from, const char *to)
{
	luks2_sample_text_with(&text, from, to);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	return luks2_policy_check(&layout, &header, &metadata, DISK_SIZE);
}

static enum status check_segment_with(const char *json)
{
	return check_with(
		"\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\",\"size\":"
		"\"dynamic\",\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\","
		"\"sector_size\":4096}}",
		json);
}

TEST(a_volume_of_cryptsetup_is_accepted)
{
	EXPECT_OK(check_with("", ""));
	EXPECT_EQUAL(layout.sector_size, 4096);
	EXPECT_EQUAL(layout.data_offset_bytes, 16777216);
	EXPECT_EQUAL(layout.data_size_bytes, DISK_SIZE - 16777216);
	EXPECT_EQUAL(layout.first_unit, 0);
	EXPECT_EQUAL(layout.digest, 0);
}

TEST(a_rest_that_is_no_whole_sector_is_not_served)
{
	EXPECT_OK(check_with("", ""));
	EXPECT_OK(luks2_policy_check(&layout, &header, &metadata, DISK_SIZE + 4095));
	EXPECT_EQUAL(layout.data_size_bytes, DISK_SIZE - 16777216);
}

TEST(an_unknown_requirement_is_refused_first)
{
	EXPECT_STATUS(check_with("\"config\":{",
				 "\"config\":{\"requirements\":{\"mandatory\":[\"opal\"]},"),
		      FAIL_REQUIREMENT);
	EXPECT_STATUS(check_with("\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":["
						 "\"online-reencrypt-v2\"]},"),
		      FAIL_REENCRYPTION);
}

TEST(no_null_cipher_gets_through)
{
	EXPECT_STATUS(check_with("\"aes-xts-plain64\",\"sector_size\"",
				 "\"cipher_null-ecb\",\"sector_size\""),
		      FAIL_CIPHER_NULL);
	EXPECT_STATUS(check_with("\"aes-xts-plain64\",\"key_size\":64},\"kdf\"",
				 "\"cipher_null-ecb\",\"key_size\":64},\"kdf\""),
		      FAIL_CIPHER_NULL);
}

TEST(other_ciphers_and_key_sizes_are_refused)
{
	EXPECT_STATUS(check_with("\"aes-xts-plain64\",\"sector_size\"",
				 "\"aes-cbc-essiv:sha256\",\"sector_size\""),
		      FAIL_CIPHER);
	EXPECT_STATUS(check_with("\"aes-xts-plain64\",\"sector_size\"",
				 "\"aes-xts-plain\",\"sector_size\""),
		      FAIL_CIPHER);
	EXPECT_STATUS(check_with("\"key_size\":64,\"af\"", "\"key_size\":32,\"af\""), FAIL_CIPHER);
}

TEST(only_one_crypt_segment_behind_the_keyslots_is_served)
{
	static const char backup[] =
		"\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\","
		"\"size\":\"dynamic\",\"iv_tweak\":\"0\",\"encryption\":"
		"\"aes-xts-plain64\",\"sector_size\":4096,\"flags\":"
		"[\"backup-final\"]}}";
	static const char two[] =
		"\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\","
		"\"size\":\"4096\",\"iv_tweak\":\"0\",\"encryption\":"
		"\"aes-xts-plain64\",\"sector_size\":4096},\"1\":{\"type\":\"linear\","
		"\"offset\":\"20971520\",\"size\":\"dynamic\"}}";

	EXPECT_STATUS(check_segment_with(backup), FAIL_SEGMENT);
	EXPECT_STATUS(check_segment_with(two), FAIL_SEGMENT);
	EXPECT_STATUS(check_segment_with("\"segments\":{\"0\":{\"type\":\"linear\",\"offset\":"
					 "\"16777216\",\"size\":\"dynamic\"}}"),
		      FAIL_SEGMENT);
	EXPECT_STATUS(check_with("\"sector_size\":4096",
				 "\"sector_size\":4096,\"integrity\":{\"type\":\"hmac(sha256)\"}"),
		      FAIL_SEGMENT);
	EXPECT_STATUS(check_with("\"sector_size\":4096", "\"sector_size\":2048"), FAIL_SEGMENT);
	EXPECT_STATUS(check_with("\"sector_size\":4096", "\"sector_size\":8192"), FAIL_SEGMENT);
	EXPECT_STATUS(check_with("\"offset\":\"16777216\"", "\"offset\":\"0\""), FAIL_SEGMENT);
	EXPECT_STATUS(check_with("\"offset\":\"16777216\"", "\"offset\":\"16773120\""),
		      FAIL_SEGMENT);
	EXPECT_STATUS(check_with("\"digests\":{\"0\":{\"type\":\"pbkdf2\"",
				 "\"digests\":{\"0\":{\"type\":\"other\""),
		      FAIL_SEGMENT);
}

TEST(data_that_end_past_the_disk_are_refused)
{
	EXPECT_OK(check_with("\"size\":\"dynamic\"", "\"size\":\"16777216\""));
	EXPECT_EQUAL(layout.data_size_bytes, 16777216);
	EXPECT_STATUS(check_with("\"size\":\"dynamic\"", "\"size\":\"16781312\""),
		      FAIL_SEGMENT_OUTSIDE);
	EXPECT_STATUS(check_with("\"size\":\"dynamic\"", "\"size\":\"18446744073709547520\""),
		      FAIL_SEGMENT_OUTSIDE);
	EXPECT_STATUS(check_with("\"offset\":\"16777216\"", "\"offset\":\"33554432\""),
		      FAIL_SEGMENT_OUTSIDE);
	EXPECT_STATUS(check_with("\"offset\":\"16777216\"", "\"offset\":\"18446744073709551104\""),
		      FAIL_SEGMENT_OUTSIDE);
	/* Less than a sector is left. */
	EXPECT_STATUS(check_with("\"offset\":\"16777216\"", "\"offset\":\"33553920\""),
		      FAIL_SEGMENT_OUTSIDE);
}

TEST(keyslot_areas_stay_in_their_place_and_apart)
{
	static const char *const places[] = {
		"0", "28672", "32767", "290815", "16777215", "16519169", "18446744073709551615"};
	char to[64];

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		snprintf(to, sizeof(to), "\"offset\":\"%s\"", places[i]);
		EXPECT_STATUS(check_with("\"offset\":\"32768\"", to), FAIL_KEYSLOT_LAYOUT);
	}
	EXPECT_OK(check_with("\"offset\":\"32768\"", "\"offset\":\"16519168\""));
	EXPECT_STATUS(check_with("\"offset\":\"32768\",\"size\":\"258048\"",
				 "\"offset\":\"32768\",\"size\":\"258049\""),
		      FAIL_KEYSLOT_LAYOUT);
	EXPECT_STATUS(check_with("\"offset\":\"32768\",\"size\":\"258048\"",
				 "\"offset\":\"32768\",\"size\":\"253952\""),
		      FAIL_KEYSLOT_LAYOUT);
	EXPECT_STATUS(check_with("\"offset\":\"32768\",\"size\":\"258048\"",
				 "\"offset\":\"32768\",\"size\":\"18446744073709551615\""),
		      FAIL_KEYSLOT_LAYOUT);
	EXPECT_STATUS(check_with("\"keyslots_size\":\"16744448\"", "\"keyslots_size\":\"262144\""),
		      FAIL_KEYSLOT_LAYOUT);
	EXPECT_STATUS(check_with("\"keyslots_size\":\"16744448\"",
				 "\"keyslots_size\":\"18446744073709551615\""),
		      FAIL_SEGMENT);
}

static enum status check_keyslot_with(unsigned number, const char *from, const char *to)
{
	luks2_sample_text_with(&text, from, to);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	return luks2_policy_check_keyslot(&metadata.keyslots[number]);
}

TEST(absurd_costs_are_refused)
{
	EXPECT_OK(check_keyslot_with(0, "\"iterations\":1000", "\"iterations\":50000000"));
	EXPECT_STATUS(check_keyslot_with(0, "\"iterations\":1000", "\"iterations\":50000001"),
		      FAIL_KDF_COST);
	EXPECT_OK(check_keyslot_with(1, "\"memory\":32768", "\"memory\":4194304"));
	EXPECT_STATUS(check_keyslot_with(1, "\"memory\":32768", "\"memory\":4194305"),
		      FAIL_KDF_COST);
	EXPECT_OK(check_keyslot_with(1, "\"time\":4", "\"time\":1000"));
	EXPECT_STATUS(check_keyslot_with(1, "\"time\":4", "\"time\":1001"), FAIL_KDF_COST);
	EXPECT_STATUS(check_keyslot_with(1, "\"time\":4,\"memory\":32768",
					 "\"time\":100,\"memory\":1048576"),
		      FAIL_KDF_COST);
	EXPECT_STATUS(check_keyslot_with(1, "\"cpus\":1", "\"cpus\":65"), FAIL_KDF_COST);
	EXPECT_STATUS(check_with("\"iterations\":1000,\"salt\":\"VLv0",
				 "\"iterations\":50000001,\"salt\":\"VLv0"),
		      FAIL_KDF_COST);
}

TEST(keyslots_that_byok_cannot_open_are_told)
{
	EXPECT_OK(check_keyslot_with(0, "", ""));
	EXPECT_OK(check_keyslot_with(1, "", ""));
	EXPECT_STATUS(check_keyslot_with(2, "", ""), FAIL_KEYSLOT_KIND);
	EXPECT_STATUS(check_keyslot_with(1, "\"argon2id\"", "\"scrypt\""), FAIL_KEYSLOT_KIND);
	EXPECT_STATUS(check_keyslot_with(0, "\"type\":\"luks2\"", "\"type\":\"reencrypt\""),
		      FAIL_KEYSLOT_KIND);
	EXPECT_STATUS(check_keyslot_with(0, "\"key_size\":64},\"kdf\"", "\"key_size\":32},\"kdf\""),
		      FAIL_KEYSLOT_KIND);
	EXPECT_STATUS(check_keyslot_with(0, "\"aes-xts-plain64\",\"key_size\":64},\"kdf\"",
					 "\"aes-cbc-plain\",\"key_size\":64},\"kdf\""),
		      FAIL_KEYSLOT_KIND);
	EXPECT_STATUS(check_keyslot_with(0, "\"key_size\":64,\"af\"", "\"key_size\":32,\"af\""),
		      FAIL_CIPHER);
}
