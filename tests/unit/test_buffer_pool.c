#include "io/buffer_pool.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/test.h"

/* The kernel's flags of the mapping that holds `address`, such as " rd wr lo dd ". */
static void mapping_flags(const void *address, char flags[static 256])
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[512];
	bool is_inside = false;

	EXPECT_TRUE(maps != NULL);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long begin;
		unsigned long end;

		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			is_inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
		if (is_inside && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, 256, "%.250s", line + 8);
	}
	fclose(maps);
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
