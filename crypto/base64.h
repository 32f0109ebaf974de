/* Base64 (RFC 4648): the standard form with padding, as LUKS2 metadata has it, and the URL form, as
 * Key Vault has it. Takes time that depends on sizes only, so secrets may pass through it. */
#ifndef CRYPTO_BASE64_H
#define CRYPTO_BASE64_H

#include "platform/base.h"

enum base64_form {
	BASE64_STANDARD, /* '+' and '/'; always padded with '=' */
	BASE64_URL,      /* '-' and '_'; written without padding, read with or without */
};

/* The largest text of `size` bytes in either form, with its final NUL. */
#define BASE64_TEXT_SIZE(size) (((size) + 2) / 3 * 4 + 1)
/* At least the bytes that a text of `length` characters holds. */
#define BASE64_BYTES_SIZE(length) ((length) / 4 * 3 + 2)

/* Writes a NUL behind the text; `text` holds BASE64_TEXT_SIZE(size) characters. Returns the length
 * without the NUL. */
size_t base64_encode(char *text, const void *bytes, size_t size, enum base64_form form);

/* Strict: false for white space, foreign characters, wrong or missing padding, left-over bits that
 * are not zero, and for more than `capacity` bytes. `bytes` may then hold a part of the result;
 * `size` is written only on success. */
MUST_CHECK bool base64_decode(void *bytes, size_t *size, size_t capacity, const char *text,
			      size_t text_length, enum base64_form form);

#endif
