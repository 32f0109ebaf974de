/* The anti-forensic splitter of LUKS: a key blown up to 4000 stripes, all of which are needed to
 * get it back, so that overwriting any part of a keyslot on disk destroys it. No encryption by
 * itself. */
#ifndef CRYPTO_ANTIFORENSIC_H
#define CRYPTO_ANTIFORENSIC_H

#include "crypto/hash.h"

/* cryptsetup takes this count whatever the metadata say. */
#define ANTIFORENSIC_STRIPES 4000
#define ANTIFORENSIC_KEY_SIZE_MAX 128
#define ANTIFORENSIC_SIZE(key_size) ((size_t)(key_size)*ANTIFORENSIC_STRIPES)

/* `stripes` holds ANTIFORENSIC_SIZE(key_size) bytes that the caller has filled with random bytes;
 * only the last stripe is written. `key_size` is 1 to ANTIFORENSIC_KEY_SIZE_MAX. */
void antiforensic_split(enum hash_kind kind, uint8_t *stripes, const uint8_t *key, size_t key_size);

/* Any stripes give some key: whether it is the right one, the volume's digest tells. */
void antiforensic_merge(enum hash_kind kind, uint8_t *key, const uint8_t *stripes, size_t key_size);

#endif
