#include "app/supervisor/retry.h"

#include "tests/unit/test.h"

TEST(what_fits_the_vaults_limit_is_asked_at_once)
{
	EXPECT_EQUAL(retry_first_ms(retry_round_ms(1, 4096), UINT32_MAX), 0);
	EXPECT_EQUAL(retry_first_ms(retry_round_ms(4000, 2048), UINT32_MAX), 0);
	EXPECT_EQUAL(retry_first_ms(retry_round_ms(1000, 3072), UINT32_MAX), 0);
	EXPECT_EQUAL(retry_first_ms(retry_round_ms(500, 4096), UINT32_MAX), 0);
	EXPECT_EQUAL(retry_first_ms(retry_round_ms(1000000, 0), UINT32_MAX), 0);
}

TEST(of_a_larger_fleet_some_ask_at_once_and_the_others_in_a_later_window)
{
	const uint64_t round_ms = retry_round_ms(10000, 4096);
	uint64_t last_ms = 0;
	unsigned at_once = 0;

	EXPECT_EQUAL(round_ms, 200000);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t wait_ms = retry_first_ms(round_ms, (uint32_t)(((uint64_t)i << 32) / 1000));

		at_once += wait_ms == 0;
		EXPECT_TRUE(wait_ms == 0 || wait_ms >= RETRY_WINDOW_MS);
		EXPECT_TRUE(wait_ms >= last_ms);
		last_ms = wait_ms;
	}
	/* 500 of 10000 use up the first window, and some more make up for chance. */
	EXPECT_EQUAL(at_once, 58);
	EXPECT_TRUE(last_ms > 200000 && last_ms < 285000);
}

TEST(waits_after_failures_double_from_a_second_with_jitter_over_the_whole_range)
{
	struct retry least = {.cap_ms = 30000};
	struct retry most = least;
	static const uint64_t ceilings_ms[] = {1000, 2000, 4000, 8000, 16000};

	for (size_t i = 0; i < ARRAY_COUNT(ceilings_ms); i++) {
		EXPECT_EQUAL(retry_next_ms(&least, 0, FAIL_VAULT_UNREACHABLE, 0, 0), 0);
		EXPECT_EQUAL(retry_next_ms(&most, 0, FAIL_VAULT_UNREACHABLE, 0, UINT32_MAX),
			     ceilings_ms[i]);
	}
}

TEST(at_the_cap_waits_are_even_for_ever)
{
	struct retry retry = {.cap_ms = 30000, .failures = 5};

	for (int i = 0; i < 100; i++) {
		EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_UNREACHABLE, 0, 0), 27000);
		EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_UNREACHABLE, 0, UINT32_MAX),
			     30000);
	}
	retry_reset(&retry);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_UNREACHABLE, 0, UINT32_MAX), 1000);
}

TEST(a_fleet_asks_no_more_often_during_an_outage_than_the_vault_can_answer)
{
	struct retry retry = {.cap_ms = 30000, .failures = 20};
	const uint64_t round_ms = retry_round_ms(10000, 4096);

	EXPECT_EQUAL(retry_next_ms(&retry, round_ms, FAIL_VAULT_UNREACHABLE, 0, 0), 234000);
	EXPECT_EQUAL(retry_next_ms(&retry, round_ms, FAIL_VAULT_UNREACHABLE, 0, UINT32_MAX),
		     260000);
}

TEST(a_refused_request_comes_back_when_the_vaults_window_has_moved_on)
{
	struct retry retry = {.cap_ms = 30000};

	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 0, 0), 11000);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 3000, 0), 3000);
	retry_reset(&retry);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 0, UINT32_MAX), 14000);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 3000, UINT32_MAX), 9000);
}

TEST(refused_requests_come_apart_far_beyond_the_cap)
{
	struct retry retry = {.cap_ms = 30000};

	for (int i = 0; i < 100; i++)
		(void)retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 0, 0);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 0, UINT32_MAX), 491000);
}

TEST(no_wait_is_shorter_than_the_other_side_asks_but_nobody_can_ask_for_ever)
{
	struct retry retry = {.cap_ms = 30000};

	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_UNAVAILABLE, 5000, 0), 5000);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_UNAVAILABLE, 3600000, 0), 60000);
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_THROTTLED, 3600000, 0), 60000);
	retry.cap_ms = 300000;
	EXPECT_EQUAL(retry_next_ms(&retry, 0, FAIL_VAULT_UNAVAILABLE, 3600000, 0), 300000);
}

TEST(a_large_fleet_does_not_come_back_at_the_moment_that_the_vault_names)
{
	struct retry retry = {.cap_ms = 30000};
	const uint64_t round_ms = retry_round_ms(10000, 4096);

	EXPECT_EQUAL(retry_next_ms(&retry, round_ms, FAIL_VAULT_THROTTLED, 1000, 0), 11000);
	EXPECT_EQUAL(retry_next_ms(&retry, round_ms, FAIL_VAULT_THROTTLED, 20000, 0), 20000);
}

TEST(a_fleet_asks_again_only_when_all_of_it_could_move_to_another_version)
{
	EXPECT_EQUAL(retry_interval_ms(60000, retry_round_ms(1, 4096)), 60000);
	EXPECT_EQUAL(retry_interval_ms(60000, retry_round_ms(1000, 2048)), 60000);
	EXPECT_EQUAL(retry_interval_ms(60000, retry_round_ms(1000, 4096)), 100000);
	EXPECT_EQUAL(retry_interval_ms(60000, retry_round_ms(10000, 4096)), 1090000);
	EXPECT_EQUAL(retry_interval_ms(60000, 0), 60000);
}

TEST(what_is_asked_again_and_again_is_in_step_with_nobody)
{
	struct retry retry = {.cap_ms = 30000};

	EXPECT_EQUAL(retry_first_of_many_ms(60000, 0), 30000);
	EXPECT_EQUAL(retry_first_of_many_ms(60000, UINT32_MAX), 90000);
	EXPECT_EQUAL(retry_next_of_many_ms(&retry, 60000, 0, OK, 0, 0), 58500);
	EXPECT_EQUAL(retry_next_of_many_ms(&retry, 60000, 0, FAIL_VAULT_TIMEOUT, 0, UINT32_MAX),
		     61500);
}

TEST(what_is_asked_again_and_again_comes_back_soon_if_the_vault_had_too_many_requests)
{
	struct retry retry = {.cap_ms = 30000};

	EXPECT_EQUAL(retry_next_of_many_ms(&retry, 60000, 0, FAIL_VAULT_THROTTLED, 0, 0), 1000);
	EXPECT_EQUAL(retry_next_of_many_ms(&retry, 60000, 0, FAIL_VAULT_THROTTLED, 0, UINT32_MAX),
		     13000);
	EXPECT_EQUAL(retry_next_of_many_ms(&retry, 60000, 0, FAIL_VAULT_THROTTLED, 5000, 0), 5000);
	(void)retry_next_of_many_ms(&retry, 60000, 0, OK, 0, 0);
	EXPECT_EQUAL(retry_next_of_many_ms(&retry, 60000, 0, FAIL_VAULT_THROTTLED, 0, UINT32_MAX),
		     7000);
}
