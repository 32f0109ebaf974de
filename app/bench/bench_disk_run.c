#include "app/bench/bench_disk_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "platform/entropy.h"
#include "platform/log.h"

#define DEPTH_MAX 64

struct run {
	const struct bench_workload *workload;
	const struct block_volume *volume;
	struct bench_result *result;
	struct ring ring;
	struct buffer_pool pool;
	struct block_engine *engine; /* NULL: raw */
	unsigned handler;
	uint64_t deadline_ns;
	uint64_t place_count; /* where requests may begin, in multiples of their size */
	uint64_t next_place;
	uint64_t random; /* of a xorshift; never 0 */
	uint64_t started_ns[DEPTH_MAX];
	unsigned under_way;
	int error; /* the first */
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec time;

	CHECK(clock_gettime(clock, &time) == 0);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* What all processors did, by the kernel's count; 0 if it does not tell. */
static uint64_t machine_cpu_ns(void)
{
	enum { IDLE = 3, IO_WAIT = 4, KINDS = 7 }; /* and user, nice, system, irq, softirq */
	char text[512] = "";
	char *next = text + strlen("cpu");
	uint64_t ticks = 0;
	int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '\0';
	close(fd);
	for (int kind = 0; kind < KINDS; kind++) {
		uint64_t value = strtoull(next, &next, 10);

		if (kind != IDLE && kind != IO_WAIT)
			ticks += value;
	}
	return ticks * (1000000000 / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t cpu_ns(const struct bench_path *path)
{
	return path->is_served_elsewhere ? machine_cpu_ns() : now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static size_t bucket_of(uint64_t latency_ns)
{
	unsigned bits = 0;

	while (latency_ns >> bits >= 2 * BENCH_LATENCY_STEPS)
		bits++;
	return MINIMUM((size_t)bits * BENCH_LATENCY_STEPS + (size_t)(latency_ns >> bits),
		       BENCH_LATENCY_BUCKETS - 1);
}

static uint64_t latency_of(size_t bucket)
{
	size_t bits = bucket < 2 * BENCH_LATENCY_STEPS ? 0 : bucket / BENCH_LATENCY_STEPS - 1;

	return (bucket - bits * BENCH_LATENCY_STEPS) << bits;
}

uint64_t bench_disk_run_latency_ns(const struct bench_result *result, unsigned permille)
{
	uint64_t wanted = result->operations * permille / 1000;
	uint64_t seen = 0;

	for (size_t i = 0; i < BENCH_LATENCY_BUCKETS; i++) {
		seen += result->latencies[i];
		if (seen > wanted || seen == result->operations)
			return latency_of(i);
	}
	return 0;
}

static uint64_t choose_offset(struct run *run)
{
	uint64_t place = run->next_place;

	if (run->workload->is_random) {
		run->random ^= run->random << 13;
		run->random ^= run->random >> 7;
		run->random ^= run->random << 17;
		place = run->random % run->place_count;
	} else {
		run->next_place = (place + 1) % run->place_count;
	}
	return place * run->workload->size;
}

static void start(struct run *run, unsigned tag)
{
	const struct bench_workload *workload = run->workload;
	uint64_t offset = choose_offset(run);
	uint64_t disk_offset = run->volume->data_offset_bytes + offset;
	uint64_t token = ring_token(run->handler, tag);
	uint8_t *buffer = buffer_pool_at(&run->pool, tag);

	run->started_ns[tag] = now_ns(CLOCK_MONOTONIC);
	run->under_way++;
	if (run->engine != NULL)
		block_engine_submit(run->engine, tag,
				    &(struct block_command){.operation = workload->operation,
							    .offset_bytes = offset,
							    .size = workload->size});
	else if (workload->operation == BLOCK_READ)
		backing_disk_start_read(run->volume->disk, &run->ring, token, buffer,
					workload->size, disk_offset);
	else
		backing_disk_start_write(run->volume->disk, &run->ring, token, buffer,
					 workload->size, disk_offset, false);
}

static void handle_complete(void *context, unsigned tag, int error)
{
	struct run *run = context;
	uint64_t now = now_ns(CLOCK_MONOTONIC);

	run->under_way--;
	if (error != 0 && run->error == 0)
		run->error = error;
	run->result->operations++;
	run->result->bytes += run->workload->size;
	run->result->latencies[bucket_of(now - run->started_ns[tag])]++;
	if (run->error == 0 && now < run->deadline_ns)
		start(run, tag);
}

static void handle_raw(void *context, uint32_t tag, int32_t result)
{
	const struct run *run = context;
	int error = result < 0 ? -result : (uint32_t)result == run->workload->size ? 0 : EIO;

	handle_complete(context, tag, error);
}

static enum status open_run(struct run *run, bool has_engine)
{
	const struct block_engine_options options = {.tag_count = run->workload->depth};

	TRY(buffer_pool_open(&run->pool, run->workload->size, run->workload->depth));
	/* Zeros might not reach the disk, or be stored as less than they are. */
	if (run->workload->operation == BLOCK_WRITE)
		entropy_fill(run->pool.arena, run->pool.arena_size);
	TRY(ring_open(&run->ring,
		      &(struct ring_options){
			      .operations_max = block_engine_operations_max(&options, &run->pool),
			      .file_count = BACKING_DISK_SLOT + 1}));
	if (has_engine)
		return block_engine_open(&run->engine, &options, run->volume, &run->ring,
					 &run->pool, handle_complete, run);
	TRY(ring_register_memory(&run->ring, run->pool.arena, run->pool.arena_size));
	TRY(backing_disk_attach(run->volume->disk, &run->ring));
	run->handler = ring_add_handler(&run->ring, handle_raw, run);
	return OK;
}

static enum status keep_busy(struct run *run)
{
	for (unsigned tag = 0; tag < run->workload->depth; tag++)
		start(run, tag);
	while (run->under_way > 0) {
		bool has_work = run->engine != NULL && block_engine_has_work(run->engine);

		TRY(ring_turn(&run->ring, !has_work));
		if (run->engine != NULL)
			block_engine_advance(run->engine);
	}
	if (run->error == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, run->error, "%s: %s", run->volume->disk->path,
		  run->workload->name);
	return FAIL_DISK_IO;
}

enum status bench_disk_run(struct bench_result *result, const struct bench_workload *workload,
			   const struct bench_path *path, uint64_t duration_ns)
{
	struct run run = {.workload = workload,
			  .volume = &path->volume,
			  .result = result,
			  .place_count = path->volume.size_bytes / workload->size,
			  .random = 1 + (uint64_t)entropy_u32()};
	uint64_t began_ns, cpu_began_ns;
	enum status status;

	CHECK(workload->depth <= DEPTH_MAX && run.place_count > 0);
	status = open_run(&run, path->has_engine);
	began_ns = now_ns(CLOCK_MONOTONIC);
	cpu_began_ns = cpu_ns(path);
	run.deadline_ns = began_ns + duration_ns;
	if (status == OK)
		status = keep_busy(&run);
	result->elapsed_ns += now_ns(CLOCK_MONOTONIC) - began_ns;
	result->cpu_ns += cpu_ns(path) - cpu_began_ns;
	ring_close(&run.ring);
	block_engine_close(&run.engine);
	/* After a failure the kernel may still be moving bytes: the memory goes with the process.
	 */
	if (run.under_way == 0)
		buffer_pool_close(&run.pool);
	return status;
}
