#include "app/vault/key_url.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/test.h"

#define VERSION "0123456789abcdef0123456789abcdef"
#define KEY "https://kv1.vault.azure.net/keys/disk"

static enum status parse(const char *text)
{
	struct key_url url;

	return key_url_parse(&url, text);
}

TEST(a_url_with_version_is_taken_apart)
{
	struct key_url url;

	EXPECT_OK(key_url_parse(&url, KEY "/" VERSION));
	EXPECT_TEXT(url.host, "kv1.vault.azure.net");
	EXPECT_TEXT(url.name, "disk");
	EXPECT_TEXT(url.version, VERSION);
	EXPECT_TEXT(url.resource, "https://vault.azure.net");
	EXPECT_TRUE(key_url_has_version(&url));
}

TEST(a_url_without_version_is_accepted_and_says_so)
{
	struct key_url url;

	EXPECT_OK(key_url_parse(&url, KEY));
	EXPECT_TEXT(url.version, "");
	EXPECT_FALSE(key_url_has_version(&url));
}

TEST(each_of_the_six_suffixes_has_its_own_resource)
{
	static const char *const suffixes[] = {
		"vault.azure.net",      "vault.azure.cn",      "vault.usgovcloudapi.net",
		"managedhsm.azure.net", "managedhsm.azure.cn", "managedhsm.usgovcloudapi.net",
	};

	for (size_t i = 0; i < ARRAY_COUNT(suffixes); i++) {
		char text[KEY_URL_TEXT_SIZE];
		struct key_url url;

		snprintf(text, sizeof(text), "https://kv1.%s/keys/disk", suffixes[i]);
		EXPECT_OK(key_url_parse(&url, text));
		snprintf(text, sizeof(text), "https://%s", suffixes[i]);
		EXPECT_TEXT(url.resource, text);
	}
}

TEST(case_and_port_443_are_normalised)
{
	struct key_url url;
	char text[KEY_URL_TEXT_SIZE];

	EXPECT_OK(key_url_parse(&url, "HTTPS://Kv1.VAULT.Azure.NET:443/Keys/Disk/"
				      "0123456789ABCDEF0123456789ABCDEF"));
	key_url_format(text, &url);
	EXPECT_TEXT(text, "https://kv1.vault.azure.net/keys/Disk/" VERSION);
}

TEST(the_normal_form_reads_back_to_the_same)
{
	static const char *const texts[] = {KEY, KEY "/" VERSION};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct key_url url;
		char text[KEY_URL_TEXT_SIZE];

		EXPECT_OK(key_url_parse(&url, texts[i]));
		key_url_format(text, &url);
		EXPECT_TEXT(text, texts[i]);
	}
}

TEST(the_longest_url_fits)
{
	char long_name[128];
	char text[512];
	char normal[KEY_URL_TEXT_SIZE];
	struct key_url url;

	memset(long_name, 'n', 127);
	long_name[127] = '\0';
	snprintf(text, sizeof(text),
		 "https://abcdefghijklmnopqrstuvwx.managedhsm.usgovcloudapi.net/keys/%s/" VERSION,
		 long_name);
	EXPECT_OK(key_url_parse(&url, text));
	key_url_format(normal, &url);
	EXPECT_TEXT(normal, text);
	snprintf(text, sizeof(text),
		 KEY "%s"
		     "x",
		 long_name);
	EXPECT_STATUS(parse(text), FAIL_KEY_URL);
}

TEST(a_scheme_that_is_not_https_is_refused)
{
	EXPECT_STATUS(parse("http://kv1.vault.azure.net/keys/disk"), FAIL_KEY_URL_SCHEME);
	EXPECT_STATUS(parse("ftp://kv1.vault.azure.net/keys/disk"), FAIL_KEY_URL_SCHEME);
	EXPECT_STATUS(parse("kv1.vault.azure.net/keys/disk"), FAIL_KEY_URL_SCHEME);
	EXPECT_STATUS(parse(" " KEY), FAIL_KEY_URL_SCHEME);
	EXPECT_STATUS(parse(""), FAIL_KEY_URL_SCHEME);
}

TEST(a_host_without_the_dot_in_front_of_the_suffix_is_foreign)
{
	EXPECT_STATUS(parse("https://kv1vault.azure.net/keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://vault.azure.net/keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://.vault.azure.net/keys/disk"), FAIL_KEY_URL_HOST);
}

TEST(a_host_that_only_looks_like_a_vault_is_foreign)
{
	EXPECT_STATUS(parse("https://example.com/keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://a.kv1.vault.azure.net/keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net./keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net.example.com/keys/disk"),
		      FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://127.0.0.1/keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://kv.vault.azure.net/keys/disk"), FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://abcdefghijklmnopqrstuvwxy.vault.azure.net/keys/disk"),
		      FAIL_KEY_URL_HOST);
	EXPECT_STATUS(parse("https://a.host.that.is.longer.than.any.vault.can.ever.be.in.any.cloud."
			    "vault.azure.net/keys/disk"),
		      FAIL_KEY_URL_HOST);
}

TEST(a_vault_of_a_cloud_that_is_not_known_is_told_apart)
{
	EXPECT_STATUS(parse("https://kv1.vault.microsoftazure.de/keys/disk"), FAIL_KEY_URL_SUFFIX);
	EXPECT_STATUS(parse("https://kv1.managedhsm.azure.example/keys/disk"), FAIL_KEY_URL_SUFFIX);
}

TEST(user_query_fragment_and_other_ports_are_refused)
{
	EXPECT_STATUS(parse("https://user@kv1.vault.azure.net/keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net@example.com/keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net:443@example.com/keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "?api-version=7.4"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "#x"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net:8443/keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net:4433/keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net:/keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://example.com\\.vault.azure.net/keys/disk"), FAIL_KEY_URL);
}

TEST(a_path_that_is_not_of_a_key_is_refused)
{
	EXPECT_STATUS(parse("https://kv1.vault.azure.net"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/keys"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/keys/"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/secrets/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net//keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/keys/../secrets/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/keys/di%73k"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https://kv1.vault.azure.net/keys/my_disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse("https:///keys/disk"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "\n"), FAIL_KEY_URL);
}

TEST(a_version_of_another_length_is_refused)
{
	EXPECT_STATUS(parse(KEY "/"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "/0123456789abcdef"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "/" VERSION "0"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "/" VERSION "/"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "/" VERSION "/unwrapkey"), FAIL_KEY_URL);
	EXPECT_STATUS(parse(KEY "/0123456789abcdef-123456789abcdef"), FAIL_KEY_URL);
}

TEST(names_are_compared_without_case_and_versions_count_only_when_asked)
{
	struct key_url a, b, other_version, other_name, other_host;

	EXPECT_OK(key_url_parse(&a, KEY "/" VERSION));
	EXPECT_OK(key_url_parse(&b, "https://KV1.vault.azure.net/keys/DISK/" VERSION));
	EXPECT_OK(key_url_parse(&other_version, KEY "/ffffffffffffffffffffffffffffffff"));
	EXPECT_OK(key_url_parse(&other_name, "https://kv1.vault.azure.net/keys/disk2/" VERSION));
	EXPECT_OK(key_url_parse(&other_host, "https://kv2.vault.azure.net/keys/disk/" VERSION));
	EXPECT_TRUE(key_url_equal(&a, &b));
	EXPECT_TRUE(key_url_same_key(&a, &other_version));
	EXPECT_FALSE(key_url_equal(&a, &other_version));
	EXPECT_FALSE(key_url_same_key(&a, &other_name));
	EXPECT_FALSE(key_url_same_key(&a, &other_host));
}

TEST(a_url_that_is_refused_leaves_the_target_alone)
{
	struct key_url url;

	EXPECT_OK(key_url_parse(&url, KEY));
	EXPECT_STATUS(key_url_parse(&url, "https://kv2.vault.azure.net/keys/"), FAIL_KEY_URL);
	EXPECT_TEXT(url.host, "kv1.vault.azure.net");
}
