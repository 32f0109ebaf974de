/* The short form of `make fleet`. */
#include "tests/fleet/fleet.c"
#include "tests/fleet/scenarios.c"

#include "tests/unit/test.h"

static struct fleet_result result;

static void expect_good(const struct fleet_scenario *scenario)
{
	fleet_run(&result, scenario);
	if (!fleet_is_good(&result, scenario))
		printf("%s, %u brokers: %u unlocked, %.3f of the requests, %.3f of the time\n",
		       scenario->name, scenario->brokers, result.unlocked,
		       fleet_requests_ratio(&result), fleet_time_ratio(&result));
	EXPECT_TRUE(fleet_is_good(&result, scenario));
}

TEST(a_thousand_brokers_are_unlocked_nearly_as_by_a_perfect_scheduler_whatever_happens)
{
	struct fleet_scenario scenario;

	for (size_t i = 0; fleet_scenario(&scenario, i); i++)
		if (scenario.brokers == 1000 && !scenario.may_be_poor)
			expect_good(&scenario);
}

TEST(ten_thousand_brokers_are_too_when_they_boot_at_once)
{
	struct fleet_scenario scenario;

	for (size_t i = 0; fleet_scenario(&scenario, i); i++)
		if (scenario.brokers == 10000 && !scenario.may_be_poor &&
		    scenario.event == FLEET_BOOTS)
			expect_good(&scenario);
}

TEST(that_is_not_one_lucky_draw)
{
	struct fleet_scenario scenario;

	for (uint64_t seed = 1; seed <= 10; seed++)
		for (size_t i = 0; fleet_scenario(&scenario, i); i++) {
			scenario.seed = seed;
			if (scenario.brokers == 1000 && !scenario.may_be_poor &&
			    (scenario.event == FLEET_BOOTS || scenario.event == FLEET_ROTATES))
				expect_good(&scenario);
		}
}

TEST(even_a_fleet_that_does_not_know_its_size_is_unlocked_in_the_end)
{
	struct fleet_scenario scenario;

	for (size_t i = 0; fleet_scenario(&scenario, i); i++)
		if (scenario.may_be_poor && scenario.brokers == 1000) {
			scenario.limit.counts_refused = true;
			fleet_run(&result, &scenario);
			EXPECT_EQUAL(result.unlocked, scenario.brokers);
		}
}
