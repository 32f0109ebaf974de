/* SHA-1, SHA-2 and HMAC over BearSSL, by the names that LUKS2 uses. SHA-1 is here only to open
 * volumes that other tools made with it. */
#ifndef CRYPTO_HASH_H
#define CRYPTO_HASH_H

#include <bearssl.h>

#include "platform/base.h"

enum hash_kind { HASH_SHA1, HASH_SHA224, HASH_SHA256, HASH_SHA384, HASH_SHA512, HASH_KINDS };

#define HASH_SIZE_MAX 64

/* False if no hash of ours has that name ("sha256"); names are compared exactly. */
MUST_CHECK bool hash_from_name(enum hash_kind *kind, const char *name, size_t name_length);
const char *hash_name(enum hash_kind kind);
size_t hash_size(enum hash_kind kind); /* of the digest, in bytes */

/* Hash of bytes that come in pieces. hash_finish writes hash_size bytes and wipes the state. */
struct hash_state {
	br_hash_compat_context context;
	enum hash_kind kind;
};

void hash_init(struct hash_state *state, enum hash_kind kind);
void hash_update(struct hash_state *state, const void *bytes, size_t size);
void hash_finish(struct hash_state *state, uint8_t *digest);

void hash_digest(enum hash_kind kind, uint8_t *digest, const void *bytes, size_t size);

/* HMAC (RFC 2104). The key's two padded blocks are hashed once, in hash_hmac_key_init; the key is
 * a secret until hash_hmac_key_wipe. */
struct hash_hmac_key {
	br_hmac_key_context context;
	enum hash_kind kind;
};

struct hash_hmac {
	br_hmac_context context;
};

void hash_hmac_key_init(struct hash_hmac_key *key, enum hash_kind kind, const void *bytes,
			size_t size);
void hash_hmac_key_wipe(struct hash_hmac_key *key);
void hash_hmac_init(struct hash_hmac *hmac, const struct hash_hmac_key *key);
void hash_hmac_update(struct hash_hmac *hmac, const void *bytes, size_t size);
void hash_hmac_finish(struct hash_hmac *hmac, uint8_t *digest); /* wipes */

#endif
