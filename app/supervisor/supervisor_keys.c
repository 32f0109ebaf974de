#include "app/supervisor/supervisor_state.h"

#include <stdio.h>
#include <string.h>

#include "app/vault/agent_session.h"
#include "app/vault/keyvault.h"
#include "platform/entropy.h"
#include "platform/log.h"

#define NEVER UINT64_MAX
#define LOCK_RETRY_MS 60000

/* --- the newest version --- */

void supervisor_begin_following(struct supervisor *supervisor)
{
	const char *key = supervisor->config->key;
	struct key_url url;
	enum status status = key[0] == '\0' ? OK : key_url_parse(&url, key);

	if (key[0] == '\0')
		return;
	if (status != OK)
		log_warning("key = %s: %s; %s; no key is followed", key, status_sentence(status),
			    status_advice(status));
	else if (!key_url_has_version(&url))
		key_url_format(supervisor->follow.url, &url);
}

/* Of the volumes that are served, which alone can be moved to another version, the longest; false
 * if there is none. */
static bool find_round(uint64_t *round_ms, const struct supervisor *supervisor)
{
	bool is_any_served = false;

	*round_ms = 0;
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		if (supervisor->volumes[i]->state != VOLUME_SERVING)
			continue;
		*round_ms =
			MAXIMUM(*round_ms, supervisor_round_ms(supervisor, supervisor->volumes[i]));
		is_any_served = true;
	}
	return is_any_served;
}

static uint64_t interval_ms(const struct supervisor *supervisor, uint64_t round_ms)
{
	return retry_interval_ms((uint64_t)supervisor->config->follow_interval_s * 1000, round_ms);
}

static void plan_question(struct supervisor *supervisor, enum status cause, uint64_t retry_after_ms)
{
	struct supervisor_follow *follow = &supervisor->follow;
	uint64_t round_ms;

	(void)find_round(&round_ms, supervisor);
	follow->request_id = 0;
	follow->due_ms = clock_now_ms() +
			 retry_next_of_many_ms(&follow->retry, interval_ms(supervisor, round_ms),
					       round_ms, cause, retry_after_ms, entropy_u32());
}

static void ask_for_newest(struct supervisor *supervisor)
{
	struct supervisor_follow *follow = &supervisor->follow;
	struct message_agent_request request;
	enum status status = agent_request_init(&request, AGENT_GET_KEY, follow->url,
						supervisor->config->identity);

	if (status == OK)
		status = supervisor_ask_agent(supervisor, &request, &follow->answer_due_ms);
	if (status == OK)
		follow->request_id = supervisor->last_request_id;
	else
		plan_question(supervisor, status, 0);
}

/* Once per cause: a newest version that will not do stays what it is until people act. */
static void note_newest(struct supervisor *supervisor, enum status cause, const char *detail)
{
	struct supervisor_follow *follow = &supervisor->follow;

	if (cause != follow->cause && cause == OK)
		log_info("%s is followed again", follow->url);
	else if (cause != follow->cause)
		log_warning("%s is not followed: its newest version: %s%s%s%s; %s", follow->url,
			    status_sentence(cause), detail[0] != '\0' ? " (" : "", detail,
			    detail[0] != '\0' ? ")" : "", status_advice(cause));
	follow->cause = cause;
	snprintf(follow->detail, sizeof(follow->detail), "%s", detail);
}

/* What may not wrap is nothing to move to. */
static void hear_newest(struct supervisor *supervisor, const struct message_agent_answer *answer)
{
	struct supervisor_follow *follow = &supervisor->follow;
	enum status cause = (enum status)answer->status;

	plan_question(supervisor, cause, answer->retry_after_ms);
	if (cause == OK)
		cause = keyvault_may_wrap(answer->enabled != 0, answer->not_before_s,
					  answer->expires_s, clock_wall_s());
	note_newest(supervisor, cause, answer->detail);
	if (cause != OK)
		follow->newest.kid[0] = '\0';
	else if (strcmp(follow->newest.kid, answer->kid) != 0) {
		log_info("the newest version is %s", answer->kid);
		strcpy(follow->newest.kid, answer->kid);
		follow->newest.key_bits = answer->key_bits;
	}
}

/* --- each volume's key --- */

static bool must_rotate(const struct supervisor *supervisor, const struct managed_volume *managed)
{
	return managed->is_loaded &&
	       key_policy_must_rotate(managed->token.current.kid, supervisor->follow.newest.kid);
}

/* Only of one that is served: any other shows its key by being unlocked, or is left in peace. */
static uint64_t look_due_ms(const struct supervisor *supervisor,
			    const struct managed_volume *managed)
{
	const struct managed_key *key = &managed->key;

	if (managed->state != VOLUME_SERVING || key->job != KEY_JOB_NONE)
		return NEVER;
	return must_rotate(supervisor, managed) ? MINIMUM(key->due_ms, key->rotation_due_ms)
						: key->due_ms;
}

static enum status send(struct supervisor *supervisor, struct managed_volume *managed,
			struct message_agent_request *request)
{
	enum status status = supervisor_ask_agent(supervisor, request, &managed->key.answer_due_ms);

	if (status == OK)
		managed->key.request_id = supervisor->last_request_id;
	return status;
}

static void give_up(struct supervisor *supervisor, struct managed_volume *managed,
		    enum status status)
{
	managed_volume_key_end(managed);
	managed_volume_key_seen(managed, status, "", supervisor->config);
	managed->key.rotation_due_ms = managed->key.due_ms;
}

static void look(struct supervisor *supervisor, struct managed_volume *managed)
{
	struct message_agent_request request;
	enum status status = managed_volume_key_look(managed, &request, supervisor->config);

	managed_volume_header_seen(managed, status);
	managed->round_ms = supervisor_round_ms(supervisor, managed);
	if (status == OK)
		status = send(supervisor, managed, &request);
	if (status == OK)
		return;
	log_debug("no look at the key of %s: %s", managed->name, status_sentence(status));
	give_up(supervisor, managed, status);
}

static void hear_volume(struct supervisor *supervisor, struct managed_volume *managed,
			const struct message_agent_answer *answer)
{
	struct message_agent_request request;

	if (managed->state != VOLUME_SERVING)
		managed_volume_key_end(managed);
	else if (managed_volume_key_hear(managed, &request, answer, &supervisor->follow.newest,
					 supervisor->config) &&
		 send(supervisor, managed, &request) != OK)
		give_up(supervisor, managed, FAIL_ROLE_DIED);
	secret_wipe_bytes(&request, sizeof(request));
}

/* --- its loss --- */

static void lock_if_lost(const struct supervisor *supervisor, struct managed_volume *managed)
{
	struct managed_key *key = &managed->key;
	const uint64_t now_ms = clock_now_ms();

	if (managed->state != VOLUME_SERVING)
		return;
	/* Refused, if it was. */
	key->is_locking = false;
	if (managed->is_given_up)
		managed->cause = OK;
	managed->is_given_up = false;
	if (key->lock_due_ms > now_ms || !key_policy_must_lock(key->state, now_ms - key->since_ms,
							       supervisor->config->lock_after_s))
		return;
	log_error("%s is being locked: its key has been lost for %llu s", managed->name,
		  (unsigned long long)(now_ms - key->since_ms) / 1000);
	key->is_locking = true;
	key->lock_due_ms = now_ms + LOCK_RETRY_MS;
	managed_volume_lock(managed, true, supervisor->config);
}

/* It is unlocked again as soon as the vault lets it, or its disk is there. */
static void await(struct managed_volume *managed)
{
	struct managed_key *key = &managed->key;

	if ((!key->is_locking && !managed->is_given_up) || managed->state != VOLUME_LOCKED)
		return;
	managed_volume_handle(managed, VOLUME_KEY_AWAITED);
	if (key->is_locking)
		managed_volume_fail(managed, key->cause, key->detail, 0);
	else
		managed_volume_fail(managed, FAIL_DISK_ABSENT, "", 0);
	key->is_locking = false;
	managed->is_given_up = false;
}

static uint64_t lock_due_ms(const struct supervisor *supervisor,
			    const struct managed_volume *managed)
{
	const struct managed_key *key = &managed->key;

	if (managed->state != VOLUME_SERVING || key->state != KEY_LOST ||
	    supervisor->config->lock_after_s == 0)
		return NEVER;
	return MAXIMUM(key->lock_due_ms,
		       key->since_ms + (uint64_t)supervisor->config->lock_after_s * 1000);
}

/* --- the loop's --- */

static void follow_key(struct supervisor *supervisor)
{
	struct supervisor_follow *follow = &supervisor->follow;
	uint64_t round_ms;

	if (follow->url[0] == '\0' || follow->request_id != 0)
		return;
	if (!find_round(&round_ms, supervisor))
		follow->due_ms = 0;
	else if (follow->due_ms == 0)
		follow->due_ms =
			clock_now_ms() +
			retry_first_of_many_ms(interval_ms(supervisor, round_ms), entropy_u32());
	else if (clock_left_ms(follow->due_ms) == 0)
		ask_for_newest(supervisor);
}

void supervisor_watch_keys(struct supervisor *supervisor)
{
	const uint64_t now_ms = clock_now_ms();

	follow_key(supervisor);
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		await(managed);
		lock_if_lost(supervisor, managed);
		if (look_due_ms(supervisor, managed) <= now_ms)
			look(supervisor, managed);
	}
}

uint64_t supervisor_keys_wake_ms(const struct supervisor *supervisor)
{
	const struct supervisor_follow *follow = &supervisor->follow;
	uint64_t wake_ms = NEVER;

	if (follow->request_id != 0)
		wake_ms = follow->answer_due_ms;
	else if (follow->due_ms != 0)
		wake_ms = follow->due_ms;
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_volume *managed = supervisor->volumes[i];

		wake_ms = MINIMUM(wake_ms, managed->key.job != KEY_JOB_NONE
						   ? managed->key.answer_due_ms
						   : look_due_ms(supervisor, managed));
		wake_ms = MINIMUM(wake_ms, lock_due_ms(supervisor, managed));
	}
	return wake_ms;
}

void supervisor_look_at_keys_now(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		supervisor->volumes[i]->key.due_ms = 0;
}

uint32_t supervisor_keys_operation(const struct supervisor *supervisor, uint32_t request_id)
{
	if (supervisor->follow.request_id == request_id)
		return AGENT_GET_KEY;
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_key *key = &supervisor->volumes[i]->key;

		if (key->job != KEY_JOB_NONE && key->request_id == request_id)
			return key->job == KEY_JOB_WRAPS ? AGENT_WRAP : AGENT_UNWRAP;
	}
	return 0;
}

void supervisor_hear_keys(struct supervisor *supervisor, const struct message_agent_answer *answer)
{
	const uint32_t id = answer->header.id;

	if (supervisor->follow.request_id == id)
		hear_newest(supervisor, answer);
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		if (managed->key.job != KEY_JOB_NONE && managed->key.request_id == id)
			hear_volume(supervisor, managed, answer);
	}
}

void supervisor_keys_lose_agent(struct supervisor *supervisor)
{
	if (supervisor->follow.request_id != 0)
		plan_question(supervisor, FAIL_ROLE_DIED, 0);
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->key.job != KEY_JOB_NONE)
			give_up(supervisor, supervisor->volumes[i], FAIL_ROLE_DIED);
}

bool supervisor_keys_are_overdue(const struct supervisor *supervisor)
{
	const uint64_t now_ms = clock_now_ms();

	if (supervisor->follow.request_id != 0 && supervisor->follow.answer_due_ms <= now_ms)
		return true;
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->key.job != KEY_JOB_NONE &&
		    supervisor->volumes[i]->key.answer_due_ms <= now_ms)
			return true;
	return false;
}
