#include "platform/status.h"

struct status_entry {
	int exit_code;
	const char *word;
	const char *sentence;
	const char *advice;
};

static const struct status_entry status_table[STATUS_COUNT] = {
#define STATUS_ENTRY(name, exit_code, word, sentence, advice) \
	[name] = {exit_code, word, sentence, advice},
	STATUS_LIST(STATUS_ENTRY)
#undef STATUS_ENTRY
};

static const struct status_entry *entry(enum status status)
{
	CHECK((unsigned)status < STATUS_COUNT);
	return &status_table[status];
}

int status_exit_code(enum status status)
{
	return entry(status)->exit_code;
}

const char *status_word(enum status status)
{
	return entry(status)->word;
}

const char *status_sentence(enum status status)
{
	return entry(status)->sentence;
}

const char *status_advice(enum status status)
{
	return entry(status)->advice;
}

bool status_from_number(enum status *status, uint32_t value)
{
	if (value >= STATUS_COUNT)
		return false;
	*status = (enum status)value;
	return true;
}
