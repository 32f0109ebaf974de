/* malloc for a library that secrets pass through: all of it is one hidden struct secret_memory, and
 * every byte is wiped as soon as it is freed. Made for few, short-lived blocks; not for speed.
 */
#ifndef PLATFORM_SECRET_HEAP_H
#define PLATFORM_SECRET_HEAP_H

#include <pthread.h>

#include "platform/secret.h"

struct secret_heap {
	struct secret_memory memory;
	pthread_mutex_t mutex;
	size_t used_size; /* blocks in use with their heads */
	size_t peak_size; /* the most that used_size has been */
};

MUST_CHECK enum status secret_heap_open(struct secret_heap *heap, size_t size);

/* Wipes and unmaps everything, blocks in use included. */
void secret_heap_close(struct secret_heap *heap);

/* As malloc, realloc and free, from any thread; NULL if there is no room. A pointer that is not of
 * this heap, or freed twice, crashes. */
MUST_CHECK void *secret_heap_take(struct secret_heap *heap, size_t size);
MUST_CHECK void *secret_heap_resize(struct secret_heap *heap, void *block, size_t size);
void secret_heap_give_back(struct secret_heap *heap, void *block);

#endif
