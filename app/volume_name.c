#include "app/volume_name.h"

#include <string.h>

static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

enum status volume_name_check(const char *name)
{
	size_t length = strnlen(name, VOLUME_NAME_LENGTH_MAX + 1);

	if (length == 0 || length > VOLUME_NAME_LENGTH_MAX || !is_letter_or_digit(name[0]))
		return FAIL_NAME;
	for (size_t i = 1; i < length; i++)
		if (!is_letter_or_digit(name[i]) && strchr("._-", name[i]) == NULL)
			return FAIL_NAME;
	return OK;
}
