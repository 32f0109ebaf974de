#include "app/supervisor/managed_volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/file.h"
#include "platform/log.h"

#define LINK_PATH_SIZE 128
#define TARGET_SIZE 80

static void link_path(const struct managed_volume *managed, char path[static LINK_PATH_SIZE])
{
	snprintf(path, LINK_PATH_SIZE, MANAGED_VOLUME_DEVICES "/%s", managed->name);
}

/* A path that is no device is a socket, which is found by its own path. */
static bool is_device(const struct managed_volume *managed)
{
	return strncmp(managed->device_path, "/dev/", 5) == 0;
}

/* Has udev look at the device again, now that it has its name, so that systemd sees it. */
static void tell_udev(const char *device)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/block/%s/uevent", device);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (file_write_all(fd, "change", 6) != OK)
		log_warning("cannot tell udev of %s", device);
	close(fd);
}

/* An old link of the same name is of a device that is gone: names are unique among the served. One
 * that is right already is not touched: somebody may be about to use it. */
void managed_volume_publish(const struct managed_volume *managed)
{
	char path[LINK_PATH_SIZE], target[TARGET_SIZE], found[TARGET_SIZE] = "";

	if (!is_device(managed))
		return;
	link_path(managed, path);
	snprintf(target, sizeof(target), "../%s", managed->device_path + 5);
	if (readlink(path, found, sizeof(found) - 1) > 0 && strcmp(found, target) == 0)
		return;
	if (file_make_folder(MANAGED_VOLUME_DEVICES) != OK)
		return;
	/* Others than root may see what is served; the device keeps its own mode. */
	(void)chmod(MANAGED_VOLUME_DEVICES, 0755);
	(void)unlink(path);
	if (symlink(target, path) != 0)
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make %s", path);
	tell_udev(managed->device_path + 5);
}

void managed_volume_unpublish(struct managed_volume *managed)
{
	char path[LINK_PATH_SIZE];

	/* A link to nothing may be of a device from before this process. */
	if (managed->name[0] != '\0' &&
	    (is_device(managed) || !managed_volume_is_published(managed))) {
		link_path(managed, path);
		(void)unlink(path);
	}
	managed->device_path[0] = '\0';
}

bool managed_volume_is_published(const struct managed_volume *managed)
{
	char path[LINK_PATH_SIZE];
	struct stat information;

	if (managed->name[0] == '\0')
		return false;
	link_path(managed, path);
	return stat(path, &information) == 0 && S_ISBLK(information.st_mode);
}
