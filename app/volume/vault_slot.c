#include "app/volume/vault_slot.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "app/vault/key_url.h"
#include "app/vault/keyvault.h"
#include "crypto/base64.h"
#include "platform/entropy.h"

void vault_slot_wipe(struct vault_slot *slot)
{
	secret_wipe_bytes(slot, sizeof(*slot));
}

static void set_secret(struct vault_slot *slot, const uint8_t secret[static VAULT_SLOT_SECRET_SIZE])
{
	memcpy(slot->secret.bytes, secret, VAULT_SLOT_SECRET_SIZE);
	slot->secret.size = VAULT_SLOT_SECRET_SIZE;
	slot->passphrase.size = base64_encode((char *)slot->passphrase.bytes, secret,
					      VAULT_SLOT_SECRET_SIZE, BASE64_STANDARD);
}

void vault_slot_make(struct vault_slot *slot)
{
	SECRET_SCOPE struct secret random = {.size = VAULT_SLOT_SECRET_SIZE};

	*slot = (struct vault_slot){0};
	entropy_fill(random.bytes, VAULT_SLOT_SECRET_SIZE);
	set_secret(slot, random.bytes);
}

static enum status unwrap(struct vault_slot *slot, struct agent_session *session,
			  const struct vault_wrapping *wrapping, const char *client_id)
{
	struct message_agent_request request;
	struct message_agent_answer answer = {0};
	enum status status;

	TRY(agent_request_unwrap(&request, wrapping, client_id));
	status = agent_session_ask(session, &answer, &request);
	strcpy(slot->detail, answer.detail);
	if (status == OK)
		set_secret(slot, answer.secret);
	secret_wipe_bytes(&answer, sizeof(answer));
	return status;
}

enum status vault_slot_prove(struct vault_slot *slot, struct agent_session *session,
			     const struct vault_wrapping *wrapping, const char *client_id,
			     const struct volume *volume, unsigned keyslot)
{
	enum status status;

	TRY(unwrap(slot, session, wrapping, client_id));
	status = volume_unlock(&slot->volume_key, volume, (int)keyslot, slot->passphrase.bytes,
			       slot->passphrase.size);
	if (status == OK)
		slot->proved = *wrapping;
	return status == FAIL_WRONG_KEY ? FAIL_WRAPPED_MISMATCH : status;
}

/* The key of the settings, with the token's version unless it has one of its own (a restored key
 * keeps its versions, an imported one does not): false if that is no other key. */
static bool name_copy(struct vault_wrapping *copy, const struct vault_wrapping *current,
		      const char *setting)
{
	struct key_url own, other;
	char text[KEY_URL_TEXT_SIZE];

	if (key_url_parse(&other, setting) != OK || key_url_parse(&own, current->kid) != OK ||
	    key_url_same_key(&own, &other))
		return false;
	if (!key_url_has_version(&other))
		memcpy(other.version, own.version, sizeof(other.version));
	key_url_format(text, &other);
	*copy = *current;
	_Static_assert(sizeof(copy->kid) >= sizeof(text), "a kid must fit a token");
	strcpy(copy->kid, text);
	return true;
}

enum status vault_slot_open(struct vault_slot *slot, struct agent_session *session,
			    const struct config *config, const struct volume *volume)
{
	struct vault_slot next VAULT_SLOT_SCOPE = {0};
	struct vault_token token;
	struct vault_wrapping copy;
	const char *client_id = config->identity;
	enum status status, failure;

	*slot = (struct vault_slot){0};
	TRY(volume_vault_token(&token, volume));
	if (client_id[0] == '\0')
		client_id = token.identity;
	failure = vault_slot_prove(slot, session, &token.current, client_id, volume, token.keyslot);
	status = failure;
	if (status != OK && token.previous.kid[0] != '\0')
		status = vault_slot_prove(&next, session, &token.previous, client_id, volume,
					  token.keyslot);
	if (status != OK && name_copy(&copy, &token.current, config->key))
		status = vault_slot_prove(&next, session, &copy, client_id, volume, token.keyslot);
	if (status != OK)
		return failure;
	if (failure != OK)
		*slot = next;
	return OK;
}

static void set_time(char text[static 32])
{
	time_t now = time(NULL);
	struct tm parts;

	/* strftime would bring 7 KiB of time zones and words with it. */
	gmtime_r(&now, &parts);
	snprintf(text, 32, "%04u-%02u-%02uT%02u:%02u:%02uZ", (uint16_t)(parts.tm_year + 1900),
		 (uint8_t)(parts.tm_mon + 1), (uint8_t)parts.tm_mday, (uint8_t)parts.tm_hour,
		 (uint8_t)parts.tm_min, (uint8_t)parts.tm_sec);
}

enum status vault_slot_token(struct vault_token *token_out, const char *kid, const char *wrapped,
			     const char *client_id)
{
	struct vault_token token = {0};

	if (strlen(client_id) >= sizeof(token.identity))
		return FAIL_IDENTITY_NONE;
	if (strlen(kid) >= sizeof(token.current.kid) ||
	    strlen(wrapped) >= sizeof(token.current.wrapped))
		return FAIL_TOKEN;
	strcpy(token.current.kid, kid);
	strcpy(token.current.algorithm, keyvault_algorithm(keyvault_wrapped_bits(wrapped)));
	strcpy(token.current.wrapped, wrapped);
	strcpy(token.identity, client_id);
	set_time(token.created);
	*token_out = token;
	return OK;
}
