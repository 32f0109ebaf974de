#include "app/commands/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "platform/log.h"

/* Which signal wants to end this process; 0: none. */
static volatile sig_atomic_t ending;

static void note_signal(int number)
{
	ending = number;
}

/* So that the terminal shows again what is typed, whoever ends this. */
static const int endings[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};

static void catch_endings(struct sigaction before[static ARRAY_COUNT(endings)])
{
	const struct sigaction action = {.sa_handler = note_signal};

	for (size_t i = 0; i < ARRAY_COUNT(endings); i++)
		(void)sigaction(endings[i], &action, &before[i]);
}

static void end_as_asked(const struct sigaction before[static ARRAY_COUNT(endings)])
{
	for (size_t i = 0; i < ARRAY_COUNT(endings); i++)
		(void)sigaction(endings[i], &before[i], NULL);
	if (ending != 0)
		(void)raise(ending);
}

static enum status read_line(struct secret *secret, int fd)
{
	secret->size = 0;
	for (;;) {
		uint8_t c;
		ssize_t got = read(fd, &c, 1);

		if (got < 0 && errno == EINTR && ending == 0)
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
	struct sigaction before[ARRAY_COUNT(endings)];
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
	catch_endings(before);
	if (tcsetattr(fd, TCSAFLUSH, &hidden) == 0 && write(fd, question, strlen(question)) >= 0) {
		status = read_line(secret, fd);
		(void)tcsetattr(fd, TCSAFLUSH, &shown);
		if (write(fd, "\n", 1) < 0)
			status = FAIL_FILE;
	}
	close(fd);
	end_as_asked(before);
	return status;
}
