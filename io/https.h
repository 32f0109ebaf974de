/* One bounded HTTP exchange at a time: https to a vault, or http to the instance metadata service.
 * The only owner of libcurl. Knows nothing of what is said.
 *
 * Each exchange is bounded in time and size, follows no redirect, uses no proxy but the one that it
 * is given for https (whatever the environment says), no cookie and no ~/.netrc, and checks the
 * server's name and certificate against the given roots. TLS 1.2 with forward secrecy. Connections
 * are kept open between exchanges, and each new one is verified in full.
 *
 * Tokens and unwrapped secrets pass through here: all memory of libcurl and of the answers is
 * locked, and wiped when it is given back.
 *
 * Each client is used by one thread (libcurl has one more for each, which only looks up names);
 * they are opened and closed by one.
 */
#ifndef IO_HTTPS_H
#define IO_HTTPS_H

#include "platform/secret_heap.h"

#define HTTPS_HEADER_VALUE_SIZE 256
#define HTTPS_CAUSE_SIZE 160

struct https_options {
	const char *roots_pem; /* certificates that are trusted, as PEM; kept until close */
	size_t roots_size;
	const char *connect_to; /* HOST:PORT that the vault's go to; kept; NULL: the URL's */
	const char *proxy;      /* HOST:PORT that is asked to make them; kept; NULL: none */
	size_t body_size_max;   /* of an answer: more is FAIL_ANSWER_TOO_LARGE */
	unsigned client_count;  /* of this process at most; counts when the first one is opened */
};

struct https_client {
	bool is_open;
	void *handle;     /* CURL */
	void *multi;      /* CURLM: what keeps connections open */
	void *connect_to; /* struct curl_slist: where libcurl is to connect to; NULL: to the URL's
			   */
	const struct https_options *options;
	char *body; /* of the last answer; grows as needed; NULL: none */
	size_t body_capacity;
};

struct https_request {
	const char *url;    /* https://..., or http:// to 169.254.169.254 or 127.0.0.1 */
	const char *bearer; /* secret; only with https; NULL: none */
	const char *body;   /* secret; JSON or a form to POST; NULL: GET */
	size_t body_size;
	bool is_form;                /* the body is no JSON but a form */
	bool is_for_other;           /* than the vault: connect_to is not for it, the proxy is */
	bool is_for_metadata;        /* adds the header that IMDS asks for */
	uint64_t connect_timeout_ms; /* for name, connection and TLS together */
	uint64_t timeout_ms;         /* for all */
};

/* What came back. Texts are empty where the header was not there; they are printable. */
struct https_answer {
	int http_status; /* 0: none came */
	char *body; /* in locked memory, until the next exchange or wipe; with OK it ends with a NUL
		     */
	size_t body_size;
	bool has_retry_after;
	uint64_t retry_after_ms; /* a date in it was taken relative to the answer's own Date */
	char request_id[HTTPS_HEADER_VALUE_SIZE];   /* x-ms-request-id */
	char network_info[HTTPS_HEADER_VALUE_SIZE]; /* x-ms-keyvault-network-info */
	char authenticate[HTTPS_HEADER_VALUE_SIZE]; /* WWW-Authenticate */
	int64_t date_s;                             /* Date; 0: none */
	char cause[HTTPS_CAUSE_SIZE];               /* on failure: what libcurl says about it */
	uint64_t duration_ms;
};

/* Whether `text` is HOST:PORT, with an IPv6 address in brackets. */
MUST_CHECK bool https_address_is_valid(const char *text);

/* Starts libcurl in locked memory; `options` is kept. FAIL_OUT_OF_MEMORY; FAIL_CONFIG for a bad
 * connect_to or proxy. */
MUST_CHECK enum status https_open(struct https_client *client, const struct https_options *options);
void https_close(struct https_client *client); /* harmless if never opened */

/* OK when an answer came whole, whatever its HTTP status. `answer` is filled in as far as it came
 * on failure, too; its body then is empty. FAIL_VAULT_NAME, FAIL_VAULT_UNREACHABLE,
 * FAIL_VAULT_TIMEOUT   no name, no connection, no answer FAIL_TLS_NAME, FAIL_TLS_AUTHORITY,
 * FAIL_TLS_DATE, FAIL_TLS    no TLS that can be trusted FAIL_VAULT_REDIRECT   any 3xx
 *   FAIL_ANSWER_TOO_LARGE, FAIL_ANSWER_CUT, FAIL_ANSWER_SYNTAX    (the last: it is not HTTP)
 *   FAIL_PROXY_...        those of proxy_tunnel_open; FAIL_PROXY_UNREACHABLE also without its name
 *   FAIL_CONFIG           the roots are no certificates
 *   FAIL_OUT_OF_MEMORY, FAIL_SYSTEM */
MUST_CHECK enum status https_exchange(struct https_client *client, struct https_answer *answer,
				      const struct https_request *request);

/* Overwrites the last answer's body. */
void https_wipe_body(struct https_client *client);

/* Pure: the seconds since 1970 of an HTTP date in its preferred form (RFC 9110 §5.6.7, "Sun, 06 Nov
 * 1994 08:49:37 GMT"); false for anything else. */
MUST_CHECK bool https_parse_date(int64_t *seconds, const char *text);

/* Pure: the wait that a Retry-After asks for, at most an hour; false for nonsense. */
MUST_CHECK bool https_parse_retry_after(uint64_t *wait_ms, const char *text, int64_t now_s);

/* The locked memory that so many clients take, with a thread for each that looks a name up. */
size_t https_memory(const struct https_options *options);

/* The most locked memory that libcurl has used so far. */
size_t https_peak_memory(void);

#endif
