/* One attempt at one operation with the customer's key: a token from the managed identity, or the
 * one that is held, then one exchange with the vault. When to try again is not decided here.
 *
 * All of this lives in secret memory: tokens, and requests and answers with the slot secret.
 */
#ifndef APP_VAULT_VAULT_ATTEMPT_H
#define APP_VAULT_VAULT_ATTEMPT_H

#include <pthread.h>

#include "app/messages.h"
#include "app/vault/identity.h"
#include "app/vault/keyvault.h"
#include "io/https.h"

#define VAULT_TOKENS_MAX 4 /* identities times clouds; beyond it the oldest is forgotten */
#define VAULT_CLIENT_ID_SIZE 37

struct vault_token {
	char client_id[VAULT_CLIENT_ID_SIZE];
	const char *resource; /* NULL: no token is held here */
	uint64_t asked_ms;    /* all three by clock_now_ms */
	uint64_t refresh_ms;  /* from then on a fresh one is asked for */
	uint64_t expires_ms;  /* from then on it is not used any more */
	struct identity_grant grant;
};

/* What one thread makes its attempts with. */
struct vault_session {
	struct https_client *https;  /* kept */
	struct vault_tokens *tokens; /* kept */
	const struct token_source *source;
	struct identity_settings settings; /* kept */
	uint64_t exchange_timeout_ms;
	struct vault_token token; /* a copy of the one that is used now, or what will be one */
	char request_body[KEYVAULT_BODY_SIZE];
};

struct vault_operation {
	enum agent_operation operation;
	struct key_url key;
	char client_id[VAULT_CLIENT_ID_SIZE]; /* empty: the VM's only identity */
	char wrapped[KEYVAULT_WRAPPED_SIZE];
	uint8_t secret[KEYVAULT_SECRET_SIZE];
	const char *algorithm; /* of a wrap or unwrap; static */
};

struct vault_outcome {
	enum status status;
	bool is_transient;              /* may pass by itself: worth another attempt */
	uint64_t retry_after_ms;        /* asked for by the other side; 0: nothing */
	uint32_t exchanges;             /* made, with IMDS and vault */
	uint64_t waited_ms;             /* for their answers */
	char detail[MESSAGE_TEXT_SIZE]; /* who said what; printable, no secret */
};

/* Of all sessions of a process. One at a time asks for one, and those who cannot do without it wait
 * for what that comes to, so that it is asked for once; nobody has the mutex meanwhile. */
struct vault_tokens {
	pthread_mutex_t mutex; /* for all below */
	pthread_cond_t changed;
	bool is_asked_for;
	struct identity_question question; /* of who asks */
	struct vault_token held[VAULT_TOKENS_MAX];
	uint64_t failures;           /* of questions without an older token to go on with */
	struct vault_outcome failed; /* what the last of them came to, and what it was for */
	const char *failed_resource;
	char failed_client_id[VAULT_CLIENT_ID_SIZE];
};

/* Chooses by the settings where tokens come from. FAIL_CONFIG (logged) for one that cannot be,
 * FAIL_FEATURE_OFF for a source that this build does not have. */
MUST_CHECK enum status vault_attempt_choose_source(struct vault_session *session);

/* Checks a request from the supervisor, of which nothing is trusted: FAIL_MESSAGE, FAIL_KEY_URL...,
 * FAIL_KEY_URL_VERSIONLESS for an unwrap without version, FAIL_CONFIG for a client id that is none,
 * FAIL_TOKEN for an algorithm or a wrapped secret that cannot be ours. */
MUST_CHECK enum status vault_operation_read(struct vault_operation *operation,
					    const struct message_agent_request *request);

/* Makes the attempt and fills in the fields of `answer` that the operation gives. `outcome` is
 * always filled in, its status the returned one. Takes at most what is left until `deadline_ms` (of
 * clock_now_ms), a second more for each exchange (a token, the vault, and both again if the vault
 * does not like the first token), and what another session's question for a token takes. */
enum status vault_attempt(struct vault_session *session, struct message_agent_answer *answer,
			  struct vault_outcome *outcome, const struct vault_operation *operation,
			  uint64_t deadline_ms);

#endif
