#include "platform/file.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/test.h"

static const char *at(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	return path;
}

TEST(a_new_file_is_its_owners_only_and_is_not_overwritten)
{
	struct stat information;
	char text[16];
	size_t size;

	EXPECT_OK(file_create(at("new"), "first", 5));
	EXPECT_EQUAL(stat(at("new"), &information), 0);
	EXPECT_EQUAL(information.st_mode & 0777, 0600);
	EXPECT_STATUS(file_create(at("new"), "second", 6), FAIL_FILE_EXISTS);
	EXPECT_OK(file_read_text(text, sizeof(text), &size, at("new")));
	EXPECT_TEXT(text, "first");
}

TEST(a_published_file_is_for_everybody_to_read_whatever_the_umask)
{
	struct stat information;
	mode_t mask = umask(077);
	enum status status = file_publish(at("published"), "x", 1);

	umask(mask);
	EXPECT_OK(status);
	EXPECT_EQUAL(stat(at("published"), &information), 0);
	EXPECT_EQUAL(information.st_mode & 0777, 0644);
}

TEST(a_file_is_replaced_whole_and_leaves_nothing_beside_it)
{
	char text[16];
	size_t size;

	EXPECT_OK(file_replace(at("replaced"), "a longer one", 12));
	EXPECT_OK(file_replace(at("replaced"), "short", 5));
	EXPECT_OK(file_read_text(text, sizeof(text), &size, at("replaced")));
	EXPECT_TEXT(text, "short");
	EXPECT_FALSE(file_exists(at("replaced.new")));
}

/* As somebody else may have put there: what a link leads to is not written to, and nobody waits for
 * the reader of a pipe. */
TEST(whatever_lies_where_the_new_file_is_written_is_taken_away)
{
	char text[16], draft[512], victim[512];
	size_t size;

	strcpy(draft, at("guarded.new"));
	strcpy(victim, at("victim"));
	EXPECT_OK(file_create(victim, "precious", 8));
	EXPECT_EQUAL(symlink(victim, draft), 0);
	EXPECT_OK(file_replace(at("guarded"), "a", 1));
	EXPECT_EQUAL(link(victim, draft), 0);
	EXPECT_OK(file_replace(at("guarded"), "b", 1));
	EXPECT_EQUAL(mkfifo(draft, 0600), 0);
	EXPECT_OK(file_publish(at("guarded"), "c", 1));
	EXPECT_OK(file_read_text(text, sizeof(text), &size, at("guarded")));
	EXPECT_TEXT(text, "c");
	EXPECT_OK(file_read_text(text, sizeof(text), &size, victim));
	EXPECT_TEXT(text, "precious");
}

TEST(a_folder_that_others_may_write_to_is_not_used)
{
	char folder[512];

	strcpy(folder, at("folder"));
	EXPECT_OK(file_make_folder(folder));
	EXPECT_OK(file_make_folder(folder));
	EXPECT_EQUAL(chmod(folder, 01777), 0);
	EXPECT_STATUS(file_make_folder(folder), FAIL_FILE);
	EXPECT_EQUAL(chmod(folder, 0755), 0);
	EXPECT_OK(file_make_folder(folder));
	EXPECT_STATUS(file_make_folder("/dev/null"), FAIL_FILE);
	if (geteuid() != 0)
		return;
	EXPECT_EQUAL(chown(folder, 65534, 65534), 0);
	EXPECT_STATUS(file_make_folder(folder), FAIL_FILE);
}

TEST(a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not)
{
	SECRET_MEMORY_SCOPE struct secret_memory memory = {0};
	char text[6];
	size_t size;

	EXPECT_OK(file_replace(at("limit"), "12345", 5));
	EXPECT_OK(file_read_text(text, 6, &size, at("limit")));
	EXPECT_EQUAL(size, 5);
	EXPECT_STATUS(file_read_text(text, 5, &size, at("limit")), FAIL_FILE_TOO_LARGE);
	EXPECT_STATUS(file_read_secret(&memory, &size, at("limit"), 4), FAIL_FILE_TOO_LARGE);
	EXPECT_TRUE(memory.bytes == NULL);
	EXPECT_OK(file_read_secret(&memory, &size, at("limit"), 5));
	EXPECT_BYTES(memory.bytes, "12345", 5);
}

TEST(a_write_to_a_full_device_is_told_apart)
{
	FILE *full = fopen("/dev/full", "w");

	EXPECT_TRUE(full != NULL);
	EXPECT_STATUS(file_write_all(fileno(full), "x", 1), FAIL_DISK_FULL);
	fclose(full);
}

TEST(what_cannot_be_read_or_written_fails_with_its_status)
{
	char text[8];
	size_t size;

	EXPECT_STATUS(file_read_text(text, sizeof(text), &size, at("absent")), FAIL_FILE);
	EXPECT_STATUS(file_read_text(text, sizeof(text), &size, test_folder()), FAIL_FILE);
	EXPECT_STATUS(file_create(at("no-folder/x"), "x", 1), FAIL_FILE);
	EXPECT_STATUS(file_replace(at("no-folder/x"), "x", 1), FAIL_FILE);
}
