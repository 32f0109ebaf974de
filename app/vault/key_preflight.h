/* Proves, before anything is written, that a key in the vault can do what byok will need of it. */
#ifndef APP_VAULT_KEY_PREFLIGHT_H
#define APP_VAULT_KEY_PREFLIGHT_H

#include "app/vault/agent_session.h"
#include "app/vault/key_url.h"

/* What came of it; on failure `detail` has what the other side said. */
struct key_preflight {
	char kid[MESSAGE_TEXT_SIZE]; /* the version that was used */
	char wrapped[MESSAGE_WRAPPED_SIZE];
	uint32_t key_bits;
	int64_t expires_s; /* 0: never */
	char detail[MESSAGE_TEXT_SIZE];
};

/* Checks the URL, gets the key (its type, operations, protection against purging, dates), or its
 * newest version if the URL names none, wraps `secret` by that version, unwraps it again, and
 * compares. The failures of key_url_parse, FAIL_KEY_..., those of identity and vault. */
MUST_CHECK enum status key_preflight(struct key_preflight *result, struct agent_session *session,
				     const char *key_url, const char *client_id,
				     const uint8_t secret[static 32]);

/* What can be said of the URL in the settings without a vault: FAIL_KEY_URL... A key without
 * version is one to follow, and stands in byok.conf; one that was typed for a single command needs
 * its version: FAIL_KEY_URL_VERSIONLESS. */
MUST_CHECK enum status key_preflight_url(const char *text, bool is_typed);

#endif
