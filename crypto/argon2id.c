#include "crypto/argon2id.h"

#include <argon2.h>
#include <sys/mman.h>

/* An anonymous mapping, so that the memory goes back to the kernel after the call. Huge pages help
 * a hash that jumps about in a gigabyte. */
static int take_memory(uint8_t **memory, size_t size)
{
	void *mapping;

	mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED)
		return ARGON2_MEMORY_ALLOCATION_ERROR;
	(void)madvise(mapping, size, MADV_DONTDUMP);
	(void)madvise(mapping, size, MADV_DONTFORK);
	(void)madvise(mapping, size, MADV_HUGEPAGE);
	if (mlock(mapping, size) != 0) {
		munmap(mapping, size);
		return ARGON2_MEMORY_ALLOCATION_ERROR;
	}
	*memory = mapping;
	return ARGON2_OK;
}

/* libargon2 has wiped it. */
static void give_memory_back(uint8_t *memory, size_t size)
{
	munmap(memory, size);
}

enum status argon2id_derive(enum argon2id_variant variant, uint8_t *output, size_t output_size,
			    const void *password, size_t password_size, const void *salt,
			    size_t salt_size, const struct argon2id_cost *cost)
{
	argon2_context context = {
		.out = output,
		.outlen = (uint32_t)output_size,
		.pwd = (uint8_t *)password,
		.pwdlen = (uint32_t)password_size,
		.salt = (uint8_t *)salt,
		.saltlen = (uint32_t)salt_size,
		.t_cost = cost->time,
		.m_cost = cost->memory_kib,
		.lanes = cost->lanes,
		.threads = 1,
		.version = ARGON2_VERSION_13,
		.allocate_cbk = take_memory,
		.free_cbk = give_memory_back,
	};

	CHECK(output_size <= UINT32_MAX && password_size <= UINT32_MAX && salt_size <= UINT32_MAX);
	switch (argon2_ctx(&context, variant == ARGON2ID_ID ? Argon2_id : Argon2_i)) {
	case ARGON2_OK: return OK;
	case ARGON2_MEMORY_ALLOCATION_ERROR: return FAIL_OUT_OF_MEMORY;
	default: return FAIL_KDF_COST; /* all that is left: a parameter outside RFC 9106 */
	}
}
