/* A fleet of brokers before one vault, under a clock that nobody waits for. What a broker does when
 * is the product's: app/vault/vault_attempt.c asks and says what the answers mean,
 * app/supervisor/retry.c when to ask. Only what is around them is made up here: clock, network,
 * IMDS, vault.
 *
 * fleet.c defines https_exchange and clock_now_ms in the place of io/https.c and platform/clock.c.
 */
#ifndef TESTS_FLEET_FLEET_H
#define TESTS_FLEET_FLEET_H

#include "platform/base.h"

#define FLEET_SECONDS_MAX 8192

enum fleet_event {
	FLEET_BOOTS,   /* all machines start at the same moment */
	FLEET_OUTAGE,  /* the same, and the vault cannot be reached for an hour */
	FLEET_FAILURE, /* the same, and the vault answers 503 for an hour */
	FLEET_ROTATES, /* all are served, and there is a new version of the key */
};

/* What nobody outside Azure knows for sure about its limit. */
struct fleet_limit {
	uint32_t operations; /* in any 10 s */
	bool counts_refused;
	bool says_when; /* Retry-After, exact */
};

struct fleet_scenario {
	char name[80];
	enum fleet_event event;
	uint32_t brokers;
	uint32_t fleet_size; /* what the brokers believe; 0: the truth */
	uint32_t key_bits;
	struct fleet_limit limit;
	uint64_t seed;
	bool may_be_poor; /* what byok cannot do well, for comparison */
};

struct fleet_result {
	uint32_t unlocked; /* or moved to the new version */
	uint64_t requests; /* for that, once the vault was there */
	uint64_t time_ms;  /* from when it was there until the last broker is unlocked */
	uint64_t perfect_requests;
	uint64_t perfect_time_ms;
	uint64_t worst_wait_ms; /* of any broker, from when the vault was there */
	uint32_t accepted_in[FLEET_SECONDS_MAX];
	uint32_t refused_in[FLEET_SECONDS_MAX];
	uint32_t seconds; /* of the two above that say something, from when the vault was there */
};

/* What must be so: of what a perfect scheduler needs. */
#define FLEET_REQUESTS_RATIO_MAX 1.2
#define FLEET_TIME_RATIO_MAX 1.5

/* Scenarios by number, with a name each; false where there are no more. */
bool fleet_scenario(struct fleet_scenario *scenario, size_t number);

/* The same result each time for the same seed. */
void fleet_run(struct fleet_result *result, const struct fleet_scenario *scenario);

/* All are unlocked, and as well as must be. */
bool fleet_is_good(const struct fleet_result *result, const struct fleet_scenario *scenario);

double fleet_requests_ratio(const struct fleet_result *result);
double fleet_time_ratio(const struct fleet_result *result);

#endif
