#include "io/ublk_queue.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/ublk_process.h"
#include "platform/log.h"
#include "platform/thread.h"

#define DEVICE_SLOT (BACKING_DISK_SLOT + 1)
#define FILE_COUNT 2

/* musl gives a thread 128 KiB; a turn of the ring alone puts 4 KiB of completions there. */
#define STACK_SIZE (256 * 1024)

/* Where a tag is. */
enum tag_place {
	TAG_LOST,        /* never */
	TAG_WITH_KERNEL, /* waits for a request */
	TAG_WITH_US,     /* its request is being answered */
	TAG_RETIRED,     /* the kernel wants no more of it */
	TAG_PLACES
};

struct tag {
	enum tag_place place;
	uint32_t size; /* bytes that its request moves */
};

struct ublk_queue {
	struct ublk_queue_options options;
	const struct block_volume *volume;

	pthread_t thread;
	int device_fd;            /* -1: none */
	sem_t is_attached;        /* posted once, when the above is known */
	bool was_attached;        /* it was posted */
	sem_t is_started;         /* posted when the thread is ready, and when it has asked */
	enum status start_status; /* known then: whether it is, and has */
	enum status status;       /* the thread's own until it is joined: whether it still serves */

	struct buffer_pool pool;
	struct ring ring;
	struct block_engine *engine;
	const struct ublk_request_descriptor *descriptors; /* one per tag, written by the kernel */
	size_t descriptors_size;
	unsigned handler;
	struct tag *tags;
	unsigned counts[TAG_PLACES];
};

/* Quiet is not idle: what is under way is counted, never guessed. */
static void check_counts(const struct ublk_queue *queue)
{
	CHECK(queue->counts[TAG_LOST] == 0);
	CHECK(queue->counts[TAG_WITH_KERNEL] + queue->counts[TAG_WITH_US] +
		      queue->counts[TAG_RETIRED] ==
	      queue->options.depth);
}

static void move_tag(struct ublk_queue *queue, unsigned tag, enum tag_place from, enum tag_place to)
{
	CHECK(tag < queue->options.depth && queue->tags[tag].place == from);
	queue->counts[from]--;
	queue->counts[to]++;
	queue->tags[tag].place = to;
}

static void give_to_kernel(struct ublk_queue *queue, unsigned tag, uint32_t command, int32_t result)
{
	const struct ublk_io_command payload = {
		.queue_id = (uint16_t)queue->options.index,
		.tag = (uint16_t)tag,
		.result = result,
		.buffer = (uint64_t)(uintptr_t)buffer_pool_at(&queue->pool, tag),
	};

	ring_command(&queue->ring, ring_token(queue->handler, tag), DEVICE_SLOT, command, &payload,
		     sizeof(payload));
}

static void answer(struct ublk_queue *queue, unsigned tag, int error)
{
	/* After a failure the device goes down with this thread; the kernel ends its requests. */
	if (queue->status != OK) {
		move_tag(queue, tag, TAG_WITH_US, TAG_RETIRED);
		return;
	}
	move_tag(queue, tag, TAG_WITH_US, TAG_WITH_KERNEL);
	give_to_kernel(queue, tag, UBLK_COMMIT_AND_FETCH,
		       error != 0 ? -error : (int32_t)queue->tags[tag].size);
}

static void request_complete(void *context, unsigned tag, int error)
{
	answer(context, tag, error);
}

/* False for what byok never offered. A flush has no place: what stands there means nothing. */
static bool read_descriptor(const struct ublk_request_descriptor *descriptor,
			    struct block_command *command)
{
	const uint32_t operation = descriptor->operation;

	*command = (struct block_command){
		.is_durable = (operation & UBLK_REQUEST_FUA) != 0,
		.size = (uint64_t)descriptor->unit_count * SECTOR_UNIT_SIZE,
	};
	switch (operation & UBLK_OPERATION_MASK) {
	case UBLK_READ: command->operation = BLOCK_READ; break;
	case UBLK_WRITE: command->operation = BLOCK_WRITE; break;
	case UBLK_DISCARD: command->operation = BLOCK_DISCARD; break;
	case UBLK_FLUSH: *command = (struct block_command){.operation = BLOCK_FLUSH}; return true;
	default: return false;
	}
	return !__builtin_mul_overflow(descriptor->first_unit, SECTOR_UNIT_SIZE,
				       &command->offset_bytes);
}

static void take_request(struct ublk_queue *queue, unsigned tag)
{
	struct block_command command;

	if (!read_descriptor(&queue->descriptors[tag], &command)) {
		answer(queue, tag, EOPNOTSUPP);
		return;
	}
	/* A size beyond the buffer's is refused by the engine, so what is cut here is not used. A
	 * discard moves nothing, and may be larger than a result can say. */
	queue->tags[tag].size = command.operation == BLOCK_DISCARD ? 0 : (uint32_t)command.size;
	block_engine_submit(queue->engine, tag, &command);
}

static void tag_returned(void *context, uint32_t tag, int32_t result)
{
	struct ublk_queue *queue = context;

	if (result == UBLK_RESULT_REQUEST && queue->status == OK) {
		move_tag(queue, tag, TAG_WITH_KERNEL, TAG_WITH_US);
		take_request(queue, tag);
		return;
	}
	move_tag(queue, tag, TAG_WITH_KERNEL, TAG_RETIRED);
	if (result < 0 && result != UBLK_RESULT_ABORT && queue->status == OK) {
		log_errno(LOG_PRIORITY_ERROR, -result, "ublk queue %u, request %u",
			  queue->options.index, tag);
		queue->status = FAIL_UBLK;
	}
}

static enum status turn(struct ublk_queue *queue)
{
	check_counts(queue);
	TRY(ring_turn(&queue->ring, !block_engine_has_work(queue->engine)));
	block_engine_advance(queue->engine);
	return OK;
}

/* Until the kernel has taken every tag back, or something failed. */
static enum status serve(struct ublk_queue *queue)
{
	while (queue->status == OK && queue->counts[TAG_RETIRED] < queue->options.depth)
		TRY(turn(queue));
	return queue->status;
}

/* After a failure the disk may still be taking data from a buffer. It must not be wiped under the
 * write: that would put bytes on the disk that nobody has written. */
static enum status drain(struct ublk_queue *queue)
{
	while (!block_engine_is_idle(queue->engine))
		TRY(turn(queue));
	return OK;
}

static enum status set_up_thread(const struct ublk_queue *queue)
{
	int error;

	TRY(ublk_process_join_flushers());
	/* A cpuset may forbid all of these; then the scheduler chooses. */
	error = pthread_setaffinity_np(pthread_self(), sizeof(queue->options.cpus),
				       (const cpu_set_t *)&queue->options.cpus);
	if (error != 0)
		log_errno(LOG_PRIORITY_DEBUG, error, "ublk queue %u is not bound to its CPUs",
			  queue->options.index);
	return OK;
}

static enum status map_descriptors(struct ublk_queue *queue)
{
	void *mapping;

	queue->descriptors_size = ROUND_UP(
		queue->options.depth * sizeof(struct ublk_request_descriptor), (size_t)4096);
	mapping =
		mmap(NULL, queue->descriptors_size, PROT_READ, MAP_SHARED, queue->device_fd,
		     (off_t)(queue->options.index * UBLK_DESCRIPTORS_STRIDE));
	if (mapping == MAP_FAILED) {
		log_errno(LOG_PRIORITY_ERROR, errno, "mapping the descriptors of ublk queue %u",
			  queue->options.index);
		return FAIL_UBLK;
	}
	/* The device is not free for a successor while a child has this. */
	(void)madvise(mapping, queue->descriptors_size, MADV_DONTFORK);
	queue->descriptors = mapping;
	return OK;
}

/* All memory is taken here. In the thread: the ring is the thread's, and memory comes from the
 * node of the CPUs that the thread is bound to. */
static enum status open_parts(struct ublk_queue *queue)
{
	const struct block_engine_options engine_options = {
		.tag_count = queue->options.depth,
		.piece_size = queue->options.piece_size,
	};
	struct ring_options ring_options = {.file_count = FILE_COUNT};

	TRY(set_up_thread(queue));
	TRY(buffer_pool_open(&queue->pool, queue->options.request_size_max, queue->options.depth));
	ring_options.operations_max =
		queue->options.depth + block_engine_operations_max(&engine_options, &queue->pool);
	TRY(ring_open(&queue->ring, &ring_options));
	queue->handler = ring_add_handler(&queue->ring, tag_returned, queue);
	return block_engine_open(&queue->engine, &engine_options, queue->volume, &queue->ring,
				 &queue->pool, request_complete, queue);
}

/* A thread that answers requests needs no rights. Nor does the kernel then look for a partition
 * table when it makes the device: a volume has no partitions, as it has none through dm-crypt. */
static enum status drop_rights(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capset, &header, none) == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "capset");
	return FAIL_SYSTEM;
}

/* A refusal comes at once, so one turn without waiting sees it. */
static enum status fetch_all(struct ublk_queue *queue)
{
	for (unsigned tag = 0; tag < queue->options.depth; tag++) {
		queue->tags[tag].place = TAG_WITH_KERNEL;
		queue->counts[TAG_WITH_KERNEL]++;
		give_to_kernel(queue, tag, UBLK_FETCH, 0);
	}
	TRY(ring_turn(&queue->ring, false));
	return queue->status;
}

/* A device that is recovered can be lost here: Linux 6.12 takes neither a second process that maps
 * it nor a second FETCH of a tag, once a first one died between START_USER_RECOVERY and the last
 * FETCH. So nothing else stands between these, and the descriptors, of which there is no need
 * before the device has requests, come last. */
static enum status attach(struct ublk_queue *queue)
{
	TRY(ring_set_file(&queue->ring, DEVICE_SLOT, queue->device_fd));
	TRY(fetch_all(queue));
	return map_descriptors(queue);
}

/* Memory that the disk may still be using is left to the end of the process. */
static void close_parts(struct ublk_queue *queue, bool is_drained)
{
	ring_close(&queue->ring);
	if (!is_drained)
		return;
	block_engine_close(&queue->engine);
	buffer_pool_close(&queue->pool);
	if (queue->descriptors != NULL)
		munmap((void *)(uintptr_t)queue->descriptors, queue->descriptors_size);
}

static void wait_for(sem_t *semaphore)
{
	while (sem_wait(semaphore) != 0)
		CHECK(errno == EINTR);
}

static void tell_start(struct ublk_queue *queue, enum status status)
{
	queue->start_status = status;
	sem_post(&queue->is_started);
}

static enum status prepare(struct ublk_queue *queue)
{
	TRY(open_parts(queue));
	return drop_rights();
}

static void *run(void *argument)
{
	struct ublk_queue *queue = argument;
	const uint64_t one = 1;
	bool is_drained = true;
	enum status status;

	status = prepare(queue);
	tell_start(queue, status);
	if (status == OK)
		wait_for(&queue->is_attached);
	if (status == OK && queue->device_fd >= 0) {
		queue->status = attach(queue);
		tell_start(queue, queue->status);
		if (queue->status == OK) {
			queue->status = serve(queue);
			is_drained = drain(queue) == OK;
		}
	}
	close_parts(queue, is_drained);
	/* Nobody is left to tell if this fails; the thread's end is seen by who joins it. */
	if (write(queue->options.ended_fd, &one, sizeof(one)) < 0)
		log_errno(LOG_PRIORITY_ERROR, errno, "eventfd of ublk queue %u",
			  queue->options.index);
	return NULL;
}

/* Signals are for the thread that looks after the process. */
static int start_thread(struct ublk_queue *queue)
{
	sigset_t all;
	sigset_t before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = thread_start(&queue->thread, STACK_SIZE, run, queue);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

static void free_queue(struct ublk_queue *queue)
{
	sem_destroy(&queue->is_started);
	sem_destroy(&queue->is_attached);
	free(queue->tags);
	free(queue);
}

enum status ublk_queue_start(struct ublk_queue **result, const struct ublk_queue_options *options,
			     const struct block_volume *volume)
{
	struct ublk_queue *queue = calloc(1, sizeof(*queue));
	enum status status;
	int error;

	CHECK(options->depth > 0 && options->depth <= UBLK_QUEUE_DEPTH_MAX);
	CHECK(options->request_size_max > 0 && options->request_size_max % 4096 == 0);
	if (queue == NULL)
		return FAIL_OUT_OF_MEMORY;
	queue->options = *options;
	queue->volume = volume;
	queue->tags = calloc(options->depth, sizeof(*queue->tags));
	if (queue->tags == NULL) {
		free(queue);
		return FAIL_OUT_OF_MEMORY;
	}
	queue->device_fd = -1;
	sem_init(&queue->is_started, 0, 0);
	sem_init(&queue->is_attached, 0, 0);
	error = start_thread(queue);
	if (error != 0) {
		log_errno(LOG_PRIORITY_ERROR, error, "a thread for ublk queue %u", options->index);
		free_queue(queue);
		return FAIL_SYSTEM;
	}
	wait_for(&queue->is_started);
	if (queue->start_status == OK) {
		*result = queue;
		return OK;
	}
	pthread_join(queue->thread, NULL);
	status = queue->start_status;
	free_queue(queue);
	return status;
}

void ublk_queue_attach(struct ublk_queue *queue, int device_fd)
{
	CHECK(!queue->was_attached);
	queue->was_attached = true;
	queue->device_fd = device_fd;
	sem_post(&queue->is_attached);
}

enum status ublk_queue_await(struct ublk_queue *queue)
{
	wait_for(&queue->is_started);
	return queue->start_status;
}

enum status ublk_queue_join(struct ublk_queue **queue)
{
	enum status status;

	if (*queue == NULL)
		return OK;
	if (!(*queue)->was_attached)
		ublk_queue_attach(*queue, -1);
	pthread_join((*queue)->thread, NULL);
	status = (*queue)->status;
	free_queue(*queue);
	*queue = NULL;
	return status;
}
