/* A kernel's half of one ublk queue, for #include in a test: it takes the place of io/ring.c in
 * that test's program, and answers the commands of ublk_queue as the driver does. Its user is a
 * list of requests, handed out as tags are free; when all are answered, the device is stopped.
 * Disk operations are those of fake_disk.c, and end whenever the queue sleeps.
 *
 * All of it runs in the queue's thread: fill it in before ublk_queue_start, look at it after
 * ublk_queue_join.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/ring.h"
#include "io/ublk_abi.h"

#define FAKE_UBLK_DEPTH 4
#define FAKE_UBLK_REQUESTS_MAX 64
#define FAKE_UBLK_DATA_MAX 65536

struct fake_ublk_request {
	uint32_t operation; /* as in the descriptor, flags included */
	uint64_t first_unit;
	uint32_t unit_count;
	uint8_t *data; /* of a write, or room for that of a read */
	unsigned answer_count;
	int32_t result;
};

static struct {
	/* Filled in by the test. */
	struct fake_ublk_request requests[FAKE_UBLK_REQUESTS_MAX];
	unsigned request_count;
	bool stops_early; /* the tags that wait are taken back while requests are under way */
	bool refuses_fetches;
	bool refuses_commits;

	int device_fd; /* its descriptors, as the character device would map them */
	unsigned handed_out;
	unsigned aborted;
	unsigned fetched;
	bool is_closed;
	struct {
		bool is_waiting; /* for a request */
		uint64_t token;
		uint8_t *buffer;
		struct fake_ublk_request *request;
	} tags[FAKE_UBLK_DEPTH];
} fake_ublk;

static void fake_ublk_reset(void)
{
	int device_fd = fake_ublk.device_fd;

	memset(&fake_ublk, 0, sizeof(fake_ublk));
	if (device_fd > 0)
		close(device_fd);
	fake_ublk.device_fd = memfd_create("ublkc", MFD_CLOEXEC);
	CHECK(fake_ublk.device_fd > 0 && ftruncate(fake_ublk.device_fd, 4096) == 0);
}

static struct fake_ublk_request *fake_ublk_ask(uint32_t operation, uint64_t first_unit,
					       uint32_t unit_count, uint8_t *data)
{
	struct fake_ublk_request *request = &fake_ublk.requests[fake_ublk.request_count++];

	CHECK(fake_ublk.request_count <= FAKE_UBLK_REQUESTS_MAX);
	*request = (struct fake_ublk_request){.operation = operation,
					      .first_unit = first_unit,
					      .unit_count = unit_count,
					      .data = data};
	return request;
}

static void fake_ublk_give_back(struct ring *ring, unsigned tag, int32_t result)
{
	fake_ublk.tags[tag].is_waiting = false;
	ring_deliver(ring, fake_ublk.tags[tag].token, result);
}

static void fake_ublk_hand_out(struct ring *ring, unsigned tag)
{
	struct fake_ublk_request *request = &fake_ublk.requests[fake_ublk.handed_out++];
	const struct ublk_request_descriptor descriptor = {
		.operation = request->operation,
		.unit_count = request->unit_count,
		.first_unit = request->first_unit,
		.buffer = (uint64_t)(uintptr_t)fake_ublk.tags[tag].buffer,
	};
	size_t size = (size_t)request->unit_count * 512;

	CHECK(pwrite(fake_ublk.device_fd, &descriptor, sizeof(descriptor),
		     (off_t)(tag * sizeof(descriptor))) == sizeof(descriptor));
	if ((request->operation & UBLK_OPERATION_MASK) == UBLK_WRITE && size <= FAKE_UBLK_DATA_MAX)
		memcpy(fake_ublk.tags[tag].buffer, request->data, size);
	fake_ublk.tags[tag].request = request;
	fake_ublk_give_back(ring, tag, UBLK_RESULT_REQUEST);
}

static void fake_ublk_take_answer(unsigned tag, int32_t result)
{
	struct fake_ublk_request *request = fake_ublk.tags[tag].request;

	CHECK(request != NULL);
	request->answer_count++;
	request->result = result;
	if ((request->operation & UBLK_OPERATION_MASK) == UBLK_READ && result > 0)
		memcpy(request->data, fake_ublk.tags[tag].buffer, (size_t)result);
	fake_ublk.tags[tag].request = NULL;
}

static void fake_ublk_abort_waiting(struct ring *ring)
{
	for (unsigned tag = 0; tag < FAKE_UBLK_DEPTH; tag++)
		if (fake_ublk.tags[tag].is_waiting) {
			fake_ublk.aborted++;
			fake_ublk_give_back(ring, tag, UBLK_RESULT_ABORT);
		}
}

/* --- the functions of ring.h that are used --- */

enum status ring_open(struct ring *ring, const struct ring_options *options)
{
	*ring = (struct ring){.operations_max = options->operations_max,
			      .file_count = options->file_count};
	return OK;
}

void ring_close(struct ring *ring)
{
	fake_ublk.is_closed = true;
	*ring = (struct ring){0};
}

unsigned ring_add_handler(struct ring *ring, ring_handler *handle, void *context)
{
	ring->handlers[ring->handler_count].handle = handle;
	ring->handlers[ring->handler_count].context = context;
	return ring->handler_count++;
}

enum status ring_register_memory(struct ring *ring, void *memory, size_t size)
{
	(void)ring;
	(void)memory;
	(void)size;
	return OK;
}

enum status ring_set_file(struct ring *ring, unsigned slot, int fd)
{
	CHECK(slot < ring->file_count && (fd == fake_ublk.device_fd || fd == -1));
	return OK;
}

void ring_deliver(const struct ring *ring, uint64_t token, int32_t result)
{
	uint64_t handler = token >> 32;

	CHECK(handler < ring->handler_count);
	ring->handlers[handler].handle(ring->handlers[handler].context, (uint32_t)token, result);
}

void ring_nop(struct ring *ring, uint64_t token)
{
	(void)ring;
	(void)token;
	CHECK(false);
}

void ring_command(struct ring *ring, uint64_t token, unsigned slot, uint32_t operation,
		  const void *payload, size_t payload_size)
{
	struct ublk_io_command command;
	unsigned tag = (uint32_t)token;

	(void)ring;
	CHECK(slot == 1 && payload_size == sizeof(command));
	memcpy(&command, payload, sizeof(command));
	CHECK(command.queue_id == 0 && command.tag == tag && tag < FAKE_UBLK_DEPTH);
	CHECK(command.buffer != 0 && !fake_ublk.tags[tag].is_waiting);
	if (operation == UBLK_COMMIT_AND_FETCH)
		fake_ublk_take_answer(tag, command.result);
	else
		CHECK(operation == UBLK_FETCH && fake_ublk.fetched++ < FAKE_UBLK_DEPTH);
	fake_ublk.tags[tag].is_waiting = true;
	fake_ublk.tags[tag].token = token;
	fake_ublk.tags[tag].buffer = (uint8_t *)(uintptr_t)command.buffer;
}

static bool fake_ublk_refuses(void)
{
	return fake_ublk.refuses_fetches ||
	       (fake_ublk.refuses_commits && fake_ublk.requests[0].answer_count > 0);
}

enum status ring_turn(struct ring *ring, bool wait)
{
	for (unsigned tag = 0; tag < FAKE_UBLK_DEPTH && fake_ublk_refuses(); tag++)
		if (fake_ublk.tags[tag].is_waiting) {
			fake_ublk_give_back(ring, tag, -EINVAL);
			return OK;
		}
	if (!wait)
		return OK;
	for (unsigned tag = 0; tag < FAKE_UBLK_DEPTH; tag++)
		if (fake_ublk.tags[tag].is_waiting &&
		    fake_ublk.handed_out < fake_ublk.request_count)
			fake_ublk_hand_out(ring, tag);
	if (fake_ublk.stops_early)
		fake_ublk_abort_waiting(ring);
	if (fake.waiting_count > 0) {
		struct fake_operation *operation = fake_disk_waiting(0);

		fake_disk_finish(operation, operation->planned_result);
		return OK;
	}
	for (unsigned tag = 0; tag < FAKE_UBLK_DEPTH; tag++)
		if (fake_ublk.tags[tag].request != NULL)
			return OK;
	if (fake_ublk.handed_out == fake_ublk.request_count)
		fake_ublk_abort_waiting(ring);
	return OK;
}
