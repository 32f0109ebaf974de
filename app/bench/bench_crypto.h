/* How fast something transforms lists of sectors here, against what limits it. The machine is never
 * quiet: each sample stands between two of the AES limit, and samples between two unlike ones are
 * thrown away. */
#ifndef APP_BENCH_BENCH_CRYPTO_H
#define APP_BENCH_BENCH_CRYPTO_H

#include "platform/sector_run.h"
#include "platform/status.h"

#define BENCH_CRYPTO_MEMORY_SIZE ((size_t)64 << 20)
#define BENCH_CRYPTO_ROUNDS_MAX 31

enum bench_crypto_shape {
	BENCH_CRYPTO_RUN64K, /* calls of 64 KiB; over a smaller working set several times */
	BENCH_CRYPTO_CALL4K, /* calls of 4 KiB */
	BENCH_CRYPTO_LIST16, /* calls with 16 runs of 4 KiB at random places */
	BENCH_CRYPTO_SHAPES
};

const char *bench_crypto_shape_name(enum bench_crypto_shape shape); /* as in JSON: "run64k" */

typedef void bench_crypto_work(const void *context, const struct sector_run *runs,
			       size_t run_count);

struct bench_crypto_case {
	bench_crypto_work *work;
	const void *context;
	unsigned limit_bits; /* width of the registers that the limit is measured with; 0: none */
	size_t working_set;  /* at most BENCH_CRYPTO_MEMORY_SIZE */
	enum bench_crypto_shape shape;
	unsigned rounds; /* samples, at most BENCH_CRYPTO_ROUNDS_MAX */
};

/* Medians; a GB is 10^9 bytes of payload. */
struct bench_crypto_result {
	double gb_per_s;
	double limit_gb_per_s;
	double ratio;  /* of a sample to the limit beside it; 0 without one */
	double spread; /* between the quartiles of the ratios */
};

/* `memory` is BENCH_CRYPTO_MEMORY_SIZE bytes that the work may change. */
void bench_crypto_measure(struct bench_crypto_result *result, const struct bench_crypto_case *test,
			  uint8_t *memory);

/* AES-256 on registers alone, without memory, tweaks or keys to load: no cipher is faster. `bits`
 * is 128, 256 or 512, and the CPU must have such AES instructions. */
double bench_crypto_aes_limit(unsigned bits);

/* Reads every byte and writes it back, and computes next to nothing: the limit that memory sets.
 * `context` is the width of its registers, an unsigned: 512 if the CPU has such, or 128. */
bench_crypto_work bench_crypto_touch;

/* As measured now: clocks of virtual machines are rarely what is written on them. */
double bench_crypto_clock_ghz(void);

/* On huge pages if the kernel has some, as the data path's buffers are. FAIL_OUT_OF_MEMORY. */
MUST_CHECK enum status bench_crypto_memory_open(uint8_t **memory);
void bench_crypto_memory_close(uint8_t *memory);

#endif
