#include "platform/clock.h"

#include "tests/unit/test.h"

TEST(back_off_doubles_up_to_its_cap_and_jitters_over_the_whole_range)
{
	struct backoff least = {.base_ms = 1000, .cap_ms = 30000};
	struct backoff most = least;
	static const uint64_t ceilings_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};

	for (size_t i = 0; i < ARRAY_COUNT(ceilings_ms); i++) {
		EXPECT_EQUAL(backoff_next_ms(&least, 0, 0), 0);
		EXPECT_EQUAL(backoff_next_ms(&most, UINT32_MAX, 0), ceilings_ms[i]);
	}
}

TEST(a_wait_is_never_shorter_than_the_server_asks)
{
	struct backoff backoff = {.base_ms = 1000, .cap_ms = 30000};

	EXPECT_EQUAL(backoff_next_ms(&backoff, 0, 5000), 5000);
	EXPECT_EQUAL(backoff_next_ms(&backoff, UINT32_MAX, 90000), 90000);
}

TEST(back_off_goes_on_for_ever_without_overflow_and_can_begin_anew)
{
	struct backoff backoff = {.base_ms = 1000, .cap_ms = 30000};

	for (int i = 0; i < 1000; i++)
		EXPECT_TRUE(backoff_next_ms(&backoff, UINT32_MAX, 0) <= 30000);
	backoff_reset(&backoff);
	EXPECT_EQUAL(backoff_next_ms(&backoff, UINT32_MAX, 0), 1000);
}

TEST(the_clock_moves_forward_and_deadlines_run_out)
{
	uint64_t before_ms = clock_now_ms();

	clock_sleep_ms(5);
	EXPECT_TRUE(clock_now_ms() >= before_ms + 5);
	EXPECT_EQUAL(clock_left_ms(before_ms), 0);
	EXPECT_TRUE(clock_left_ms(clock_now_ms() + 60000) > 50000);
}
