/* How well a volume's key can be reached, and what follows from it (design §6): when to look again,
 * when to warn, when to lock. Pure: no clock, no I/O; time and chance are the caller's.
 *
 * What is looked at is an unwrap of the volume's own secret by the version that wraps it: nothing
 * else tells whether the volume will open the next time. */
#ifndef APP_SUPERVISOR_KEY_POLICY_H
#define APP_SUPERVISOR_KEY_POLICY_H

#include "platform/status.h"

/* One failed look may be chance, so each state that is fine has a doubted twin; the second failure
 * in a row is believed, and one success mends all. */
enum key_state {
	KEY_BROKEN,          /* what the table does not allow */
	KEY_UNKNOWN,         /* not looked at yet */
	KEY_UNKNOWN_DOUBTED, /* looked at once, in vain */
	KEY_OK,              /* it unwraps, and what it gives opens the volume */
	KEY_OK_DOUBTED,
	KEY_DEGRADED, /* the vault or the way to it is not well; nothing is said of the key */
	KEY_LOST,     /* somebody says no: revoked, disabled, deleted, a firewall... */
	KEY_WRONG,    /* it unwraps to something else */
	KEY_STATES
};

enum key_event {
	KEY_GAVE,       /* the right secret */
	KEY_UNREACHED,  /* network, DNS, throttling, an error of the other side */
	KEY_REFUSED,    /* by vault or identity */
	KEY_MISMATCHED, /* an answer, but not the right one */
	KEY_EVENTS
};

/* CHECKs that the table has an entry. */
enum key_state key_policy_next(enum key_state state, enum key_event event);

/* What the outcome of a look means; false if it says nothing about the key (a disk that cannot be
 * read, no memory). */
MUST_CHECK bool key_policy_classify(enum key_event *event, enum status outcome);

/* Whether people are to be told: degraded, lost, wrong. */
MUST_CHECK bool key_policy_is_raised(enum key_state state);

/* "ok", "degraded", "lost", "wrong-key", "unknown"; a doubt is not shown. */
const char *key_policy_word(enum key_state state);

/* From one look to the next: about `interval_ms`, or `retry_ms` while anything is less than fine;
 * a fifth more or less, so that a fleet does not ask in step. `random` is 32 uniform bits. */
uint64_t key_policy_wait_ms(enum key_state state, uint64_t interval_ms, uint64_t retry_ms,
			    uint32_t random);

/* Whether a volume under `current` is to be moved to `newest`, which a versionless URL was answered
 * with: another version of the same key. What names another key is for people to decide. */
MUST_CHECK bool key_policy_must_rotate(const char *current, const char *newest);

/* Whether a volume whose key has been in `state` for that long is to be locked; a `lock_after_s` of
 * 0 is never. Only a loss locks: an outage of the vault or of the network is nobody's decision. */
MUST_CHECK bool key_policy_must_lock(enum key_state state, uint64_t in_state_ms,
				     uint32_t lock_after_s);

#endif
