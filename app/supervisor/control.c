#include "app/supervisor/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/supervisor/key_policy.h"
#include "app/volume/volume_state.h"
#include "platform/file.h"
#include "platform/log.h"

#define CLIENTS_WAITING_MAX 8

static enum status make_address(struct sockaddr_un *address, const struct config *config)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if ((size_t)snprintf(address->sun_path, sizeof(address->sun_path), "%s/control",
			     config->run_directory) < sizeof(address->sun_path))
		return OK;
	log_error("run_directory %s is too long for a socket", config->run_directory);
	return FAIL_CONFIG;
}

static enum status take_lock(struct control_server *server, const struct config *config)
{
	char path[CONFIG_TEXT_SIZE + 16];

	snprintf(path, sizeof(path), "%s/lock", config->run_directory);
	server->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (server->lock_fd < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot open %s", path);
		return FAIL_FILE;
	}
	return flock(server->lock_fd, LOCK_EX | LOCK_NB) == 0 ? OK : FAIL_SERVICE_RUNNING;
}

static enum status listen_at(struct control_server *server, const struct sockaddr_un *address)
{
	/* Whoever left it behind is gone, or would hold the lock. */
	(void)unlink(address->sun_path);
	server->socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->socket_fd < 0 ||
	    bind(server->socket_fd, (const struct sockaddr *)address, sizeof(*address)) != 0 ||
	    listen(server->socket_fd, CLIENTS_WAITING_MAX) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot listen at %s", address->sun_path);
		return FAIL_FILE;
	}
	snprintf(server->socket_path, sizeof(server->socket_path), "%s", address->sun_path);
	return OK;
}

enum status control_open(struct control_server *server, const struct config *config)
{
	struct sockaddr_un address;
	enum status status;

	*server = (struct control_server){.socket_fd = -1, .lock_fd = -1};
	TRY(make_address(&address, config));
	TRY(file_make_folder(config->run_directory));
	status = take_lock(server, config);
	if (status == OK)
		status = listen_at(server, &address);
	if (status != OK)
		control_close(server);
	return status;
}

void control_close(struct control_server *server)
{
	if (server->socket_path[0] != '\0')
		(void)unlink(server->socket_path);
	if (server->socket_fd >= 0)
		close(server->socket_fd);
	if (server->lock_fd >= 0)
		close(server->lock_fd);
	*server = (struct control_server){.socket_fd = -1, .lock_fd = -1};
}

int control_accept(const struct control_server *server)
{
	const struct timeval patience = {.tv_sec = 1};
	int fd = accept4(server->socket_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -1;
	/* The supervisor waits for nobody: a client that does not read or write is dropped. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}

enum status control_receive(int client_fd, struct message_control_request *request)
{
	TRY(message_receive(client_fd, &request->header, sizeof(*request)));
	if (request->header.type != MESSAGE_CONTROL_REQUEST ||
	    request->operation >= CONTROL_OPERATIONS ||
	    !message_text_is_valid(request->target, sizeof(request->target)) ||
	    !message_text_is_valid(request->uuid, sizeof(request->uuid)))
		return FAIL_MESSAGE;
	return OK;
}

enum status control_connect(int *fd, const struct config *config)
{
	struct sockaddr_un address;

	TRY(make_address(&address, config));
	*fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (*fd < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make a socket");
		return FAIL_SYSTEM;
	}
	if (connect(*fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return OK;
	close(*fd);
	*fd = -1;
	return errno == EACCES || errno == EPERM ? FAIL_NOT_ROOT : FAIL_SERVICE_ABSENT;
}

static bool volume_is_valid(const struct message_control_volume *volume)
{
	enum status status;

	return message_text_is_valid(volume->name, sizeof(volume->name)) &&
	       message_text_is_valid(volume->uuid, sizeof(volume->uuid)) &&
	       message_text_is_valid(volume->disk_path, sizeof(volume->disk_path)) &&
	       message_text_is_valid(volume->device_path, sizeof(volume->device_path)) &&
	       message_text_is_valid(volume->kid, sizeof(volume->kid)) &&
	       message_text_is_valid(volume->detail, sizeof(volume->detail)) &&
	       message_text_is_valid(volume->key_detail, sizeof(volume->key_detail)) &&
	       volume->state < VOLUME_STATES && status_from_number(&status, volume->status) &&
	       volume->key_state < KEY_STATES && status_from_number(&status, volume->key_status) &&
	       status_from_number(&status, volume->rotation_status);
}

enum status control_ask(int fd, struct message_control_request *request,
			struct message_control_done *done,
			void (*each)(void *context, const struct message_control_volume *volume),
			void *context)
{
	union {
		struct message_header header;
		struct message_control_volume volume;
		struct message_control_done done;
	} message;
	enum status status;

	TRY(message_send(fd, MESSAGE_CONTROL_REQUEST, 1, request));
	for (;;) {
		TRY(message_receive(fd, &message.header, sizeof(message)));
		if (message.header.type == MESSAGE_CONTROL_DONE)
			break;
		if (message.header.type != MESSAGE_CONTROL_VOLUME ||
		    !volume_is_valid(&message.volume))
			return FAIL_MESSAGE;
		if (each != NULL)
			each(context, &message.volume);
	}
	if (!status_from_number(&status, message.done.follow_status) ||
	    !status_from_number(&status, message.done.status) ||
	    !message_text_is_valid(message.done.detail, sizeof(message.done.detail)) ||
	    !message_text_is_valid(message.done.followed, sizeof(message.done.followed)) ||
	    !message_text_is_valid(message.done.newest, sizeof(message.done.newest)))
		return FAIL_MESSAGE;
	*done = message.done;
	return status;
}

void control_tell_change(const struct config *config)
{
	struct message_control_request request = {.operation = CONTROL_LOOK};
	struct message_control_done done;
	int fd;

	if (control_connect(&fd, config) != OK)
		return;
	if (control_ask(fd, &request, &done, NULL, NULL) != OK)
		log_debug("byok serve was not told of the change");
	close(fd);
}
