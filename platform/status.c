#include "platform/status.h"

#include <string.h>

/* Word, sentence and advice of each status, one behind the other: three pointers for each of them,
 * with the relocations of a position-independent program, take more room than the texts. */
static const char texts[] =
#define STATUS_TEXTS(name, exit_code, word, sentence, advice) word "\0" sentence "\0" advice "\0"
	STATUS_LIST(STATUS_TEXTS);
#undef STATUS_TEXTS

/* In the order of the texts. */
static const uint8_t numbers[] = {
#define STATUS_NUMBER(name, exit_code, word, sentence, advice) name,
	STATUS_LIST(STATUS_NUMBER)
#undef STATUS_NUMBER
};

enum text { WORD, SENTENCE, ADVICE, TEXTS };

static const char *find_text(enum status status, enum text text)
{
	const char *found = texts;
	size_t place = 0;

	while (numbers[place] != status)
		CHECK(++place < sizeof(numbers));
	for (size_t before = place * TEXTS + text; before > 0; before--)
		found += strlen(found) + 1;
	return found;
}

const char *status_word(enum status status)
{
	return find_text(status, WORD);
}

const char *status_sentence(enum status status)
{
	return find_text(status, SENTENCE);
}

const char *status_advice(enum status status)
{
	return find_text(status, ADVICE);
}

bool status_from_number(enum status *status, uint32_t value)
{
	if (value >= STATUS_COUNT || memchr(numbers, (int)value, sizeof(numbers)) == NULL)
		return false;
	*status = (enum status)value;
	return true;
}
