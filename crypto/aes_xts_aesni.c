/* AES-XTS with AES-NI: eight blocks at a time, and the tweaks of eight sectors together. Eight hide
 * the latency of an AES round. Rounds and blocks are written out by macro, because compilers keep
 * arrays of blocks in memory. */
#include "crypto/aes_xts_implementation.h"

#include <immintrin.h>

#include "platform/secret.h"

#define TARGET __attribute__((target("aes,sse4.1,pclmul")))
#define INLINE static inline __attribute__((always_inline)) TARGET

#define WIDTH 8
#define EACH_BLOCK(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
#define EACH_MIDDLE_ROUND(STEP) \
	STEP(1)                 \
	STEP(2)                 \
	STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13)

_Static_assert(AES_XTS_SECTOR_SIZE_MIN % (WIDTH * 16) == 0, "sectors are whole groups of blocks");

INLINE __m128i load(const uint8_t *bytes)
{
	return _mm_loadu_si128((const __m128i *)bytes);
}

INLINE void store(uint8_t *bytes, __m128i block)
{
	_mm_storeu_si128((__m128i *)bytes, block);
}

/* tweak * x */
INLINE __m128i double_tweak(__m128i tweak)
{
	const __m128i carries = _mm_set_epi32(0, 1, 0, AES_XTS_POLYNOMIAL);
	__m128i tops = _mm_srai_epi32(_mm_shuffle_epi32(tweak, _MM_SHUFFLE(0, 1, 0, 3)), 31);

	return _mm_xor_si128(_mm_add_epi64(tweak, tweak), _mm_and_si128(tops, carries));
}

/* tweak * x^8: a shift by one byte; the byte that falls out is folded back in. */
INLINE __m128i step_tweak(__m128i tweak)
{
	const __m128i polynomial = _mm_cvtsi32_si128(AES_XTS_POLYNOMIAL);
	__m128i top = _mm_srli_si128(tweak, 15);

	return _mm_xor_si128(_mm_slli_si128(tweak, 1), _mm_clmulepi64_si128(top, polynomial, 0));
}

/* One 128-bit step of the AES-256 key schedule: the running XOR of the four words of `previous`,
 * the round key two steps back, with the word that keygenassist made from the last round key. */
INLINE __m128i expand_step(__m128i previous, __m128i word)
{
	previous = _mm_xor_si128(previous, _mm_slli_si128(previous, 4));
	previous = _mm_xor_si128(previous, _mm_slli_si128(previous, 8));
	return _mm_xor_si128(previous, word);
}

#define EXPAND_EVEN(index, constant)                                                           \
	even = expand_step(even,                                                               \
			   _mm_shuffle_epi32(_mm_aeskeygenassist_si128(odd, constant), 0xff)); \
	store(rounds[index], even);
#define EXPAND_ODD(index)                                                                    \
	odd = expand_step(odd, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa)); \
	store(rounds[index], odd);

/* FIPS 197 section 5.2 */
INLINE void expand(uint8_t rounds[static AES_XTS_ROUND_KEYS][16], const uint8_t bytes[static 32])
{
	__m128i even = load(bytes);
	__m128i odd = load(bytes + 16);

	store(rounds[0], even);
	store(rounds[1], odd);
	EXPAND_EVEN(2, 0x01)
	EXPAND_ODD(3)
	EXPAND_EVEN(4, 0x02)
	EXPAND_ODD(5)
	EXPAND_EVEN(6, 0x04)
	EXPAND_ODD(7)
	EXPAND_EVEN(8, 0x08)
	EXPAND_ODD(9)
	EXPAND_EVEN(10, 0x10)
	EXPAND_ODD(11)
	EXPAND_EVEN(12, 0x20)
	EXPAND_ODD(13)
	EXPAND_EVEN(14, 0x40)
}

/* The schedule of the equivalent inverse cipher, in the order of use: FIPS 197 section 5.3.5. */
INLINE void invert(uint8_t inverse[static AES_XTS_ROUND_KEYS][16],
		   uint8_t rounds[static AES_XTS_ROUND_KEYS][16])
{
	const unsigned last = AES_XTS_ROUND_KEYS - 1;

	store(inverse[0], load(rounds[last]));
	for (unsigned i = 1; i < last; i++)
		store(inverse[i], _mm_aesimc_si128(load(rounds[last - i])));
	store(inverse[last], load(rounds[0]));
}

AES_XTS_CLEARS_REGISTERS TARGET void
aes_xts_aesni_expand(struct aes_xts_key *key, const uint8_t bytes[static AES_XTS_KEY_SIZE])
{
	expand(key->rounds.data_encrypt, bytes);
	invert(key->rounds.data_decrypt, key->rounds.data_encrypt);
	expand(key->rounds.tweak, bytes + AES_XTS_KEY_SIZE / 2);
}

/* The first tweak of each of WIDTH sectors. */
INLINE void encrypt_tweaks(uint8_t tweaks[static WIDTH][16],
			   const uint8_t rounds[static AES_XTS_ROUND_KEYS][16],
			   const struct aes_xts_sector sectors[static WIDTH])
{
	__m128i round_key = load(rounds[0]);

#define BEGIN(i) \
	__m128i tweak##i = _mm_xor_si128(_mm_set_epi64x(0, (int64_t)sectors[i].unit), round_key);
#define MIDDLE(i) tweak##i = _mm_aesenc_si128(tweak##i, round_key);
#define MIDDLE_ROUND(r)              \
	round_key = load(rounds[r]); \
	EACH_BLOCK(MIDDLE)
#define FINISH(i) store(tweaks[i], _mm_aesenclast_si128(tweak##i, round_key));

	EACH_BLOCK(BEGIN)
	EACH_MIDDLE_ROUND(MIDDLE_ROUND)
	round_key = load(rounds[AES_XTS_ROUND_KEYS - 1]);
	EACH_BLOCK(FINISH)

#undef BEGIN
#undef MIDDLE
#undef MIDDLE_ROUND
#undef FINISH
}

/* Both directions of one sector, which differ in their round keys and instructions only. */
#define BEGIN(i) \
	block##i = _mm_xor_si128(load(source + 16 * i), _mm_xor_si128(tweak##i, round_key));
#define FINISH(i)                                                  \
	store(target + 16 * i, _mm_xor_si128(block##i, tweak##i)); \
	tweak##i = step_tweak(tweak##i);

#define DEFINE_TRANSFORM_SECTOR(name, MIDDLE_ROUND, LAST_ROUND)                                   \
	INLINE void name(const struct aes_xts_sector *sector,                                     \
			 const uint8_t first_tweak[static 16],                                    \
			 const uint8_t rounds[static AES_XTS_ROUND_KEYS][16], size_t sector_size) \
	{                                                                                         \
		const uint8_t *source = sector->source;                                           \
		const uint8_t *end = source + sector_size;                                        \
		uint8_t *target = sector->target;                                                 \
		__m128i round_key;                                                                \
		__m128i block0, block1, block2, block3, block4, block5, block6, block7;           \
		__m128i tweak0 = load(first_tweak);                                               \
		__m128i tweak1 = double_tweak(tweak0);                                            \
		__m128i tweak2 = double_tweak(tweak1);                                            \
		__m128i tweak3 = double_tweak(tweak2);                                            \
		__m128i tweak4 = double_tweak(tweak3);                                            \
		__m128i tweak5 = double_tweak(tweak4);                                            \
		__m128i tweak6 = double_tweak(tweak5);                                            \
		__m128i tweak7 = double_tweak(tweak6);                                            \
                                                                                                  \
		for (; source != end; source += 16 * WIDTH, target += 16 * WIDTH) {               \
			round_key = load(rounds[0]);                                              \
			EACH_BLOCK(BEGIN)                                                         \
			EACH_MIDDLE_ROUND(MIDDLE_ROUND)                                           \
			round_key = load(rounds[AES_XTS_ROUND_KEYS - 1]);                         \
			EACH_BLOCK(LAST_ROUND)                                                    \
			EACH_BLOCK(FINISH)                                                        \
		}                                                                                 \
	}

#define ENCRYPT(i) block##i = _mm_aesenc_si128(block##i, round_key);
#define ENCRYPT_ROUND(r)             \
	round_key = load(rounds[r]); \
	EACH_BLOCK(ENCRYPT)
#define ENCRYPT_LAST(i) block##i = _mm_aesenclast_si128(block##i, round_key);

#define DECRYPT(i) block##i = _mm_aesdec_si128(block##i, round_key);
#define DECRYPT_ROUND(r)             \
	round_key = load(rounds[r]); \
	EACH_BLOCK(DECRYPT)
#define DECRYPT_LAST(i) block##i = _mm_aesdeclast_si128(block##i, round_key);

DEFINE_TRANSFORM_SECTOR(encrypt_sector, ENCRYPT_ROUND, ENCRYPT_LAST)
DEFINE_TRANSFORM_SECTOR(decrypt_sector, DECRYPT_ROUND, DECRYPT_LAST)

#define DEFINE_TRANSFORM(name, transform_sector, data_rounds)                                      \
	AES_XTS_CLEARS_REGISTERS TARGET void name(const struct aes_xts_key *key,                   \
						  const struct sector_run *runs, size_t run_count) \
	{                                                                                          \
		struct aes_xts_cursor cursor = {runs, run_count, 0};                               \
		struct aes_xts_sector sectors[WIDTH] = {0};                                        \
		uint8_t tweaks[WIDTH][16];                                                         \
		size_t sector_size = key->sector_size;                                             \
		size_t count;                                                                      \
                                                                                                   \
		while ((count = aes_xts_cursor_take(&cursor, sectors, WIDTH, sector_size)) != 0) { \
			encrypt_tweaks(tweaks, key->rounds.tweak, sectors);                        \
			for (size_t i = 0; i < count; i++)                                         \
				transform_sector(&sectors[i], tweaks[i], key->rounds.data_rounds,  \
						 sector_size);                                     \
		}                                                                                  \
		secret_wipe_bytes(tweaks, sizeof(tweaks));                                         \
	}

DEFINE_TRANSFORM(aes_xts_aesni_encrypt, encrypt_sector, data_encrypt)
DEFINE_TRANSFORM(aes_xts_aesni_decrypt, decrypt_sector, data_decrypt)
