#include "app/volume/disk_signatures.h"

#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"
#include "tests/unit/test.h"

#define DISK_SIZE ((size_t)9 * 1024 * 1024)

static uint8_t disk[DISK_SIZE];
static uint64_t disk_size = DISK_SIZE;
static bool is_unreadable;
static struct disk_signature signatures[16];

static bool read_disk(const void *context, uint64_t offset, void *bytes, size_t size)
{
	(void)context;
	CHECK(offset <= disk_size && size <= disk_size - offset);
	memcpy(bytes, disk + offset, size);
	return !is_unreadable;
}

static size_t find(void)
{
	const struct disk_signatures_reader reader = {read_disk, NULL, disk_size};

	return disk_signatures_find(signatures, ARRAY_COUNT(signatures), &reader);
}

static void clear(void)
{
	memset(disk, 0, sizeof(disk));
	disk_size = DISK_SIZE;
	is_unreadable = false;
}

/* What stands where, by the documentation of each format. */
static const struct {
	const char *name;
	enum disk_signature_kind kind;
	size_t offset;
	const char *bytes;
	size_t size;
} places[] = {
	{"LUKS", DISK_SIGNATURE_LUKS, 0, "LUKS\xba\xbe", 6},
	{"LUKS2 (second header)", DISK_SIGNATURE_LUKS, 0x10000, "SKUL\xba\xbe", 6},
	{"LUKS2 (second header)", DISK_SIGNATURE_LUKS, 0x400000, "SKUL\xba\xbe", 6},
	{"ext2, ext3 or ext4", DISK_SIGNATURE_FILE_SYSTEM, 1024 + 56, "\x53\xef", 2},
	{"XFS", DISK_SIGNATURE_FILE_SYSTEM, 0, "XFSB", 4},
	{"btrfs", DISK_SIGNATURE_FILE_SYSTEM, 65536 + 64, "_BHRfS_M", 8},
	{"NTFS", DISK_SIGNATURE_FILE_SYSTEM, 3, "NTFS    ", 8},
	{"exFAT", DISK_SIGNATURE_FILE_SYSTEM, 3, "EXFAT   ", 8},
	{"FAT", DISK_SIGNATURE_FILE_SYSTEM, 82, "FAT32   ", 8},
	{"F2FS", DISK_SIGNATURE_FILE_SYSTEM, 1024, "\x10\x20\xf5\xf2", 4},
	{"ZFS", DISK_SIGNATURE_FILE_SYSTEM, 128 * 1024, "\x0c\xb1\xba\0\0\0\0\0", 8},
	{"ZFS", DISK_SIGNATURE_FILE_SYSTEM, 255 * 1024, "\x0c\xb1\xba\0\0\0\0\0", 8},
	{"ZFS", DISK_SIGNATURE_FILE_SYSTEM, DISK_SIZE - 128 * 1024, "\x0c\xb1\xba\0\0\0\0\0", 8},
	{"ISO 9660", DISK_SIGNATURE_FILE_SYSTEM, 32769, "CD001", 5},
	{"GPT", DISK_SIGNATURE_PARTITIONS, 512, "EFI PART", 8},
	{"GPT", DISK_SIGNATURE_PARTITIONS, 4096, "EFI PART", 8},
	{"GPT (backup)", DISK_SIGNATURE_PARTITIONS, DISK_SIZE - 512, "EFI PART", 8},
	{"GPT (backup)", DISK_SIGNATURE_PARTITIONS, DISK_SIZE - 4096, "EFI PART", 8},
	{"swap", DISK_SIGNATURE_OTHER, 4096 - 10, "SWAPSPACE2", 10},
	{"LVM physical volume", DISK_SIGNATURE_OTHER, 512, "LABELONE", 8},
	{"md RAID", DISK_SIGNATURE_OTHER, 4096, "\xfc\x4e\x2b\xa9", 4},
	{"md RAID", DISK_SIGNATURE_OTHER, DISK_SIZE - 65536, "\xfc\x4e\x2b\xa9", 4},
	{"md RAID", DISK_SIGNATURE_OTHER, DISK_SIZE - 8192, "\xfc\x4e\x2b\xa9", 4},
	{"DDF RAID", DISK_SIGNATURE_OTHER, DISK_SIZE - 512, "\xde\x11\xde\x11", 4},
	{"Intel RAID", DISK_SIGNATURE_OTHER, DISK_SIZE - 1024, "Intel Raid ISM Cfg Sig. ", 24},
	{"BitLocker", DISK_SIGNATURE_OTHER, 3, "-FVE-FS-", 8},
	{"Ceph BlueStore", DISK_SIGNATURE_OTHER, 0, "bluestore block device", 22},
};

TEST(every_format_is_found_where_its_documentation_puts_it)
{
	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		clear();
		memcpy(disk + places[i].offset, places[i].bytes, places[i].size);
		EXPECT_EQUAL(find(), 1);
		EXPECT_TEXT(signatures[0].name, places[i].name);
		EXPECT_EQUAL(signatures[0].kind, places[i].kind);
		disk[places[i].offset + places[i].size - 1] ^= 0x20;
		EXPECT_EQUAL(find(), 0);
	}
}

TEST(zeros_and_what_cannot_be_read_show_nothing)
{
	clear();
	EXPECT_EQUAL(find(), 0);
	memcpy(disk, "XFSB", 4);
	EXPECT_EQUAL(find(), 1);
	is_unreadable = true;
	EXPECT_EQUAL(find(), 0);
}

TEST(disks_of_every_small_size_are_read_within_their_bounds)
{
	clear();
	for (disk_size = 0; disk_size < 8192; disk_size++)
		EXPECT_EQUAL(find(), 0);
	for (disk_size = 8192; disk_size < DISK_SIZE; disk_size += 127 * 511)
		EXPECT_EQUAL(find(), 0);
}

static void put_mbr(void)
{
	uint8_t *entry = disk + 446;

	clear();
	disk[510] = 0x55;
	disk[511] = 0xaa;
	entry[0] = 0x80;
	entry[4] = 0x83;
	entry[8] = 0x08;  /* first sector 2048 */
	entry[13] = 0x10; /* 4096 sectors */
}

TEST(an_mbr_is_told_from_a_boot_sector_by_its_entries)
{
	put_mbr();
	EXPECT_EQUAL(find(), 1);
	EXPECT_TEXT(signatures[0].name, "MBR");
	EXPECT_EQUAL(signatures[0].kind, DISK_SIGNATURE_PARTITIONS);
	disk[446] = 0x81;
	EXPECT_EQUAL(find(), 0);
	put_mbr();
	disk[450] = 0;
	EXPECT_EQUAL(find(), 0);
	put_mbr();
	disk[459] = 0;
	EXPECT_EQUAL(find(), 0);
	put_mbr();
	disk[511] = 0;
	EXPECT_EQUAL(find(), 0);
}

TEST(several_signatures_are_all_found_and_each_name_once)
{
	size_t count;

	put_mbr();
	memcpy(disk + 512, "EFI PART", 8);
	memcpy(disk + DISK_SIZE - 512, "EFI PART", 8);
	memcpy(disk + 4096, "\xfc\x4e\x2b\xa9", 4);
	memcpy(disk + DISK_SIZE - 8192, "\xfc\x4e\x2b\xa9", 4);
	count = find();
	EXPECT_EQUAL(count, 4);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			EXPECT_TRUE(strcmp(signatures[i].name, signatures[k].name) != 0);
}

TEST(random_bytes_rarely_look_like_anything)
{
	size_t count = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		clear();
		test_fill(disk, DISK_SIZE, seed);
		count += find();
	}
	/* Two-byte magics are met once in 65536 disks each. */
	EXPECT_TRUE(count <= 1);
}
