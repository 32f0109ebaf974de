#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/bench/bench_crypto.h"
#include "app/bench/bench_disk.h"
#include "app/bench/bench_table.h"
#include "app/bench/bench_volume.h"
#include "app/commands/commands.h"
#include "app/json_output.h"
#include "crypto/aes_xts.h"
#include "platform/cpu.h"

enum { ROUNDS = 15, ROUNDS_QUICK = 5 };

/* "0.93" */
struct number {
	char text[24];
};

static struct number number(double value, int digits)
{
	struct number number;

	snprintf(number.text, sizeof(number.text), "%.*f", digits, value);
	return number;
}

struct bench {
	struct json_writer *json;
	uint8_t *memory;
	const struct aes_xts_key *key;
	struct cpu_features cpu;
	bool is_json;
	unsigned rounds;
	unsigned done; /* results so far */
};

static const size_t working_sets[] = {(size_t)16 << 10, (size_t)64 << 20};

static void write_number(struct bench *bench, const char *name, double value, int digits)
{
	struct number text = number(value, digits);

	json_write_raw(bench->json, name, text.text, strlen(text.text));
}

static void show_progress(struct bench *bench)
{
	bench->done++;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%u measured\r", bench->done);
}

/* The width of the AES limit that an implementation is held against. */
static unsigned limit_bits(const struct cpu_features *cpu,
			   enum aes_xts_implementation implementation)
{
	switch (implementation) {
	case AES_XTS_VAES512: return 512;
	case AES_XTS_VAES256: return 256;
	case AES_XTS_AESNI:
	case AES_XTS_PORTABLE:
	case AES_XTS_IMPLEMENTATIONS: break;
	}
	return cpu->aes_ni ? 128 : 0;
}

static void report(struct bench *bench, enum aes_xts_implementation implementation,
		   const char *operation, const struct bench_crypto_case *test,
		   const struct bench_crypto_result *result)
{
	const char *name = aes_xts_implementation_name(implementation);
	const char *shape = bench_crypto_shape_name(test->shape);

	if (!bench->is_json) {
		printf("%-9s %-8s %6zu %8zu KiB  %-7s %8.2f %7.3f %7.3f\n", name, operation,
		       bench->key->sector_size, test->working_set >> 10, shape, result->gb_per_s,
		       result->ratio, result->spread);
		return;
	}
	json_begin_object(bench->json, NULL);
	json_write_string(bench->json, "implementation", name);
	json_write_string(bench->json, "operation", operation);
	json_write_u64(bench->json, "sector_size", bench->key->sector_size);
	json_write_u64(bench->json, "working_set", test->working_set);
	json_write_string(bench->json, "shape", shape);
	write_number(bench, "gb_per_s", result->gb_per_s, 2);
	write_number(bench, "ratio", result->ratio, 3);
	write_number(bench, "spread", result->spread, 3);
	json_end_object(bench->json);
}

/* Lists of pages at random places make no sense in a few pages. */
static bool makes_sense(enum bench_crypto_shape shape, size_t working_set)
{
	return shape != BENCH_CRYPTO_LIST16 || working_set >= BENCH_CRYPTO_MEMORY_SIZE;
}

static void measure_shapes(struct bench *bench, enum aes_xts_implementation implementation,
			   const char *operation, bench_crypto_work *work)
{
	struct bench_crypto_case test = {
		.work = work,
		.context = bench->key,
		.limit_bits = limit_bits(&bench->cpu, implementation),
		.rounds = bench->rounds,
	};

	for (size_t i = 0; i < ARRAY_COUNT(working_sets); i++) {
		test.working_set = working_sets[i];
		for (test.shape = 0; test.shape < BENCH_CRYPTO_SHAPES; test.shape++) {
			struct bench_crypto_result result;

			if (!makes_sense(test.shape, test.working_set))
				continue;
			bench_crypto_measure(&result, &test, bench->memory);
			show_progress(bench);
			report(bench, implementation, operation, &test, &result);
		}
	}
}

static enum status measure_implementation(struct bench *bench,
					  enum aes_xts_implementation implementation)
{
	static const size_t sector_sizes[] = {512, 4096};
	static struct aes_xts_key key;
	uint8_t bytes[AES_XTS_KEY_SIZE];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	bench->key = &key;
	for (size_t i = 0; i < ARRAY_COUNT(sector_sizes); i++) {
		TRY(aes_xts_key_init_for(&key, implementation, bytes, sector_sizes[i]));
		measure_shapes(bench, implementation, "encrypt", aes_xts_encrypt_opaque);
		measure_shapes(bench, implementation, "decrypt", aes_xts_decrypt_opaque);
	}
	return OK;
}

/* What reading and writing back alone costs, in place. */
static void measure_memory(struct bench *bench)
{
	const unsigned bits = bench->cpu.vaes512 ? 512 : 128;
	struct bench_crypto_case test = {.work = bench_crypto_touch,
					 .context = &bits,
					 .working_set = BENCH_CRYPTO_MEMORY_SIZE,
					 .rounds = bench->rounds};

	if (bench->is_json)
		json_begin_object(bench->json, "memory_gb_per_s");
	for (test.shape = 0; test.shape < BENCH_CRYPTO_SHAPES; test.shape++) {
		struct bench_crypto_result result;

		bench_crypto_measure(&result, &test, bench->memory);
		if (bench->is_json)
			write_number(bench, bench_crypto_shape_name(test.shape), result.gb_per_s,
				     2);
		else
			printf("memory limit, 64 MiB in place, %s: %.1f GB/s\n",
			       bench_crypto_shape_name(test.shape), result.gb_per_s);
	}
	if (bench->is_json)
		json_end_object(bench->json);
}

static void begin(struct bench *bench)
{
	enum aes_xts_implementation chosen = aes_xts_implementation_best();
	unsigned bits = limit_bits(&bench->cpu, chosen);
	double limit = bits != 0 ? bench_crypto_aes_limit(bits) : 0;
	double clock_ghz = bench_crypto_clock_ghz();

	if (bench->is_json) {
		bench->json = json_output_begin();
		json_begin_object(bench->json, NULL);
		json_write_string(bench->json, "cpu", bench->cpu.model);
		write_number(bench, "clock_ghz", clock_ghz, 2);
		json_write_string(bench->json, "chosen", aes_xts_implementation_name(chosen));
		write_number(bench, "limit_gb_per_s", limit, 2);
		measure_memory(bench);
		json_begin_array(bench->json, "results");
		return;
	}
	printf("CPU: %s, %.2f GHz as measured\nchosen: %s\nAES limit of one core: %.1f GB/s\n",
	       bench->cpu.model, clock_ghz, aes_xts_implementation_name(chosen), limit);
	measure_memory(bench);
	printf("\nratio: to the AES limit of the same register width, measured beside each sample\n"
	       "%-9s %-8s %6s %12s  %-7s %8s %7s %7s\n",
	       "cipher", "does", "sector", "working set", "calls", "GB/s", "ratio", "spread");
}

static enum status usage(const char *what, const char *word)
{
	fprintf(stderr, "byok bench: %s %s; see byok help bench\n", what, word);
	return FAIL_USAGE;
}

static enum status measure_crypto(struct arguments *arguments)
{
	static struct bench bench;
	const char *only = arguments->values[OPTION_IMPLEMENTATION];
	enum aes_xts_implementation first = AES_XTS_PORTABLE, last = AES_XTS_IMPLEMENTATIONS - 1;
	enum status status = OK;

	if (only != NULL && (!aes_xts_implementation_from_name(&first, only) ||
			     !aes_xts_implementation_available(first)))
		return usage("this CPU or build has no cipher", only);
	if (only != NULL)
		last = first;
	TRY(bench_crypto_memory_open(&bench.memory));
	cpu_detect(&bench.cpu);
	bench.is_json = arguments->values[OPTION_JSON] != NULL;
	bench.rounds = arguments->values[OPTION_QUICK] != NULL ? ROUNDS_QUICK : ROUNDS;
	begin(&bench);
	for (enum aes_xts_implementation i = first; i <= last && status == OK; i++)
		if (aes_xts_implementation_available(i))
			status = measure_implementation(&bench, i);
	bench_crypto_memory_close(bench.memory);
	if (status != OK || !bench.is_json)
		return status;
	json_end_array(bench.json);
	json_end_object(bench.json);
	puts(json_output_end());
	return OK;
}

/* Options that not every measurement has. */
#define OPTIONS_OF_DISKS (OPTION_BIT(OPTION_WRITE) | OPTION_BIT(OPTION_REPORT))
#define OPTIONS_OF_SOME (OPTIONS_OF_DISKS | OPTION_BIT(OPTION_IMPLEMENTATION))

static const struct {
	const char *name;
	size_t operand_min; /* with the name */
	size_t operand_max;
	uint32_t options; /* OPTIONS_OF_SOME */
	enum status (*run)(struct arguments *arguments);
} measurements[] = {
	{"crypto", 1, 1, OPTION_BIT(OPTION_IMPLEMENTATION), measure_crypto},
	{"disk", 2, 2, OPTIONS_OF_DISKS, bench_disk},
	{"volume", 2, 1 + BENCH_PATHS_MAX, OPTIONS_OF_DISKS, bench_volume},
};

static bool has_foreign_option(const struct arguments *arguments, uint32_t options)
{
	for (enum option option = 0; option < OPTIONS; option++)
		if (arguments->values[option] != NULL &&
		    (OPTION_BIT(option) & OPTIONS_OF_SOME & ~options) != 0)
			return true;
	return false;
}

enum status cmd_bench(struct arguments *arguments)
{
	const char *name = arguments->operands[0];

	for (size_t i = 0; i < ARRAY_COUNT(measurements); i++) {
		if (strcmp(measurements[i].name, name) != 0)
			continue;
		if (arguments->operand_count < measurements[i].operand_min ||
		    arguments->operand_count > measurements[i].operand_max)
			return usage("there are operands missing, or too many, for", name);
		if (has_foreign_option(arguments, measurements[i].options))
			return usage("there is an option that is not for", name);
		return measurements[i].run(arguments);
	}
	return usage("there is nothing to measure called", name);
}
