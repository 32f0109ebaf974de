/* What is said to Microsoft Entra ID by a workload that has no managed identity but a file with a
 * token of another issuer's, as AKS gives to pods: that token is exchanged for one for the vault
 * (OAuth 2.0 client credentials with a JWT assertion, RFC 7523). No socket. */
#ifndef APP_VAULT_WORKLOAD_IDENTITY_H
#define APP_VAULT_WORKLOAD_IDENTITY_H

#include "app/vault/identity.h"

/* FAIL_CONFIG, logged, for a setting that it cannot have. */
MUST_CHECK enum status workload_identity_check(const struct identity_settings *settings);

/* Writes the URL and the form, which holds the assertion as the file has it now. The settings must
 * have been checked. FAIL_LOGIN_CLIENT without a client id; FAIL_LOGIN_TOKEN_FILE if the file
 * cannot be read (logged) or holds no JWT, and then nothing of it is left in the form. */
MUST_CHECK enum status workload_identity_write(struct identity_question *question,
					       const struct identity_settings *settings,
					       const char *client_id, const char *resource);

/* As those of identity.h. A 200 answer is read by identity_read_grant. */
void workload_identity_read_refusal(struct identity_refusal *refusal, int http_status,
				    const char *body, size_t body_size);
enum status workload_identity_transport_status(enum status https_status);

#endif
