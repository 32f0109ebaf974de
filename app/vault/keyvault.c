#include "app/vault/keyvault.h"

#include <stdio.h>
#include <string.h>

#include "platform/json.h"
#include "platform/secret.h"

/* An answer has about 40 of them; tags add at most 30, newer versions a few. */
#define NODES_MAX 512

#define VERSION_QUERY "?api-version=" KEYVAULT_API_VERSION

static void write_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key,
		      const char *operation)
{
	char base[KEY_URL_TEXT_SIZE];
	int length;

	key_url_format(base, key);
	length = snprintf(url, KEYVAULT_URL_SIZE, "%s%s" VERSION_QUERY, base, operation);
	CHECK(length > 0 && length < KEYVAULT_URL_SIZE);
}

void keyvault_get_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key)
{
	write_url(url, key, "");
}

void keyvault_wrap_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key)
{
	write_url(url, key, "/wrapkey");
}

void keyvault_unwrap_url(char url[static KEYVAULT_URL_SIZE], const struct key_url *key)
{
	/* The newest version is not the one that wrapped it for long. */
	CHECK(key_url_has_version(key));
	write_url(url, key, "/unwrapkey");
}

const char *keyvault_algorithm(uint32_t bits)
{
	return bits < 2048 ? KEYVAULT_ALGORITHM_AES : KEYVAULT_ALGORITHM;
}

static size_t write_body(char body[static KEYVAULT_BODY_SIZE], const char *algorithm,
			 const char *value)
{
	struct json_writer writer;

	json_writer_init(&writer, body, KEYVAULT_BODY_SIZE);
	json_begin_object(&writer, NULL);
	json_write_string(&writer, "alg", algorithm);
	json_write_string(&writer, "value", value);
	json_end_object(&writer);
	CHECK(json_writer_end(&writer));
	return writer.length;
}

size_t keyvault_wrap_body(char body[static KEYVAULT_BODY_SIZE], const char *algorithm,
			  const uint8_t secret[static KEYVAULT_SECRET_SIZE])
{
	SECRET_SCOPE struct secret text = {0};

	_Static_assert(BASE64_TEXT_SIZE(KEYVAULT_SECRET_SIZE) <= sizeof(text.bytes), "must fit");
	text.size = base64_encode((char *)text.bytes, secret, KEYVAULT_SECRET_SIZE, BASE64_URL);
	return write_body(body, algorithm, (const char *)text.bytes);
}

/* Decodes and encodes again, so that what is kept is in one form: without padding. */
static bool normalise_wrapped(char target[static KEYVAULT_WRAPPED_SIZE], const char *wrapped)
{
	uint8_t bytes[KEYVAULT_WRAPPED_BYTES_MAX];
	size_t size;

	if (!base64_decode(bytes, &size, sizeof(bytes), wrapped, strlen(wrapped), BASE64_URL))
		return false;
	/* RFC 3394 adds eight bytes to what is wrapped. */
	if (size != 2048 / 8 && size != 3072 / 8 && size != 4096 / 8 &&
	    size != KEYVAULT_SECRET_SIZE + 8)
		return false;
	_Static_assert(BASE64_TEXT_SIZE(KEYVAULT_WRAPPED_BYTES_MAX) <= KEYVAULT_WRAPPED_SIZE,
		       "must fit");
	base64_encode(target, bytes, size, BASE64_URL);
	return true;
}

bool keyvault_wrapped_is_valid(const char *wrapped)
{
	char normal[KEYVAULT_WRAPPED_SIZE];

	return normalise_wrapped(normal, wrapped);
}

uint32_t keyvault_wrapped_bits(const char *wrapped)
{
	/* Six bits a character, and the last one may be filled up. */
	return (uint32_t)(strlen(wrapped) * 6 / 1024 * 1024);
}

size_t keyvault_unwrap_body(char body[static KEYVAULT_BODY_SIZE], const char *wrapped)
{
	char normal[KEYVAULT_WRAPPED_SIZE];

	CHECK(normalise_wrapped(normal, wrapped));
	return write_body(body, keyvault_algorithm(keyvault_wrapped_bits(normal)), normal);
}

static enum status parse(struct json_document *document, struct json_node nodes[static NODES_MAX],
			 const char *body, size_t body_size)
{
	if (!json_parse(document, nodes, NODES_MAX, body, body_size))
		return FAIL_ANSWER_SYNTAX;
	return json_is(document, JSON_ROOT, JSON_OBJECT) ? OK : FAIL_ANSWER_SHAPE;
}

/* Reads the kid at `node` and checks that it is what was asked for. */
static enum status read_kid(struct key_url *used, const struct json_document *document,
			    uint32_t node, const struct key_url *asked)
{
	char text[KEY_URL_TEXT_SIZE];

	if (!json_is(document, node, JSON_STRING))
		return FAIL_ANSWER_SHAPE;
	if (!json_string_copy(document, node, text, sizeof(text)) ||
	    key_url_parse(used, text) != OK || !key_url_has_version(used))
		return FAIL_KEY_ID;
	if (key_url_has_version(asked) ? !key_url_equal(used, asked)
				       : !key_url_same_key(used, asked))
		return FAIL_KEY_ID;
	return OK;
}

static enum status read_type_and_size(struct keyvault_key *key,
				      const struct json_document *document, uint32_t object)
{
	/* Azure's modulus has no zero in front, but some libraries put one there. */
	uint8_t modulus[KEYVAULT_WRAPPED_BYTES_MAX + 1];
	char text[BASE64_TEXT_SIZE(sizeof(modulus))];
	uint32_t type = json_member(document, object, "kty");
	size_t size;
	size_t zeros = 0;

	if (!json_is(document, type, JSON_STRING))
		return FAIL_ANSWER_SHAPE;
	if (json_string_equals(document, type, "oct-HSM")) {
		key->bits = 256;
		return OK;
	}
	if (!json_string_equals(document, type, "RSA") &&
	    !json_string_equals(document, type, "RSA-HSM"))
		return FAIL_KEY_TYPE;
	if (!json_string_copy(document, json_member(document, object, "n"), text, sizeof(text)) ||
	    !base64_decode(modulus, &size, sizeof(modulus), text, strlen(text), BASE64_URL))
		return FAIL_ANSWER_SHAPE;
	while (zeros < size && modulus[zeros] == 0)
		zeros++;
	key->bits = (uint32_t)(size - zeros) * 8;
	if (key->bits != 2048 && key->bits != 3072 && key->bits != 4096)
		return FAIL_KEY_TYPE;
	return OK;
}

static enum status read_operations(const struct json_document *document, uint32_t object)
{
	uint32_t operations = json_member(document, object, "key_ops");
	bool wraps = false;
	bool unwraps = false;

	if (!json_is(document, operations, JSON_ARRAY))
		return FAIL_KEY_OPERATIONS;
	for (uint32_t node = json_first(document, operations); node != JSON_NONE;
	     node = json_next(document, operations, node)) {
		wraps = wraps || json_string_equals(document, node, "wrapKey");
		unwraps = unwraps || json_string_equals(document, node, "unwrapKey");
	}
	return wraps && unwraps ? OK : FAIL_KEY_OPERATIONS;
}

/* An exact list: whatever Azure adds later is refused until somebody has read what it means. */
static enum status read_recovery_level(const struct json_document *document, uint32_t attributes)
{
	static const char *const protected_levels[] = {
		"Recoverable",
		"Recoverable+ProtectedSubscription",
		"CustomizedRecoverable",
		"CustomizedRecoverable+ProtectedSubscription",
	};
	uint32_t level = json_member(document, attributes, "recoveryLevel");

	for (size_t i = 0; i < ARRAY_COUNT(protected_levels); i++)
		if (json_string_equals(document, level, protected_levels[i]))
			return OK;
	return FAIL_KEY_PURGEABLE;
}

/* Absent and null are no date. */
static bool read_date(int64_t *seconds, const struct json_document *document, uint32_t node)
{
	uint64_t value;

	*seconds = 0;
	if (node == JSON_NONE || json_is(document, node, JSON_NULL))
		return true;
	if (!json_u64(document, node, &value) || value > INT64_MAX)
		return false;
	*seconds = (int64_t)value;
	return true;
}

enum status keyvault_read_key(struct keyvault_key *key, const struct key_url *asked,
			      const char *body, size_t body_size)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;
	struct keyvault_key read = {0};
	uint32_t object;
	uint32_t attributes;

	TRY(parse(&document, nodes, body, body_size));
	object = json_member(&document, JSON_ROOT, "key");
	attributes = json_member(&document, JSON_ROOT, "attributes");
	if (!json_is(&document, object, JSON_OBJECT) ||
	    !json_is(&document, attributes, JSON_OBJECT))
		return FAIL_ANSWER_SHAPE;
	TRY(read_kid(&read.id, &document, json_member(&document, object, "kid"), asked));
	TRY(read_type_and_size(&read, &document, object));
	TRY(read_operations(&document, object));
	if (!json_bool(&document, json_member(&document, attributes, "enabled"),
		       &read.is_enabled) ||
	    !read_date(&read.not_before_s, &document, json_member(&document, attributes, "nbf")) ||
	    !read_date(&read.expires_s, &document, json_member(&document, attributes, "exp")))
		return FAIL_ANSWER_SHAPE;
	TRY(read_recovery_level(&document, attributes));
	*key = read;
	return OK;
}

enum status keyvault_may_wrap(bool is_enabled, int64_t not_before_s, int64_t expires_s,
			      int64_t now_s)
{
	if (!is_enabled)
		return FAIL_KEY_DISABLED;
	if (not_before_s != 0 && now_s < not_before_s)
		return FAIL_KEY_NOT_YET_VALID;
	if (expires_s != 0 && now_s >= expires_s)
		return FAIL_KEY_EXPIRED;
	return OK;
}

enum status keyvault_read_wrapped(char wrapped[static KEYVAULT_WRAPPED_SIZE], struct key_url *used,
				  const struct key_url *asked, const char *body, size_t body_size)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;
	struct key_url kid;
	char value[KEYVAULT_WRAPPED_SIZE];
	char normal[KEYVAULT_WRAPPED_SIZE];

	TRY(parse(&document, nodes, body, body_size));
	TRY(read_kid(&kid, &document, json_member(&document, JSON_ROOT, "kid"), asked));
	if (!json_string_copy(&document, json_member(&document, JSON_ROOT, "value"), value,
			      sizeof(value)) ||
	    !normalise_wrapped(normal, value))
		return FAIL_ANSWER_SHAPE;
	memcpy(wrapped, normal, sizeof(normal));
	*used = kid;
	return OK;
}

enum status keyvault_read_secret(uint8_t secret[static KEYVAULT_SECRET_SIZE],
				 const struct key_url *asked, const char *body, size_t body_size)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;
	struct key_url kid;
	SECRET_SCOPE struct secret text = {0};
	SECRET_SCOPE struct secret bytes = {0};
	uint32_t value;

	TRY(parse(&document, nodes, body, body_size));
	TRY(read_kid(&kid, &document, json_member(&document, JSON_ROOT, "kid"), asked));
	value = json_member(&document, JSON_ROOT, "value");
	if (!json_is(&document, value, JSON_STRING))
		return FAIL_ANSWER_SHAPE;
	/* A text that does not fit is too long for a slot secret, whatever it decodes to. */
	if (!json_string_copy(&document, value, (char *)text.bytes, sizeof(text.bytes)))
		return FAIL_WRAPPED_MISMATCH;
	if (!base64_decode(bytes.bytes, &bytes.size, sizeof(bytes.bytes), (char *)text.bytes,
			   strlen((char *)text.bytes), BASE64_URL))
		return FAIL_ANSWER_SHAPE;
	if (bytes.size != KEYVAULT_SECRET_SIZE)
		return FAIL_WRAPPED_MISMATCH;
	memcpy(secret, bytes.bytes, KEYVAULT_SECRET_SIZE);
	return OK;
}

/* What a code of error.code or innererror.code means, whatever its HTTP status was among these. */
static bool find_code(enum status *status, int http_status, const char *code)
{
	static const struct {
		int http_status;
		enum status status;
		const char *code;
	} meanings[] = {
		{403, FAIL_VAULT_RBAC, "ForbiddenByRbac"},
		{403, FAIL_VAULT_POLICY, "ForbiddenByPolicy"},
		{403, FAIL_VAULT_POLICY, "AccessDenied"},
		{403, FAIL_VAULT_FIREWALL, "ForbiddenByFirewall"},
		{403, FAIL_VAULT_PRIVATE_LINK, "ForbiddenByConnection"},
		{403, FAIL_KEY_DISABLED, "KeyDisabled"},
		{403, FAIL_KEY_EXPIRED, "KeyExpired"},
		{403, FAIL_KEY_NOT_YET_VALID, "KeyNotYetValid"},
		{403, FAIL_KEY_OPERATIONS, "KeyOperationForbidden"},
		{404, FAIL_KEY_GONE, "KeyNotFound"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(meanings); i++)
		if (meanings[i].http_status == http_status && strcmp(meanings[i].code, code) == 0) {
			*status = meanings[i].status;
			return true;
		}
	return false;
}

static enum status status_of_http(int http_status)
{
	switch (http_status) {
	case 401: return FAIL_VAULT_UNAUTHORIZED;
	case 403: return FAIL_VAULT_FORBIDDEN;
	case 404: return FAIL_VAULT_NOT_FOUND;
	case 408: return FAIL_VAULT_TIMEOUT;
	case 409: return FAIL_VAULT_CONFLICT;
	case 429: return FAIL_VAULT_THROTTLED;
	default: break;
	}
	if (http_status >= 500 && http_status <= 599)
		return FAIL_VAULT_UNAVAILABLE;
	if (http_status >= 400)
		return FAIL_VAULT_REQUEST;
	return http_status >= 300 ? FAIL_VAULT_REDIRECT : FAIL_ANSWER_SHAPE;
}

/* "AKV10032: Invalid issuer. ..." gives AKV10032: for a 401 it is all that tells causes apart. */
static void read_akv_code(char code[static ERROR_CODE_SIZE], const struct json_document *document,
			  uint32_t error)
{
	uint32_t message = json_member_any_case(document, error, "message");
	struct json_span span = {0};
	const char *text;
	size_t length = 3;

	code[0] = '\0';
	if (!json_is(document, message, JSON_STRING))
		return;
	span = json_span(document, message);
	/* The span begins with the quote. */
	text = document->text + span.offset + 1;
	if (span.length < 5 || memcmp(text, "AKV", 3) != 0)
		return;
	while (length < 8 && length < span.length - 2 && text[length] >= '0' && text[length] <= '9')
		length++;
	memcpy(code, text, length);
	code[length] = '\0';
}

void keyvault_read_refusal(struct keyvault_refusal *refusal, int http_status, const char *body,
			   size_t body_size)
{
	struct json_node nodes[NODES_MAX];
	struct json_document document;
	uint32_t error;
	uint32_t inner;
	bool is_known;

	error_code_parse(&document, nodes, ARRAY_COUNT(nodes), body, body_size);
	error = json_member_any_case(&document, JSON_ROOT, "error");
	*refusal = (struct keyvault_refusal){.status = status_of_http(http_status)};
	error_code_copy(refusal->code, &document, json_member_any_case(&document, error, "code"));
	read_akv_code(refusal->akv_code, &document, error);
	is_known = find_code(&refusal->status, http_status, refusal->code);
	for (inner = json_member_any_case(&document, error, "innererror");
	     inner != JSON_NONE && !is_known;
	     inner = json_member_any_case(&document, inner, "innererror")) {
		char code[ERROR_CODE_SIZE];

		error_code_copy(code, &document, json_member_any_case(&document, inner, "code"));
		is_known = find_code(&refusal->status, http_status, code);
		if (is_known || refusal->inner_code[0] == '\0')
			memcpy(refusal->inner_code, code, sizeof(code));
	}
	refusal->is_transient = http_status == 408 || http_status == 409 || http_status == 429 ||
				(http_status >= 500 && http_status <= 599);
}

bool keyvault_transport_is_transient(enum status https_status)
{
	switch ((int)https_status) {
	case FAIL_VAULT_NAME:
	case FAIL_VAULT_UNREACHABLE:
	case FAIL_VAULT_TIMEOUT:
	case FAIL_ANSWER_CUT:
	case FAIL_PROXY_UNREACHABLE:
	case FAIL_PROXY_TIMEOUT:
	case FAIL_PROXY_ERROR:
	case FAIL_TLS: return true;
	default: return false;
	}
}
