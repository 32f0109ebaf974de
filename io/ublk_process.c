#include "io/ublk_process.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "platform/log.h"

static const char *const kept_mounts[] = {"/", "/dev", "/proc", "/sys", "/run"};

static enum status refused(const char *what)
{
	const int error = errno;

	log_errno(LOG_PRIORITY_ERROR, error, "%s", what);
	return error == EPERM ? FAIL_NOT_ROOT : FAIL_SYSTEM;
}

enum status ublk_process_join_flushers(void)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0)
		return OK;
	return refused("PR_SET_IO_FLUSHER");
}

static bool is_kept(const char *path)
{
	for (size_t i = 0; i < ARRAY_COUNT(kept_mounts); i++)
		if (strcmp(path, kept_mounts[i]) == 0)
			return true;
	return false;
}

/* In place. The kernel writes space, tab, newline and backslash as three octal digits. */
static void decode_path(char *path)
{
	char *target = path;

	while (*path != '\0') {
		unsigned code;

		if (sscanf(path, "\\%3o", &code) == 1) {
			*target++ = (char)code;
			path += 4;
		} else {
			*target++ = *path++;
		}
	}
	*target = '\0';
}

/* The fifth word of a line of mountinfo; NULL if it has none. */
static char *mount_point_of(char *line)
{
	char *rest;
	char *word = strtok_r(line, " ", &rest);

	for (int i = 0; i < 4 && word != NULL; i++)
		word = strtok_r(NULL, " ", &rest);
	if (word != NULL)
		decode_path(word);
	return word;
}

/* What cannot be unmounted went with what it was mounted on, or is hidden below another mount. */
static enum status unmount_all_but_kept(void)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t line_size = 0;
	const char *path;

	if (mounts == NULL)
		return refused("/proc/self/mountinfo");
	while (getline(&line, &line_size, mounts) > 0) {
		path = mount_point_of(line);
		if (path != NULL && !is_kept(path))
			(void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	free(line);
	fclose(mounts);
	return OK;
}

enum status ublk_process_prepare(void)
{
	TRY(ublk_process_join_flushers());
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return refused("a mount namespace of its own");
	return unmount_all_but_kept();
}
