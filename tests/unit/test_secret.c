#include "platform/secret.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/test.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#define UNDER_ASAN __has_feature(address_sanitizer)
#else
#define UNDER_ASAN 0
#endif

TEST(equal_bytes_are_equal_and_each_single_difference_is_seen)
{
	uint8_t a[64], b[64];

	test_fill(a, sizeof(a), 1);
	memcpy(b, a, sizeof(b));
	EXPECT_TRUE(secret_equal(a, b, sizeof(a)));
	EXPECT_TRUE(secret_equal(a, b, 0));
	for (size_t i = 0; i < sizeof(a) * 8; i++) {
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		EXPECT_FALSE(secret_equal(a, b, sizeof(a)));
		b[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

static struct secret *left_behind;

static enum status leave_early(enum status why)
{
	SECRET_SCOPE struct secret secret = {.size = 4};

	left_behind = &secret;
	memcpy(secret.bytes, "open", 4);
	TRY(why);
	return OK;
}

/* Looks at a stack frame that has ended, which ASan would rightly report. */
__attribute__((no_sanitize("address"))) static bool is_wiped(const volatile struct secret *secret)
{
	return secret->bytes[0] == 0 && secret->bytes[3] == 0 && secret->size == 0;
}

TEST(a_secret_is_wiped_on_every_way_out)
{
#if UNDER_ASAN
	SKIP("under ASan a frame that has ended lies in memory that may be gone");
#endif
	EXPECT_STATUS(leave_early(OK), OK);
	EXPECT_TRUE(is_wiped(left_behind));
	EXPECT_STATUS(leave_early(FAIL_WRONG_KEY), FAIL_WRONG_KEY);
	EXPECT_TRUE(is_wiped(left_behind));
}

/* What /proc/self/smaps says of the mapping at that address. */
static void flags_of(const void *address, char *flags, size_t size)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[512];
	bool is_here = false;
	unsigned long start, end;

	flags[0] = '\0';
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, ':') != NULL &&
		    line[0] != 'V')
			is_here = (unsigned long)address >= start && (unsigned long)address < end;
		if (is_here && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, size, "%s", line);
	}
	if (file != NULL)
		fclose(file);
}

TEST(secret_memory_is_locked_and_not_dumped_or_inherited)
{
	SECRET_MEMORY_SCOPE struct secret_memory memory = {0};
	char flags[512];

	EXPECT_OK(secret_memory_open(&memory, 5000));
	EXPECT_EQUAL(memory.size, 5000);
	EXPECT_EQUAL(memory.mapped_size, 8192);
	flags_of(memory.bytes, flags, sizeof(flags));
	EXPECT_TEXT_CONTAINS(flags, " dd"); /* not in a core dump */
	EXPECT_TEXT_CONTAINS(flags, " dc"); /* not copied by fork */
#if !UNDER_ASAN
	EXPECT_TEXT_CONTAINS(flags, " lo"); /* ASan turns mlock off */
#endif
}

TEST(hidden_memory_can_be_used_like_any_other)
{
	SECRET_MEMORY_SCOPE struct secret_memory memory = {0};

	EXPECT_OK(secret_memory_open_hidden(&memory, 3 * 4096 + 1));
	memset(memory.bytes, 0xaa, memory.size);
	EXPECT_EQUAL(memory.bytes[memory.size - 1], 0xaa);
	secret_memory_close(&memory);
	EXPECT_TRUE(memory.bytes == NULL);
	secret_memory_close(&memory);
}

TEST(more_memory_than_there_is_fails_without_harm)
{
	struct secret_memory memory = {0};

	EXPECT_STATUS(secret_memory_open(&memory, (size_t)1 << 46), FAIL_OUT_OF_MEMORY);
	EXPECT_TRUE(memory.bytes == NULL);
}
