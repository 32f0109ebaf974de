#include "platform/clock.h"

#include <errno.h>
#include <time.h>

uint64_t clock_now_ms(void)
{
	struct timespec now;

	CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int64_t clock_wall_s(void)
{
	return (int64_t)time(NULL);
}

uint64_t clock_left_ms(uint64_t deadline_ms)
{
	uint64_t now_ms = clock_now_ms();

	return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

void clock_sleep_ms(uint64_t duration_ms)
{
	struct timespec left = {
		.tv_sec = (time_t)(duration_ms / 1000),
		.tv_nsec = (long)(duration_ms % 1000) * 1000000,
	};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

uint64_t backoff_next_ms(struct backoff *backoff, uint32_t random, uint64_t retry_after_ms)
{
	uint64_t ceiling_ms = backoff->cap_ms;
	uint64_t wait_ms;

	/* 2^attempt is only computed where it cannot overflow. */
	if (backoff->attempt < 32 && backoff->base_ms <= (backoff->cap_ms >> backoff->attempt))
		ceiling_ms = backoff->base_ms << backoff->attempt;
	if (backoff->attempt < 63)
		backoff->attempt++;
	wait_ms = (uint64_t)(((unsigned __int128)(ceiling_ms + 1) * random) >> 32);
	return MAXIMUM(wait_ms, retry_after_ms);
}

void backoff_reset(struct backoff *backoff)
{
	backoff->attempt = 0;
}
