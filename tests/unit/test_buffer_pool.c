#include "io/buffer_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/test.h"

/* What the kernel tells of the mapping that holds `address`: its flags are " rd wr lo dd ". */
static void mapping_line(const void *address, const char *name, char text[static 256])
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[512];
	bool is_inside = false;

	EXPECT_TRUE(maps != NULL);
	text[0] = '\0';
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long begin;
		unsigned long end;

		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			is_inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
		if (is_inside && strncmp(line, name, strlen(name)) == 0)
			snprintf(text, 256, "%.250s", line + strlen(name));
	}
	fclose(maps);
}

static void mapping_flags(const void *address, char flags[static 256])
{
	mapping_line(address, "VmFlags:", flags);
}

TEST(buffers_begin_on_pages_and_do_not_overlap)
{
	struct buffer_pool pool;

	EXPECT_OK(buffer_pool_open(&pool, 65536, 33));
	for (unsigned i = 0; i < 33; i++) {
		uint8_t *buffer = buffer_pool_at(&pool, i);

		EXPECT_EQUAL((uintptr_t)buffer % 4096, 0);
		EXPECT_TRUE(buffer >= pool.arena);
		EXPECT_TRUE(buffer + 65536 <= pool.arena + pool.arena_size);
		memset(buffer, (int)i, 65536);
	}
	for (unsigned i = 0; i < 33; i++) {
		EXPECT_EQUAL(buffer_pool_at(&pool, i)[0], i);
		EXPECT_EQUAL(buffer_pool_at(&pool, i)[65535], i);
	}
	EXPECT_ABORT((void)buffer_pool_at(&pool, 33));
	buffer_pool_close(&pool);
}

TEST(buffers_do_not_compete_for_the_same_lines_of_the_cache)
{
	struct buffer_pool pool;

	EXPECT_OK(buffer_pool_open(&pool, 1024 * 1024, 4));
	EXPECT_NOT_EQUAL(pool.stride % 8192, 0);
	buffer_pool_close(&pool);
}

TEST(buffers_are_locked_and_kept_from_dumps_and_children)
{
	struct buffer_pool pool;
	char flags[256];

	EXPECT_OK(buffer_pool_open(&pool, 4096, 1));
	for (size_t at = 0; at < pool.arena_size; at += pool.arena_size - 1) {
		mapping_flags(pool.arena + at, flags);
		EXPECT_TEXT_CONTAINS(flags, " lo ");
		EXPECT_TEXT_CONTAINS(flags, " dd ");
		EXPECT_TEXT_CONTAINS(flags, " dc ");
	}
	buffer_pool_close(&pool);
}

TEST(no_more_memory_is_taken_than_the_buffers_and_a_page_for_each)
{
	struct buffer_pool small, large;

	EXPECT_OK(buffer_pool_open(&small, 16384, 16));
	EXPECT_EQUAL(small.arena_size, 16 * (16384 + 4096));
	EXPECT_OK(buffer_pool_open(&large, 512 * 1024, 5));
	if (!large.is_huge)
		EXPECT_EQUAL(large.arena_size, 5 * (512 * 1024 + 4096));
	buffer_pool_close(&small);
	buffer_pool_close(&large);
}

TEST(a_pool_that_never_opened_closes)
{
	struct buffer_pool pool = {0};

	buffer_pool_close(&pool);
	EXPECT_EQUAL(pool.arena, NULL);
}

TEST(more_than_there_is_is_refused)
{
	struct buffer_pool pool;

	EXPECT_STATUS(buffer_pool_open(&pool, (size_t)1 << 50, 4096), FAIL_OUT_OF_MEMORY);
	EXPECT_STATUS(buffer_pool_open(&pool, (size_t)1 << 46, 64), FAIL_OUT_OF_MEMORY);
	EXPECT_STATUS(buffer_pool_open(&pool, (size_t)1 << 45, 1), FAIL_OUT_OF_MEMORY);
}

TEST(memory_that_cannot_be_locked_is_not_used)
{
	const struct rlimit none = {0};
	struct buffer_pool pool;
	int wait_status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(setrlimit(RLIMIT_MEMLOCK, &none) == 0 && setuid(65534) == 0 &&
				      buffer_pool_open(&pool, 4096, 1) == FAIL_OUT_OF_MEMORY
			      ? 0
			      : 1);
	EXPECT_EQUAL(waitpid(child, &wait_status, 0), child);
	EXPECT_EQUAL(wait_status, 0);
}

static bool has_huge_pages(void)
{
	char text[64] = "";
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");

	if (file == NULL)
		return false;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	return text[0] != '\0' && strstr(text, "[never]") == NULL;
}

/* All roles do so, and then the kernel gives pages with the mapping. In a process of its own. */
TEST(buffers_are_of_huge_pages_in_a_process_that_locks_all_its_memory)
{
	struct buffer_pool pool;
	int wait_status;
	pid_t pid;

	if (!has_huge_pages())
		SKIP("this kernel gives no huge pages");
	pid = fork();
	if (pid == 0) {
		char text[256];
		unsigned long huge_kib;

		/* Not by mlockall, which sanitizers make do nothing. */
		if (syscall(SYS_mlockall, MCL_FUTURE) != 0)
			_exit(2);
		EXPECT_OK(buffer_pool_open(&pool, 1024 * 1024, 8));
		mapping_line(pool.arena, "AnonHugePages:", text);
		huge_kib = strtoul(text, NULL, 10);
		_exit(huge_kib >= pool.arena_size / 1024 / 2 ? 0 : 1);
	}
	EXPECT_EQUAL(waitpid(pid, &wait_status, 0), pid);
	if (wait_status == 2 << 8)
		SKIP("this user may not lock so much memory");
	EXPECT_EQUAL(wait_status, 0);
}

TEST(what_was_reserved_is_opened_once_and_the_rest_is_given_back)
{
	struct buffer_pool first, second, other, third;

	buffer_pool_reserve(65536, 4, 2);
	EXPECT_OK(buffer_pool_open(&other, 65536, 5));
	EXPECT_OK(buffer_pool_open(&first, 65536, 4));
	EXPECT_OK(buffer_pool_open(&second, 65536, 4));
	EXPECT_OK(buffer_pool_open(&third, 65536, 4));
	EXPECT_TRUE(first.arena != second.arena && second.arena != third.arena &&
		    first.arena != third.arena && other.arena != first.arena);
	EXPECT_EQUAL(other.buffer_count, 5);
	buffer_pool_end_reserve();
	memset(second.arena, 1, second.arena_size);
	buffer_pool_close(&first);
	buffer_pool_close(&second);
	buffer_pool_close(&other);
	buffer_pool_close(&third);
}

TEST(what_was_reserved_and_not_opened_is_given_back)
{
	struct buffer_pool pool;
	const uint8_t *arena;
	char flags[256];

	buffer_pool_reserve(65536, 4, 2);
	EXPECT_OK(buffer_pool_open(&pool, 65536, 4));
	arena = pool.arena;
	buffer_pool_close(&pool);
	mapping_flags(arena, flags);
	EXPECT_TEXT(flags, "");
	buffer_pool_end_reserve();
	buffer_pool_end_reserve();
	EXPECT_OK(buffer_pool_open(&pool, 65536, 4));
	buffer_pool_close(&pool);
}
