#include "platform/secret_heap.h"

#include <string.h>

/* Blocks lie one behind the other, each with its head in front, and fill the memory: the first that
 * is free and large enough is taken, and no two free ones are neighbours. */
struct head {
	uint32_t size;          /* of head and block, a multiple of UNIT */
	uint32_t previous_size; /* of the block in front; 0: this is the first */
	uint32_t state;
	uint32_t unused;
};

#define UNIT ((size_t)16) /* what malloc's callers may assume of alignment */
_Static_assert(sizeof(struct head) == UNIT, "blocks behind heads must be aligned");

/* Unlikely values, so that a pointer to anything else is noticed. */
#define STATE_USED 0x75736564u
#define STATE_FREE 0x66726565u

static struct head *first_of(const struct secret_heap *heap)
{
	return (struct head *)(void *)heap->memory.bytes;
}

static struct head *after(const struct secret_heap *heap, struct head *head)
{
	uint8_t *next = (uint8_t *)head + head->size;
	const uint8_t *end = heap->memory.bytes + heap->memory.mapped_size;

	CHECK(head->size >= UNIT && next <= end);
	return next == end ? NULL : (struct head *)(void *)next;
}

/* Gives `head` a new size and tells the block behind it. */
static void resize_head(const struct secret_heap *heap, struct head *head, size_t size)
{
	struct head *next;

	head->size = (uint32_t)size;
	next = after(heap, head);
	if (next != NULL)
		next->previous_size = head->size;
}

enum status secret_heap_open(struct secret_heap *heap, size_t size)
{
	CHECK(size <= UINT32_MAX / 2);
	*heap = (struct secret_heap){0};
	TRY(secret_memory_open_hidden(&heap->memory, size));
	CHECK(pthread_mutex_init(&heap->mutex, NULL) == 0);
	*first_of(heap) = (struct head){
		.size = (uint32_t)heap->memory.mapped_size,
		.state = STATE_FREE,
	};
	return OK;
}

void secret_heap_close(struct secret_heap *heap)
{
	if (heap->memory.bytes == NULL)
		return;
	secret_memory_close(&heap->memory);
	CHECK(pthread_mutex_destroy(&heap->mutex) == 0);
}

static void *take(struct secret_heap *heap, size_t size)
{
	size_t needed = ROUND_UP(size, UNIT) + UNIT;
	struct head *head = first_of(heap);
	struct head *rest;

	while (head != NULL && (head->state != STATE_FREE || head->size < needed))
		head = after(heap, head);
	if (head == NULL)
		return NULL;
	if (head->size > needed) {
		size_t rest_size = head->size - needed;

		rest = (struct head *)(void *)((uint8_t *)head + needed);
		*rest = (struct head){.state = STATE_FREE};
		head->size = (uint32_t)needed;
		rest->previous_size = head->size;
		resize_head(heap, rest, rest_size);
	}
	head->state = STATE_USED;
	heap->used_size += head->size;
	heap->peak_size = MAXIMUM(heap->peak_size, heap->used_size);
	return head + 1;
}

void *secret_heap_take(struct secret_heap *heap, size_t size)
{
	void *block;

	if (size > heap->memory.mapped_size)
		return NULL;
	CHECK(pthread_mutex_lock(&heap->mutex) == 0);
	block = take(heap, size);
	CHECK(pthread_mutex_unlock(&heap->mutex) == 0);
	return block;
}

static struct head *head_of(const struct secret_heap *heap, void *block)
{
	const uint8_t *bytes = block;

	CHECK(bytes >= heap->memory.bytes + UNIT &&
	      bytes < heap->memory.bytes + heap->memory.mapped_size &&
	      (uintptr_t)bytes % UNIT == 0);
	CHECK(((struct head *)block)[-1].state == STATE_USED);
	return (struct head *)block - 1;
}

/* Makes one free block of two neighbours. */
static void join(const struct secret_heap *heap, struct head *front, struct head *back)
{
	size_t size = (size_t)front->size + back->size;

	secret_wipe_bytes(back, sizeof(*back));
	resize_head(heap, front, size);
}

static void give_back(struct secret_heap *heap, void *block)
{
	struct head *head = head_of(heap, block);
	struct head *next = after(heap, head);

	secret_wipe_bytes(block, head->size - UNIT);
	heap->used_size -= head->size;
	head->state = STATE_FREE;
	if (next != NULL && next->state == STATE_FREE)
		join(heap, head, next);
	if (head->previous_size > 0) {
		struct head *previous =
			(struct head *)(void *)((uint8_t *)head - head->previous_size);

		if (previous->state == STATE_FREE)
			join(heap, previous, head);
	}
}

void secret_heap_give_back(struct secret_heap *heap, void *block)
{
	if (block == NULL)
		return;
	CHECK(pthread_mutex_lock(&heap->mutex) == 0);
	give_back(heap, block);
	CHECK(pthread_mutex_unlock(&heap->mutex) == 0);
}

void *secret_heap_resize(struct secret_heap *heap, void *block, size_t size)
{
	void *larger;

	if (block == NULL)
		return secret_heap_take(heap, size);
	if (size > heap->memory.mapped_size)
		return NULL;
	CHECK(pthread_mutex_lock(&heap->mutex) == 0);
	larger = block;
	if (size > head_of(heap, block)->size - UNIT) {
		larger = take(heap, size);
		if (larger != NULL) {
			memcpy(larger, block, head_of(heap, block)->size - UNIT);
			give_back(heap, block);
		}
	}
	CHECK(pthread_mutex_unlock(&heap->mutex) == 0);
	return larger;
}
