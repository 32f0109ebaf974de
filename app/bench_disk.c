#include "app/bench_disk.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/bench_disk_run.h"
#include "app/disk_probe.h"
#include "crypto/aes_xts.h"
#include "platform/entropy.h"
#include "platform/json.h"

/* Raw and byok take turns this often, so that whatever else disk and machine do hits both. */
#define ROUNDS 5
#define RUN_TIME_NS 400000000u
#define RUN_TIME_QUICK_NS 10000000u

/* What a disk that was written to begins with, so that it can be written to again. */
#define SCRATCH_MARK "byok bench disk: overwritten by measurements\n"
#define EDGE_SIZE (1024u * 1024)
#define DISK_SIZE_MIN (16 * (uint64_t)EDGE_SIZE)

#define CIPHER_RUN_SIZE 4096
#define CIPHER_LAPS 2
#define CIPHER_RUNS 16384
#define GIB ((double)(1u << 30))

enum path { RAW, BYOK, PATHS };

static const struct bench_workload workloads[] = {
	{"sequential 1 MiB read", BLOCK_READ, 1024 * 1024, 16, false},
	{"random 4 KiB read", BLOCK_READ, 4096, 32, true},
	{"random 4 KiB read, alone", BLOCK_READ, 4096, 1, true},
	{"sequential 1 MiB write", BLOCK_WRITE, 1024 * 1024, 16, false},
	{"random 4 KiB write", BLOCK_WRITE, 4096, 32, true},
};

struct bench {
	struct backing_disk disk;
	struct block_volume volume;
	struct aes_xts_key key;
	bool may_write;
	uint64_t run_time_ns;
	bool is_measured[ARRAY_COUNT(workloads)];
	struct bench_result results[ARRAY_COUNT(workloads)][PATHS];
	double cipher_seconds_per_gib[BLOCK_OPERATIONS]; /* of BLOCK_READ and BLOCK_WRITE */
};

/* --- what may be done to the disk --------------------------------------------------------------
 */

static enum status judge_scratch(struct arguments *arguments, const struct backing_disk *disk,
				 const struct disk_probe *probe)
{
	char start[sizeof(SCRATCH_MARK)];

	TRY(backing_disk_read(disk, 0, start, sizeof(start)));
	if (probe->is_blank || strncmp(start, SCRATCH_MARK, sizeof(start)) == 0)
		return OK;
	arguments_set_detail(arguments, "it is not blank, and not from byok bench");
	return FAIL_DISK_HAS_SIGNATURE;
}

static enum status mark_scratch(const struct backing_disk *disk)
{
	uint8_t block[BACKING_DISK_ALIGNMENT] = SCRATCH_MARK;

	TRY(backing_disk_write(disk, 0, block, sizeof(block)));
	return backing_disk_flush(disk);
}

static enum status claim(struct bench *bench, struct arguments *arguments)
{
	const char *path = arguments->operands[1];
	struct disk_probe probe;

	arguments_set_object(arguments, "%s", path);
	if (!bench->may_write)
		return backing_disk_open(&bench->disk, path, BACKING_DISK_LOOK);
	TRY(disk_probe(&probe, path));
	disk_probe_describe(&probe, arguments->detail, sizeof(arguments->detail));
	TRY(disk_probe_may_overwrite(&probe, false));
	TRY(backing_disk_open(&bench->disk, path, BACKING_DISK_SERVE));
	TRY(judge_scratch(arguments, &bench->disk, &probe));
	return mark_scratch(&bench->disk);
}

static enum status prepare(struct bench *bench)
{
	uint64_t edge = bench->may_write ? EDGE_SIZE : 0;
	uint8_t bytes[AES_XTS_KEY_SIZE];

	if (bench->disk.size_bytes < DISK_SIZE_MIN)
		return FAIL_DISK_TOO_SMALL;
	entropy_fill(bytes, sizeof(bytes)); /* of no use to anybody */
	TRY(aes_xts_key_init(&bench->key, bytes, AES_XTS_SECTOR_SIZE_MAX));
	bench->volume = (struct block_volume){
		.disk = &bench->disk,
		.data_offset_bytes = edge,
		.size_bytes = (bench->disk.size_bytes - 2 * edge) / EDGE_SIZE * EDGE_SIZE,
		.cipher = {.encrypt = aes_xts_encrypt_opaque,
			   .decrypt = aes_xts_decrypt_opaque,
			   .key = &bench->key,
			   .sector_size = AES_XTS_SECTOR_SIZE_MAX},
		.is_read_only = !bench->may_write,
	};
	return OK;
}

/* --- measuring ---------------------------------------------------------------------------------
 */

static double cpu_seconds(void)
{
	struct timespec time;

	CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The cipher alone, over memory that no cache holds, as what a disk has just filled is not. */
static enum status measure_cipher(struct bench *bench)
{
	static struct sector_run runs[CIPHER_RUNS];
	struct buffer_pool pool = {0};
	double began;

	TRY(buffer_pool_open(&pool, CIPHER_RUN_SIZE * CIPHER_RUNS, 1));
	for (size_t i = 0; i < CIPHER_RUNS; i++)
		runs[i] = (struct sector_run){.first_unit = i * 8,
					      .source = pool.arena + i * CIPHER_RUN_SIZE,
					      .target = pool.arena + i * CIPHER_RUN_SIZE,
					      .size = CIPHER_RUN_SIZE};
	began = cpu_seconds();
	for (size_t i = 0; i < CIPHER_LAPS; i++)
		aes_xts_decrypt(&bench->key, runs, CIPHER_RUNS);
	bench->cipher_seconds_per_gib[BLOCK_READ] = (cpu_seconds() - began) * 8;
	began = cpu_seconds();
	for (size_t i = 0; i < CIPHER_LAPS; i++)
		aes_xts_encrypt(&bench->key, runs, CIPHER_RUNS);
	bench->cipher_seconds_per_gib[BLOCK_WRITE] = (cpu_seconds() - began) * 8;
	buffer_pool_close(&pool);
	return OK;
}

_Static_assert(8u * CIPHER_LAPS * CIPHER_RUN_SIZE * CIPHER_RUNS == 1u << 30,
	       "the laps are an eighth of a GiB");

static enum status measure(struct bench *bench)
{
	bool is_watched = isatty(STDERR_FILENO) != 0;

	TRY(measure_cipher(bench));
	for (size_t i = 0; i < ARRAY_COUNT(workloads); i++) {
		bench->is_measured[i] = workloads[i].operation == BLOCK_READ || bench->may_write;
		for (unsigned turn = 0; bench->is_measured[i] && turn < PATHS * ROUNDS; turn++) {
			enum path path = turn % PATHS;

			if (is_watched)
				fprintf(stderr, "\r%-26s %u/%u ", workloads[i].name, turn + 1,
					PATHS * ROUNDS);
			TRY(bench_disk_run(&bench->results[i][path], &workloads[i], &bench->volume,
					   path == RAW, bench->run_time_ns));
		}
	}
	if (is_watched)
		fprintf(stderr, "\r%40s\r", "");
	return OK;
}

/* --- telling -----------------------------------------------------------------------------------
 */

static double cpu_per_gib(const struct bench_result *result)
{
	return (double)result->cpu_ns / 1e9 / ((double)result->bytes / GIB);
}

static double per_second(const struct bench_result *result, uint64_t count)
{
	return (double)count * 1e9 / (double)result->elapsed_ns;
}

static double latency_us(const struct bench_result *result, unsigned permille)
{
	return (double)bench_disk_run_latency_ns(result, permille) / 1e3;
}

static void print_result(const char *path, const struct bench_result *result)
{
	printf("  %-5s%9.0f MB/s%9.0f/s%10.0f%9.0f%9.0f us%10.3f s/GiB\n", path,
	       per_second(result, result->bytes) / 1e6, per_second(result, result->operations),
	       latency_us(result, 500), latency_us(result, 990), latency_us(result, 999),
	       cpu_per_gib(result));
}

static void print_text(const struct bench *bench)
{
	printf("%s: %llu MiB%s, aes-xts by %s\n"
	       "                 throughput         p50      p99    p99.9          CPU\n",
	       bench->disk.path, (unsigned long long)bench->volume.size_bytes >> 20,
	       bench->disk.is_direct ? "" : ", through the page cache",
	       aes_xts_implementation_name(bench->key.implementation));
	for (size_t i = 0; i < ARRAY_COUNT(workloads); i++) {
		const struct bench_result *raw = &bench->results[i][RAW];
		const struct bench_result *byok = &bench->results[i][BYOK];
		double cipher = bench->cipher_seconds_per_gib[workloads[i].operation];

		if (!bench->is_measured[i])
			continue;
		printf("%s, depth %u\n", workloads[i].name, workloads[i].depth);
		print_result("raw", raw);
		print_result("byok", byok);
		printf("  byok / raw %.2f; CPU beyond raw %.3f s/GiB, the cipher alone %.3f\n",
		       per_second(byok, byok->bytes) / per_second(raw, raw->bytes),
		       cpu_per_gib(byok) - cpu_per_gib(raw), cipher);
	}
}

static void write_result(struct json_writer *writer, const char *path,
			 const struct bench_result *result)
{
	json_begin_object(writer, path);
	json_write_u64(writer, "bytes_per_second", (uint64_t)per_second(result, result->bytes));
	json_write_u64(writer, "operations_per_second",
		       (uint64_t)per_second(result, result->operations));
	json_write_u64(writer, "latency_p50_ns", bench_disk_run_latency_ns(result, 500));
	json_write_u64(writer, "latency_p99_ns", bench_disk_run_latency_ns(result, 990));
	json_write_u64(writer, "latency_p999_ns", bench_disk_run_latency_ns(result, 999));
	json_write_u64(writer, "cpu_ns_per_gib", (uint64_t)(cpu_per_gib(result) * 1e9));
	json_end_object(writer);
}

static void print_json(const struct bench *bench)
{
	static char text[8192];
	struct json_writer writer;

	json_writer_init(&writer, text, sizeof(text));
	json_begin_object(&writer, NULL);
	json_write_string(&writer, "disk", bench->disk.path);
	json_write_u64(&writer, "size_bytes", bench->volume.size_bytes);
	json_write_bool(&writer, "direct", bench->disk.is_direct);
	json_write_string(&writer, "cipher",
			  aes_xts_implementation_name(bench->key.implementation));
	json_begin_array(&writer, "workloads");
	for (size_t i = 0; i < ARRAY_COUNT(workloads); i++) {
		if (!bench->is_measured[i])
			continue;
		json_begin_object(&writer, NULL);
		json_write_string(&writer, "name", workloads[i].name);
		json_write_u64(&writer, "depth", workloads[i].depth);
		json_write_u64(
			&writer, "cipher_ns_per_gib",
			(uint64_t)(bench->cipher_seconds_per_gib[workloads[i].operation] * 1e9));
		write_result(&writer, "raw", &bench->results[i][RAW]);
		write_result(&writer, "byok", &bench->results[i][BYOK]);
		json_end_object(&writer);
	}
	json_end_array(&writer);
	json_end_object(&writer);
	CHECK(json_writer_end(&writer));
	puts(text);
}

enum status bench_disk(struct arguments *arguments)
{
	static struct bench bench;
	enum status status;

	bench.disk.fd = -1;
	bench.may_write = arguments->values[OPTION_WRITE] != NULL;
	bench.run_time_ns =
		arguments->values[OPTION_QUICK] != NULL ? RUN_TIME_QUICK_NS : RUN_TIME_NS;
	status = claim(&bench, arguments);
	if (status == OK)
		status = prepare(&bench);
	if (status == OK)
		status = measure(&bench);
	if (status == OK && arguments->values[OPTION_JSON] != NULL)
		print_json(&bench);
	else if (status == OK)
		print_text(&bench);
	backing_disk_close(&bench.disk);
	return status;
}
