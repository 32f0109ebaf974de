/* A disk in memory that has the functions of io/backing_disk.h, for #include in a test: it then
 * takes the place of the real one in that test's program.
 *
 * By hand, operations started through the ring wait until the test finishes them, in any order and
 * with any result. Automatic, they finish by themselves in the ring's next turns, with the results
 * that the table of faults asks for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/backing_disk.h"

#define FAKE_OPERATIONS_MAX 1024
#define FAKE_FAULTS_MAX 8

enum fake_kind { FAKE_READ, FAKE_WRITE, FAKE_FLUSH, FAKE_DISCARD, FAKE_KINDS };

struct fake_operation {
	bool is_waiting;
	enum fake_kind kind;
	uint64_t token;
	uint8_t *memory;
	size_t size;
	uint64_t offset_bytes;
	bool is_durable;
	int32_t planned_result;
};

/* The `number`th operation of that kind, counted from 1, ends with `result`. */
struct fake_fault {
	enum fake_kind kind;
	unsigned number;
	int32_t result;
};

static struct {
	uint8_t *bytes;
	struct ring *ring;
	bool is_automatic;
	unsigned handler;
	struct fake_operation operations[FAKE_OPERATIONS_MAX];
	unsigned waiting_count;
	unsigned started[FAKE_KINDS];
	struct fake_fault faults[FAKE_FAULTS_MAX];
	size_t fault_count;
} fake;

static struct backing_disk fake_disk_make(size_t size)
{
	free(fake.bytes);
	memset(&fake, 0, sizeof(fake));
	fake.bytes = calloc(1, size);
	CHECK(fake.bytes != NULL);
	return (struct backing_disk){
		.fd = -1,
		.path = "fake disk",
		.size_bytes = size,
		.logical_block_size = 512,
		.physical_block_size = 4096,
		.discard_granularity = 4096,
		.is_writable = true,
		.is_direct = true,
		.has_write_cache = true,
		.has_fua = true,
	};
}

/* The waiting operation that started first, or that comes `skipped` after it. */
static inline struct fake_operation *fake_disk_waiting(unsigned skipped)
{
	for (size_t i = 0; i < FAKE_OPERATIONS_MAX; i++)
		if (fake.operations[i].is_waiting && skipped-- == 0)
			return &fake.operations[i];
	CHECK(false);
	return NULL;
}

/* Moves what a count asks for, then tells the ring's handler. */
static void fake_disk_finish(struct fake_operation *operation, int32_t result)
{
	CHECK(operation->is_waiting);
	if (operation->kind == FAKE_READ && result > 0)
		memcpy(operation->memory, fake.bytes + operation->offset_bytes, (size_t)result);
	if (operation->kind == FAKE_WRITE && result > 0)
		memcpy(fake.bytes + operation->offset_bytes, operation->memory, (size_t)result);
	operation->is_waiting = false;
	fake.waiting_count--;
	ring_deliver(fake.ring, operation->token, result);
}

/* As a disk without fault would. */
static int32_t fake_disk_good_result(const struct fake_operation *operation)
{
	bool moves = operation->kind == FAKE_READ || operation->kind == FAKE_WRITE;

	return moves ? (int32_t)operation->size : 0;
}

static inline void fake_disk_fail(enum fake_kind kind, unsigned number, int32_t result)
{
	CHECK(fake.fault_count < FAKE_FAULTS_MAX);
	fake.faults[fake.fault_count++] =
		(struct fake_fault){.kind = kind, .number = number, .result = result};
}

static void fake_disk_come_due(void *context, uint32_t index, int32_t result)
{
	struct fake_operation *operation = &fake.operations[index];

	(void)context;
	(void)result;
	fake_disk_finish(operation, operation->planned_result);
}

/* Before backing_disk_attach. */
static inline void fake_disk_set_automatic(void)
{
	fake.is_automatic = true;
}

static void fake_disk_start(struct fake_operation operation)
{
	size_t index = 0;

	while (fake.operations[index].is_waiting)
		CHECK(++index < FAKE_OPERATIONS_MAX);
	operation.is_waiting = true;
	operation.planned_result = fake_disk_good_result(&operation);
	fake.started[operation.kind]++;
	for (size_t i = 0; i < fake.fault_count; i++)
		if (fake.faults[i].kind == operation.kind &&
		    fake.faults[i].number == fake.started[operation.kind])
			operation.planned_result = fake.faults[i].result;
	fake.operations[index] = operation;
	fake.waiting_count++;
	if (fake.is_automatic)
		ring_nop(fake.ring, ring_token(fake.handler, (uint32_t)index));
}

/* --- the functions of backing_disk.h ------------------------------------------------------------
 */

enum status backing_disk_open(struct backing_disk *disk, const char *path,
			      enum backing_disk_claim claim)
{
	(void)disk;
	(void)path;
	(void)claim;
	return FAIL_DISK_ABSENT;
}

enum status backing_disk_adopt(struct backing_disk *disk, const char *path, int fd)
{
	(void)disk;
	(void)path;
	(void)fd;
	return FAIL_DISK_ABSENT;
}

void backing_disk_close(struct backing_disk *disk)
{
	(void)disk;
	free(fake.bytes);
	fake.bytes = NULL;
}

enum status backing_disk_read(const struct backing_disk *disk, uint64_t offset_bytes, void *target,
			      size_t size)
{
	if (offset_bytes > disk->size_bytes || size > disk->size_bytes - offset_bytes)
		return FAIL_DISK_IO;
	memcpy(target, fake.bytes + offset_bytes, size);
	return OK;
}

enum status backing_disk_write(const struct backing_disk *disk, uint64_t offset_bytes,
			       const void *source, size_t size)
{
	if (offset_bytes > disk->size_bytes || size > disk->size_bytes - offset_bytes)
		return FAIL_DISK_IO;
	memcpy(fake.bytes + offset_bytes, source, size);
	return OK;
}

enum status backing_disk_flush(const struct backing_disk *disk)
{
	(void)disk;
	return OK;
}

enum status backing_disk_attach(const struct backing_disk *disk, struct ring *ring)
{
	(void)disk;
	fake.ring = ring;
	fake.handler = ring_add_handler(ring, fake_disk_come_due, NULL);
	return OK;
}

void backing_disk_start_read(const struct backing_disk *disk, struct ring *ring, uint64_t token,
			     uint8_t *target, size_t size, uint64_t offset_bytes)
{
	CHECK(ring == fake.ring && offset_bytes + size <= disk->size_bytes);
	fake_disk_start((struct fake_operation){.kind = FAKE_READ,
						.token = token,
						.memory = target,
						.size = size,
						.offset_bytes = offset_bytes});
}

void backing_disk_start_write(const struct backing_disk *disk, struct ring *ring, uint64_t token,
			      const uint8_t *source, size_t size, uint64_t offset_bytes,
			      bool is_durable)
{
	CHECK(ring == fake.ring && offset_bytes + size <= disk->size_bytes);
	fake_disk_start((struct fake_operation){.kind = FAKE_WRITE,
						.token = token,
						.memory = (uint8_t *)(uintptr_t)source,
						.size = size,
						.offset_bytes = offset_bytes,
						.is_durable = is_durable});
}

void backing_disk_start_flush(const struct backing_disk *disk, struct ring *ring, uint64_t token)
{
	(void)disk;
	CHECK(ring == fake.ring);
	fake_disk_start((struct fake_operation){.kind = FAKE_FLUSH, .token = token});
}

void backing_disk_start_discard(const struct backing_disk *disk, struct ring *ring, uint64_t token,
				uint64_t offset_bytes, uint64_t size)
{
	CHECK(ring == fake.ring && offset_bytes + size <= disk->size_bytes);
	fake_disk_start((struct fake_operation){
		.kind = FAKE_DISCARD, .token = token, .size = size, .offset_bytes = offset_bytes});
}
