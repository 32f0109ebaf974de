#include "platform/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int socket_fd = -1; /* -1: nobody asked */

/* Connected at once: a process that has moved to another network namespace since can still write.
 */
void notify_start(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *name = getenv("NOTIFY_SOCKET");
	size_t length = name == NULL ? 0 : strlen(name);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);

	if (length < 2 || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, name, length);
	/* '@' stands for the NUL that begins a name in the abstract name space. */
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0 || connect(socket_fd, (const struct sockaddr *)&address, size) == 0)
		return;
	close(socket_fd);
	socket_fd = -1;
}

void notify_send(const char *format, ...)
{
	char text[512];
	va_list arguments;
	int length;

	if (socket_fd < 0)
		return;
	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length > 0)
		(void)send(socket_fd, text, MINIMUM((size_t)length, sizeof(text) - 1),
			   MSG_NOSIGNAL | MSG_DONTWAIT);
}
