/* AES-XTS with 256-bit VAES: two blocks per instruction. Round keys come from aes_xts_aesni_expand.
 */
#define TARGET __attribute__((target("aes,avx2,vaes,vpclmulqdq")))
#define VECTOR __m256i
#define LANES 2

#define V_LOAD(bytes) _mm256_loadu_si256((const __m256i *)(bytes))
#define V_STORE(bytes, vector) _mm256_storeu_si256((__m256i *)(bytes), vector)
#define V_BROADCAST(bytes) _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(bytes)))
#define V_XOR(a, b) _mm256_xor_si256(a, b)
#define V_XOR3(a, b, c) V_XOR(V_XOR(a, b), c)
#define V_LEFT(vector, bytes) _mm256_bslli_epi128(vector, bytes)
#define PLACES(i) _mm256_set_epi64x(2 * (i) + 1, 2 * (i) + 1, 2 * (i), 2 * (i))
#define V_OUT_LEFT(vector, i) _mm256_sllv_epi64(vector, PLACES(i))
#define V_OUT_RIGHT(vector, i) \
	_mm256_srlv_epi64(vector, _mm256_sub_epi64(_mm256_set1_epi64x(64), PLACES(i)))
#define V_CARRIES(a, b) _mm256_srli_epi32(_mm256_unpackhi_epi32(a, b), 16)
#define V_WORD_0(vector) _mm256_shuffle_epi32(vector, 0xfc)
#define V_WORD_1(vector) _mm256_shuffle_epi32(vector, 0xfd)
#define V_MULTIPLY(a, b, halves) _mm256_clmulepi64_epi128(a, b, halves)
#define V_ENCRYPT(block, round_key) _mm256_aesenc_epi128(block, round_key)
#define V_ENCRYPT_LAST(block, round_key) _mm256_aesenclast_epi128(block, round_key)
#define V_DECRYPT(block, round_key) _mm256_aesdec_epi128(block, round_key)
#define V_DECRYPT_LAST(block, round_key) _mm256_aesdeclast_epi128(block, round_key)

#define TWEAK_VECTORS 8
#define EACH_TWEAK_VECTOR EACH_VECTOR

#include "crypto/aes_xts_kernel.h"

AES_XTS_CLEARS_REGISTERS TARGET void aes_xts_vaes256_encrypt(const struct aes_xts_key *key,
							     const struct sector_run *runs,
							     size_t run_count)
{
	kernel_run(key, runs, run_count, key->rounds.data_encrypt, true);
}

AES_XTS_CLEARS_REGISTERS TARGET void aes_xts_vaes256_decrypt(const struct aes_xts_key *key,
							     const struct sector_run *runs,
							     size_t run_count)
{
	kernel_run(key, runs, run_count, key->rounds.data_decrypt, false);
}
