#include "crypto/luks2_keyslot.h"

#include <string.h>

#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

static uint8_t area[LUKS2_AREA_SIZE];

static const struct luks2_keyslot cheap = {
	.exists = true,
	.kind = LUKS2_KEYSLOT_LUKS2,
	.key_size = LUKS2_VOLUME_KEY_SIZE,
	.area_size = LUKS2_AREA_SIZE,
	.area_cipher = LUKS2_CIPHER_AES_XTS_PLAIN64,
	.area_key_size = LUKS2_AREA_KEY_SIZE,
	.splitter_hash = HASH_SHA256,
	.kdf = {.kind = LUKS2_KDF_PBKDF2, .hash = HASH_SHA256, .iterations = 10},
};

static void sample_key(struct secret *volume_key)
{
	volume_key->size = test_from_hex(volume_key->bytes, sizeof(volume_key->bytes),
					 luks2_sample_volume_key);
	EXPECT_EQUAL(volume_key->size, LUKS2_VOLUME_KEY_SIZE);
}

static void sample_digest(struct luks2_digest *digest)
{
	static struct luks2_text text;
	static struct luks2_nodes nodes;
	static struct luks2_metadata metadata;

	luks2_sample_text(&text);
	EXPECT_OK(luks2_metadata_parse(&metadata, &nodes, &text));
	*digest = metadata.digests[0];
}

TEST(the_digest_of_cryptsetup_agrees_with_its_volume_key_only)
{
	struct luks2_digest digest;
	struct secret volume_key;

	sample_digest(&digest);
	sample_key(&volume_key);
	EXPECT_TRUE(luks2_keyslot_digest_agrees(&digest, &volume_key));
	volume_key.bytes[63] ^= 1;
	EXPECT_FALSE(luks2_keyslot_digest_agrees(&digest, &volume_key));
}

TEST(a_digest_is_made_as_cryptsetup_makes_it)
{
	struct luks2_digest digest, made;
	struct secret volume_key;

	sample_digest(&digest);
	sample_key(&volume_key);
	made = digest;
	memset(made.value, 0, sizeof(made.value));
	made.value_size = 0;
	luks2_keyslot_digest_make(&made, &volume_key);
	EXPECT_EQUAL(made.value_size, digest.value_size);
	EXPECT_BYTES(made.value, digest.value, digest.value_size);
}

static void expect_sealed_key_opens(const struct luks2_keyslot *keyslot)
{
	struct secret volume_key, opened = {0};

	sample_key(&volume_key);
	test_fill(area, sizeof(area), 5);
	EXPECT_OK(luks2_keyslot_seal(area, keyslot, &volume_key, "secret", 6));
	EXPECT_OK(luks2_keyslot_open(&opened, keyslot, area, "secret", 6));
	EXPECT_EQUAL(opened.size, volume_key.size);
	EXPECT_BYTES(opened.bytes, volume_key.bytes, volume_key.size);
}

TEST(what_is_sealed_opens_with_every_hash)
{
	struct luks2_keyslot keyslot = cheap;

	for (int kind = 0; kind < HASH_KINDS; kind++) {
		keyslot.kdf.hash = keyslot.splitter_hash = (enum hash_kind)kind;
		expect_sealed_key_opens(&keyslot);
	}
}

TEST(what_is_sealed_opens_with_both_kinds_of_argon2)
{
	struct luks2_keyslot keyslot = cheap;

	keyslot.kdf = (struct luks2_kdf){
		.kind = LUKS2_KDF_ARGON2ID, .time = 1, .memory_kib = 64, .cpus = 2};
	expect_sealed_key_opens(&keyslot);
	keyslot.kdf.kind = LUKS2_KDF_ARGON2I;
	expect_sealed_key_opens(&keyslot);
}

TEST(another_passphrase_or_any_changed_stripe_gives_another_key)
{
	static uint8_t sealed[LUKS2_AREA_SIZE];
	struct secret volume_key, opened;

	sample_key(&volume_key);
	test_fill(sealed, sizeof(sealed), 5);
	EXPECT_OK(luks2_keyslot_seal(sealed, &cheap, &volume_key, "secret", 6));
	memcpy(area, sealed, sizeof(area));
	EXPECT_OK(luks2_keyslot_open(&opened, &cheap, area, "Secret", 6));
	EXPECT_FALSE(secret_equal(opened.bytes, volume_key.bytes, volume_key.size));
	for (size_t at = 0; at < 256000; at += 31999) {
		memcpy(area, sealed, sizeof(area));
		area[at] ^= 0x80;
		EXPECT_OK(luks2_keyslot_open(&opened, &cheap, area, "secret", 6));
		EXPECT_FALSE(secret_equal(opened.bytes, volume_key.bytes, volume_key.size));
	}
}

TEST(the_rest_of_the_area_stays_random)
{
	uint8_t rest[LUKS2_AREA_SIZE - 256000];
	struct secret volume_key;

	sample_key(&volume_key);
	test_fill(area, sizeof(area), 9);
	memcpy(rest, area + 256000, sizeof(rest));
	EXPECT_OK(luks2_keyslot_seal(area, &cheap, &volume_key, "secret", 6));
	EXPECT_BYTES(area + 256000, rest, sizeof(rest));
}

TEST(a_keyslot_that_policy_refuses_is_never_opened)
{
	struct luks2_keyslot keyslot = cheap;
	struct secret opened;

	keyslot.area_cipher = LUKS2_CIPHER_NULL;
	EXPECT_ABORT((void)!luks2_keyslot_open(&opened, &keyslot, area, "secret", 6));
}
