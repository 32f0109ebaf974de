#include <stdio.h>

#include "app/commands/commands.h"
#include "crypto/selftest.h"
#include "platform/json.h"

struct listing {
	struct json_writer writer;
	char text[32768];
	bool is_json;
};

static void report(void *context, const char *name, const char *implementation, bool passed)
{
	struct listing *listing = context;

	if (!listing->is_json) {
		printf("%-6s %s (%s)\n", passed ? "ok" : "FAILED", name, implementation);
		return;
	}
	json_begin_object(&listing->writer, NULL);
	json_write_string(&listing->writer, "name", name);
	json_write_string(&listing->writer, "implementation", implementation);
	json_write_bool(&listing->writer, "passed", passed);
	json_end_object(&listing->writer);
}

enum status cmd_selftest(struct arguments *arguments)
{
	static struct listing listing;
	enum status status;

	listing.is_json = arguments->values[OPTION_JSON] != NULL;
	json_writer_init(&listing.writer, listing.text, sizeof(listing.text));
	json_begin_array(&listing.writer, NULL);
	status = selftest_run_all(report, &listing);
	json_end_array(&listing.writer);
	CHECK(json_writer_end(&listing.writer));
	if (listing.is_json)
		puts(listing.text);
	return status;
}
