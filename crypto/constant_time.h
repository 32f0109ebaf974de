/* Comparisons of small numbers without a branch, for texts that are secret. */
#ifndef CRYPTO_CONSTANT_TIME_H
#define CRYPTO_CONSTANT_TIME_H

#include "platform/base.h"

/* All numbers are under 2^31. 1 if value >= least, else 0. */
static inline uint32_t constant_time_at_least(uint32_t value, uint32_t least)
{
	return ((value - least) >> 31) ^ 1;
}

/* All ones if least <= value <= most, else 0. */
static inline uint32_t constant_time_between(uint32_t value, uint32_t least, uint32_t most)
{
	return 0 - (constant_time_at_least(value, least) & constant_time_at_least(most, value));
}

#endif
