/* A block device /dev/ublkbN that shows a volume decrypted: the kernel's device, and the queues
 * that serve it from this process. Who may use it and what it is called is app's.
 */
#ifndef IO_UBLK_DEVICE_H
#define IO_UBLK_DEVICE_H

#include "io/ublk_control.h"
#include "io/ublk_queue.h"
#include "platform/status.h"

#define UBLK_DEVICE_PATH_SIZE 24

struct ublk_device_options {
	uint32_t device_id;        /* N, or UBLK_ANY_DEVICE */
	unsigned queue_count;      /* at most; the driver makes no more than there are CPUs */
	unsigned queue_depth;      /* requests at once and queue, each with a buffer; 1 to
				    * UBLK_QUEUE_DEPTH_MAX */
	uint32_t request_size_max; /* bytes, 4096 to 32 MiB; a multiple of 4096 */
	uint32_t piece_size;       /* as struct block_engine_options */
	uint64_t mark;             /* finds the device after this process; 0 if nobody will */
	bool is_recoverable;       /* when this process dies, the device stays, and its users wait
				    * for ublk_device_recover; else it goes, and they get errors */
};

struct ublk_device;

/* In a process that ublk_process_prepare has made fit for it. When it returns OK, the device can
 * be used. Keeps `volume`. Geometry, read-only, write cache and FUA mirror the backing disk. All
 * calls for one device must come from the same thread; the queues have threads of their own.
 * FAIL_UBLK_ABSENT, FAIL_UBLK, FAIL_OUT_OF_MEMORY, FAIL_NOT_ROOT, FAIL_IO_URING_ABSENT,
 * FAIL_SYSTEM; then nothing is left behind, unless the driver got stuck. */
MUST_CHECK enum status ublk_device_start(struct ublk_device **device,
					 const struct ublk_device_options *options,
					 const struct block_volume *volume);

/* Serves again, with the queues it had, the recoverable device with options->mark, whose process
 * died: its users go on where they waited. The volume must be the same as before. Only the mark
 * and the piece size of the options count. FAIL_VOLUME_UNKNOWN if there is no such device to
 * recover, and all of the above; then the device still waits, and the process should end, so that
 * another can try. */
MUST_CHECK enum status ublk_device_recover(struct ublk_device **device,
					   const struct ublk_device_options *options,
					   const struct block_volume *volume);

/* Removes the device, mounted or not, once its requests are answered, and gives back its memory.
 * What only the page cache has of a recoverable device that is still open is lost: refuse while
 * ublk_device_is_open, unless forced. Sets *device to NULL; OK if it is. After a failure to remove
 * it (FAIL_UBLK, or those of ublk_control_open) the process should end. */
MUST_CHECK enum status ublk_device_stop(struct ublk_device **device);

/* "/dev/ublkb3" */
const char *ublk_device_path(const struct ublk_device *device);

/* Readable once a queue has ended: the device no longer works (another program stopped it, or the
 * queue failed) and should be stopped. For poll only; belongs to the device. */
int ublk_device_ended_fd(const struct ublk_device *device);

/* True if something has claimed the device: a mount, swap, device-mapper, another program that
 * opens it exclusively. */
bool ublk_device_is_open(const struct ublk_device *device);

/* Removes what a process that died left of the device with that mark, if anything. Its users get
 * errors. FAIL_NAME_TAKEN if the process lives. */
MUST_CHECK enum status ublk_device_remove_remains(uint64_t mark);

#endif
