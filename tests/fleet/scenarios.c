#include <stdio.h>

#include "tests/fleet/fleet.h"

struct kind {
	const char *name;
	enum fleet_event event;
	struct fleet_limit limit; /* without the number */
	uint32_t fleet_size;
};

static const struct kind kinds[] = {
	{.name = "boot", .event = FLEET_BOOTS},
	{.name = "boot, retry-after", .event = FLEET_BOOTS, .limit = {.says_when = true}},
	{.name = "boot, refusals count", .event = FLEET_BOOTS, .limit = {.counts_refused = true}},
	{.name = "outage", .event = FLEET_OUTAGE},
	{.name = "outage as 503",
	 .event = FLEET_FAILURE,
	 .limit = {.says_when = true, .counts_refused = true}},
	{.name = "rotation", .event = FLEET_ROTATES},
	{.name = "rotation, retry-after", .event = FLEET_ROTATES, .limit = {.says_when = true}},
	{.name = "boot, fleet_size not set", .event = FLEET_BOOTS, .fleet_size = 1},
};

/* By Azure's table, for keys in software. */
static const struct {
	uint32_t brokers;
	uint32_t key_bits;
	uint32_t operations;
} sizes[] = {{1000, 2048, 4000}, {1000, 4096, 500}, {10000, 2048, 4000}, {10000, 4096, 500}};

bool fleet_scenario(struct fleet_scenario *scenario, size_t number)
{
	const struct kind *kind =
		&kinds[MINIMUM(number / ARRAY_COUNT(sizes), ARRAY_COUNT(kinds) - 1)];
	const size_t size = number % ARRAY_COUNT(sizes);

	if (number >= ARRAY_COUNT(kinds) * ARRAY_COUNT(sizes))
		return false;
	*scenario = (struct fleet_scenario){
		.event = kind->event,
		.brokers = sizes[size].brokers,
		.key_bits = sizes[size].key_bits,
		.fleet_size = kind->fleet_size,
		.limit = kind->limit,
		.may_be_poor = kind->fleet_size != 0,
	};
	scenario->limit.operations = sizes[size].operations;
	snprintf(scenario->name, sizeof(scenario->name), "%s, %u-bit key", kind->name,
		 scenario->key_bits);
	return true;
}
