#include "crypto/luks2_metadata.h"

#include <string.h>

#include "crypto/base64.h"

/* "aes-xts-plain64" and the like; longer ones are none that byok knows. */
#define CIPHER_NAME_SIZE 64

enum status luks2_metadata_text(struct luks2_text *text, const uint8_t *area, size_t area_size)
{
	const uint8_t *end = memchr(area, '\0', area_size);
	size_t length;

	if (end == NULL || area[0] != '{')
		return FAIL_METADATA_SYNTAX;
	length = (size_t)(end - area);
	for (size_t i = length; i < area_size; i++)
		if (area[i] != 0)
			return FAIL_METADATA_SYNTAX;
	if (length >= sizeof(text->bytes))
		return FAIL_METADATA_TOO_LARGE;
	memcpy(text->bytes, area, length);
	text->bytes[length] = '\0';
	text->length = length;
	return OK;
}

static bool get_u32(const struct json_document *json, uint32_t object, const char *name,
		    uint32_t *value)
{
	uint64_t wide;

	if (!json_u64(json, json_member(json, object, name), &wide) || wide > UINT32_MAX)
		return false;
	*value = (uint32_t)wide;
	return true;
}

static bool get_u64(const struct json_document *json, uint32_t object, const char *name,
		    uint64_t *value)
{
	return json_u64_string(json, json_member(json, object, name), value);
}

static bool has_string(const struct json_document *json, uint32_t object, const char *name)
{
	return json_is(json, json_member(json, object, name), JSON_STRING);
}

static bool has_value(const struct json_document *json, uint32_t object, const char *name,
		      const char *value)
{
	return json_string_equals(json, json_member(json, object, name), value);
}

/* Only as it stands in the text: base64, cipher and hash names never need an escape. */
static bool get_base64(const struct json_document *json, uint32_t object, const char *name,
		       uint8_t *bytes, size_t capacity, size_t *size)
{
	uint32_t node = json_member(json, object, name);

	return json_is(json, node, JSON_STRING) &&
	       base64_decode(bytes, size, capacity, json->text + json->nodes[node].start,
			     json->nodes[node].end - json->nodes[node].start, BASE64_STANDARD);
}

static bool get_salt(const struct json_document *json, uint32_t object,
		     uint8_t salt[static LUKS2_SALT_SIZE])
{
	size_t size;

	return get_base64(json, object, "salt", salt, LUKS2_SALT_SIZE, &size) &&
	       size == LUKS2_SALT_SIZE;
}

/* False only if there is no such string; a hash that byok does not know is not `known`. */
static bool get_hash(const struct json_document *json, uint32_t object, enum hash_kind *hash,
		     bool *known)
{
	uint32_t node = json_member(json, object, "hash");

	if (!json_is(json, node, JSON_STRING))
		return false;
	*known = hash_from_name(hash, json->text + json->nodes[node].start,
				json->nodes[node].end - json->nodes[node].start);
	return true;
}

static bool get_cipher(const struct json_document *json, uint32_t object, enum luks2_cipher *cipher)
{
	uint32_t node = json_member(json, object, "encryption");
	char name[CIPHER_NAME_SIZE];

	if (!json_is(json, node, JSON_STRING))
		return false;
	if (!json_string_copy(json, node, name, sizeof(name)))
		*cipher = LUKS2_CIPHER_OTHER;
	else if (strcmp(name, "aes-xts-plain64") == 0)
		*cipher = LUKS2_CIPHER_AES_XTS_PLAIN64;
	else if (strstr(name, "null") != NULL)
		*cipher = LUKS2_CIPHER_NULL;
	else
		*cipher = LUKS2_CIPHER_OTHER;
	return true;
}

/* Walks one of the five objects, whose members are named by decimal numbers below `limit`. */
struct numbered {
	const struct json_document *json;
	uint32_t object;
	uint32_t name; /* the member's name; JSON_NONE at the end */
	unsigned limit;
	unsigned number;
	uint32_t value;
};

static bool numbered_read(struct numbered *walk, bool *is_end)
{
	uint64_t number;

	*is_end = walk->name == JSON_NONE;
	if (*is_end)
		return true;
	walk->value = walk->name + 1;
	if (!json_u64_string(walk->json, walk->name, &number) || number >= walk->limit ||
	    !json_is(walk->json, walk->value, JSON_OBJECT))
		return false;
	walk->number = (unsigned)number;
	walk->name = json_next(walk->json, walk->object, walk->name);
	return true;
}

static bool numbered_begin(struct numbered *walk, const struct json_document *json,
			   const char *object, unsigned limit)
{
	uint32_t node = json_member(json, JSON_ROOT, object);

	*walk = (struct numbered){.json = json, .object = node, .limit = limit};
	if (!json_is(json, node, JSON_OBJECT))
		return false;
	walk->name = json_first(json, node);
	return true;
}

/* An array of names of existing objects, as a mask; each may stand in it once. */
static bool get_references(const struct json_document *json, uint32_t object, const char *name,
			   uint32_t existing, uint32_t *mask)
{
	uint32_t array = json_member(json, object, name);

	if (!json_is(json, array, JSON_ARRAY))
		return false;
	*mask = 0;
	for (uint32_t n = json_first(json, array); n != JSON_NONE; n = json_next(json, array, n)) {
		uint64_t number;

		if (!json_u64_string(json, n, &number) || number >= 32)
			return false;
		if ((existing >> number & 1) == 0 || (*mask >> number & 1) != 0)
			return false;
		*mask |= UINT32_C(1) << number;
	}
	return true;
}

static bool parse_kdf(struct luks2_kdf *kdf, const struct json_document *json, uint32_t node)
{
	bool is_argon2i = has_value(json, node, "type", "argon2i");
	bool hash_known;

	if (!has_string(json, node, "type") || !get_salt(json, node, kdf->salt))
		return false;
	if (has_value(json, node, "type", "pbkdf2")) {
		if (!get_hash(json, node, &kdf->hash, &hash_known) ||
		    !get_u32(json, node, "iterations", &kdf->iterations) || kdf->iterations == 0)
			return false;
		kdf->kind = hash_known ? LUKS2_KDF_PBKDF2 : LUKS2_KDF_OTHER;
		return true;
	}
	if (!is_argon2i && !has_value(json, node, "type", "argon2id"))
		return true; /* LUKS2_KDF_OTHER */
	kdf->kind = is_argon2i ? LUKS2_KDF_ARGON2I : LUKS2_KDF_ARGON2ID;
	return get_u32(json, node, "time", &kdf->time) && kdf->time > 0 &&
	       get_u32(json, node, "memory", &kdf->memory_kib) && kdf->memory_kib > 0 &&
	       get_u32(json, node, "cpus", &kdf->cpus) && kdf->cpus > 0;
}

static bool parse_luks2_keyslot(struct luks2_keyslot *keyslot, const struct json_document *json,
				uint32_t node, uint32_t area)
{
	uint32_t splitter = json_member(json, node, "af");
	bool hash_known;

	if (!has_value(json, area, "type", "raw") ||
	    !get_cipher(json, area, &keyslot->area_cipher) ||
	    !get_u32(json, area, "key_size", &keyslot->area_key_size) || keyslot->key_size == 0 ||
	    !has_string(json, splitter, "type") ||
	    !get_hash(json, splitter, &keyslot->splitter_hash, &hash_known) ||
	    !parse_kdf(&keyslot->kdf, json, json_member(json, node, "kdf")))
		return false;
	if (hash_known && has_value(json, splitter, "type", "luks1"))
		keyslot->kind = LUKS2_KEYSLOT_LUKS2;
	return true;
}

static bool parse_keyslot(struct luks2_keyslot *keyslot, const struct json_document *json,
			  uint32_t node)
{
	uint32_t area = json_member(json, node, "area");

	keyslot->exists = true;
	keyslot->priority = 1;
	if (!has_string(json, node, "type") ||
	    !get_u32(json, node, "key_size", &keyslot->key_size) ||
	    !has_string(json, area, "type") ||
	    !get_u64(json, area, "offset", &keyslot->area_offset) ||
	    !get_u64(json, area, "size", &keyslot->area_size))
		return false;
	if (json_member(json, node, "priority") != JSON_NONE &&
	    (!get_u32(json, node, "priority", &keyslot->priority) || keyslot->priority > 2))
		return false;
	if (has_value(json, node, "type", "luks2"))
		return parse_luks2_keyslot(keyslot, json, node, area);
	if (has_value(json, node, "type", "reencrypt"))
		keyslot->kind = LUKS2_KEYSLOT_REENCRYPT;
	return true;
}

static bool parse_keyslots(struct luks2_metadata *metadata, const struct json_document *json,
			   uint32_t *existing)
{
	struct numbered walk;
	bool is_end;

	if (!numbered_begin(&walk, json, "keyslots", LUKS2_KEYSLOTS))
		return false;
	while (numbered_read(&walk, &is_end)) {
		if (is_end)
			return true;
		if (!parse_keyslot(&metadata->keyslots[walk.number], json, walk.value))
			return false;
		*existing |= UINT32_C(1) << walk.number;
	}
	return false;
}

static bool parse_tokens(struct luks2_metadata *metadata, const struct json_document *json,
			 uint32_t keyslots)
{
	struct numbered walk;
	bool is_end;

	if (!numbered_begin(&walk, json, "tokens", LUKS2_TOKENS))
		return false;
	while (numbered_read(&walk, &is_end)) {
		struct luks2_token *token = &metadata->tokens[is_end ? 0 : walk.number];

		if (is_end)
			return true;
		token->exists = true;
		token->span = json_span(json, walk.value);
		if (!has_string(json, walk.value, "type") ||
		    !get_references(json, walk.value, "keyslots", keyslots, &token->keyslots))
			return false;
		/* A longer type is a foreign one, and may as well have no name. */
		if (!json_string_copy(json, json_member(json, walk.value, "type"), token->type,
				      sizeof(token->type)))
			token->type[0] = '\0';
	}
	return false;
}

static bool parse_segment_flags(struct luks2_segment *segment, const struct json_document *json,
				uint32_t node)
{
	uint32_t flags = json_member(json, node, "flags");

	if (flags == JSON_NONE)
		return true;
	if (!json_is(json, flags, JSON_ARRAY))
		return false;
	for (uint32_t n = json_first(json, flags); n != JSON_NONE; n = json_next(json, flags, n)) {
		char flag[LUKS2_FLAG_SIZE];

		if (!json_is(json, n, JSON_STRING))
			return false;
		if (json_string_copy(json, n, flag, sizeof(flag)) &&
		    strncmp(flag, "backup-", strlen("backup-")) == 0)
			segment->is_backup = true;
	}
	return true;
}

static bool parse_segment(struct luks2_segment *segment, const struct json_document *json,
			  uint32_t node)
{
	segment->exists = true;
	segment->is_dynamic = has_value(json, node, "size", "dynamic");
	segment->is_crypt = has_value(json, node, "type", "crypt");
	if (!has_string(json, node, "type") || !get_u64(json, node, "offset", &segment->offset) ||
	    segment->offset % 512 != 0 || !parse_segment_flags(segment, json, node))
		return false;
	if (!segment->is_dynamic && (!get_u64(json, node, "size", &segment->size) ||
				     segment->size == 0 || segment->size % 512 != 0))
		return false;
	if (!segment->is_crypt)
		return true;
	segment->has_integrity = json_member(json, node, "integrity") != JSON_NONE;
	return get_u64(json, node, "iv_tweak", &segment->iv_tweak) &&
	       get_cipher(json, node, &segment->cipher) &&
	       get_u32(json, node, "sector_size", &segment->sector_size) &&
	       segment->sector_size > 0 && segment->sector_size % 512 == 0 &&
	       segment->size % segment->sector_size == 0;
}

static bool parse_segments(struct luks2_metadata *metadata, const struct json_document *json,
			   uint32_t *existing)
{
	struct numbered walk;
	bool is_end;

	if (!numbered_begin(&walk, json, "segments", LUKS2_SEGMENTS))
		return false;
	while (numbered_read(&walk, &is_end)) {
		/* There is at least one, and they are numbered without a gap: 0...01...1. */
		if (is_end)
			return *existing != 0 && (*existing & (*existing + 1)) == 0;
		if (!parse_segment(&metadata->segments[walk.number], json, walk.value))
			return false;
		*existing |= UINT32_C(1) << walk.number;
	}
	return false;
}

static bool parse_digest(struct luks2_digest *digest, const struct json_document *json,
			 uint32_t node, uint32_t keyslots, uint32_t segments)
{
	bool hash_known;

	digest->exists = true;
	if (!has_string(json, node, "type") ||
	    !get_references(json, node, "keyslots", keyslots, &digest->keyslots) ||
	    !get_references(json, node, "segments", segments, &digest->segments))
		return false;
	if (!has_value(json, node, "type", "pbkdf2"))
		return true;
	if (!get_hash(json, node, &digest->hash, &hash_known) ||
	    !get_u32(json, node, "iterations", &digest->iterations) || digest->iterations == 0 ||
	    !get_salt(json, node, digest->salt) ||
	    !get_base64(json, node, "digest", digest->value, sizeof(digest->value),
			&digest->value_size))
		return false;
	digest->is_pbkdf2 = hash_known;
	/* 20 bytes of any hash: what LUKS1 kept, and its conversion keeps. */
	return !hash_known || digest->value_size == 20 ||
	       digest->value_size == hash_size(digest->hash);
}

static bool parse_digests(struct luks2_metadata *metadata, const struct json_document *json,
			  uint32_t keyslots, uint32_t segments)
{
	uint32_t keyslots_seen = 0, segments_seen = 0;
	struct numbered walk;
	bool is_end = false;

	if (!numbered_begin(&walk, json, "digests", LUKS2_DIGESTS))
		return false;
	while (numbered_read(&walk, &is_end) && !is_end) {
		struct luks2_digest *digest = &metadata->digests[walk.number];

		if (!parse_digest(digest, json, walk.value, keyslots, segments) ||
		    (digest->keyslots & keyslots_seen) != 0)
			return false;
		keyslots_seen |= digest->keyslots;
		segments_seen |= digest->segments;
	}
	for (unsigned i = 0; i < LUKS2_SEGMENTS; i++)
		if (metadata->segments[i].is_crypt && (segments_seen >> i & 1) == 0)
			return false;
	return is_end;
}

/* offline-reencrypt, online-reencrypt, and the latter with "-v" and a version. */
static bool is_reencryption(const char *requirement)
{
	static const char versioned[] = "online-reencrypt-v";
	const char *version = requirement + strlen(versioned);

	if (strcmp(requirement, "offline-reencrypt") == 0 ||
	    strcmp(requirement, "online-reencrypt") == 0)
		return true;
	return strncmp(requirement, versioned, strlen(versioned)) == 0 && *version != '\0' &&
	       version[strspn(version, "0123456789")] == '\0';
}

static void add_requirement(struct luks2_metadata *metadata, const char *requirement)
{
	if (is_reencryption(requirement)) {
		if (metadata->requirement == LUKS2_REQUIREMENT_NONE)
			metadata->requirement = LUKS2_REQUIREMENT_REENCRYPTION;
		return;
	}
	metadata->requirement = LUKS2_REQUIREMENT_UNKNOWN;
	if (metadata->unknown_requirement[0] != '\0')
		return;
	for (size_t i = 0; requirement[i] != '\0'; i++) {
		bool printable = requirement[i] >= 0x20 && requirement[i] < 0x7f;

		metadata->unknown_requirement[i] = printable ? requirement[i] : '?';
	}
}

static bool parse_requirements(struct luks2_metadata *metadata, const struct json_document *json,
			       uint32_t requirements)
{
	uint32_t mandatory = json_member(json, requirements, "mandatory");

	if (requirements == JSON_NONE)
		return true;
	if (!json_is(json, requirements, JSON_OBJECT) ||
	    (mandatory != JSON_NONE && !json_is(json, mandatory, JSON_ARRAY)))
		return false;
	if (mandatory == JSON_NONE)
		return true;
	for (uint32_t n = json_first(json, mandatory); n != JSON_NONE;
	     n = json_next(json, mandatory, n)) {
		char requirement[LUKS2_FLAG_SIZE];

		if (!json_is(json, n, JSON_STRING))
			return false;
		if (!json_string_copy(json, n, requirement, sizeof(requirement)))
			memcpy(requirement, "(too long)", sizeof("(too long)"));
		add_requirement(metadata, requirement);
	}
	return true;
}

static bool parse_config(struct luks2_metadata *metadata, const struct json_document *json)
{
	uint32_t config = json_member(json, JSON_ROOT, "config");
	uint32_t flags = json_member(json, config, "flags");

	if (!json_is(json, config, JSON_OBJECT) ||
	    !get_u64(json, config, "json_size", &metadata->json_size) ||
	    !get_u64(json, config, "keyslots_size", &metadata->keyslots_size))
		return false;
	if (flags != JSON_NONE && !json_is(json, flags, JSON_ARRAY))
		return false;
	return parse_requirements(metadata, json, json_member(json, config, "requirements"));
}

enum status luks2_metadata_parse(struct luks2_metadata *metadata, struct luks2_nodes *nodes,
				 const struct luks2_text *text)
{
	struct luks2_metadata parsed = {0};
	struct json_document json;
	uint32_t keyslots = 0, segments = 0;

	if (!json_parse(&json, nodes->nodes, ARRAY_COUNT(nodes->nodes), text->bytes, text->length))
		return FAIL_METADATA_SYNTAX;
	if (!parse_config(&parsed, &json) || !parse_keyslots(&parsed, &json, &keyslots) ||
	    !parse_segments(&parsed, &json, &segments) || !parse_tokens(&parsed, &json, keyslots) ||
	    !parse_digests(&parsed, &json, keyslots, segments))
		return FAIL_METADATA_SHAPE;
	*metadata = parsed;
	return OK;
}
