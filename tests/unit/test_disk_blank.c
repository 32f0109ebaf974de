/* Which files of zeros are blank, and which only look so. */
#include "app/volume/disk_blank.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/volume/volume.h"
#include "tests/unit/test.h"

#define MIB ((uint64_t)1024 * 1024)
#define LARGE_SIZE (6 * 1024 * MIB)

static _Atomic uint64_t done_bytes;
static uint64_t place;

/* A sparse file of that size that holds `size` bytes of 1 at `offset`. */
static const char *disk_with(uint64_t disk_size, uint64_t offset, size_t size)
{
	static uint8_t ones[32 * 1024 * 1024];
	static char path[256];
	int fd;

	memset(ones, 1, sizeof(ones));
	snprintf(path, sizeof(path), "%s/disk", test_folder());
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	EXPECT_TRUE(fd >= 0);
	EXPECT_EQUAL(ftruncate(fd, (off_t)disk_size), 0);
	EXPECT_EQUAL(pwrite(fd, ones, size, (off_t)offset), size);
	close(fd);
	return path;
}

static enum status prove(const char *path, enum disk_blank_care care)
{
	return disk_blank_prove(&place, path, care, &done_bytes);
}

TEST(a_disk_of_zeros_is_blank_whatever_its_size)
{
	static const uint64_t sizes[] = {0,       1,        511,        4097,
					 MIB + 1, 64 * MIB, LARGE_SIZE, LARGE_SIZE + 513};

	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		EXPECT_OK(prove(disk_with(sizes[i], 0, 0), DISK_BLANK_SAMPLE));
		EXPECT_EQUAL(done_bytes, sizes[i]);
	}
}

TEST(one_byte_anywhere_on_a_small_disk_is_found)
{
	static const uint64_t places[] = {0, 511, 4096, MIB, 17 * MIB + 5, 64 * MIB - 1};

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		EXPECT_STATUS(prove(disk_with(64 * MIB, places[i], 1), DISK_BLANK_SAMPLE),
			      FAIL_DISK_NOT_BLANK);
		EXPECT_EQUAL(place, places[i] / 4096 * 4096);
		EXPECT_EQUAL(done_bytes, 64 * MIB);
	}
}

TEST(of_a_large_disk_beginning_and_end_are_read_whole)
{
	static const uint64_t places[] = {0, 255 * MIB, 256 * MIB - 1, LARGE_SIZE - 16 * MIB,
					  LARGE_SIZE - 1};

	for (size_t i = 0; i < ARRAY_COUNT(places); i++)
		EXPECT_STATUS(prove(disk_with(LARGE_SIZE, places[i], 1), DISK_BLANK_SAMPLE),
			      FAIL_DISK_NOT_BLANK);
}

/* The draw is another one each time. */
TEST(of_a_large_disk_32_MiB_in_one_place_are_found_for_certain)
{
	for (uint64_t offset = 256 * MIB; offset < LARGE_SIZE - 48 * MIB;
	     offset += 811 * MIB + 4096)
		EXPECT_STATUS(prove(disk_with(LARGE_SIZE, offset, 32 * MIB), DISK_BLANK_SAMPLE),
			      FAIL_DISK_NOT_BLANK);
}

TEST(with_whole_one_byte_anywhere_is_found)
{
	EXPECT_STATUS(prove(disk_with(LARGE_SIZE, 3333 * MIB + 77, 1), DISK_BLANK_WHOLE),
		      FAIL_DISK_NOT_BLANK);
	EXPECT_EQUAL(place, 3333 * MIB);
}

TEST(before_the_data_of_a_marked_disk_nothing_counts_and_behind_it_everything)
{
	static uint8_t first_sector[VOLUME_MARK_SIZE] = "byok: a volume was being made here\n";
	const char *path = disk_with(64 * MIB, VOLUME_DATA_OFFSET - 5000, 5000);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	EXPECT_TRUE(volume_create_was_cut(first_sector));
	EXPECT_EQUAL(pwrite(fd, first_sector, sizeof(first_sector), 0), sizeof(first_sector));
	EXPECT_OK(prove(path, DISK_BLANK_SAMPLE));
	EXPECT_EQUAL(pwrite(fd, "x", 1, VOLUME_DATA_OFFSET), 1);
	EXPECT_STATUS(prove(path, DISK_BLANK_SAMPLE), FAIL_DISK_NOT_BLANK);
	EXPECT_EQUAL(place, VOLUME_DATA_OFFSET);
	close(fd);
}

TEST(what_is_no_disk_is_not_blank)
{
	EXPECT_STATUS(prove("/nowhere/at/all", DISK_BLANK_SAMPLE), FAIL_DISK_ABSENT);
	EXPECT_STATUS(prove("/dev/null", DISK_BLANK_SAMPLE), FAIL_DISK_KIND);
}
