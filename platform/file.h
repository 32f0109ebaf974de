/* Whole files: read with a limit, made new, or replaced at one instant. */
#ifndef PLATFORM_FILE_H
#define PLATFORM_FILE_H

#include "platform/secret.h"

/* Reads a text of at most target_size - 1 bytes and ends it with NUL. FAIL_FILE (logged with
 * errno), FAIL_FILE_TOO_LARGE. */
MUST_CHECK enum status file_read_text(char *target, size_t target_size, size_t *size,
				      const char *path);

/* Reads a secret into memory of its own, which the caller closes; "-" reads standard input. `size`
 * may be 0. FAIL_FILE, FAIL_FILE_TOO_LARGE, FAIL_OUT_OF_MEMORY. */
MUST_CHECK enum status file_read_secret(struct secret_memory *memory, size_t *size,
					const char *path, size_t size_max);

/* Makes a file that must not exist yet (FAIL_FILE_EXISTS) readable by its owner only, and fsyncs it
 * and its folder; a file that could not be written whole is removed. "-" writes to standard output.
 */
MUST_CHECK enum status file_create(const char *path, const void *bytes, size_t size);

/* Replaces the file by another with these bytes; whoever opens it finds the old or the new one. */
MUST_CHECK enum status file_replace(const char *path, const void *bytes, size_t size);

/* The same, for everybody to read. */
MUST_CHECK enum status file_publish(const char *path, const void *bytes, size_t size);

/* The same piece by piece: what is not written is zeros, which take no room on the disk. */
struct file_draft {
	int fd;
	const char *path; /* kept; the draft is PATH.new */
};

#define FILE_DRAFT_SCOPE __attribute__((cleanup(file_draft_close)))

MUST_CHECK enum status file_draft_open(struct file_draft *draft, const char *path);
MUST_CHECK enum status file_draft_write(const struct file_draft *draft, uint64_t offset,
					const void *bytes, size_t size);
MUST_CHECK enum status file_draft_finish(struct file_draft *draft, uint64_t size);
void file_draft_close(struct file_draft *draft); /* removes one that was not finished */

MUST_CHECK bool file_exists(const char *path);

/* Makes a folder, mode 0755, unless it is there. */
MUST_CHECK enum status file_make_folder(const char *path);

/* Writes all bytes; FAIL_DISK_FULL, else FAIL_FILE; not logged. */
MUST_CHECK enum status file_write_all(int fd, const void *bytes, size_t size);

#endif
