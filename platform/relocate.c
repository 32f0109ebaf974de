/* A program that may be loaded anywhere has hundreds of pointers to adjust before it can begin.
 * Packed (DT_RELR) they take a few hundred bytes of it, else 24 bytes each; but musl 1.2.3 does not
 * know how to unpack them, so this does, in front of musl's own _start. */
#include <elf.h>

#include "platform/base.h"

/* Younger than musl's elf.h. */
#define TAG_RELR_SIZE 35
#define TAG_RELR 36

/* The linker's. Hidden: found without any pointer that would have to be adjusted first. */
extern const Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));
extern char __ehdr_start[] __attribute__((visibility("hidden"))); /* where it was loaded */

/* The kernel jumps here, with the stack as the ABI has it at entry. */
__asm__(".pushsection .text.relocate_start, \"ax\"\n"
	".globl relocate_start\n"
	".type relocate_start, @function\n"
	"relocate_start:\n"
	"	call relocate_apply\n"
	"	jmp _start\n"
	".size relocate_start, . - relocate_start\n"
	".popsection\n");

/* Nothing of the C library is there yet, the stack's canary neither. An even entry is the offset of
 * a pointer; an odd one tells by its other bits which of the 63 behind it are pointers too. */
__attribute__((used, no_stack_protector)) void relocate_apply(void)
{
	const uintptr_t base = (uintptr_t)__ehdr_start;
	const uint64_t *entry = NULL;
	uintptr_t *place = NULL;
	size_t count = 0;

	for (const Elf64_Dyn *tag = _DYNAMIC; tag->d_tag != DT_NULL; tag++)
		if (tag->d_tag == TAG_RELR)
			entry = (const uint64_t *)(base + tag->d_un.d_ptr);
		else if (tag->d_tag == TAG_RELR_SIZE)
			count = tag->d_un.d_val / sizeof(*entry);
	for (; count > 0; count--, entry++) {
		if ((*entry & 1) == 0) {
			place = (uintptr_t *)(base + *entry);
			*place++ += base;
			continue;
		}
		for (unsigned bit = 1; bit < 64; bit++)
			if ((*entry >> bit & 1) != 0)
				place[bit - 1] += base;
		place += 63;
	}
}
