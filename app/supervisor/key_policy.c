#include "app/supervisor/key_policy.h"

#include "app/vault/key_url.h"

/* A loss stays one while the network is gone too, so that whoever takes both away gains no time. */
static const uint8_t next_state[KEY_STATES][KEY_EVENTS] = {
	[KEY_UNKNOWN] = {[KEY_GAVE] = KEY_OK,
			 [KEY_UNREACHED] = KEY_UNKNOWN_DOUBTED,
			 [KEY_REFUSED] = KEY_UNKNOWN_DOUBTED,
			 [KEY_MISMATCHED] = KEY_UNKNOWN_DOUBTED},
	[KEY_UNKNOWN_DOUBTED] = {[KEY_GAVE] = KEY_OK,
				 [KEY_UNREACHED] = KEY_DEGRADED,
				 [KEY_REFUSED] = KEY_LOST,
				 [KEY_MISMATCHED] = KEY_WRONG},
	[KEY_OK] = {[KEY_GAVE] = KEY_OK,
		    [KEY_UNREACHED] = KEY_OK_DOUBTED,
		    [KEY_REFUSED] = KEY_OK_DOUBTED,
		    [KEY_MISMATCHED] = KEY_OK_DOUBTED},
	[KEY_OK_DOUBTED] = {[KEY_GAVE] = KEY_OK,
			    [KEY_UNREACHED] = KEY_DEGRADED,
			    [KEY_REFUSED] = KEY_LOST,
			    [KEY_MISMATCHED] = KEY_WRONG},
	[KEY_DEGRADED] = {[KEY_GAVE] = KEY_OK,
			  [KEY_UNREACHED] = KEY_DEGRADED,
			  [KEY_REFUSED] = KEY_LOST,
			  [KEY_MISMATCHED] = KEY_WRONG},
	[KEY_LOST] = {[KEY_GAVE] = KEY_OK,
		      [KEY_UNREACHED] = KEY_LOST,
		      [KEY_REFUSED] = KEY_LOST,
		      [KEY_MISMATCHED] = KEY_WRONG},
	[KEY_WRONG] = {[KEY_GAVE] = KEY_OK,
		       [KEY_UNREACHED] = KEY_WRONG,
		       [KEY_REFUSED] = KEY_LOST,
		       [KEY_MISMATCHED] = KEY_WRONG},
};

/* The event and 1, so that what is not named here is 0: nothing about the key. */
static const uint8_t meanings[STATUS_COUNT] = {
	[OK] = KEY_GAVE + 1,

	[FAIL_CONFIG] = KEY_UNREACHED + 1, /* what the vault agent refuses */
	[FAIL_FILE] = KEY_UNREACHED + 1,
	[FAIL_ROLE_DIED] = KEY_UNREACHED + 1,
	[FAIL_IMDS_UNREACHABLE] = KEY_UNREACHED + 1,
	[FAIL_IMDS_TIMEOUT] = KEY_UNREACHED + 1,
	[FAIL_IMDS_UPDATING] = KEY_UNREACHED + 1,
	[FAIL_IMDS_THROTTLED] = KEY_UNREACHED + 1,
	[FAIL_IMDS_ERROR] = KEY_UNREACHED + 1,
	[FAIL_IMDS_ANSWER] = KEY_UNREACHED + 1,
	[FAIL_VAULT_THROTTLED] = KEY_UNREACHED + 1,
	[FAIL_VAULT_UNAVAILABLE] = KEY_UNREACHED + 1,
	[FAIL_VAULT_CONFLICT] = KEY_UNREACHED + 1,
	[FAIL_VAULT_REDIRECT] = KEY_UNREACHED + 1,
	[FAIL_VAULT_NAME] = KEY_UNREACHED + 1,
	[FAIL_VAULT_UNREACHABLE] = KEY_UNREACHED + 1,
	[FAIL_VAULT_TIMEOUT] = KEY_UNREACHED + 1,
	[FAIL_TLS_NAME] = KEY_UNREACHED + 1,
	[FAIL_TLS_AUTHORITY] = KEY_UNREACHED + 1,
	[FAIL_TLS_DATE] = KEY_UNREACHED + 1,
	[FAIL_TLS] = KEY_UNREACHED + 1,
	[FAIL_ANSWER_TOO_LARGE] = KEY_UNREACHED + 1,
	[FAIL_ANSWER_CUT] = KEY_UNREACHED + 1,
	[FAIL_ANSWER_SYNTAX] = KEY_UNREACHED + 1,
	[FAIL_ANSWER_SHAPE] = KEY_UNREACHED + 1,
	[FAIL_PROXY_UNREACHABLE] = KEY_UNREACHED + 1,
	[FAIL_PROXY_TIMEOUT] = KEY_UNREACHED + 1,
	[FAIL_PROXY_PASSWORD] = KEY_UNREACHED + 1,
	[FAIL_PROXY_REFUSED] = KEY_UNREACHED + 1,
	[FAIL_PROXY_ERROR] = KEY_UNREACHED + 1,
	[FAIL_PROXY_ANSWER] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_TOKEN_FILE] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_UNREACHABLE] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_TIMEOUT] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_TLS] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_THROTTLED] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_ERROR] = KEY_UNREACHED + 1,
	[FAIL_LOGIN_ANSWER] = KEY_UNREACHED + 1,

	[FAIL_KEY_DISABLED] = KEY_REFUSED + 1,
	[FAIL_KEY_GONE] = KEY_REFUSED + 1,
	[FAIL_KEY_EXPIRED] = KEY_REFUSED + 1,
	[FAIL_KEY_NOT_YET_VALID] = KEY_REFUSED + 1,
	[FAIL_KEY_OPERATIONS] = KEY_REFUSED + 1,
	[FAIL_IDENTITY_NONE] = KEY_REFUSED + 1,
	[FAIL_IDENTITY_AMBIGUOUS] = KEY_REFUSED + 1,
	[FAIL_IMDS_REFUSED] = KEY_REFUSED + 1,
	[FAIL_LOGIN_ASSERTION] = KEY_REFUSED + 1,
	[FAIL_LOGIN_CLIENT] = KEY_REFUSED + 1,
	[FAIL_LOGIN_REFUSED] = KEY_REFUSED + 1,
	[FAIL_VAULT_UNAUTHORIZED] = KEY_REFUSED + 1,
	[FAIL_VAULT_RBAC] = KEY_REFUSED + 1,
	[FAIL_VAULT_POLICY] = KEY_REFUSED + 1,
	[FAIL_VAULT_FIREWALL] = KEY_REFUSED + 1,
	[FAIL_VAULT_PRIVATE_LINK] = KEY_REFUSED + 1,
	[FAIL_VAULT_FORBIDDEN] = KEY_REFUSED + 1,
	[FAIL_VAULT_NOT_FOUND] = KEY_REFUSED + 1,

	[FAIL_WRAPPED_MISMATCH] = KEY_MISMATCHED + 1,
	[FAIL_KEY_MISMATCH] = KEY_MISMATCHED + 1,
	[FAIL_KEY_ID] = KEY_MISMATCHED + 1,
	[FAIL_VAULT_REQUEST] = KEY_MISMATCHED + 1,
};

enum key_state key_policy_next(enum key_state state, enum key_event event)
{
	CHECK((unsigned)state < KEY_STATES && (unsigned)event < KEY_EVENTS);
	CHECK(next_state[state][event] != KEY_BROKEN);
	return (enum key_state)next_state[state][event];
}

bool key_policy_classify(enum key_event *event, enum status outcome)
{
	CHECK((unsigned)outcome < STATUS_COUNT);
	if (meanings[outcome] == 0)
		return false;
	*event = (enum key_event)(meanings[outcome] - 1);
	return true;
}

bool key_policy_is_raised(enum key_state state)
{
	return state >= KEY_DEGRADED;
}

const char *key_policy_word(enum key_state state)
{
	static const char *const words[KEY_STATES] = {
		[KEY_BROKEN] = "broken",
		[KEY_UNKNOWN] = "unknown",
		[KEY_UNKNOWN_DOUBTED] = "unknown",
		[KEY_OK] = "ok",
		[KEY_OK_DOUBTED] = "ok",
		[KEY_DEGRADED] = "degraded",
		[KEY_LOST] = "lost",
		[KEY_WRONG] = "wrong-key",
	};

	CHECK((unsigned)state < KEY_STATES);
	return words[state];
}

uint64_t key_policy_wait_ms(enum key_state state, uint64_t interval_ms, uint64_t retry_ms,
			    uint32_t random)
{
	uint64_t wait_ms = state == KEY_OK ? interval_ms : retry_ms;
	uint64_t spread_ms = wait_ms * 2 / 5;

	return wait_ms - spread_ms / 2 + (spread_ms * random >> 32);
}

bool key_policy_must_rotate(const char *current, const char *newest)
{
	struct key_url from, to;

	return key_url_parse(&from, current) == OK && key_url_parse(&to, newest) == OK &&
	       key_url_has_version(&to) && key_url_same_key(&from, &to) &&
	       !key_url_equal(&from, &to);
}

bool key_policy_must_lock(enum key_state state, uint64_t in_state_ms, uint32_t lock_after_s)
{
	return state == KEY_LOST && lock_after_s != 0 &&
	       in_state_ms >= (uint64_t)lock_after_s * 1000;
}
