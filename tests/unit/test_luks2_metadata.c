#include "crypto/luks2_metadata.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

static struct luks2_text text;
static struct luks2_nodes nodes;
static struct luks2_metadata metadata;

static enum status parse_with(const char *from, const char *to)
{
	luks2_sample_text_with(&text, from, to);
	return luks2_metadata_parse(&metadata, &nodes, &text);
}

TEST(metadata_of_cryptsetup_are_read)
{
	uint8_t salt[LUKS2_SALT_SIZE];

	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	EXPECT_TRUE(metadata.keyslots[0].exists);
	EXPECT_EQUAL(metadata.keyslots[0].kind, LUKS2_KEYSLOT_LUKS2);
	EXPECT_EQUAL(metadata.keyslots[0].key_size, 64);
	EXPECT_EQUAL(metadata.keyslots[0].priority, 1);
	EXPECT_EQUAL(metadata.keyslots[0].area_offset, 32768);
	EXPECT_EQUAL(metadata.keyslots[0].area_size, 258048);
	EXPECT_EQUAL(metadata.keyslots[0].area_cipher, LUKS2_CIPHER_AES_XTS_PLAIN64);
	EXPECT_EQUAL(metadata.keyslots[0].splitter_hash, HASH_SHA512);
	EXPECT_EQUAL(metadata.keyslots[0].kdf.kind, LUKS2_KDF_PBKDF2);
	EXPECT_EQUAL(metadata.keyslots[0].kdf.hash, HASH_SHA512);
	EXPECT_EQUAL(metadata.keyslots[0].kdf.iterations, 1000);
	EXPECT_EQUAL(
		test_from_hex(salt, sizeof(salt),
			      "6bdede082489c5f2f099c927c8885d6da2caa0f5e6d23470a0b0b0e3e042e6d0"),
		LUKS2_SALT_SIZE);
	EXPECT_BYTES(metadata.keyslots[0].kdf.salt, salt, sizeof(salt));
	EXPECT_EQUAL(metadata.keyslots[1].priority, 2);
	EXPECT_EQUAL(metadata.keyslots[1].kdf.kind, LUKS2_KDF_ARGON2ID);
	EXPECT_EQUAL(metadata.keyslots[1].kdf.time, 4);
	EXPECT_EQUAL(metadata.keyslots[1].kdf.memory_kib, 32768);
	EXPECT_EQUAL(metadata.keyslots[1].kdf.cpus, 1);
	EXPECT_FALSE(metadata.keyslots[2].exists);
	EXPECT_TEXT(metadata.tokens[0].type, "somebody-else");
	EXPECT_EQUAL(metadata.tokens[0].keyslots, 2);
	EXPECT_EQUAL(text.bytes[metadata.tokens[0].span.offset], '{');
	EXPECT_TRUE(metadata.segments[0].is_crypt);
	EXPECT_TRUE(metadata.segments[0].is_dynamic);
	EXPECT_EQUAL(metadata.segments[0].offset, 16777216);
	EXPECT_EQUAL(metadata.segments[0].sector_size, 4096);
	EXPECT_EQUAL(metadata.digests[0].keyslots, 3);
	EXPECT_EQUAL(metadata.digests[0].segments, 1);
	EXPECT_EQUAL(metadata.digests[0].value_size, 64);
	EXPECT_EQUAL(metadata.json_size, 12288);
	EXPECT_EQUAL(metadata.keyslots_size, 16744448);
	EXPECT_EQUAL(metadata.requirement, LUKS2_REQUIREMENT_NONE);
}

static const struct {
	const char *from;
	const char *to;
} shapeless[] = {
	{"\"keyslots\":{", "\"keyslot\":{"},
	{"\"tokens\":{", "\"token\":{"},
	{"\"segments\":{", "\"segment\":{"},
	{"\"digests\":{", "\"digest\":{"},
	{"\"config\":{", "\"configuration\":{"},
	{"\"config\":{\"json_size\":\"12288\",\"keyslots_size\":\"16744448\"}", "\"config\":[]"},
	/* names and references */
	{"\"0\":{\"type\":\"luks2\"", "\"x\":{\"type\":\"luks2\""},
	{"\"0\":{\"type\":\"luks2\"", "\"00\":{\"type\":\"luks2\""},
	{"\"0\":{\"type\":\"luks2\"", "\"32\":{\"type\":\"luks2\""},
	{"\"0\":{\"type\":\"luks2\"", "\"-1\":{\"type\":\"luks2\""},
	{"\"0\":{\"type\":\"luks2\"", "\"18446744073709551616\":{\"type\":\"luks2\""},
	{"\"0\":{\"type\":\"crypt\"", "\"1\":{\"type\":\"crypt\""},
	{"\"0\":{\"type\":\"pbkdf2\"", "\"8\":{\"type\":\"pbkdf2\""},
	{"\"keyslots\":[\"1\"]", "\"keyslots\":[\"2\"]"},
	{"\"keyslots\":[\"1\"]", "\"keyslots\":[1]"},
	{"\"keyslots\":[\"1\"]", "\"keyslots\":{\"1\":1}"},
	{"\"keyslots\":[\"1\"]", "\"keyslots\":[\"1\",\"1\"]"},
	{"\"keyslots\":[\"1\"]", "\"keyslots\":[\"4294967297\"]"},
	{"\"keyslots\":[\"0\",\"1\"]", "\"keyslots\":[\"0\",\"3\"]"},
	{"\"segments\":[\"0\"]", "\"segments\":[\"1\"]"},
	{"\"segments\":[\"0\"]", "\"segments\":[]"},
	/* keyslots */
	{"\"type\":\"luks2\"", "\"type\":2"},
	{"\"key_size\":64,\"af\"", "\"key_size\":\"64\",\"af\""},
	{"\"key_size\":64,\"af\"", "\"key_size\":-64,\"af\""},
	{"\"key_size\":64,\"af\"", "\"key_size\":64.0,\"af\""},
	{"\"key_size\":64,\"af\"", "\"key_size\":4294967296,\"af\""},
	{"\"key_size\":64,\"af\"", "\"key_size\":0,\"af\""},
	{"\"af\":{", "\"bf\":{"},
	{"\"hash\":\"sha512\"}", "\"hash\":512}"},
	{"\"area\":{", "\"arena\":{"},
	{"\"type\":\"raw\"", "\"type\":\"cooked\""},
	{"\"offset\":\"32768\"", "\"offset\":32768"},
	{"\"offset\":\"32768\"", "\"offset\":\"0x8000\""},
	{"\"offset\":\"32768\"", "\"offset\":\"18446744073709551616\""},
	{"\"size\":\"258048\"", "\"size\":null"},
	{"\"encryption\":\"aes-xts-plain64\"", "\"encryption\":[]"},
	{"\"kdf\":{", "\"kdg\":{"},
	{"\"iterations\":1000", "\"iterations\":0"},
	{"\"iterations\":1000", "\"iterations\":1e3"},
	{"\"iterations\":1000", "\"iterations\":99999999999"},
	{"\"salt\":\"a97e", "\"salt\":\"a97"},
	{"\"salt\":\"a97e", "\"salt\":\"a9 7e"},
	{"\"salt\":\"a97e", "\"salt\":\"aaaaa97e"},
	{"\"time\":4", "\"time\":0"},
	{"\"memory\":32768", "\"memory\":true"},
	{"\"cpus\":1", "\"cpu\":1"},
	{"\"priority\":2", "\"priority\":3"},
	{"\"priority\":2", "\"priority\":\"2\""},
	/* segments */
	{"\"offset\":\"16777216\"", "\"offset\":\"16777217\""},
	{"\"size\":\"dynamic\"", "\"size\":\"dynamite\""},
	{"\"size\":\"dynamic\"", "\"size\":\"0\""},
	{"\"size\":\"dynamic\"", "\"size\":\"513\""},
	{"\"size\":\"dynamic\"", "\"size\":\"512\""},
	{"\"iv_tweak\":\"0\"", "\"iv_tweak\":0"},
	{"\"sector_size\":4096", "\"sector_size\":0"},
	{"\"sector_size\":4096", "\"sector_size\":511"},
	{"\"sector_size\":4096", "\"sector_size\":4096,\"flags\":\"backup-final\""},
	{"\"sector_size\":4096", "\"sector_size\":4096,\"flags\":[1]"},
	/* tokens, digests, config */
	{"\"type\":\"somebody-else\"", "\"type\":null"},
	{"\"type\":\"somebody-else\",", ""},
	{"\"digest\":\"8Dkk", "\"digest\":\"8Dk"},
	{"\"digest\":\"8Dkk", "\"digest\":\""},
	{"\"json_size\":\"12288\"", "\"json_size\":12288"},
	{"\"keyslots_size\":\"16744448\"", "\"keyslots_size\":\"-1\""},
	{"\"json_size\":\"12288\"", "\"json_size\":\"12288\",\"flags\":{}"},
	{"\"json_size\":\"12288\"", "\"json_size\":\"12288\",\"requirements\":[\"x\"]"},
	{"\"json_size\":\"12288\"",
	 "\"json_size\":\"12288\",\"requirements\":{\"mandatory\":\"x\"}"},
	{"\"json_size\":\"12288\"", "\"json_size\":\"12288\",\"requirements\":{\"mandatory\":[1]}"},
	{luks2_sample_json, "{}"},
	{luks2_sample_json, "[]"},
};

TEST(metadata_that_contradict_the_format_are_refused)
{
	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	for (size_t i = 0; i < ARRAY_COUNT(shapeless); i++) {
		enum status status = parse_with(shapeless[i].from, shapeless[i].to);

		if (status != FAIL_METADATA_SHAPE)
			printf("  %s -> %s\n", shapeless[i].from, shapeless[i].to);
		EXPECT_STATUS(status, FAIL_METADATA_SHAPE);
	}
}

TEST(text_that_is_not_json_is_refused)
{
	EXPECT_STATUS(parse_with("\"config\":", "\"config\""), FAIL_METADATA_SYNTAX);
	EXPECT_STATUS(parse_with("\"tokens\":{", "\"keyslots\":{"), FAIL_METADATA_SYNTAX);
	EXPECT_STATUS(parse_with("\"somebody-else\"", "\"\xff\""), FAIL_METADATA_SYNTAX);
	EXPECT_STATUS(parse_with("2.5e3", "02"), FAIL_METADATA_SYNTAX);
	EXPECT_STATUS(parse_with(luks2_sample_json, ""), FAIL_METADATA_SYNTAX);
	EXPECT_STATUS(parse_with("\"list\":[", "\"list\":[[[[[[[[[[[[[[[[[[[["),
		      FAIL_METADATA_SYNTAX);
}

TEST(a_keyslot_in_two_digests_is_refused)
{
	static const char second[] = "\"digests\":{\"1\":{\"type\":\"x\",\"keyslots\":[\"1\"],"
				     "\"segments\":[]},";

	EXPECT_STATUS(parse_with("\"digests\":{", second), FAIL_METADATA_SHAPE);
}

TEST(what_byok_does_not_know_is_no_failure)
{
	EXPECT_OK(parse_with("\"type\":\"luks1\"", "\"type\":\"luks9\""));
	EXPECT_EQUAL(metadata.keyslots[0].kind, LUKS2_KEYSLOT_OTHER);
	EXPECT_OK(parse_with("\"hash\":\"sha512\"}", "\"hash\":\"whirlpool\"}"));
	EXPECT_EQUAL(metadata.keyslots[0].kind, LUKS2_KEYSLOT_OTHER);
	EXPECT_OK(parse_with("\"hash\":\"sha512\",\"iter", "\"hash\":\"whirlpool\",\"iter"));
	EXPECT_EQUAL(metadata.keyslots[0].kdf.kind, LUKS2_KDF_OTHER);
	EXPECT_OK(parse_with("\"argon2id\"", "\"argon3\""));
	EXPECT_EQUAL(metadata.keyslots[1].kdf.kind, LUKS2_KDF_OTHER);
	EXPECT_OK(parse_with("\"argon2id\"", "\"argon2i\""));
	EXPECT_EQUAL(metadata.keyslots[1].kdf.kind, LUKS2_KDF_ARGON2I);
	EXPECT_OK(parse_with("\"type\":\"somebody-else\"",
			     "\"type\":\"a-type-that-is-longer-than-any-that-byok-would-ever-look-"
			     "for-in-the-metadata-of-a-volume\""));
	EXPECT_TRUE(metadata.tokens[0].exists);
	EXPECT_TEXT(metadata.tokens[0].type, "");
	EXPECT_OK(parse_with("{\"keyslots\"", "{\"future\":[{}],\"keyslots\""));
}

TEST(every_null_cipher_is_known_as_such)
{
	static const char *const names[] = {"\"null\"", "\"cipher_null-ecb\"", "\"cipher_null\"",
					    "\"capi:ecb(cipher_null)-plain\""};
	char to[128];

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		snprintf(to, sizeof(to), "\"encryption\":%s,\"sector_size\"", names[i]);
		EXPECT_OK(parse_with("\"encryption\":\"aes-xts-plain64\",\"sector_size\"", to));
		EXPECT_EQUAL(metadata.segments[0].cipher, LUKS2_CIPHER_NULL);
	}
}

static enum luks2_requirement requirement_of(const char *array)
{
	char to[256];

	snprintf(to, sizeof(to), "\"config\":{\"requirements\":{\"mandatory\":%s},", array);
	EXPECT_OK(parse_with("\"config\":{", to));
	return metadata.requirement;
}

TEST(requirements_are_told_apart)
{
	EXPECT_EQUAL(requirement_of("[]"), LUKS2_REQUIREMENT_NONE);
	EXPECT_EQUAL(requirement_of("[\"offline-reencrypt\"]"), LUKS2_REQUIREMENT_REENCRYPTION);
	EXPECT_EQUAL(requirement_of("[\"online-reencrypt\"]"), LUKS2_REQUIREMENT_REENCRYPTION);
	EXPECT_EQUAL(requirement_of("[\"online-reencrypt-v3\"]"), LUKS2_REQUIREMENT_REENCRYPTION);
	EXPECT_EQUAL(requirement_of("[\"online-reencrypt-v\"]"), LUKS2_REQUIREMENT_UNKNOWN);
	EXPECT_EQUAL(requirement_of("[\"online-reencrypt-v2x\"]"), LUKS2_REQUIREMENT_UNKNOWN);
	EXPECT_EQUAL(requirement_of("[\"online-reencrypt\",\"opal\"]"), LUKS2_REQUIREMENT_UNKNOWN);
	EXPECT_EQUAL(requirement_of("[\"opal\",\"online-reencrypt\"]"), LUKS2_REQUIREMENT_UNKNOWN);
	EXPECT_TEXT(metadata.unknown_requirement, "opal");
	EXPECT_EQUAL(requirement_of("[\"\\u0007bell\"]"), LUKS2_REQUIREMENT_UNKNOWN);
	EXPECT_TEXT(metadata.unknown_requirement, "?bell");
	EXPECT_EQUAL(requirement_of("[\"0123456789012345678901234567890123456789012345678901234567"
				    "890123456789\"]"),
		     LUKS2_REQUIREMENT_UNKNOWN);
}

TEST(the_text_ends_with_zeros_to_the_end_of_its_area)
{
	uint8_t area[4096] = "{\"a\":1}";

	EXPECT_OK(luks2_metadata_text(&text, area, sizeof(area)));
	EXPECT_TEXT(text.bytes, "{\"a\":1}");
	EXPECT_EQUAL(text.length, 7);
	area[4095] = ' ';
	EXPECT_STATUS(luks2_metadata_text(&text, area, sizeof(area)), FAIL_METADATA_SYNTAX);
	area[4095] = 0;
	area[8] = 1;
	EXPECT_STATUS(luks2_metadata_text(&text, area, sizeof(area)), FAIL_METADATA_SYNTAX);
	memset(area, ' ', sizeof(area));
	area[0] = '{';
	EXPECT_STATUS(luks2_metadata_text(&text, area, sizeof(area)), FAIL_METADATA_SYNTAX);
	area[4095] = 0;
	EXPECT_OK(luks2_metadata_text(&text, area, sizeof(area)));
	area[0] = ' ';
	EXPECT_STATUS(luks2_metadata_text(&text, area, sizeof(area)), FAIL_METADATA_SYNTAX);
	area[0] = 0;
	EXPECT_STATUS(luks2_metadata_text(&text, area, sizeof(area)), FAIL_METADATA_SYNTAX);
}

TEST(a_text_that_byok_cannot_hold_is_told_from_a_malformed_one)
{
	static uint8_t area[2 * LUKS2_TEXT_SIZE];

	memset(area, '{', LUKS2_TEXT_SIZE - 1);
	EXPECT_OK(luks2_metadata_text(&text, area, sizeof(area)));
	area[LUKS2_TEXT_SIZE - 1] = '{';
	EXPECT_STATUS(luks2_metadata_text(&text, area, sizeof(area)), FAIL_METADATA_TOO_LARGE);
}

TEST(the_largest_number_of_objects_is_read)
{
	size_t used = 0;
	char *to = text.bytes;

	/* 32 keyslots, 32 tokens, 8 digests, 32 segments. */
	used += (size_t)sprintf(to + used, "{\"keyslots\":{");
	for (int i = 0; i < LUKS2_KEYSLOTS; i++)
		used += (size_t)sprintf(
			to + used,
			"%s\"%d\":{\"type\":\"luks2\",\"key_size\":64,\"af\":{\"type\":\"luks1\","
			"\"stripes\":4000,\"hash\":\"sha256\"},\"area\":{\"type\":\"raw\","
			"\"offset\":"
			"\"%d\",\"size\":\"258048\",\"encryption\":\"aes-xts-plain64\",\"key_"
			"size\":"
			"64},\"kdf\":{\"type\":\"argon2id\",\"time\":4,\"memory\":1048576,\"cpus\":"
			"4,"
			"\"salt\":\"N/iEI5GJ0nr11Zuh/xDRxfFHjNlxJF0azTdYjHrVxHI=\"}}",
			i > 0 ? "," : "", i, 131072 + i * 258048);
	used += (size_t)sprintf(to + used, "},\"tokens\":{");
	for (int i = 0; i < LUKS2_TOKENS; i++)
		used += (size_t)sprintf(
			to + used,
			"%s\"%d\":{\"type\":\"t\",\"keyslots\":[\"%d\"],\"a\":{\"b\":"
			"[1,2,3,4,5,6,7,8,9]}}",
			i > 0 ? "," : "", i, i);
	used += (size_t)sprintf(to + used, "},\"segments\":{");
	for (int i = 0; i < LUKS2_SEGMENTS; i++)
		used += (size_t)sprintf(to + used,
					"%s\"%d\":{\"type\":\"linear\",\"offset\":\"%d\",\"size\":"
					"\"512\"}",
					i > 0 ? "," : "", i, (32768 + i) * 512);
	used += (size_t)sprintf(to + used, "},\"digests\":{");
	for (int i = 0; i < LUKS2_DIGESTS; i++)
		used += (size_t)sprintf(
			to + used,
			"%s\"%d\":{\"type\":\"pbkdf2\",\"keyslots\":[\"%d\"],\"segments\":[\"%d\"],"
			"\"hash\":\"sha256\",\"iterations\":1000,\"salt\":"
			"\"N/iEI5GJ0nr11Zuh/xDRxfFHjNlxJF0azTdYjHrVxHI=\",\"digest\":"
			"\"N/iEI5GJ0nr11Zuh/xDRxfFHjNlxJF0azTdYjHrVxHI=\"}",
			i > 0 ? "," : "", i, i, i);
	used += (size_t)sprintf(
		to + used,
		"},\"config\":{\"json_size\":\"61440\",\"keyslots_size\":\"16646144\"}}");
	text.length = used;
	EXPECT_TRUE(used < sizeof(text.bytes));
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	EXPECT_TRUE(metadata.keyslots[31].exists);
	EXPECT_TRUE(metadata.tokens[31].exists);
	EXPECT_TRUE(metadata.segments[31].exists);
	EXPECT_TRUE(metadata.digests[7].exists);
}

/* Not a sentence about what comes out, but that whatever comes in does no harm (the sanitizers
 * watch) and that no other failure than these two does. */
TEST(mutated_metadata_fail_cleanly)
{
	for (uint64_t round = 0; round < 20000; round++) {
		uint32_t random[8];
		enum status status;

		test_fill(random, sizeof(random), round);
		luks2_sample_text(&text);
		for (uint32_t i = 0; i <= random[0] % 3; i++) {
			size_t at = random[i + 1] % text.length;
			static const char alphabet[] = "{}[]\",:0129-.eE\\ntu\x01\x80";

			if ((random[i + 4] & 3) == 0)
				text.bytes[at] = (char)random[i + 4];
			else if ((random[i + 4] & 3) == 1)
				text.bytes[at] = alphabet[(random[i + 4] >> 8) % 22];
			else
				memmove(text.bytes + at, text.bytes + at + 1, text.length-- - at);
		}
		status = luks2_metadata_parse(&metadata, &nodes, &text);
		if (status != FAIL_METADATA_SYNTAX && status != FAIL_METADATA_SHAPE)
			EXPECT_OK(status);
	}
}

TEST(every_cut_text_is_refused)
{
	for (size_t length = 0; length < strlen(luks2_sample_json); length++) {
		luks2_sample_text(&text);
		text.length = length;
		text.bytes[length] = '\0';
		EXPECT_STATUS(luks2_metadata_parse(&metadata, &nodes, &text), FAIL_METADATA_SYNTAX);
	}
}
