#include "app/vault/workload_identity.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test.h"

#define GUID "11111111-2222-3333-4444-555555555555"

static const char *token_file_with(const char *text)
{
	static char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/byok-token-%ld", (long)getpid());
	file = fopen(path, "w");
	CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
	return path;
}

static enum status write_with(struct identity_question *question, const char *text)
{
	const struct identity_settings settings = {
		.token_file = token_file_with(text),
		.tenant = GUID,
		.authority = "",
	};
	enum status status;

	EXPECT_OK(workload_identity_check(&settings));
	status = workload_identity_write(question, &settings, GUID, "https://vault.azure.cn");
	CHECK(unlink(settings.token_file) == 0);
	return status;
}

TEST(the_form_is_the_one_of_client_credentials_with_an_assertion)
{
	static struct identity_question question;

	EXPECT_OK(write_with(&question, "aa.b-_.c9\n"));
	EXPECT_TEXT(question.url,
		    "https://login.partner.microsoftonline.cn/" GUID "/oauth2/v2.0/token");
	EXPECT_TEXT(question.form, "grant_type=client_credentials&client_id=" GUID
				   "&scope=https%3A%2F%2Fvault.azure.cn%2F.default"
				   "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A"
				   "client-assertion-type%3Ajwt-bearer&client_assertion=aa.b-_.c9");
	EXPECT_EQUAL(question.form_size, strlen(question.form));
}

TEST(an_assertion_of_the_largest_size_fits_and_one_more_byte_does_not)
{
	static struct identity_question question;
	static char text[IDENTITY_FILE_SIZE_MAX + 2];

	memset(text, 'a', sizeof(text) - 1);
	text[1] = text[3] = '.';
	EXPECT_STATUS(write_with(&question, text), FAIL_LOGIN_TOKEN_FILE);
	EXPECT_EQUAL(question.form[0], 0);
	text[IDENTITY_FILE_SIZE_MAX] = '\0';
	EXPECT_OK(write_with(&question, text));
	EXPECT_TRUE(strstr(question.form, text) != NULL);
}

TEST(what_is_no_jwt_leaves_nothing_behind)
{
	static const char *const texts[] = {
		"",     " ",       ".",       "..",      "a.b",    "a..c",      ".b.c",
		"a.b.", "a.b.c.d", "a b.c.d", "a.b.c d", "a.b=.c", "a.b.c&x=y", "a.b.%41",
	};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		static struct identity_question question;

		EXPECT_STATUS(write_with(&question, texts[i]), FAIL_LOGIN_TOKEN_FILE);
		for (size_t j = 0; j < sizeof(question.form); j++)
			EXPECT_EQUAL(question.form[j], 0);
	}
}

TEST(a_refusal_is_read_by_its_number_and_else_by_its_word)
{
	static const struct {
		int http_status;
		const char *body;
		enum status status;
		const char *code;
	} rows[] = {
		{400, "{\"error\":\"invalid_request\",\"error_codes\":[70021]}",
		 FAIL_LOGIN_ASSERTION, "AADSTS70021"},
		{401, "{\"error\":\"invalid_client\",\"error_codes\":[7002138]}",
		 FAIL_LOGIN_ASSERTION, "AADSTS7002138"},
		{400, "{\"error\":\"invalid_request\",\"error_codes\":[90002]}", FAIL_LOGIN_CLIENT,
		 "AADSTS90002"},
		{400, "{\"error\":\"unauthorized_client\",\"error_codes\":[7]}", FAIL_LOGIN_CLIENT,
		 "AADSTS7"},
		{400, "{\"error\":\"invalid_scope\",\"error_codes\":[18446744073709551615]}",
		 FAIL_LOGIN_REFUSED, "AADSTS18446744073709551615"},
		{401, "{\"error\":\"invalid_client\",\"error_codes\":[]}", FAIL_LOGIN_ASSERTION,
		 "invalid_client"},
		{400, "{\"error\":\"a b\",\"error_codes\":[-1]}", FAIL_LOGIN_REFUSED, ""},
		{400, "{\"error\":{},\"error_codes\":{\"0\":70021}}", FAIL_LOGIN_REFUSED, ""},
		{400, "[", FAIL_LOGIN_REFUSED, ""},
		{429, "{\"error\":\"x\"}", FAIL_LOGIN_THROTTLED, "x"},
		{599, "", FAIL_LOGIN_ERROR, ""},
		{204, "", FAIL_LOGIN_ANSWER, ""},
		{600, "", FAIL_LOGIN_REFUSED, ""},
	};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct identity_refusal refusal;

		workload_identity_read_refusal(&refusal, rows[i].http_status, rows[i].body,
					       strlen(rows[i].body));
		EXPECT_STATUS(refusal.status, rows[i].status);
		EXPECT_TEXT(refusal.code, rows[i].code);
	}
}
