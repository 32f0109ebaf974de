#include "crypto/aes_xts.h"

#include <string.h>

#include "crypto/aes_xts_implementation.h"
#include "generated/config.h"
#include "platform/secret.h"

/* A row that the build leaves out keeps its name, and is not available. */
static const struct {
	const char *name;
	aes_xts_expand *expand;
	aes_xts_transform *encrypt;
	aes_xts_transform *decrypt;
} implementations[AES_XTS_IMPLEMENTATIONS] = {
	[AES_XTS_PORTABLE] = {"portable", aes_xts_portable_expand, aes_xts_portable_encrypt,
			      aes_xts_portable_decrypt},
#if CONFIG_AES_NI
	[AES_XTS_AESNI] = {"aesni", aes_xts_aesni_expand, aes_xts_aesni_encrypt,
			   aes_xts_aesni_decrypt},
#else
	[AES_XTS_AESNI] = {.name = "aesni"},
#endif
#if CONFIG_VAES
	[AES_XTS_VAES256] = {"vaes256", aes_xts_aesni_expand, aes_xts_vaes256_encrypt,
			     aes_xts_vaes256_decrypt},
	[AES_XTS_VAES512] = {"vaes512", aes_xts_aesni_expand, aes_xts_vaes512_encrypt,
			     aes_xts_vaes512_decrypt},
#else
	[AES_XTS_VAES256] = {.name = "vaes256"},
	[AES_XTS_VAES512] = {.name = "vaes512"},
#endif
};

static bool cpu_has(enum aes_xts_implementation implementation)
{
	struct cpu_features cpu;

	cpu_detect(&cpu);
	switch (implementation) {
	case AES_XTS_PORTABLE: return true;
	case AES_XTS_AESNI: return cpu.aes_ni;
	case AES_XTS_VAES256: return cpu.vaes256;
	case AES_XTS_VAES512: return cpu.vaes512;
	case AES_XTS_IMPLEMENTATIONS: break;
	}
	return false;
}

/* Overwrites the stack that an implementation has just used: compilers put registers there without
 * telling, and BearSSL leaves its key schedule. (VAES512 does so itself: memset is slow beside it.)
 */
__attribute__((noinline)) static void wipe_used_stack(void)
{
	uint8_t bytes[1536];

	secret_wipe_bytes(bytes, sizeof(bytes));
}

bool aes_xts_implementation_available(enum aes_xts_implementation implementation)
{
	return implementations[implementation].expand != NULL && cpu_has(implementation);
}

enum aes_xts_implementation aes_xts_implementation_best(void)
{
	unsigned best = AES_XTS_IMPLEMENTATIONS - 1;
	struct cpu_features cpu;

	cpu_detect(&cpu);
	/* Where 512-bit work slows everything else down, 256 bits are as fast. */
	if (cpu.avoid_zmm)
		best = AES_XTS_VAES256;
	while (best > AES_XTS_PORTABLE && !aes_xts_implementation_available(best))
		best--;
	return best;
}

const char *aes_xts_implementation_name(enum aes_xts_implementation implementation)
{
	return implementations[implementation].name;
}

bool aes_xts_implementation_from_name(enum aes_xts_implementation *implementation, const char *name)
{
	for (unsigned i = 0; i < AES_XTS_IMPLEMENTATIONS; i++) {
		if (strcmp(name, implementations[i].name) == 0) {
			*implementation = i;
			return true;
		}
	}
	return false;
}

static bool sector_size_served(size_t sector_size)
{
	return sector_size >= AES_XTS_SECTOR_SIZE_MIN && sector_size <= AES_XTS_SECTOR_SIZE_MAX &&
	       (sector_size & (sector_size - 1)) == 0;
}

enum status aes_xts_key_init_for(struct aes_xts_key *key,
				 enum aes_xts_implementation implementation,
				 const uint8_t bytes[static AES_XTS_KEY_SIZE], size_t sector_size)
{
	struct cpu_features cpu;

	CHECK(aes_xts_implementation_available(implementation));
	if (!sector_size_served(sector_size))
		return FAIL_SEGMENT;
	if (secret_equal(bytes, bytes + AES_XTS_KEY_SIZE / 2, AES_XTS_KEY_SIZE / 2))
		return FAIL_KEY_HALVES_EQUAL;
	implementations[implementation].expand(key, bytes);
	wipe_used_stack();
	cpu_detect(&cpu);
	key->shifts_beside_aes = cpu.shifts_beside_aes;
	key->sector_size = sector_size;
	key->implementation = implementation;
	return OK;
}

enum status aes_xts_key_init(struct aes_xts_key *key, const uint8_t bytes[static AES_XTS_KEY_SIZE],
			     size_t sector_size)
{
	return aes_xts_key_init_for(key, aes_xts_implementation_best(), bytes, sector_size);
}

void aes_xts_key_wipe(struct aes_xts_key *key)
{
	secret_wipe_bytes(key, sizeof(*key));
}

static void check_runs(const struct aes_xts_key *key, const struct sector_run *runs,
		       size_t run_count)
{
	CHECK(key->sector_size != 0); /* a wiped key would write plaintext or garbage */
	for (size_t i = 0; i < run_count; i++)
		CHECK((runs[i].size & (key->sector_size - 1)) == 0);
}

void aes_xts_encrypt(const struct aes_xts_key *key, const struct sector_run *runs, size_t run_count)
{
	check_runs(key, runs, run_count);
	implementations[key->implementation].encrypt(key, runs, run_count);
	if (key->implementation != AES_XTS_VAES512)
		wipe_used_stack();
}

void aes_xts_decrypt(const struct aes_xts_key *key, const struct sector_run *runs, size_t run_count)
{
	check_runs(key, runs, run_count);
	implementations[key->implementation].decrypt(key, runs, run_count);
	if (key->implementation != AES_XTS_VAES512)
		wipe_used_stack();
}

void aes_xts_encrypt_opaque(const void *key, const struct sector_run *runs, size_t run_count)
{
	aes_xts_encrypt(key, runs, run_count);
}

void aes_xts_decrypt_opaque(const void *key, const struct sector_run *runs, size_t run_count)
{
	aes_xts_decrypt(key, runs, run_count);
}
