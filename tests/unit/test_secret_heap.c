#include "platform/secret_heap.h"

#include <string.h>
#include <sys/mman.h>

#include "tests/unit/test.h"

#define HEAP_SCOPE __attribute__((cleanup(secret_heap_close)))

static bool is_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

TEST(blocks_are_aligned_and_do_not_overlap)
{
	HEAP_SCOPE struct secret_heap heap;
	uint8_t *blocks[50];

	EXPECT_OK(secret_heap_open(&heap, 64 * 1024));
	for (size_t i = 0; i < ARRAY_COUNT(blocks); i++) {
		blocks[i] = secret_heap_take(&heap, i * 7);
		EXPECT_TRUE(blocks[i] != NULL);
		EXPECT_EQUAL((uintptr_t)blocks[i] % 16, 0);
		memset(blocks[i], (int)i, i * 7);
	}
	for (size_t i = 0; i < ARRAY_COUNT(blocks); i++)
		for (size_t j = 0; j < i * 7; j++)
			EXPECT_EQUAL(blocks[i][j], i);
}

TEST(what_was_given_back_is_zero)
{
	HEAP_SCOPE struct secret_heap heap;
	uint8_t *first, *block, *last;

	EXPECT_OK(secret_heap_open(&heap, 4096));
	first = secret_heap_take(&heap, 16);
	block = secret_heap_take(&heap, 100);
	last = secret_heap_take(&heap, 16);
	memset(block, 0xaa, 100);
	secret_heap_give_back(&heap, block);
	EXPECT_TRUE(is_zero(block, 100));
	secret_heap_give_back(&heap, first);
	secret_heap_give_back(&heap, last);
}

TEST(a_block_that_grows_leaves_nothing_behind)
{
	HEAP_SCOPE struct secret_heap heap;
	uint8_t *block, *wall, *larger;

	EXPECT_OK(secret_heap_open(&heap, 4096));
	block = secret_heap_take(&heap, 32);
	wall = secret_heap_take(&heap, 16);
	memset(block, 0xaa, 32);
	larger = secret_heap_resize(&heap, block, 500);
	EXPECT_TRUE(larger != NULL && larger != block);
	EXPECT_EQUAL(larger[0], 0xaa);
	EXPECT_EQUAL(larger[31], 0xaa);
	EXPECT_TRUE(is_zero(block, 32));
	secret_heap_give_back(&heap, wall);
	secret_heap_give_back(&heap, larger);
}

TEST(all_of_the_memory_can_be_had_again_in_one_piece)
{
	HEAP_SCOPE struct secret_heap heap;
	void *blocks[30];
	void *whole;

	EXPECT_OK(secret_heap_open(&heap, 4096));
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_COUNT(blocks); i++)
			blocks[i] = secret_heap_take(&heap, 100);
		for (size_t i = 0; i < ARRAY_COUNT(blocks); i++)
			secret_heap_give_back(&heap, blocks[(i * 7 + round) % ARRAY_COUNT(blocks)]);
		EXPECT_EQUAL(heap.used_size, 0);
		whole = secret_heap_take(&heap, 4096 - 16);
		EXPECT_TRUE(whole != NULL);
		secret_heap_give_back(&heap, whole);
	}
}

TEST(more_than_there_is_is_not_given)
{
	HEAP_SCOPE struct secret_heap heap;
	void *block;

	EXPECT_OK(secret_heap_open(&heap, 4096));
	EXPECT_TRUE(secret_heap_take(&heap, 4096) == NULL);
	EXPECT_TRUE(secret_heap_take(&heap, SIZE_MAX) == NULL);
	block = secret_heap_take(&heap, 64);
	EXPECT_TRUE(secret_heap_resize(&heap, block, 8192) == NULL);
	EXPECT_TRUE(secret_heap_resize(&heap, block, SIZE_MAX - 8) == NULL);
	EXPECT_TRUE(secret_heap_resize(&heap, block, 4016) == NULL);
	secret_heap_give_back(&heap, block);
}

TEST(nothing_is_a_block_that_can_grow_and_be_given_back)
{
	HEAP_SCOPE struct secret_heap heap;
	void *block;

	EXPECT_OK(secret_heap_open(&heap, 4096));
	secret_heap_give_back(&heap, NULL);
	block = secret_heap_resize(&heap, NULL, 10);
	EXPECT_TRUE(block != NULL);
	secret_heap_give_back(&heap, block);
}

TEST(giving_back_twice_or_something_else_crashes)
{
	HEAP_SCOPE struct secret_heap heap;
	uint8_t *block;
	static uint8_t other[64];

	EXPECT_OK(secret_heap_open(&heap, 4096));
	/* The child that is to crash would otherwise not have this memory at all. */
	EXPECT_EQUAL(madvise(heap.memory.bytes, heap.memory.mapped_size, MADV_DOFORK), 0);
	block = secret_heap_take(&heap, 32);
	EXPECT_ABORT(secret_heap_give_back(&heap, other));
	EXPECT_ABORT(secret_heap_give_back(&heap, block + 1));
	secret_heap_give_back(&heap, block);
	EXPECT_ABORT(secret_heap_give_back(&heap, block));
}
