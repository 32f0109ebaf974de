#include "app/supervisor/managed_volume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/vault/agent_session.h"
#include "app/vault/keyvault.h"
#include "app/volume/header_backup.h"
#include "app/volume/vault_slot.h"
#include "platform/entropy.h"
#include "platform/file.h"
#include "platform/log.h"

#define LOSS_PATH_SIZE (CONFIG_TEXT_SIZE + VOLUME_NAME_SIZE + 8)

/* --- what is known of the key --- */

static uint64_t wait_ms(const struct managed_volume *managed, const struct config *config)
{
	const uint64_t round_ms = managed->round_ms;
	const uint64_t retry_ms =
		retry_interval_ms((uint64_t)config->probe_retry_s * 1000, round_ms);
	/* An old wrapping that is still there goes with the next good look, so that is not far. */
	const uint64_t interval_ms =
		managed->token.previous.kid[0] != '\0' || managed->header_cause != OK
			? retry_ms
			: retry_interval_ms((uint64_t)config->probe_interval_s * 1000,
					    2 * round_ms);

	return key_policy_wait_ms(managed->key.state, interval_ms, retry_ms, entropy_u32());
}

static enum log_priority priority_of(enum key_state state)
{
	return state == KEY_DEGRADED ? LOG_PRIORITY_WARNING : LOG_PRIORITY_ERROR;
}

static void log_change(const struct managed_volume *managed, enum key_state before)
{
	const struct managed_key *key = &managed->key;
	const char *name = managed_volume_name(managed);

	/* Of one that is not served, managed_volume_fail tells the cause. */
	if (managed->state != VOLUME_SERVING && key->cause != OK)
		return;
	if (key_policy_is_raised(key->state))
		log_line(priority_of(key->state), "the key of %s is %s: %s%s%s%s; %s", name,
			 key_policy_word(key->state), status_sentence(key->cause),
			 key->detail[0] != '\0' ? " (" : "", key->detail,
			 key->detail[0] != '\0' ? ")" : "", status_advice(key->cause));
	else if (key_policy_is_raised(before))
		log_info("the key of %s is ok again", name);
	else if (key->cause != OK)
		log_info("a look at the key of %s failed: %s; looking again soon", name,
			 status_sentence(key->cause));
}

/* --- since when it is lost: on_key_loss goes by that, whatever becomes of the supervisor --- */

static void loss_path(char path[static LOSS_PATH_SIZE], const struct managed_volume *managed,
		      const struct config *config)
{
	snprintf(path, LOSS_PATH_SIZE, "%s/%s.lost", config->run_directory, managed->name);
}

static void begin_loss(struct managed_volume *managed, const struct config *config)
{
	char path[LOSS_PATH_SIZE], text[32];
	int length = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)clock_now_ms());

	managed->key.lost_since_ms = clock_now_ms();
	loss_path(path, managed, config);
	/* Logged; then the next supervisor begins anew. */
	(void)!file_replace(path, text, (size_t)length);
}

static void note_loss(struct managed_volume *managed, const struct config *config)
{
	struct managed_key *key = &managed->key;
	char path[LOSS_PATH_SIZE];

	if (key->state == KEY_LOST) {
		if (key->lost_since_ms == 0)
			begin_loss(managed, config);
		key->since_ms = key->lost_since_ms;
	} else if (key->state != KEY_DEGRADED) {
		loss_path(path, managed, config);
		(void)unlink(path);
		key->lost_since_ms = 0;
	}
}

void managed_volume_key_remember(struct managed_volume *managed, const struct config *config)
{
	char path[LOSS_PATH_SIZE], text[32];
	uint64_t since_ms;
	size_t size;

	loss_path(path, managed, config);
	if (!file_exists(path) || file_read_text(text, sizeof(text), &size, path) != OK)
		return;
	since_ms = strtoull(text, NULL, 10);
	managed->key.lost_since_ms = MINIMUM(since_ms, clock_now_ms());
}

void managed_volume_key_overruled(struct managed_volume *managed, const struct config *config)
{
	if (managed->key.state != KEY_LOST)
		return;
	begin_loss(managed, config);
	managed->key.since_ms = managed->key.lost_since_ms;
}

void managed_volume_key_seen(struct managed_volume *managed, enum status outcome,
			     const char *detail, const struct config *config)
{
	struct managed_key *key = &managed->key;
	const enum key_state before = key->state;
	const enum status cause_before = key->cause;
	const uint64_t now_ms = clock_now_ms();
	enum key_event event;

	if (key_policy_classify(&event, outcome)) {
		/* As the table has it: a loss stays one while the network is gone too. */
		if (event == KEY_UNREACHED && key->lost_since_ms != 0)
			event = KEY_REFUSED;
		key->state = key_policy_next(before, event);
		key->cause = outcome;
		snprintf(key->detail, sizeof(key->detail), "%s", outcome == OK ? "" : detail);
		if (outcome == OK) {
			key->proved_ms = now_ms;
			managed_volume_back_up(managed, config);
		}
		if (key_policy_word(key->state) != key_policy_word(before)) {
			key->since_ms = now_ms;
			key->is_news = true;
			note_loss(managed, config);
		}
		if (key_policy_is_raised(key->state) && key->cause != cause_before)
			key->is_news = true;
		if (key->state != before || key->cause != cause_before)
			log_change(managed, before);
	}
	key->due_ms = now_ms + wait_ms(managed, config);
}

/* --- looking, and moving to another version --- */

/* The header may have been changed by others since; its disk may be another one. */
static enum status reload(struct managed_volume *managed)
{
	static struct volume fresh;
	struct luks2_layout layout;

	TRY(volume_load(&fresh, managed->disk_path));
	managed_volume_count_repairs(managed, &fresh);
	TRY(volume_check_policy(&layout, &fresh));
	if (strcmp(fresh.header.uuid, managed->volume.header.uuid) != 0)
		return FAIL_HEADER_CHANGED;
	managed->volume = fresh;
	return volume_vault_token(&managed->token, &managed->volume);
}

void managed_volume_back_up(struct managed_volume *managed, const struct config *config)
{
	enum status status;

	/* What failed is tried again with the next change. */
	if (strcmp(config->backup_directory, "none") == 0 ||
	    managed->key.backup_id == managed->volume.header.sequence_id)
		return;
	status = header_backup_keep(&managed->volume, config->backup_directory);
	if (status != OK && status != managed->key.backup_cause)
		log_warning("no copy of the header of %s is kept in %s: %s",
			    managed_volume_name(managed), config->backup_directory,
			    status_sentence(status));
	managed->key.backup_cause = status;
	managed->key.backup_id = managed->volume.header.sequence_id;
}

/* After a change of byok's own, which the copy is to show. */
static void back_up_change(struct managed_volume *managed, const struct config *config)
{
	if (reload(managed) == OK)
		managed_volume_back_up(managed, config);
}

enum status managed_volume_key_look(struct managed_volume *managed,
				    struct message_agent_request *request,
				    const struct config *config)
{
	TRY(reload(managed));
	TRY(managed_volume_check_cost(managed));
	TRY(agent_request_unwrap(request, &managed->token.current,
				 agent_client_id(config, &managed->token)));
	managed->key.job = KEY_JOB_LOOKS;
	return OK;
}

void managed_volume_key_end(struct managed_volume *managed)
{
	managed->key.job = KEY_JOB_NONE;
	managed->key.request_id = 0;
	secret_memory_close(&managed->key.secret);
}

/* Whether the unwrapped secret opens the volume. */
static enum status try_secret(const struct managed_volume *managed, const uint8_t *secret)
{
	SECRET_SCOPE struct secret volume_key = {0};

	return managed_volume_open_slot(&volume_key, managed, secret);
}

static enum status begin_rotation(struct managed_volume *managed,
				  struct message_agent_request *request,
				  const struct vault_wrapping *proved,
				  const struct message_agent_answer *answer,
				  const struct newest_version *newest, const struct config *config)
{
	struct managed_key *key = &managed->key;

	TRY(secret_memory_open(&key->secret, sizeof(answer->secret)));
	memcpy(key->secret.bytes, answer->secret, sizeof(answer->secret));
	key->rotation = (struct rotation){.state = ROTATION_PREPARED, .old = managed->token};
	snprintf(key->rotation.disk_path, sizeof(key->rotation.disk_path), "%s",
		 managed->disk_path);
	strcpy(key->rotation.uuid, managed->volume.header.uuid);
	key->rotation.new.previous = *proved;
	TRY(agent_request_init(request, AGENT_WRAP, newest->kid,
			       agent_client_id(config, &managed->token)));
	strcpy(request->algorithm, keyvault_algorithm(newest->key_bits));
	memcpy(request->secret, answer->secret, sizeof(request->secret));
	request->secret_size = sizeof(request->secret);
	key->job = KEY_JOB_WRAPS;
	return OK;
}

static enum status take_wrapping(struct managed_volume *managed,
				 struct message_agent_request *request,
				 const struct message_agent_answer *answer,
				 const struct config *config)
{
	struct managed_key *key = &managed->key;
	const struct vault_wrapping previous = key->rotation.new.previous;

	TRY(vault_slot_token(&key->rotation.new, answer->kid, answer->wrapped,
			     agent_client_id(config, &managed->token)));
	key->rotation.new.keyslot = key->rotation.old.keyslot;
	key->rotation.new.previous = previous;
	TRY(agent_request_unwrap(request, &key->rotation.new.current,
				 agent_client_id(config, &managed->token)));
	key->job = KEY_JOB_PROVES;
	return OK;
}

static enum status finish_rotation(struct managed_volume *managed,
				   const struct message_agent_answer *answer,
				   const struct config *config)
{
	struct managed_key *key = &managed->key;

	if (!secret_equal(answer->secret, key->secret.bytes, sizeof(answer->secret)))
		return FAIL_KEY_MISMATCH;
	TRY(rotation_commit(&key->rotation));
	log_info("%s is under %s now, no longer %s", managed_volume_name(managed),
		 key->rotation.new.current.kid, key->rotation.old.current.kid);
	managed->token = key->rotation.new;
	key->rotation_cause = OK;
	key->is_news = true;
	managed->rotations++;
	back_up_change(managed, config);
	return OK;
}

/* What is proved needs no older wrapping beside it. */
static void drop_previous(struct managed_volume *managed, const struct config *config)
{
	struct rotation *rotation = &managed->key.rotation;
	enum status status;

	if (managed->token.previous.kid[0] == '\0')
		return;
	*rotation = (struct rotation){.state = ROTATION_COMMITTED, .new = managed->token};
	snprintf(rotation->disk_path, sizeof(rotation->disk_path), "%s", managed->disk_path);
	strcpy(rotation->uuid, managed->volume.header.uuid);
	status = rotation_drop_previous(rotation);
	if (status != OK) {
		log_warning("%s keeps its wrapping by %s until the next look: %s",
			    managed_volume_name(managed), managed->token.previous.kid,
			    status_sentence(status));
		return;
	}
	log_debug("%s: the wrapping by %s is dropped", managed_volume_name(managed),
		  managed->token.previous.kid);
	managed->token.previous = (struct vault_wrapping){0};
	back_up_change(managed, config);
}

static void rotation_failed(struct managed_volume *managed, enum status status,
			    const struct message_agent_answer *answer, const struct config *config)
{
	struct managed_key *key = &managed->key;
	const char *detail = answer->detail;

	if (status != key->rotation_cause)
		log_warning("%s stays under %s: the newest version is not taken: %s%s%s%s; %s; "
			    "tried again",
			    managed_volume_name(managed), managed->token.current.kid,
			    status_sentence(status), detail[0] != '\0' ? " (" : "", detail,
			    detail[0] != '\0' ? ")" : "", status_advice(status));
	key->rotation_cause = status;
	key->rotation_due_ms =
		clock_now_ms() +
		retry_next_of_many_ms(&managed->retry,
				      retry_interval_ms((uint64_t)config->probe_retry_s * 1000,
							managed->round_ms),
				      managed->round_ms, status, answer->retry_after_ms,
				      entropy_u32());
}

static enum status heard_look(struct managed_volume *managed, struct message_agent_request *request,
			      const struct message_agent_answer *answer,
			      const struct newest_version *newest, const struct config *config)
{
	const bool must_rotate = key_policy_must_rotate(managed->token.current.kid, newest->kid);
	enum status status = (enum status)answer->status;

	if (status == OK)
		status = try_secret(managed, answer->secret);
	managed_volume_key_seen(managed, status, answer->detail, config);
	if (status == OK) {
		drop_previous(managed, config);
		return must_rotate ? begin_rotation(managed, request, &managed->token.current,
						    answer, newest, config)
				   : OK;
	}
	if (!must_rotate || managed->token.previous.kid[0] == '\0')
		return must_rotate ? status : OK;
	TRY(agent_request_unwrap(request, &managed->token.previous,
				 agent_client_id(config, &managed->token)));
	managed->key.job = KEY_JOB_LOOKS_BACK;
	return OK;
}

/* The old wrapping speaks for the secret where the present one cannot. */
static enum status heard_look_back(struct managed_volume *managed,
				   struct message_agent_request *request,
				   const struct message_agent_answer *answer,
				   const struct newest_version *newest, const struct config *config)
{
	TRY((enum status)answer->status);
	TRY(try_secret(managed, answer->secret));
	return begin_rotation(managed, request, &managed->token.previous, answer, newest, config);
}

bool managed_volume_key_hear(struct managed_volume *managed, struct message_agent_request *request,
			     const struct message_agent_answer *answer,
			     const struct newest_version *newest, const struct config *config)
{
	const enum key_job job = managed->key.job;
	enum status status = OK;

	switch (job) {
	case KEY_JOB_LOOKS: status = heard_look(managed, request, answer, newest, config); break;
	case KEY_JOB_LOOKS_BACK:
		status = heard_look_back(managed, request, answer, newest, config);
		break;
	case KEY_JOB_WRAPS:
		status = (enum status)answer->status;
		if (status == OK)
			status = take_wrapping(managed, request, answer, config);
		break;
	case KEY_JOB_PROVES:
		status = (enum status)answer->status;
		if (status == OK)
			status = finish_rotation(managed, answer, config);
		break;
	case KEY_JOB_NONE:
	default: break;
	}
	if (status != OK)
		rotation_failed(managed, status, answer, config);
	if (status == OK && managed->key.job != job)
		return true;
	managed_volume_key_end(managed);
	managed->key.due_ms = clock_now_ms() + wait_ms(managed, config);
	return false;
}
