/* Random bytes from the kernel. Waits at early boot until the kernel's generator is ready. */
#ifndef PLATFORM_ENTROPY_H
#define PLATFORM_ENTROPY_H

#include "platform/base.h"

/* Cannot fail on a kernel that can run byok: getrandom(2) has no other errors for these sizes. */
void entropy_fill(void *bytes, size_t size);
uint32_t entropy_u32(void);

#endif
