/* Where the CPU's time goes, by Linux's perf if it is on the machine. */
#ifndef APP_BENCH_BENCH_PERF_H
#define APP_BENCH_BENCH_PERF_H

#include "app/bench/bench_table.h"

/* Runs the second workload on the table's last path once more under perf, and gives what `perf
 * report` says of it: lines "SHARE% PROCESS", each with lines "COUNT CALLER;...;CALLED" behind it.
 * Nothing if there is no perf, or it may not watch. */
typedef void bench_perf_take(void *context, char character);
void bench_perf_watch(const struct bench_table *table, bench_perf_take *take, void *context);

#endif
