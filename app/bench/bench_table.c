#include "app/bench/bench_table.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "app/bench/bench_report.h"
#include "app/json_output.h"
#include "app/volume/disk_probe.h"
#include "generated/version.h"
#include "platform/cpu.h"
#include "platform/log.h"

/* The paths take turns this often, so that whatever else disk and machine do hits all of them. */
#define ROUNDS 5
#define RUN_TIME_NS 400000000u
#define RUN_TIME_SERIES_NS 150000000u
#define RUN_TIME_QUICK_NS 10000000u

/* What a disk that was written to begins with, so that it can be written to again. */
#define SCRATCH_MARK "byok bench disk: overwritten by measurements\n"
#define EDGE_SIZE (1024u * 1024)
#define DISK_SIZE_MIN (16 * (uint64_t)EDGE_SIZE)

/* What a series keeps as it is while the other grows. */
#define SERIES_DEPTH 16
#define SERIES_SIZE 4096

#define GIB ((double)(1u << 30))

/* --- what is measured --------------------------------------------------------------------------
 */

static const struct bench_workload headlines[] = {
	{"sequential 1 MiB read", NULL, BLOCK_READ, 1024 * 1024, 16, false},
	{"random 4 KiB read", NULL, BLOCK_READ, 4096, 32, true},
	{"random 4 KiB read, alone", NULL, BLOCK_READ, 4096, 1, true},
	{"sequential 1 MiB write", NULL, BLOCK_WRITE, 1024 * 1024, 16, false},
	{"random 4 KiB write", NULL, BLOCK_WRITE, 4096, 32, true},
};

static void add_point(struct bench_table *table, const char *series, enum block_operation operation,
		      uint32_t size, unsigned depth)
{
	struct bench_workload *workload = &table->workloads[table->workload_count++];

	*workload = (struct bench_workload){.series = series,
					    .operation = operation,
					    .size = size,
					    .depth = depth,
					    .is_random = true};
	snprintf(workload->name, sizeof(workload->name), "random %u KiB %s", size / 1024,
		 operation == BLOCK_READ ? "read" : "write");
}

static void add_series(struct bench_table *table, enum block_operation operation)
{
	for (uint32_t size = 4096; size <= 1024 * 1024; size *= 4)
		add_point(table, "size", operation, size, SERIES_DEPTH);
	for (unsigned depth = 1; depth <= 64; depth *= 2)
		add_point(table, "depth", operation, SERIES_SIZE, depth);
}

enum status bench_table_open(struct bench_table *table, const char *kind,
			     struct arguments *arguments)
{
	const char *report = arguments->values[OPTION_REPORT];

	table->kind = kind;
	table->may_write = arguments->values[OPTION_WRITE] != NULL;
	table->is_quick = arguments->values[OPTION_QUICK] != NULL;
	for (size_t i = 0; i < ARRAY_COUNT(headlines); i++)
		if (headlines[i].operation == BLOCK_READ || table->may_write)
			table->workloads[table->workload_count++] = headlines[i];
	table->headline_count = table->workload_count;
	if (report == NULL)
		return OK;
	add_series(table, BLOCK_READ);
	if (table->may_write)
		add_series(table, BLOCK_WRITE);
	/* Now, not after minutes; and without harm to an older report, should this come to none. */
	table->report = fopen(report, "ae");
	if (table->report != NULL)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot write %s", report);
	arguments_set_object(arguments, "%s", report);
	return FAIL_FILE;
}

void bench_table_close(struct bench_table *table)
{
	if (table->report != NULL)
		fclose(table->report);
	table->report = NULL;
}

/* --- what may be done to a disk ----------------------------------------------------------------
 */

static enum status judge_scratch(const struct backing_disk *disk, const struct disk_probe *probe)
{
	char start[sizeof(SCRATCH_MARK)];

	TRY(backing_disk_read(disk, 0, start, sizeof(start)));
	if (probe->is_blank || strncmp(start, SCRATCH_MARK, sizeof(start)) == 0)
		return OK;
	return FAIL_DISK_NOT_BLANK;
}

static enum status mark_scratch(const struct backing_disk *disk)
{
	uint8_t block[BACKING_DISK_ALIGNMENT] = SCRATCH_MARK;

	TRY(backing_disk_write(disk, 0, block, sizeof(block)));
	return backing_disk_flush(disk);
}

static enum status open_to_write(struct backing_disk *disk, const char *path,
				 struct arguments *arguments)
{
	struct disk_probe probe;

	TRY(disk_probe(&probe, path));
	disk_probe_describe(&probe, arguments->detail, sizeof(arguments->detail));
	TRY(disk_probe_may_overwrite(&probe, true));
	if (arguments->detail[0] != '\0')
		return FAIL_DISK_NOT_BLANK; /* and there is no --force here */
	TRY(backing_disk_open(disk, path, BACKING_DISK_SERVE));
	TRY(judge_scratch(disk, &probe));
	return mark_scratch(disk);
}

enum status bench_table_claim(struct bench_table *table, struct backing_disk *disk,
			      const char *path, struct arguments *arguments)
{
	const uint64_t edge = table->may_write ? EDGE_SIZE : 0;

	CHECK(table->path_count < BENCH_PATHS_MAX);
	arguments_set_object(arguments, "%s", path);
	TRY(table->may_write ? open_to_write(disk, path, arguments)
			     : backing_disk_open(disk, path, BACKING_DISK_LOOK));
	if (disk->size_bytes < DISK_SIZE_MIN)
		return FAIL_DISK_TOO_SMALL;
	table->paths[table->path_count++] = (struct bench_path){
		.name = path,
		.volume = {.disk = disk,
			   .data_offset_bytes = edge,
			   .size_bytes = (disk->size_bytes - 2 * edge) / EDGE_SIZE * EDGE_SIZE,
			   .is_read_only = !table->may_write},
	};
	return OK;
}

/* --- measuring ---------------------------------------------------------------------------------
 */

static uint64_t run_time_ns(const struct bench_table *table, size_t workload)
{
	if (table->is_quick)
		return RUN_TIME_QUICK_NS;
	return workload < table->headline_count ? RUN_TIME_NS : RUN_TIME_SERIES_NS;
}

enum status bench_table_measure(struct bench_table *table)
{
	const bool is_watched = isatty(STDERR_FILENO) != 0;

	for (size_t i = 0; i < table->workload_count; i++) {
		const struct bench_workload *workload = &table->workloads[i];

		for (size_t turn = 0; turn < table->path_count * ROUNDS; turn++) {
			const size_t path = turn % table->path_count;

			if (is_watched)
				fprintf(stderr, "\r%zu/%zu %-26s ", i + 1, table->workload_count,
					workload->name);
			TRY(bench_disk_run(&table->results[i][path], workload, &table->paths[path],
					   run_time_ns(table, i)));
		}
	}
	if (is_watched)
		fprintf(stderr, "\r%40s\r", "");
	return OK;
}

/* --- telling -----------------------------------------------------------------------------------
 */

static double per_second(const struct bench_result *result, uint64_t count)
{
	return (double)count * 1e9 / (double)result->elapsed_ns;
}

static double bytes_per_second(const struct bench_result *result)
{
	return per_second(result, result->bytes);
}

static double operations_per_second(const struct bench_result *result)
{
	return per_second(result, result->operations);
}

static double cpu_per_gib(const struct bench_result *result)
{
	return (double)result->cpu_ns / 1e9 / ((double)result->bytes / GIB);
}

static double latency_us(const struct bench_result *result, unsigned permille)
{
	return (double)bench_disk_run_latency_ns(result, permille) / 1e3;
}

static void print_comparison(const struct bench_table *table, size_t workload, size_t path)
{
	const struct bench_result *first = &table->results[workload][0];
	const struct bench_result *result = &table->results[workload][path];

	printf("  %s / %s %.2f", table->paths[path].name, table->paths[0].name,
	       bytes_per_second(result) / bytes_per_second(first));
	if (table->cipher != NULL)
		printf("; CPU beyond raw %.3f s/GiB, the cipher alone %.3f",
		       cpu_per_gib(result) - cpu_per_gib(first),
		       table->cipher_seconds_per_gib[table->workloads[workload].operation]);
	printf("\n");
}

static void print_text(const struct bench_table *table)
{
	int width = 5;

	for (size_t i = 0; i < table->path_count; i++) {
		const struct block_volume *volume = &table->paths[i].volume;

		width = MAXIMUM(width, (int)strlen(table->paths[i].name));
		if (i > 0 && table->cipher != NULL)
			continue; /* two ways to one disk */
		printf("%s: %llu MiB%s%s%s\n", volume->disk->path,
		       (unsigned long long)volume->size_bytes >> 20,
		       volume->disk->is_direct ? "" : ", through the page cache",
		       table->cipher != NULL ? ", aes-xts by " : "",
		       table->cipher != NULL ? table->cipher : "");
	}
	printf("%*s            throughput         p50      p99    p99.9          CPU\n", width, "");
	for (size_t i = 0; i < table->headline_count; i++) {
		printf("%s, depth %u\n", table->workloads[i].name, table->workloads[i].depth);
		for (size_t path = 0; path < table->path_count; path++) {
			const struct bench_result *result = &table->results[i][path];

			printf("  %-*s%9.0f MB/s%9.0f/s%10.0f%9.0f%9.0f us%10.3f s/GiB\n", width,
			       table->paths[path].name, bytes_per_second(result) / 1e6,
			       operations_per_second(result), latency_us(result, 500),
			       latency_us(result, 990), latency_us(result, 999),
			       cpu_per_gib(result));
		}
		for (size_t path = 1; path < table->path_count; path++)
			print_comparison(table, i, path);
	}
}

static void write_result(struct json_writer *writer, const char *path,
			 const struct bench_result *result)
{
	json_begin_object(writer, path);
	json_write_u64(writer, "bytes_per_second", (uint64_t)bytes_per_second(result));
	json_write_u64(writer, "operations_per_second", (uint64_t)operations_per_second(result));
	json_write_u64(writer, "latency_p50_ns", bench_disk_run_latency_ns(result, 500));
	json_write_u64(writer, "latency_p99_ns", bench_disk_run_latency_ns(result, 990));
	json_write_u64(writer, "latency_p999_ns", bench_disk_run_latency_ns(result, 999));
	json_write_u64(writer, "cpu_ns_per_gib", (uint64_t)(cpu_per_gib(result) * 1e9));
	json_end_object(writer);
}

static void write_workload(struct json_writer *writer, const struct bench_table *table, size_t i)
{
	const struct bench_workload *workload = &table->workloads[i];

	json_begin_object(writer, NULL);
	json_write_string(writer, "name", workload->name);
	if (workload->series != NULL)
		json_write_string(writer, "series", workload->series);
	json_write_string(writer, "operation",
			  workload->operation == BLOCK_READ ? "read" : "write");
	json_write_u64(writer, "size", workload->size);
	json_write_u64(writer, "depth", workload->depth);
	if (table->cipher != NULL)
		json_write_u64(
			writer, "cipher_ns_per_gib",
			(uint64_t)(table->cipher_seconds_per_gib[workload->operation] * 1e9));
	for (size_t path = 0; path < table->path_count; path++)
		write_result(writer, table->paths[path].name, &table->results[i][path]);
	json_end_object(writer);
}

static void write_machine(struct json_writer *writer)
{
	struct cpu_features cpu;
	struct utsname system;

	cpu_detect(&cpu);
	uname(&system);
	json_write_string(writer, "cpu", cpu.model);
	json_write_u64(writer, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	json_write_string(writer, "kernel", system.release);
	json_write_string(writer, "version", BYOK_VERSION " (" BYOK_REVISION ")");
	json_write_u64(writer, "time", (uint64_t)time(NULL));
}

const char *bench_table_json(const struct bench_table *table)
{
	const struct block_volume *volume = &table->paths[0].volume;
	struct json_writer *writer = json_output_begin();

	json_begin_object(writer, NULL);
	write_machine(writer);
	if (table->cipher != NULL) {
		json_write_string(writer, "disk", volume->disk->path);
		json_write_u64(writer, "size_bytes", volume->size_bytes);
		json_write_bool(writer, "direct", volume->disk->is_direct);
		json_write_string(writer, "cipher", table->cipher);
	}
	json_begin_array(writer, "paths");
	for (size_t i = 0; i < table->path_count; i++)
		json_write_string(writer, NULL, table->paths[i].name);
	json_end_array(writer);
	json_begin_array(writer, "workloads");
	for (size_t i = 0; i < table->workload_count; i++)
		write_workload(writer, table, i);
	json_end_array(writer);
	json_end_object(writer);
	return json_output_end();
}

enum status bench_table_tell(const struct bench_table *table, const struct arguments *arguments)
{
	if (arguments->values[OPTION_JSON] != NULL)
		puts(bench_table_json(table));
	else
		print_text(table);
	return table->report != NULL ? bench_report_write(table) : OK;
}
