#include "app/vault/workload_identity.h"

#include <stdio.h>
#include <string.h>

#include "platform/file.h"
#include "platform/log.h"
#include "platform/secret.h"

#define SCHEME "https://"
#define NODES_MAX 128

/* Only those of Azure's clouds, because who gets the assertion can be this workload. The first of a
 * cloud is the one that is asked for its vaults, whose resource ends as it says. */
static const struct {
	const char *host, *resource_end;
} clouds[] = {
	{"login.microsoftonline.com", "azure.net"},
	{"login.microsoftonline.us", "usgovcloudapi.net"},
	{"login.partner.microsoftonline.cn", "azure.cn"},
	{"login.chinacloudapi.cn", "azure.cn"},
};

/* NULL: it is none of them. */
static const char *find_authority(const char *authority)
{
	for (size_t i = 0; i < ARRAY_COUNT(clouds); i++) {
		const size_t length = strlen(clouds[i].host);
		const char *host = authority + strlen(SCHEME);

		if (strncmp(authority, SCHEME, strlen(SCHEME)) == 0 &&
		    strncmp(host, clouds[i].host, length) == 0 &&
		    strcmp(host + length, host[length] == '/' ? "/" : "") == 0)
			return clouds[i].host;
	}
	return NULL;
}

static const char *find_host(const char *authority, const char *resource)
{
	size_t i = 0;

	if (authority[0] != '\0')
		return find_authority(authority);
	while (strstr(resource, clouds[i].resource_end) == NULL)
		CHECK(++i < ARRAY_COUNT(clouds));
	return clouds[i].host;
}

static enum status refuse(const char *name, const char *value)
{
	log_error("%s cannot be \"%s\"", name, value);
	return FAIL_CONFIG;
}

enum status workload_identity_check(const struct identity_settings *settings)
{
	if (!identity_client_id_is_valid(settings->tenant))
		return refuse("tenant", settings->tenant);
	if (settings->authority[0] != '\0' && find_authority(settings->authority) == NULL)
		return refuse("authority_host", settings->authority);
	/* Its folder is what the vault agent may read besides /etc. */
	if (settings->token_file[0] != '/' ||
	    strrchr(settings->token_file, '/') == settings->token_file)
		return refuse("federated_token_file", settings->token_file);
	return OK;
}

/* Three parts of base64url, so that it needs no escapes in a form; blanks around it are left out.
 */
static bool trim_assertion(char *assertion)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	const size_t length = strspn(assertion, alphabet);
	const char *first = strchr(assertion, '.');
	const char *second = first == NULL ? NULL : strchr(first + 1, '.');
	const size_t rest = strspn(assertion + length, " \t\r\n");

	if (second == NULL || first == assertion || second == first + 1 ||
	    strchr(second + 1, '.') != NULL || second + 1 >= assertion + length ||
	    assertion[length + rest] != '\0')
		return false;
	assertion[length] = '\0';
	return true;
}

enum status workload_identity_write(struct identity_question *question,
				    const struct identity_settings *settings, const char *client_id,
				    const char *resource)
{
	char *assertion;
	size_t size;

	if (client_id[0] == '\0')
		return FAIL_LOGIN_CLIENT;
	snprintf(question->url, sizeof(question->url), SCHEME "%s/%s/oauth2/v2.0/token",
		 find_host(settings->authority, resource), settings->tenant);
	snprintf(question->form, sizeof(question->form),
		 "grant_type=client_credentials&client_id=%s&scope=https%%3A%%2F%%2F%s%%2F.default"
		 "&client_assertion_type=urn%%3Aietf%%3Aparams%%3Aoauth%%3Aclient-assertion-type"
		 "%%3Ajwt-bearer&client_assertion=",
		 client_id, resource + strlen(SCHEME));
	assertion = question->form + strlen(question->form);
	CHECK(assertion + IDENTITY_FILE_SIZE_MAX < question->form + sizeof(question->form));
	if (file_read_text(assertion, IDENTITY_FILE_SIZE_MAX + 1, &size, settings->token_file) !=
		    OK ||
	    strlen(assertion) != size || !trim_assertion(assertion)) {
		secret_wipe_bytes(question, sizeof(*question));
		return FAIL_LOGIN_TOKEN_FILE;
	}
	question->form_size = strlen(question->form);
	return OK;
}

/* Microsoft asks programs not to decide by these numbers, but OAuth's word for an unknown tenant
 * and for much else is the same; where neither says more, it is refused, which is always right. */
static enum status status_of_number(const char *number)
{
	static const struct {
		const char *prefix;
		enum status status;
	} meanings[] = {
		{"70021", FAIL_LOGIN_ASSERTION}, /* no federated credential is for it */
		{"700016", FAIL_LOGIN_CLIENT},   /* no such application in the tenant */
		{"90002", FAIL_LOGIN_CLIENT},    /* no such tenant */
	};

	for (size_t i = 0; i < ARRAY_COUNT(meanings); i++)
		if (strncmp(number, meanings[i].prefix, strlen(meanings[i].prefix)) == 0)
			return meanings[i].status;
	return FAIL_LOGIN_REFUSED;
}

static void read_bad_request(struct identity_refusal *refusal, const struct json_document *document)
{
	uint32_t codes = json_member(document, JSON_ROOT, "error_codes");
	char number[24] = "";
	uint64_t code;

	if (json_is(document, codes, JSON_ARRAY) &&
	    json_u64(document, json_first(document, codes), &code))
		snprintf(number, sizeof(number), "%llu", (unsigned long long)code);
	refusal->status = status_of_number(number);
	if (refusal->status == FAIL_LOGIN_REFUSED && strcmp(refusal->code, "invalid_client") == 0)
		refusal->status = FAIL_LOGIN_ASSERTION;
	if (refusal->status == FAIL_LOGIN_REFUSED &&
	    strcmp(refusal->code, "unauthorized_client") == 0)
		refusal->status = FAIL_LOGIN_CLIENT;
	/* The number says more than the word, to people as well. */
	if (number[0] != '\0')
		snprintf(refusal->code, sizeof(refusal->code), "AADSTS%s", number);
}

void workload_identity_read_refusal(struct identity_refusal *refusal, int http_status,
				    const char *body, size_t body_size)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;

	error_code_parse(&document, nodes, ARRAY_COUNT(nodes), body, body_size);
	*refusal = (struct identity_refusal){.status = FAIL_LOGIN_ANSWER};
	error_code_copy(refusal->code, &document, json_member(&document, JSON_ROOT, "error"));
	if (http_status == 429)
		refusal->status = FAIL_LOGIN_THROTTLED;
	else if (http_status == 408)
		refusal->status = FAIL_LOGIN_TIMEOUT;
	else if (http_status >= 500 && http_status <= 599)
		refusal->status = FAIL_LOGIN_ERROR;
	else if (http_status >= 400) {
		read_bad_request(refusal, &document);
		return;
	}
	refusal->is_transient = refusal->status != FAIL_LOGIN_ANSWER;
}

enum status workload_identity_transport_status(enum status https_status)
{
	switch ((int)https_status) {
	case FAIL_VAULT_NAME:
	case FAIL_VAULT_UNREACHABLE: return FAIL_LOGIN_UNREACHABLE;
	case FAIL_VAULT_TIMEOUT: return FAIL_LOGIN_TIMEOUT;
	case FAIL_TLS:
	case FAIL_TLS_NAME:
	case FAIL_TLS_AUTHORITY:
	case FAIL_TLS_DATE: return FAIL_LOGIN_TLS;
	case FAIL_VAULT_REDIRECT:
	case FAIL_ANSWER_TOO_LARGE:
	case FAIL_ANSWER_SYNTAX: return FAIL_LOGIN_ANSWER;
	case FAIL_ANSWER_CUT: return FAIL_LOGIN_ERROR;
	default: return https_status;
	}
}
