#include "app/volume/volume_state.h"

static const uint8_t next_state[VOLUME_STATES][VOLUME_EVENTS] = {
	[VOLUME_FOUND] =
		{
			[VOLUME_KEY_ASKED] = VOLUME_ASKING,
			[VOLUME_UNLOCKED] = VOLUME_STARTING,
			[VOLUME_FAILED] = VOLUME_WAITING,
			[VOLUME_LOCK_ASKED] = VOLUME_LOCKED,
			[VOLUME_REMOVAL_BEGUN] = VOLUME_STOPPING,
			[VOLUME_WORKER_FOUND] = VOLUME_ADOPTING,
		},
	[VOLUME_ASKING] =
		{
			[VOLUME_KEY_ASKED] = VOLUME_ASKING, /* by the previous wrapping */
			[VOLUME_UNLOCKED] = VOLUME_STARTING,
			[VOLUME_FAILED] = VOLUME_WAITING,
			[VOLUME_LOCK_ASKED] = VOLUME_LOCKED,
			[VOLUME_REMOVAL_BEGUN] = VOLUME_STOPPING,
		},
	[VOLUME_WAITING] =
		{
			[VOLUME_KEY_ASKED] = VOLUME_ASKING,
			[VOLUME_UNLOCKED] = VOLUME_STARTING,
			[VOLUME_FAILED] = VOLUME_WAITING,
			[VOLUME_LOCK_ASKED] = VOLUME_LOCKED,
			[VOLUME_REMOVAL_BEGUN] = VOLUME_STOPPING,
		},
	[VOLUME_STARTING] =
		{
			[VOLUME_FAILED] = VOLUME_WAITING,
			[VOLUME_WORKER_SERVES] = VOLUME_SERVING,
			[VOLUME_WORKER_ENDED] = VOLUME_WAITING,
			[VOLUME_LOCK_ASKED] = VOLUME_STOPPING,
		},
	[VOLUME_SERVING] =
		{
			[VOLUME_WORKER_ENDED] = VOLUME_WAITING,
			[VOLUME_LOCK_ASKED] = VOLUME_STOPPING,
			[VOLUME_EXCHANGE_ASKED] = VOLUME_YIELDING,
		},
	[VOLUME_STOPPING] =
		{
			/* It may have been asked to stop while it was still starting. */
			[VOLUME_WORKER_SERVES] = VOLUME_STOPPING,
			[VOLUME_FAILED] = VOLUME_STOPPING,
			[VOLUME_WORKER_ENDED] = VOLUME_LOCKED,
			[VOLUME_LOCK_ASKED] = VOLUME_STOPPING,
			[VOLUME_LOCK_REFUSED] = VOLUME_SERVING,
		},
	[VOLUME_LOCKED] =
		{
			[VOLUME_KEY_AWAITED] = VOLUME_WAITING,
			[VOLUME_UNLOCKED] = VOLUME_STARTING,
			[VOLUME_LOCK_ASKED] = VOLUME_LOCKED,
			[VOLUME_REMOVAL_BEGUN] = VOLUME_STOPPING,
		},
	[VOLUME_ADOPTING] =
		{
			[VOLUME_WORKER_SERVES] = VOLUME_SERVING,
			[VOLUME_WORKER_ENDED] = VOLUME_WAITING,
		},
	[VOLUME_YIELDING] =
		{
			[VOLUME_WORKER_ENDED] = VOLUME_WAITING,
		},
};

enum volume_state volume_state_next(enum volume_state state, enum volume_event event)
{
	CHECK(volume_state_allows(state, event));
	return (enum volume_state)next_state[state][event];
}

bool volume_state_allows(enum volume_state state, enum volume_event event)
{
	CHECK((unsigned)state < VOLUME_STATES && (unsigned)event < VOLUME_EVENTS);
	return next_state[state][event] != VOLUME_BROKEN;
}

const char *volume_state_word(enum volume_state state)
{
	static const char *const words[VOLUME_STATES] = {
		[VOLUME_BROKEN] = "broken",     [VOLUME_FOUND] = "found",
		[VOLUME_ASKING] = "asking",     [VOLUME_WAITING] = "waiting",
		[VOLUME_STARTING] = "starting", [VOLUME_SERVING] = "serving",
		[VOLUME_STOPPING] = "stopping", [VOLUME_LOCKED] = "locked",
		[VOLUME_ADOPTING] = "adopting", [VOLUME_YIELDING] = "yielding",
	};

	CHECK((unsigned)state < VOLUME_STATES);
	return words[state];
}
