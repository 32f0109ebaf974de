#include "app/vault/vault_token.h"

#include <stdio.h>
#include <string.h>

#include "crypto/luks2_metadata_edit.h"

_Static_assert(VAULT_TOKEN_JSON_SIZE <= LUKS2_EDIT_VALUE_MAX, "an edit must take a whole token");

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text <= 0x20 || *text >= 0x7f || *text == '"' || *text == '\\')
			return false;
	return true;
}

/* Printable without blanks, quotes and backslashes: every value of ours is, and stays as it is in
 * JSON, a log line or a report. */
static bool read_text(char *target, size_t target_size, const struct json_document *json,
		      uint32_t object, const char *name)
{
	return json_string_copy(json, json_member(json, object, name), target, target_size) &&
	       is_printable(target);
}

static bool read_wrapping(struct vault_wrapping *wrapping, const struct json_document *json,
			  uint32_t object)
{
	return read_text(wrapping->kid, sizeof(wrapping->kid), json, object, "kid") &&
	       read_text(wrapping->algorithm, sizeof(wrapping->algorithm), json, object, "alg") &&
	       read_text(wrapping->wrapped, sizeof(wrapping->wrapped), json, object, "wrapped") &&
	       wrapping->kid[0] != '\0' && wrapping->algorithm[0] != '\0' &&
	       wrapping->wrapped[0] != '\0';
}

static bool read_token(struct vault_token *token, const struct json_document *json)
{
	uint32_t previous = json_member(json, JSON_ROOT, "previous");

	if (!read_wrapping(&token->current, json, JSON_ROOT) ||
	    !read_text(token->identity, sizeof(token->identity), json, JSON_ROOT, "identity") ||
	    !read_text(token->created, sizeof(token->created), json, JSON_ROOT, "created"))
		return false;
	return previous == JSON_NONE || read_wrapping(&token->previous, json, previous);
}

enum status vault_token_find(struct vault_token *token, unsigned *number,
			     const struct luks2_metadata *metadata, const struct luks2_text *text,
			     struct luks2_nodes *nodes)
{
	struct vault_token found = {0};
	const struct luks2_token *raw;
	struct json_document json;
	unsigned i = 0;

	while (i < LUKS2_TOKENS && (!metadata->tokens[i].exists ||
				    strcmp(metadata->tokens[i].type, VAULT_TOKEN_TYPE) != 0))
		i++;
	if (i == LUKS2_TOKENS)
		return FAIL_NO_VAULT_TOKEN;
	raw = &metadata->tokens[i];
	CHECK((size_t)raw->span.offset + raw->span.length <= text->length);
	if (!json_parse(&json, nodes->nodes, ARRAY_COUNT(nodes->nodes),
			text->bytes + raw->span.offset, raw->span.length) ||
	    __builtin_popcount(raw->keyslots) != 1 || !read_token(&found, &json))
		return FAIL_TOKEN;
	found.keyslot = (unsigned)__builtin_ctz(raw->keyslots);
	*token = found;
	*number = i;
	return OK;
}

static bool wrapping_is_writable(const struct vault_wrapping *wrapping)
{
	return wrapping->kid[0] != '\0' && wrapping->algorithm[0] != '\0' &&
	       wrapping->wrapped[0] != '\0' && is_printable(wrapping->kid) &&
	       is_printable(wrapping->algorithm) && is_printable(wrapping->wrapped);
}

static bool token_is_writable(const struct vault_token *token)
{
	return token->keyslot < LUKS2_KEYSLOTS && wrapping_is_writable(&token->current) &&
	       (token->previous.kid[0] == '\0' || wrapping_is_writable(&token->previous)) &&
	       is_printable(token->identity) && is_printable(token->created);
}

static void write_wrapping(struct json_writer *json, const struct vault_wrapping *wrapping)
{
	json_write_string(json, "kid", wrapping->kid);
	json_write_string(json, "alg", wrapping->algorithm);
	json_write_string(json, "wrapped", wrapping->wrapped);
}

enum status vault_token_encode(char json[static VAULT_TOKEN_JSON_SIZE], size_t *length,
			       const struct vault_token *token)
{
	struct json_writer writer;
	char keyslot[16];

	if (!token_is_writable(token))
		return FAIL_TOKEN;
	snprintf(keyslot, sizeof(keyslot), "%u", token->keyslot);
	json_writer_init(&writer, json, VAULT_TOKEN_JSON_SIZE);
	json_begin_object(&writer, NULL);
	json_write_string(&writer, "type", VAULT_TOKEN_TYPE);
	json_begin_array(&writer, "keyslots");
	json_write_string(&writer, NULL, keyslot);
	json_end_array(&writer);
	write_wrapping(&writer, &token->current);
	json_write_string(&writer, "identity", token->identity);
	json_write_string(&writer, "created", token->created);
	if (token->previous.kid[0] != '\0') {
		json_begin_object(&writer, "previous");
		write_wrapping(&writer, &token->previous);
		json_end_object(&writer);
	}
	json_end_object(&writer);
	CHECK(json_writer_end(&writer));
	*length = writer.length;
	return OK;
}

/* Sets every member that vault_token_encode writes to what it wrote. */
enum status vault_token_edit(struct luks2_text *text, struct luks2_nodes *nodes, unsigned number,
			     const struct vault_token *token)
{
	static const char *const names[] = {"keyslots", "kid",     "alg",     "wrapped",
					    "identity", "created", "previous"};
	struct json_node own_nodes[64];
	char encoded[VAULT_TOKEN_JSON_SIZE];
	struct json_document json;
	size_t length;

	TRY(vault_token_encode(encoded, &length, token));
	CHECK(json_parse(&json, own_nodes, ARRAY_COUNT(own_nodes), encoded, length));
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		uint32_t member = json_member(&json, JSON_ROOT, names[i]);
		struct json_span span = {0};

		if (member != JSON_NONE)
			span = json_span(&json, member);
		TRY(luks2_metadata_edit_set_token_member(
			text, nodes, number, names[i],
			member == JSON_NONE ? NULL : encoded + span.offset, span.length));
	}
	return OK;
}
