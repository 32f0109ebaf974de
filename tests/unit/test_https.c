/* The pure parts; everything with a socket is shown by tests/program/test_vault_agent.py. */
#include "io/https.h"

#include <bearssl.h>

#include "tests/unit/test.h"

#define EXAMPLE "Sun, 06 Nov 1994 08:49:37 GMT" /* RFC 9110 §5.6.7 */
#define EXAMPLE_S 784111777

TEST(the_date_of_the_standard_is_read)
{
	int64_t seconds;

	EXPECT_TRUE(https_parse_date(&seconds, EXAMPLE));
	EXPECT_EQUAL(seconds, EXAMPLE_S);
}

TEST(dates_around_leap_days_and_the_end_of_32_bits_are_read)
{
	int64_t seconds;

	EXPECT_TRUE(https_parse_date(&seconds, "Thu, 01 Jan 1970 00:00:00 GMT"));
	EXPECT_EQUAL(seconds, 0);
	EXPECT_TRUE(https_parse_date(&seconds, "Tue, 29 Feb 2000 12:00:00 GMT"));
	EXPECT_EQUAL(seconds, 951825600);
	EXPECT_TRUE(https_parse_date(&seconds, "Wed, 01 Mar 2000 00:00:00 GMT"));
	EXPECT_EQUAL(seconds, 951868800);
	EXPECT_TRUE(https_parse_date(&seconds, "Tue, 19 Jan 2038 03:14:08 GMT"));
	EXPECT_EQUAL(seconds, 2147483648);
}

TEST(what_is_no_date_is_refused)
{
	static const char *const texts[] = {
		"",
		"tomorrow",
		"Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994",
		"Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 06 Nov 1994 08:49:37 GMT ",
		"Sun, 06 Now 1994 08:49:37 GMT",
		"Sun, 32 Nov 1994 08:49:37 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 06 Nov 1994 08:60:37 GMT",
		"Sun, 06 Nov 1994 08:49:61 GMT",
		"Sun, 06 Nov 1969 08:49:37 GMT",
		"Sun, 06 Nov -994 08:49:37 GMT",
		"Sun, 06 ovD 1994 08:49:37 GMT",
	};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		int64_t seconds;

		EXPECT_FALSE(https_parse_date(&seconds, texts[i]));
	}
}

TEST(a_wait_is_asked_for_in_seconds_or_until_a_date)
{
	uint64_t wait_ms;

	EXPECT_TRUE(https_parse_retry_after(&wait_ms, "0", 0));
	EXPECT_EQUAL(wait_ms, 0);
	EXPECT_TRUE(https_parse_retry_after(&wait_ms, "17", 0));
	EXPECT_EQUAL(wait_ms, 17000);
	EXPECT_TRUE(https_parse_retry_after(&wait_ms, EXAMPLE, EXAMPLE_S - 5));
	EXPECT_EQUAL(wait_ms, 5000);
	EXPECT_TRUE(https_parse_retry_after(&wait_ms, EXAMPLE, EXAMPLE_S + 5));
	EXPECT_EQUAL(wait_ms, 0);
}

TEST(nobody_is_waited_for_longer_than_an_hour)
{
	uint64_t wait_ms;

	EXPECT_TRUE(https_parse_retry_after(&wait_ms, "3601", 0));
	EXPECT_EQUAL(wait_ms, 3600000);
	EXPECT_TRUE(https_parse_retry_after(&wait_ms, "99999999999999999999999999", 0));
	EXPECT_EQUAL(wait_ms, 3600000);
	EXPECT_TRUE(https_parse_retry_after(&wait_ms, EXAMPLE, 0));
	EXPECT_EQUAL(wait_ms, 3600000);
}

TEST(a_wait_that_is_nonsense_is_none)
{
	uint64_t wait_ms;

	EXPECT_FALSE(https_parse_retry_after(&wait_ms, "", 0));
	EXPECT_FALSE(https_parse_retry_after(&wait_ms, "-1", 0));
	EXPECT_FALSE(https_parse_retry_after(&wait_ms, "1.5", 0));
	EXPECT_FALSE(https_parse_retry_after(&wait_ms, "soon", 0));
}

TEST(an_address_to_connect_to_has_a_host_and_a_port)
{
	static const char *const texts[] = {
		"",          "host",       "host:",   ":443",    "host:port",
		"ho st:443", "host:443:x", "a@b:443", "a/b:443",
	};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct https_client client;
		const struct https_options options = {
			.roots_pem = "",
			.connect_to = texts[i],
			.body_size_max = 1024,
		};

		EXPECT_STATUS(https_open(&client, &options), FAIL_CONFIG);
	}
}

static void exchange(struct https_client *client, const struct https_request *request)
{
	struct https_answer answer;

	if (https_exchange(client, &answer, request) != OK)
		return;
}

TEST(a_token_in_clear_text_is_our_own_mistake)
{
	struct https_client client;
	const struct https_options options = {.roots_pem = "", .body_size_max = 1024};
	struct https_request request = {
		.url = "http://127.0.0.1:1/",
		.bearer = "token",
		.connect_timeout_ms = 1000,
		.timeout_ms = 1000,
	};

	EXPECT_OK(https_open(&client, &options));
	EXPECT_ABORT(exchange(&client, &request));
	request.bearer = NULL;
	request.url = "http://example.com/";
	EXPECT_ABORT(exchange(&client, &request));
	request.url = "http://127.0.0.1:1@example.com/";
	EXPECT_ABORT(exchange(&client, &request));
	request.url = "file:///etc/passwd";
	EXPECT_ABORT(exchange(&client, &request));
	https_close(&client);
}

TEST(connections_offer_nothing_but_tls_1_2_with_forward_secrecy_and_authenticated_encryption)
{
	/* RFC 5289 §3.2 */
	const uint16_t good[] = {0xc02b, 0xc02c, 0xc02f, 0xc030};
	br_x509_minimal_context certificates;
	br_ssl_client_context client;

	/* libcurl calls it for every connection. */
	br_ssl_client_init_full(&client, &certificates, NULL, 0);
	EXPECT_EQUAL(client.eng.version_min, 0x0303);
	EXPECT_EQUAL(client.eng.version_max, 0x0303);
	EXPECT_EQUAL(client.eng.suites_num, ARRAY_COUNT(good));
	for (size_t i = 0; i < client.eng.suites_num; i++) {
		bool is_good = false;

		for (size_t j = 0; j < ARRAY_COUNT(good); j++)
			is_good |= client.eng.suites_buf[i] == good[j];
		EXPECT_TRUE(is_good);
	}
	EXPECT_TRUE(client.eng.iaes_cbcenc == NULL && client.eng.ides_cbcenc == NULL);
	EXPECT_TRUE(br_multihash_getimpl(&certificates.mhash, br_md5_ID) == NULL);
	EXPECT_TRUE(br_multihash_getimpl(&certificates.mhash, br_sha1_ID) == NULL);
}
