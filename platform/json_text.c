#include "platform/json_text.h"

#include <string.h>

struct cursor {
	const uint8_t *next;
	const uint8_t *end;
};

static void skip_white_space(struct cursor *cursor)
{
	while (cursor->next < cursor->end && (*cursor->next == ' ' || *cursor->next == '\t' ||
					      *cursor->next == '\n' || *cursor->next == '\r'))
		cursor->next++;
}

static bool take(struct cursor *cursor, uint8_t wanted)
{
	if (cursor->next == cursor->end || *cursor->next != wanted)
		return false;
	cursor->next++;
	return true;
}

static bool take_digits(struct cursor *cursor)
{
	const uint8_t *first = cursor->next;

	while (cursor->next < cursor->end && *cursor->next >= '0' && *cursor->next <= '9')
		cursor->next++;
	return cursor->next > first;
}

static bool take_number(struct cursor *cursor)
{
	(void)take(cursor, '-');
	if (!take(cursor, '0') && !take_digits(cursor))
		return false;
	if (take(cursor, '.') && !take_digits(cursor))
		return false;
	if (take(cursor, 'e') || take(cursor, 'E')) {
		if (!take(cursor, '+'))
			(void)take(cursor, '-');
		return take_digits(cursor);
	}
	return true;
}

static bool take_word(struct cursor *cursor, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(cursor->end - cursor->next) < length ||
	    memcmp(cursor->next, word, length) != 0)
		return false;
	cursor->next += length;
	return true;
}

/* The value of \uXXXX's four digits, or -1. */
static int32_t take_four_hex_digits(struct cursor *cursor)
{
	int32_t value = 0;

	if (cursor->end - cursor->next < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		uint8_t c = *cursor->next++;

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* Behind the backslash. A surrogate is only valid as one half of a pair. */
static bool take_escape(struct cursor *cursor)
{
	int32_t value;

	if (cursor->next == cursor->end)
		return false;
	switch (*cursor->next++) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't': return true;
	case 'u':
		value = take_four_hex_digits(cursor);
		if (value < 0 || (value >= 0xdc00 && value <= 0xdfff))
			return false;
		if (value < 0xd800 || value > 0xdbff)
			return true;
		if (!take(cursor, '\\') || !take(cursor, 'u'))
			return false;
		value = take_four_hex_digits(cursor);
		return value >= 0xdc00 && value <= 0xdfff;
	default: return false;
	}
}

/* One code point of two to four bytes, by the table of RFC 3629 section 4: no overlong form, no
 * surrogate, nothing above U+10FFFF. */
static bool take_multibyte(struct cursor *cursor)
{
	static const struct {
		uint8_t first_low, first_high, second_low, second_high, more;
	} forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 1}, {0xe0, 0xe0, 0xa0, 0xbf, 2},
		{0xe1, 0xec, 0x80, 0xbf, 2}, {0xed, 0xed, 0x80, 0x9f, 2},
		{0xee, 0xef, 0x80, 0xbf, 2}, {0xf0, 0xf0, 0x90, 0xbf, 3},
		{0xf1, 0xf3, 0x80, 0xbf, 3}, {0xf4, 0xf4, 0x80, 0x8f, 3},
	};
	uint8_t first = *cursor->next++;

	for (size_t i = 0; i < ARRAY_COUNT(forms); i++) {
		if (first < forms[i].first_low || first > forms[i].first_high)
			continue;
		if (cursor->end - cursor->next < forms[i].more ||
		    *cursor->next < forms[i].second_low || *cursor->next > forms[i].second_high)
			return false;
		for (uint8_t k = 1; k < forms[i].more; k++)
			if ((cursor->next[k] & 0xc0) != 0x80)
				return false;
		cursor->next += forms[i].more;
		return true;
	}
	return false;
}

static bool take_string(struct cursor *cursor)
{
	if (!take(cursor, '"'))
		return false;
	while (cursor->next < cursor->end) {
		uint8_t c = *cursor->next;

		if (c >= 0x80) {
			if (!take_multibyte(cursor))
				return false;
			continue;
		}
		cursor->next++;
		if (c == '"')
			return true;
		if (c < 0x20 || (c == '\\' && !take_escape(cursor)))
			return false;
	}
	return false;
}

static bool take_scalar(struct cursor *cursor)
{
	if (cursor->next == cursor->end)
		return false;
	switch (*cursor->next) {
	case '"': return take_string(cursor);
	case 't': return take_word(cursor, "true");
	case 'f': return take_word(cursor, "false");
	case 'n': return take_word(cursor, "null");
	default: return take_number(cursor);
	}
}

static bool take_member_name(struct cursor *cursor)
{
	skip_white_space(cursor);
	if (!take_string(cursor))
		return false;
	skip_white_space(cursor);
	return take(cursor, ':');
}

/* Behind a whole value: closes what it was the last of, or opens the way to the next. `objects` has
 * a bit for each open container, set if that is an object. */
static bool take_ends(struct cursor *cursor, uint64_t *objects, unsigned *depth)
{
	while (*depth > 0) {
		bool in_object = *objects & 1;

		skip_white_space(cursor);
		if (take(cursor, ','))
			return !in_object || take_member_name(cursor);
		if (!take(cursor, in_object ? '}' : ']'))
			return false;
		*objects >>= 1;
		*depth -= 1;
	}
	return true;
}

bool json_text_is_valid(const char *text, size_t length, unsigned depth_max)
{
	struct cursor cursor = {(const uint8_t *)text, (const uint8_t *)text + length};
	uint64_t objects = 0;
	unsigned depth = 0;

	CHECK(depth_max <= 64);
	do {
		bool in_object;

		skip_white_space(&cursor);
		in_object = take(&cursor, '{');
		if (in_object || take(&cursor, '[')) {
			if (depth++ == depth_max)
				return false;
			objects = objects << 1 | in_object;
			skip_white_space(&cursor);
			if (cursor.next == cursor.end)
				return false;
			if (*cursor.next != (in_object ? '}' : ']')) {
				if (in_object && !take_member_name(&cursor))
					return false;
				continue;
			}
		} else if (!take_scalar(&cursor)) {
			return false;
		}
		if (!take_ends(&cursor, &objects, &depth))
			return false;
	} while (depth > 0);
	skip_white_space(&cursor);
	return cursor.next == cursor.end;
}
