#include "platform/entropy.h"

#include <errno.h>
#include <sys/random.h>

void entropy_fill(void *bytes, size_t size)
{
	uint8_t *next = bytes;

	while (size > 0) {
		ssize_t got = getrandom(next, size, 0);

		if (got < 0 && errno == EINTR)
			continue;
		CHECK(got > 0);
		next += got;
		size -= (size_t)got;
	}
}

uint32_t entropy_u32(void)
{
	uint32_t value;

	entropy_fill(&value, sizeof(value));
	return value;
}
