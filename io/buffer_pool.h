/* The buffers of one queue: one locked arena, taken before start, wiped at the end. They hold
 * plaintext, so they are never swapped, dumped or inherited by a child. */
#ifndef IO_BUFFER_POOL_H
#define IO_BUFFER_POOL_H

#include "platform/status.h"

struct buffer_pool {
	uint8_t *arena; /* NULL if not open */
	size_t arena_size;
	size_t buffer_size; /* bytes of one buffer */
	size_t stride;      /* from one buffer to the next */
	unsigned buffer_count;
	bool is_huge; /* from the kernel's reserved 2 MiB pages; else those are only wished for */
};

/* `buffer_size` is a multiple of 4096. Each buffer begins on a page. FAIL_OUT_OF_MEMORY if there is
 * not as much memory, or it cannot be locked. */
MUST_CHECK enum status buffer_pool_open(struct buffer_pool *pool, size_t buffer_size,
					unsigned buffer_count);

/* Takes the memory of as many such pools, so that buffer_pool_open has it at once later: to fault
 * in and lock it takes long. What cannot be had is left to buffer_pool_open. One thread; the second
 * call gives back what nobody has opened. */
void buffer_pool_reserve(size_t buffer_size, unsigned buffer_count, unsigned pool_count);
void buffer_pool_end_reserve(void);

/* Nothing may be using a buffer: close the ring that has them registered first. Harmless if never
 * opened. */
void buffer_pool_close(struct buffer_pool *pool);

static inline uint8_t *buffer_pool_at(const struct buffer_pool *pool, unsigned index)
{
	CHECK(index < pool->buffer_count);
	return pool->arena + index * pool->stride;
}

#endif
