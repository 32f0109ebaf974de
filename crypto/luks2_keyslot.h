/* Keyslots and digests of LUKS2: how a passphrase gives the volume key, and how it is known to be
 * the right one. The volume key is always AES-256-XTS's: 64 bytes. */
#ifndef CRYPTO_LUKS2_KEYSLOT_H
#define CRYPTO_LUKS2_KEYSLOT_H

#include "crypto/luks2_metadata.h"
#include "platform/secret.h"

#define LUKS2_VOLUME_KEY_SIZE 64
#define LUKS2_AREA_KEY_SIZE 64 /* what encrypts the area: AES-256-XTS too */
/* The encrypted, split key: 4000 stripes, in whole 4096-byte blocks. */
#define LUKS2_AREA_SIZE 258048

/* Opens a keyslot that luks2_policy_check_keyslot has found OK. `area` holds its LUKS2_AREA_SIZE
 * bytes as they stand on the disk; they are decrypted in place, so it must be memory for secrets.
 * Any passphrase gives some key: luks2_keyslot_digest_agrees tells the right one.
 * FAIL_OUT_OF_MEMORY if Argon2 cannot have what it asks for. */
MUST_CHECK enum status luks2_keyslot_open(struct secret *volume_key,
					  const struct luks2_keyslot *keyslot, uint8_t *area,
					  const void *passphrase, size_t passphrase_size);

/* The other way: `area` holds LUKS2_AREA_SIZE random bytes, and is then what must stand on the
 * disk. */
MUST_CHECK enum status luks2_keyslot_seal(uint8_t *area, const struct luks2_keyslot *keyslot,
					  const struct secret *volume_key, const void *passphrase,
					  size_t passphrase_size);

/* Whether the volume key is the one that the digest was made of; in constant time. */
MUST_CHECK bool luks2_keyslot_digest_agrees(const struct luks2_digest *digest,
					    const struct secret *volume_key);

/* Computes value and value_size from hash, iterations and salt, which the caller has set. */
void luks2_keyslot_digest_make(struct luks2_digest *digest, const struct secret *volume_key);

#endif
