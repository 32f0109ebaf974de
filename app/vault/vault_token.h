/* The LUKS2 token "byok-akv" (design §5): which key of the customer's wraps the secret of which
 * keyslot. Pure: text in, text out. What the token says is hostile input; here it is only known to
 * be well formed. */
#ifndef APP_VAULT_VAULT_TOKEN_H
#define APP_VAULT_VAULT_TOKEN_H

#include "crypto/luks2_metadata.h"

#define VAULT_TOKEN_TYPE "byok-akv"
#define VAULT_TOKEN_KID_SIZE 256     /* with the NUL, as all of these */
#define VAULT_TOKEN_WRAPPED_SIZE 704 /* base64url of 512 bytes (RSA-4096) has 683 characters */
#define VAULT_TOKEN_JSON_SIZE 4096

/* One wrapping of the slot secret. All texts are printable ASCII. */
struct vault_wrapping {
	char kid[VAULT_TOKEN_KID_SIZE];         /* key id with version */
	char algorithm[32];                     /* "RSA-OAEP-256" */
	char wrapped[VAULT_TOKEN_WRAPPED_SIZE]; /* base64url */
};

struct vault_token {
	unsigned keyslot;
	struct vault_wrapping current;
	struct vault_wrapping previous; /* while the new key is not proved; kid "": none */
	char identity[64];              /* client id of the managed identity; may be empty */
	char created[32];               /* RFC 3339 */
};

/* The byok token with the lowest number. FAIL_NO_VAULT_TOKEN if there is none; FAIL_TOKEN if a
 * field is missing, too long, not printable, or the token does not name exactly one keyslot. */
MUST_CHECK enum status vault_token_find(struct vault_token *token, unsigned *number,
					const struct luks2_metadata *metadata,
					const struct luks2_text *text, struct luks2_nodes *nodes);

/* The token as a JSON object. FAIL_TOKEN if it would not be read back. */
MUST_CHECK enum status vault_token_encode(char json[static VAULT_TOKEN_JSON_SIZE], size_t *length,
					  const struct vault_token *token);

/* Brings token `number` in the text to what `token` says, member by member: members that others
 * added stay. */
MUST_CHECK enum status vault_token_edit(struct luks2_text *text, struct luks2_nodes *nodes,
					unsigned number, const struct vault_token *token);

#endif
