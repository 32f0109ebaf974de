#include "app/config.h"

#include <stdio.h>
#include <string.h>

#include "platform/file.h"
#include "tests/unit/test.h"

static enum status load(struct config *config, const char *text)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/byok.conf", test_folder());
	EXPECT_OK(file_replace(path, text, strlen(text)));
	config_init(config);
	return config_load(config, path);
}

TEST(a_file_of_settings_comments_and_blanks_is_read)
{
	struct config config;

	EXPECT_OK(load(&config, "# a comment\n\n key = https://v.vault.azure.net/keys/k \r\n"
				"data_path=nbd\n\tqueue_count =  3\nallow_discards = yes\n"
				"log_level = debug"));
	EXPECT_TEXT(config.key, "https://v.vault.azure.net/keys/k");
	EXPECT_EQUAL(config.data_path, CONFIG_DATA_PATH_NBD);
	EXPECT_EQUAL(config.queue_count, 3);
	EXPECT_EQUAL(config.allow_discards, 1);
	EXPECT_EQUAL(config.log_priority, LOG_PRIORITY_DEBUG);
	EXPECT_TEXT(config.imds_endpoint, "http://169.254.169.254");
}

TEST(each_kind_of_wrong_line_is_refused)
{
	static const char *const texts[] = {
		"key",
		"colour = blue",
		"queue_count = many",
		"queue_count = 33",
		"queue_count = -1",
		"attempt_timeout = 0",
		"data_path = tape",
		"log_level =",
		"key = two words",
		"= 5",
		"key = \x01",
		"queue_count = 99999999999999999999",
	};
	struct config config;

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		EXPECT_STATUS(load(&config, texts[i]), FAIL_CONFIG);
}

TEST(what_a_lost_key_costs_is_a_word_or_a_duration)
{
	static const struct {
		const char *text;
		uint32_t lock_after_s;
	} good[] = {
		{"warn", 0},
		{"lock-after=90s", 90},
		{"lock-after=30m", 1800},
		{"lock-after=12h", 43200},
		{"lock-after=7d", 604800},
		{"lock-after=3650d", 315360000},
	};
	static const char *const bad[] = {
		"",
		"lock",
		"lock-after=",
		"lock-after=90",
		"lock-after=0s",
		"lock-after=-1s",
		"lock-after=5w",
		"lock-after=5mm",
		"lock-after=3651d",
		"lock-after=4294967296s",
		"lock-after=99999999999999999999d",
	};
	struct config config;

	config_init(&config);
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		EXPECT_OK(config_set(&config, "on_key_loss", good[i].text));
		EXPECT_EQUAL(config.lock_after_s, good[i].lock_after_s);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		EXPECT_STATUS(config_set(&config, "on_key_loss", bad[i]), FAIL_CONFIG);
}

TEST(a_value_that_is_too_long_is_refused)
{
	char text[CONFIG_TEXT_SIZE + 16] = "key = ";
	struct config config;

	memset(text + 6, 'x', CONFIG_TEXT_SIZE - 1);
	EXPECT_OK(load(&config, text));
	memset(text + 6, 'x', CONFIG_TEXT_SIZE);
	EXPECT_STATUS(load(&config, text), FAIL_CONFIG);
}

TEST(a_file_that_is_too_large_or_not_there_is_told_apart)
{
	static char text[20000];
	struct config config;

	memset(text, '\n', sizeof(text) - 1);
	EXPECT_STATUS(load(&config, text), FAIL_FILE_TOO_LARGE);
	EXPECT_STATUS(config_load(&config, "/nonexistent/byok.conf"), FAIL_FILE);
}

TEST(a_key_is_found_with_dashes_too)
{
	EXPECT_TRUE(config_has_key("vault-connect-to"));
	EXPECT_TRUE(config_has_key("vault_connect_to"));
	EXPECT_FALSE(config_has_key("vault"));
	EXPECT_FALSE(config_has_key("vault-connect-to-"));
	EXPECT_FALSE(config_has_key(""));
}

/* --- user data --- */

TEST(user_data_fills_what_the_file_leaves_open_and_no_more)
{
	struct config config;

	EXPECT_OK(load(&config, "identity = from-the-file\nuser_data = yes\n"));
	EXPECT_TRUE(config_is_given(&config, "identity"));
	EXPECT_FALSE(config_is_given(&config, "key"));
	EXPECT_OK(config_take_user_data(&config, "key = of-the-cluster\nidentity=other\n"
						 "provision-size-min = 7\n\nrequire_key = yes\n"));
	EXPECT_TEXT(config.key, "of-the-cluster");
	EXPECT_TEXT(config.identity, "from-the-file");
	EXPECT_EQUAL(config.provision_size_min_gib, 7);
	EXPECT_EQUAL(config.require_key, 1);
	EXPECT_FALSE(config_is_given(&config, "key"));
	/* What it said before is forgotten. */
	EXPECT_OK(config_take_user_data(&config, "provision_name = x*"));
	EXPECT_TEXT(config.key, "");
	EXPECT_TEXT(config.identity, "from-the-file");
	EXPECT_EQUAL(config.provision_size_min_gib, 0);
	EXPECT_OK(config_take_user_data(&config, ""));
	EXPECT_TEXT(config.provision_name, "data*");
	EXPECT_EQUAL(config.user_data, 1);
}

static size_t setting_count, allowed_count;

static void try_as_user_data(const char *key, const char *takes, const char *purpose)
{
	static const char *const allowed[] = {"key",
					      "identity",
					      "require_key",
					      "expected_volumes",
					      "provision_disks",
					      "provision_name",
					      "provision_size_min",
					      "provision_size_max"};
	static const char *const values[] = {"no", "1", "/dev/disk/x*"};
	struct config config;
	char line[128];

	(void)takes;
	(void)purpose;
	setting_count++;
	for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
		bool is_listed = false;

		config_init(&config);
		snprintf(line, sizeof(line), "%s = %s", key, values[i]);
		for (size_t j = 0; j < ARRAY_COUNT(allowed); j++)
			is_listed = is_listed || strcmp(allowed[j], key) == 0;
		if (config_take_user_data(&config, line) != OK)
			continue;
		EXPECT_TRUE(is_listed);
		allowed_count++;
		return;
	}
}

/* An exact list: a later setting may not come from there until somebody has thought about it. */
TEST(user_data_may_say_only_what_hurts_nobody_who_has_not_asked_for_it)
{
	config_describe(try_as_user_data);
	EXPECT_TRUE(setting_count > allowed_count);
	EXPECT_EQUAL(allowed_count, 8);
}

TEST(user_data_that_is_wrong_anywhere_changes_nothing)
{
	static const char *const texts[] = {
		"key = a\nca_file = x",
		"key = a\nnonsense",
		"key = a\nprovision_size_min = x",
		"key = a b",
		"key = \x01",
		"key = a\n=",
	};
	static char long_text[CONFIG_USER_DATA_SIZE + 1];
	struct config config, before;

	EXPECT_OK(load(&config, "identity = x"));
	before = config;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		EXPECT_STATUS(config_take_user_data(&config, texts[i]), FAIL_CONFIG);
		EXPECT_BYTES(&config, &before, sizeof(config));
	}
	memset(long_text, '\n', sizeof(long_text) - 1);
	EXPECT_STATUS(config_take_user_data(&config, long_text), FAIL_CONFIG);
}
