/* Argon2id and Argon2i version 1.3 (RFC 9106) over libargon2, for keyslots that cryptsetup made:
 * byok's own secrets have full entropy and need no slow hash. */
#ifndef CRYPTO_ARGON2ID_H
#define CRYPTO_ARGON2ID_H

#include "platform/status.h"

enum argon2id_variant { ARGON2ID_I, ARGON2ID_ID };

/* What a keyslot asks for. It is hostile input: the caller bounds memory and time first. */
struct argon2id_cost {
	uint32_t time; /* passes */
	uint32_t memory_kib;
	uint32_t lanes; /* "cpus" in LUKS2 metadata */
};

/* Lanes are computed one after another: a thread for each would have to be allowed in every role,
 * and would leave its stack behind. The working memory is mapped for this call only: locked, kept
 * out of dumps, wiped.
 *
 * FAIL_OUT_OF_MEMORY if it cannot be had or locked. FAIL_KDF_COST if RFC 9106 excludes the cost, or
 * the sizes of output (at least 4) or salt (at least 8). */
MUST_CHECK enum status argon2id_derive(enum argon2id_variant variant, uint8_t *output,
				       size_t output_size, const void *password,
				       size_t password_size, const void *salt, size_t salt_size,
				       const struct argon2id_cost *cost);

#endif
