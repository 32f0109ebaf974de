#include "app/volume/rotation.h"

#include <stdlib.h>
#include <string.h>

#include "app/vault/key_preflight.h"

/* Commands of cryptsetup's, or a second rotation, may come between a load and its commit. */
#define COMMIT_TRIES 5

/* The key to move to, with its version: a versionless one is asked for its newest. */
static enum status find_target(char kid[static KEY_URL_TEXT_SIZE], struct rotation *rotation,
			       struct agent_session *session, const char *target,
			       const char *client_id)
{
	struct message_agent_request request;
	struct message_agent_answer answer = {0};
	struct key_url url;
	enum status status;

	TRY(key_url_parse(&url, target[0] != '\0' ? target : rotation->old.current.kid));
	if (target[0] == '\0')
		url.version[0] = '\0';
	key_url_format(kid, &url);
	if (key_url_has_version(&url))
		return OK;
	TRY(agent_request_init(&request, AGENT_GET_KEY, kid, client_id));
	status = agent_session_ask(session, &answer, &request);
	strcpy(rotation->detail, answer.detail);
	TRY(status);
	TRY(key_url_parse(&url, answer.kid));
	if (!key_url_has_version(&url))
		return FAIL_KEY_ID;
	key_url_format(kid, &url);
	return OK;
}

static bool names_key(const struct vault_wrapping *wrapping, const char *kid)
{
	struct key_url a, b;

	return key_url_parse(&a, wrapping->kid) == OK && key_url_parse(&b, kid) == OK &&
	       key_url_equal(&a, &b);
}

/* Both keys prove themselves on the very secret of this disk. */
static enum status prove(struct rotation *rotation, struct agent_session *session,
			 const struct config *config, const struct volume *volume, const char *kid,
			 const char *client_id)
{
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	struct key_preflight preflight = {0};
	enum status status;

	status = vault_slot_open(&slot, session, config, volume);
	strcpy(rotation->detail, slot.detail);
	TRY(status);
	status = key_preflight(&preflight, session, kid, client_id, slot.secret.bytes);
	strcpy(rotation->detail, preflight.detail);
	TRY(status);
	TRY(vault_slot_token(&rotation->new, preflight.kid, preflight.wrapped, client_id));
	rotation->new.keyslot = rotation->old.keyslot;
	rotation->new.previous = slot.proved;
	return OK;
}

/* What stands in the header opens the disk. */
static enum status prove_current(struct rotation *rotation, const struct volume *volume,
				 struct agent_session *session, const struct vault_token *token,
				 const char *client_id)
{
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	enum status status = vault_slot_prove(&slot, session, &token->current, client_id, volume,
					      token->keyslot);

	strcpy(rotation->detail, slot.detail);
	return status;
}

static enum status prepare(struct rotation *rotation, struct volume *volume,
			   struct agent_session *session, const struct config *config,
			   const char *disk_path, const char *target)
{
	char kid[KEY_URL_TEXT_SIZE];
	const char *client_id;

	TRY(volume_load(volume, disk_path));
	TRY(volume_vault_token(&rotation->old, volume));
	strcpy(rotation->disk_path, volume->disk_path);
	strcpy(rotation->uuid, volume->header.uuid);
	client_id = agent_client_id(config, &rotation->old);
	TRY(find_target(kid, rotation, session, target, client_id));
	if (!names_key(&rotation->old.current, kid)) {
		rotation->state = ROTATION_PREPARED;
		return prove(rotation, session, config, volume, kid, client_id);
	}
	rotation->new = rotation->old;
	rotation->state = ROTATION_COMMITTED;
	if (rotation->old.previous.kid[0] != '\0')
		return OK;
	rotation->state = ROTATION_DONE;
	return prove_current(rotation, volume, session, &rotation->old, client_id);
}

enum status rotation_prepare(struct rotation *rotation, struct agent_session *session,
			     const struct config *config, const char *disk_path, const char *target)
{
	struct volume *volume = malloc(sizeof(*volume));
	enum status status;

	*rotation = (struct rotation){0};
	if (volume == NULL)
		return FAIL_OUT_OF_MEMORY;
	status = prepare(rotation, volume, session, config, disk_path, target);
	free(volume);
	return status;
}

static bool same_wrapping(const struct vault_wrapping *a, const struct vault_wrapping *b)
{
	return strcmp(a->kid, b->kid) == 0 && strcmp(a->wrapped, b->wrapped) == 0;
}

/* The disk of before, and its token. */
static enum status load_again(struct volume *volume, struct vault_token *token,
			      const struct rotation *rotation)
{
	TRY(volume_load(volume, rotation->disk_path));
	TRY(volume_vault_token(token, volume));
	return strcmp(volume->header.uuid, rotation->uuid) == 0 ? OK : FAIL_HEADER_CHANGED;
}

/* Gives the disk the token `after` in the place of `before`, or takes away what that keeps of the
 * version before it: `after` is NULL. */
static enum status change(const struct rotation *rotation, struct volume *volume,
			  const struct vault_token *before, const struct vault_token *after)
{
	enum status status = FAIL_HEADER_CHANGED;

	for (int i = 0; i < COMMIT_TRIES && status == FAIL_HEADER_CHANGED; i++) {
		struct vault_token token;

		TRY(load_again(volume, &token, rotation));
		if (token.keyslot != before->keyslot ||
		    !same_wrapping(&token.current, &before->current))
			return FAIL_HEADER_CHANGED;
		token.previous = (struct vault_wrapping){0};
		TRY(volume_set_vault_token(volume, after != NULL ? after : &token));
		status = volume_commit(volume);
	}
	return status;
}

static enum status change_from(struct rotation *rotation, enum rotation_state state,
			       const struct vault_token *before, const struct vault_token *after)
{
	struct volume *volume;
	enum status status;

	if (rotation->state != state)
		return OK;
	volume = malloc(sizeof(*volume));
	if (volume == NULL)
		return FAIL_OUT_OF_MEMORY;
	status = change(rotation, volume, before, after);
	free(volume);
	if (status == OK)
		rotation->state = state + 1;
	return status;
}

enum status rotation_commit(struct rotation *rotation)
{
	return change_from(rotation, ROTATION_PREPARED, &rotation->old, &rotation->new);
}

enum status rotation_drop_previous(struct rotation *rotation)
{
	return change_from(rotation, ROTATION_COMMITTED, &rotation->new, NULL);
}

static enum status prove_again(struct rotation *rotation, struct volume *volume,
			       struct agent_session *session, const struct config *config)
{
	struct vault_token token;

	TRY(load_again(volume, &token, rotation));
	if (!same_wrapping(&token.current, &rotation->new.current))
		return FAIL_HEADER_CHANGED;
	return prove_current(rotation, volume, session, &token, agent_client_id(config, &token));
}

enum status rotation_finish(struct rotation *rotation, struct agent_session *session,
			    const struct config *config)
{
	struct volume *volume;
	enum status status;

	if (rotation->state != ROTATION_COMMITTED)
		return OK;
	volume = malloc(sizeof(*volume));
	if (volume == NULL)
		return FAIL_OUT_OF_MEMORY;
	status = prove_again(rotation, volume, session, config);
	free(volume);
	TRY(status);
	return rotation_drop_previous(rotation);
}
