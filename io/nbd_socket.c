#include "io/nbd_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/log.h"

#define WAITING_CLIENTS_MAX 64

static enum status make_address(struct sockaddr_un *address, const char *path)
{
	size_t size = strlen(path);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (size == 0 || size >= sizeof(address->sun_path)) {
		log_error("%s: a socket's path has 1 to %zu bytes", path,
			  sizeof(address->sun_path) - 1);
		return FAIL_NBD_SOCKET;
	}
	memcpy(address->sun_path, path, size + 1);
	return OK;
}

/* Whether a server answers there; what cannot be decided counts as yes. */
static bool is_answered(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool answered;

	if (fd < 0)
		return true;
	answered = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		   errno != ECONNREFUSED;
	close(fd);
	return answered;
}

/* A server that was killed leaves its socket behind. */
static enum status remove_stale(const struct sockaddr_un *address, const char *path)
{
	struct stat information;

	if (lstat(path, &information) != 0)
		return OK;
	if (!S_ISSOCK(information.st_mode)) {
		log_error("%s: there is something else than a socket", path);
		return FAIL_NBD_SOCKET;
	}
	if (is_answered(address)) {
		log_error("%s: another server answers there", path);
		return FAIL_NBD_SOCKET;
	}
	if (unlink(path) != 0 && errno != ENOENT) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: removing what a dead server left", path);
		return FAIL_NBD_SOCKET;
	}
	return OK;
}

enum status nbd_socket_open(struct nbd_socket *socket_out, const char *path)
{
	struct sockaddr_un address;
	struct stat information;
	int fd;

	TRY(make_address(&address, path));
	TRY(remove_stale(&address, path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* On Linux bind gives the file the socket's own mode, so there is no moment at which others
	 * could connect, and the umask of the whole process is left alone. */
	if (fd < 0 || fchmod(fd, 0600) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: making the socket", path);
		if (fd >= 0)
			close(fd);
		return FAIL_NBD_SOCKET;
	}
	if (listen(fd, WAITING_CLIENTS_MAX) != 0 || lstat(path, &information) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "%s: listening", path);
		close(fd);
		unlink(path);
		return FAIL_NBD_SOCKET;
	}
	*socket_out = (struct nbd_socket){
		.fd = fd, .path = path, .device = information.st_dev, .inode = information.st_ino};
	return OK;
}

void nbd_socket_close(struct nbd_socket *socket)
{
	struct stat information;

	if (socket->fd < 0)
		return;
	if (lstat(socket->path, &information) == 0 && information.st_dev == socket->device &&
	    information.st_ino == socket->inode)
		unlink(socket->path);
	close(socket->fd);
	socket->fd = -1;
}
