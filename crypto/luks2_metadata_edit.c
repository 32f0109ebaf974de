#include "crypto/luks2_metadata_edit.h"

#include <stdio.h>
#include <string.h>

#include "crypto/antiforensic.h"
#include "crypto/base64.h"
#include "crypto/luks2_policy.h"

/* A keyslot of ours has about 420 characters. */
#define KEYSLOT_JSON_SIZE 1024
#define NAME_SIZE 32

struct piece {
	char text[LUKS2_EDIT_VALUE_MAX + NAME_SIZE + 8]; /* a member with its quotes and commas */
};

static void name_of(char name[static NAME_SIZE], unsigned number)
{
	snprintf(name, NAME_SIZE, "%u", number);
}

static enum status parse(struct json_document *json, struct luks2_nodes *nodes,
			 const struct luks2_text *text)
{
	if (!json_parse(json, nodes->nodes, ARRAY_COUNT(nodes->nodes), text->bytes, text->length))
		return FAIL_METADATA_SYNTAX;
	return OK;
}

/* The document is void afterwards. */
static enum status splice(struct luks2_text *text, const struct json_document *json,
			  struct json_span span, const char *insert, size_t insert_length)
{
	uint32_t config = json_member(json, JSON_ROOT, "config");
	uint64_t area_size;

	if (!json_u64_string(json, json_member(json, config, "json_size"), &area_size))
		return FAIL_METADATA_SHAPE;
	if (!json_splice(text->bytes, (size_t)MINIMUM(area_size, sizeof(text->bytes)),
			 &text->length, span, insert, insert_length))
		return FAIL_METADATA_FULL;
	return OK;
}

/* Adds an element (name is NULL) or a member behind the last one of a container. */
static enum status append(struct luks2_text *text, const struct json_document *json,
			  uint32_t container, const char *name, const char *value,
			  size_t value_length)
{
	struct json_span span = json_span(json, container);
	const struct json_span end = {span.offset + span.length - 1, 0};
	const char *comma = json_count(json, container) > 0 ? "," : "";
	struct piece piece;
	int length;

	CHECK(value_length <= LUKS2_EDIT_VALUE_MAX);
	length = snprintf(piece.text, sizeof(piece.text), "%s%s%s%s%.*s", comma,
			  name != NULL ? "\"" : "", name != NULL ? name : "",
			  name != NULL ? "\":" : "", (int)value_length, value);
	CHECK(length >= 0 && (size_t)length < sizeof(piece.text));
	return splice(text, json, end, piece.text, (size_t)length);
}

static enum status set_member(struct luks2_text *text, const struct json_document *json,
			      uint32_t object, const char *name, const char *value,
			      size_t value_length)
{
	uint32_t member = json_member(json, object, name);

	if (!json_is(json, object, JSON_OBJECT))
		return FAIL_METADATA_SHAPE;
	if (member == JSON_NONE)
		return append(text, json, object, name, value, value_length);
	return splice(text, json, json_span(json, member), value, value_length);
}

/* Removes an element, or a member by its name, and takes one comma along: the one behind it, or of
 * the last one the one before it. `before` is its neighbour in front, or JSON_NONE. */
static enum status remove_entry(struct luks2_text *text, const struct json_document *json,
				uint32_t container, uint32_t before, uint32_t entry)
{
	/* The value of a member stands behind its name. */
	uint32_t value = json_is(json, container, JSON_OBJECT) ? 1 : 0;
	uint32_t next = json_next(json, container, entry);
	struct json_span span = json_span(json, entry);
	struct json_span last = json_span(json, entry + value);
	uint32_t end = last.offset + last.length;

	if (next != JSON_NONE) {
		end = json_span(json, next).offset;
	} else if (before != JSON_NONE) {
		last = json_span(json, before + value);
		span.offset = last.offset + last.length;
	}
	span.length = end - span.offset;
	return splice(text, json, span, "", 0);
}

/* Of a container that has it the name or element `wanted` goes; `found` tells. */
static enum status remove_from(bool *found, struct luks2_text *text,
			       const struct json_document *json, uint32_t container,
			       const char *wanted)
{
	uint32_t before = JSON_NONE, entry = json_first(json, container);

	while (entry != JSON_NONE && !json_string_equals(json, entry, wanted)) {
		before = entry;
		entry = json_next(json, container, entry);
	}
	*found = entry != JSON_NONE;
	return *found ? remove_entry(text, json, container, before, entry) : OK;
}

static enum status remove_member(struct luks2_text *text, const struct json_document *json,
				 uint32_t object, const char *name)
{
	bool found;

	return remove_from(&found, text, json, object, name);
}

enum status luks2_metadata_edit_create(struct luks2_text *text, uint64_t json_size,
				       uint64_t keyslots_size, uint64_t data_offset,
				       uint32_t sector_size, const struct luks2_digest *digest)
{
	char salt[BASE64_TEXT_SIZE(LUKS2_SALT_SIZE)];
	char value[BASE64_TEXT_SIZE(HASH_SIZE_MAX)];
	struct json_writer json;

	base64_encode(salt, digest->salt, sizeof(digest->salt), BASE64_STANDARD);
	base64_encode(value, digest->value, digest->value_size, BASE64_STANDARD);
	json_writer_init(&json, text->bytes, (size_t)MINIMUM(json_size, sizeof(text->bytes)));
	json_begin_object(&json, NULL);
	json_begin_object(&json, "keyslots");
	json_end_object(&json);
	json_begin_object(&json, "tokens");
	json_end_object(&json);
	json_begin_object(&json, "segments");
	json_begin_object(&json, "0");
	json_write_string(&json, "type", "crypt");
	json_write_u64_string(&json, "offset", data_offset);
	json_write_string(&json, "size", "dynamic");
	json_write_string(&json, "iv_tweak", "0");
	json_write_string(&json, "encryption", "aes-xts-plain64");
	json_write_u64(&json, "sector_size", sector_size);
	json_end_object(&json);
	json_end_object(&json);
	json_begin_object(&json, "digests");
	json_begin_object(&json, "0");
	json_write_string(&json, "type", "pbkdf2");
	json_begin_array(&json, "keyslots");
	json_end_array(&json);
	json_begin_array(&json, "segments");
	json_write_string(&json, NULL, "0");
	json_end_array(&json);
	json_write_string(&json, "hash", hash_name(digest->hash));
	json_write_u64(&json, "iterations", digest->iterations);
	json_write_string(&json, "salt", salt);
	json_write_string(&json, "digest", value);
	json_end_object(&json);
	json_end_object(&json);
	json_begin_object(&json, "config");
	json_write_u64_string(&json, "json_size", json_size);
	json_write_u64_string(&json, "keyslots_size", keyslots_size);
	json_end_object(&json);
	json_end_object(&json);
	if (!json_writer_end(&json))
		return FAIL_METADATA_FULL;
	text->length = json.length;
	return OK;
}

static size_t write_keyslot(char text[static KEYSLOT_JSON_SIZE],
			    const struct luks2_keyslot *keyslot)
{
	char salt[BASE64_TEXT_SIZE(LUKS2_SALT_SIZE)];
	struct json_writer json;

	CHECK(luks2_policy_check_keyslot(keyslot) == OK && keyslot->kdf.kind == LUKS2_KDF_PBKDF2);
	base64_encode(salt, keyslot->kdf.salt, sizeof(keyslot->kdf.salt), BASE64_STANDARD);
	json_writer_init(&json, text, KEYSLOT_JSON_SIZE);
	json_begin_object(&json, NULL);
	json_write_string(&json, "type", "luks2");
	json_write_u64(&json, "key_size", keyslot->key_size);
	if (keyslot->priority != 1)
		json_write_u64(&json, "priority", keyslot->priority);
	json_begin_object(&json, "af");
	json_write_string(&json, "type", "luks1");
	json_write_u64(&json, "stripes", ANTIFORENSIC_STRIPES);
	json_write_string(&json, "hash", hash_name(keyslot->splitter_hash));
	json_end_object(&json);
	json_begin_object(&json, "area");
	json_write_string(&json, "type", "raw");
	json_write_u64_string(&json, "offset", keyslot->area_offset);
	json_write_u64_string(&json, "size", keyslot->area_size);
	json_write_string(&json, "encryption", "aes-xts-plain64");
	json_write_u64(&json, "key_size", keyslot->area_key_size);
	json_end_object(&json);
	json_begin_object(&json, "kdf");
	json_write_string(&json, "type", "pbkdf2");
	json_write_string(&json, "hash", hash_name(keyslot->kdf.hash));
	json_write_u64(&json, "iterations", keyslot->kdf.iterations);
	json_write_string(&json, "salt", salt);
	json_end_object(&json);
	json_end_object(&json);
	CHECK(json_writer_end(&json));
	return json.length;
}

enum status luks2_metadata_edit_add_keyslot(struct luks2_text *text, struct luks2_nodes *nodes,
					    unsigned number, const struct luks2_keyslot *keyslot,
					    unsigned digest)
{
	char name[NAME_SIZE], quoted[NAME_SIZE], digest_name[NAME_SIZE];
	char value[KEYSLOT_JSON_SIZE];
	struct json_document json;
	uint32_t keyslots, references;

	CHECK(number < LUKS2_KEYSLOTS && digest < LUKS2_DIGESTS);
	name_of(name, number);
	name_of(digest_name, digest);
	TRY(parse(&json, nodes, text));
	keyslots = json_member(&json, JSON_ROOT, "keyslots");
	if (!json_is(&json, keyslots, JSON_OBJECT) ||
	    json_member(&json, keyslots, name) != JSON_NONE)
		return FAIL_METADATA_SHAPE;
	TRY(append(text, &json, keyslots, name, value, write_keyslot(value, keyslot)));
	TRY(parse(&json, nodes, text));
	references = json_member(&json, JSON_ROOT, "digests");
	references = json_member(&json, json_member(&json, references, digest_name), "keyslots");
	if (!json_is(&json, references, JSON_ARRAY))
		return FAIL_METADATA_SHAPE;
	snprintf(quoted, sizeof(quoted), "\"%u\"", number);
	return append(text, &json, references, NULL, quoted, strlen(quoted));
}

enum status luks2_metadata_edit_put_token(struct luks2_text *text, struct luks2_nodes *nodes,
					  unsigned number, const char *json, size_t json_length)
{
	struct json_document document;
	char name[NAME_SIZE];

	CHECK(number < LUKS2_TOKENS);
	name_of(name, number);
	TRY(parse(&document, nodes, text));
	return set_member(text, &document, json_member(&document, JSON_ROOT, "tokens"), name, json,
			  json_length);
}

/* One reference at a time: each splice makes the document void. */
static enum status remove_references(struct luks2_text *text, struct luks2_nodes *nodes,
				     const char *section, const char *keyslot)
{
	struct json_document json;
	bool found = true;

	while (found) {
		uint32_t objects;

		TRY(parse(&json, nodes, text));
		objects = json_member(&json, JSON_ROOT, section);
		found = false;
		for (uint32_t name = json_first(&json, objects); name != JSON_NONE;
		     name = json_next(&json, objects, name)) {
			uint32_t array = json_member(&json, name + 1, "keyslots");

			TRY(remove_from(&found, text, &json, array, keyslot));
			if (found)
				break;
		}
	}
	return OK;
}

enum status luks2_metadata_edit_remove_keyslot(struct luks2_text *text, struct luks2_nodes *nodes,
					       unsigned number)
{
	struct json_document json;
	char name[NAME_SIZE];

	CHECK(number < LUKS2_KEYSLOTS);
	name_of(name, number);
	TRY(remove_references(text, nodes, "tokens", name));
	TRY(remove_references(text, nodes, "digests", name));
	TRY(parse(&json, nodes, text));
	return remove_member(text, &json, json_member(&json, JSON_ROOT, "keyslots"), name);
}

enum status luks2_metadata_edit_remove_token(struct luks2_text *text, struct luks2_nodes *nodes,
					     unsigned number)
{
	struct json_document json;
	char name[NAME_SIZE];

	CHECK(number < LUKS2_TOKENS);
	name_of(name, number);
	TRY(parse(&json, nodes, text));
	return remove_member(text, &json, json_member(&json, JSON_ROOT, "tokens"), name);
}

enum status luks2_metadata_edit_set_token_member(struct luks2_text *text, struct luks2_nodes *nodes,
						 unsigned number, const char *name,
						 const char *json, size_t json_length)
{
	struct json_document document;
	char token_name[NAME_SIZE];
	uint32_t token;

	CHECK(number < LUKS2_TOKENS);
	name_of(token_name, number);
	TRY(parse(&document, nodes, text));
	token = json_member(&document, json_member(&document, JSON_ROOT, "tokens"), token_name);
	if (!json_is(&document, token, JSON_OBJECT))
		return FAIL_METADATA_SHAPE;
	if (json == NULL)
		return remove_member(text, &document, token, name);
	return set_member(text, &document, token, name, json, json_length);
}
