#include "io/ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "platform/log.h"

/* The first that the kernel takes. DEFER_TASKRUN (6.1) runs completions only when the loop asks for
 * them, so the cipher is never interrupted; COOP_TASKRUN (5.19) at least sends no interrupts for
 * them; without either everything works, only slower. Through NBD on two cores the first two were
 * equally fast (random 4 KiB reads, depths 1 and 32, within the spread of 3 %). */
static const unsigned setups[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	0,
};

/* For a disk that always takes longer, one wait in 128 is preceded by a look. */
#define VAIN_LOOKS_MAX 7

/* _IO(0x12, 0): newer than the headers of Debian 12. */
#define BLOCK_COMMAND_DISCARD 0x1200u

static enum status set_up(struct io_uring *uring, const struct ring_options *options)
{
	int error = -EINVAL;

	for (size_t i = 0; i < ARRAY_COUNT(setups) && error == -EINVAL; i++) {
		/* Every operation under way could complete before the loop looks, and every one
		 * could be started in one turn. */
		struct io_uring_params parameters = {
			.flags = setups[i] | IORING_SETUP_CQSIZE |
				 (options->has_large_submissions ? IORING_SETUP_SQE128 : 0),
			.cq_entries = 2 * options->operations_max,
		};

		error = io_uring_queue_init_params(options->operations_max, uring, &parameters);
	}
	switch (error) {
	case 0: return OK;
	case -ENOMEM: log_errno(LOG_PRIORITY_ERROR, ENOMEM, "io_uring"); return FAIL_OUT_OF_MEMORY;
	case -ENOSYS:
	case -EPERM:
	case -EACCES:
		log_errno(LOG_PRIORITY_ERROR, -error,
			  "io_uring: this kernel, its setting kernel.io_uring_disabled or a "
			  "container's filter does not allow it");
		return FAIL_IO_URING_ABSENT;
	default: log_errno(LOG_PRIORITY_ERROR, -error, "io_uring"); return FAIL_SYSTEM;
	}
}

enum status ring_open(struct ring *ring, const struct ring_options *options)
{
	struct io_uring *uring = calloc(1, sizeof(*uring));
	enum status status;
	int error;

	CHECK(options->operations_max > 0 && options->file_count > 0);
	if (uring == NULL)
		return FAIL_OUT_OF_MEMORY;
	status = set_up(uring, options);
	if (status != OK) {
		free(uring);
		return status;
	}
	error = io_uring_register_files_sparse(uring, options->file_count);
	if (error < 0) {
		log_errno(LOG_PRIORITY_ERROR, -error, "io_uring: registering %u files",
			  options->file_count);
		io_uring_queue_exit(uring);
		free(uring);
		return FAIL_SYSTEM;
	}
	/* A ring lives as long as somebody has its memory: a child that was forked would keep it
	 * alive after our death, with all that waits in it. */
	(void)io_uring_ring_dontfork(uring);
	/* Saves the lookup of the ring's own descriptor in each turn; a kernel without it goes on.
	 */
	(void)io_uring_register_ring_fd(uring);
	*ring = (struct ring){.uring = uring,
			      .operations_max = options->operations_max,
			      .file_count = options->file_count};
	return OK;
}

void ring_close(struct ring *ring)
{
	if (ring->uring == NULL)
		return;
	/* The kernel ends a ring in its own time; this gives the files back now, and with the disk
	 * the claim on it, unless an operation is under way. Unregistering all at once would wait
	 * for those (up to Linux 6.12): for ever, if it is a request that never comes. */
	for (unsigned slot = 0; slot < ring->file_count; slot++) {
		int none = -1;

		(void)io_uring_register_files_update(ring->uring, slot, &none, 1);
	}
	io_uring_queue_exit(ring->uring);
	free(ring->uring);
	*ring = (struct ring){0};
}

unsigned ring_add_handler(struct ring *ring, ring_handler *handle, void *context)
{
	CHECK(ring->handler_count < RING_HANDLERS_MAX && ring->started == 0);
	ring->handlers[ring->handler_count].handle = handle;
	ring->handlers[ring->handler_count].context = context;
	return ring->handler_count++;
}

enum status ring_register_memory(struct ring *ring, void *memory, size_t size)
{
	struct iovec region = {.iov_base = memory, .iov_len = size};
	int error = io_uring_register_buffers(ring->uring, &region, 1);

	if (error >= 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, -error, "io_uring: registering %zu MiB of buffers",
		  size >> 20);
	return error == -ENOMEM ? FAIL_OUT_OF_MEMORY : FAIL_SYSTEM;
}

enum status ring_set_file(struct ring *ring, unsigned slot, int fd)
{
	int error;

	CHECK(slot < ring->file_count);
	error = io_uring_register_files_update(ring->uring, slot, &fd, 1);
	if (error >= 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, -error, "io_uring: registering a file");
	return FAIL_SYSTEM;
}

/* What the kernel could not take now (EAGAIN, EBUSY: no memory, too many completions unread) stays
 * queued and goes with the next turn. */
static enum status judge_submission(int result)
{
	if (result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, -result, "io_uring: submission");
	return FAIL_SYSTEM;
}

void ring_deliver(const struct ring *ring, uint64_t token, int32_t result)
{
	uint64_t handler = token >> 32;

	CHECK(handler < ring->handler_count);
	ring->handlers[handler].handle(ring->handlers[handler].context, (uint32_t)token, result);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Ends early when something has completed. Looking in vain burns CPU time that others could use:
 * after each such time in a row, twice as many of the next are left out. */
static enum status look_for_a_while(struct ring *ring)
{
	uint64_t deadline_ns;

	if (ring->looks_left_out > 0) {
		ring->looks_left_out--;
		return OK;
	}
	TRY(judge_submission(io_uring_submit_and_get_events(ring->uring)));
	deadline_ns = now_ns() + ring->patience_ns;
	while (io_uring_cq_ready(ring->uring) == 0 && now_ns() < deadline_ns)
		(void)io_uring_get_events(ring->uring);
	ring->vain_looks = io_uring_cq_ready(ring->uring) > 0
				   ? 0
				   : MINIMUM(ring->vain_looks + 1, VAIN_LOOKS_MAX);
	ring->looks_left_out = (1u << ring->vain_looks) - 1;
	return OK;
}

enum status ring_turn(struct ring *ring, bool wait)
{
	struct {
		uint64_t token;
		int32_t result;
	} completions[RING_TURN_MAX];
	struct io_uring_cqe *entry;
	unsigned count = 0;
	unsigned head;

	CHECK(!wait || ring->started != ring->completed);
	if (wait && ring->patience_ns > 0) {
		TRY(look_for_a_while(ring));
		wait = io_uring_cq_ready(ring->uring) == 0;
	}
	TRY(judge_submission(wait ? io_uring_submit_and_wait(ring->uring, 1)
				  : io_uring_submit_and_get_events(ring->uring)));
	io_uring_for_each_cqe(ring->uring, head, entry)
	{
		if (count == RING_TURN_MAX)
			break;
		completions[count].token = entry->user_data;
		completions[count].result = entry->res;
		count++;
	}
	io_uring_cq_advance(ring->uring, count);
	ring->completed += count;
	for (unsigned i = 0; i < count; i++)
		ring_deliver(ring, completions[i].token, completions[i].result);
	return OK;
}

static struct io_uring_sqe *take_submission(struct ring *ring)
{
	struct io_uring_sqe *submission;

	CHECK(ring->started - ring->completed < ring->operations_max);
	submission = io_uring_get_sqe(ring->uring);
	CHECK(submission != NULL);
	ring->started++;
	return submission;
}

/* The last word on a submission: preparing it has overwritten what may have stood here. */
static void address(struct io_uring_sqe *submission, uint64_t token)
{
	submission->flags |= (uint8_t)IOSQE_FIXED_FILE;
	submission->user_data = token;
}

void ring_nop(struct ring *ring, uint64_t token)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_nop(submission);
	submission->user_data = token;
}

void ring_read_fixed(struct ring *ring, uint64_t token, unsigned slot, void *target, size_t size,
		     uint64_t offset_bytes)
{
	struct io_uring_sqe *submission = take_submission(ring);

	CHECK(size <= INT32_MAX);
	io_uring_prep_read_fixed(submission, (int)slot, target, (unsigned)size, offset_bytes, 0);
	address(submission, token);
}

void ring_write_fixed(struct ring *ring, uint64_t token, unsigned slot, const void *source,
		      size_t size, uint64_t offset_bytes, bool is_durable)
{
	struct io_uring_sqe *submission = take_submission(ring);

	CHECK(size <= INT32_MAX);
	io_uring_prep_write_fixed(submission, (int)slot, source, (unsigned)size, offset_bytes, 0);
	submission->rw_flags = is_durable ? RWF_DSYNC : 0;
	address(submission, token);
}

void ring_sync_data(struct ring *ring, uint64_t token, unsigned slot)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_fsync(submission, (int)slot, IORING_FSYNC_DATASYNC);
	address(submission, token);
}

void ring_punch_hole(struct ring *ring, uint64_t token, unsigned slot, uint64_t offset_bytes,
		     uint64_t size)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_fallocate(submission, (int)slot, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)offset_bytes, (off_t)size);
	address(submission, token);
}

static void prepare_command(struct io_uring_sqe *submission, unsigned slot, uint32_t operation)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, submission, (int)slot, NULL, 0, 0);
	submission->cmd_op = operation;
}

void ring_discard_blocks(struct ring *ring, uint64_t token, unsigned slot, uint64_t offset_bytes,
			 uint64_t size)
{
	struct io_uring_sqe *submission = take_submission(ring);

	prepare_command(submission, slot, BLOCK_COMMAND_DISCARD);
	submission->addr = offset_bytes;
	submission->addr3 = size;
	address(submission, token);
}

void ring_accept(struct ring *ring, uint64_t token, unsigned slot)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_accept(submission, (int)slot, NULL, NULL, SOCK_CLOEXEC);
	address(submission, token);
}

void ring_receive(struct ring *ring, uint64_t token, unsigned slot, struct msghdr *message)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_recvmsg(submission, (int)slot, message, 0);
	address(submission, token);
}

void ring_send(struct ring *ring, uint64_t token, unsigned slot, const struct msghdr *message)
{
	struct io_uring_sqe *submission = take_submission(ring);

	/* With WAITALL the kernel itself goes on after a short send, without a trip to us. */
	io_uring_prep_sendmsg(submission, (int)slot, message, MSG_NOSIGNAL | MSG_WAITALL);
	address(submission, token);
}

void ring_wait_readable(struct ring *ring, uint64_t token, unsigned slot)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_poll_add(submission, (int)slot, POLLIN);
	address(submission, token);
}

_Static_assert(sizeof(struct ring_timeout) == sizeof(struct __kernel_timespec),
	       "the kernel reads a struct ring_timeout");

void ring_sleep(struct ring *ring, uint64_t token, const struct ring_timeout *timeout)
{
	struct io_uring_sqe *submission = take_submission(ring);

	io_uring_prep_rw(IORING_OP_TIMEOUT, submission, -1, timeout, 1, 0);
	submission->user_data = token;
}

void ring_command(struct ring *ring, uint64_t token, unsigned slot, uint32_t operation,
		  const void *payload, size_t payload_size)
{
	struct io_uring_sqe *submission = take_submission(ring);
	size_t room = (ring->uring->flags & IORING_SETUP_SQE128) != 0 ? 80 : 16;
	uint8_t *area = (uint8_t *)submission + offsetof(struct io_uring_sqe, cmd);

	CHECK(payload_size <= room);
	prepare_command(submission, slot, operation);
	memset(area, 0, room);
	memcpy(area, payload, payload_size);
	address(submission, token);
}
