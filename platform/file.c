#include "platform/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/log.h"

#define PATH_SIZE_MAX 4096

#define PRIVATE_MODE 0600
#define PUBLIC_MODE 0644

static void close_fd(const int *fd)
{
	if (*fd > STDERR_FILENO)
		close(*fd);
}

#define FD_SCOPE __attribute__((cleanup(close_fd)))

static enum status open_to_read(int *fd, const char *path)
{
	if (strcmp(path, "-") == 0) {
		*fd = STDIN_FILENO;
		return OK;
	}
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (*fd >= 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot open %s", path);
	return FAIL_FILE;
}

/* Reads until the end, or one byte more than size_max. */
static enum status read_all(int fd, uint8_t *target, size_t size_max, size_t *size,
			    const char *path)
{
	uint8_t one_more;
	size_t used = 0;

	for (;;) {
		bool is_full = used == size_max;
		ssize_t got = read(fd, is_full ? &one_more : target + used,
				   is_full ? 1 : size_max - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			log_errno(LOG_PRIORITY_ERROR, errno, "cannot read %s", path);
			return FAIL_FILE;
		}
		if (got == 0)
			break;
		if (is_full)
			return FAIL_FILE_TOO_LARGE;
		used += (size_t)got;
	}
	*size = used;
	return OK;
}

enum status file_read_text(char *target, size_t target_size, size_t *size, const char *path)
{
	FD_SCOPE int fd = -1;

	TRY(open_to_read(&fd, path));
	TRY(read_all(fd, (uint8_t *)target, target_size - 1, size, path));
	target[*size] = '\0';
	return OK;
}

/* As much memory as the file needs, and a byte more; for pipes and terminals, which cannot tell, a
 * typed line's worth. */
static size_t expected_size(int fd, size_t size_max)
{
	struct stat information;

	if (fstat(fd, &information) != 0 || !S_ISREG(information.st_mode))
		return MINIMUM(size_max, 65536);
	return MINIMUM((uint64_t)information.st_size + 1, size_max);
}

enum status file_read_secret(struct secret_memory *memory, size_t *size, const char *path,
			     size_t size_max)
{
	FD_SCOPE int fd = -1;
	enum status status;

	TRY(open_to_read(&fd, path));
	TRY(secret_memory_open(memory, expected_size(fd, size_max)));
	status = read_all(fd, memory->bytes, memory->size, size, path);
	if (status != OK)
		secret_memory_close(memory);
	return status;
}

enum status file_write_all(int fd, const void *bytes, size_t size)
{
	const uint8_t *next = bytes;

	while (size > 0) {
		ssize_t written = write(fd, next, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return errno == ENOSPC || errno == EDQUOT ? FAIL_DISK_FULL : FAIL_FILE;
		next += written;
		size -= (size_t)written;
	}
	return OK;
}

/* A new name is only safe from a power cut when its folder is on the disk, too. */
static enum status sync_folder_of(const char *path)
{
	char folder[PATH_SIZE_MAX];
	char *slash;
	FD_SCOPE int fd = -1;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash == NULL)
		snprintf(folder, sizeof(folder), ".");
	else
		slash[slash == folder ? 1 : 0] = '\0';
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		return FAIL_FILE;
	return OK;
}

static enum status write_and_sync(const char *path, const void *bytes, size_t size)
{
	FD_SCOPE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, PRIVATE_MODE);
	enum status status;

	if (fd < 0)
		return errno == EEXIST ? FAIL_FILE_EXISTS : FAIL_FILE;
	status = file_write_all(fd, bytes, size);
	if (status == OK && fsync(fd) != 0)
		status = FAIL_FILE;
	if (status != OK)
		unlink(path);
	return status;
}

enum status file_create(const char *path, const void *bytes, size_t size)
{
	enum status status;

	if (strcmp(path, "-") == 0)
		return file_write_all(STDOUT_FILENO, bytes, size);
	status = write_and_sync(path, bytes, size);
	if (status == OK)
		status = sync_folder_of(path);
	if (status != OK && status != FAIL_FILE_EXISTS)
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot write %s", path);
	return status;
}

static bool draft_path(char path[static PATH_SIZE_MAX], const struct file_draft *draft)
{
	return (size_t)snprintf(path, PATH_SIZE_MAX, "%s.new", draft->path) < PATH_SIZE_MAX;
}

static enum status draft_failed(const struct file_draft *draft, enum status status)
{
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot replace %s", draft->path);
	return status;
}

static enum status open_draft(struct file_draft *draft, const char *path, mode_t mode)
{
	char temporary[PATH_SIZE_MAX];

	*draft = (struct file_draft){.fd = -1, .path = path};
	/* What a process before has left, or somebody else has put there: a link, a pipe. */
	if (draft_path(temporary, draft) && (unlink(temporary) == 0 || errno == ENOENT))
		draft->fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	/* Whatever the umask. */
	if (draft->fd < 0 || fchmod(draft->fd, mode) != 0)
		return draft_failed(draft, FAIL_FILE);
	return OK;
}

enum status file_draft_open(struct file_draft *draft, const char *path)
{
	return open_draft(draft, path, PRIVATE_MODE);
}

enum status file_draft_write(const struct file_draft *draft, uint64_t offset, const void *bytes,
			     size_t size)
{
	enum status status = lseek(draft->fd, (off_t)offset, SEEK_SET) < 0
				     ? FAIL_FILE
				     : file_write_all(draft->fd, bytes, size);

	return status == OK ? OK : draft_failed(draft, status);
}

enum status file_draft_finish(struct file_draft *draft, uint64_t size)
{
	char temporary[PATH_SIZE_MAX];

	if (!draft_path(temporary, draft) || ftruncate(draft->fd, (off_t)size) != 0 ||
	    fsync(draft->fd) != 0 || rename(temporary, draft->path) != 0 ||
	    sync_folder_of(draft->path) != OK)
		return draft_failed(draft, FAIL_FILE);
	close(draft->fd);
	draft->fd = -1;
	return OK;
}

void file_draft_close(struct file_draft *draft)
{
	char temporary[PATH_SIZE_MAX];

	if (draft->fd < 0)
		return;
	close(draft->fd);
	if (draft_path(temporary, draft))
		(void)unlink(temporary);
}

static enum status replace(const char *path, mode_t mode, const void *bytes, size_t size)
{
	FILE_DRAFT_SCOPE struct file_draft draft = {.fd = -1};

	TRY(open_draft(&draft, path, mode));
	TRY(file_draft_write(&draft, 0, bytes, size));
	return file_draft_finish(&draft, size);
}

enum status file_replace(const char *path, const void *bytes, size_t size)
{
	return replace(path, PRIVATE_MODE, bytes, size);
}

enum status file_publish(const char *path, const void *bytes, size_t size)
{
	return replace(path, PUBLIC_MODE, bytes, size);
}

bool file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

enum status file_make_folder(const char *path)
{
	struct stat folder;

	if (mkdir(path, 0755) == 0)
		return OK;
	if (errno != EEXIST || stat(path, &folder) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make the folder %s", path);
		return FAIL_FILE;
	}
	if (S_ISDIR(folder.st_mode) && (folder.st_uid == 0 || folder.st_uid == geteuid()) &&
	    (folder.st_mode & S_IWOTH) == 0)
		return OK;
	log_error("%s must be a folder that is byok's own: others may write to it", path);
	return FAIL_FILE;
}
