/* A cipher that anybody can check by hand, for #include in a test: each 512-byte unit is XORed with
 * a byte that depends on its number, so a sector taken for another one shows. It counts its calls.
 */
#include <string.h>

#include "io/block_engine.h"

struct fake_cipher {
	unsigned encrypt_calls;
	unsigned decrypt_calls;
	size_t runs_in_last_call;
	size_t bytes_in_last_call;
};

static struct fake_cipher fake_cipher;

static uint8_t fake_cipher_mask(uint64_t unit)
{
	return (uint8_t)(1 + (unit * 0x9e3779b97f4a7c15u >> 56));
}

static void fake_cipher_apply(const struct sector_run *runs, size_t run_count)
{
	fake_cipher.runs_in_last_call = run_count;
	fake_cipher.bytes_in_last_call = 0;
	for (size_t i = 0; i < run_count; i++) {
		CHECK(runs[i].source == runs[i].target && runs[i].size % 512 == 0);
		for (size_t at = 0; at < runs[i].size; at++)
			runs[i].target[at] =
				(uint8_t)(runs[i].source[at] ^
					  fake_cipher_mask(runs[i].first_unit + at / 512));
		fake_cipher.bytes_in_last_call += runs[i].size;
	}
}

static void fake_cipher_encrypt(const void *key, const struct sector_run *runs, size_t run_count)
{
	CHECK(key == &fake_cipher);
	fake_cipher.encrypt_calls++;
	fake_cipher_apply(runs, run_count);
}

static void fake_cipher_decrypt(const void *key, const struct sector_run *runs, size_t run_count)
{
	CHECK(key == &fake_cipher);
	fake_cipher.decrypt_calls++;
	fake_cipher_apply(runs, run_count);
}

static struct block_cipher fake_cipher_make(uint32_t sector_size)
{
	memset(&fake_cipher, 0, sizeof(fake_cipher));
	return (struct block_cipher){.encrypt = fake_cipher_encrypt,
				     .decrypt = fake_cipher_decrypt,
				     .key = &fake_cipher,
				     .sector_size = sector_size};
}
