#include "app/vault/vault_token.h"

#include <string.h>

#include "crypto/luks2_metadata_edit.h"
#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

static struct luks2_text text;
static struct luks2_nodes nodes;
static struct luks2_metadata metadata;

static const struct vault_token sample = {
	.keyslot = 1,
	.current = {"https://a.vault.azure.net/keys/k/2", "RSA-OAEP-256", "bmV3"},
	.previous = {"https://a.vault.azure.net/keys/k/1", "RSA-OAEP-256", "b2xk"},
	.identity = "11111111-2222-3333-4444-555555555555",
	.created = "2026-01-02T03:04:05Z",
};

static const char sample_json[] =
	"{\"type\":\"byok-akv\",\"keyslots\":[\"1\"],\"kid\":\"https://a.vault.azure.net/keys/k/"
	"2\","
	"\"alg\":\"RSA-OAEP-256\",\"wrapped\":\"bmV3\",\"identity\":"
	"\"11111111-2222-3333-4444-555555555555\",\"created\":\"2026-01-02T03:04:05Z\","
	"\"previous\":{\"kid\":\"https://a.vault.azure.net/keys/k/1\",\"alg\":\"RSA-OAEP-256\","
	"\"wrapped\":\"b2xk\"}}";

static void put_token(unsigned number, const char *json)
{
	EXPECT_OK(luks2_metadata_edit_put_token(&text, &nodes, number, json, strlen(json)));
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
}

static enum status find(struct vault_token *token)
{
	unsigned number;

	return vault_token_find(token, &number, &metadata, &text, &nodes);
}

TEST(a_token_is_written_and_read_back)
{
	char json[VAULT_TOKEN_JSON_SIZE];
	struct vault_token token;
	unsigned number;
	size_t length;

	EXPECT_OK(vault_token_encode(json, &length, &sample));
	EXPECT_TEXT(json, sample_json);
	EXPECT_EQUAL(length, strlen(sample_json));
	luks2_sample_text(&text);
	put_token(4, json);
	EXPECT_OK(vault_token_find(&token, &number, &metadata, &text, &nodes));
	EXPECT_EQUAL(number, 4);
	EXPECT_EQUAL(token.keyslot, 1);
	EXPECT_TEXT(token.current.kid, sample.current.kid);
	EXPECT_TEXT(token.current.wrapped, sample.current.wrapped);
	EXPECT_TEXT(token.previous.kid, sample.previous.kid);
	EXPECT_TEXT(token.previous.wrapped, sample.previous.wrapped);
	EXPECT_TEXT(token.identity, sample.identity);
	EXPECT_TEXT(token.created, sample.created);
}

TEST(a_disk_of_cryptsetup_has_none)
{
	struct vault_token token;

	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	EXPECT_STATUS(find(&token), FAIL_NO_VAULT_TOKEN);
}

/* The sample token with `from` replaced. */
static enum status find_with(const char *from, const char *to)
{
	char json[VAULT_TOKEN_JSON_SIZE];
	size_t length = strlen(sample_json);
	const char *place = strstr(sample_json, from);
	struct vault_token token;

	EXPECT_TRUE(place != NULL);
	memcpy(json, sample_json, length + 1);
	EXPECT_TRUE(json_splice(
		json, sizeof(json), &length,
		(struct json_span){(uint32_t)(place - sample_json), (uint32_t)strlen(from)}, to,
		strlen(to)));
	luks2_sample_text(&text);
	put_token(4, json);
	return find(&token);
}

TEST(a_malformed_token_is_a_failure_of_its_own)
{
	char long_kid[300];

	EXPECT_OK(find_with("", ""));
	EXPECT_STATUS(find_with("[\"1\"]", "[]"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("[\"1\"]", "[\"0\",\"1\"]"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("\"kid\":", "\"kids\":"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("\"bmV3\"", "\"\""), FAIL_TOKEN);
	EXPECT_STATUS(find_with("\"bmV3\"", "7"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("\"RSA-OAEP-256\"", "\"a-name-that-is-longer-than-31-characters\""),
		      FAIL_TOKEN);
	EXPECT_STATUS(find_with("keys/k/2", "keys/k 2"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("keys/k/2", "keys/k\\n2"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("keys/k/2", "keys/k\\u00002"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("keys/k/2", "keys/k\303\2742"), FAIL_TOKEN);
	EXPECT_STATUS(find_with("\"previous\":{\"kid\"", "\"previous\":{\"kit\""), FAIL_TOKEN);
	EXPECT_STATUS(find_with("\"identity\":", "\"identities\":"), FAIL_TOKEN);
	memset(long_kid, 'x', sizeof(long_kid));
	long_kid[256] = '\0';
	EXPECT_STATUS(find_with("https://a.vault.azure.net/keys/k/2", long_kid), FAIL_TOKEN);
	long_kid[255] = '\0';
	EXPECT_OK(find_with("https://a.vault.azure.net/keys/k/2", long_kid));
}

TEST(the_lowest_number_counts)
{
	struct vault_token token;

	luks2_sample_text(&text);
	put_token(9, sample_json);
	put_token(2, "{\"type\":\"byok-akv\",\"keyslots\":[\"0\"],\"kid\":\"k\",\"alg\":\"a\","
		     "\"wrapped\":\"w\",\"identity\":\"\",\"created\":\"\"}");
	EXPECT_OK(find(&token));
	EXPECT_TEXT(token.current.kid, "k");
	EXPECT_TEXT(token.previous.kid, "");
}

TEST(an_edit_changes_its_own_members_only)
{
	struct vault_token changed = sample;
	static const char with_foreign[] =
		"{ \"type\":\"byok-akv\", \"x\":[1, 2], \"keyslots\":[\"1\"],\"kid\":\"k\","
		"\"alg\":\"a\",\"wrapped\":\"w\",\"identity\":\"i\",\"created\":\"c\",\"z\":{} }";

	luks2_sample_text(&text);
	put_token(0, with_foreign);
	EXPECT_OK(vault_token_edit(&text, &nodes, 0, &sample));
	EXPECT_TEXT_CONTAINS(text.bytes,
			     "{ \"type\":\"byok-akv\", \"x\":[1, 2], \"keyslots\":[\"1\"],\"kid\":"
			     "\"https://a.vault.azure.net/keys/k/"
			     "2\",\"alg\":\"RSA-OAEP-256\",\"wrapped\":\"bmV3\","
			     "\"identity\":\"11111111-2222-3333-4444-555555555555\",\"created\":"
			     "\"2026-01-02T03:04:05Z\",\"z\":{} ,\"previous\":{");
	changed.previous = (struct vault_wrapping){0};
	EXPECT_OK(vault_token_edit(&text, &nodes, 0, &changed));
	EXPECT_TRUE(strstr(text.bytes, "previous") == NULL);
	EXPECT_TEXT_CONTAINS(text.bytes, "\"z\":{}");
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
}

TEST(what_would_not_be_read_back_is_not_written)
{
	char json[VAULT_TOKEN_JSON_SIZE];
	struct vault_token token = sample;
	size_t length;

	strcpy(token.identity, "a b");
	EXPECT_STATUS(vault_token_encode(json, &length, &token), FAIL_TOKEN);
	token = sample;
	token.current.wrapped[0] = '\0';
	EXPECT_STATUS(vault_token_encode(json, &length, &token), FAIL_TOKEN);
	token = sample;
	token.keyslot = LUKS2_KEYSLOTS;
	EXPECT_STATUS(vault_token_encode(json, &length, &token), FAIL_TOKEN);
}

TEST(the_largest_token_fits)
{
	char json[VAULT_TOKEN_JSON_SIZE];
	struct vault_token token = {.keyslot = 31};
	size_t length;

	memset(token.current.kid, 'k', sizeof(token.current.kid) - 1);
	memset(token.current.algorithm, 'a', sizeof(token.current.algorithm) - 1);
	memset(token.current.wrapped, 'w', sizeof(token.current.wrapped) - 1);
	memset(token.identity, 'i', sizeof(token.identity) - 1);
	memset(token.created, 'c', sizeof(token.created) - 1);
	token.previous = token.current;
	EXPECT_OK(vault_token_encode(json, &length, &token));
}
