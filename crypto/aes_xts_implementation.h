/* What an implementation of AES-XTS is, and what all of them share. Only for crypto/aes_xts*.c and
 * their tests. */
#ifndef CRYPTO_AES_XTS_IMPLEMENTATION_H
#define CRYPTO_AES_XTS_IMPLEMENTATION_H

#include "crypto/aes_xts.h"
#include "platform/cpu.h"

typedef void aes_xts_expand(struct aes_xts_key *key, const uint8_t bytes[static AES_XTS_KEY_SIZE]);
typedef void aes_xts_transform(const struct aes_xts_key *key, const struct sector_run *runs,
			       size_t run_count);

/* Every one fills its own member of the key's union and works on nothing else. */
aes_xts_expand aes_xts_portable_expand, aes_xts_aesni_expand;
aes_xts_transform aes_xts_portable_encrypt, aes_xts_aesni_encrypt, aes_xts_vaes256_encrypt,
	aes_xts_vaes512_encrypt;
aes_xts_transform aes_xts_portable_decrypt, aes_xts_aesni_decrypt, aes_xts_vaes256_decrypt,
	aes_xts_vaes512_decrypt;

/* The low coefficients of x^128 + x^7 + x^2 + x + 1, by which XTS multiplies tweaks. */
#define AES_XTS_POLYNOMIAL 0x87

/* Leaves no round key or plaintext in registers, where the compiler can see to it (gcc). */
#if defined(__has_attribute) && __has_attribute(zero_call_used_regs)
#define AES_XTS_CLEARS_REGISTERS __attribute__((zero_call_used_regs("used")))
#else
#define AES_XTS_CLEARS_REGISTERS
#endif

/* Where a walk over a list of runs stands; begins as {runs, run_count, 0}. */
struct aes_xts_cursor {
	const struct sector_run *run;
	size_t runs_left; /* with this one */
	size_t offset;    /* in this run; a multiple of the sector size */
};

struct aes_xts_sector {
	uint64_t unit;
	const uint8_t *source;
	uint8_t *target;
};

/* Takes the next sectors of the list, at most `capacity`, across the borders of runs: so tweaks are
 * encrypted together even where each run is one sector. Returns how many; 0 at the end. */
static inline size_t aes_xts_cursor_take(struct aes_xts_cursor *cursor,
					 struct aes_xts_sector *sectors, size_t capacity,
					 size_t sector_size)
{
	size_t count = 0;

	while (count < capacity && cursor->runs_left > 0) {
		const struct sector_run *run = cursor->run;

		if (cursor->offset == run->size) {
			cursor->run++;
			cursor->runs_left--;
			cursor->offset = 0;
			continue;
		}
		sectors[count].unit = run->first_unit + cursor->offset / SECTOR_UNIT_SIZE;
		sectors[count].source = run->source + cursor->offset;
		sectors[count].target = run->target + cursor->offset;
		cursor->offset += sector_size;
		count++;
	}
	return count;
}

#endif
