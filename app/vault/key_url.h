/* The address of a customer's key: https://NAME.vault.azure.net/keys/KEY[/VERSION]. Pure.
 *
 * Only the six host suffixes of Azure's public, China and US government clouds are accepted, each
 * with a dot in front, because a bearer token goes to this host. The token's resource comes from
 * the same table, never from what a server says.
 */
#ifndef APP_VAULT_KEY_URL_H
#define APP_VAULT_KEY_URL_H

#include "platform/status.h"

#define KEY_URL_HOST_SIZE 56  /* 24 + "." + the longest suffix + NUL */
#define KEY_URL_NAME_SIZE 128 /* 127 + NUL */
#define KEY_URL_VERSION_LENGTH 32
#define KEY_URL_TEXT_SIZE 256 /* room for any of them written out, with NUL */

struct key_url {
	char host[KEY_URL_HOST_SIZE]; /* lower case, no port */
	char name[KEY_URL_NAME_SIZE]; /* as it was written; names are case-insensitive */
	char version[KEY_URL_VERSION_LENGTH + 1]; /* lower case; empty: the newest version */
	const char *resource; /* what a token for this host is asked for; static */
};

/* Reads `text`. Port 443 and letters of either case are accepted and normalised; user, query and
 * fragment are not. A URL without version is accepted: the caller decides whether that will do.
 *   FAIL_KEY_URL         malformed in any other way
 *   FAIL_KEY_URL_SCHEME  does not begin with https://
 *   FAIL_KEY_URL_SUFFIX  looks like a vault or managed HSM, but in a cloud that is not in the table
 *   FAIL_KEY_URL_HOST    not a vault at all */
MUST_CHECK enum status key_url_parse(struct key_url *url, const char *text);

/* Writes the normal form, which key_url_parse reads back to the same. */
void key_url_format(char text[static KEY_URL_TEXT_SIZE], const struct key_url *url);

bool key_url_has_version(const struct key_url *url);

/* Whether both name the same key, whatever the versions; and the same version of it. */
MUST_CHECK bool key_url_same_key(const struct key_url *a, const struct key_url *b);
MUST_CHECK bool key_url_equal(const struct key_url *a, const struct key_url *b);

#endif
