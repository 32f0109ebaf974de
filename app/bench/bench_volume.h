/* byok bench volume: block devices side by side, such as volumes that different data paths serve.
 */
#ifndef APP_BENCH_BENCH_VOLUME_H
#define APP_BENCH_BENCH_VOLUME_H

#include "app/arguments.h"

/* Further operands: the devices, BENCH_PATHS_MAX at most. Reads and writes as bench_disk. */
MUST_CHECK enum status bench_volume(struct arguments *arguments);

#endif
