/* AES-XTS for any CPU over the bit-sliced AES of BearSSL, whose time does not depend on data. Slow:
 * it is here so that a disk opens on every machine, and to check the others against. */
#include "crypto/aes_xts_implementation.h"

#include "platform/bytes.h"
#include "platform/secret.h"

/* BearSSL's bit-sliced AES works on four blocks at once, but no mode in its public interface
 * encrypts four blocks of the caller's choice; hence its inner functions, declared as its inner.h
 * does. The selftest would notice a BearSSL in which they mean something else. */
unsigned br_aes_ct64_keysched(uint64_t *comp_skey, const void *key, size_t key_len);
void br_aes_ct64_skey_expand(uint64_t *skey, unsigned num_rounds, const uint64_t *comp_skey);
void br_aes_ct64_ortho(uint64_t *q);
void br_aes_ct64_interleave_in(uint64_t *q0, uint64_t *q1, const uint32_t *w);
void br_aes_ct64_interleave_out(uint32_t *w, uint64_t q0, uint64_t q1);
void br_aes_ct64_bitslice_encrypt(unsigned num_rounds, const uint64_t *skey, uint64_t *q);
void br_aes_ct64_bitslice_decrypt(unsigned num_rounds, const uint64_t *skey, uint64_t *q);

enum { WIDTH = 4, GROUP_SIZE = 16 * WIDTH, ROUNDS = AES_XTS_ROUND_KEYS - 1 };

_Static_assert(AES_XTS_SECTOR_SIZE_MIN % GROUP_SIZE == 0, "sectors are whole groups of blocks");

typedef void transform_blocks(unsigned num_rounds, const uint64_t *skey, uint64_t *q);

/* Four blocks on their way through AES, as little-endian words, and what XTS adds to them. */
struct group {
	uint32_t words[4 * WIDTH];
	uint64_t slices[8];
	uint64_t tweak_low[WIDTH];
	uint64_t tweak_high[WIDTH];
};

static void expand(uint64_t expanded[static AES_XTS_BIT_SLICED_WORDS], const uint8_t key[static 32])
{
	uint64_t compressed[2 * AES_XTS_ROUND_KEYS];
	unsigned rounds = br_aes_ct64_keysched(compressed, key, 32);

	CHECK(rounds == ROUNDS);
	br_aes_ct64_skey_expand(expanded, rounds, compressed);
	secret_wipe_bytes(compressed, sizeof(compressed));
}

void aes_xts_portable_expand(struct aes_xts_key *key, const uint8_t bytes[static AES_XTS_KEY_SIZE])
{
	expand(key->bit_sliced.data, bytes);
	expand(key->bit_sliced.tweak, bytes + AES_XTS_KEY_SIZE / 2);
}

static void transform_words(struct group *group, transform_blocks *transform, const uint64_t *key)
{
	for (unsigned i = 0; i < WIDTH; i++)
		br_aes_ct64_interleave_in(&group->slices[i], &group->slices[i + 4],
					  group->words + 4 * i);
	br_aes_ct64_ortho(group->slices);
	transform(ROUNDS, key, group->slices);
	br_aes_ct64_ortho(group->slices);
	for (unsigned i = 0; i < WIDTH; i++)
		br_aes_ct64_interleave_out(group->words + 4 * i, group->slices[i],
					   group->slices[i + 4]);
}

/* The first tweak of each of four sectors. */
static void encrypt_tweaks(uint64_t tweaks[static WIDTH][2], struct group *group,
			   const struct aes_xts_key *key,
			   const struct aes_xts_sector sectors[static WIDTH])
{
	for (unsigned i = 0; i < WIDTH; i++) {
		group->words[4 * i] = (uint32_t)sectors[i].unit;
		group->words[4 * i + 1] = (uint32_t)(sectors[i].unit >> 32);
		group->words[4 * i + 2] = 0;
		group->words[4 * i + 3] = 0;
	}
	transform_words(group, br_aes_ct64_bitslice_encrypt, key->bit_sliced.tweak);
	for (unsigned i = 0; i < WIDTH; i++) {
		const uint32_t *words = group->words + 4 * i;

		tweaks[i][0] = words[0] | (uint64_t)words[1] << 32;
		tweaks[i][1] = words[2] | (uint64_t)words[3] << 32;
	}
}

/* Moves on to the tweaks of the next four blocks; `tweak` is then that of the first one behind. */
static void take_tweaks(struct group *group, uint64_t tweak[static 2])
{
	for (unsigned i = 0; i < WIDTH; i++) {
		uint64_t carry = (0 - (tweak[1] >> 63)) & AES_XTS_POLYNOMIAL;

		group->tweak_low[i] = tweak[0];
		group->tweak_high[i] = tweak[1];
		tweak[1] = tweak[1] << 1 | tweak[0] >> 63;
		tweak[0] = tweak[0] << 1 ^ carry;
	}
}

static void transform_group(struct group *group, transform_blocks *transform, const uint64_t *key,
			    const uint8_t *source, uint8_t *target)
{
	for (unsigned i = 0; i < WIDTH; i++) {
		uint64_t low = bytes_load_le64(source + 16 * i) ^ group->tweak_low[i];
		uint64_t high = bytes_load_le64(source + 16 * i + 8) ^ group->tweak_high[i];

		group->words[4 * i] = (uint32_t)low;
		group->words[4 * i + 1] = (uint32_t)(low >> 32);
		group->words[4 * i + 2] = (uint32_t)high;
		group->words[4 * i + 3] = (uint32_t)(high >> 32);
	}
	transform_words(group, transform, key);
	for (unsigned i = 0; i < WIDTH; i++) {
		const uint32_t *words = group->words + 4 * i;
		uint64_t low = words[0] | (uint64_t)words[1] << 32;
		uint64_t high = words[2] | (uint64_t)words[3] << 32;

		bytes_store_le64(target + 16 * i, low ^ group->tweak_low[i]);
		bytes_store_le64(target + 16 * i + 8, high ^ group->tweak_high[i]);
	}
}

static void transform_runs(const struct aes_xts_key *key, transform_blocks *transform,
			   const struct sector_run *runs, size_t run_count)
{
	struct aes_xts_cursor cursor = {runs, run_count, 0};
	struct aes_xts_sector sectors[WIDTH] = {0};
	uint64_t tweaks[WIDTH][2];
	struct group group;
	size_t count;

	while ((count = aes_xts_cursor_take(&cursor, sectors, WIDTH, key->sector_size)) != 0) {
		encrypt_tweaks(tweaks, &group, key, sectors);
		for (size_t i = 0; i < count; i++) {
			for (size_t at = 0; at < key->sector_size; at += GROUP_SIZE) {
				take_tweaks(&group, tweaks[i]);
				transform_group(&group, transform, key->bit_sliced.data,
						sectors[i].source + at, sectors[i].target + at);
			}
		}
	}
	secret_wipe_bytes(tweaks, sizeof(tweaks));
	secret_wipe_bytes(&group, sizeof(group));
}

void aes_xts_portable_encrypt(const struct aes_xts_key *key, const struct sector_run *runs,
			      size_t run_count)
{
	transform_runs(key, br_aes_ct64_bitslice_encrypt, runs, run_count);
}

void aes_xts_portable_decrypt(const struct aes_xts_key *key, const struct sector_run *runs,
			      size_t run_count)
{
	transform_runs(key, br_aes_ct64_bitslice_decrypt, runs, run_count);
}
