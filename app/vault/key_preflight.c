#include "app/vault/key_preflight.h"

#include <string.h>

#include "app/vault/keyvault.h"
#include "platform/clock.h"

enum status key_preflight_url(const char *text, bool is_typed)
{
	struct key_url url;

	TRY(key_url_parse(&url, text));
	return key_url_has_version(&url) || !is_typed ? OK : FAIL_KEY_URL_VERSIONLESS;
}

static enum status ask(struct key_preflight *result, struct agent_session *session,
		       struct message_agent_answer *answer, struct message_agent_request *request)
{
	enum status status = agent_session_ask(session, answer, request);

	strcpy(result->detail, answer->detail);
	return status;
}

static enum status get_key(struct key_preflight *result, struct agent_session *session,
			   const char *url, const char *client_id)
{
	struct message_agent_request request;
	struct message_agent_answer answer = {0};

	TRY(agent_request_init(&request, AGENT_GET_KEY, url, client_id));
	TRY(ask(result, session, &answer, &request));
	strcpy(result->kid, answer.kid);
	result->key_bits = answer.key_bits;
	result->expires_s = answer.expires_s;
	return keyvault_may_wrap(answer.enabled != 0, answer.not_before_s, answer.expires_s,
				 clock_wall_s());
}

static enum status wrap(struct key_preflight *result, struct agent_session *session,
			const char *client_id, const uint8_t secret[static 32])
{
	struct message_agent_request request;
	struct message_agent_answer answer = {0};
	enum status status;

	TRY(agent_request_init(&request, AGENT_WRAP, result->kid, client_id));
	strcpy(request.algorithm, keyvault_algorithm(result->key_bits));
	memcpy(request.secret, secret, sizeof(request.secret));
	request.secret_size = sizeof(request.secret);
	status = ask(result, session, &answer, &request);
	secret_wipe_bytes(&request, sizeof(request));
	TRY(status);
	strcpy(result->kid, answer.kid);
	strcpy(result->wrapped, answer.wrapped);
	return OK;
}

static enum status unwrap_and_compare(struct key_preflight *result, struct agent_session *session,
				      const char *client_id, const uint8_t secret[static 32])
{
	struct message_agent_request request;
	struct message_agent_answer answer = {0};
	enum status status;

	TRY(agent_request_init(&request, AGENT_UNWRAP, result->kid, client_id));
	strcpy(request.algorithm, keyvault_algorithm(result->key_bits));
	strcpy(request.wrapped, result->wrapped);
	status = ask(result, session, &answer, &request);
	if (status == OK && !secret_equal(answer.secret, secret, sizeof(answer.secret)))
		status = FAIL_KEY_MISMATCH;
	secret_wipe_bytes(&answer, sizeof(answer));
	return status;
}

enum status key_preflight(struct key_preflight *result, struct agent_session *session,
			  const char *key_url, const char *client_id,
			  const uint8_t secret[static 32])
{
	char text[KEY_URL_TEXT_SIZE];
	struct key_url url;

	*result = (struct key_preflight){0};
	TRY(key_url_parse(&url, key_url));
	key_url_format(text, &url);
	TRY(get_key(result, session, text, client_id));
	TRY(wrap(result, session, client_id, secret));
	return unwrap_and_compare(result, session, client_id, secret);
}
