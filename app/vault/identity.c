#include "app/vault/identity.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "crypto/base64.h"
#include "platform/json.h"
#include "platform/log.h"

#define TOKEN_PATH "/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
#define USER_DATA_PATH "/metadata/instance/compute/userData?api-version=2021-01-01&format=text"
#define USER_DATA_MARK "#byok "
#define NODES_MAX 128

/* A day is what Azure gives; what is far longer is no lifetime. */
#define LIFETIME_MAX_S (30 * 24 * 3600u)

bool identity_endpoint_is_valid(const char *endpoint)
{
	static const char *const hosts[] = {"http://169.254.169.254", "http://127.0.0.1"};

	for (size_t i = 0; i < ARRAY_COUNT(hosts); i++) {
		const char *port = endpoint + strlen(hosts[i]);
		size_t digits;

		if (strncmp(endpoint, hosts[i], strlen(hosts[i])) != 0)
			continue;
		if (*port == '\0')
			return true;
		digits = strspn(port + 1, "0123456789");
		return *port == ':' && digits > 0 && digits <= 5 && port[1 + digits] == '\0';
	}
	return false;
}

bool identity_client_id_is_valid(const char *client_id)
{
	static const char pattern[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(client_id) != strlen(pattern))
		return false;
	for (size_t i = 0; i < strlen(pattern); i++) {
		if (pattern[i] == '-' && client_id[i] != '-')
			return false;
		if (pattern[i] == 'x' && strspn(client_id + i, "0123456789abcdefABCDEF") == 0)
			return false;
	}
	return true;
}

void identity_token_url(char url[static IDENTITY_URL_SIZE], const char *endpoint,
			const char *client_id, const char *resource)
{
	static const char scheme[] = "https://";
	int length;

	CHECK(identity_endpoint_is_valid(endpoint));
	CHECK(client_id[0] == '\0' || identity_client_id_is_valid(client_id));
	/* Of all that is in the table of resources, only this needs escapes. */
	CHECK(strncmp(resource, scheme, strlen(scheme)) == 0);
	length = snprintf(url, IDENTITY_URL_SIZE, "%s" TOKEN_PATH "https%%3A%%2F%%2F%s%s%s",
			  endpoint, resource + strlen(scheme),
			  client_id[0] == '\0' ? "" : "&client_id=", client_id);
	CHECK(length > 0 && length < IDENTITY_URL_SIZE);
}

enum status identity_check(const struct identity_settings *settings)
{
	if (identity_endpoint_is_valid(settings->imds_endpoint))
		return OK;
	log_error("imds_endpoint cannot be \"%s\"", settings->imds_endpoint);
	return FAIL_CONFIG;
}

enum status identity_write(struct identity_question *question,
			   const struct identity_settings *settings, const char *client_id,
			   const char *resource)
{
	identity_token_url(question->url, settings->imds_endpoint, client_id, resource);
	question->form_size = 0;
	return OK;
}

void identity_user_data_url(char url[static IDENTITY_URL_SIZE], const char *endpoint)
{
	CHECK(identity_endpoint_is_valid(endpoint));
	snprintf(url, IDENTITY_URL_SIZE, "%s" USER_DATA_PATH, endpoint);
}

enum status identity_read_user_data(char *settings, size_t settings_size, char *body,
				    size_t body_size)
{
	const size_t mark = strlen(USER_DATA_MARK);
	const char *line = body, *end;
	size_t size, used = 0;

	/* No byte is written before the character that it comes from has been read. */
	if (!base64_decode(body, &size, body_size, body, body_size, BASE64_STANDARD))
		return FAIL_IMDS_ANSWER;
	for (end = body + size; line < end;) {
		const char *feed = memchr(line, '\n', (size_t)(end - line));
		size_t length = (size_t)((feed != NULL ? feed : end) - line);

		if (length > mark && strncmp(line, USER_DATA_MARK, mark) == 0) {
			if (length - mark + 2 > settings_size - used)
				return FAIL_CONFIG;
			memcpy(settings + used, line + mark, length - mark);
			used += length - mark;
			settings[used++] = '\n';
		}
		line += length + 1;
	}
	settings[used] = '\0';
	return memchr(settings, '\0', used) == NULL ? OK : FAIL_CONFIG;
}

/* A number, or its digits as a string: Azure sends the latter, its imitations the former. */
static bool read_lifetime(const struct json_document *document, uint64_t *lifetime_s)
{
	uint32_t node = json_member(document, JSON_ROOT, "expires_in");

	if (!json_u64(document, node, lifetime_s) && !json_u64_string(document, node, lifetime_s))
		return false;
	return *lifetime_s >= 1 && *lifetime_s <= LIFETIME_MAX_S;
}

/* True also if there is no such member: then nothing contradicts. */
static bool member_agrees(const struct json_document *document, const char *name,
			  const char *expected)
{
	uint32_t node = json_member(document, JSON_ROOT, name);
	char text[256];
	size_t length;

	if (node == JSON_NONE)
		return true;
	if (!json_string_copy(document, node, text, sizeof(text)))
		return false;
	length = strlen(text);
	/* IMDS echoes a resource with or without its last slash. */
	if (length > 0 && text[length - 1] == '/')
		text[length - 1] = '\0';
	return strcasecmp(text, expected) == 0;
}

static bool token_is_valid(const char *token)
{
	if (token[0] == '\0')
		return false;
	for (; *token != '\0'; token++)
		if (*token <= 0x20 || *token > 0x7e)
			return false;
	return true;
}

enum status identity_read_grant(struct identity_grant *grant, const char *body, size_t body_size,
				const char *client_id, const char *resource)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;

	if (!json_parse(&document, nodes, ARRAY_COUNT(nodes), body, body_size) ||
	    !json_is(&document, JSON_ROOT, JSON_OBJECT))
		return FAIL_IMDS_ANSWER;
	if (!json_string_copy(&document, json_member(&document, JSON_ROOT, "access_token"),
			      grant->token, sizeof(grant->token)) ||
	    !token_is_valid(grant->token) || !read_lifetime(&document, &grant->lifetime_s))
		return FAIL_IMDS_ANSWER;
	if (!member_agrees(&document, "token_type", "Bearer") ||
	    !member_agrees(&document, "resource", resource) ||
	    (client_id[0] != '\0' && !member_agrees(&document, "client_id", client_id)))
		return FAIL_IMDS_ANSWER;
	return OK;
}

/* The description of an error. The documentation asks not to decide by it, but nothing else tells
 * these three causes of a 400 apart. */
static bool description_holds(const struct json_document *document, const char *words)
{
	uint32_t node = json_member(document, JSON_ROOT, "error_description");
	struct json_span span;

	if (!json_is(document, node, JSON_STRING))
		return false;
	span = json_span(document, node);
	return memmem(document->text + span.offset, span.length, words, strlen(words)) != NULL;
}

static void read_bad_request(struct identity_refusal *refusal, const struct json_document *document)
{
	refusal->status = FAIL_IMDS_REFUSED;
	/* An identity that was assigned a moment ago is not found for a while. */
	if (description_holds(document, "Identity not found")) {
		refusal->status = FAIL_IDENTITY_NONE;
		refusal->is_transient = true;
	} else if (description_holds(document, "Multiple user assigned identities")) {
		refusal->status = FAIL_IDENTITY_AMBIGUOUS;
	} else {
		/* Young VMs have seen a 400 that went away; these codes are about the request. */
		refusal->is_transient = strcmp(refusal->code, "bad_request_102") != 0 &&
					strcmp(refusal->code, "invalid_resource") != 0 &&
					strcmp(refusal->code, "unauthorized_client") != 0 &&
					strcmp(refusal->code, "access_denied") != 0;
	}
}

void identity_read_refusal(struct identity_refusal *refusal, int http_status, const char *body,
			   size_t body_size)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;

	error_code_parse(&document, nodes, ARRAY_COUNT(nodes), body, body_size);
	*refusal = (struct identity_refusal){.status = FAIL_IMDS_REFUSED};
	error_code_copy(refusal->code, &document, json_member(&document, JSON_ROOT, "error"));
	if (http_status == 400) {
		read_bad_request(refusal, &document);
		return;
	}
	refusal->is_transient = true;
	if (http_status == 404 || http_status == 410)
		refusal->status = FAIL_IMDS_UPDATING;
	else if (http_status == 408)
		refusal->status = FAIL_IMDS_TIMEOUT;
	else if (http_status == 429)
		refusal->status = FAIL_IMDS_THROTTLED;
	else if (http_status >= 500 && http_status <= 599)
		refusal->status = FAIL_IMDS_ERROR;
	else {
		refusal->is_transient = false;
		if (http_status < 400)
			refusal->status = FAIL_IMDS_ANSWER;
	}
}

enum status identity_transport_status(enum status https_status)
{
	switch ((int)https_status) {
	case FAIL_VAULT_NAME:
	case FAIL_VAULT_UNREACHABLE: return FAIL_IMDS_UNREACHABLE;
	case FAIL_VAULT_TIMEOUT: return FAIL_IMDS_TIMEOUT;
	case FAIL_VAULT_REDIRECT:
	case FAIL_ANSWER_TOO_LARGE:
	case FAIL_ANSWER_SYNTAX: return FAIL_IMDS_ANSWER;
	case FAIL_ANSWER_CUT: return FAIL_IMDS_ERROR;
	default: return https_status;
	}
}
