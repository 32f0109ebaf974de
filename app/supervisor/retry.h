/* When one of perhaps thousands of brokers asks the vault, whose limit of operations they share and
 * which they may all want at the same moment: they boot together, or the vault comes back for all.
 * Pure: clock and random bits are the caller's. `make fleet` shows what these rules do.
 */
#ifndef APP_SUPERVISOR_RETRY_H
#define APP_SUPERVISOR_RETRY_H

#include "platform/status.h"

/* Azure counts a vault's operations over this time. */
#define RETRY_WINDOW_MS 10000

/* How long a vault needs at least for so many operations, by Azure's limit for keys of that size in
 * software. 0 for a size without a limit. */
uint64_t retry_round_ms(uint64_t operations, uint32_t key_bits);

/* How long to wait before the first question, when the whole fleet may be about to ask and the
 * vault needs `round_ms` for all of it. 0 if that is within the limit. `random` is 32 uniform bits,
 * one machine's place among the others. */
uint64_t retry_first_ms(uint64_t round_ms, uint32_t random);

struct retry {
	uint64_t cap_ms; /* the longest wait, unless fleet or vault need a longer one */
	unsigned failures;
	unsigned refusals; /* for there being too many requests */
};

/* How long to wait after a failure, and counts it. `round_ms` is 0 if the vault was not asked. What
 * the vault asks for itself, 0 for nothing, is waited for at least, up to a minute or the cap. */
uint64_t retry_next_ms(struct retry *retry, uint64_t round_ms, enum status cause,
		       uint64_t retry_after_ms, uint32_t random);

/* What is asked again and again: `interval_ms`, or as much longer as a fleet needs so that all of
 * it can move to another version of the key between two questions. */
uint64_t retry_interval_ms(uint64_t interval_ms, uint64_t round_ms);

/* From when a machine starts until the first such question: half an interval to one and a half, so
 * that it is in nobody's way at the start, and no two machines ask in step. */
uint64_t retry_first_of_many_ms(uint64_t interval_ms, uint32_t random);

/* From one to the next, after an answer that came to `cause`: about the interval; soon, as
 * retry_next_ms says, if the vault had too many requests. */
uint64_t retry_next_of_many_ms(struct retry *retry, uint64_t interval_ms, uint64_t round_ms,
			       enum status cause, uint64_t retry_after_ms, uint32_t random);

/* After a success. */
void retry_reset(struct retry *retry);

#endif
