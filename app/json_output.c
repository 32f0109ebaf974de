#include "app/json_output.h"

#define TEXT_SIZE ((size_t)128 * 1024)

static struct json_writer writer;
static char text[TEXT_SIZE];

struct json_writer *json_output_begin(void)
{
	json_writer_init(&writer, text, sizeof(text));
	return &writer;
}

const char *json_output_end(void)
{
	CHECK(json_writer_end(&writer));
	return text;
}
