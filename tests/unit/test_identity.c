#include "app/vault/identity.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/test.h"

#define CLIENT "11111111-2222-3333-4444-555555555555"
#define RESOURCE "https://vault.azure.net"

static struct identity_grant grant;

static enum status read_grant(const char *body)
{
	return identity_read_grant(&grant, body, strlen(body), CLIENT, RESOURCE);
}

static struct identity_refusal read_refusal(int http_status, const char *body)
{
	struct identity_refusal refusal;

	identity_read_refusal(&refusal, http_status, body, strlen(body));
	return refusal;
}

TEST(a_token_is_asked_for_with_its_resource_and_client_id)
{
	char url[IDENTITY_URL_SIZE];

	identity_token_url(url, IDENTITY_DEFAULT_ENDPOINT, CLIENT, RESOURCE);
	EXPECT_TEXT(url, "http://169.254.169.254/metadata/identity/oauth2/token"
			 "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
			 "&client_id=" CLIENT);
	identity_token_url(url, "http://127.0.0.1:8080", "", RESOURCE);
	EXPECT_TEXT(url, "http://127.0.0.1:8080/metadata/identity/oauth2/token"
			 "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net");
}

TEST(only_this_machine_and_its_host_may_be_asked)
{
	EXPECT_TRUE(identity_endpoint_is_valid("http://169.254.169.254"));
	EXPECT_TRUE(identity_endpoint_is_valid("http://127.0.0.1:40001"));
	EXPECT_FALSE(identity_endpoint_is_valid("https://169.254.169.254"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://169.254.169.254/"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://169.254.169.254.example.com"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://169.254.169.254@example.com"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://127.0.0.1:80@example.com"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://127.0.0.1:"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://127.0.0.1:123456"));
	EXPECT_FALSE(identity_endpoint_is_valid("http://10.0.0.1"));
	EXPECT_FALSE(identity_endpoint_is_valid(""));
}

TEST(a_client_id_is_a_guid)
{
	EXPECT_TRUE(identity_client_id_is_valid(CLIENT));
	EXPECT_TRUE(identity_client_id_is_valid("ABCDEFab-2222-3333-4444-555555555555"));
	EXPECT_FALSE(identity_client_id_is_valid(""));
	EXPECT_FALSE(identity_client_id_is_valid("11111111-2222-3333-4444-55555555555"));
	EXPECT_FALSE(identity_client_id_is_valid("11111111-2222-3333-4444-5555555555555"));
	EXPECT_FALSE(identity_client_id_is_valid("g1111111-2222-3333-4444-555555555555"));
	EXPECT_FALSE(identity_client_id_is_valid("111111112-222-3333-4444-555555555555"));
	EXPECT_FALSE(identity_client_id_is_valid("11111111-2222-3333-4444-55555555&x=1"));
}

TEST(an_answer_of_imds_gives_a_token_and_its_lifetime)
{
	EXPECT_OK(
		read_grant("{\"access_token\":\"eyJ0.e30.c2ln\",\"refresh_token\":\"\","
			   "\"expires_in\":\"3599\",\"expires_on\":\"1506484173\","
			   "\"not_before\":\"1506480273\",\"resource\":\"https://vault.azure.net\","
			   "\"token_type\":\"Bearer\"}"));
	EXPECT_TEXT(grant.token, "eyJ0.e30.c2ln");
	EXPECT_EQUAL(grant.lifetime_s, 3599);
}

TEST(a_lifetime_may_be_a_number_too)
{
	EXPECT_OK(read_grant("{\"access_token\":\"t\",\"expires_in\":86399}"));
	EXPECT_EQUAL(grant.lifetime_s, 86399);
}

TEST(a_token_with_an_absurd_lifetime_is_refused)
{
	static const char *const lifetimes[] = {
		"0",    "\"0\"",    "-5",   "\"-5\"",      "1.5",
		"\"\"", "\"soon\"", "null", "99999999999", "[60]",
	};

	for (size_t i = 0; i < ARRAY_COUNT(lifetimes); i++) {
		char body[128];

		snprintf(body, sizeof(body), "{\"access_token\":\"t\",\"expires_in\":%s}",
			 lifetimes[i]);
		EXPECT_STATUS(read_grant(body), FAIL_IMDS_ANSWER);
	}
	EXPECT_STATUS(read_grant("{\"access_token\":\"t\"}"), FAIL_IMDS_ANSWER);
}

TEST(a_token_that_could_break_a_header_is_refused)
{
	static const char *const tokens[] = {
		"\"\"",
		"\"a b\"",
		"\"a\\r\\nHost: example.com\"",
		"\"a\\u0000b\"",
		"\"caf\\u00e9\"",
		"null",
		"7",
		"{}",
	};

	for (size_t i = 0; i < ARRAY_COUNT(tokens); i++) {
		char body[128];

		snprintf(body, sizeof(body), "{\"access_token\":%s,\"expires_in\":60}", tokens[i]);
		EXPECT_STATUS(read_grant(body), FAIL_IMDS_ANSWER);
	}
}

TEST(a_token_that_is_too_long_is_refused)
{
	static char body[IDENTITY_TOKEN_SIZE + 64];
	int length = snprintf(body, sizeof(body), "{\"expires_in\":60,\"access_token\":\"%0*d\"}",
			      IDENTITY_TOKEN_SIZE - 1, 0);

	EXPECT_OK(identity_read_grant(&grant, body, (size_t)length, CLIENT, RESOURCE));
	length = snprintf(body, sizeof(body), "{\"expires_in\":60,\"access_token\":\"%0*d\"}",
			  IDENTITY_TOKEN_SIZE, 0);
	EXPECT_STATUS(identity_read_grant(&grant, body, (size_t)length, CLIENT, RESOURCE),
		      FAIL_IMDS_ANSWER);
}

TEST(a_token_for_somebody_or_something_else_is_refused)
{
	EXPECT_OK(read_grant("{\"access_token\":\"t\",\"expires_in\":60,"
			     "\"resource\":\"https://vault.azure.net/\",\"client_id\":\"" CLIENT
			     "\"}"));
	EXPECT_STATUS(read_grant("{\"access_token\":\"t\",\"expires_in\":60,"
				 "\"resource\":\"https://management.azure.com/\"}"),
		      FAIL_IMDS_ANSWER);
	EXPECT_STATUS(read_grant("{\"access_token\":\"t\",\"expires_in\":60,"
				 "\"client_id\":\"99999999-2222-3333-4444-555555555555\"}"),
		      FAIL_IMDS_ANSWER);
	EXPECT_STATUS(
		read_grant("{\"access_token\":\"t\",\"expires_in\":60,\"token_type\":\"pop\"}"),
		FAIL_IMDS_ANSWER);
}

TEST(whose_token_it_is_does_not_matter_where_nobody_was_asked_for)
{
	const char *body =
		"{\"access_token\":\"t\",\"expires_in\":60,\"client_id\":\"" CLIENT "\"}";

	EXPECT_OK(identity_read_grant(&grant, body, strlen(body), "", RESOURCE));
}

TEST(what_is_not_an_object_is_no_grant)
{
	EXPECT_STATUS(read_grant(""), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(read_grant("<html>"), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(read_grant("[]"), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(read_grant("{\"access_token\":\"t\",\"expires_in\":60"), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(
		read_grant("{\"access_token\":\"t\",\"access_token\":\"u\",\"expires_in\":60}"),
		FAIL_IMDS_ANSWER);
}

TEST(each_http_status_of_imds_has_its_class)
{
	static const struct {
		int http_status;
		enum status status;
		bool is_transient;
	} rows[] = {
		{204, FAIL_IMDS_ANSWER, false},  {302, FAIL_IMDS_ANSWER, false},
		{400, FAIL_IMDS_REFUSED, true},  {401, FAIL_IMDS_REFUSED, false},
		{403, FAIL_IMDS_REFUSED, false}, {404, FAIL_IMDS_UPDATING, true},
		{405, FAIL_IMDS_REFUSED, false}, {408, FAIL_IMDS_TIMEOUT, true},
		{410, FAIL_IMDS_UPDATING, true}, {429, FAIL_IMDS_THROTTLED, true},
		{500, FAIL_IMDS_ERROR, true},    {503, FAIL_IMDS_ERROR, true},
		{511, FAIL_IMDS_ERROR, true},
	};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct identity_refusal refusal = read_refusal(rows[i].http_status, "<html>");

		EXPECT_STATUS(refusal.status, rows[i].status);
		EXPECT_EQUAL(refusal.is_transient, rows[i].is_transient);
		EXPECT_TEXT(refusal.code, "");
	}
}

TEST(an_identity_that_is_not_found_may_appear_yet)
{
	struct identity_refusal refusal =
		read_refusal(400, "{\"error\":\"invalid_request\","
				  "\"error_description\":\"Identity not found\"}");

	EXPECT_STATUS(refusal.status, FAIL_IDENTITY_NONE);
	EXPECT_TRUE(refusal.is_transient);
	EXPECT_TEXT(refusal.code, "invalid_request");
}

TEST(several_identities_do_not_become_one_by_waiting)
{
	struct identity_refusal refusal = read_refusal(
		400,
		"{\"error\":\"invalid_request\",\"error_description\":\"Multiple user assigned "
		"identities exist, please specify the clientId / resourceId of the identity\"}");

	EXPECT_STATUS(refusal.status, FAIL_IDENTITY_AMBIGUOUS);
	EXPECT_FALSE(refusal.is_transient);
}

TEST(a_request_that_is_wrong_by_design_is_not_repeated)
{
	EXPECT_FALSE(read_refusal(400, "{\"error\":\"bad_request_102\"}").is_transient);
	EXPECT_FALSE(read_refusal(400, "{\"error\":\"invalid_resource\"}").is_transient);
	EXPECT_TRUE(read_refusal(400, "{\"error\":\"invalid_request\"}").is_transient);
}

TEST(a_code_that_is_not_one_short_word_is_not_shown)
{
	EXPECT_TEXT(read_refusal(500, "{\"error\":\"two words\"}").code, "");
	EXPECT_TEXT(read_refusal(500, "{\"error\":\"line\\nfeed\"}").code, "");
	EXPECT_TEXT(
		read_refusal(500, "{\"error\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}").code,
		"");
	EXPECT_TEXT(read_refusal(500, "{\"error\":{}}").code, "");
	EXPECT_TEXT(read_refusal(500, "[1]").code, "");
}

TEST(a_failed_exchange_is_told_as_one_with_imds)
{
	EXPECT_STATUS(identity_transport_status(FAIL_VAULT_UNREACHABLE), FAIL_IMDS_UNREACHABLE);
	EXPECT_STATUS(identity_transport_status(FAIL_VAULT_NAME), FAIL_IMDS_UNREACHABLE);
	EXPECT_STATUS(identity_transport_status(FAIL_VAULT_TIMEOUT), FAIL_IMDS_TIMEOUT);
	EXPECT_STATUS(identity_transport_status(FAIL_VAULT_REDIRECT), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(identity_transport_status(FAIL_ANSWER_TOO_LARGE), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(identity_transport_status(FAIL_ANSWER_SYNTAX), FAIL_IMDS_ANSWER);
	EXPECT_STATUS(identity_transport_status(FAIL_ANSWER_CUT), FAIL_IMDS_ERROR);
	EXPECT_STATUS(identity_transport_status(FAIL_OUT_OF_MEMORY), FAIL_OUT_OF_MEMORY);
}

/* --- user data --- */

static char settings[64];

static enum status read_user_data(const char *base64)
{
	static char body[512];

	strcpy(body, base64);
	return identity_read_user_data(settings, sizeof(settings), body, strlen(body));
}

TEST(of_the_user_data_only_marked_lines_are_read)
{
	char url[IDENTITY_URL_SIZE];

	identity_user_data_url(url, "http://169.254.169.254");
	EXPECT_TEXT(url, "http://169.254.169.254/metadata/instance/compute/userData"
			 "?api-version=2021-01-01&format=text");
	EXPECT_OK(read_user_data(""));
	EXPECT_TEXT(settings, "");
	/* "#cloud-config\n#byok key = a\n #byok b\n#byokc\n#byok \n#byok d=e" */
	EXPECT_OK(read_user_data(
		"I2Nsb3VkLWNvbmZpZwojYnlvayBrZXkgPSBhCiAjYnlvayBiCiNieW9rYwojYnlvayAK"
		"I2J5b2sgZD1l"));
	EXPECT_TEXT(settings, "key = a\nd=e\n");
}

TEST(user_data_that_is_no_base64_or_too_long_is_refused)
{
	static const char *const texts[] = {"A", "AB", "ABC", "AAA\n", "{}==", "AAAA AAAA"};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		EXPECT_STATUS(read_user_data(texts[i]), FAIL_IMDS_ANSWER);
	/* "#byok " and 63 times "x"; 62 fit, with their line feed and the NUL */
	EXPECT_STATUS(read_user_data("I2J5b2sgeHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"
				     "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"),
		      FAIL_CONFIG);
	EXPECT_OK(read_user_data("I2J5b2sgeHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4"
				 "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg="));
	/* "#byok a\0b" */
	EXPECT_STATUS(read_user_data("I2J5b2sgYQBi"), FAIL_CONFIG);
}
