/* One io_uring, and the only place that knows liburing. An operation names a token (which handler,
 * which index); when it completes, the ring calls that handler with the index and the kernel's
 * result. What a result means is the handler's business.
 *
 * A ring belongs to the thread that opened it: every call must come from there. All memory is taken
 * in ring_open. Files are named by their slot among the ring's registered files, never by
 * descriptor, so that no operation looks one up.
 */
#ifndef IO_RING_H
#define IO_RING_H

#include "platform/status.h"

struct io_uring;
struct msghdr;

#define RING_HANDLERS_MAX 8

/* The most completions that one ring_turn runs; what is left waits for the next turn, so that no
 * flood of one kind starves the caller. */
#define RING_TURN_MAX 256

/* `result` is the kernel's: a count of 0 or more, or -errno. Runs within ring_turn; it may start
 * operations, but must not call ring_turn. */
typedef void ring_handler(void *context, uint32_t index, int32_t result);

struct ring {
	struct io_uring *uring; /* liburing's, owned; NULL if not open */
	struct {
		ring_handler *handle;
		void *context;
	} handlers[RING_HANDLERS_MAX];
	unsigned handler_count;
	unsigned operations_max;
	unsigned file_count;
	uint64_t started;   /* operations ever */
	uint64_t completed; /* of them; the difference is under way */

	/* How long ring_turn looks for completions before it sleeps; 0 at first, and set by the
	 * ring's user at any time. Worth it where something fast is under way: falling asleep and
	 * being woken takes a CPU that has gone idle some 10 to 20 us. After looking in vain, some
	 * of the next waits go without. */
	uint32_t patience_ns;
	unsigned vain_looks;
	unsigned looks_left_out;
};

struct ring_options {
	unsigned operations_max;    /* most operations under way at once */
	unsigned file_count;        /* slots for registered files, all empty at first */
	bool has_large_submissions; /* room for the 80-byte commands of /dev/ublk-control */
};

/* Tries the cheapest way of running completions that the kernel has. FAIL_IO_URING_ABSENT if the
 * kernel has none or forbids it, FAIL_OUT_OF_MEMORY. */
MUST_CHECK enum status ring_open(struct ring *ring, const struct ring_options *options);

/* Waits for nothing: the kernel cancels what is under way. The caller sees to it that buffers of
 * operations under way outlive the ring. Harmless if never opened. */
void ring_close(struct ring *ring);

/* Gives the number that makes tokens for this handler. Before the first operation. */
unsigned ring_add_handler(struct ring *ring, ring_handler *handle, void *context);

static inline uint64_t ring_token(unsigned handler, uint32_t index)
{
	return (uint64_t)handler << 32 | index;
}

/* One region within which the _fixed operations may work; pinned until ring_close. */
MUST_CHECK enum status ring_register_memory(struct ring *ring, void *memory, size_t size);

/* Puts a file into a slot; the ring holds a reference of its own until the slot is emptied with
 * fd -1 or the ring is closed. Takes effect for operations that start later. */
MUST_CHECK enum status ring_set_file(struct ring *ring, unsigned slot, int fd);

/* Hands everything started to the kernel; if `wait`, waits until something has completed; then
 * copies the completions out and runs their handlers. A signal ends the sleep with OK and no
 * handler run. Must not be called with `wait` and nothing under way. */
MUST_CHECK enum status ring_turn(struct ring *ring, bool wait);

/* Runs the handler of one completion, as ring_turn does for each. */
void ring_deliver(const struct ring *ring, uint64_t token, int32_t result);

/* Operations. Each starts one, which reaches the kernel with the next ring_turn, and
 * completes exactly once. Memory given to it must stay until then; `message` and `timeout` are read
 * at submission, so they must stay until the next ring_turn at least. */
void ring_nop(struct ring *ring, uint64_t token);
void ring_read_fixed(struct ring *ring, uint64_t token, unsigned slot, void *target, size_t size,
		     uint64_t offset_bytes);
/* `is_durable` makes it RWF_DSYNC: complete when the data is on stable storage. */
void ring_write_fixed(struct ring *ring, uint64_t token, unsigned slot, const void *source,
		      size_t size, uint64_t offset_bytes, bool is_durable);
void ring_sync_data(struct ring *ring, uint64_t token, unsigned slot);
/* Frees the range of a regular file, or (Linux 6.12) discards it on a block device. */
void ring_punch_hole(struct ring *ring, uint64_t token, unsigned slot, uint64_t offset_bytes,
		     uint64_t size);
void ring_discard_blocks(struct ring *ring, uint64_t token, unsigned slot, uint64_t offset_bytes,
			 uint64_t size);
/* The result is an ordinary descriptor, close-on-exec, which the handler then owns. */
void ring_accept(struct ring *ring, uint64_t token, unsigned slot);
void ring_receive(struct ring *ring, uint64_t token, unsigned slot, struct msghdr *message);
void ring_send(struct ring *ring, uint64_t token, unsigned slot, const struct msghdr *message);
/* Completes once, when the file is readable. */
void ring_wait_readable(struct ring *ring, uint64_t token, unsigned slot);

/* As the kernel's struct __kernel_timespec. */
struct ring_timeout {
	int64_t seconds;
	long long nanoseconds;
};
void ring_sleep(struct ring *ring, uint64_t token, const struct ring_timeout *timeout);

/* A driver's own command: `operation` and at most 16 bytes of payload (80 with
 * has_large_submissions). */
void ring_command(struct ring *ring, uint64_t token, unsigned slot, uint32_t operation,
		  const void *payload, size_t payload_size);

#endif
