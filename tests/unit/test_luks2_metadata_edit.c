#include "crypto/luks2_metadata_edit.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

static struct luks2_text text, expected;
static struct luks2_nodes nodes;
static struct luks2_metadata metadata;

static const struct luks2_keyslot keyslot = {
	.exists = true,
	.kind = LUKS2_KEYSLOT_LUKS2,
	.key_size = 64,
	.priority = 1,
	.area_offset = 548864,
	.area_size = 258048,
	.area_cipher = LUKS2_CIPHER_AES_XTS_PLAIN64,
	.area_key_size = 64,
	.splitter_hash = HASH_SHA256,
	.kdf = {.kind = LUKS2_KDF_PBKDF2,
		.hash = HASH_SHA256,
		.iterations = 1000,
		.salt = {1, 2, 3}},
};

TEST(a_new_volume_says_what_it_was_made_of)
{
	struct luks2_digest digest = {.exists = true,
				      .is_pbkdf2 = true,
				      .hash = HASH_SHA256,
				      .iterations = 1000,
				      .salt = {7},
				      .value = {8},
				      .value_size = 32};

	EXPECT_OK(luks2_metadata_edit_create(&text, 61440, 16646144, 16777216, 512, &digest));
	EXPECT_EQUAL(text.length, strlen(text.bytes));
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	EXPECT_EQUAL(metadata.json_size, 61440);
	EXPECT_EQUAL(metadata.keyslots_size, 16646144);
	EXPECT_EQUAL(metadata.segments[0].offset, 16777216);
	EXPECT_EQUAL(metadata.segments[0].sector_size, 512);
	EXPECT_EQUAL(metadata.segments[0].cipher, LUKS2_CIPHER_AES_XTS_PLAIN64);
	EXPECT_EQUAL(metadata.digests[0].segments, 1);
	EXPECT_EQUAL(metadata.digests[0].keyslots, 0);
	EXPECT_BYTES(metadata.digests[0].salt, digest.salt, sizeof(digest.salt));
	EXPECT_BYTES(metadata.digests[0].value, digest.value, 32);
}

TEST(an_added_keyslot_is_read_back_and_nothing_else_changes)
{
	static const char added[] =
		",\"3\":{\"type\":\"luks2\",\"key_size\":64,\"af\":{\"type\":\"luks1\",\"stripes\":"
		"4000,\"hash\":\"sha256\"},\"area\":{\"type\":\"raw\",\"offset\":\"548864\","
		"\"size\":"
		"\"258048\",\"encryption\":\"aes-xts-plain64\",\"key_size\":64},\"kdf\":{\"type\":"
		"\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":1000,\"salt\":"
		"\"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}}";
	char *place;

	luks2_sample_text_with(&expected, "\"keyslots\":[\"0\",\"1\"]",
			       "\"keyslots\":[\"0\",\"1\",\"3\"]");
	place = strstr(expected.bytes, "},\"tokens\"");
	memmove(place + strlen(added), place, strlen(place) + 1);
	memcpy(place, added, strlen(added));
	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_edit_add_keyslot(&text, &nodes, 3, &keyslot, 0));
	EXPECT_TEXT(text.bytes, expected.bytes);
	EXPECT_EQUAL(text.length, strlen(text.bytes));
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	EXPECT_EQUAL(metadata.keyslots[3].area_offset, 548864);
	EXPECT_EQUAL(metadata.keyslots[3].kdf.iterations, 1000);
	EXPECT_BYTES(metadata.keyslots[3].kdf.salt, keyslot.kdf.salt, LUKS2_SALT_SIZE);
	EXPECT_EQUAL(metadata.digests[0].keyslots, 11);
}

TEST(a_keyslot_is_not_put_over_another_or_into_no_digest)
{
	luks2_sample_text(&text);
	EXPECT_STATUS(luks2_metadata_edit_add_keyslot(&text, &nodes, 1, &keyslot, 0),
		      FAIL_METADATA_SHAPE);
	EXPECT_STATUS(luks2_metadata_edit_add_keyslot(&text, &nodes, 2, &keyslot, 1),
		      FAIL_METADATA_SHAPE);
}

TEST(a_token_is_added_and_replaced_in_its_place)
{
	static const char one[] = "{\"type\":\"t\",\"keyslots\":[]}";

	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_edit_put_token(&text, &nodes, 7, one, strlen(one)));
	luks2_sample_text_with(&expected, "},\"segments\"",
			       ",\"7\":{\"type\":\"t\",\"keyslots\":[]}},\"segments\"");
	EXPECT_TEXT(text.bytes, expected.bytes);
	EXPECT_OK(luks2_metadata_edit_put_token(&text, &nodes, 7, "{\"a\":1}", 7));
	luks2_sample_text_with(&expected, "},\"segments\"", ",\"7\":{\"a\":1}},\"segments\"");
	EXPECT_TEXT(text.bytes, expected.bytes);
}

TEST(the_first_token_needs_no_comma)
{
	luks2_sample_text_with(&text,
			       "{\"0\":{\"type\":\"somebody-else\",\"keyslots\":[\"1\"],\"deep\":{"
			       "\"list\":[1,2.5e3,"
			       "null,true,\"\303\251/\"],\"name\":\"\303\274n\303\257\"},\"url\":"
			       "\"https://example.org/a/b\"}}",
			       "{ }");
	EXPECT_OK(luks2_metadata_edit_put_token(&text, &nodes, 0,
						"{\"type\":\"t\",\"keyslots\":[]}", 26));
	EXPECT_TEXT_CONTAINS(text.bytes,
			     "\"tokens\":{ \"0\":{\"type\":\"t\",\"keyslots\":[]}},\"segments\"");
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
}

static void expect_token_after(const char *name, const char *json, const char *from, const char *to)
{
	luks2_sample_text(&text);
	luks2_sample_text_with(&expected, from, to);
	EXPECT_OK(luks2_metadata_edit_set_token_member(&text, &nodes, 0, name, json,
						       json != NULL ? strlen(json) : 0));
	EXPECT_TEXT(text.bytes, expected.bytes);
	EXPECT_EQUAL(text.length, strlen(text.bytes));
}

TEST(members_of_a_token_are_set_and_removed_one_by_one)
{
	expect_token_after("url", "\"x\"", "\"https://example.org/a/b\"", "\"x\"");
	expect_token_after(
		"deep", "0",
		"{\"list\":[1,2.5e3,null,true,\"\303\251/\"],\"name\":\"\303\274n\303\257\"}", "0");
	expect_token_after("new", "{\"a\":[]}", "a/b\"}", "a/b\",\"new\":{\"a\":[]}}");
	expect_token_after("url", NULL, ",\"url\":\"https://example.org/a/b\"", "");
	expect_token_after("type", NULL, "\"type\":\"somebody-else\",", "");
	expect_token_after("keyslots", NULL, "\"keyslots\":[\"1\"],\"deep\"", "\"deep\"");
	expect_token_after("absent", NULL, "", "");
}

TEST(the_only_member_is_removed_too)
{
	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_edit_put_token(&text, &nodes, 3, "{ \"a\" : 1 }", 11));
	EXPECT_OK(luks2_metadata_edit_set_token_member(&text, &nodes, 3, "a", NULL, 0));
	EXPECT_TEXT_CONTAINS(text.bytes, "\"3\":{  }");
	EXPECT_STATUS(luks2_metadata_edit_set_token_member(&text, &nodes, 4, "a", NULL, 0),
		      FAIL_METADATA_SHAPE);
}

TEST(a_removed_keyslot_is_named_nowhere_and_all_else_stays)
{
	char *begin, *end;

	luks2_sample_text_with(&expected, "\"keyslots\":[\"0\",\"1\"]", "\"keyslots\":[\"0\"]");
	begin = strstr(expected.bytes, ",\"1\":{\"type\":\"luks2\"");
	end = strstr(expected.bytes, "},\"tokens\"");
	memmove(begin, end, strlen(end) + 1);
	begin = strstr(expected.bytes, "[\"1\"],\"deep\"");
	memmove(begin + 1, begin + 4, strlen(begin + 4) + 1);
	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_edit_remove_keyslot(&text, &nodes, 1));
	EXPECT_TEXT(text.bytes, expected.bytes);
	EXPECT_EQUAL(text.length, strlen(text.bytes));
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_edit_remove_keyslot(&text, &nodes, 0));
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	EXPECT_EQUAL(metadata.digests[0].keyslots, 2);
	EXPECT_EQUAL(metadata.tokens[0].keyslots, 2);
	EXPECT_TRUE(metadata.keyslots[1].exists && !metadata.keyslots[0].exists);
}

TEST(a_removed_token_is_gone_and_one_that_is_not_there_does_no_harm)
{
	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_edit_remove_token(&text, &nodes, 0));
	EXPECT_TEXT_CONTAINS(text.bytes, ",\"tokens\":{},\"segments\"");
	expected = text;
	EXPECT_OK(luks2_metadata_edit_remove_token(&text, &nodes, 5));
	EXPECT_TEXT(text.bytes, expected.bytes);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
}

TEST(the_area_of_the_volume_is_never_exceeded)
{
	static char large[4096];
	enum status status = OK;
	unsigned count = 0;

	luks2_sample_text(&text);
	memset(large, 'x', sizeof(large));
	memcpy(large, "{\"a\":\"", 6);
	memcpy(large + sizeof(large) - 2, "\"}", 2);
	while (status == OK && count < LUKS2_TOKENS) {
		status = luks2_metadata_edit_put_token(&text, &nodes, 1 + count, large,
						       sizeof(large));
		count += status == OK;
	}
	/* 12288 bytes with a NUL, of which the sample takes about 1230. */
	EXPECT_STATUS(status, FAIL_METADATA_FULL);
	EXPECT_EQUAL(count, 2);
	EXPECT_TRUE(text.length < 12288);
	EXPECT_EQUAL(text.length, strlen(text.bytes));
}
