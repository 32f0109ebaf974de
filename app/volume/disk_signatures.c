#include "app/volume/disk_signatures.h"

#include <string.h>

#include "platform/bytes.h"

#define ZFS_LABEL_SIZE ((uint64_t)256 * 1024)
#define ZFS_PIECE_SIZE 8192

/* The table of magic bytes, and the few kinds that a table cannot say. Offsets and magics are those
 * of each format's own documentation. */

struct magic {
	uint32_t offset;
	uint8_t kind; /* enum disk_signature_kind */
	uint8_t size;
	char name[22];
	char bytes[24];
};

#define MAGIC(kind, name, offset, bytes)                                      \
	{                                                                     \
		offset, DISK_SIGNATURE_##kind, sizeof(bytes) - 1, name, bytes \
	}

static const struct magic magics[] = {
	MAGIC(LUKS, "LUKS", 0, "LUKS\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x4000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x8000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x10000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x20000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x40000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x80000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x100000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x200000, "SKUL\xba\xbe"),
	MAGIC(LUKS, "LUKS2 (second header)", 0x400000, "SKUL\xba\xbe"),

	MAGIC(FILE_SYSTEM, "ext2, ext3 or ext4", 0x438, "\x53\xef"),
	MAGIC(FILE_SYSTEM, "XFS", 0, "XFSB"),
	MAGIC(FILE_SYSTEM, "btrfs", 0x10040, "_BHRfS_M"),
	MAGIC(FILE_SYSTEM, "NTFS", 3, "NTFS    "),
	MAGIC(FILE_SYSTEM, "exFAT", 3, "EXFAT   "),
	MAGIC(FILE_SYSTEM, "ReFS", 3, "ReFS\0\0\0\0"),
	MAGIC(FILE_SYSTEM, "FAT", 0x36, "FAT12   "),
	MAGIC(FILE_SYSTEM, "FAT", 0x36, "FAT16   "),
	MAGIC(FILE_SYSTEM, "FAT", 0x52, "FAT32   "),
	MAGIC(FILE_SYSTEM, "F2FS", 0x400, "\x10\x20\xf5\xf2"),
	MAGIC(FILE_SYSTEM, "bcachefs", 0x1018,
	      "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
	MAGIC(FILE_SYSTEM, "ReiserFS", 0x10034, "ReIsEr"),
	MAGIC(FILE_SYSTEM, "JFS", 0x8000, "JFS1"),
	MAGIC(FILE_SYSTEM, "NILFS2", 0x406, "\x34\x34"),
	MAGIC(FILE_SYSTEM, "GFS2", 0x10000, "\x01\x16\x19\x70"),
	MAGIC(FILE_SYSTEM, "OCFS2", 0x400, "OCFSV2"),
	MAGIC(FILE_SYSTEM, "OCFS2", 0x800, "OCFSV2"),
	MAGIC(FILE_SYSTEM, "OCFS2", 0x1000, "OCFSV2"),
	MAGIC(FILE_SYSTEM, "OCFS2", 0x2000, "OCFSV2"),
	MAGIC(FILE_SYSTEM, "ISO 9660", 0x8001, "CD001"),
	MAGIC(FILE_SYSTEM, "UDF", 0x8001, "BEA01"),
	MAGIC(FILE_SYSTEM, "UDF", 0x8001, "NSR0"),
	MAGIC(FILE_SYSTEM, "squashfs", 0, "hsqs"),
	MAGIC(FILE_SYSTEM, "EROFS", 0x400, "\xe2\xe1\xf5\xe0"),
	MAGIC(FILE_SYSTEM, "APFS", 32, "NXSB"),
	MAGIC(FILE_SYSTEM, "HFS+", 0x400, "H+\x00\x04"),
	MAGIC(FILE_SYSTEM, "HFS+", 0x400, "HX\x00\x05"),
	MAGIC(FILE_SYSTEM, "minix", 0x410, "\x7f\x13"),
	MAGIC(FILE_SYSTEM, "minix", 0x410, "\x8f\x13"),
	MAGIC(FILE_SYSTEM, "minix", 0x410, "\x68\x24"),
	MAGIC(FILE_SYSTEM, "minix", 0x410, "\x78\x24"),
	MAGIC(FILE_SYSTEM, "minix", 0x418, "\x5a\x4d"),
	MAGIC(FILE_SYSTEM, "VMFS", 0x100000, "\x0d\xd0\x01\xc0"),

	MAGIC(PARTITIONS, "GPT", 512, "EFI PART"),
	MAGIC(PARTITIONS, "GPT", 4096, "EFI PART"),
	MAGIC(PARTITIONS, "Apple partition map", 512, "PM\0\0"),
	MAGIC(PARTITIONS, "SGI volume header", 0, "\x0b\xe5\xa9\x41"),
	MAGIC(PARTITIONS, "BSD disklabel", 512, "\x57\x45\x56\x82"),
	MAGIC(PARTITIONS, "BSD disklabel", 64, "\x57\x45\x56\x82"),

	MAGIC(OTHER, "swap", 0xff6, "SWAPSPACE2"),
	MAGIC(OTHER, "swap", 0xff6, "SWAP-SPACE"),
	MAGIC(OTHER, "hibernation image", 0xff6, "S1SUSPEND"),
	MAGIC(OTHER, "hibernation image", 0xff6, "S2SUSPEND"),
	MAGIC(OTHER, "hibernation image", 0xff6, "ULSUSPEND"),
	MAGIC(OTHER, "hibernation image", 0xff6, "LINHIB0001"),
	MAGIC(OTHER, "swap", 0xfff6, "SWAPSPACE2"),
	MAGIC(OTHER, "LVM physical volume", 0, "LABELONE"),
	MAGIC(OTHER, "LVM physical volume", 512, "LABELONE"),
	MAGIC(OTHER, "LVM physical volume", 1024, "LABELONE"),
	MAGIC(OTHER, "LVM physical volume", 1536, "LABELONE"),
	MAGIC(OTHER, "LVM snapshot", 0, "SnAp"),
	MAGIC(OTHER, "md RAID", 0, "\xfc\x4e\x2b\xa9"),
	MAGIC(OTHER, "md RAID", 4096, "\xfc\x4e\x2b\xa9"),
	MAGIC(OTHER, "bcache", 0x1018,
	      "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
	MAGIC(OTHER, "BitLocker", 3, "-FVE-FS-"),
	MAGIC(OTHER, "Ceph BlueStore", 0, "bluestore block device"),
	MAGIC(OTHER, "Stratis pool", 516, "!Stra0tis"),
	MAGIC(OTHER, "Stratis pool", 9 * 512 + 4, "!Stra0tis"),
	MAGIC(OTHER, "Oracle ASM", 32, "ORCLDISK"),
	MAGIC(OTHER, "dm-verity", 0, "verity\0\0"),
	MAGIC(OTHER, "dm-integrity", 0, "integrt\0"),
	MAGIC(OTHER, "VDO", 0, "dmvdo001"),
};

/* The same, with offsets counted back from the end of the disk. */
static const struct magic end_magics[] = {
	MAGIC(PARTITIONS, "GPT (backup)", 512, "EFI PART"),
	MAGIC(PARTITIONS, "GPT (backup)", 4096, "EFI PART"),
	MAGIC(OTHER, "DDF RAID", 512, "\xde\x11\xde\x11"),
	MAGIC(OTHER, "Intel RAID", 1024, "Intel Raid ISM Cfg Sig. "),
};

struct search {
	const struct disk_signatures_reader *reader;
	struct disk_signature *signatures;
	size_t signature_max;
	size_t count;
};

static void found(struct search *search, enum disk_signature_kind kind, const char *name,
		  uint64_t offset)
{
	/* Some magics cover each other, and stand for one thing: name it once. */
	for (size_t i = 0; i < MINIMUM(search->count, search->signature_max); i++)
		if (strcmp(search->signatures[i].name, name) == 0)
			return;
	if (search->count < search->signature_max)
		search->signatures[search->count] = (struct disk_signature){kind, name, offset};
	search->count++;
}

static bool read_at(const struct search *search, uint64_t offset, void *bytes, size_t size)
{
	uint64_t end;

	return bytes_add(&end, offset, size) && end <= search->reader->size_bytes &&
	       search->reader->read(search->reader->context, offset, bytes, size);
}

static bool has_bytes(const struct search *search, uint64_t offset, const char *bytes, size_t size)
{
	char there[64];

	CHECK(size <= sizeof(there));
	return read_at(search, offset, there, size) && memcmp(there, bytes, size) == 0;
}

static void search_tables(struct search *search)
{
	for (size_t i = 0; i < ARRAY_COUNT(magics); i++)
		if (has_bytes(search, magics[i].offset, magics[i].bytes, magics[i].size))
			found(search, magics[i].kind, magics[i].name, magics[i].offset);
	for (size_t i = 0; i < ARRAY_COUNT(end_magics); i++) {
		uint64_t offset = search->reader->size_bytes - end_magics[i].offset;

		if (end_magics[i].offset <= search->reader->size_bytes &&
		    has_bytes(search, offset, end_magics[i].bytes, end_magics[i].size))
			found(search, end_magics[i].kind, end_magics[i].name, offset);
	}
}

/* 55 AA ends the boot sectors of file systems too; a partition table has entries that make sense.
 */
static void search_mbr(struct search *search)
{
	uint8_t sector[512];
	unsigned used = 0;

	if (!read_at(search, 0, sector, sizeof(sector)) || sector[510] != 0x55 ||
	    sector[511] != 0xaa)
		return;
	for (const uint8_t *entry = sector + 446; entry < sector + 510; entry += 16) {
		if ((entry[0] & 0x7f) != 0)
			return;
		if (entry[4] != 0 && bytes_load_le32(entry + 12) != 0)
			used++;
	}
	if (used > 0)
		found(search, DISK_SIGNATURE_PARTITIONS, "MBR", 510);
}

/* Metadata 0.90 and 1.0 stand near the end, at offsets rounded to 64 KiB and 4 KiB. */
static void search_md_at_end(struct search *search)
{
	static const char magic[] = "\xfc\x4e\x2b\xa9";
	uint64_t size = search->reader->size_bytes;
	uint64_t offset;

	if (size < 128 * 1024)
		return;
	offset = size / 65536 * 65536 - 65536;
	if (has_bytes(search, offset, magic, 4))
		found(search, DISK_SIGNATURE_OTHER, "md RAID", offset);
	offset = (size / 512 - 16) / 8 * 8 * 512;
	if (has_bytes(search, offset, magic, 4))
		found(search, DISK_SIGNATURE_OTHER, "md RAID", offset);
}

/* A label has 256 KiB, its second half a ring of uberblocks of 1 KiB or more, of which any may be
 * the first that was written. Two labels stand at the start and two at the end. */
static bool has_zfs_label(struct search *search, uint64_t label)
{
	static const char magic[] = "\x0c\xb1\xba\x00\x00\x00\x00\x00";
	uint8_t piece[ZFS_PIECE_SIZE];

	for (uint64_t at = ZFS_LABEL_SIZE / 2; at < ZFS_LABEL_SIZE; at += sizeof(piece)) {
		if (!read_at(search, label + at, piece, sizeof(piece)))
			return false;
		for (size_t i = 0; i < sizeof(piece); i += 1024)
			if (memcmp(piece + i, magic, 8) == 0)
				return true;
	}
	return false;
}

static void search_zfs(struct search *search)
{
	uint64_t size = search->reader->size_bytes / ZFS_LABEL_SIZE * ZFS_LABEL_SIZE;

	if (size < 4 * ZFS_LABEL_SIZE)
		return;
	if (has_zfs_label(search, 0))
		found(search, DISK_SIGNATURE_FILE_SYSTEM, "ZFS", ZFS_LABEL_SIZE / 2);
	else if (has_zfs_label(search, size - ZFS_LABEL_SIZE))
		found(search, DISK_SIGNATURE_FILE_SYSTEM, "ZFS", size - ZFS_LABEL_SIZE / 2);
}

size_t disk_signatures_find(struct disk_signature *signatures, size_t signature_max,
			    const struct disk_signatures_reader *reader)
{
	struct search search = {reader, signatures, signature_max, 0};

	search_tables(&search);
	search_mbr(&search);
	search_md_at_end(&search);
	search_zfs(&search);
	return search.count;
}
