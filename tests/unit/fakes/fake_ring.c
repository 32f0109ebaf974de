/* A ring without a kernel, for #include in a test: it takes the place of io/ring.c in that test's
 * program. Nothing that is started ever happens by itself; the test plays the kernel and delivers.
 */
#include <string.h>

#include "io/ring.h"

static struct {
	unsigned receives; /* started, ever */
	unsigned sends;
} fake_ring;

enum status ring_open(struct ring *ring, const struct ring_options *options)
{
	memset(&fake_ring, 0, sizeof(fake_ring));
	*ring = (struct ring){.operations_max = options->operations_max,
			      .file_count = options->file_count};
	return OK;
}

void ring_close(struct ring *ring)
{
	*ring = (struct ring){0};
}

unsigned ring_add_handler(struct ring *ring, ring_handler *handle, void *context)
{
	CHECK(ring->handler_count < RING_HANDLERS_MAX);
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
	(void)fd;
	CHECK(slot < ring->file_count);
	return OK;
}

enum status ring_turn(struct ring *ring, bool wait)
{
	(void)ring;
	CHECK(!wait);
	return OK;
}

void ring_deliver(const struct ring *ring, uint64_t token, int32_t result)
{
	uint64_t handler = token >> 32;

	CHECK(handler < ring->handler_count);
	ring->handlers[handler].handle(ring->handlers[handler].context, (uint32_t)token, result);
}

void ring_receive(struct ring *ring, uint64_t token, unsigned slot, struct msghdr *message)
{
	(void)ring;
	(void)token;
	(void)slot;
	(void)message;
	fake_ring.receives++;
}

void ring_send(struct ring *ring, uint64_t token, unsigned slot, const struct msghdr *message)
{
	(void)ring;
	(void)token;
	(void)slot;
	(void)message;
	fake_ring.sends++;
}

/* fake_disk.c names it, for its automatic kind, which needs a real ring. */
void ring_nop(struct ring *ring, uint64_t token)
{
	(void)ring;
	(void)token;
	CHECK(false);
}
