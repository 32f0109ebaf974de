/* One measured run on a disk: a number of requests kept under way for a while. Each is one
 * operation of the ring, or goes through the block engine, cipher included. */
#ifndef APP_BENCH_BENCH_DISK_RUN_H
#define APP_BENCH_BENCH_DISK_RUN_H

#include "io/block_engine.h"

struct bench_workload {
	char name[32];
	const char *series; /* of a report's plots: "size" or "depth" grows; else NULL */
	enum block_operation operation; /* BLOCK_READ or BLOCK_WRITE */
	uint32_t size;                  /* of a request; a multiple of 4096 */
	unsigned depth;
	bool is_random;
};

/* One way to a disk's bytes. */
struct bench_path {
	const char *name;
	struct block_volume volume; /* where on which disk */
	bool has_engine;            /* ours, in this process; else raw */
	bool is_served_elsewhere;   /* so the CPU time counted is the whole machine's */
};

/* Sixteen steps for each power of two of nanoseconds: within 6 % of the truth. */
#define BENCH_LATENCY_STEPS 16
#define BENCH_LATENCY_BUCKETS (40 * BENCH_LATENCY_STEPS)

struct bench_result {
	uint64_t operations;
	uint64_t bytes;
	uint64_t elapsed_ns;
	uint64_t cpu_ns; /* of the process or the machine, the kernel's work included */
	uint32_t latencies[BENCH_LATENCY_BUCKETS];
};

/* Adds to `result`. Within [volume.data_offset_bytes, + size_bytes) of the volume's disk; memory is
 * taken before and given back after. FAIL_DISK_IO, and the failures of ring and engine. */
MUST_CHECK enum status bench_disk_run(struct bench_result *result,
				      const struct bench_workload *workload,
				      const struct bench_path *path, uint64_t duration_ns);

/* The latency that `permille` of the operations kept within. */
uint64_t bench_disk_run_latency_ns(const struct bench_result *result, unsigned permille);

#endif
