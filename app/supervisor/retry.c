#include "app/supervisor/retry.h"

#define BASE_MS 1000

/* When a window that was filled up is surely over, for requests that came up to a second apart. */
#define WINDOW_OVER_MS (RETRY_WINDOW_MS + 1000)

/* A vault may ask for patience, not for giving up. */
#define RETRY_AFTER_MAX_LEAST_MS (60 * 1000)

/* Of a limit, so many per cent ask at once: that uses the vault's first window up, though it is
 * chance how many they are. */
#define FIRST_WINDOW_PERCENT 115

/* Beyond the shortest time in which a fleet can be done, so much more is taken to spread it. */
#define SPREAD_PERCENT 140

/* What was refused comes back within so much, the first time; each further refusal doubles it, far
 * beyond the cap and what the fleet needs: the vault may count refused requests, too, and then
 * eager ones keep it shut. */
#define REFUSED_SPREAD_MS 3000
#define REFUSED_CAP_FACTOR 16
#define REFUSED_CAP_ROUNDS 8

/* The same where all have their turns already, and the window is full by chance. */
#define REFUSED_IN_TURN_MS 6000

/* In how many rounds the whole fleet can ask for the newest version, and each of its machines have
 * its secret unwrapped, wrapped, and unwrapped again: four operations, and room for what else is
 * going on. In per cent. */
#define MOVE_PERCENT 550

uint64_t retry_round_ms(uint64_t operations, uint32_t key_bits)
{
	switch (key_bits) {
	case 2048: return operations * RETRY_WINDOW_MS / 4000;
	case 3072: return operations * RETRY_WINDOW_MS / 1000;
	case 4096: return operations * RETRY_WINDOW_MS / 500;
	default: return 0;
	}
}

/* Uniform in [0, range], of 32 random bits. */
static uint64_t scale(uint64_t range, uint32_t random)
{
	return (uint64_t)(((unsigned __int128)(range + 1) * random) >> 32);
}

uint64_t retry_first_ms(uint64_t round_ms, uint32_t random)
{
	const uint64_t windows = (round_ms + RETRY_WINDOW_MS - 1) / RETRY_WINDOW_MS;
	uint64_t at_once; /* of 2^32 */
	uint64_t rest_ms;

	if (windows <= 1)
		return 0;
	at_once = (((uint64_t)RETRY_WINDOW_MS << 32) / round_ms) * FIRST_WINDOW_PERCENT / 100;
	if (random < at_once)
		return 0;
	rest_ms = (windows - 1) * RETRY_WINDOW_MS * SPREAD_PERCENT / 100 - WINDOW_OVER_MS;
	random = (uint32_t)((((uint64_t)random - at_once) << 32) / (((uint64_t)1 << 32) - at_once));
	return WINDOW_OVER_MS + scale(rest_ms, random);
}

/* start * 2^doublings, at most cap. */
static uint64_t grown(uint64_t start_ms, unsigned doublings, uint64_t cap_ms)
{
	if (doublings >= 32 || start_ms > cap_ms >> doublings)
		return cap_ms;
	return start_ms << doublings;
}

static uint64_t refused_spread_ms(struct retry *retry, uint64_t first_ms, uint64_t round_ms,
				  uint32_t random)
{
	const uint64_t cap_ms =
		MAXIMUM(retry->cap_ms * REFUSED_CAP_FACTOR, round_ms * REFUSED_CAP_ROUNDS);
	const unsigned refusals = retry->refusals;

	retry->refusals = MINIMUM(refusals + 1, 32);
	return scale(grown(first_ms, refusals, cap_ms), random);
}

/* The vault's window is full: it is of no use to ask before it has moved on. */
static uint64_t after_refusal_ms(struct retry *retry, uint64_t round_ms, uint64_t retry_after_ms,
				 uint32_t random)
{
	/* A large fleet's window is full again by the time that the vault names. */
	if (retry_after_ms == 0 || round_ms > RETRY_WINDOW_MS)
		retry_after_ms = MAXIMUM(retry_after_ms, MINIMUM(WINDOW_OVER_MS, retry->cap_ms));
	return retry_after_ms + refused_spread_ms(retry, REFUSED_SPREAD_MS, round_ms, random);
}

/* Full jitter while the waits grow, for whoever failed at the same moment to come apart. At the cap
 * they are apart, and all ask at an even rate: one that the vault can bear from all of them when it
 * comes back, with some room for chance. */
static uint64_t after_failure_ms(struct retry *retry, uint64_t round_ms, uint32_t random)
{
	uint64_t cap_ms = MAXIMUM(retry->cap_ms, round_ms * 13 / 10);
	uint64_t ceiling_ms = grown(BASE_MS, retry->failures, cap_ms);
	uint64_t least_ms = ceiling_ms == cap_ms ? cap_ms / 10 * 9 : 0;

	retry->failures = MINIMUM(retry->failures + 1, 32);
	return least_ms + scale(ceiling_ms - least_ms, random);
}

static uint64_t patience_ms(const struct retry *retry, uint64_t retry_after_ms)
{
	return MINIMUM(retry_after_ms, MAXIMUM(retry->cap_ms, RETRY_AFTER_MAX_LEAST_MS));
}

uint64_t retry_next_ms(struct retry *retry, uint64_t round_ms, enum status cause,
		       uint64_t retry_after_ms, uint32_t random)
{
	const uint64_t asked_ms = patience_ms(retry, retry_after_ms);
	uint64_t wait_ms;

	if (cause == FAIL_VAULT_THROTTLED)
		return after_refusal_ms(retry, round_ms, asked_ms, random);
	wait_ms = after_failure_ms(retry, round_ms, random);
	return MAXIMUM(wait_ms, asked_ms);
}

uint64_t retry_interval_ms(uint64_t interval_ms, uint64_t round_ms)
{
	const uint64_t move_ms = round_ms * MOVE_PERCENT / 100;

	/* What fits the first window needs no time. */
	return move_ms <= interval_ms + RETRY_WINDOW_MS ? interval_ms : move_ms - RETRY_WINDOW_MS;
}

uint64_t retry_first_of_many_ms(uint64_t interval_ms, uint32_t random)
{
	return interval_ms / 2 + scale(interval_ms, random);
}

uint64_t retry_next_of_many_ms(struct retry *retry, uint64_t interval_ms, uint64_t round_ms,
			       enum status cause, uint64_t retry_after_ms, uint32_t random)
{
	if (cause == FAIL_VAULT_THROTTLED)
		return MAXIMUM(patience_ms(retry, retry_after_ms), BASE_MS) +
		       refused_spread_ms(retry, REFUSED_IN_TURN_MS, round_ms, random);
	retry_reset(retry);
	return interval_ms - interval_ms / 40 + scale(interval_ms / 20, random);
}

void retry_reset(struct retry *retry)
{
	retry->failures = 0;
	retry->refusals = 0;
}
