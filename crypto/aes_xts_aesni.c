/* AES-XTS with AES-NI: one block per instruction. The key schedule is that of all implementations
 * with AES instructions. */
#define TARGET __attribute__((target("aes,sse4.1,pclmul")))
#define VECTOR __m128i
#define LANES 1

#define V_LOAD(bytes) _mm_loadu_si128((const __m128i *)(bytes))
#define V_STORE(bytes, vector) _mm_storeu_si128((__m128i *)(bytes), vector)
#define V_BROADCAST(bytes) V_LOAD(bytes)
#define V_XOR(a, b) _mm_xor_si128(a, b)
#define V_XOR3(a, b, c) V_XOR(a, V_XOR(b, c))
#define V_LEFT(vector, bytes) _mm_slli_si128(vector, bytes)
#define V_OUT_LEFT(vector, i) _mm_slli_epi64(vector, i)
#define V_OUT_RIGHT(vector, i) _mm_srli_epi64(vector, 64 - (i))
#define V_CARRIES(a, b) _mm_srli_epi32(_mm_unpackhi_epi32(a, b), 24)
#define V_WORD_0(vector) _mm_shuffle_epi32(vector, 0xfc)
#define V_WORD_1(vector) _mm_shuffle_epi32(vector, 0xfd)
#define V_MULTIPLY(a, b, halves) _mm_clmulepi64_si128(a, b, halves)
#define V_ENCRYPT(block, round_key) _mm_aesenc_si128(block, round_key)
#define V_ENCRYPT_LAST(block, round_key) _mm_aesenclast_si128(block, round_key)
#define V_DECRYPT(block, round_key) _mm_aesdec_si128(block, round_key)
#define V_DECRYPT_LAST(block, round_key) _mm_aesdeclast_si128(block, round_key)

#define TWEAK_VECTORS 8
#define EACH_TWEAK_VECTOR EACH_VECTOR

#include "crypto/aes_xts_kernel.h"

/* One 128-bit step of the AES-256 key schedule: the running XOR of the four words of `previous`,
 * the round key two steps back, with the word that keygenassist made from the last round key. */
INLINE VECTOR expand_step(VECTOR previous, VECTOR word)
{
	previous = _mm_xor_si128(previous, _mm_slli_si128(previous, 4));
	previous = _mm_xor_si128(previous, _mm_slli_si128(previous, 8));
	return _mm_xor_si128(previous, word);
}

#define EXPAND_EVEN(index, constant)                                                           \
	even = expand_step(even,                                                               \
			   _mm_shuffle_epi32(_mm_aeskeygenassist_si128(odd, constant), 0xff)); \
	V_STORE(rounds[index], even);
#define EXPAND_ODD(index)                                                                    \
	odd = expand_step(odd, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa)); \
	V_STORE(rounds[index], odd);

/* FIPS 197 section 5.2 */
INLINE void expand(uint8_t rounds[static AES_XTS_ROUND_KEYS][16], const uint8_t bytes[static 32])
{
	VECTOR even = V_LOAD(bytes);
	VECTOR odd = V_LOAD(bytes + 16);

	V_STORE(rounds[0], even);
	V_STORE(rounds[1], odd);
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

INLINE void store_wide(uint8_t target[static 64], VECTOR round_key)
{
	for (unsigned i = 0; i < 4; i++)
		V_STORE(target + 16 * i, round_key);
}

/* Both schedules, or only the first one. That of the equivalent inverse cipher stands in the order
 * of use: FIPS 197 section 5.3.5. */
INLINE void expand_wide(uint8_t (*encrypt)[64], uint8_t (*decrypt)[64],
			const uint8_t bytes[static 32])
{
	uint8_t rounds[AES_XTS_ROUND_KEYS][16];
	const unsigned last = AES_XTS_ROUND_KEYS - 1;

	expand(rounds, bytes);
	for (unsigned i = 0; i <= last; i++) {
		VECTOR inverse = V_LOAD(rounds[last - i]);

		store_wide(encrypt[i], V_LOAD(rounds[i]));
		if (decrypt == NULL)
			continue;
		if (i != 0 && i != last)
			inverse = _mm_aesimc_si128(inverse);
		store_wide(decrypt[i], inverse);
	}
	secret_wipe_bytes(rounds, sizeof(rounds));
}

AES_XTS_CLEARS_REGISTERS TARGET void
aes_xts_aesni_expand(struct aes_xts_key *key, const uint8_t bytes[static AES_XTS_KEY_SIZE])
{
	expand_wide(key->rounds.data_encrypt, key->rounds.data_decrypt, bytes);
	expand_wide(key->rounds.tweak, NULL, bytes + AES_XTS_KEY_SIZE / 2);
}

AES_XTS_CLEARS_REGISTERS TARGET void aes_xts_aesni_encrypt(const struct aes_xts_key *key,
							   const struct sector_run *runs,
							   size_t run_count)
{
	kernel_run(key, runs, run_count, key->rounds.data_encrypt, true);
}

AES_XTS_CLEARS_REGISTERS TARGET void aes_xts_aesni_decrypt(const struct aes_xts_key *key,
							   const struct sector_run *runs,
							   size_t run_count)
{
	kernel_run(key, runs, run_count, key->rounds.data_decrypt, false);
}
