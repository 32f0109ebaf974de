#include "app/worker/worker_socket.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/volume_name.h"
#include "platform/log.h"
#include "platform/process.h"

#define SUFFIX ".worker"
#define SUPERVISORS_WAITING_MAX 4

_Static_assert(WORKER_SOCKET_PATH_SIZE == sizeof(((struct sockaddr_un *)NULL)->sun_path),
	       "a path must fit into an address");

enum status worker_socket_path(char path[static WORKER_SOCKET_PATH_SIZE],
			       const char *run_directory, const char *name)
{
	if ((size_t)snprintf(path, WORKER_SOCKET_PATH_SIZE, "%s/%s" SUFFIX, run_directory, name) <
	    WORKER_SOCKET_PATH_SIZE)
		return OK;
	log_error("run_directory %s is too long for a socket", run_directory);
	return FAIL_CONFIG;
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

static enum status refused(const char *what, const char *path)
{
	log_errno(LOG_PRIORITY_ERROR, errno, "%s %s", what, path);
	return FAIL_FILE;
}

enum status worker_socket_connect(int *fd_out, const char *path)
{
	const struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	enum status status;

	if (fd < 0)
		return refused("cannot make a socket for", path);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
		*fd_out = fd;
		return OK;
	}
	if (errno == ECONNREFUSED || errno == ENOENT) {
		(void)unlink(path);
		status = FAIL_ROLE_DIED;
	} else {
		status = refused("cannot connect to", path);
	}
	close(fd);
	return status;
}

enum status worker_socket_listen(int *fd_out, const char *path)
{
	const struct sockaddr_un address = address_of(path);
	enum status status;
	int fd;

	status = worker_socket_connect(&fd, path);
	if (status == OK) {
		close(fd);
		return FAIL_NAME_TAKEN;
	}
	if (status != FAIL_ROLE_DIED)
		return status;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* On Linux bind gives the file the socket's own mode, so there is no moment at which others
	 * could connect. */
	if (fd < 0 || fchmod(fd, 0600) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, SUPERVISORS_WAITING_MAX) != 0) {
		status = refused("cannot listen at", path);
		if (fd >= 0)
			close(fd);
		return status;
	}
	*fd_out = fd;
	return OK;
}

int worker_socket_accept(int listening_fd)
{
	int fd = accept4(listening_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 || process_peer_is_ours(fd))
		return fd;
	close(fd);
	return -1;
}

void worker_socket_find_all(const char *run_directory,
			    void (*each)(void *context, const char *name), void *context)
{
	DIR *folder = opendir(run_directory);
	const struct dirent *entry;
	char name[VOLUME_NAME_LENGTH_MAX + 1];

	if (folder == NULL)
		return;
	while ((entry = readdir(folder)) != NULL) {
		const size_t length = strlen(entry->d_name);
		const size_t suffix = sizeof(SUFFIX) - 1;

		if (length <= suffix || length - suffix >= sizeof(name) ||
		    strcmp(entry->d_name + length - suffix, SUFFIX) != 0)
			continue;
		memcpy(name, entry->d_name, length - suffix);
		name[length - suffix] = '\0';
		if (volume_name_check(name) == OK)
			each(context, name);
	}
	closedir(folder);
}
