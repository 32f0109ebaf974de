#include "crypto/aes_xts.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "platform/bytes.h"
#include "tests/unit/aes_xts_vectors.h"
#include "tests/unit/test.h"

enum { PAGE_SIZE = 4096, RUN_COUNT_MAX = 40 };

#define EACH_IMPLEMENTATION(name)                                                          \
	for (enum aes_xts_implementation name = 0; name < AES_XTS_IMPLEMENTATIONS; name++) \
		if (aes_xts_implementation_available(name))

static const size_t sector_sizes[] = {512, 1024, 2048, 4096};

typedef void transform(const struct aes_xts_key *key, const struct sector_run *runs,
		       size_t run_count);

/* One data unit by OpenSSL. */
static void reference_sector(bool encrypt, const uint8_t key[static AES_XTS_KEY_SIZE],
			     uint64_t unit, const uint8_t *source, uint8_t *target, size_t size)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	uint8_t iv[16] = {0};
	int written;

	bytes_store_le64(iv, unit);
	EXPECT_TRUE(EVP_CipherInit_ex(context, EVP_aes_256_xts(), NULL, key, iv, encrypt) == 1);
	EXPECT_TRUE(EVP_CipherUpdate(context, target, &written, source, (int)size) == 1);
	EXPECT_EQUAL(written, size);
	EVP_CIPHER_CTX_free(context);
}

static void reference_run(bool encrypt, const uint8_t key[static AES_XTS_KEY_SIZE],
			  const struct sector_run *run, uint8_t *target, size_t sector_size)
{
	for (size_t at = 0; at < run->size; at += sector_size)
		reference_sector(encrypt, key, run->first_unit + at / SECTOR_UNIT_SIZE,
				 run->source + at, target + at, sector_size);
}

/* Memory that ends, and begins, where no byte may be touched. */
struct guarded {
	uint8_t *mapping;
	uint8_t *bytes;
	size_t size;
};

static struct guarded guarded_open(size_t size)
{
	struct guarded guarded = {.size = ROUND_UP(size, (size_t)PAGE_SIZE)};

	guarded.mapping = mmap(NULL, guarded.size + 2 * PAGE_SIZE, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_TRUE(guarded.mapping != MAP_FAILED);
	guarded.bytes = guarded.mapping + PAGE_SIZE;
	EXPECT_EQUAL(mprotect(guarded.bytes, guarded.size, PROT_READ | PROT_WRITE), 0);
	return guarded;
}

static void guarded_close(struct guarded *guarded)
{
	munmap(guarded->mapping, guarded->size + 2 * PAGE_SIZE);
}

TEST(the_vectors_of_ieee_1619_come_out_of_every_implementation)
{
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t plaintext[512], ciphertext[512], result[512];

	EXPECT_EQUAL(test_from_hex(key_bytes, sizeof(key_bytes), AES_XTS_VECTOR_KEY), 64);
	for (size_t i = 0; i < sizeof(plaintext); i++)
		plaintext[i] = (uint8_t)i;
	EACH_IMPLEMENTATION(implementation)
	{
		struct aes_xts_key key;

		EXPECT_OK(aes_xts_key_init_for(&key, implementation, key_bytes, 512));
		for (size_t i = 0; i < ARRAY_COUNT(aes_xts_vectors); i++) {
			struct sector_run run = {aes_xts_vectors[i].unit, plaintext, result, 512};

			EXPECT_EQUAL(test_from_hex(ciphertext, sizeof(ciphertext),
						   aes_xts_vectors[i].ciphertext),
				     512);
			aes_xts_encrypt(&key, &run, 1);
			EXPECT_BYTES(result, ciphertext, 512);
			run.source = ciphertext;
			aes_xts_decrypt(&key, &run, 1);
			EXPECT_BYTES(result, plaintext, 512);
		}
	}
}

/* All runs of a list stand one behind the other, each beginning `misalignment` bytes off; what lies
 * between and behind them must stay as it is. */
struct list_case {
	enum aes_xts_implementation implementation;
	bool encrypt;
	bool in_place;
	size_t sector_size;
	size_t run_count;
	size_t sectors_per_run;
	size_t misalignment;
	uint64_t first_unit;
};

static void check_list(const struct list_case *test)
{
	size_t run_size = test->sector_size * test->sectors_per_run;
	size_t stride = run_size + test->misalignment;
	size_t size = test->run_count * stride + 64;
	uint8_t *source = malloc(size), *target = malloc(size), *expected = malloc(size);
	struct sector_run runs[RUN_COUNT_MAX];
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	struct aes_xts_key key;
	transform *function = test->encrypt ? aes_xts_encrypt : aes_xts_decrypt;

	test_fill(key_bytes, sizeof(key_bytes), test->run_count * 1000 + test->misalignment);
	test_fill(source, size, 1);
	if (test->in_place)
		memcpy(target, source, size);
	else
		test_fill(target, size, 2);
	memcpy(expected, target, size);
	for (size_t i = 0; i < test->run_count; i++) {
		size_t at = test->misalignment + i * stride;
		/* An odd step, so that runs are no continuation of each other. */
		uint64_t unit = test->first_unit + 12345 * i;

		runs[i] = (struct sector_run){unit, source + at, target + at, run_size};
		reference_run(test->encrypt, key_bytes, &runs[i], expected + at, test->sector_size);
		if (test->in_place)
			runs[i].source = runs[i].target;
	}
	EXPECT_OK(aes_xts_key_init_for(&key, test->implementation, key_bytes, test->sector_size));
	function(&key, runs, test->run_count);
	EXPECT_BYTES(target, expected, size);
	free(source);
	free(target);
	free(expected);
}

static void check_lists_of(enum aes_xts_implementation implementation, bool encrypt,
			   size_t sector_size)
{
	static const size_t run_counts[] = {1, 2, 7, 8, 9, 16, 17, 33};
	static const size_t sector_counts[] = {1, 3, 16, 18};
	static const size_t misalignments[] = {0, 1, 8, 15, 16, 33};

	for (size_t i = 0; i < ARRAY_COUNT(run_counts) * ARRAY_COUNT(sector_counts) * 2; i++) {
		struct list_case test = {
			.implementation = implementation,
			.encrypt = encrypt,
			.in_place = i % 2 == 0,
			.sector_size = sector_size,
			.run_count = run_counts[i / 2 % ARRAY_COUNT(run_counts)],
			.sectors_per_run = sector_counts[i / 2 / ARRAY_COUNT(run_counts)],
			.misalignment = misalignments[i % ARRAY_COUNT(misalignments)],
			.first_unit = i * UINT64_C(0x123456789),
		};

		/* Long lists of long runs take the portable cipher too much time. */
		if (test.run_count > 1 && test.run_count * test.sectors_per_run > 200)
			continue;
		check_list(&test);
	}
}

TEST(every_list_of_runs_agrees_with_openssl)
{
	EACH_IMPLEMENTATION(implementation)
	{
		for (size_t i = 0; i < ARRAY_COUNT(sector_sizes); i++) {
			check_lists_of(implementation, true, sector_sizes[i]);
			check_lists_of(implementation, false, sector_sizes[i]);
		}
	}
}

TEST(every_alignment_of_one_run_agrees_with_openssl)
{
	EACH_IMPLEMENTATION(implementation)
	{
		for (size_t i = 0; i < 64 * 4; i++) {
			struct list_case test = {
				.implementation = implementation,
				.encrypt = i % 2 == 0,
				.in_place = i / 2 % 2 == 0,
				.sector_size = 512,
				.run_count = 1,
				.sectors_per_run = 2,
				.misalignment = i / 4,
				.first_unit = i,
			};

			check_list(&test);
		}
	}
}

/* Which one a key takes depends on the CPU's maker; either must be right on any. */
TEST(both_ways_to_make_tweaks_with_512_bits_agree)
{
	static uint8_t plaintext[9 * 4096], results[2][9 * 4096];
	uint8_t key_bytes[AES_XTS_KEY_SIZE];

	if (!aes_xts_implementation_available(AES_XTS_VAES512))
		SKIP("this CPU has no VAES with 512 bits");
	test_fill(key_bytes, sizeof(key_bytes), 12);
	test_fill(plaintext, sizeof(plaintext), 13);
	for (size_t i = 0; i < ARRAY_COUNT(sector_sizes) * 9; i++) {
		size_t sector_size = sector_sizes[i / 9], size = (i % 9 + 1) * sector_size;
		struct aes_xts_key key;
		struct sector_run run;

		EXPECT_OK(aes_xts_key_init_for(&key, AES_XTS_VAES512, key_bytes, sector_size));
		for (unsigned way = 0; way < 2; way++) {
			key.shifts_beside_aes = way == 0;
			run = (struct sector_run){i, plaintext, results[way], size};
			aes_xts_encrypt(&key, &run, 1);
		}
		EXPECT_BYTES(results[0], results[1], size);
		for (unsigned way = 0; way < 2; way++) {
			key.shifts_beside_aes = way == 0;
			run.source = run.target = results[way];
			aes_xts_decrypt(&key, &run, 1);
			EXPECT_BYTES(results[way], plaintext, size);
		}
	}
}

TEST(unit_numbers_go_on_beyond_32_bits_and_wrap_at_64)
{
	static const uint64_t first_units[] = {
		0,          UINT32_MAX - 9, (uint64_t)UINT32_MAX + 1, INT64_MAX - 9, UINT64_MAX - 9,
		UINT64_MAX,
	};

	EACH_IMPLEMENTATION(implementation)
	{
		for (size_t i = 0; i < ARRAY_COUNT(first_units) * 4; i++) {
			struct list_case test = {
				.implementation = implementation,
				.encrypt = i % 2 == 0,
				.in_place = true,
				.sector_size = i / 2 % 2 == 0 ? 512 : 4096,
				.run_count = 1,
				.sectors_per_run = 20,
				.first_unit = first_units[i / 4],
			};

			check_list(&test);
		}
	}
}

TEST(sectors_of_4096_bytes_count_in_units_of_512)
{
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t plaintext[2 * 4096], result[2 * 4096], expected[4096];
	struct aes_xts_key key;
	struct sector_run run = {80, plaintext, result, sizeof(plaintext)};

	test_fill(key_bytes, sizeof(key_bytes), 1);
	test_fill(plaintext, sizeof(plaintext), 2);
	EXPECT_OK(aes_xts_key_init(&key, key_bytes, 4096));
	aes_xts_encrypt(&key, &run, 1);
	reference_sector(true, key_bytes, 88, plaintext + 4096, expected, 4096);
	EXPECT_BYTES(result + 4096, expected, 4096);
}

TEST(nothing_outside_the_runs_is_read_or_written)
{
	struct guarded source = guarded_open(2 * 4096);
	struct guarded target = guarded_open(2 * 4096);
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t expected[4096];

	test_fill(key_bytes, sizeof(key_bytes), 3);
	test_fill(source.bytes, source.size, 4);
	EACH_IMPLEMENTATION(implementation)
	{
		for (size_t i = 0; i < ARRAY_COUNT(sector_sizes); i++) {
			size_t size = sector_sizes[i];
			size_t last = source.size - size;
			/* Both ends of the mappings, and both directions between them. */
			struct sector_run runs[] = {
				{1, source.bytes, target.bytes, size},
				{2, source.bytes + last, target.bytes + last, size},
			};
			struct aes_xts_key key;

			EXPECT_OK(aes_xts_key_init_for(&key, implementation, key_bytes, size));
			test_fill(target.bytes, target.size, 5);
			aes_xts_encrypt(&key, runs, 2);
			reference_sector(true, key_bytes, 2, source.bytes + last, expected, size);
			EXPECT_BYTES(target.bytes + last, expected, size);
			aes_xts_decrypt(&key, runs, 2);
			reference_sector(false, key_bytes, 1, source.bytes, expected, size);
			EXPECT_BYTES(target.bytes, expected, size);
		}
	}
	guarded_close(&source);
	guarded_close(&target);
}

TEST(empty_runs_and_empty_lists_are_nothing)
{
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t sector[512] = {1}, expected[512] = {1};

	test_fill(key_bytes, sizeof(key_bytes), 6);
	EACH_IMPLEMENTATION(implementation)
	{
		struct aes_xts_key key;
		struct sector_run runs[] = {
			{0, NULL, NULL, 0}, {9, sector, sector, 512}, {1, NULL, NULL, 0}};

		EXPECT_OK(aes_xts_key_init_for(&key, implementation, key_bytes, 512));
		aes_xts_encrypt(&key, NULL, 0);
		aes_xts_encrypt(&key, runs, 1);
		EXPECT_BYTES(sector, expected, 512);
		aes_xts_encrypt(&key, runs, 3);
		reference_sector(true, key_bytes, 9, expected, expected, 512);
		EXPECT_BYTES(sector, expected, 512);
		aes_xts_decrypt_opaque(&key, runs, 3);
		reference_sector(false, key_bytes, 9, expected, expected, 512);
		EXPECT_BYTES(sector, expected, 512);
	}
}

TEST(a_key_with_equal_halves_is_refused)
{
	uint8_t key_bytes[AES_XTS_KEY_SIZE] = {0};
	struct aes_xts_key key;

	EXPECT_STATUS(aes_xts_key_init(&key, key_bytes, 512), FAIL_KEY_HALVES_EQUAL);
	test_fill(key_bytes, 32, 7);
	memcpy(key_bytes + 32, key_bytes, 32);
	EXPECT_STATUS(aes_xts_key_init(&key, key_bytes, 512), FAIL_KEY_HALVES_EQUAL);
	key_bytes[63] ^= 1;
	EXPECT_OK(aes_xts_key_init(&key, key_bytes, 512));
}

TEST(sector_sizes_that_luks2_does_not_have_are_refused)
{
	static const size_t wrong[] = {0,   1,    16,   256,  511,  513,
				       768, 1536, 4095, 4608, 8192, SIZE_MAX};
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	struct aes_xts_key key;

	test_fill(key_bytes, sizeof(key_bytes), 8);
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
		EXPECT_STATUS(aes_xts_key_init(&key, key_bytes, wrong[i]), FAIL_SEGMENT);
}

TEST(a_run_of_broken_sectors_or_a_wiped_key_stops_the_program)
{
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t sector[4096] = {0};
	struct aes_xts_key key;
	struct sector_run run = {0, sector, sector, 512};

	test_fill(key_bytes, sizeof(key_bytes), 9);
	EXPECT_OK(aes_xts_key_init(&key, key_bytes, 4096));
	EXPECT_ABORT(aes_xts_encrypt(&key, &run, 1));
	EXPECT_ABORT(aes_xts_decrypt(&key, &run, 1));
	run.size = 4096;
	aes_xts_key_wipe(&key);
	EXPECT_ABORT(aes_xts_encrypt(&key, &run, 1));
}

TEST(implementations_are_found_by_name_and_the_portable_one_is_always_there)
{
	enum aes_xts_implementation found;

	for (enum aes_xts_implementation i = 0; i < AES_XTS_IMPLEMENTATIONS; i++) {
		EXPECT_TRUE(
			aes_xts_implementation_from_name(&found, aes_xts_implementation_name(i)));
		EXPECT_EQUAL(found, i);
	}
	EXPECT_FALSE(aes_xts_implementation_from_name(&found, "aes"));
	EXPECT_FALSE(aes_xts_implementation_from_name(&found, ""));
	EXPECT_TRUE(aes_xts_implementation_available(AES_XTS_PORTABLE));
	EXPECT_TRUE(aes_xts_implementation_available(aes_xts_implementation_best()));
}

/* --- what a call leaves behind --- */

#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
#define STACK_IS_OURS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STACK_IS_OURS false
#endif
#endif
#ifndef STACK_IS_OURS
#define STACK_IS_OURS true
#endif

static struct {
	enum aes_xts_implementation implementation;
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t plaintext[20 * 512];
	uint8_t sectors[20 * 512];
	struct aes_xts_key key;
	struct sector_run run;
	enum status status;
} used;

static void *make_key(void *argument)
{
	used.status = aes_xts_key_init_for(&used.key, used.implementation, used.key_bytes, 512);
	return argument;
}

static void *encrypt(void *argument)
{
	aes_xts_encrypt(&used.key, &used.run, 1);
	return argument;
}

static void *decrypt(void *argument)
{
	aes_xts_decrypt(&used.key, &used.run, 1);
	return argument;
}

/* No 16-byte piece of `secret` stands in `memory`. */
static void expect_absent(const uint8_t *memory, size_t size, const void *secret,
			  size_t secret_size)
{
	static const uint8_t zero[16];

	for (size_t at = 0; at + 16 <= secret_size; at += 16) {
		const uint8_t *piece = (const uint8_t *)secret + at;

		if (memcmp(piece, zero, 16) != 0)
			EXPECT_TRUE(memmem(memory, size, piece, 16) == NULL);
	}
}

/* The tweaks of all blocks of one sector, and of the group behind it: compilers compute those too.
 */
static void tweaks_of(uint8_t tweaks[static 40][16], uint64_t unit)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	uint8_t block[16] = {0};
	int written;

	bytes_store_le64(block, unit);
	EVP_EncryptInit_ex(context, EVP_aes_256_ecb(), NULL, used.key_bytes + 32, NULL);
	EVP_EncryptUpdate(context, tweaks[0], &written, block, 16);
	EVP_CIPHER_CTX_free(context);
	for (size_t i = 1; i < 40; i++) {
		uint64_t low = bytes_load_le64(tweaks[i - 1]);
		uint64_t high = bytes_load_le64(tweaks[i - 1] + 8);

		bytes_store_le64(tweaks[i], low << 1 ^ (high >> 63) * 0x87);
		bytes_store_le64(tweaks[i] + 8, high << 1 | low >> 63);
	}
}

/* Runs `step` on a stack of its own, and looks through what it leaves there. */
static void expect_clean_stack(void *(*step)(void *))
{
	size_t size = 256 * 1024;
	uint8_t *stack =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;
	pthread_attr_t attributes;
	uint8_t tweaks[40][16];
	struct aes_xts_key round_keys = {0}; /* padding too */

	EXPECT_TRUE(stack != MAP_FAILED);
	pthread_attr_init(&attributes);
	EXPECT_EQUAL(pthread_attr_setstack(&attributes, stack, size), 0);
	EXPECT_EQUAL(pthread_create(&thread, &attributes, step, NULL), 0);
	EXPECT_EQUAL(pthread_join(thread, NULL), 0);

	expect_absent(stack, size, used.key_bytes, sizeof(used.key_bytes));
	expect_absent(stack, size, &used.key, offsetof(struct aes_xts_key, sector_size));
	expect_absent(stack, size, used.plaintext, sizeof(used.plaintext));
	for (uint64_t i = 0; i < 20; i++) {
		tweaks_of(tweaks, used.run.first_unit + i);
		expect_absent(stack, size, tweaks, sizeof(tweaks));
	}
	/* BearSSL makes the round keys before it slices them. */
	if (aes_xts_implementation_available(AES_XTS_AESNI)) {
		EXPECT_OK(aes_xts_key_init_for(&round_keys, AES_XTS_AESNI, used.key_bytes, 512));
		expect_absent(stack, size, &round_keys.rounds, sizeof(round_keys.rounds));
	}
	munmap(stack, size);
}

TEST(no_key_tweak_or_plaintext_stays_on_the_stack)
{
	if (!STACK_IS_OURS)
		SKIP("sanitizers and unoptimised code keep what they like on the stack");
	test_fill(used.key_bytes, sizeof(used.key_bytes), 10);
	test_fill(used.plaintext, sizeof(used.plaintext), 11);
	memcpy(used.sectors, used.plaintext, sizeof(used.plaintext));
	used.run = (struct sector_run){7, used.sectors, used.sectors, sizeof(used.sectors)};
	EACH_IMPLEMENTATION(implementation)
	{
		used.implementation = implementation;
		expect_clean_stack(make_key);
		EXPECT_OK(used.status);
		expect_clean_stack(encrypt);
		expect_clean_stack(decrypt);
	}
}
