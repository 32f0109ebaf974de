/* The vault slot of a volume, opened by a command: has the vault unwrap its secret, and proves on
 * the keyslot that it is the right one. (The supervisor, which must not wait, has its own way.) */
#ifndef APP_VOLUME_VAULT_SLOT_H
#define APP_VOLUME_VAULT_SLOT_H

#include "app/vault/agent_session.h"
#include "app/volume/volume.h"

#define VAULT_SLOT_SECRET_SIZE 32

struct vault_slot {
	struct secret secret;         /* what is wrapped: VAULT_SLOT_SECRET_SIZE random bytes */
	struct secret passphrase;     /* their base64 text, which opens the keyslot */
	struct secret volume_key;     /* what the keyslot held */
	struct vault_wrapping proved; /* the wrapping that gave the secret, and the key that did */
	char detail[MESSAGE_TEXT_SIZE]; /* on failure: what the other side said */
};

#define VAULT_SLOT_SCOPE __attribute__((cleanup(vault_slot_wipe)))

void vault_slot_wipe(struct vault_slot *slot);

/* A new random secret and its passphrase. */
void vault_slot_make(struct vault_slot *slot);

/* Tries the token's wrapping by its own key; then the previous one, of a rotation that was cut
 * short; then, if the setting `key` names another key, the token's wrapping by that one, which may
 * be a copy of the key in another vault. What opens the keyslot is right, wherever it came from.
 * The failure is that of the token's own key: FAIL_NO_VAULT_TOKEN, FAIL_TOKEN, those of identity
 * and vault, FAIL_WRAPPED_MISMATCH, those of volume_unlock. */
MUST_CHECK enum status vault_slot_open(struct vault_slot *slot, struct agent_session *session,
				       const struct config *config, const struct volume *volume);

/* One wrapping alone, for that keyslot: unwraps it and opens the keyslot. */
MUST_CHECK enum status vault_slot_prove(struct vault_slot *slot, struct agent_session *session,
					const struct vault_wrapping *wrapping,
					const char *client_id, const struct volume *volume,
					unsigned keyslot);

/* What key_preflight proved, as a token of the present time; its keyslot is the caller's to set.
 * FAIL_IDENTITY_NONE if the client id is too long for a token, FAIL_TOKEN if the rest is. */
MUST_CHECK enum status vault_slot_token(struct vault_token *token, const char *kid,
					const char *wrapped, const char *client_id);

#endif
