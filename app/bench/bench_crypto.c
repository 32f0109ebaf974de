#include "app/bench/bench_crypto.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define WITH_AES __attribute__((target("aes")))
#define WITH_VAES __attribute__((target("aes,avx2,vaes")))
#define WITH_ZMM __attribute__((target("aes,avx512f,vaes")))

enum {
	LIMIT_REPEATS = 10000,
	LIMIT_BLOCKS = 14, /* so many rounds as there are in a block, on so many registers */
	RUN_SIZE = 64 * 1024,
	PAGE_SIZE = 4096,
	LIST_RUNS = 16,
	RUNS_MAX = 16,
	SAMPLE_US = 1000,
	TRIES_PER_ROUND = 20, /* then unlike samples count too: better than none */
	PREFETCH_DISTANCE = 8 * 1024,
};

static const double limits_differ_at_most = 0.02;

static const char *const shape_names[BENCH_CRYPTO_SHAPES] = {
	[BENCH_CRYPTO_RUN64K] = "run64k",
	[BENCH_CRYPTO_CALL4K] = "call4k",
	[BENCH_CRYPTO_LIST16] = "list16",
};

const char *bench_crypto_shape_name(enum bench_crypto_shape shape)
{
	return shape_names[shape];
}

static double now_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* --- limits --- */

#define EACH_BLOCK(STEP) \
	STEP(0)          \
	STEP(1)          \
	STEP(2)          \
	STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13)

/* The value must come out of registers, but needs not be used. */
#define DECLARE(i) block##i = round_key;
#define KEEP(i) __asm__ volatile("" : "+v"(block##i));
#define BLOCKS                                                                                   \
	block0, block1, block2, block3, block4, block5, block6, block7, block8, block9, block10, \
		block11, block12, block13

/* Registers left dirty above 128 bits would slow SSE code down, and -Os inserts no vzeroupper. */
#define LIMIT_LOOP(name, attribute, vector, instruction, leave)               \
	attribute static void name(void)                                      \
	{                                                                     \
		vector round_key = {0}, BLOCKS;                               \
                                                                              \
		EACH_BLOCK(DECLARE)                                           \
		for (unsigned repeat = 0; repeat < LIMIT_REPEATS; repeat++) { \
			EACH_BLOCK(instruction)                               \
			EACH_BLOCK(KEEP)                                      \
		}                                                             \
		leave;                                                        \
	}

#define ROUND_128(i) block##i = _mm_aesenc_si128(block##i, round_key);
#define ROUND_256(i) block##i = _mm256_aesenc_epi128(block##i, round_key);
#define ROUND_512(i) block##i = _mm512_aesenc_epi128(block##i, round_key);
LIMIT_LOOP(run_limit_128, WITH_AES, __m128i, ROUND_128, (void)0)
LIMIT_LOOP(run_limit_256, WITH_VAES, __m256i, ROUND_256, _mm256_zeroupper())
LIMIT_LOOP(run_limit_512, WITH_ZMM, __m512i, ROUND_512, _mm256_zeroupper())

double bench_crypto_aes_limit(unsigned bits)
{
	double start = now_s();

	if (bits == 512)
		run_limit_512();
	else if (bits == 256)
		run_limit_256();
	else
		run_limit_128();
	return LIMIT_REPEATS * (bits / 8.0) / (now_s() - start) * 1e-9;
}

#define TOUCH(name, attribute, vector, load, store, change, one, leave)                    \
	attribute static void name(const struct sector_run *run, uintptr_t ahead)          \
	{                                                                                  \
		for (size_t at = 0; at < run->size; at += 64) {                            \
			_mm_prefetch((const char *)(ahead + at), _MM_HINT_T0);             \
			for (size_t i = at; i < at + 64; i += sizeof(vector))              \
				store((void *)(run->target + i),                           \
				      change(load((const void *)(run->source + i)), one)); \
		}                                                                          \
		leave;                                                                     \
	}

TOUCH(touch_128, WITH_AES, __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_xor_si128,
      _mm_set1_epi8(1), (void)0)
TOUCH(touch_512, WITH_ZMM, __m512i, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_xor_si512,
      _mm512_set1_epi32(1), _mm256_zeroupper())

void bench_crypto_touch(const void *context, const struct sector_run *runs, size_t run_count)
{
	const unsigned *bits = context;

	for (size_t i = 0; i < run_count; i++) {
		/* What comes after a list is not known; after a single run, most likely the next
		 * bytes. */
		uintptr_t ahead = run_count == 1
					  ? (uintptr_t)runs[i].source + PREFETCH_DISTANCE
					  : (uintptr_t)runs[MINIMUM(i + 2, run_count - 1)].source;

		(*bits == 512 ? touch_512 : touch_128)(&runs[i], ahead);
	}
}

/* A product waits three cycles for the one before it on every x86-64 made since 2008. */
double bench_crypto_clock_ghz(void)
{
	const unsigned products = 4 * 20000;
	double fastest = 0;

	for (unsigned tries = 0; tries < 50; tries++) {
		double start = now_s();
		uint64_t product = 3;

		for (unsigned i = 0; i < products / 4; i++)
			__asm__ volatile("imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0"
					 : "+r"(product));
		fastest = MAXIMUM(fastest, 3.0 * products / (now_s() - start) * 1e-9);
	}
	return fastest;
}

/* --- samples --- */

/* Where the next call begins; walks over the working set, or jumps about in it. */
struct walk {
	uint8_t *memory;
	size_t working_set;
	size_t offset;
	uint64_t random;
};

static struct sector_run run_at(const struct walk *walk, size_t offset, size_t size)
{
	return (struct sector_run){offset / SECTOR_UNIT_SIZE, walk->memory + offset,
				   walk->memory + offset, size};
}

static struct sector_run next_run(struct walk *walk, size_t size)
{
	struct sector_run run = run_at(walk, walk->offset, size);

	walk->offset = (walk->offset + size) % walk->working_set;
	return run;
}

static struct sector_run random_page(struct walk *walk)
{
	/* Knuth's MMIX generator; its upper bits are good. */
	walk->random = walk->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return run_at(walk, (walk->random >> 33) % (walk->working_set / PAGE_SIZE) * PAGE_SIZE,
		      PAGE_SIZE);
}

static size_t next_call(struct sector_run runs[static RUNS_MAX], struct walk *walk,
			enum bench_crypto_shape shape)
{
	size_t size = MINIMUM(walk->working_set, RUN_SIZE);
	size_t count = shape == BENCH_CRYPTO_LIST16   ? LIST_RUNS
		       : shape == BENCH_CRYPTO_RUN64K ? RUN_SIZE / size
						      : 1;

	for (size_t i = 0; i < count; i++)
		runs[i] = shape == BENCH_CRYPTO_LIST16
				  ? random_page(walk)
				  : next_run(walk, shape == BENCH_CRYPTO_CALL4K ? PAGE_SIZE : size);
	return count;
}

/* GB/s over `calls` calls. */
static double take_sample(const struct bench_crypto_case *test, struct walk *walk, size_t calls)
{
	struct sector_run runs[RUNS_MAX];
	double start = now_s(), bytes = 0;

	for (size_t i = 0; i < calls; i++) {
		size_t count = next_call(runs, walk, test->shape);

		bytes += (double)(count * runs[0].size);
		test->work(test->context, runs, count);
	}
	return bytes / (now_s() - start) * 1e-9;
}

/* So many calls as fill SAMPLE_US; warms everything up on the way. */
static size_t calls_per_sample(const struct bench_crypto_case *test, struct walk *walk)
{
	size_t calls = 1;

	while (calls < (size_t)1 << 20) {
		double start = now_s();

		(void)take_sample(test, walk, calls);
		if ((now_s() - start) * 1e6 > SAMPLE_US / 2.0)
			break;
		calls *= 2;
	}
	return calls;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static double quantile(double values[static BENCH_CRYPTO_ROUNDS_MAX], unsigned count,
		       unsigned quarter)
{
	qsort(values, count, sizeof(values[0]), compare);
	return values[(count - 1) * quarter / 4];
}

void bench_crypto_measure(struct bench_crypto_result *result, const struct bench_crypto_case *test,
			  uint8_t *memory)
{
	struct walk walk = {.memory = memory, .working_set = test->working_set, .random = 1};
	double speeds[BENCH_CRYPTO_ROUNDS_MAX], limits[BENCH_CRYPTO_ROUNDS_MAX];
	double ratios[BENCH_CRYPTO_ROUNDS_MAX];
	size_t calls = calls_per_sample(test, &walk);
	unsigned count = 0;

	CHECK(test->rounds > 0 && test->rounds <= BENCH_CRYPTO_ROUNDS_MAX);
	for (unsigned tries = 0; count < test->rounds; tries++) {
		double before =
			test->limit_bits != 0 ? bench_crypto_aes_limit(test->limit_bits) : 1;
		double speed = take_sample(test, &walk, calls);
		double after = test->limit_bits != 0 ? bench_crypto_aes_limit(test->limit_bits) : 1;
		double difference = before > after ? before - after : after - before;

		if (difference > limits_differ_at_most * after &&
		    tries < test->rounds * TRIES_PER_ROUND)
			continue;
		speeds[count] = speed;
		limits[count] = (before + after) / 2;
		ratios[count] = speed / limits[count];
		count++;
	}
	*result = (struct bench_crypto_result){.gb_per_s = quantile(speeds, count, 2)};
	if (test->limit_bits == 0)
		return;
	result->limit_gb_per_s = quantile(limits, count, 2);
	result->ratio = quantile(ratios, count, 2);
	result->spread = quantile(ratios, count, 3) - quantile(ratios, count, 1);
}

enum status bench_crypto_memory_open(uint8_t **memory)
{
	uint8_t *bytes = mmap(NULL, BENCH_CRYPTO_MEMORY_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (bytes == MAP_FAILED)
		return FAIL_OUT_OF_MEMORY;
	(void)madvise(bytes, BENCH_CRYPTO_MEMORY_SIZE, MADV_HUGEPAGE);
	memset(bytes, 1, BENCH_CRYPTO_MEMORY_SIZE);
	*memory = bytes;
	return OK;
}

void bench_crypto_memory_close(uint8_t *memory)
{
	munmap(memory, BENCH_CRYPTO_MEMORY_SIZE);
}
