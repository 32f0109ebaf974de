#include "app/commands/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "platform/log.h"

static enum status read_line(struct secret *secret, int fd)
{
	secret->size = 0;
	for (;;) {
		uint8_t c;
		ssize_t got = read(fd, &c, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || c == '\n')
			return got < 0 ? FAIL_FILE : OK;
		if (secret->size == sizeof(secret->bytes))
			return FAIL_FILE_TOO_LARGE;
		secret->bytes[secret->size++] = c;
	}
}

enum status prompt_secret(struct secret *secret, const char *question)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios shown, hidden;
	enum status status = FAIL_FILE;

	if (fd < 0 || tcgetattr(fd, &shown) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "there is no terminal to ask at");
		if (fd >= 0)
			close(fd);
		return FAIL_FILE;
	}
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	if (tcsetattr(fd, TCSAFLUSH, &hidden) == 0 && write(fd, question, strlen(question)) >= 0) {
		status = read_line(secret, fd);
		(void)tcsetattr(fd, TCSAFLUSH, &shown);
		if (write(fd, "\n", 1) < 0)
			status = FAIL_FILE;
	}
	close(fd);
	return status;
}
