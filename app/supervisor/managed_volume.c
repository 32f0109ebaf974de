#include "app/supervisor/managed_volume.h"

#include <stdio.h>
#include <string.h>

#include "app/vault/agent_session.h"
#include "app/vault/key_url.h"
#include "crypto/base64.h"
#include "platform/entropy.h"
#include "platform/log.h"

#define SAME_CAUSE_LOGGED_AGAIN_MS (5 * 60 * 1000)

/* A worker that dies again and again is not started ever faster; but users wait meanwhile. */
#define RESTART_BASE_MS 200
#define RESTART_CAP_MS 10000

/* What a header may cost the process that all volumes depend on. byok's own vault slots have 1000
 * iterations, since their secret has full entropy; a digest made by cryptsetup takes about 125 ms.
 */
#define VAULT_SLOT_ITERATIONS_MAX 100000
#define DIGEST_ITERATIONS_MAX 2000000

void managed_volume_init(struct managed_volume *managed, const char *disk_path,
			 const struct config *config)
{
	*managed = (struct managed_volume){
		.state = VOLUME_FOUND,
		.since_ms = clock_now_ms(),
		.retry = {.cap_ms = (uint64_t)config->retry_cap_s * 1000},
		.key.state = KEY_UNKNOWN,
		.worker = PROCESS_NONE,
		.prepared = PROCESS_NONE,
		.restart_backoff = {.base_ms = RESTART_BASE_MS, .cap_ms = RESTART_CAP_MS},
	};
	snprintf(managed->disk_path, sizeof(managed->disk_path), "%s", disk_path);
}

void managed_volume_handle(struct managed_volume *managed, enum volume_event event)
{
	enum volume_state next = volume_state_next(managed->state, event);

	if (next != managed->state)
		managed->since_ms = clock_now_ms();
	managed->state = next;
}

const char *managed_volume_name(const struct managed_volume *managed)
{
	return managed->name[0] != '\0' ? managed->name : "(no name)";
}

void managed_volume_count_repairs(struct managed_volume *managed, const struct volume *loaded)
{
	for (enum luks2_copy copy = LUKS2_PRIMARY; copy < LUKS2_COPIES; copy++)
		managed->headers_repaired += loaded->copies[copy] == VOLUME_COPY_REPAIRED;
}

enum status managed_volume_load(struct managed_volume *managed)
{
	managed->is_loaded = false;
	TRY(volume_load(&managed->volume, managed->disk_path));
	managed_volume_count_repairs(managed, &managed->volume);
	TRY(volume_check_policy(&managed->layout, &managed->volume));
	TRY(volume_name_check(managed->volume.header.label));
	managed->is_loaded = true;
	/* The check has found a NUL within the name's size. */
	strcpy(managed->name, managed->volume.header.label);
	return OK;
}

enum status managed_volume_problem(const struct managed_volume *managed)
{
	if (managed->state != VOLUME_SERVING || managed->cause != OK)
		return managed->cause;
	return managed_volume_has_lost_disk(managed) ? FAIL_DISK_ABSENT : managed->header_cause;
}

void managed_volume_header_seen(struct managed_volume *managed, enum status outcome)
{
	/* Somebody is changing it: the next look will tell. */
	if (outcome == managed->header_cause || outcome == FAIL_HEADER_LOCKED)
		return;
	managed->header_cause = outcome;
	if (outcome == OK)
		log_info("the header of %s is well again", managed->name);
	else
		log_error("%s is served, but would not be again: %s; %s", managed->name,
			  status_sentence(outcome), status_advice(outcome));
}

/* Whoever can write to a disk can put a header of his own on it, under a key of his own. */
static enum status check_key_is_ours(const struct vault_wrapping *wrapping,
				     const struct config *config)
{
	struct key_url ours, theirs;

	if (config->require_key == 0)
		return OK;
	TRY(key_url_parse(&ours, config->key));
	TRY(key_url_parse(&theirs, wrapping->kid));
	return key_url_same_key(&ours, &theirs) ? OK : FAIL_KEY_FOREIGN;
}

enum status managed_volume_check_cost(const struct managed_volume *managed)
{
	const struct luks2_metadata *metadata = &managed->volume.metadata;
	const struct luks2_kdf *kdf = &metadata->keyslots[managed->token.keyslot].kdf;

	if (kdf->kind != LUKS2_KDF_PBKDF2 || kdf->iterations > VAULT_SLOT_ITERATIONS_MAX ||
	    metadata->digests[managed->layout.digest].iterations > DIGEST_ITERATIONS_MAX)
		return FAIL_KDF_COST;
	return OK;
}

static const struct vault_wrapping *wrapping_of(const struct managed_volume *managed)
{
	return managed->asks_previous ? &managed->token.previous : &managed->token.current;
}

enum status managed_volume_request(struct managed_volume *managed,
				   struct message_agent_request *request,
				   const struct config *config)
{
	const struct vault_wrapping *wrapping = wrapping_of(managed);

	TRY(volume_vault_token(&managed->token, &managed->volume));
	TRY(check_key_is_ours(wrapping, config));
	TRY(managed_volume_check_cost(managed));
	return agent_request_unwrap(request, wrapping, agent_client_id(config, &managed->token));
}

void managed_volume_asked(struct managed_volume *managed, uint32_t request_id, uint64_t due_ms)
{
	managed->request_id = request_id;
	managed->due_ms = due_ms;
	managed_volume_handle(managed, VOLUME_KEY_ASKED);
}

bool managed_volume_same_secret(const struct managed_volume *a, const struct managed_volume *b)
{
	return strcmp(wrapping_of(a)->kid, wrapping_of(b)->kid) == 0 &&
	       strcmp(wrapping_of(a)->wrapped, wrapping_of(b)->wrapped) == 0;
}

bool managed_volume_asks_previous(struct managed_volume *managed, enum status cause,
				  const char *detail)
{
	if (managed->asks_previous || managed->token.previous.kid[0] == '\0')
		return false;
	managed->asks_previous = true;
	managed->current_cause = cause;
	snprintf(managed->current_detail, sizeof(managed->current_detail), "%s", detail);
	return true;
}

enum status managed_volume_open_slot(struct secret *volume_key,
				     const struct managed_volume *managed,
				     const uint8_t secret[static 32])
{
	SECRET_SCOPE struct secret passphrase = {0};
	enum status status;

	/* The slot's passphrase is the secret's base64 text, so that cryptsetup can be given it. */
	passphrase.size = base64_encode((char *)passphrase.bytes, secret, 32, BASE64_STANDARD);
	status = volume_unlock(volume_key, &managed->volume, (int)managed->token.keyslot,
			       passphrase.bytes, passphrase.size);
	return status == FAIL_WRONG_KEY ? FAIL_WRAPPED_MISMATCH : status;
}

enum status managed_volume_unlock(struct managed_volume *managed, const struct secret *volume_key,
				  const struct config *config)
{
	CHECK(volume_key->size == 64);
	TRY(managed_volume_start(managed, volume_key->bytes, config));
	retry_reset(&managed->retry);
	return OK;
}

enum status managed_volume_recover(struct managed_volume *managed, const char *uuid,
				   const uint8_t volume_key[static 64], const struct config *config)
{
	if (strcmp(managed->volume.header.uuid, uuid) != 0)
		return FAIL_HEADER_CHANGED;
	TRY(managed_volume_start(managed, volume_key, config));
	managed_volume_key_overruled(managed, config);
	return OK;
}

/* A volume that has failed in the same way for hours needs a line now and then, not one each time.
 */
static void log_failure(struct managed_volume *managed, uint64_t now_ms, uint64_t wait_ms)
{
	const char *detail = managed->detail;

	if (managed->cause == managed->logged_cause &&
	    now_ms - managed->logged_ms < SAME_CAUSE_LOGGED_AGAIN_MS)
		return;
	managed->logged_cause = managed->cause;
	managed->logged_ms = now_ms;
	log_warning("%s on %s waits: %s%s%s%s; %s; tried again until it works (next in %.1f s)",
		    managed_volume_name(managed), managed->disk_path,
		    status_sentence(managed->cause), detail[0] != '\0' ? " (" : "", detail,
		    detail[0] != '\0' ? ")" : "", status_advice(managed->cause),
		    (double)wait_ms / 1000);
}

void managed_volume_fail(struct managed_volume *managed, enum status cause, const char *detail,
			 uint64_t retry_after_ms)
{
	uint64_t now_ms = clock_now_ms();
	uint64_t round_ms = managed->state == VOLUME_ASKING ? managed->round_ms : 0;
	uint64_t wait_ms =
		retry_next_ms(&managed->retry, round_ms, cause, retry_after_ms, entropy_u32());

	managed_volume_handle(managed, VOLUME_FAILED);
	process_part(&managed->prepared);
	if (managed->asks_previous) {
		cause = managed->current_cause;
		detail = managed->current_detail;
		managed->asks_previous = false;
	}
	managed->cause = cause;
	snprintf(managed->detail, sizeof(managed->detail), "%s", detail);
	managed->due_ms = now_ms + wait_ms;
	log_failure(managed, now_ms, wait_ms);
}
