#include "app/vault/keyvault.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/test.h"

#define KEY "https://kv1.vault.azure.net/keys/disk"
#define VERSION "0123456789abcdef0123456789abcdef"
#define OTHER "ffffffffffffffffffffffffffffffff"
#define KID KEY "/" VERSION

static struct key_url url_of(const char *text)
{
	struct key_url url;

	CHECK(key_url_parse(&url, text) == OK);
	return url;
}

/* base64url of so many bytes of 0xff, which makes a modulus with its top bit set. */
static const char *ones(size_t size)
{
	static char text[BASE64_TEXT_SIZE(1024)];
	static uint8_t bytes[1024];

	memset(bytes, 0xff, sizeof(bytes));
	base64_encode(text, bytes, size, BASE64_URL);
	return text;
}

/* --- what is sent --- */

TEST(the_urls_of_the_three_operations_carry_the_version_of_the_api)
{
	const struct key_url key = url_of(KID);
	const struct key_url newest = url_of(KEY);
	char url[KEYVAULT_URL_SIZE];

	keyvault_get_url(url, &newest);
	EXPECT_TEXT(url, KEY "?api-version=7.4");
	keyvault_get_url(url, &key);
	EXPECT_TEXT(url, KID "?api-version=7.4");
	keyvault_wrap_url(url, &key);
	EXPECT_TEXT(url, KID "/wrapkey?api-version=7.4");
	keyvault_unwrap_url(url, &key);
	EXPECT_TEXT(url, KID "/unwrapkey?api-version=7.4");
}

TEST(an_unwrap_without_version_is_our_own_mistake)
{
	const struct key_url newest = url_of(KEY);
	char url[KEYVAULT_URL_SIZE];

	EXPECT_ABORT(keyvault_unwrap_url(url, &newest));
}

TEST(a_secret_is_sent_as_base64url_without_padding)
{
	uint8_t secret[KEYVAULT_SECRET_SIZE];
	char body[KEYVAULT_BODY_SIZE];
	size_t size;

	memset(secret, 0xfb, sizeof(secret));
	size = keyvault_wrap_body(body, KEYVAULT_ALGORITHM, secret);
	EXPECT_EQUAL(size, strlen(body));
	EXPECT_TEXT(body, "{\"alg\":\"RSA-OAEP-256\",\"value\":"
			  "\"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\"}");
}

TEST(a_wrapped_secret_is_sent_as_it_came)
{
	char body[KEYVAULT_BODY_SIZE];
	char expected[KEYVAULT_BODY_SIZE];

	snprintf(expected, sizeof(expected), "{\"alg\":\"RSA-OAEP-256\",\"value\":\"%s\"}",
		 ones(512));
	EXPECT_EQUAL(keyvault_unwrap_body(body, ones(512)), strlen(expected));
	EXPECT_TEXT(body, expected);
}

TEST(an_aes_key_is_asked_to_wrap_and_unwrap_by_its_own_algorithm)
{
	const uint8_t secret[KEYVAULT_SECRET_SIZE] = {0};
	char body[KEYVAULT_BODY_SIZE];
	char expected[KEYVAULT_BODY_SIZE];

	EXPECT_TEXT(keyvault_algorithm(256), "A256KW");
	EXPECT_TEXT(keyvault_algorithm(2048), "RSA-OAEP-256");
	keyvault_wrap_body(body, "A256KW", secret);
	EXPECT_TEXT(body, "{\"alg\":\"A256KW\",\"value\":"
			  "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}");
	snprintf(expected, sizeof(expected), "{\"alg\":\"A256KW\",\"value\":\"%s\"}", ones(40));
	keyvault_unwrap_body(body, ones(40));
	EXPECT_TEXT(body, expected);
}

TEST(a_wrapped_secret_has_the_size_that_its_algorithm_gives)
{
	EXPECT_TRUE(keyvault_wrapped_is_valid(ones(40)));
	EXPECT_FALSE(keyvault_wrapped_is_valid(ones(32)));
	EXPECT_FALSE(keyvault_wrapped_is_valid(ones(48)));
	EXPECT_TRUE(keyvault_wrapped_is_valid(ones(256)));
	EXPECT_TRUE(keyvault_wrapped_is_valid(ones(384)));
	EXPECT_TRUE(keyvault_wrapped_is_valid(ones(512)));
	EXPECT_FALSE(keyvault_wrapped_is_valid(ones(255)));
	EXPECT_FALSE(keyvault_wrapped_is_valid(ones(257)));
	EXPECT_FALSE(keyvault_wrapped_is_valid(ones(513)));
	EXPECT_FALSE(keyvault_wrapped_is_valid(""));
	EXPECT_FALSE(keyvault_wrapped_is_valid("not base64"));
}

TEST(a_wrapped_secret_tells_the_size_of_its_key)
{
	EXPECT_EQUAL(keyvault_wrapped_bits(ones(256)), 2048);
	EXPECT_EQUAL(keyvault_wrapped_bits(ones(384)), 3072);
	EXPECT_EQUAL(keyvault_wrapped_bits(ones(512)), 4096);
	EXPECT_EQUAL(keyvault_wrapped_bits(ones(40)), 0);
	EXPECT_TEXT(keyvault_algorithm(keyvault_wrapped_bits(ones(40))), "A256KW");
	EXPECT_TEXT(keyvault_algorithm(keyvault_wrapped_bits(ones(256))), "RSA-OAEP-256");
}

/* --- the answer to a get --- */

struct key_text {
	const char *kid, *kty, *n, *operations, *attributes;
};

static const struct key_text good_key = {
	.kid = KID,
	.kty = "RSA",
	.operations = "\"encrypt\",\"wrapKey\",\"unwrapKey\"",
	.attributes = "\"enabled\":true,\"created\":1,\"recoveryLevel\":\"Recoverable\"",
};

static enum status read_key(struct keyvault_key *key, const char *asked, struct key_text text)
{
	const struct key_url url = url_of(asked);
	static char body[4096];

	snprintf(body, sizeof(body),
		 "{\"key\":{\"kid\":\"%s\",\"kty\":\"%s\",\"key_ops\":[%s],\"n\":\"%s\","
		 "\"e\":\"AQAB\"},\"attributes\":{%s},\"tags\":{\"owner\":\"me\"},\"new\":[1,{}]}",
		 text.kid, text.kty, text.operations, text.n != NULL ? text.n : ones(256),
		 text.attributes);
	return keyvault_read_key(key, &url, body, strlen(body));
}

static enum status read_key_with(struct key_text text)
{
	struct keyvault_key key;

	return read_key(&key, KID, text);
}

TEST(a_good_key_is_read)
{
	struct keyvault_key key;

	EXPECT_OK(read_key(&key, KEY, good_key));
	EXPECT_TEXT(key.id.version, VERSION);
	EXPECT_EQUAL(key.bits, 2048);
	EXPECT_TRUE(key.is_enabled);
	EXPECT_EQUAL(key.not_before_s, 0);
	EXPECT_EQUAL(key.expires_s, 0);
}

TEST(the_size_of_a_key_is_that_of_its_modulus)
{
	struct keyvault_key key;
	struct key_text text = good_key;
	uint8_t with_zero[385] = {0};
	char encoded[BASE64_TEXT_SIZE(sizeof(with_zero))];

	text.kty = "RSA-HSM";
	text.n = ones(512);
	EXPECT_OK(read_key(&key, KID, text));
	EXPECT_EQUAL(key.bits, 4096);
	memset(with_zero + 1, 0xff, 384);
	base64_encode(encoded, with_zero, sizeof(with_zero), BASE64_URL);
	text.n = encoded;
	EXPECT_OK(read_key(&key, KID, text));
	EXPECT_EQUAL(key.bits, 3072);
}

TEST(the_dates_of_a_key_are_read)
{
	struct keyvault_key key;
	struct key_text text = good_key;

	text.attributes = "\"enabled\":false,\"nbf\":1700000000,\"exp\":1800000000,"
			  "\"recoveryLevel\":\"CustomizedRecoverable\"";
	EXPECT_OK(read_key(&key, KID, text));
	EXPECT_FALSE(key.is_enabled);
	EXPECT_EQUAL(key.not_before_s, 1700000000);
	EXPECT_EQUAL(key.expires_s, 1800000000);
	text.attributes =
		"\"enabled\":true,\"nbf\":null,\"exp\":null,\"recoveryLevel\":\"Recoverable\"";
	EXPECT_OK(read_key(&key, KID, text));
	EXPECT_EQUAL(key.expires_s, 0);
}

TEST(an_answer_about_another_key_or_version_is_refused)
{
	static const char *const kids[] = {
		KEY "/" OTHER,
		KEY,
		"https://kv1.vault.azure.net/keys/disk2/" VERSION,
		"https://kv2.vault.azure.net/keys/disk/" VERSION,
		"https://kv1.vault.azure.cn/keys/disk/" VERSION,
		"https://example.com/keys/disk/" VERSION,
		"http://kv1.vault.azure.net/keys/disk/" VERSION,
		"",
	};

	for (size_t i = 0; i < ARRAY_COUNT(kids); i++) {
		struct key_text text = good_key;

		text.kid = kids[i];
		EXPECT_STATUS(read_key_with(text), FAIL_KEY_ID);
	}
}

TEST(kids_are_compared_without_case)
{
	struct key_text text = good_key;

	text.kid = "https://KV1.vault.azure.net/keys/DISK/0123456789ABCDEF0123456789ABCDEF";
	EXPECT_OK(read_key_with(text));
}

TEST(an_aes_key_of_a_managed_hsm_is_read)
{
	struct keyvault_key key;
	struct key_text text = good_key;

	text.kty = "oct-HSM";
	text.n = "";
	EXPECT_OK(read_key(&key, KID, text));
	EXPECT_EQUAL(key.bits, 256);
}

TEST(a_key_that_is_neither_rsa_of_a_usual_size_nor_aes_in_hardware_is_refused)
{
	static const char *const types[] = {"EC", "EC-HSM", "oct", "OCT-HSM", "rsa", "RSA-"};
	struct key_text text = good_key;

	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		text.kty = types[i];
		EXPECT_STATUS(read_key_with(text), FAIL_KEY_TYPE);
	}
	text = good_key;
	text.n = ones(128);
	EXPECT_STATUS(read_key_with(text), FAIL_KEY_TYPE);
	text.n = "AQAB";
	EXPECT_STATUS(read_key_with(text), FAIL_KEY_TYPE);
	text.n = "*";
	EXPECT_STATUS(read_key_with(text), FAIL_ANSWER_SHAPE);
	text.n = ones(600);
	EXPECT_STATUS(read_key_with(text), FAIL_ANSWER_SHAPE);
}

TEST(a_key_that_may_not_both_wrap_and_unwrap_is_refused)
{
	static const char *const operations[] = {
		"",
		"\"wrapKey\"",
		"\"unwrapKey\"",
		"\"sign\",\"verify\"",
		"\"wrapkey\",\"unwrapkey\"",
		"1,2",
		"[\"wrapKey\",\"unwrapKey\"]",
	};

	for (size_t i = 0; i < ARRAY_COUNT(operations); i++) {
		struct key_text text = good_key;

		text.operations = operations[i];
		EXPECT_STATUS(read_key_with(text), FAIL_KEY_OPERATIONS);
	}
}

TEST(only_the_four_levels_with_purge_protection_are_accepted)
{
	static const struct {
		const char *level;
		enum status status;
	} rows[] = {
		{"\"Purgeable\"", FAIL_KEY_PURGEABLE},
		{"\"Recoverable+Purgeable\"", FAIL_KEY_PURGEABLE},
		{"\"Recoverable\"", OK},
		{"\"Recoverable+ProtectedSubscription\"", OK},
		{"\"CustomizedRecoverable+Purgeable\"", FAIL_KEY_PURGEABLE},
		{"\"CustomizedRecoverable\"", OK},
		{"\"CustomizedRecoverable+ProtectedSubscription\"", OK},
		{"\"recoverable\"", FAIL_KEY_PURGEABLE},
		{"\"Recoverable \"", FAIL_KEY_PURGEABLE},
		{"\"SomethingNew\"", FAIL_KEY_PURGEABLE},
		{"\"\"", FAIL_KEY_PURGEABLE},
		{"null", FAIL_KEY_PURGEABLE},
		{"7", FAIL_KEY_PURGEABLE},
	};
	struct key_text text = good_key;
	char attributes[128];

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		snprintf(attributes, sizeof(attributes), "\"enabled\":true,\"recoveryLevel\":%s",
			 rows[i].level);
		text.attributes = attributes;
		EXPECT_STATUS(read_key_with(text), rows[i].status);
	}
	text.attributes = "\"enabled\":true";
	EXPECT_STATUS(read_key_with(text), FAIL_KEY_PURGEABLE);
}

TEST(attributes_of_another_shape_are_refused)
{
	static const char *const attributes[] = {
		"\"recoveryLevel\":\"Recoverable\"",
		"\"enabled\":1,\"recoveryLevel\":\"Recoverable\"",
		"\"enabled\":true,\"nbf\":-1,\"recoveryLevel\":\"Recoverable\"",
		"\"enabled\":true,\"exp\":\"1800000000\",\"recoveryLevel\":\"Recoverable\"",
		"\"enabled\":true,\"exp\":1e99,\"recoveryLevel\":\"Recoverable\"",
		"\"enabled\":true,\"exp\":18446744073709551615,\"recoveryLevel\":\"Recoverable\"",
	};

	for (size_t i = 0; i < ARRAY_COUNT(attributes); i++) {
		struct key_text text = good_key;

		text.attributes = attributes[i];
		EXPECT_STATUS(read_key_with(text), FAIL_ANSWER_SHAPE);
	}
}

TEST(what_is_no_key_at_all_is_told_apart_from_what_is_not_json)
{
	const struct key_url asked = url_of(KID);
	struct keyvault_key key;

	EXPECT_STATUS(keyvault_read_key(&key, &asked, "", 0), FAIL_ANSWER_SYNTAX);
	EXPECT_STATUS(keyvault_read_key(&key, &asked, "<html>", 6), FAIL_ANSWER_SYNTAX);
	EXPECT_STATUS(keyvault_read_key(&key, &asked, "{}", 2), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(keyvault_read_key(&key, &asked, "[]", 2), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(keyvault_read_key(&key, &asked, "{\"key\":7,\"attributes\":{}}", 25),
		      FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(keyvault_read_key(&key, &asked, "{\"key\":{},\"attributes\":{}}", 26),
		      FAIL_ANSWER_SHAPE);
}

TEST(a_key_wraps_only_while_it_is_enabled_and_within_its_dates)
{
	EXPECT_OK(keyvault_may_wrap(true, 0, 0, 1000));
	EXPECT_OK(keyvault_may_wrap(true, 1000, 1001, 1000));
	EXPECT_STATUS(keyvault_may_wrap(false, 0, 0, 1000), FAIL_KEY_DISABLED);
	EXPECT_STATUS(keyvault_may_wrap(true, 1001, 0, 1000), FAIL_KEY_NOT_YET_VALID);
	EXPECT_STATUS(keyvault_may_wrap(true, 0, 1000, 1000), FAIL_KEY_EXPIRED);
}

/* --- the answers to wrap and unwrap --- */

static enum status read_wrapped(char wrapped[static KEYVAULT_WRAPPED_SIZE], struct key_url *used,
				const char *asked, const char *kid, const char *value)
{
	const struct key_url url = url_of(asked);
	static char body[4096];

	snprintf(body, sizeof(body), "{\"kid\":\"%s\",\"value\":%s}", kid, value);
	return keyvault_read_wrapped(wrapped, used, &url, body, strlen(body));
}

TEST(a_wrapped_secret_is_read_with_the_version_that_was_used)
{
	char wrapped[KEYVAULT_WRAPPED_SIZE];
	char value[KEYVAULT_WRAPPED_SIZE];
	struct key_url used;

	snprintf(value, sizeof(value), "\"%s\"", ones(256));
	EXPECT_OK(read_wrapped(wrapped, &used, KEY, KID, value));
	EXPECT_TEXT(wrapped, ones(256));
	EXPECT_TEXT(used.version, VERSION);
	EXPECT_OK(read_wrapped(wrapped, &used, KID, KID, value));
	EXPECT_STATUS(read_wrapped(wrapped, &used, KID, KEY "/" OTHER, value), FAIL_KEY_ID);
	EXPECT_STATUS(read_wrapped(wrapped, &used, KEY, KEY, value), FAIL_KEY_ID);
}

TEST(padding_of_a_wrapped_secret_is_dropped)
{
	char wrapped[KEYVAULT_WRAPPED_SIZE];
	char value[KEYVAULT_WRAPPED_SIZE];
	struct key_url used;

	snprintf(value, sizeof(value), "\"%s==\"", ones(256));
	EXPECT_OK(read_wrapped(wrapped, &used, KEY, KID, value));
	EXPECT_TEXT(wrapped, ones(256));
}

TEST(a_wrapped_secret_of_another_shape_is_refused)
{
	static const char *const values[] = {"\"\"", "\"AAAA\"", "\"****\"", "null", "7", "[]"};
	char wrapped[KEYVAULT_WRAPPED_SIZE];
	struct key_url used;

	for (size_t i = 0; i < ARRAY_COUNT(values); i++)
		EXPECT_STATUS(read_wrapped(wrapped, &used, KEY, KID, values[i]), FAIL_ANSWER_SHAPE);
}

static enum status read_secret(uint8_t secret[static KEYVAULT_SECRET_SIZE], const char *body)
{
	const struct key_url asked = url_of(KID);

	return keyvault_read_secret(secret, &asked, body, strlen(body));
}

#define SECRET_BODY(value) "{\"kid\":\"" KID "\",\"value\":" value "}"

TEST(a_secret_is_read_with_or_without_padding_and_escapes)
{
	uint8_t secret[KEYVAULT_SECRET_SIZE];
	uint8_t expected[KEYVAULT_SECRET_SIZE];

	memset(expected, 0xfb, sizeof(expected));
	EXPECT_OK(read_secret(secret,
			      SECRET_BODY("\"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\"")));
	EXPECT_BYTES(secret, expected, sizeof(expected));
	EXPECT_OK(read_secret(secret,
			      SECRET_BODY("\"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s=\"")));
	EXPECT_OK(read_secret(
		secret, SECRET_BODY("\"\\u002d_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\"")));
	EXPECT_BYTES(secret, expected, sizeof(expected));
}

TEST(a_secret_of_another_size_does_not_belong_to_a_disk)
{
	uint8_t secret[KEYVAULT_SECRET_SIZE];

	EXPECT_STATUS(read_secret(secret, SECRET_BODY("\"\"")), FAIL_WRAPPED_MISMATCH);
	EXPECT_STATUS(read_secret(secret, SECRET_BODY("\"AAAA\"")), FAIL_WRAPPED_MISMATCH);
	EXPECT_STATUS(read_secret(secret,
				  SECRET_BODY("\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"")),
		      FAIL_WRAPPED_MISMATCH);
}

TEST(an_unwrap_answer_of_another_shape_is_refused)
{
	uint8_t secret[KEYVAULT_SECRET_SIZE];

	EXPECT_STATUS(read_secret(secret, "[]"), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(read_secret(secret, "{"), FAIL_ANSWER_SYNTAX);
	EXPECT_STATUS(read_secret(secret, SECRET_BODY("null")), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(read_secret(secret, SECRET_BODY("\"***\"")), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(read_secret(secret, "{\"kid\":\"" KID "\"}"), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(read_secret(secret, "{\"value\":\"AAAA\"}"), FAIL_ANSWER_SHAPE);
	EXPECT_STATUS(read_secret(secret, "{\"kid\":\"" KEY "/" OTHER "\",\"value\":\"AAAA\"}"),
		      FAIL_KEY_ID);
}

/* --- refusals --- */

static struct keyvault_refusal read_refusal(int http_status, const char *body)
{
	struct keyvault_refusal refusal;

	keyvault_read_refusal(&refusal, http_status, body, strlen(body));
	return refusal;
}

TEST(each_row_of_the_error_table_has_its_class)
{
	static const struct {
		int http_status;
		const char *code, *inner;
		enum status status;
		bool is_transient;
	} rows[] = {
		{204, "", "", FAIL_ANSWER_SHAPE, false},
		{301, "", "", FAIL_VAULT_REDIRECT, false},
		{400, "BadParameter", "", FAIL_VAULT_REQUEST, false},
		{401, "Unauthorized", "", FAIL_VAULT_UNAUTHORIZED, false},
		{403, "Forbidden", "ForbiddenByRbac", FAIL_VAULT_RBAC, false},
		{403, "Forbidden", "AccessDenied", FAIL_VAULT_POLICY, false},
		{403, "Forbidden", "ForbiddenByPolicy", FAIL_VAULT_POLICY, false},
		{403, "Forbidden", "ForbiddenByFirewall", FAIL_VAULT_FIREWALL, false},
		{403, "Forbidden", "ForbiddenByConnection", FAIL_VAULT_PRIVATE_LINK, false},
		{403, "Forbidden", "KeyDisabled", FAIL_KEY_DISABLED, false},
		{403, "Forbidden", "KeyExpired", FAIL_KEY_EXPIRED, false},
		{403, "Forbidden", "KeyNotYetValid", FAIL_KEY_NOT_YET_VALID, false},
		{403, "Forbidden", "KeyOperationForbidden", FAIL_KEY_OPERATIONS, false},
		{403, "Forbidden", "SomethingNew", FAIL_VAULT_FORBIDDEN, false},
		{403, "Forbidden", "", FAIL_VAULT_FORBIDDEN, false},
		{403, "ForbiddenByRbac", "", FAIL_VAULT_RBAC, false},
		{404, "KeyNotFound", "", FAIL_KEY_GONE, false},
		{404, "ResourceNotFound", "", FAIL_VAULT_NOT_FOUND, false},
		{405, "MethodNotAllowed", "", FAIL_VAULT_REQUEST, false},
		{408, "RequestTimeout", "", FAIL_VAULT_TIMEOUT, true},
		{409, "Conflict", "ObjectIsDeletedButRecoverable", FAIL_VAULT_CONFLICT, true},
		{409, "Conflict", "ObjectIsBeingRecovered", FAIL_VAULT_CONFLICT, true},
		{429, "Throttled", "", FAIL_VAULT_THROTTLED, true},
		{500, "InternalServerError", "", FAIL_VAULT_UNAVAILABLE, true},
		{502, "", "", FAIL_VAULT_UNAVAILABLE, true},
		{503, "ServiceUnavailable", "", FAIL_VAULT_UNAVAILABLE, true},
		/* A code of another HTTP status decides nothing. */
		{503, "ServiceUnavailable", "KeyDisabled", FAIL_VAULT_UNAVAILABLE, true},
	};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		char body[256];
		struct keyvault_refusal refusal;

		snprintf(body, sizeof(body),
			 "{\"error\":{\"code\":\"%s\",\"message\":\"x\",\"innererror\":{\"code\":"
			 "\"%s\"}}}",
			 rows[i].code, rows[i].inner);
		refusal = read_refusal(rows[i].http_status, body);
		EXPECT_STATUS(refusal.status, rows[i].status);
		EXPECT_EQUAL(refusal.is_transient, rows[i].is_transient);
		EXPECT_TEXT(refusal.code, rows[i].code);
	}
}

TEST(member_names_of_an_error_may_have_any_case_and_codes_may_not)
{
	EXPECT_STATUS(read_refusal(403, "{\"Error\":{\"Code\":\"Forbidden\","
					"\"innerError\":{\"CODE\":\"ForbiddenByRbac\"}}}")
			      .status,
		      FAIL_VAULT_RBAC);
	EXPECT_STATUS(
		read_refusal(403, "{\"error\":{\"innererror\":{\"code\":\"forbiddenbyrbac\"}}}")
			.status,
		FAIL_VAULT_FORBIDDEN);
}

TEST(an_inner_error_inside_an_inner_error_is_found)
{
	struct keyvault_refusal refusal = read_refusal(
		403, "{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"code\":\"Outer\","
		     "\"innererror\":{\"code\":\"ForbiddenByFirewall\"}}}}");

	EXPECT_STATUS(refusal.status, FAIL_VAULT_FIREWALL);
	EXPECT_TEXT(refusal.inner_code, "ForbiddenByFirewall");
}

TEST(a_refusal_that_is_not_json_goes_by_its_http_status)
{
	EXPECT_STATUS(read_refusal(404, "<html>").status, FAIL_VAULT_NOT_FOUND);
	EXPECT_STATUS(read_refusal(503, "").status, FAIL_VAULT_UNAVAILABLE);
	EXPECT_STATUS(read_refusal(403, "[]").status, FAIL_VAULT_FORBIDDEN);
	EXPECT_STATUS(read_refusal(403, "{\"error\":\"Forbidden\"}").status, FAIL_VAULT_FORBIDDEN);
	EXPECT_STATUS(read_refusal(403, "{\"error\":{\"innererror\":[]}}").status,
		      FAIL_VAULT_FORBIDDEN);
}

TEST(only_the_code_in_front_of_a_message_is_kept)
{
	EXPECT_TEXT(read_refusal(401, "{\"error\":{\"message\":\"AKV10032: Invalid issuer.\"}}")
			    .akv_code,
		    "AKV10032");
	EXPECT_TEXT(read_refusal(401, "{\"error\":{\"message\":\"AKV1234567890\"}}").akv_code,
		    "AKV12345");
	EXPECT_TEXT(read_refusal(401, "{\"error\":{\"message\":\"AKV\"}}").akv_code, "AKV");
	EXPECT_TEXT(read_refusal(401, "{\"error\":{\"message\":\"A\"}}").akv_code, "");
	EXPECT_TEXT(read_refusal(401, "{\"error\":{\"message\":\"Caller AKV10032\"}}").akv_code,
		    "");
	EXPECT_TEXT(read_refusal(401, "{\"error\":{\"message\":7}}").akv_code, "");
}

TEST(what_a_hostile_vault_gives_as_a_code_is_not_shown)
{
	EXPECT_TEXT(read_refusal(403, "{\"error\":{\"code\":\"a b\"}}").code, "");
	EXPECT_TEXT(read_refusal(403, "{\"error\":{\"code\":\"a\\nb\"}}").code, "");
	/* The base64url of a secret that the request held. */
	EXPECT_TEXT(
		read_refusal(
			403,
			"{\"error\":{\"code\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}")
			.code,
		"");
}

TEST(only_failures_that_can_pass_are_tried_again)
{
	EXPECT_TRUE(keyvault_transport_is_transient(FAIL_VAULT_NAME));
	EXPECT_TRUE(keyvault_transport_is_transient(FAIL_VAULT_UNREACHABLE));
	EXPECT_TRUE(keyvault_transport_is_transient(FAIL_VAULT_TIMEOUT));
	EXPECT_TRUE(keyvault_transport_is_transient(FAIL_ANSWER_CUT));
	EXPECT_TRUE(keyvault_transport_is_transient(FAIL_TLS));
	EXPECT_FALSE(keyvault_transport_is_transient(FAIL_TLS_NAME));
	EXPECT_FALSE(keyvault_transport_is_transient(FAIL_TLS_AUTHORITY));
	EXPECT_FALSE(keyvault_transport_is_transient(FAIL_TLS_DATE));
	EXPECT_FALSE(keyvault_transport_is_transient(FAIL_VAULT_REDIRECT));
	EXPECT_FALSE(keyvault_transport_is_transient(FAIL_ANSWER_TOO_LARGE));
}
