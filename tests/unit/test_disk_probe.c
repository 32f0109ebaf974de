#include "app/volume/disk_probe.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test.h"

#define DISK_SIZE (4u * 1024 * 1024)

static struct disk_probe probe;

/* A file of that size that holds `byte` at `offset`, and else zeros. */
static const char *disk_with(size_t size, size_t offset, uint8_t byte)
{
	static char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/disk", test_folder());
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	EXPECT_TRUE(fd >= 0);
	EXPECT_EQUAL(ftruncate(fd, (off_t)size), 0);
	if (offset < size)
		EXPECT_EQUAL(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
	return path;
}

TEST(a_disk_of_zeros_is_blank)
{
	EXPECT_OK(disk_probe(&probe, disk_with(DISK_SIZE, DISK_SIZE, 0)));
	EXPECT_TRUE(probe.is_blank);
	EXPECT_EQUAL(probe.size_bytes, DISK_SIZE);
	EXPECT_FALSE(probe.is_block_device);
	EXPECT_FALSE(probe.is_read_only);
	EXPECT_EQUAL(probe.user_kind, DISK_USER_NONE);
	EXPECT_EQUAL(probe.signature_count, 0);
	EXPECT_OK(disk_probe_may_overwrite(&probe, false));
}

TEST(one_byte_near_either_end_makes_it_not_blank)
{
	static const size_t places[] = {0, 1, 65537, 1048575, DISK_SIZE - 1048576, DISK_SIZE - 1};

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		EXPECT_OK(disk_probe(&probe, disk_with(DISK_SIZE, places[i], 1)));
		EXPECT_FALSE(probe.is_blank);
		EXPECT_OK(disk_probe_may_overwrite(&probe, false));
	}
	EXPECT_OK(disk_probe(&probe, disk_with(DISK_SIZE, DISK_SIZE / 2, 1)));
	EXPECT_TRUE(probe.is_blank);
}

TEST(small_and_odd_files_are_probed_too)
{
	static const size_t sizes[] = {0, 1, 511, 513, 4097, 1048577};

	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		EXPECT_OK(disk_probe(&probe, disk_with(sizes[i], sizes[i], 0)));
		EXPECT_TRUE(probe.is_blank);
		EXPECT_EQUAL(probe.size_bytes, sizes[i]);
	}
}

TEST(what_is_no_disk_is_said_to_be_none)
{
	EXPECT_STATUS(disk_probe(&probe, "/dev/null"), FAIL_DISK_KIND);
	EXPECT_STATUS(disk_probe(&probe, test_folder()), FAIL_DISK_KIND);
	EXPECT_STATUS(disk_probe(&probe, "/nowhere/at/all"), FAIL_DISK_ABSENT);
}

static enum status may_overwrite(enum disk_user_kind user, bool read_only,
				 enum disk_signature_kind kind, bool force)
{
	const struct disk_probe described = {
		.user_kind = user,
		.is_read_only = read_only,
		.signature_count = 1,
		.signatures = {{kind, "something", 0}},
	};

	return disk_probe_may_overwrite(&described, force);
}

TEST(force_overrides_content_and_never_users)
{
	for (int force = 0; force <= 1; force++) {
		EXPECT_STATUS(may_overwrite(DISK_USER_MOUNT, true, DISK_SIGNATURE_LUKS, force),
			      FAIL_DISK_MOUNTED);
		EXPECT_STATUS(may_overwrite(DISK_USER_SWAP, false, DISK_SIGNATURE_OTHER, force),
			      FAIL_DISK_IN_USE);
		EXPECT_STATUS(may_overwrite(DISK_USER_HOLDER, false, DISK_SIGNATURE_OTHER, force),
			      FAIL_DISK_IN_USE);
		EXPECT_STATUS(may_overwrite(DISK_USER_OPEN, false, DISK_SIGNATURE_OTHER, force),
			      FAIL_DISK_IN_USE);
		EXPECT_STATUS(may_overwrite(DISK_USER_NONE, true, DISK_SIGNATURE_OTHER, force),
			      FAIL_DISK_READ_ONLY);
	}
	EXPECT_STATUS(may_overwrite(DISK_USER_NONE, false, DISK_SIGNATURE_FILE_SYSTEM, false),
		      FAIL_DISK_HAS_FILE_SYSTEM);
	EXPECT_STATUS(may_overwrite(DISK_USER_NONE, false, DISK_SIGNATURE_PARTITIONS, false),
		      FAIL_DISK_HAS_PARTITIONS);
	EXPECT_STATUS(may_overwrite(DISK_USER_NONE, false, DISK_SIGNATURE_LUKS, false),
		      FAIL_DISK_HAS_LUKS);
	EXPECT_STATUS(may_overwrite(DISK_USER_NONE, false, DISK_SIGNATURE_OTHER, false),
		      FAIL_DISK_HAS_SIGNATURE);
	EXPECT_OK(may_overwrite(DISK_USER_NONE, false, DISK_SIGNATURE_FILE_SYSTEM, true));
}

TEST(what_would_be_destroyed_is_said_in_words)
{
	const struct disk_probe described = {
		.signature_count = 3,
		.signatures = {{DISK_SIGNATURE_PARTITIONS, "GPT", 512},
			       {DISK_SIGNATURE_FILE_SYSTEM, "XFS", 0},
			       {DISK_SIGNATURE_OTHER, "swap", 4086}},
	};
	char text[64], cut[10];

	disk_probe_describe(&described, text, sizeof(text));
	EXPECT_TEXT(text, "GPT partition table, XFS file system, swap");
	disk_probe_describe(&described, cut, sizeof(cut));
	EXPECT_TEXT(cut, "GPT parti");
	disk_probe_describe(&(const struct disk_probe){0}, text, sizeof(text));
	EXPECT_TEXT(text, "");
}
