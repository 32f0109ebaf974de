/* AES-XTS with 512-bit VAES: four blocks per instruction. Round keys come from
 * aes_xts_aesni_expand. */
#define TARGET                                                                          \
	__attribute__((target("aes,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,vaes," \
			      "vpclmulqdq")))
#define VECTOR __m512i
#define LANES 4

#define V_LOAD(bytes) _mm512_loadu_si512(bytes)
#define V_STORE(bytes, vector) _mm512_storeu_si512(bytes, vector)
#define V_BROADCAST(bytes) _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(bytes)))
#define V_XOR(a, b) _mm512_xor_si512(a, b)
#define V_XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define V_LEFT(vector, bytes) _mm512_bslli_epi128(vector, bytes)
#define V_RIGHT(vector, bytes) _mm512_bsrli_epi128(vector, bytes)
#define V_MULTIPLY(a, b, halves) _mm512_clmulepi64_epi128(a, b, halves)
#define V_ENCRYPT(block, round_key) _mm512_aesenc_epi128(block, round_key)
#define V_ENCRYPT_LAST(block, round_key) _mm512_aesenclast_epi128(block, round_key)
#define V_DECRYPT(block, round_key) _mm512_aesdec_epi128(block, round_key)
#define V_DECRYPT_LAST(block, round_key) _mm512_aesdeclast_epi128(block, round_key)

#define TWEAK_VECTORS 4
#define EACH_TWEAK_VECTOR(STEP) STEP(0) STEP(1) STEP(2) STEP(3)

#include "crypto/aes_xts_kernel.h"

AES_XTS_CLEARS_REGISTERS TARGET void aes_xts_vaes512_encrypt(const struct aes_xts_key *key,
							     const struct sector_run *runs,
							     size_t run_count)
{
	kernel_run(key, runs, run_count, key->rounds.data_encrypt, true);
}

AES_XTS_CLEARS_REGISTERS TARGET void aes_xts_vaes512_decrypt(const struct aes_xts_key *key,
							     const struct sector_run *runs,
							     size_t run_count)
{
	kernel_run(key, runs, run_count, key->rounds.data_decrypt, false);
}
