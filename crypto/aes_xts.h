/* AES-256-XTS (IEEE 1619) over lists of sectors, as dm-crypt's aes-xts-plain64 with a 512-bit key.
 *
 * The fastest implementation that the CPU has is taken when a key is made, and stays with that key;
 * every one of them gives the same bytes, in time that depends on sizes only. Not for sectors that
 * are not multiples of a cipher block, and no protection against changed ciphertext: XTS has none.
 */
#ifndef CRYPTO_AES_XTS_H
#define CRYPTO_AES_XTS_H

#include "platform/sector_run.h"
#include "platform/status.h"

#define AES_XTS_KEY_SIZE 64 /* key 1 (data), then key 2 (tweak), 32 bytes each */
#define AES_XTS_SECTOR_SIZE_MIN 512
#define AES_XTS_SECTOR_SIZE_MAX 4096
#define AES_XTS_ROUND_KEYS 15
#define AES_XTS_BIT_SLICED_WORDS (AES_XTS_ROUND_KEYS * 8)

/* In ascending order of speed. */
enum aes_xts_implementation {
	AES_XTS_PORTABLE, /* any CPU, slow, constant time without help from the CPU */
	AES_XTS_AESNI,
	AES_XTS_VAES256,
	AES_XTS_VAES512,
	AES_XTS_IMPLEMENTATIONS
};

/* About 3 KiB of expanded key; lives in locked memory, and ends with aes_xts_key_wipe. Only read
 * after init, so any number of threads may share one. */
struct aes_xts_key {
	union {
		struct { /* for AES instructions */
			/* Each four times: for wide vectors, loading is cheaper than spreading. */
			_Alignas(64) uint8_t data_encrypt[AES_XTS_ROUND_KEYS][64];
			uint8_t data_decrypt[AES_XTS_ROUND_KEYS][64]; /* of the equivalent cipher */
			uint8_t tweak[AES_XTS_ROUND_KEYS][64];
		} rounds;
		struct {
			uint64_t data[AES_XTS_BIT_SLICED_WORDS];
			uint64_t tweak[AES_XTS_BIT_SLICED_WORDS];
		} bit_sliced;
	};
	size_t sector_size;
	bool shifts_beside_aes; /* as in struct cpu_features; either way is right on any CPU */
	enum aes_xts_implementation implementation;
};

/* Expands for aes_xts_implementation_best(). The tweak of a sector is the number of its first
 * 512-byte unit, whatever `sector_size` (512, 1024, 2048 or 4096) is; it wraps modulo 2^64.
 *
 * FAIL_SEGMENT for another sector size. FAIL_KEY_HALVES_EQUAL if key 1 equals key 2: FIPS 140
 * forbids such keys; dm-crypt takes them, but no working random generator ever makes one. */
MUST_CHECK enum status aes_xts_key_init(struct aes_xts_key *key,
					const uint8_t bytes[static AES_XTS_KEY_SIZE],
					size_t sector_size);

/* The same for an implementation of the caller's choice, which must be available here. */
MUST_CHECK enum status aes_xts_key_init_for(struct aes_xts_key *key,
					    enum aes_xts_implementation implementation,
					    const uint8_t bytes[static AES_XTS_KEY_SIZE],
					    size_t sector_size);
void aes_xts_key_wipe(struct aes_xts_key *key);

/* Every run's size must be a multiple of the key's sector size. Reads and writes exactly the runs.
 * Long lists are best: tweaks of neighbouring runs are computed together. */
void aes_xts_encrypt(const struct aes_xts_key *key, const struct sector_run *runs,
		     size_t run_count);
void aes_xts_decrypt(const struct aes_xts_key *key, const struct sector_run *runs,
		     size_t run_count);

/* The same for the data path, which calls its cipher through a pointer and knows nothing of keys:
 * `key` is a struct aes_xts_key. */
void aes_xts_encrypt_opaque(const void *key, const struct sector_run *runs, size_t run_count);
void aes_xts_decrypt_opaque(const void *key, const struct sector_run *runs, size_t run_count);

/* Whether this build and this CPU have it; AES_XTS_PORTABLE is always available. */
MUST_CHECK bool aes_xts_implementation_available(enum aes_xts_implementation implementation);
enum aes_xts_implementation aes_xts_implementation_best(void);
const char *aes_xts_implementation_name(enum aes_xts_implementation implementation);

/* False if no implementation has that name. */
MUST_CHECK bool aes_xts_implementation_from_name(enum aes_xts_implementation *implementation,
						 const char *name);

#endif
