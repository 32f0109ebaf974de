/* The words that C lacks. Every other file may include this one; it includes nothing of ours. */
#ifndef PLATFORM_BASE_H
#define PLATFORM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index) \
	__attribute__((format(printf, format_index, first_index)))

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MINIMUM(a, b) ((a) < (b) ? (a) : (b))
#define MAXIMUM(a, b) ((a) > (b) ? (a) : (b))

/* The multiple of `unit` (a power of two) at or above `value`; the caller excludes overflow. */
#define ROUND_UP(value, unit) (((value) + (unit)-1) & ~((unit)-1))

/* Guards against our own mistakes only, never against input, and stays in the release build:
 * a program that goes on with a broken assumption about a disk is worse than one that stops. */
#define CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))

/* Says what broke and where on standard error, then aborts. No core is left where main has run
 * lockdown. */
__attribute__((noreturn, cold)) void check_failed(const char *condition, const char *file,
						  int line);

#endif
