/* Time that only moves forward, deadlines in it, and back-off with jitter. Wall-clock time is read
 * only where a certificate or a key's nbf/exp is judged. */
#ifndef PLATFORM_CLOCK_H
#define PLATFORM_CLOCK_H

#include "platform/base.h"

/* CLOCK_BOOTTIME in milliseconds: goes on counting while a VM is suspended. */
uint64_t clock_now_ms(void);

/* Seconds since 1970, as the system believes; may be wrong by years at boot. */
int64_t clock_wall_s(void);

/* What is left until `deadline_ms`, 0 when it has passed. */
uint64_t clock_left_ms(uint64_t deadline_ms);

void clock_sleep_ms(uint64_t duration_ms); /* goes on after a signal */

/* Capped exponential back-off with full jitter: each wait is uniform in [0, base * 2^attempt], at
 * most cap, but never under a server's Retry-After. */
struct backoff {
	uint64_t base_ms;
	uint64_t cap_ms;
	unsigned attempt; /* waits taken so far */
};

/* Pure: `random` is 32 uniform bits of the caller's. Advances the attempt. */
uint64_t backoff_next_ms(struct backoff *backoff, uint32_t random, uint64_t retry_after_ms);
void backoff_reset(struct backoff *backoff);

#endif
