/* The report of a measurement: one HTML page that needs nothing from anywhere. */
#ifndef APP_BENCH_BENCH_REPORT_H
#define APP_BENCH_BENCH_REPORT_H

#include "app/bench/bench_table.h"

/* Writes table->report anew. With perf on the machine it also runs the last path once more, to
 * watch it. FAIL_FILE. */
MUST_CHECK enum status bench_report_write(const struct bench_table *table);

#endif
