/* What a measurement does to a disk, and that it counts it. */
#include "app/bench/bench_disk_run.h"

#include "tests/unit/fakes/fake_cipher.c"
#include "tests/unit/fakes/fake_disk.c"
#include "tests/unit/test.h"

enum { DISK_SIZE = 1024 * 1024, FIRST = 65536, RANGE = 256 * 1024, SHORT_NS = 2000000 };

static struct backing_disk disk;
static struct bench_path path;
static struct bench_result result;

static void start(bool has_engine)
{
	disk = fake_disk_make(DISK_SIZE);
	fake_disk_set_automatic();
	memset(fake.bytes, 0xee, DISK_SIZE);
	result = (struct bench_result){0};
	path = (struct bench_path){.has_engine = has_engine,
				   .volume = {.disk = &disk,
					      .data_offset_bytes = FIRST,
					      .size_bytes = RANGE,
					      .cipher = fake_cipher_make(4096)}};
}

static bool is_untouched(size_t begin, size_t end)
{
	for (size_t i = begin; i < end; i++)
		if (fake.bytes[i] != 0xee)
			return false;
	return true;
}

static const struct bench_workload random_writes = {"writes", NULL, BLOCK_WRITE, 4096, 8, true};
static const struct bench_workload reads = {"reads", NULL, BLOCK_READ, 32768, 4, false};

TEST(writes_stay_within_the_range_and_reach_it)
{
	for (int has_engine = 0; has_engine <= 1; has_engine++) {
		start(has_engine);
		EXPECT_STATUS(bench_disk_run(&result, &random_writes, &path, SHORT_NS),
			      OK);
		EXPECT_TRUE(is_untouched(0, FIRST));
		EXPECT_TRUE(is_untouched(FIRST + RANGE, DISK_SIZE));
		EXPECT_FALSE(is_untouched(FIRST, FIRST + RANGE));
		EXPECT_EQUAL(fake_cipher.encrypt_calls > 0, has_engine);
	}
}

TEST(reads_write_nothing_and_only_byok_decrypts)
{
	for (int has_engine = 0; has_engine <= 1; has_engine++) {
		start(has_engine);
		EXPECT_STATUS(bench_disk_run(&result, &reads, &path, SHORT_NS), OK);
		EXPECT_EQUAL(fake.started[FAKE_WRITE], 0);
		EXPECT_EQUAL(fake_cipher.decrypt_calls > 0, has_engine);
	}
}

TEST(every_operation_is_counted_once)
{
	uint64_t latencies = 0;

	start(false);
	EXPECT_STATUS(bench_disk_run(&result, &reads, &path, SHORT_NS), OK);
	EXPECT_EQUAL(result.operations, fake.started[FAKE_READ]);
	EXPECT_EQUAL(result.bytes, result.operations * reads.size);
	for (size_t i = 0; i < BENCH_LATENCY_BUCKETS; i++)
		latencies += result.latencies[i];
	EXPECT_EQUAL(latencies, result.operations);
	EXPECT_TRUE(result.elapsed_ns >= SHORT_NS && result.cpu_ns > 0);
}

TEST(a_disk_that_fails_or_stops_short_ends_the_measurement)
{
	static const int32_t results[] = {-EIO, 4096};

	for (size_t i = 0; i < ARRAY_COUNT(results); i++) {
		start(false);
		fake_disk_fail(FAKE_READ, 3, results[i]);
		EXPECT_STATUS(bench_disk_run(&result, &reads, &path, SHORT_NS),
			      FAIL_DISK_IO);
	}
}

TEST(a_percentile_is_the_latency_that_so_many_kept_within)
{
	start(false);
	result.operations = 1000;
	result.latencies[20] = 990;                            /* 20 ns */
	result.latencies[2 * BENCH_LATENCY_STEPS + 20] = 9;    /* 20 << 2 */
	result.latencies[10 * BENCH_LATENCY_STEPS + 31] = 1;   /* 31 << 10 */
	EXPECT_EQUAL(bench_disk_run_latency_ns(&result, 500), 20);
	EXPECT_EQUAL(bench_disk_run_latency_ns(&result, 989), 20);
	EXPECT_EQUAL(bench_disk_run_latency_ns(&result, 995), 80);
	EXPECT_EQUAL(bench_disk_run_latency_ns(&result, 999), 31 << 10);
}
