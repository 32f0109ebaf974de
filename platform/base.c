#include "platform/base.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "byok: broken assumption: %s (%s:%d); please report this\n", condition,
		file, line);
	abort();
}
