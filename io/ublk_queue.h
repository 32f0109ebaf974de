/* One queue of a ublk device: a thread with a ring, a buffer pool and a block_engine of its own,
 * which takes requests from the kernel and answers them. Making the device around it is
 * ublk_device's.
 *
 * Copy mode: each tag has a buffer; the kernel copies a WRITE's data into it before it hands the
 * request over, and a READ's out of it when it is answered. One command both answers a request and
 * asks for the next one of that tag.
 */
#ifndef IO_UBLK_QUEUE_H
#define IO_UBLK_QUEUE_H

#include "io/block_engine.h"
#include "io/ublk_control.h"
#include "platform/status.h"

struct ublk_queue_options {
	unsigned index;            /* which queue of the device */
	unsigned depth;            /* requests at once, as the device was added with */
	uint32_t request_size_max; /* bytes; a multiple of 4096 */
	uint32_t piece_size;       /* as struct block_engine_options */
	int ended_fd;              /* an eventfd: counts queues that have ended */
	struct ublk_cpu_mask cpus; /* where its thread runs */
};

struct ublk_queue;

/* Starts the thread, and returns when it has taken all its memory, or has failed. Keeps `volume`
 * and the descriptor until ublk_queue_join. The thread is marked as one that memory reclaim must
 * not wait for (PR_SET_IO_FLUSHER), for it may itself be what writes dirty pages out; without the
 * right to, FAIL_NOT_ROOT. */
MUST_CHECK enum status ublk_queue_start(struct ublk_queue **queue,
					const struct ublk_queue_options *options,
					const struct block_volume *volume);

/* Has the thread ask the kernel for a request on every tag; ublk_queue_await then tells whether it
 * has. Two calls, so that all queues of a device do so at the same time. Once each. Keeps
 * `device_fd`, /dev/ublkcN, until ublk_queue_join, which must follow a failure too. */
void ublk_queue_attach(struct ublk_queue *queue, int device_fd);
MUST_CHECK enum status ublk_queue_await(struct ublk_queue *queue);

/* Waits for the thread's end, which comes when the device is stopped or the queue fails, or if it
 * was never attached to one, and gives back its memory. OK if the kernel ended it and every request
 * was answered. Sets *queue to NULL; OK if it is. */
MUST_CHECK enum status ublk_queue_join(struct ublk_queue **queue);

#endif
