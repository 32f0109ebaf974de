#include "app/volume/disk_probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "io/backing_disk.h"
#include "platform/bytes.h"

#define EDGE_SIZE (1024u * 1024)
#define PIECE_SIZE (64u * 1024)
#define LINE_SIZE 4096

/* --- who uses it -------------------------------------------------------------------------------
 */

static void set_user(struct disk_probe *probe, enum disk_user_kind kind, const char *user)
{
	size_t length = 0;

	probe->user_kind = kind;
	for (; user[length] != '\0' && length + 1 < sizeof(probe->user); length++)
		probe->user[length] =
			user[length] >= 0x20 && user[length] < 0x7f ? user[length] : '?';
	probe->user[length] = '\0';
}

/* Whether that block device is the disk or a partition of it. */
static bool is_part_of(dev_t device, dev_t disk)
{
	char path[64], of_device[PATH_MAX], of_disk[PATH_MAX];
	size_t length;

	if (device == disk)
		return true;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(device), minor(device));
	if (realpath(path, of_device) == NULL)
		return false;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(disk), minor(disk));
	if (realpath(path, of_disk) == NULL)
		return false;
	length = strlen(of_disk);
	return strncmp(of_device, of_disk, length) == 0 && of_device[length] == '/';
}

/* Each line: id, parent id, major:minor, root, mount point ... */
static void find_mount(struct disk_probe *probe, dev_t disk)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[LINE_SIZE], mount_point[LINE_SIZE];
	unsigned major_number, minor_number;

	if (file == NULL)
		return;
	while (probe->user_kind == DISK_USER_NONE && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "%*s %*s %u:%u %*s %4095s", &major_number, &minor_number,
			   mount_point) == 3 &&
		    is_part_of(makedev(major_number, minor_number), disk))
			set_user(probe, DISK_USER_MOUNT, mount_point);
	fclose(file);
}

static void find_swap(struct disk_probe *probe, dev_t disk)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[LINE_SIZE], device[LINE_SIZE];
	struct stat information;

	if (file == NULL)
		return;
	while (probe->user_kind == DISK_USER_NONE && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "%4095s", device) == 1 && stat(device, &information) == 0 &&
		    S_ISBLK(information.st_mode) && is_part_of(information.st_rdev, disk))
			set_user(probe, DISK_USER_SWAP, device);
	fclose(file);
}

static void find_holder_in(struct disk_probe *probe, const char *folder_path)
{
	DIR *folder = opendir(folder_path);
	struct dirent *entry;

	if (folder == NULL)
		return;
	while (probe->user_kind == DISK_USER_NONE && (entry = readdir(folder)) != NULL)
		if (entry->d_name[0] != '.')
			set_user(probe, DISK_USER_HOLDER, entry->d_name);
	closedir(folder);
}

/* Of the disk and of its partitions, which are folders within the disk's own. */
static void find_holder(struct disk_probe *probe, dev_t disk)
{
	char path[64], partition[PATH_MAX];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(disk), minor(disk));
	snprintf(partition, sizeof(partition), "%s/holders", path);
	find_holder_in(probe, partition);
	folder = opendir(path);
	if (folder == NULL)
		return;
	while (probe->user_kind == DISK_USER_NONE && (entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(partition, sizeof(partition), "%s/%s/partition", path, entry->d_name);
		if (access(partition, F_OK) != 0)
			continue;
		snprintf(partition, sizeof(partition), "%s/%s/holders", path, entry->d_name);
		find_holder_in(probe, partition);
	}
	closedir(folder);
}

static void find_user_of_device(struct disk_probe *probe, const char *disk_path, dev_t disk)
{
	int fd;

	find_mount(probe, disk);
	find_swap(probe, disk);
	find_holder(probe, disk);
	if (probe->user_kind != DISK_USER_NONE)
		return;
	fd = open(disk_path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	else if (errno == EBUSY)
		set_user(probe, DISK_USER_OPEN, "");
}

/* A loop device takes no lock on its file, and byok, which does, lets only readers in beside it. */
static void find_user_of_file(struct disk_probe *probe, const char *disk_path)
{
	struct backing_disk disk = {.fd = -1};
	enum status status = backing_disk_open(&disk, disk_path, BACKING_DISK_SERVE_READ_ONLY);

	if (status == OK)
		backing_disk_close(&disk);
	else if (status == FAIL_DISK_IN_USE)
		set_user(probe, DISK_USER_OPEN, "");
}

/* --- what is on it -----------------------------------------------------------------------------
 */

static bool read_for_signatures(const void *context, uint64_t offset, void *bytes, size_t size)
{
	return backing_disk_read(context, offset, bytes, size) == OK;
}

static enum status look_for_zeros(bool *all_zero, const struct backing_disk *disk, uint64_t offset,
				  uint64_t end)
{
	_Alignas(BACKING_DISK_ALIGNMENT) uint8_t piece[PIECE_SIZE];

	while (*all_zero && offset < end) {
		size_t size = (size_t)MINIMUM(end - offset, sizeof(piece));

		TRY(backing_disk_read(disk, offset, piece, size));
		*all_zero = bytes_are_zero(piece, size);
		offset += size;
	}
	return OK;
}

static enum status look_for_blank(struct disk_probe *probe, const struct backing_disk *disk)
{
	uint64_t end = MINIMUM(disk->size_bytes, EDGE_SIZE);

	probe->is_blank = probe->signature_count == 0;
	TRY(look_for_zeros(&probe->is_blank, disk, 0, end));
	return look_for_zeros(&probe->is_blank, disk,
			      MAXIMUM(end, disk->size_bytes - MINIMUM(disk->size_bytes, EDGE_SIZE)),
			      disk->size_bytes);
}

/* --- both --------------------------------------------------------------------------------------
 */

static enum status probe_open_disk(struct disk_probe *probe, const struct backing_disk *disk)
{
	const struct disk_signatures_reader reader = {read_for_signatures, disk, disk->size_bytes};
	struct stat information;
	int read_only = 0;

	probe->size_bytes = disk->size_bytes;
	probe->block_size = disk->logical_block_size;
	probe->is_block_device = disk->is_block_device;
	probe->signature_count =
		disk_signatures_find(probe->signatures, ARRAY_COUNT(probe->signatures), &reader);
	probe->signature_count = MINIMUM(probe->signature_count, ARRAY_COUNT(probe->signatures));
	TRY(look_for_blank(probe, disk));
	if (!disk->is_block_device) {
		probe->is_read_only = access(disk->path, W_OK) != 0;
		find_user_of_file(probe, disk->path);
		return OK;
	}
	if (ioctl(disk->fd, BLKROGET, &read_only) == 0)
		probe->is_read_only = read_only != 0;
	if (fstat(disk->fd, &information) == 0)
		find_user_of_device(probe, disk->path, information.st_rdev);
	return OK;
}

enum status disk_probe(struct disk_probe *probe_out, const char *disk_path)
{
	struct disk_probe probe = {0};
	struct backing_disk disk;
	enum status status;

	TRY(backing_disk_open(&disk, disk_path, BACKING_DISK_LOOK));
	status = probe_open_disk(&probe, &disk);
	backing_disk_close(&disk);
	if (status == OK)
		*probe_out = probe;
	return status;
}

static enum status failure_of_signature(enum disk_signature_kind kind)
{
	switch (kind) {
	case DISK_SIGNATURE_FILE_SYSTEM: return FAIL_DISK_HAS_FILE_SYSTEM;
	case DISK_SIGNATURE_PARTITIONS: return FAIL_DISK_HAS_PARTITIONS;
	case DISK_SIGNATURE_LUKS: return FAIL_DISK_HAS_LUKS;
	case DISK_SIGNATURE_OTHER:
	default: return FAIL_DISK_HAS_SIGNATURE;
	}
}

enum status disk_probe_may_overwrite(const struct disk_probe *probe, bool force)
{
	if (probe->user_kind == DISK_USER_MOUNT)
		return FAIL_DISK_MOUNTED;
	if (probe->user_kind != DISK_USER_NONE)
		return FAIL_DISK_IN_USE;
	if (probe->is_read_only)
		return FAIL_DISK_READ_ONLY;
	if (force || probe->signature_count == 0)
		return OK;
	return failure_of_signature(probe->signatures[0].kind);
}

void disk_probe_describe(const struct disk_probe *probe, char *text, size_t size)
{
	static const char *const suffixes[] = {
		[DISK_SIGNATURE_FILE_SYSTEM] = " file system",
		[DISK_SIGNATURE_PARTITIONS] = " partition table",
		[DISK_SIGNATURE_LUKS] = "",
		[DISK_SIGNATURE_OTHER] = "",
	};
	size_t used = 0;

	CHECK(size > 0);
	text[0] = '\0';
	for (size_t i = 0; i < probe->signature_count && used < size; i++) {
		int length =
			snprintf(text + used, size - used, "%s%s%s", i > 0 ? ", " : "",
				 probe->signatures[i].name, suffixes[probe->signatures[i].kind]);

		used += length > 0 ? (size_t)length : 0;
	}
}
