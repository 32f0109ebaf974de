#include "platform/secret.h"

#include <string.h>
#include <sys/mman.h>
#include <asm/unistd.h>
#include <unistd.h>

void secret_wipe_bytes(void *bytes, size_t size)
{
	memset(bytes, 0, size);
	/* The compiler must believe that somebody reads the zeros. */
	__asm__ volatile("" : : "r"(bytes) : "memory");
}

void secret_wipe(struct secret *secret)
{
	secret_wipe_bytes(secret, sizeof(*secret));
}

bool secret_equal(const void *a, const void *b, size_t size)
{
	const uint8_t *left = a;
	const uint8_t *right = b;
	uint8_t difference = 0;

	for (size_t i = 0; i < size; i++)
		difference |= (uint8_t)(left[i] ^ right[i]);
	/* Keeps the compiler from leaving the loop at the first difference. */
	__asm__ volatile("" : "+r"(difference));
	return difference == 0;
}

/* Pages of memfd_secret are locked by nature, and mlock, which looks at pages, fails on them. */
static uint8_t *map_hidden(size_t size)
{
	int fd = (int)syscall(__NR_memfd_secret, 0u);
	uint8_t *bytes;

	if (fd < 0)
		return MAP_FAILED;
	bytes = ftruncate(fd, (off_t)size) == 0
			? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
			: MAP_FAILED;
	close(fd);
	return bytes;
}

static uint8_t *map_locked(size_t size)
{
	uint8_t *bytes =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (bytes == MAP_FAILED || mlock(bytes, size) == 0)
		return bytes;
	munmap(bytes, size);
	return MAP_FAILED;
}

static size_t whole_pages(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	CHECK(size > 0 && ROUND_UP(size, page) >= size);
	return ROUND_UP(size, page);
}

static enum status take(struct secret_memory *memory, size_t size, uint8_t *bytes)
{
	size_t mapped_size = whole_pages(size);

	if (bytes == MAP_FAILED)
		return FAIL_OUT_OF_MEMORY;
	(void)madvise(bytes, mapped_size, MADV_DONTDUMP);
	(void)madvise(bytes, mapped_size, MADV_DONTFORK);
	*memory = (struct secret_memory){.bytes = bytes, .size = size, .mapped_size = mapped_size};
	return OK;
}

enum status secret_memory_open(struct secret_memory *memory, size_t size)
{
	return take(memory, size, map_locked(whole_pages(size)));
}

enum status secret_memory_open_hidden(struct secret_memory *memory, size_t size)
{
	uint8_t *bytes = map_hidden(whole_pages(size));

	return take(memory, size, bytes != MAP_FAILED ? bytes : map_locked(whole_pages(size)));
}

void secret_memory_close(struct secret_memory *memory)
{
	if (memory->bytes == NULL)
		return;
	secret_wipe_bytes(memory->bytes, memory->mapped_size);
	munmap(memory->bytes, memory->mapped_size);
	*memory = (struct secret_memory){0};
}
