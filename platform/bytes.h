/* Integers in bytes, and a cursor that cannot leave its bytes. */
#ifndef PLATFORM_BYTES_H
#define PLATFORM_BYTES_H

#include <string.h>

#include "platform/base.h"

static inline uint16_t bytes_load_be16(const uint8_t bytes[static 2])
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline uint32_t bytes_load_be32(const uint8_t bytes[static 4])
{
	return (uint32_t)bytes_load_be16(bytes) << 16 | bytes_load_be16(bytes + 2);
}

static inline uint64_t bytes_load_be64(const uint8_t bytes[static 8])
{
	return (uint64_t)bytes_load_be32(bytes) << 32 | bytes_load_be32(bytes + 4);
}

static inline void bytes_store_be16(uint8_t bytes[static 2], uint16_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static inline void bytes_store_be32(uint8_t bytes[static 4], uint32_t value)
{
	bytes_store_be16(bytes, (uint16_t)(value >> 16));
	bytes_store_be16(bytes + 2, (uint16_t)value);
}

static inline void bytes_store_be64(uint8_t bytes[static 8], uint64_t value)
{
	bytes_store_be32(bytes, (uint32_t)(value >> 32));
	bytes_store_be32(bytes + 4, (uint32_t)value);
}

static inline uint32_t bytes_load_le32(const uint8_t bytes[static 4])
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

static inline void bytes_store_le64(uint8_t bytes[static 8], uint64_t value)
{
	for (size_t i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t bytes_load_le64(const uint8_t bytes[static 8])
{
	return (uint64_t)bytes_load_le32(bytes) | (uint64_t)bytes_load_le32(bytes + 4) << 32;
}

/* False if a + b does not fit. Offsets from a disk are added with this, never with +. */
MUST_CHECK static inline bool bytes_add(uint64_t *sum, uint64_t a, uint64_t b)
{
	return !__builtin_add_overflow(a, b, sum);
}

MUST_CHECK static inline bool bytes_are_zero(const uint8_t *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

#endif
