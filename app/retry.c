#include "app/retry.h"

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
 * beyond the cap: the vault may count refused requests, too, and then eager ones keep it shut. */
#define REFUSED_SPREAD_MS 3000
#define REFUSED_CAP_FACTOR 16

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

/* The vault's window is full: it is of no use to ask before it has moved on. */
static uint64_t after_refusal_ms(struct retry *retry, uint64_t round_ms, uint64_t retry_after_ms,
				 uint32_t random)
{
	uint64_t cap_ms = MAXIMUM(retry->cap_ms * REFUSED_CAP_FACTOR, round_ms);
	uint64_t spread_ms = grown(REFUSED_SPREAD_MS, retry->refusals, cap_ms);

	if (retry_after_ms == 0)
		retry_after_ms = MINIMUM(WINDOW_OVER_MS, retry->cap_ms);
	retry->refusals = MINIMUM(retry->refusals + 1, 32);
	return retry_after_ms + scale(spread_ms, random);
}

/* Full jitter while the waits grow, for whoever failed at the same moment to come apart. At the cap
 * they are apart, and all ask at an even rate, one that the vault can bear from all of them when it
 * comes back. */
static uint64_t after_failure_ms(struct retry *retry, uint64_t round_ms, uint32_t random)
{
	uint64_t cap_ms = MAXIMUM(retry->cap_ms, round_ms + round_ms / 4);
	uint64_t ceiling_ms = grown(BASE_MS, retry->failures, cap_ms);
	uint64_t least_ms = ceiling_ms == cap_ms ? cap_ms / 5 * 4 : 0;

	retry->failures = MINIMUM(retry->failures + 1, 32);
	return least_ms + scale(ceiling_ms - least_ms, random);
}

uint64_t retry_next_ms(struct retry *retry, uint64_t round_ms, enum status cause,
		       uint64_t retry_after_ms, uint32_t random)
{
	uint64_t asked_ms =
		MINIMUM(retry_after_ms, MAXIMUM(retry->cap_ms, RETRY_AFTER_MAX_LEAST_MS));
	uint64_t wait_ms;

	if (cause == FAIL_VAULT_THROTTLED)
		return after_refusal_ms(retry, round_ms, asked_ms, random);
	wait_ms = after_failure_ms(retry, round_ms, random);
	return MAXIMUM(wait_ms, asked_ms);
}

void retry_reset(struct retry *retry)
{
	retry->failures = 0;
	retry->refusals = 0;
}
