/* Several ways to the bytes of disks, measured in turns and told side by side: what `byok bench
 * disk` and `byok bench volume` have in common. The first path is the one that the others are held
 * against. */
#ifndef APP_BENCH_BENCH_TABLE_H
#define APP_BENCH_BENCH_TABLE_H

#include <stdio.h>

#include "app/arguments.h"
#include "app/bench/bench_disk_run.h"

#define BENCH_PATHS_MAX 8
#define BENCH_WORKLOADS_MAX 32

struct bench_table {
	const char *kind; /* "disk", "volume": the command */
	bool may_write;
	bool is_quick;
	FILE *report; /* NULL: none */

	struct bench_path paths[BENCH_PATHS_MAX];
	size_t path_count;

	/* Ours, if a path has an engine; else NULL. */
	const char *cipher;
	double cipher_seconds_per_gib[BLOCK_OPERATIONS]; /* of BLOCK_READ and BLOCK_WRITE */

	struct bench_workload workloads[BENCH_WORKLOADS_MAX];
	size_t workload_count;
	size_t headline_count; /* the first ones; behind them stand the series for plots */
	struct bench_result results[BENCH_WORKLOADS_MAX][BENCH_PATHS_MAX];
};

/* Takes what the words ask for: workloads, and the report's file, which is there from now on.
 * FAIL_FILE. `table` is all zeros; the caller then adds the paths. */
MUST_CHECK enum status bench_table_open(struct bench_table *table, const char *kind,
					struct arguments *arguments);
void bench_table_close(struct bench_table *table);

/* A path through the whole disk, but for a MiB at each end if it is written to: with --write the
 * disk must be blank, or one that bench has written to before. Then it is marked so. `disk` is
 * opened, and kept; the caller closes it. FAIL_DISK_TOO_SMALL, FAIL_DISK_HAS_..., and the failures
 * of backing_disk_open. */
MUST_CHECK enum status bench_table_claim(struct bench_table *table, struct backing_disk *disk,
					 const char *path, struct arguments *arguments);

/* FAIL_DISK_IO, FAIL_OUT_OF_MEMORY, FAIL_IO_URING_ABSENT. */
MUST_CHECK enum status bench_table_measure(struct bench_table *table);

/* On standard output, for people or as JSON, and in the report. FAIL_FILE. */
MUST_CHECK enum status bench_table_tell(const struct bench_table *table,
					const struct arguments *arguments);

/* What --json prints; valid until the next call. */
const char *bench_table_json(const struct bench_table *table);

#endif
