#include "crypto/antiforensic.h"

#include <string.h>

#include "platform/bytes.h"
#include "platform/secret.h"

static void xor_into(uint8_t *target, const uint8_t *source, size_t size)
{
	for (size_t i = 0; i < size; i++)
		target[i] ^= source[i];
}

/* Replaces each digest-sized piece of `block` by the hash of its index and itself; the last piece
 * may be shorter, and takes as much of its hash as fits. */
static void diffuse(enum hash_kind kind, uint8_t *block, size_t size)
{
	struct hash_state state;
	uint8_t digest[HASH_SIZE_MAX];
	uint8_t index_bytes[4];
	size_t digest_size = hash_size(kind);
	uint32_t index = 0;

	for (size_t at = 0; at < size; at += digest_size) {
		size_t piece_size = MINIMUM(digest_size, size - at);

		bytes_store_be32(index_bytes, index++);
		hash_init(&state, kind);
		hash_update(&state, index_bytes, sizeof(index_bytes));
		hash_update(&state, block + at, piece_size);
		hash_finish(&state, digest);
		memcpy(block + at, digest, piece_size);
	}
	secret_wipe_bytes(digest, sizeof(digest));
}

/* What all stripes but the last amount to; the last is this XOR the key. */
static void fold(enum hash_kind kind, uint8_t *block, const uint8_t *stripes, size_t key_size)
{
	memset(block, 0, key_size);
	for (size_t i = 0; i < ANTIFORENSIC_STRIPES - 1; i++) {
		xor_into(block, stripes + i * key_size, key_size);
		diffuse(kind, block, key_size);
	}
}

void antiforensic_split(enum hash_kind kind, uint8_t *stripes, const uint8_t *key, size_t key_size)
{
	uint8_t *last = stripes + (ANTIFORENSIC_STRIPES - 1) * key_size;

	CHECK(key_size >= 1 && key_size <= ANTIFORENSIC_KEY_SIZE_MAX);
	fold(kind, last, stripes, key_size);
	xor_into(last, key, key_size);
}

void antiforensic_merge(enum hash_kind kind, uint8_t *key, const uint8_t *stripes, size_t key_size)
{
	CHECK(key_size >= 1 && key_size <= ANTIFORENSIC_KEY_SIZE_MAX);
	fold(kind, key, stripes, key_size);
	xor_into(key, stripes + (ANTIFORENSIC_STRIPES - 1) * key_size, key_size);
}
