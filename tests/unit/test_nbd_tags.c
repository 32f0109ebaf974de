#include "io/nbd_tags.h"

#include "tests/unit/test.h"

static struct nbd_tags tags;

static void start(unsigned count, unsigned owners)
{
	nbd_tags_free(&tags);
	EXPECT_OK(nbd_tags_init(&tags, count, owners));
}

static unsigned take_all(unsigned owner)
{
	unsigned number;
	unsigned count = 0;

	while (nbd_tags_take(&tags, owner, &number))
		count++;
	return count;
}

TEST(whoever_takes_all_he_can_leaves_the_others_what_they_are_sure_of)
{
	start(64, 4);
	EXPECT_EQUAL(tags.sure, 4);
	EXPECT_EQUAL(take_all(0), 64 - 3 * 4);
	for (unsigned owner = 1; owner < 4; owner++) {
		EXPECT_TRUE(nbd_tags_has(&tags, owner));
		EXPECT_EQUAL(take_all(owner), 4);
	}
	EXPECT_EQUAL(tags.free_count, 0);
	nbd_tags_free(&tags);
}

TEST(everybody_is_sure_of_one_even_with_as_many_owners_as_tags)
{
	start(8, 8);
	for (unsigned owner = 0; owner < 8; owner++)
		EXPECT_EQUAL(take_all(owner), 1);
	nbd_tags_free(&tags);
}

TEST(what_is_released_can_be_taken_by_whoever_has_none)
{
	start(8, 2);
	EXPECT_EQUAL(take_all(0), 7);
	EXPECT_EQUAL(take_all(1), 1);
	for (unsigned number = 0; number < 8; number++)
		if (tags.tags[number].owner == 0)
			nbd_tags_release(&tags, number);
	EXPECT_EQUAL(take_all(1), 6);
	EXPECT_EQUAL(take_all(0), 1);
	nbd_tags_free(&tags);
}

TEST(no_tag_has_two_owners)
{
	unsigned number;
	bool taken[64] = {false};

	start(64, 3);
	for (unsigned i = 0; i < 5000; i++) {
		uint8_t random[2];

		test_fill(random, sizeof(random), i);
		if (random[0] % 2 == 0 && nbd_tags_take(&tags, random[1] % 3, &number)) {
			EXPECT_FALSE(taken[number]);
			taken[number] = true;
			EXPECT_EQUAL(tags.tags[number].owner, random[1] % 3);
		} else if (taken[random[1] % 64]) {
			taken[random[1] % 64] = false;
			nbd_tags_release(&tags, random[1] % 64);
		}
		EXPECT_TRUE(tags.promised <= tags.free_count);
		EXPECT_TRUE(nbd_tags_has(&tags, 0) || tags.held[0] >= tags.sure);
	}
	nbd_tags_free(&tags);
}

TEST(a_tag_with_the_engine_cannot_be_released)
{
	unsigned number = 0;

	start(8, 1);
	EXPECT_TRUE(nbd_tags_take(&tags, 0, &number));
	nbd_tag_step(&tags.tags[number], NBD_TAG_SUBMITTED);
	EXPECT_ABORT(nbd_tags_release(&tags, number));
	nbd_tag_step(&tags.tags[number], NBD_TAG_ANSWERED);
	nbd_tags_release(&tags, number);
	EXPECT_ABORT(nbd_tags_release(&tags, number));
	EXPECT_EQUAL(tags.free_count, 8);
	nbd_tags_free(&tags);
}
