#include "io/buffer_pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "platform/log.h"
#include "platform/secret.h"

#define PAGE_SIZE 4096
#define HUGE_PAGE_SIZE ((size_t)2 * 1024 * 1024)
#define RESERVED_MAX 32

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

/* Reserved huge pages: there are some only if the machine's owner has set them aside. */
static uint8_t *map_reserved(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
}

/* Ordinary memory that begins on a huge page's boundary, with the wish that the kernel make it of
 * huge pages. The wish must be there before any page is: a process that locks all its memory is
 * given the pages of a mapping with the mapping, unless it may not touch them yet. */
static uint8_t *map_aligned(size_t size)
{
	uint8_t *start =
		mmap(NULL, size + HUGE_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t front;

	if (start == MAP_FAILED)
		return MAP_FAILED;
	front = ROUND_UP((uintptr_t)start, HUGE_PAGE_SIZE) - (uintptr_t)start;
	if (front > 0)
		munmap(start, front);
	munmap(start + front + size, HUGE_PAGE_SIZE - front);
	start += front;
	(void)madvise(start, size, MADV_HUGEPAGE);
	if (mprotect(start, size, PROT_READ | PROT_WRITE) == 0)
		return start;
	munmap(start, size);
	return MAP_FAILED;
}

static enum status open_pool(struct buffer_pool *pool, size_t buffer_size, unsigned buffer_count)
{
	/* One page more than the buffer: with buffers a power of two apart, the first pages of all
	 * would compete for the same few lines of the processor's caches. */
	size_t stride = buffer_size + PAGE_SIZE;
	size_t size;
	uint8_t *arena;
	bool is_huge;

	CHECK(buffer_size > 0 && buffer_size % PAGE_SIZE == 0 && buffer_count > 0);
	if (__builtin_mul_overflow(stride, buffer_count, &size) || size > SIZE_MAX / 2)
		return FAIL_OUT_OF_MEMORY;
	/* Of what does not fill huge pages, none is made one: it would be mostly empty. */
	is_huge = size >= HUGE_PAGE_SIZE;
	arena = is_huge ? map_reserved(ROUND_UP(size, HUGE_PAGE_SIZE)) : MAP_FAILED;
	if (arena == MAP_FAILED) {
		is_huge = false;
		arena = map_aligned(size);
	} else {
		size = ROUND_UP(size, HUGE_PAGE_SIZE);
	}
	/* Locking also faults every page in now. Not by mlock, which sanitizers make do nothing:
	 * the tests are to see it. */
	if (arena == MAP_FAILED || mlock2(arena, size, 0) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "locking %zu MiB for buffers", size >> 20);
		if (arena != MAP_FAILED)
			munmap(arena, size);
		return FAIL_OUT_OF_MEMORY;
	}
	(void)madvise(arena, size, MADV_DONTDUMP);
	(void)madvise(arena, size, MADV_DONTFORK);
	*pool = (struct buffer_pool){.arena = arena,
				     .arena_size = size,
				     .buffer_size = buffer_size,
				     .stride = stride,
				     .buffer_count = buffer_count,
				     .is_huge = is_huge};
	return OK;
}

/* Queues open theirs each in a thread of its own, when all are here. */
static struct buffer_pool reserved[RESERVED_MAX];
static unsigned reserved_count;
static _Atomic unsigned reserved_used;

void buffer_pool_reserve(size_t buffer_size, unsigned buffer_count, unsigned pool_count)
{
	CHECK(reserved_count == 0);
	atomic_store(&reserved_used, 0);
	while (reserved_count < MINIMUM(pool_count, RESERVED_MAX) &&
	       open_pool(&reserved[reserved_count], buffer_size, buffer_count) == OK)
		reserved_count++;
}

void buffer_pool_end_reserve(void)
{
	for (unsigned i = atomic_exchange(&reserved_used, RESERVED_MAX); i < reserved_count; i++)
		buffer_pool_close(&reserved[i]);
	reserved_count = 0;
}

enum status buffer_pool_open(struct buffer_pool *pool, size_t buffer_size, unsigned buffer_count)
{
	if (reserved_count > 0 && reserved[0].buffer_size == buffer_size &&
	    reserved[0].buffer_count == buffer_count) {
		unsigned i = atomic_fetch_add(&reserved_used, 1);

		if (i < reserved_count) {
			*pool = reserved[i];
			return OK;
		}
	}
	return open_pool(pool, buffer_size, buffer_count);
}

void buffer_pool_close(struct buffer_pool *pool)
{
	if (pool->arena == NULL)
		return;
	secret_wipe_bytes(pool->arena, pool->arena_size);
	munmap(pool->arena, pool->arena_size);
	*pool = (struct buffer_pool){0};
}
