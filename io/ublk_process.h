/* What makes a process fit to serve a block device that programs on the same machine use: the
 * kernel must never have to wait for the device in order to let the process go on, or end. */
#ifndef IO_UBLK_PROCESS_H
#define IO_UBLK_PROCESS_H

#include "platform/status.h"

/* Call it when the disk is open, before there is a second thread or a ring, and before lockdown.
 *
 * Memory reclaim will not wait for this process and what it starts: it may itself be what writes
 * the dirty pages out.
 *
 * The process gets a mount namespace of its own, in which nothing is mounted but /, /dev, /proc,
 * /sys and /run. If it were the last to leave the namespace in which a file system on its own
 * device is mounted (a container's), the kernel would unmount that with nobody left to serve it,
 * and wait for ever. An ordinary copy of the namespace is no better: it keeps busy what others
 * unmount.
 *
 * FAIL_NOT_ROOT, FAIL_SYSTEM. */
MUST_CHECK enum status ublk_process_prepare(void);

/* For each thread that serves. PR_SET_IO_FLUSHER is inherited, so this only makes sure. */
MUST_CHECK enum status ublk_process_join_flushers(void);

#endif
