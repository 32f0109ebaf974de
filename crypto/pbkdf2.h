/* PBKDF2-HMAC (RFC 8018): LUKS2 digests and keyslots. */
#ifndef CRYPTO_PBKDF2_H
#define CRYPTO_PBKDF2_H

#include "crypto/hash.h"

/* Fills `output`, which must not overlap the inputs. `iterations` is at least 1; the time taken
 * grows with it, so the caller bounds what comes from a header. */
void pbkdf2_derive(enum hash_kind kind, uint8_t *output, size_t output_size, const void *password,
		   size_t password_size, const void *salt, size_t salt_size, uint32_t iterations);

#endif
