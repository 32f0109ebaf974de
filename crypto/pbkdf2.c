#include "crypto/pbkdf2.h"

#include <string.h>

#include "platform/bytes.h"
#include "platform/secret.h"

/* T_index of RFC 8018 section 5.2: all iterations of one block of output. */
static void derive_block(uint8_t block[static HASH_SIZE_MAX], const struct hash_hmac_key *key,
			 size_t digest_size, const void *salt, size_t salt_size, uint32_t index,
			 uint32_t iterations)
{
	struct hash_hmac hmac;
	uint8_t digest[HASH_SIZE_MAX];
	uint8_t index_bytes[4];

	bytes_store_be32(index_bytes, index);
	hash_hmac_init(&hmac, key);
	hash_hmac_update(&hmac, salt, salt_size);
	hash_hmac_update(&hmac, index_bytes, sizeof(index_bytes));
	hash_hmac_finish(&hmac, digest);
	memcpy(block, digest, digest_size);
	for (uint32_t i = 1; i < iterations; i++) {
		hash_hmac_init(&hmac, key);
		hash_hmac_update(&hmac, digest, digest_size);
		hash_hmac_finish(&hmac, digest);
		for (size_t j = 0; j < digest_size; j++)
			block[j] ^= digest[j];
	}
	secret_wipe_bytes(digest, sizeof(digest));
}

void pbkdf2_derive(enum hash_kind kind, uint8_t *output, size_t output_size, const void *password,
		   size_t password_size, const void *salt, size_t salt_size, uint32_t iterations)
{
	struct hash_hmac_key key;
	uint8_t block[HASH_SIZE_MAX];
	size_t digest_size = hash_size(kind);
	uint32_t index = 1;

	CHECK(iterations >= 1);
	hash_hmac_key_init(&key, kind, password, password_size);
	for (size_t at = 0; at < output_size; at += digest_size) {
		derive_block(block, &key, digest_size, salt, salt_size, index++, iterations);
		memcpy(output + at, block, MINIMUM(digest_size, output_size - at));
	}
	secret_wipe_bytes(block, sizeof(block));
	hash_hmac_key_wipe(&key);
}
