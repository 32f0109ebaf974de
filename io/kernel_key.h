/* A key in the kernel's keyring of this thread: the way to give the kernel a secret that no process
 * can read back. */
#ifndef IO_KERNEL_KEY_H
#define IO_KERNEL_KEY_H

#include "platform/status.h"

struct kernel_key {
	int32_t serial; /* 0: none */
};

#define KERNEL_KEY_SCOPE __attribute__((cleanup(kernel_key_forget)))

/* Of type "logon", which only the kernel reads; `description` has a prefix that ends in a colon. An
 * older one of that description is replaced. FAIL_OUT_OF_MEMORY beyond the user's quota, else
 * FAIL_SYSTEM; logged. */
MUST_CHECK enum status kernel_key_add(struct kernel_key *key, const char *description,
				      const uint8_t *bytes, size_t size);

/* The kernel wipes it once nobody else holds it. Harmless if there is none. */
void kernel_key_forget(struct kernel_key *key);

#endif
