/* What is said to Azure Key Vault and Managed HSM, and what their answers mean. Pure: no socket, no
 * clock. Requests to wrap and answers to unwrap hold the slot secret: both live in secret memory,
 * and whatever these functions copy of them on the way is wiped.
 */
#ifndef APP_VAULT_KEYVAULT_H
#define APP_VAULT_KEYVAULT_H

#include "app/vault/error_code.h"
#include "app/vault/key_url.h"
#include "crypto/base64.h"

#define KEYVAULT_API_VERSION "7.4"
#define KEYVAULT_ALGORITHM "RSA-OAEP-256"
#define KEYVAULT_ALGORITHM_AES "A256KW" /* RFC 3394; only oct-HSM keys, of managed HSMs */

#define KEYVAULT_URL_SIZE (KEY_URL_TEXT_SIZE + 48)
#define KEYVAULT_SECRET_SIZE 32
#define KEYVAULT_WRAPPED_BYTES_MAX 512 /* RSA-4096 */
#define KEYVAULT_WRAPPED_SIZE 704      /* the same as base64url with its NUL, and some room */
#define KEYVAULT_BODY_SIZE 1024        /* of a request */

/* The URLs of the three operations. An unwrap needs the version; the others take the newest one
 * without it. */
void keyvault_get_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key);
void keyvault_wrap_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key);
void keyvault_unwrap_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key);

/* How a key of so many bits (as of keyvault_read_key or keyvault_wrapped_bits) wraps. */
const char *keyvault_algorithm(uint32_t bits);

/* The body of a wrap request by one of the two algorithms; returns its length. */
size_t keyvault_wrap_body(char body[static KEYVAULT_BODY_SIZE], const char *algorithm,
			  const uint8_t secret[static KEYVAULT_SECRET_SIZE]);

/* Whether `wrapped` is base64url of as many bytes as RSA-2048, 3072 or 4096 gives, or A256KW of a
 * slot secret. */
MUST_CHECK bool keyvault_wrapped_is_valid(const char *wrapped);

/* Of the RSA key that has wrapped it; 0: it was an AES key. */
uint32_t keyvault_wrapped_bits(const char *wrapped);

/* The body of an unwrap request for a valid `wrapped`; returns its length. */
size_t keyvault_unwrap_body(char body[static KEYVAULT_BODY_SIZE], const char *wrapped);

struct keyvault_key {
	struct key_url id; /* with the version that was looked at */
	uint32_t bits;
	bool is_enabled;
	int64_t not_before_s; /* 0: none */
	int64_t expires_s;    /* 0: none */
};

/* Reads a 200 answer to a GET of `asked`, and refuses keys that byok must not use at all:
 *   FAIL_ANSWER_SYNTAX, FAIL_ANSWER_SHAPE  not JSON; JSON of another shape
 *   FAIL_KEY_ID          another key, or another version than asked
 *   FAIL_KEY_TYPE        neither RSA of 2048, 3072 or 4096 bits nor oct-HSM, whose size the answer
 *                        does not tell: 256 bits is what it must be
 *   FAIL_KEY_OPERATIONS  wrapKey and unwrapKey are not both permitted
 *   FAIL_KEY_PURGEABLE   recoveryLevel is not one of the four with purge protection */
MUST_CHECK enum status keyvault_read_key(struct keyvault_key *key, const struct key_url *asked,
					 const char *body, size_t body_size);

/* Whether something new may be wrapped by a key with these attributes at `now_s`:
 * FAIL_KEY_DISABLED, FAIL_KEY_NOT_YET_VALID, FAIL_KEY_EXPIRED. What is wrapped already unwraps
 * whatever the dates. */
MUST_CHECK enum status keyvault_may_wrap(bool is_enabled, int64_t not_before_s, int64_t expires_s,
					 int64_t now_s);

/* Reads a 200 answer to a wrap by `asked`. `used` names the version that was used, `wrapped` is
 * base64url without padding. FAIL_ANSWER_SYNTAX, FAIL_ANSWER_SHAPE, FAIL_KEY_ID as above. */
MUST_CHECK enum status keyvault_read_wrapped(char wrapped[static KEYVAULT_WRAPPED_SIZE],
					     struct key_url *used, const struct key_url *asked,
					     const char *body, size_t body_size);

/* Reads a 200 answer to an unwrap by `asked`. Also FAIL_WRAPPED_MISMATCH if what was unwrapped has
 * another size than a slot secret. */
MUST_CHECK enum status keyvault_read_secret(uint8_t secret[static KEYVAULT_SECRET_SIZE],
					    const struct key_url *asked, const char *body,
					    size_t body_size);

struct keyvault_refusal {
	enum status status; /* never OK */
	bool is_transient;  /* may pass by itself within one operation */
	/* Printable, may be empty. The message of the vault is not kept: it can quote the request.
	 */
	char code[ERROR_CODE_SIZE];       /* error.code */
	char inner_code[ERROR_CODE_SIZE]; /* of the innererror that decided, or the outermost */
	char akv_code[ERROR_CODE_SIZE];   /* "AKV10032", if the message begins with one */
};

/* Reads any answer that is not 200. */
void keyvault_read_refusal(struct keyvault_refusal *refusal, int http_status, const char *body,
			   size_t body_size);

/* Whether a failed exchange (a status of https_exchange) may pass by itself within one operation.
 */
MUST_CHECK bool keyvault_transport_is_transient(enum status https_status);

#endif
