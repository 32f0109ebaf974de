/* Memory for secrets: it wipes itself on every way out, and is compared in constant time.
 *
 * Small secrets live in `struct secret` (declared with SECRET_SCOPE) on a stack that lockdown has
 * locked; large ones or those that live as long as the process in `struct secret_memory`.
 */
#ifndef PLATFORM_SECRET_H
#define PLATFORM_SECRET_H

#include "platform/status.h"

/* The largest is a recovery key's or slot secret's text or a 512-bit volume key. */
#define SECRET_SIZE_MAX 128

struct secret {
	uint8_t bytes[SECRET_SIZE_MAX];
	size_t size; /* bytes in use */
};

/* struct secret with this attribute is wiped when its scope ends, TRY included. */
#define SECRET_SCOPE __attribute__((cleanup(secret_wipe)))

void secret_wipe(struct secret *secret);

/* Wipes any bytes in a way that the compiler cannot leave out. */
void secret_wipe_bytes(void *bytes, size_t size);

/* Takes time that depends on `size` only. */
MUST_CHECK bool secret_equal(const void *a, const void *b, size_t size);

/* A mapping of its own: never in a core dump, not inherited over fork, locked into memory, and
 * wiped when it ends. */
struct secret_memory {
	uint8_t *bytes; /* page aligned, zeroed; NULL if not open */
	size_t size;    /* as asked for */
	size_t mapped_size;
};

#define SECRET_MEMORY_SCOPE __attribute__((cleanup(secret_memory_close)))

/* FAIL_OUT_OF_MEMORY if that much cannot be had or locked. */
MUST_CHECK enum status secret_memory_open(struct secret_memory *memory, size_t size);
/* The same where the kernel itself has no mapping of the pages (memfd_secret), if it can do that:
 * nothing that reads kernel memory finds them. No disk can read or write them directly. For what
 * lives as long as the process. */
MUST_CHECK enum status secret_memory_open_hidden(struct secret_memory *memory, size_t size);

void secret_memory_close(struct secret_memory *memory); /* wipes; harmless if never opened */

#endif
