#include "crypto/hash.h"

#include <string.h>

#include "platform/secret.h"

static const struct {
	const char *name;
	const br_hash_class *class;
	size_t size;
} hashes[HASH_KINDS] = {
	[HASH_SHA1] = {"sha1", &br_sha1_vtable, br_sha1_SIZE},
	[HASH_SHA224] = {"sha224", &br_sha224_vtable, br_sha224_SIZE},
	[HASH_SHA256] = {"sha256", &br_sha256_vtable, br_sha256_SIZE},
	[HASH_SHA384] = {"sha384", &br_sha384_vtable, br_sha384_SIZE},
	[HASH_SHA512] = {"sha512", &br_sha512_vtable, br_sha512_SIZE},
};

_Static_assert(br_sha512_SIZE == HASH_SIZE_MAX, "no digest is longer than SHA-512's");

bool hash_from_name(enum hash_kind *kind, const char *name, size_t name_length)
{
	for (unsigned i = 0; i < HASH_KINDS; i++) {
		if (strlen(hashes[i].name) == name_length &&
		    strncmp(hashes[i].name, name, name_length) == 0) {
			*kind = i;
			return true;
		}
	}
	return false;
}

const char *hash_name(enum hash_kind kind)
{
	return hashes[kind].name;
}

size_t hash_size(enum hash_kind kind)
{
	return hashes[kind].size;
}

void hash_init(struct hash_state *state, enum hash_kind kind)
{
	state->kind = kind;
	hashes[kind].class->init(&state->context.vtable);
}

void hash_update(struct hash_state *state, const void *bytes, size_t size)
{
	hashes[state->kind].class->update(&state->context.vtable, bytes, size);
}

void hash_finish(struct hash_state *state, uint8_t *digest)
{
	hashes[state->kind].class->out(&state->context.vtable, digest);
	secret_wipe_bytes(state, sizeof(*state));
}

void hash_digest(enum hash_kind kind, uint8_t *digest, const void *bytes, size_t size)
{
	struct hash_state state;

	hash_init(&state, kind);
	hash_update(&state, bytes, size);
	hash_finish(&state, digest);
}

void hash_hmac_key_init(struct hash_hmac_key *key, enum hash_kind kind, const void *bytes,
			size_t size)
{
	br_hmac_key_init(&key->context, hashes[kind].class, bytes, size);
}

void hash_hmac_key_wipe(struct hash_hmac_key *key)
{
	secret_wipe_bytes(key, sizeof(*key));
}

void hash_hmac_init(struct hash_hmac *hmac, const struct hash_hmac_key *key)
{
	br_hmac_init(&hmac->context, &key->context, 0);
}

void hash_hmac_update(struct hash_hmac *hmac, const void *bytes, size_t size)
{
	br_hmac_update(&hmac->context, bytes, size);
}

void hash_hmac_finish(struct hash_hmac *hmac, uint8_t *digest)
{
	br_hmac_out(&hmac->context, digest);
	secret_wipe_bytes(hmac, sizeof(*hmac));
}
