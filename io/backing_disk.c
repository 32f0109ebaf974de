#include "io/backing_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

/* The io_uring of a process that was killed holds the disk, and with it the claim, some
 * milliseconds longer than the process lives: its successor must not be turned away. */
#define CLAIM_TIME_MS 500
#define CLAIM_PAUSE_MS 10

#define BOUNCE_SIZE ((size_t)4 * BACKING_DISK_ALIGNMENT)

/* --- claiming it -------------------------------------------------------------------------------
 */

static bool is_exclusive(enum backing_disk_claim claim)
{
	return claim == BACKING_DISK_SERVE || claim == BACKING_DISK_SERVE_READ_ONLY;
}

static bool is_for_writing(enum backing_disk_claim claim)
{
	return claim == BACKING_DISK_SERVE || claim == BACKING_DISK_HEADER;
}

static bool is_mounted(dev_t device)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[4096];
	unsigned major_number;
	unsigned minor_number;
	bool found = false;

	if (mounts == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), mounts) != NULL)
		found = sscanf(line, "%*s %*s %u:%u", &major_number, &minor_number) == 2 &&
			makedev(major_number, minor_number) == device;
	fclose(mounts);
	return found;
}

/* A loop device takes no lock on its file. */
static bool is_behind_loop_device(const char *path)
{
	char absolute[PATH_MAX];
	char attribute[PATH_MAX];
	char backing[PATH_MAX];
	DIR *devices = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	if (devices == NULL)
		return false;
	if (realpath(path, absolute) == NULL)
		absolute[0] = '\0';
	while (!found && (entry = readdir(devices)) != NULL) {
		FILE *file;

		if (strncmp(entry->d_name, "loop", 4) != 0)
			continue;
		snprintf(attribute, sizeof(attribute), "/sys/block/%s/loop/backing_file",
			 entry->d_name);
		file = fopen(attribute, "re");
		if (file == NULL)
			continue;
		if (fgets(backing, sizeof(backing), file) != NULL) {
			backing[strcspn(backing, "\n")] = '\0';
			found = strcmp(backing, absolute) == 0;
		}
		fclose(file);
	}
	closedir(devices);
	return found;
}

static enum status judge_open_error(const char *path, const struct stat *information, int error)
{
	switch (error) {
	case EBUSY: return is_mounted(information->st_rdev) ? FAIL_DISK_MOUNTED : FAIL_DISK_IN_USE;
	case ENOENT:
	case ENOTDIR:
	case ENXIO:
	case ENODEV:
	case ENOMEDIUM: return FAIL_DISK_ABSENT;
	case EACCES:
		if (geteuid() != 0)
			return FAIL_NOT_ROOT;
		return FAIL_DISK_READ_ONLY;
	case EROFS:
	case EPERM: return FAIL_DISK_READ_ONLY;
	case ETXTBSY: return FAIL_DISK_IN_USE;
	default: log_errno(LOG_PRIORITY_ERROR, error, "%s: open", path); return FAIL_DISK_IO;
	}
}

static enum status open_claimed(int *fd_out, const char *path, enum backing_disk_claim claim)
{
	int flags = O_CLOEXEC | (is_for_writing(claim) ? O_RDWR : O_RDONLY);
	struct stat information = {0};
	int fd;

	/* Looked at before it is opened: opening a pipe waits, opening a tape rewinds it. */
	if (stat(path, &information) != 0)
		return judge_open_error(path, &information, errno);
	if (!S_ISBLK(information.st_mode) && !S_ISREG(information.st_mode))
		return FAIL_DISK_KIND;
	if (S_ISBLK(information.st_mode) && is_exclusive(claim))
		flags |= O_EXCL;
	fd = open(path, flags | O_DIRECT);
	if (fd < 0 && errno == EINVAL)
		fd = open(path, flags);
	if (fd < 0)
		return judge_open_error(path, &information, errno);
	*fd_out = fd;
	return OK;
}

static enum status lock_file(const struct backing_disk *disk, enum backing_disk_claim claim)
{
	struct flock lock = {
		.l_type = claim == BACKING_DISK_SERVE ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
	};

	if (disk->is_block_device || !is_exclusive(claim))
		return OK;
	if (fcntl(disk->fd, F_OFD_SETLK, &lock) != 0) {
		if (errno == EAGAIN || errno == EACCES)
			return FAIL_DISK_IN_USE;
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: lock", disk->path);
		return FAIL_SYSTEM;
	}
	return is_behind_loop_device(disk->path) ? FAIL_DISK_IN_USE : OK;
}

/* --- what it is --------------------------------------------------------------------------------
 */

/* An attribute of the disk's queue; a partition's queue is that of the disk it lies on. */
static bool read_queue_attribute(dev_t device, const char *name, char *text, size_t text_size)
{
	static const char *const places[] = {"queue", "../queue"};
	char path[128];
	bool found = false;

	for (size_t i = 0; i < ARRAY_COUNT(places) && !found; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(device),
			 minor(device), places[i], name);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		found = fgets(text, (int)text_size, file) != NULL;
		fclose(file);
	}
	return found;
}

static uint64_t queue_number(dev_t device, const char *name, uint64_t otherwise)
{
	char text[32];

	if (!read_queue_attribute(device, name, text, sizeof(text)))
		return otherwise;
	return strtoull(text, NULL, 10);
}

/* musl and glibc disagree about the type of ioctl's request; the system call takes a long. */
static long ask_block_device(int fd, unsigned long request, void *answer)
{
	return syscall(SYS_ioctl, fd, request, answer);
}

/* Through a ring, that is since Linux 6.12. An older one would refuse each discard, which a file
 * system takes for an error of the disk. */
static bool kernel_can_discard(void)
{
	struct utsname kernel;
	unsigned version = 0, release = 0;

	if (uname(&kernel) != 0 || sscanf(kernel.release, "%u.%u", &version, &release) != 2)
		return false;
	return version > 6 || (version == 6 && release >= 12);
}

static enum status describe_block_device(struct backing_disk *disk, dev_t device)
{
	int logical_size = 0;
	int is_read_only = 0;
	unsigned physical_size = 0;
	char cache[32];

	if (ask_block_device(disk->fd, BLKGETSIZE64, &disk->size_bytes) != 0 ||
	    ask_block_device(disk->fd, BLKSSZGET, &logical_size) != 0 ||
	    ask_block_device(disk->fd, BLKPBSZGET, &physical_size) != 0 ||
	    ask_block_device(disk->fd, BLKROGET, &is_read_only) != 0 || logical_size < 512) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: asking for its size", disk->path);
		return FAIL_DISK_IO;
	}
	disk->is_block_device = true;
	/* The kernel opens a read-only device for writing, and fails the writes. */
	disk->is_writable = disk->is_writable && is_read_only == 0;
	disk->logical_block_size = (uint32_t)logical_size;
	disk->physical_block_size = MAXIMUM(physical_size, disk->logical_block_size);
	disk->is_rotational = queue_number(device, "rotational", 0) != 0;
	/* Without an answer the disk is taken to have a cache: a flush too many does no harm. */
	disk->has_write_cache =
		!read_queue_attribute(device, "write_cache", cache, sizeof(cache)) ||
		strncmp(cache, "write back", 10) == 0;
	disk->has_fua = queue_number(device, "fua", 0) != 0;
	if (kernel_can_discard() && queue_number(device, "discard_max_bytes", 0) > 0)
		disk->discard_granularity =
			MAXIMUM((uint32_t)queue_number(device, "discard_granularity", 0),
				disk->logical_block_size);
	return OK;
}

/* The kernel of Debian 12 can tell a file's alignment for O_DIRECT, older ones cannot: trying can.
 */
static bool takes_direct_reads_of(const struct backing_disk *disk, uint32_t size)
{
	_Alignas(BACKING_DISK_ALIGNMENT) uint8_t block[BACKING_DISK_ALIGNMENT];

	return pread(disk->fd, block, size, 0) >= 0 || errno != EINVAL;
}

static enum status describe_file(struct backing_disk *disk, const struct stat *information)
{
	disk->size_bytes = (uint64_t)information->st_size;
	disk->logical_block_size = 512;
	disk->physical_block_size =
		MAXIMUM(512, MINIMUM((uint32_t)information->st_blksize, BACKING_DISK_ALIGNMENT));
	disk->discard_granularity = disk->physical_block_size;
	disk->has_write_cache = true;
	disk->has_fua = true;
	if (!disk->is_direct || takes_direct_reads_of(disk, 512))
		return OK;
	if (takes_direct_reads_of(disk, BACKING_DISK_ALIGNMENT)) {
		disk->logical_block_size = BACKING_DISK_ALIGNMENT;
		return OK;
	}
	/* A file system that allows to open with O_DIRECT, but not to use it. */
	if (fcntl(disk->fd, F_SETFL, fcntl(disk->fd, F_GETFL) & ~O_DIRECT) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: leaving O_DIRECT", disk->path);
		return FAIL_SYSTEM;
	}
	disk->is_direct = false;
	return OK;
}

static enum status describe(struct backing_disk *disk)
{
	int flags = fcntl(disk->fd, F_GETFL);
	struct stat information;

	if (flags < 0 || fstat(disk->fd, &information) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: fstat", disk->path);
		return FAIL_SYSTEM;
	}
	disk->is_writable = (flags & O_ACCMODE) == O_RDWR;
	disk->is_direct = (flags & O_DIRECT) != 0;
	if (S_ISBLK(information.st_mode))
		return describe_block_device(disk, information.st_rdev);
	if (S_ISREG(information.st_mode))
		return describe_file(disk, &information);
	return FAIL_DISK_KIND;
}

enum status backing_disk_adopt(struct backing_disk *disk_out, const char *path, int fd)
{
	struct backing_disk disk = {.fd = fd, .path = path};
	enum status status = describe(&disk);

	if (status != OK) {
		close(fd);
		return status;
	}
	*disk_out = disk;
	return OK;
}

static enum status open_once(struct backing_disk *disk_out, const char *path,
			     enum backing_disk_claim claim)
{
	struct backing_disk disk;
	enum status status;
	int fd = -1;

	TRY(open_claimed(&fd, path, claim));
	TRY(backing_disk_adopt(&disk, path, fd));
	status = is_for_writing(claim) && !disk.is_writable ? FAIL_DISK_READ_ONLY
							    : lock_file(&disk, claim);
	if (status != OK) {
		close(fd);
		return status;
	}
	*disk_out = disk;
	return OK;
}

enum status backing_disk_open(struct backing_disk *disk, const char *path,
			      enum backing_disk_claim claim)
{
	uint64_t deadline_ms = clock_now_ms() + CLAIM_TIME_MS;
	enum status status = open_once(disk, path, claim);

	while (status == FAIL_DISK_IN_USE && clock_left_ms(deadline_ms) > 0) {
		clock_sleep_ms(CLAIM_PAUSE_MS);
		status = open_once(disk, path, claim);
	}
	if (status == OK && !disk->is_direct)
		log_info("%s: its file system has no O_DIRECT; the page cache is in between", path);
	return status;
}

void backing_disk_close(struct backing_disk *disk)
{
	if (disk->path != NULL && disk->fd >= 0)
		close(disk->fd);
	*disk = (struct backing_disk){.fd = -1};
}

/* --- bytes, at once ----------------------------------------------------------------------------
 */

static enum status judge_transfer_error(const struct backing_disk *disk, const char *verb,
					uint64_t offset_bytes, ssize_t moved)
{
	if (moved == 0)
		log_error("%s: %s at %llu: the disk ends there", disk->path, verb,
			  (unsigned long long)offset_bytes);
	else
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: %s at %llu", disk->path, verb,
			  (unsigned long long)offset_bytes);
	return moved < 0 && (errno == ENOSPC || errno == EDQUOT) ? FAIL_DISK_FULL : FAIL_DISK_IO;
}

/* Reads at least `needed_size` of `size` bytes: the rest may lie past the end of the disk. */
static enum status read_whole(const struct backing_disk *disk, uint64_t offset_bytes,
			      uint8_t *target, size_t size, size_t needed_size)
{
	size_t done = 0;

	while (done < needed_size) {
		ssize_t moved =
			pread(disk->fd, target + done, size - done, (off_t)(offset_bytes + done));

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return judge_transfer_error(disk, "read", offset_bytes + done, moved);
		done += (size_t)moved;
	}
	return OK;
}

static enum status write_whole(const struct backing_disk *disk, uint64_t offset_bytes,
			       const uint8_t *source, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t moved =
			pwrite(disk->fd, source + done, size - done, (off_t)(offset_bytes + done));

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return judge_transfer_error(disk, "write", offset_bytes + done, moved);
		done += (size_t)moved;
	}
	return OK;
}

static bool is_aligned(uint64_t offset_bytes, const void *memory, size_t size)
{
	return (offset_bytes | (uintptr_t)memory | size) % BACKING_DISK_ALIGNMENT == 0;
}

enum status backing_disk_read(const struct backing_disk *disk, uint64_t offset_bytes, void *target,
			      size_t size)
{
	_Alignas(BACKING_DISK_ALIGNMENT) uint8_t bounce[BOUNCE_SIZE];
	uint8_t *position = target;

	if (!disk->is_direct || is_aligned(offset_bytes, target, size))
		return read_whole(disk, offset_bytes, target, size, size);
	while (size > 0) {
		size_t before = offset_bytes % BACKING_DISK_ALIGNMENT;
		size_t lap = MINIMUM(size, BOUNCE_SIZE - before);
		size_t rounded = ROUND_UP(before + lap, (size_t)BACKING_DISK_ALIGNMENT);

		TRY(read_whole(disk, offset_bytes - before, bounce, rounded, before + lap));
		memcpy(position, bounce + before, lap);
		position += lap;
		offset_bytes += lap;
		size -= lap;
	}
	return OK;
}

enum status backing_disk_write(const struct backing_disk *disk, uint64_t offset_bytes,
			       const void *source, size_t size)
{
	_Alignas(BACKING_DISK_ALIGNMENT) uint8_t bounce[BOUNCE_SIZE];
	const uint8_t *position = source;

	CHECK((offset_bytes | size) % BACKING_DISK_ALIGNMENT == 0);
	if (!disk->is_direct || is_aligned(offset_bytes, source, size))
		return write_whole(disk, offset_bytes, source, size);
	while (size > 0) {
		size_t lap = MINIMUM(size, BOUNCE_SIZE);

		memcpy(bounce, position, lap);
		TRY(write_whole(disk, offset_bytes, bounce, lap));
		position += lap;
		offset_bytes += lap;
		size -= lap;
	}
	return OK;
}

enum status backing_disk_flush(const struct backing_disk *disk)
{
	if (fdatasync(disk->fd) == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "%s: flush", disk->path);
	return FAIL_DISK_IO;
}

/* --- bytes, through a ring ---------------------------------------------------------------------
 */

enum status backing_disk_attach(const struct backing_disk *disk, struct ring *ring)
{
	return ring_set_file(ring, BACKING_DISK_SLOT, disk->fd);
}

void backing_disk_start_read(const struct backing_disk *disk, struct ring *ring, uint64_t token,
			     uint8_t *target, size_t size, uint64_t offset_bytes)
{
	(void)disk;
	ring_read_fixed(ring, token, BACKING_DISK_SLOT, target, size, offset_bytes);
}

void backing_disk_start_write(const struct backing_disk *disk, struct ring *ring, uint64_t token,
			      const uint8_t *source, size_t size, uint64_t offset_bytes,
			      bool is_durable)
{
	(void)disk;
	ring_write_fixed(ring, token, BACKING_DISK_SLOT, source, size, offset_bytes, is_durable);
}

void backing_disk_start_flush(const struct backing_disk *disk, struct ring *ring, uint64_t token)
{
	(void)disk;
	ring_sync_data(ring, token, BACKING_DISK_SLOT);
}

void backing_disk_start_discard(const struct backing_disk *disk, struct ring *ring, uint64_t token,
				uint64_t offset_bytes, uint64_t size)
{
	if (disk->is_block_device)
		ring_discard_blocks(ring, token, BACKING_DISK_SLOT, offset_bytes, size);
	else
		ring_punch_hole(ring, token, BACKING_DISK_SLOT, offset_bytes, size);
}
