/* One line per event on standard error, with systemd's priority in front ("<4>") when standard
 * error is the journal. Never a secret, a token, or bytes of either. Who first sees a failure logs
 * it, once, with the object and errno. */
#ifndef PLATFORM_LOG_H
#define PLATFORM_LOG_H

#include "platform/base.h"

enum log_priority {
	LOG_PRIORITY_ERROR = 3,
	LOG_PRIORITY_WARNING = 4,
	LOG_PRIORITY_INFO = 6,
	LOG_PRIORITY_DEBUG = 7,
};

/* `role` names the process in each line ("supervisor", "vault-agent", "worker data1"); the string
 * is kept. Call once, before anything logs. Lines beyond `least` (a smaller number is graver) are
 * dropped. */
void log_start(const char *role, enum log_priority least);

/* Control characters of the text are shown as '?', so that no input forges a line. */
void log_line(enum log_priority priority, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_line(LOG_PRIORITY_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_PRIORITY_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_PRIORITY_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_PRIORITY_DEBUG, __VA_ARGS__)

/* How a command ended: an error that is told whatever the level, and without the word for it. */
void log_ending(const char *format, ...) PRINTF_LIKE(1, 2);

/* The same with ": strerror(error_number)" behind it. */
void log_errno(enum log_priority priority, int error_number, const char *format, ...)
	PRINTF_LIKE(3, 4);

#endif
