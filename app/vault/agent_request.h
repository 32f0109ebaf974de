/* What the vault agent is asked, by commands and by the supervisor. Pure. */
#ifndef APP_VAULT_AGENT_REQUEST_H
#define APP_VAULT_AGENT_REQUEST_H

#include "app/config.h"
#include "app/messages.h"
#include "app/vault/vault_token.h"

/* A request for that operation and key with everything else empty. FAIL_KEY_URL if the URL or
 * client id is too long for a message. */
MUST_CHECK enum status agent_request_init(struct message_agent_request *request,
					  enum agent_operation operation, const char *key_url,
					  const char *client_id);

/* As whom to ask for a volume: the settings' identity, else the one that its token names. */
static inline const char *agent_client_id(const struct config *config,
					  const struct vault_token *token)
{
	return config->identity[0] != '\0' ? config->identity : token->identity;
}

/* The request to unwrap that. FAIL_KEY_URL as above. */
MUST_CHECK enum status agent_request_unwrap(struct message_agent_request *request,
					    const struct vault_wrapping *wrapping,
					    const char *client_id);

#endif
