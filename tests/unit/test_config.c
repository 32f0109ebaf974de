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
				"data_path=nbd\n\tqueue_count =  3\nlog_level = debug"));
	EXPECT_TEXT(config.key, "https://v.vault.azure.net/keys/k");
	EXPECT_EQUAL(config.data_path, CONFIG_DATA_PATH_NBD);
	EXPECT_EQUAL(config.queue_count, 3);
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
