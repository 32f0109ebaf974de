#include "crypto/base64.h"

#include "crypto/constant_time.h"

/* No table and no branch knows a character of the text, nor six bits of the secret. */

static uint32_t encode_sextet(uint32_t sextet, enum base64_form form)
{
	uint32_t at_62 = form == BASE64_URL ? '-' : '+';
	uint32_t at_63 = form == BASE64_URL ? '_' : '/';

	return (constant_time_between(sextet, 0, 25) & (sextet + 'A')) |
	       (constant_time_between(sextet, 26, 51) & (sextet - 26 + 'a')) |
	       (constant_time_between(sextet, 52, 61) & (sextet - 52 + '0')) |
	       (constant_time_between(sextet, 62, 62) & at_62) |
	       (constant_time_between(sextet, 63, 63) & at_63);
}

/* 64 and more for a foreign character. */
static uint32_t decode_sextet(uint32_t character, enum base64_form form)
{
	uint32_t at_62 = form == BASE64_URL ? '-' : '+';
	uint32_t at_63 = form == BASE64_URL ? '_' : '/';
	uint32_t upper = constant_time_between(character, 'A', 'Z');
	uint32_t lower = constant_time_between(character, 'a', 'z');
	uint32_t digit = constant_time_between(character, '0', '9');
	uint32_t is_62 = constant_time_between(character, at_62, at_62);
	uint32_t is_63 = constant_time_between(character, at_63, at_63);
	uint32_t known = upper | lower | digit | is_62 | is_63;

	return (upper & (character - 'A')) | (lower & (character - 'a' + 26)) |
	       (digit & (character - '0' + 52)) | (is_62 & 62) | (is_63 & 63) | (~known & 64);
}

size_t base64_encode(char *text, const void *bytes, size_t size, enum base64_form form)
{
	const uint8_t *source = bytes;
	size_t length = 0;

	for (size_t at = 0; at < size; at += 3) {
		size_t present = MINIMUM(size - at, 3);
		uint32_t group = (uint32_t)source[at] << 16;

		if (present > 1)
			group |= (uint32_t)source[at + 1] << 8;
		if (present > 2)
			group |= source[at + 2];
		for (size_t i = 0; i <= present; i++)
			text[length++] = (char)encode_sextet(group >> (18 - 6 * i) & 63, form);
		for (size_t i = present; form == BASE64_STANDARD && i < 3; i++)
			text[length++] = '=';
	}
	text[length] = '\0';
	return length;
}

/* Length without padding. False if the padding is not what RFC 4648 asks for. */
static bool strip_padding(size_t *length, const char *text, enum base64_form form)
{
	size_t padding = 0;

	while (padding < 2 && padding < *length && text[*length - padding - 1] == '=')
		padding++;
	if (*length % 4 != 0 && (padding != 0 || form == BASE64_STANDARD))
		return false;
	*length -= padding;
	return *length % 4 != 1;
}

bool base64_decode(void *bytes, size_t *size, size_t capacity, const char *text, size_t text_length,
		   enum base64_form form)
{
	uint8_t *target = bytes;
	size_t length = text_length;
	size_t count = 0;
	uint32_t bits = 0; /* the last characters, six bits each */
	uint32_t foreign = 0;
	uint32_t left_over;

	if (!strip_padding(&length, text, form))
		return false;
	if (length / 4 * 3 + length % 4 * 3 / 4 > capacity)
		return false;
	for (size_t i = 0; i < length; i++) {
		uint32_t sextet = decode_sextet((uint8_t)text[i], form);

		foreign |= sextet;
		bits = bits << 6 | (sextet & 63);
		if (i % 4 != 0)
			target[count++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	/* Two characters leave 4 bits over, three leave 2; a second text for the same bytes is
	 * refused. */
	left_over = length % 4 == 0 ? 0 : bits & (length % 4 == 2 ? 0xf : 0x3);
	if (((foreign & 64) | left_over) != 0)
		return false;
	*size = count;
	return true;
}
