#include "app/vault/vault_attempt.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "app/vault/workload_identity.h"
#include "generated/config.h"
#include "platform/clock.h"

/* When asking for a fresh token fails, the held one serves on, and this long nobody asks again. */
#define REFRESH_PAUSE_MS 60000

/* With less an exchange would only hide the cause behind a time-out. */
#define EXCHANGE_TIME_MIN_MS 1000

_Static_assert(KEYVAULT_WRAPPED_SIZE == MESSAGE_WRAPPED_SIZE, "one travels in the other");
_Static_assert(KEY_URL_TEXT_SIZE <= MESSAGE_TEXT_SIZE, "a kid must fit a message");

static bool is_wrapped_by(const char *algorithm, const char *wrapped)
{
	return strcmp(algorithm, keyvault_algorithm(keyvault_wrapped_bits(wrapped))) == 0;
}

enum status vault_operation_read(struct vault_operation *operation,
				 const struct message_agent_request *request)
{
	*operation =
		(struct vault_operation){.operation = (enum agent_operation)request->operation};
	if (request->operation == 0 || request->operation >= AGENT_OPERATIONS)
		return FAIL_MESSAGE;
	if (request->operation == AGENT_USER_DATA)
		return OK;
	if (!message_text_is_valid(request->key_url, sizeof(request->key_url)))
		return FAIL_KEY_URL;
	TRY(key_url_parse(&operation->key, request->key_url));
	if (!message_text_is_valid(request->client_id, sizeof(request->client_id)))
		return FAIL_CONFIG;
	if (request->client_id[0] != '\0') {
		if (!identity_client_id_is_valid(request->client_id))
			return FAIL_CONFIG;
		strcpy(operation->client_id, request->client_id);
	}
	if (request->operation != AGENT_WRAP && request->operation != AGENT_UNWRAP)
		return OK;
	if (!message_text_is_valid(request->algorithm, sizeof(request->algorithm)))
		return FAIL_TOKEN;
	operation->algorithm = strcmp(request->algorithm, KEYVAULT_ALGORITHM_AES) == 0
				       ? KEYVAULT_ALGORITHM_AES
				       : KEYVAULT_ALGORITHM;
	if (strcmp(request->algorithm, operation->algorithm) != 0)
		return FAIL_TOKEN;
	if (request->operation == AGENT_WRAP) {
		if (request->secret_size != sizeof(operation->secret))
			return FAIL_MESSAGE;
		memcpy(operation->secret, request->secret, sizeof(operation->secret));
		return OK;
	}
	if (!key_url_has_version(&operation->key))
		return FAIL_KEY_URL_VERSIONLESS;
	if (!message_text_is_valid(request->wrapped, sizeof(request->wrapped)) ||
	    !keyvault_wrapped_is_valid(request->wrapped) ||
	    !is_wrapped_by(operation->algorithm, request->wrapped))
		return FAIL_TOKEN;
	strcpy(operation->wrapped, request->wrapped);
	return OK;
}

/* --- telling what happened --- */

PRINTF_LIKE(2, 3)
static void say(struct vault_outcome *outcome, const char *format, ...)
{
	size_t used = strlen(outcome->detail);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(outcome->detail + used, sizeof(outcome->detail) - used, format, arguments);
	va_end(arguments);
}

static void say_word(struct vault_outcome *outcome, const char *word)
{
	if (word[0] != '\0')
		say(outcome, " %s", word);
}

static void say_answer(struct vault_outcome *outcome, const char *who,
		       const struct https_answer *answer)
{
	outcome->detail[0] = '\0';
	say(outcome, "%s:", who);
	if (answer->http_status != 0)
		say(outcome, " HTTP %d", answer->http_status);
	if (answer->cause[0] != '\0')
		say(outcome, " %s", answer->cause);
}

/* What an operator and Microsoft's support need to find this answer on the other side. */
static void say_origin(struct vault_outcome *outcome, const struct https_answer *answer)
{
	if (answer->request_id[0] != '\0')
		say(outcome, ", request id %s", answer->request_id);
	if (answer->network_info[0] != '\0')
		say(outcome, ", %s", answer->network_info);
}

static enum status exchange(struct vault_session *session, struct https_answer *answer,
			    struct vault_outcome *outcome, struct https_request *request,
			    uint64_t deadline_ms)
{
	uint64_t left_ms = MAXIMUM(clock_left_ms(deadline_ms), EXCHANGE_TIME_MIN_MS);
	enum status status;

	request->timeout_ms = MINIMUM(left_ms, session->exchange_timeout_ms);
	request->connect_timeout_ms = request->timeout_ms;
	status = https_exchange(session->https, answer, request);
	outcome->exchanges++;
	outcome->waited_ms += answer->duration_ms;
	outcome->retry_after_ms = answer->has_retry_after ? answer->retry_after_ms : 0;
	return status;
}

/* --- tokens --- */

static bool is_for(const char *resource, const char *client_id,
		   const struct vault_operation *operation)
{
	return resource != NULL && strcmp(resource, operation->key.resource) == 0 &&
	       strcasecmp(client_id, operation->client_id) == 0;
}

/* NULL: none is held. */
static struct vault_token *find_token(struct vault_tokens *tokens,
				      const struct vault_operation *operation)
{
	for (size_t i = 0; i < VAULT_TOKENS_MAX; i++)
		if (is_for(tokens->held[i].resource, tokens->held[i].client_id, operation))
			return &tokens->held[i];
	return NULL;
}

/* Its own, or the oldest one's; one that is free is older than any. */
static struct vault_token *find_place(struct vault_tokens *tokens,
				      const struct vault_operation *operation)
{
	struct vault_token *place = find_token(tokens, operation);

	if (place != NULL)
		return place;
	place = &tokens->held[0];
	for (size_t i = 1; i < VAULT_TOKENS_MAX; i++)
		if (tokens->held[i].asked_ms < place->asked_ms)
			place = &tokens->held[i];
	return place;
}

struct token_source {
	const char *name; /* for people */
	enum status nonsense;
	enum status (*check)(const struct identity_settings *settings);
	enum status (*write)(struct identity_question *question,
			     const struct identity_settings *settings, const char *client_id,
			     const char *resource);
	void (*read_refusal)(struct identity_refusal *refusal, int http_status, const char *body,
			     size_t body_size);
	enum status (*transport_status)(enum status https_status);
};

enum { FROM_IMDS, FROM_ENTRA };

static const struct token_source sources[] = {
	[FROM_IMDS] = {"IMDS", FAIL_IMDS_ANSWER, identity_check, identity_write,
		       identity_read_refusal, identity_transport_status},
#if CONFIG_WORKLOAD_IDENTITY
	[FROM_ENTRA] = {"Entra ID", FAIL_LOGIN_ANSWER, workload_identity_check,
			workload_identity_write, workload_identity_read_refusal,
			workload_identity_transport_status},
#endif
};

enum status vault_attempt_choose_source(struct vault_session *session)
{
	const size_t place = session->settings.token_file[0] != '\0' ? FROM_ENTRA : FROM_IMDS;

	if (place >= ARRAY_COUNT(sources))
		return FAIL_FEATURE_OFF;
	session->source = &sources[place];
	TRY(sources[FROM_IMDS].check(&session->settings)); /* it has the user data, too */
	return session->source->check(&session->settings);
}

/* OK only with a whole answer of 200. */
static enum status ask_source(struct vault_session *session, struct https_answer *answer,
			      struct vault_outcome *outcome, struct https_request *request,
			      const struct token_source *source, uint64_t deadline_ms)
{
	struct identity_refusal refusal;
	enum status status = exchange(session, answer, outcome, request, deadline_ms);

	say_answer(outcome, source->name, answer);
	if (status != OK) {
		outcome->is_transient = keyvault_transport_is_transient(status);
		return source->transport_status(status);
	}
	if (answer->http_status == 200)
		return OK;
	source->read_refusal(&refusal, answer->http_status, answer->body, answer->body_size);
	say_word(outcome, refusal.code);
	outcome->is_transient = refusal.is_transient;
	return refusal.status;
}

/* Its life is counted from before it was asked for, and by a clock that nobody sets. */
static enum status ask_for_token(struct vault_session *session, struct vault_outcome *outcome,
				 const struct vault_operation *operation, uint64_t deadline_ms)
{
	struct vault_token *fresh = &session->token;
	const struct token_source *source = session->source;
	struct identity_question *question = &session->tokens->question;
	struct https_request request = {.url = question->url};
	struct https_answer answer;
	uint64_t asked_ms = clock_now_ms();
	enum status status = source->write(question, &session->settings, operation->client_id,
					   operation->key.resource);

	if (question->form_size > 0) {
		request.body = question->form;
		request.body_size = question->form_size;
	}
	request.is_form = request.is_for_other = request.body != NULL;
	request.is_for_metadata = request.body == NULL;
	if (status == OK)
		status = ask_source(session, &answer, outcome, &request, source, deadline_ms);
	secret_wipe_bytes(question, sizeof(*question));
	TRY(status);
	status = identity_read_grant(&fresh->grant, answer.body, answer.body_size,
				     operation->client_id, operation->key.resource);
	if (status != OK)
		status = source->nonsense;
	https_wipe_body(session->https);
	strcpy(fresh->client_id, operation->client_id);
	fresh->resource = operation->key.resource;
	fresh->asked_ms = asked_ms;
	fresh->refresh_ms = asked_ms + fresh->grant.lifetime_s * 500;
	fresh->expires_ms = asked_ms + fresh->grant.lifetime_s * 900;
	return status;
}

static void lock(struct vault_tokens *tokens)
{
	CHECK(pthread_mutex_lock(&tokens->mutex) == 0);
}

static void unlock(struct vault_tokens *tokens)
{
	CHECK(pthread_mutex_unlock(&tokens->mutex) == 0);
}

/* With the mutex, but for the question itself. */
static enum status refresh_token(struct vault_session *session, struct vault_outcome *outcome,
				 const struct vault_operation *operation, uint64_t deadline_ms)
{
	struct vault_tokens *tokens = session->tokens;
	struct vault_token *held;
	enum status status;

	tokens->is_asked_for = true;
	unlock(tokens);
	status = ask_for_token(session, outcome, operation, deadline_ms);
	lock(tokens);
	tokens->is_asked_for = false;
	CHECK(pthread_cond_broadcast(&tokens->changed) == 0);
	if (status == OK) {
		*find_place(tokens, operation) = session->token;
		return OK;
	}
	held = find_token(tokens, operation);
	if (held != NULL && clock_left_ms(held->expires_ms) > 0) {
		held->refresh_ms = clock_now_ms() + REFRESH_PAUSE_MS;
		session->token = *held;
		return OK;
	}
	tokens->failures++;
	tokens->failed = *outcome;
	tokens->failed.status = status;
	tokens->failed_resource = operation->key.resource;
	strcpy(tokens->failed_client_id, operation->client_id);
	return status;
}

/* Waits for another session's question, and has its failure; true if that was for the same token.
 */
static bool shares_failure(struct vault_tokens *tokens, struct vault_outcome *outcome,
			   const struct vault_operation *operation)
{
	const uint64_t failures = tokens->failures;

	CHECK(pthread_cond_wait(&tokens->changed, &tokens->mutex) == 0);
	if (tokens->failures == failures ||
	    !is_for(tokens->failed_resource, tokens->failed_client_id, operation))
		return false;
	*outcome = tokens->failed;
	outcome->exchanges = 0;
	outcome->waited_ms = 0;
	return true;
}

/* Makes sure that the session's token can be used now. */
static enum status get_token(struct vault_session *session, struct vault_outcome *outcome,
			     const struct vault_operation *operation, uint64_t deadline_ms)
{
	struct vault_tokens *tokens = session->tokens;
	enum status status = OK;

	lock(tokens);
	for (;;) {
		const struct vault_token *held = find_token(tokens, operation);

		if (held != NULL && clock_left_ms(held->expires_ms) > 0 &&
		    (tokens->is_asked_for || clock_left_ms(held->refresh_ms) > 0)) {
			session->token = *held;
			break;
		}
		if (!tokens->is_asked_for) {
			status = refresh_token(session, outcome, operation, deadline_ms);
			break;
		}
		if (shares_failure(tokens, outcome, operation)) {
			status = outcome->status;
			break;
		}
	}
	unlock(tokens);
	return status;
}

/* The vault does not like it; unless somebody else has got another one since. */
static void drop_token(struct vault_session *session, const struct vault_operation *operation)
{
	struct vault_token *held;

	lock(session->tokens);
	held = find_token(session->tokens, operation);
	if (held != NULL && held->asked_ms == session->token.asked_ms)
		secret_wipe_bytes(held, sizeof(*held));
	unlock(session->tokens);
}

/* --- the vault --- */

static void write_request(struct vault_session *session, struct https_request *request,
			  char url[static KEYVAULT_URL_SIZE],
			  const struct vault_operation *operation)
{
	CHECK(operation->operation != AGENT_TOKEN);
	request->url = url;
	if (operation->operation == AGENT_GET_KEY) {
		keyvault_get_url(url, &operation->key);
		return;
	}
	request->body = session->request_body;
	if (operation->operation == AGENT_WRAP) {
		keyvault_wrap_url(url, &operation->key);
		request->body_size = keyvault_wrap_body(session->request_body, operation->algorithm,
							operation->secret);
	} else {
		keyvault_unwrap_url(url, &operation->key);
		request->body_size =
			keyvault_unwrap_body(session->request_body, operation->wrapped);
	}
}

static enum status read_key(struct message_agent_answer *answer, const struct key_url *asked,
			    const char *body, size_t body_size)
{
	struct keyvault_key key;

	TRY(keyvault_read_key(&key, asked, body, body_size));
	key_url_format(answer->kid, &key.id);
	answer->key_bits = key.bits;
	answer->enabled = key.is_enabled;
	answer->not_before_s = key.not_before_s;
	answer->expires_s = key.expires_s;
	answer->has_expired = key.expires_s != 0 && clock_wall_s() >= key.expires_s;
	return OK;
}

static enum status read_answer(struct message_agent_answer *answer,
			       const struct vault_operation *operation, const char *body,
			       size_t body_size)
{
	struct key_url used;

	if (operation->operation == AGENT_GET_KEY)
		return read_key(answer, &operation->key, body, body_size);
	if (operation->operation == AGENT_WRAP) {
		TRY(keyvault_read_wrapped(answer->wrapped, &used, &operation->key, body,
					  body_size));
		if (!is_wrapped_by(operation->algorithm, answer->wrapped))
			return FAIL_ANSWER_SHAPE;
		key_url_format(answer->kid, &used);
		return OK;
	}
	TRY(keyvault_read_secret(answer->secret, &operation->key, body, body_size));
	answer->secret_size = KEYVAULT_SECRET_SIZE;
	key_url_format(answer->kid, &operation->key);
	return OK;
}

static enum status refuse(struct vault_outcome *outcome, const struct vault_operation *operation,
			  const struct https_answer *answer)
{
	struct keyvault_refusal refusal;

	keyvault_read_refusal(&refusal, answer->http_status, answer->body, answer->body_size);
	outcome->is_transient = refusal.is_transient;
	say_word(outcome, refusal.code);
	say_word(outcome, refusal.inner_code);
	say_word(outcome, refusal.akv_code);
	say_origin(outcome, answer);
	/* It names tenant and resource, which is what a 401 is about. */
	if (answer->http_status == 401 && answer->authenticate[0] != '\0')
		say(outcome, ", %s", answer->authenticate);
	/* The size of an AES key is not told: one that has not 256 bits refuses this first. */
	if (refusal.status == FAIL_VAULT_REQUEST && operation->operation == AGENT_WRAP &&
	    strcmp(operation->algorithm, KEYVAULT_ALGORITHM_AES) == 0)
		return FAIL_KEY_TYPE;
	return refusal.status;
}

static enum status ask_vault(struct vault_session *session, struct message_agent_answer *answer,
			     struct vault_outcome *outcome, const struct vault_operation *operation,
			     uint64_t deadline_ms)
{
	const struct vault_token *token = &session->token;
	char url[KEYVAULT_URL_SIZE];
	struct https_answer https_answer;
	struct https_request request = {.bearer = token->grant.token};
	enum status status;

	/* The token goes to no other cloud than the one it is for. */
	CHECK(token->resource != NULL && strcmp(token->resource, operation->key.resource) == 0);
	write_request(session, &request, url, operation);
	status = exchange(session, &https_answer, outcome, &request, deadline_ms);
	secret_wipe_bytes(session->request_body, sizeof(session->request_body));
	outcome->is_transient = false;
	say_answer(outcome, operation->key.host, &https_answer);
	if (status != OK) {
		outcome->is_transient = keyvault_transport_is_transient(status);
		return status;
	}
	if (https_answer.http_status != 200) {
		status = refuse(outcome, operation, &https_answer);
	} else {
		status = read_answer(answer, operation, https_answer.body, https_answer.body_size);
		say_origin(outcome, &https_answer);
	}
	https_wipe_body(session->https);
	return status;
}

static enum status ask_for_user_data(struct vault_session *session,
				     struct message_agent_answer *answer,
				     struct vault_outcome *outcome, uint64_t deadline_ms)
{
	char url[IDENTITY_URL_SIZE];
	struct https_request request = {.url = url, .is_for_metadata = true};
	struct https_answer https_answer;

	identity_user_data_url(url, session->settings.imds_endpoint);
	TRY(ask_source(session, &https_answer, outcome, &request, &sources[FROM_IMDS],
		       deadline_ms));
	return identity_read_user_data(answer->settings, sizeof(answer->settings),
				       https_answer.body, https_answer.body_size);
}

static enum status attempt(struct vault_session *session, struct message_agent_answer *answer,
			   struct vault_outcome *outcome, const struct vault_operation *operation,
			   uint64_t deadline_ms)
{
	enum status status;

	if (operation->operation == AGENT_USER_DATA)
		return ask_for_user_data(session, answer, outcome, deadline_ms);
	TRY(get_token(session, outcome, operation, deadline_ms));
	if (operation->operation == AGENT_TOKEN)
		return OK;
	status = ask_vault(session, answer, outcome, operation, deadline_ms);
	if (status != FAIL_VAULT_UNAUTHORIZED)
		return status;
	drop_token(session, operation);
	TRY(get_token(session, outcome, operation, deadline_ms));
	return ask_vault(session, answer, outcome, operation, deadline_ms);
}

enum status vault_attempt(struct vault_session *session, struct message_agent_answer *answer,
			  struct vault_outcome *outcome, const struct vault_operation *operation,
			  uint64_t deadline_ms)
{
	*outcome = (struct vault_outcome){0};
	outcome->status = attempt(session, answer, outcome, operation, deadline_ms);
	secret_wipe_bytes(&session->token, sizeof(session->token));
	if (outcome->status == OK)
		outcome->detail[0] = '\0';
	return outcome->status;
}
