#include "platform/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_SIZE_MAX 1024

static struct {
	const char *role;
	enum log_priority least;
	bool is_journal;
} settings = {.role = "byok", .least = LOG_PRIORITY_INFO};

/* A socket is what systemd hands a service as standard error when the journal takes its lines; a
 * terminal, pipe or file is read by people, to whom "<4>" says nothing. */
static bool standard_error_is_socket(void)
{
	struct stat information;

	return fstat(STDERR_FILENO, &information) == 0 && S_ISSOCK(information.st_mode);
}

void log_start(const char *role, enum log_priority least)
{
	settings.role = role;
	settings.least = least;
	settings.is_journal = standard_error_is_socket();
}

static const char *const words[] = {
	[LOG_PRIORITY_ERROR] = "error: ",
	[LOG_PRIORITY_WARNING] = "warning: ",
	[LOG_PRIORITY_INFO] = "",
	[LOG_PRIORITY_DEBUG] = "debug: ",
};

static void write_line(enum log_priority priority, const char *word, const char *cause,
		       const char *format, va_list arguments)
{
	char text[LINE_SIZE_MAX], line[LINE_SIZE_MAX];
	char prefix[8] = "";
	int size;
	size_t used;

	vsnprintf(text, sizeof(text), format, arguments);
	if (settings.is_journal)
		snprintf(prefix, sizeof(prefix), "<%d>", (int)priority);
	size = snprintf(line, sizeof(line) - 1, "%s%s: %s%s%s%s", prefix, settings.role, word, text,
			cause == NULL ? "" : ": ", cause == NULL ? "" : cause);
	if (size < 0)
		return;
	used = MINIMUM((size_t)size, sizeof(line) - 2);
	for (size_t i = 0; i < used; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[used++] = '\n';
	/* One write, so that lines of several processes do not mix; nobody is left to tell if the
	 * log itself fails. */
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

void log_line(enum log_priority priority, const char *format, ...)
{
	va_list arguments;

	if (priority > settings.least)
		return;
	va_start(arguments, format);
	write_line(priority, words[priority], NULL, format, arguments);
	va_end(arguments);
}

void log_ending(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_PRIORITY_ERROR, "", NULL, format, arguments);
	va_end(arguments);
}

void log_errno(enum log_priority priority, int error_number, const char *format, ...)
{
	va_list arguments;

	if (priority > settings.least)
		return;
	va_start(arguments, format);
	write_line(priority, words[priority], strerror(error_number), format, arguments);
	va_end(arguments);
}
