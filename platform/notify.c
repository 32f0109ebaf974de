#include "platform/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	struct sockaddr_un address;
	socklen_t address_size; /* 0: nobody asked */
} target;

void notify_start(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	size_t length = name == NULL ? 0 : strlen(name);

	if (length < 2 || length >= sizeof(target.address.sun_path))
		return;
	target.address.sun_family = AF_UNIX;
	memcpy(target.address.sun_path, name, length);
	/* '@' stands for the NUL that begins a name in the abstract name space. */
	if (name[0] == '@')
		target.address.sun_path[0] = '\0';
	target.address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

void notify_send(const char *format, ...)
{
	char text[512];
	va_list arguments;
	int length, fd;

	if (target.address_size == 0)
		return;
	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length <= 0)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, MINIMUM((size_t)length, sizeof(text) - 1), MSG_NOSIGNAL,
		     (const struct sockaddr *)&target.address, target.address_size);
	close(fd);
}
