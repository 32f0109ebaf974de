#include "crypto/luks2_keyslot.h"

#include "crypto/aes_xts.h"
#include "crypto/antiforensic.h"
#include "crypto/argon2id.h"
#include "crypto/luks2_policy.h"
#include "crypto/pbkdf2.h"
#include "generated/config.h"

#define SPLIT_SIZE ANTIFORENSIC_SIZE(LUKS2_VOLUME_KEY_SIZE)

_Static_assert(ROUND_UP(SPLIT_SIZE, (size_t)4096) == LUKS2_AREA_SIZE, "an area is whole blocks");
_Static_assert(SPLIT_SIZE % SECTOR_UNIT_SIZE == 0, "the split key is whole sectors");
_Static_assert(LUKS2_VOLUME_KEY_SIZE == AES_XTS_KEY_SIZE, "both are AES-256-XTS");

static enum status derive_area_key(struct secret *area_key, const struct luks2_kdf *kdf,
				   const void *passphrase, size_t passphrase_size)
{
	const struct argon2id_cost cost = {kdf->time, kdf->memory_kib, kdf->cpus};

	area_key->size = LUKS2_AREA_KEY_SIZE;
	if (kdf->kind == LUKS2_KDF_PBKDF2) {
		pbkdf2_derive(kdf->hash, area_key->bytes, area_key->size, passphrase,
			      passphrase_size, kdf->salt, sizeof(kdf->salt), kdf->iterations);
		return OK;
	}
	if (!CONFIG_ARGON2ID)
		return FAIL_KEYSLOT_KIND;
	return argon2id_derive(kdf->kind == LUKS2_KDF_ARGON2I ? ARGON2ID_I : ARGON2ID_ID,
			       area_key->bytes, area_key->size, passphrase, passphrase_size,
			       kdf->salt, sizeof(kdf->salt), &cost);
}

enum direction { ENCRYPT, DECRYPT };

/* An area is a little disk of 512-byte sectors of its own: its tweaks count from 0. */
static enum status transform_area(uint8_t *area, const struct luks2_keyslot *keyslot,
				  enum direction direction, const void *passphrase,
				  size_t passphrase_size)
{
	__attribute__((cleanup(aes_xts_key_wipe))) struct aes_xts_key key = {0};
	const struct sector_run run = {.source = area, .target = area, .size = SPLIT_SIZE};
	SECRET_SCOPE struct secret area_key = {0};

	TRY(derive_area_key(&area_key, &keyslot->kdf, passphrase, passphrase_size));
	TRY(aes_xts_key_init(&key, area_key.bytes, SECTOR_UNIT_SIZE));
	if (direction == ENCRYPT)
		aes_xts_encrypt(&key, &run, 1);
	else
		aes_xts_decrypt(&key, &run, 1);
	return OK;
}

enum status luks2_keyslot_open(struct secret *volume_key, const struct luks2_keyslot *keyslot,
			       uint8_t *area, const void *passphrase, size_t passphrase_size)
{
	CHECK(luks2_policy_check_keyslot(keyslot) == OK);
	TRY(transform_area(area, keyslot, DECRYPT, passphrase, passphrase_size));
	antiforensic_merge(keyslot->splitter_hash, volume_key->bytes, area, LUKS2_VOLUME_KEY_SIZE);
	volume_key->size = LUKS2_VOLUME_KEY_SIZE;
	return OK;
}

enum status luks2_keyslot_seal(uint8_t *area, const struct luks2_keyslot *keyslot,
			       const struct secret *volume_key, const void *passphrase,
			       size_t passphrase_size)
{
	CHECK(luks2_policy_check_keyslot(keyslot) == OK);
	CHECK(volume_key->size == LUKS2_VOLUME_KEY_SIZE);
	antiforensic_split(keyslot->splitter_hash, area, volume_key->bytes, LUKS2_VOLUME_KEY_SIZE);
	return transform_area(area, keyslot, ENCRYPT, passphrase, passphrase_size);
}

static void derive_digest(uint8_t *value, size_t size, const struct luks2_digest *digest,
			  const struct secret *volume_key)
{
	pbkdf2_derive(digest->hash, value, size, volume_key->bytes, volume_key->size, digest->salt,
		      sizeof(digest->salt), digest->iterations);
}

bool luks2_keyslot_digest_agrees(const struct luks2_digest *digest, const struct secret *volume_key)
{
	uint8_t value[HASH_SIZE_MAX];

	CHECK(digest->is_pbkdf2 && digest->value_size <= sizeof(value));
	derive_digest(value, digest->value_size, digest, volume_key);
	return secret_equal(value, digest->value, digest->value_size);
}

void luks2_keyslot_digest_make(struct luks2_digest *digest, const struct secret *volume_key)
{
	CHECK(digest->is_pbkdf2);
	digest->value_size = hash_size(digest->hash);
	derive_digest(digest->value, digest->value_size, digest, volume_key);
}
