/* What is said to Azure's instance metadata service (IMDS) to get a token of the VM's managed
 * identity, and what its answers mean. No socket, no clock.
 */
#ifndef APP_VAULT_IDENTITY_H
#define APP_VAULT_IDENTITY_H

#include "app/vault/error_code.h"
#include "platform/status.h"

#define IDENTITY_DEFAULT_ENDPOINT "http://169.254.169.254"
#define IDENTITY_URL_SIZE 512
#define IDENTITY_TOKEN_SIZE 8192 /* with its NUL; real ones have about 2000 characters */

#define IDENTITY_FILE_SIZE_MAX 8192 /* of a federated token; real ones have 1 to 2 KiB */
#define IDENTITY_FORM_SIZE (IDENTITY_FILE_SIZE_MAX + 512)

/* Who is asked for tokens, and for whom. */
struct identity_settings {
	const char *imds_endpoint;
	const char
		*token_file; /* federated; empty: managed identity, so the next two are not used */
	const char *tenant;
	const char *authority; /* https://HOST, or empty: that of the vault's cloud */
};

/* What is sent to get one. Lives in secret memory only. */
struct identity_question {
	char url[IDENTITY_URL_SIZE];
	char form[IDENTITY_FORM_SIZE]; /* to POST */
	size_t form_size;              /* 0: GET */
};

/* IMDS says that an update takes at most this long; longer is no update. */
#define IDENTITY_UPDATE_LIMIT_MS 70000

/* Whether `endpoint` is http:// with the address of IMDS or of this machine, and a port or none: a
 * token travels over it in clear text, so it may not leave the machine. */
MUST_CHECK bool identity_endpoint_is_valid(const char *endpoint);

/* Whether `client_id` is a GUID, as client ids are. */
MUST_CHECK bool identity_client_id_is_valid(const char *client_id);

/* The URL that asks `endpoint` for a token for `resource`; an empty client id leaves the choice to
 * IMDS, which works where the VM has only one identity. All three must be valid. */
void identity_token_url(char url[static IDENTITY_URL_SIZE], const char *endpoint,
			const char *client_id, const char *resource);

/* The same, as question to be asked for settings that have been checked: FAIL_CONFIG (logged) for
 * an endpoint that is not valid. */
MUST_CHECK enum status identity_check(const struct identity_settings *settings);
MUST_CHECK enum status identity_write(struct identity_question *question,
				      const struct identity_settings *settings,
				      const char *client_id, const char *resource);

/* The URL that asks `endpoint`, which must be valid, for the VM's user data: base64. */
void identity_user_data_url(char url[static IDENTITY_URL_SIZE], const char *endpoint);

/* User data may be for anybody: a script, cloud-init. Of its lines those that begin with "#byok "
 * are byok's, and are written to `settings` without that, each ended by a line feed. FAIL_CONFIG if
 * they do not fit, FAIL_IMDS_ANSWER if it is not base64. Decodes in place. */
MUST_CHECK enum status identity_read_user_data(char *settings, size_t settings_size, char *body,
					       size_t body_size);

/* Lives in secret memory only. */
struct identity_grant {
	char token[IDENTITY_TOKEN_SIZE]; /* visible ASCII only, so it can break no header */
	uint64_t lifetime_s;             /* from when it was asked for; at least 1 */
};

/* Reads a 200 answer. FAIL_IMDS_ANSWER unless it is a bearer token that is usable for `resource`
 * and, where the answer says whose it is, belongs to `client_id`. `grant` may be half written then.
 */
MUST_CHECK enum status identity_read_grant(struct identity_grant *grant, const char *body,
					   size_t body_size, const char *client_id,
					   const char *resource);

struct identity_refusal {
	enum status status;         /* never OK */
	bool is_transient;          /* may pass by itself within one operation */
	char code[ERROR_CODE_SIZE]; /* OAuth's `error`, printable; may be empty */
};

/* Reads any answer that is not 200. */
void identity_read_refusal(struct identity_refusal *refusal, int http_status, const char *body,
			   size_t body_size);

/* The word for a failed exchange with IMDS; io/https speaks of vaults. */
enum status identity_transport_status(enum status https_status);

#endif
