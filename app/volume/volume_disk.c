#include "app/volume/volume_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

#define LOCK_FOLDER "/run/cryptsetup"
#define LOCK_PATIENCE_MS 5000
#define LOCK_INTERVAL_MS 20
#define ZEROS_SIZE (64u * 1024)

static enum status take_lock(int fd, const char *path, bool is_exclusive)
{
	uint64_t deadline_ms = clock_now_ms() + LOCK_PATIENCE_MS;

	while (flock(fd, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			log_errno(LOG_PRIORITY_ERROR, errno, "%s: flock", path);
			return FAIL_SYSTEM;
		}
		if (clock_left_ms(deadline_ms) == 0)
			return FAIL_HEADER_LOCKED;
		clock_sleep_ms(LOCK_INTERVAL_MS);
	}
	return OK;
}

static enum status open_lock_file(int *fd, const char *path)
{
	*fd = open(path, O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0700);
	if (*fd < 0 && errno == ENOENT && mkdir(LOCK_FOLDER, 0700) == 0)
		*fd = open(path, O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0700);
	if (*fd >= 0)
		return OK;
	if (errno == EACCES || errno == EPERM)
		return FAIL_NOT_ROOT;
	log_errno(LOG_PRIORITY_ERROR, errno, "%s: open", path);
	return FAIL_SYSTEM;
}

/* Whoever unlocks last, cryptsetup or byok, may remove the lock file: a lock counts only if the
 * file is still the one by that name. */
static bool is_named(int fd, const char *path)
{
	struct stat held, named;

	return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
	       held.st_dev == named.st_dev;
}

static enum status lock_block_device(int *fd, dev_t device, bool is_exclusive)
{
	char path[64];

	snprintf(path, sizeof(path), LOCK_FOLDER "/L_%u:%u", major(device), minor(device));
	for (;;) {
		enum status status;

		TRY(open_lock_file(fd, path));
		status = take_lock(*fd, path, is_exclusive);
		if (status == OK && is_named(*fd, path))
			return OK;
		close(*fd);
		*fd = -1;
		TRY(status);
	}
}

static enum status lock(struct volume_disk *disk, const char *path, bool is_exclusive)
{
	struct stat information;

	if (!disk->backing.is_block_device)
		return take_lock(disk->backing.fd, path, is_exclusive);
	if (fstat(disk->backing.fd, &information) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: fstat", path);
		return FAIL_SYSTEM;
	}
	return lock_block_device(&disk->lock_fd, information.st_rdev, is_exclusive);
}

static bool can_only_be_read(const struct volume_disk *disk, const char *path)
{
	int read_only = 0;

	if (disk->backing.is_writable)
		return false;
	if (disk->backing.is_block_device)
		return ioctl(disk->backing.fd, BLKROGET, &read_only) == 0 && read_only != 0;
	return access(path, W_OK) != 0;
}

enum status volume_disk_open(struct volume_disk *disk_out, const char *path,
			     enum volume_disk_access access)
{
	static const enum backing_disk_claim claims[] = {
		[VOLUME_DISK_READ] = BACKING_DISK_LOOK,
		[VOLUME_DISK_CHANGE] = BACKING_DISK_HEADER,
		[VOLUME_DISK_CLAIM] = BACKING_DISK_SERVE,
	};
	struct volume_disk disk = {.lock_fd = -1};
	enum status status;

	CHECK((size_t)access < ARRAY_COUNT(claims));
	TRY(backing_disk_open(&disk.backing, path, claims[access]));
	disk.is_open = true;
	disk.size_bytes = disk.backing.size_bytes;
	disk.block_size = disk.backing.logical_block_size;
	disk.is_read_only = can_only_be_read(&disk, path);
	status = lock(&disk, path, access != VOLUME_DISK_READ);
	if (status != OK) {
		volume_disk_close(&disk);
		return status;
	}
	*disk_out = disk;
	return OK;
}

void volume_disk_close(struct volume_disk *disk)
{
	if (!disk->is_open)
		return;
	if (disk->lock_fd >= 0)
		close(disk->lock_fd);
	backing_disk_close(&disk->backing);
	*disk = (struct volume_disk){.lock_fd = -1};
}

enum status volume_disk_read(const struct volume_disk *disk, uint64_t offset, void *bytes,
			     size_t size)
{
	return backing_disk_read(&disk->backing, offset, bytes, size);
}

enum status volume_disk_write(const struct volume_disk *disk, uint64_t offset, const void *bytes,
			      size_t size)
{
	return backing_disk_write(&disk->backing, offset, bytes, size);
}

/* The last bytes of a disk that is no multiple of the alignment: not with O_DIRECT. */
static enum status zero_tail(const struct volume_disk *disk, uint64_t offset, size_t size)
{
	static uint8_t zeros[VOLUME_DISK_ALIGNMENT];
	int flags = fcntl(disk->backing.fd, F_GETFL);
	ssize_t written = -1;

	CHECK(size < sizeof(zeros));
	if (flags >= 0 && fcntl(disk->backing.fd, F_SETFL, flags & ~O_DIRECT) == 0)
		written = pwrite(disk->backing.fd, zeros, size, (off_t)offset);
	if (written == (ssize_t)size && fcntl(disk->backing.fd, F_SETFL, flags) == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "%s: write at %llu", disk->backing.path,
		  (unsigned long long)offset);
	return FAIL_DISK_IO;
}

enum status volume_disk_zero(const struct volume_disk *disk, uint64_t offset, uint64_t size)
{
	/* Not const, so that zeros take no room in the binary. */
	_Alignas(VOLUME_DISK_ALIGNMENT) static uint8_t zeros[ZEROS_SIZE];

	CHECK(offset % VOLUME_DISK_ALIGNMENT == 0);
	while (size >= VOLUME_DISK_ALIGNMENT) {
		size_t lap = (size_t)MINIMUM(size, sizeof(zeros));

		lap -= lap % VOLUME_DISK_ALIGNMENT;
		TRY(backing_disk_write(&disk->backing, offset, zeros, lap));
		offset += lap;
		size -= lap;
	}
	return size > 0 ? zero_tail(disk, offset, (size_t)size) : OK;
}

enum status volume_disk_sync(const struct volume_disk *disk)
{
	return backing_disk_flush(&disk->backing);
}
