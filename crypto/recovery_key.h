/* The form of a 256-bit recovery key that a person can print, read aloud and type:
 *
 *     13 groups of 5 symbols of Crockford's base 32 with '-' between them; no I, L, O or U
 *
 * The fifth symbol of each group checks the other four and the group's place. It finds every single
 * wrong symbol, every swap of two symbols within a group, and every swap of two groups. The
 * canonical text, in upper case with its dashes and no newline, is the LUKS passphrase, so that
 * cryptsetup takes it too.
 */
#ifndef CRYPTO_RECOVERY_KEY_H
#define CRYPTO_RECOVERY_KEY_H

#include "platform/secret.h"

#define RECOVERY_KEY_SIZE 32
#define RECOVERY_KEY_GROUPS 13
#define RECOVERY_KEY_TEXT_LENGTH (RECOVERY_KEY_GROUPS * 6 - 1)

/* `text` gets RECOVERY_KEY_TEXT_LENGTH characters and no NUL. */
void recovery_key_encode(struct secret *text, const uint8_t key[static RECOVERY_KEY_SIZE]);

/* Turns what was typed into the canonical text: takes lower case, missing or extra dashes and
 * blanks (line ends too), O for 0, I and L for 1. `canonical` and `typed` must not overlap.
 *
 * FAIL_RECOVERY_KEY_TYPO with the number of the group to look at, 1 to RECOVERY_KEY_GROUPS: the
 * first whose check fails, that has a foreign character, or that is missing. `canonical` is then
 * untouched. Takes the same time for every key without typing errors. */
MUST_CHECK enum status recovery_key_normalise(struct secret *canonical, unsigned *wrong_group,
					      const void *typed, size_t typed_size);

#endif
