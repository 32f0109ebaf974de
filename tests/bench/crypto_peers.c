/* byok's cipher beside OpenSSL and libgcrypt: all of them once per round, so that a neighbour who
 * disturbs one round disturbs all three. Keys are expanded once; the peers get a new tweak per
 * sector, as dm-crypt's format asks for. Run by tests/bench/run. */
#include <gcrypt.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/bench/bench_crypto.h"
#include "crypto/aes_xts.h"
#include "platform/bytes.h"
#include "platform/cpu.h"

enum { ROUNDS = 15 };
enum peer { BYOK, OPENSSL, LIBGCRYPT, PEERS };

static const char *const peer_names[PEERS] = {"byok", "openssl", "libgcrypt"};

struct peers {
	struct aes_xts_key key;
	EVP_CIPHER_CTX *openssl;
	gcry_cipher_hd_t gcrypt;
	size_t sector_size;
	bool encrypt;
};

static void fail(const char *what)
{
	fprintf(stderr, "crypto_peers: %s failed\n", what);
	exit(1);
}

static void work_byok(const void *context, const struct sector_run *runs, size_t run_count)
{
	const struct peers *peers = context;

	(peers->encrypt ? aes_xts_encrypt : aes_xts_decrypt)(&peers->key, runs, run_count);
}

static void work_openssl(const void *context, const struct sector_run *runs, size_t run_count)
{
	const struct peers *peers = context;
	int size = (int)peers->sector_size, written;

	for (size_t i = 0; i < run_count; i++) {
		for (size_t at = 0; at < runs[i].size; at += peers->sector_size) {
			uint8_t iv[16] = {0};

			bytes_store_le64(iv, runs[i].first_unit + at / SECTOR_UNIT_SIZE);
			if (EVP_CipherInit_ex(peers->openssl, NULL, NULL, NULL, iv, -1) != 1 ||
			    EVP_CipherUpdate(peers->openssl, runs[i].target + at, &written,
					     runs[i].source + at, size) != 1)
				fail("EVP_CipherUpdate");
		}
	}
}

static void work_gcrypt(const void *context, const struct sector_run *runs, size_t run_count)
{
	const struct peers *peers = context;
	size_t size = peers->sector_size;

	for (size_t i = 0; i < run_count; i++) {
		for (size_t at = 0; at < runs[i].size; at += size) {
			uint8_t iv[16] = {0};
			uint8_t *data = runs[i].target + at;

			bytes_store_le64(iv, runs[i].first_unit + at / SECTOR_UNIT_SIZE);
			if (gcry_cipher_setiv(peers->gcrypt, iv, sizeof(iv)) != 0 ||
			    (peers->encrypt ? gcry_cipher_encrypt : gcry_cipher_decrypt)(
				    peers->gcrypt, data, size, NULL, 0) != 0)
				fail("gcry_cipher_encrypt");
		}
	}
}

static bench_crypto_work *const works[PEERS] = {work_byok, work_openssl, work_gcrypt};

static void open_peers(struct peers *peers, size_t sector_size, bool encrypt)
{
	uint8_t bytes[AES_XTS_KEY_SIZE];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	peers->sector_size = sector_size;
	peers->encrypt = encrypt;
	if (aes_xts_key_init(&peers->key, bytes, sector_size) != OK)
		fail("aes_xts_key_init");
	peers->openssl = EVP_CIPHER_CTX_new();
	if (EVP_CipherInit_ex(peers->openssl, EVP_aes_256_xts(), NULL, bytes, bytes, encrypt) != 1)
		fail("EVP_CipherInit_ex");
	if (gcry_cipher_open(&peers->gcrypt, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_XTS, 0) != 0 ||
	    gcry_cipher_setkey(peers->gcrypt, bytes, sizeof(bytes)) != 0)
		fail("gcry_cipher_setkey");
}

static void close_peers(struct peers *peers)
{
	gcry_cipher_close(peers->gcrypt);
	EVP_CIPHER_CTX_free(peers->openssl);
	aes_xts_key_wipe(&peers->key);
}

/* Ratios of ciphers that compute something else mean nothing. */
static void expect_same_result(struct peers *peers)
{
	static uint8_t results[PEERS][4 * 4096];

	for (enum peer peer = 0; peer < PEERS; peer++) {
		struct sector_run run = {77, results[peer], results[peer], sizeof(results[peer])};

		memset(results[peer], 5, sizeof(results[peer]));
		works[peer](peers, &run, 1);
		if (memcmp(results[peer], results[BYOK], sizeof(results[peer])) != 0)
			fail("the comparison of results");
	}
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static double median(double values[static ROUNDS])
{
	qsort(values, ROUNDS, sizeof(values[0]), compare);
	return values[ROUNDS / 2];
}

static void measure(const struct peers *peers, size_t working_set, unsigned limit_bits,
		    uint8_t *memory)
{
	double ratios[PEERS][ROUNDS], speeds[PEERS][ROUNDS], advantages[PEERS][ROUNDS];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (enum peer peer = 0; peer < PEERS; peer++) {
			struct bench_crypto_result result;
			struct bench_crypto_case test = {.work = works[peer],
							 .context = peers,
							 .limit_bits = limit_bits,
							 .working_set = working_set,
							 .shape = BENCH_CRYPTO_RUN64K,
							 .rounds = 1};

			bench_crypto_measure(&result, &test, memory);
			ratios[peer][round] = result.ratio;
			speeds[peer][round] = result.gb_per_s;
			advantages[peer][round] = ratios[BYOK][round] / result.ratio;
		}
	}
	for (enum peer peer = 0; peer < PEERS; peer++)
		printf("%6zu %8zu KiB  %s  %-9s %7.2f GB/s  %5.3f of the limit  byok is %5.2f "
		       "times as fast\n",
		       peers->sector_size, working_set >> 10, peers->encrypt ? "enc" : "dec",
		       peer_names[peer], median(speeds[peer]), median(ratios[peer]),
		       median(advantages[peer]));
}

int main(void)
{
	static const size_t sector_sizes[] = {512, 4096}, working_sets[] = {16384, 64 << 20};
	static struct peers peers;
	struct cpu_features cpu;
	uint8_t *memory;

	cpu_detect(&cpu);
	if (!cpu.aes_ni || bench_crypto_memory_open(&memory) != OK)
		fail("finding AES instructions or memory");
	gcry_check_version(NULL);
	gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	printf("%s; byok: %s, %s, libgcrypt %s\n", cpu.model,
	       aes_xts_implementation_name(aes_xts_implementation_best()),
	       OpenSSL_version(OPENSSL_VERSION), gcry_check_version(NULL));
	for (size_t i = 0; i < ARRAY_COUNT(sector_sizes) * ARRAY_COUNT(working_sets) * 2; i++) {
		open_peers(&peers, sector_sizes[i / 4], i % 2 == 0);
		expect_same_result(&peers);
		measure(&peers, working_sets[i / 2 % 2],
			cpu.vaes512   ? 512
			: cpu.vaes256 ? 256
				      : 128,
			memory);
		close_peers(&peers);
	}
	bench_crypto_memory_close(memory);
	return 0;
}
