/* byok bench disk: one disk, raw through io_uring and through byok's engine, in turns. */
#ifndef APP_BENCH_BENCH_DISK_H
#define APP_BENCH_BENCH_DISK_H

#include "app/arguments.h"

/* Second operand: the disk. Reads only, unless --write is given: then the disk must be blank or one
 * that this command has written to before, else FAIL_DISK_HAS_..., and is overwritten. */
MUST_CHECK enum status bench_disk(struct arguments *arguments);

#endif
