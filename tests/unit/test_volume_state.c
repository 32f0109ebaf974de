#include "app/volume/volume_state.h"

#include "tests/unit/test.h"

/* Enumerates the whole machine, rather than sampling it. */
TEST(every_state_is_reached_and_can_be_left)
{
	bool is_reached[VOLUME_STATES] = {[VOLUME_FOUND] = true};

	for (int round = 0; round < VOLUME_STATES; round++)
		for (enum volume_state state = VOLUME_FOUND; state < VOLUME_STATES; state++)
			for (enum volume_event event = 0; event < VOLUME_EVENTS; event++)
				if (is_reached[state] && volume_state_allows(state, event))
					is_reached[volume_state_next(state, event)] = true;
	for (enum volume_state state = VOLUME_FOUND; state < VOLUME_STATES; state++) {
		bool can_leave = false;

		EXPECT_TRUE(is_reached[state]);
		for (enum volume_event event = 0; event < VOLUME_EVENTS; event++)
			can_leave |= volume_state_allows(state, event) &&
				     volume_state_next(state, event) != state;
		EXPECT_TRUE(can_leave);
	}
}

TEST(an_operator_can_lock_in_every_state_but_while_a_worker_changes_hands)
{
	for (enum volume_state state = VOLUME_FOUND; state < VOLUME_STATES; state++)
		EXPECT_EQUAL(volume_state_allows(state, VOLUME_LOCK_ASKED),
			     state != VOLUME_ADOPTING && state != VOLUME_YIELDING);
}

TEST(a_device_without_worker_can_be_removed_in_every_state_without_one)
{
	for (enum volume_state state = VOLUME_FOUND; state < VOLUME_STATES; state++)
		if (volume_state_allows(state, VOLUME_REMOVAL_BEGUN))
			EXPECT_EQUAL(volume_state_next(state, VOLUME_REMOVAL_BEGUN),
				     VOLUME_STOPPING);
	EXPECT_FALSE(volume_state_allows(VOLUME_SERVING, VOLUME_REMOVAL_BEGUN));
	EXPECT_FALSE(volume_state_allows(VOLUME_STARTING, VOLUME_REMOVAL_BEGUN));
}

TEST(a_worker_can_end_at_any_time_in_which_there_is_one)
{
	EXPECT_EQUAL(volume_state_next(VOLUME_STARTING, VOLUME_WORKER_ENDED), VOLUME_WAITING);
	EXPECT_EQUAL(volume_state_next(VOLUME_SERVING, VOLUME_WORKER_ENDED), VOLUME_WAITING);
	EXPECT_EQUAL(volume_state_next(VOLUME_STOPPING, VOLUME_WORKER_ENDED), VOLUME_LOCKED);
	EXPECT_EQUAL(volume_state_next(VOLUME_YIELDING, VOLUME_WORKER_ENDED), VOLUME_WAITING);
	EXPECT_EQUAL(volume_state_next(VOLUME_ADOPTING, VOLUME_WORKER_ENDED), VOLUME_WAITING);
}

TEST(what_the_table_does_not_allow_crashes)
{
	EXPECT_ABORT((void)volume_state_next(VOLUME_SERVING, VOLUME_KEY_ASKED));
	EXPECT_ABORT((void)volume_state_next(VOLUME_LOCKED, VOLUME_WORKER_SERVES));
}
