/* The watch over keys, enumerated whole: seven states, four events. */
#include "app/supervisor/key_policy.h"

#include <string.h>

#include "tests/unit/test.h"

#define KEY_A "https://bank.vault.azure.net/keys/a/"
#define KEY_B "https://bank.vault.azure.net/keys/b/"
#define OLD "11111111111111111111111111111111"
#define NEW "22222222222222222222222222222222"

TEST(one_good_look_clears_whatever_was)
{
	for (enum key_state state = KEY_UNKNOWN; state < KEY_STATES; state++)
		EXPECT_EQUAL(key_policy_next(state, KEY_GAVE), KEY_OK);
}

TEST(one_bad_look_raises_nothing_and_the_second_in_a_row_does)
{
	const enum key_state fine[] = {KEY_UNKNOWN, KEY_OK};

	for (size_t i = 0; i < ARRAY_COUNT(fine); i++)
		for (enum key_event first = KEY_UNREACHED; first < KEY_EVENTS; first++)
			for (enum key_event second = KEY_UNREACHED; second < KEY_EVENTS; second++) {
				enum key_state state = key_policy_next(fine[i], first);

				EXPECT_FALSE(key_policy_is_raised(state));
				EXPECT_TEXT(key_policy_word(state), key_policy_word(fine[i]));
				state = key_policy_next(state, second);
				EXPECT_TRUE(key_policy_is_raised(state));
			}
}

TEST(what_is_raised_stays_so_until_a_good_look)
{
	for (enum key_state state = KEY_UNKNOWN; state < KEY_STATES; state++)
		for (enum key_event event = KEY_UNREACHED; event < KEY_EVENTS; event++)
			if (key_policy_is_raised(state))
				EXPECT_TRUE(key_policy_is_raised(key_policy_next(state, event)));
}

TEST(a_loss_is_not_forgotten_when_the_network_goes_too)
{
	EXPECT_EQUAL(key_policy_next(KEY_LOST, KEY_UNREACHED), KEY_LOST);
	EXPECT_EQUAL(key_policy_next(KEY_WRONG, KEY_UNREACHED), KEY_WRONG);
	EXPECT_EQUAL(key_policy_next(KEY_DEGRADED, KEY_REFUSED), KEY_LOST);
}

TEST(every_state_is_reached)
{
	bool is_reached[KEY_STATES] = {[KEY_UNKNOWN] = true};

	for (int round = 0; round < KEY_STATES; round++)
		for (enum key_state state = KEY_UNKNOWN; state < KEY_STATES; state++)
			for (enum key_event event = KEY_GAVE; event < KEY_EVENTS; event++)
				if (is_reached[state])
					is_reached[key_policy_next(state, event)] = true;
	for (enum key_state state = KEY_UNKNOWN; state < KEY_STATES; state++)
		EXPECT_TRUE(is_reached[state]);
}

TEST(what_the_table_does_not_allow_crashes)
{
	EXPECT_ABORT((void)key_policy_next(KEY_BROKEN, KEY_GAVE));
	EXPECT_ABORT((void)key_policy_next(KEY_STATES, KEY_GAVE));
}

static int class_of(enum status status)
{
	enum key_event event;

	return key_policy_classify(&event, status) ? (int)event : -1;
}

/* Whoever adds a status of the vault's or of the identity's must say here what it means. */
TEST(every_failure_of_vault_and_identity_is_told_apart)
{
	for (enum status status = FAIL_IDENTITY_NONE; status <= FAIL_ANSWER_SHAPE; status++)
		EXPECT_NOT_EQUAL(class_of(status), -1);
	EXPECT_EQUAL(class_of(OK), KEY_GAVE);
	EXPECT_EQUAL(class_of(FAIL_VAULT_NAME), KEY_UNREACHED);
	EXPECT_EQUAL(class_of(FAIL_VAULT_THROTTLED), KEY_UNREACHED);
	EXPECT_EQUAL(class_of(FAIL_VAULT_UNAVAILABLE), KEY_UNREACHED);
	EXPECT_EQUAL(class_of(FAIL_KEY_DISABLED), KEY_REFUSED);
	EXPECT_EQUAL(class_of(FAIL_KEY_GONE), KEY_REFUSED);
	EXPECT_EQUAL(class_of(FAIL_VAULT_RBAC), KEY_REFUSED);
	EXPECT_EQUAL(class_of(FAIL_VAULT_FIREWALL), KEY_REFUSED);
	EXPECT_EQUAL(class_of(FAIL_WRAPPED_MISMATCH), KEY_MISMATCHED);
	EXPECT_EQUAL(class_of(FAIL_KEY_ID), KEY_MISMATCHED);
	EXPECT_EQUAL(class_of(FAIL_DISK_IO), -1);
	EXPECT_EQUAL(class_of(FAIL_HEADER_CHANGED), -1);
}

TEST(looks_come_sooner_while_anything_is_less_than_fine)
{
	for (enum key_state state = KEY_UNKNOWN; state < KEY_STATES; state++) {
		uint64_t middle = state == KEY_OK ? 600000 : 60000;

		EXPECT_EQUAL(key_policy_wait_ms(state, 600000, 60000, 0), middle * 4 / 5);
		EXPECT_EQUAL(key_policy_wait_ms(state, 600000, 60000, UINT32_MAX),
			     middle * 6 / 5 - 1);
		EXPECT_EQUAL(key_policy_wait_ms(state, 600000, 60000, 0x80000000), middle);
	}
}

TEST(only_another_version_of_the_same_key_is_moved_to)
{
	EXPECT_TRUE(key_policy_must_rotate(KEY_A OLD, KEY_A NEW));
	EXPECT_TRUE(key_policy_must_rotate("https://BANK.vault.azure.net/keys/A/" OLD, KEY_A NEW));
	EXPECT_FALSE(key_policy_must_rotate(KEY_A OLD, KEY_A OLD));
	EXPECT_FALSE(key_policy_must_rotate(KEY_A OLD, KEY_B NEW));
	EXPECT_FALSE(key_policy_must_rotate(KEY_A OLD, "https://bank.vault.azure.net/keys/a"));
	EXPECT_FALSE(key_policy_must_rotate(KEY_A OLD, ""));
	EXPECT_FALSE(key_policy_must_rotate("", KEY_A NEW));
}

TEST(only_a_loss_locks_and_only_after_its_time)
{
	for (enum key_state state = KEY_UNKNOWN; state < KEY_STATES; state++) {
		EXPECT_EQUAL(key_policy_must_lock(state, 60000, 60), state == KEY_LOST);
		EXPECT_FALSE(key_policy_must_lock(state, 59999, 60));
		EXPECT_FALSE(key_policy_must_lock(state, UINT64_MAX, 0));
	}
}
