#include <stdio.h>

#include "app/commands/commands.h"
#include "app/json_output.h"
#include "crypto/selftest.h"

struct listing {
	struct json_writer *json;
	bool is_json;
};

static void report(void *context, const char *name, const char *implementation, bool passed)
{
	struct listing *listing = context;

	if (!listing->is_json) {
		printf("%-6s %s (%s)\n", passed ? "ok" : "FAILED", name, implementation);
		return;
	}
	json_begin_object(listing->json, NULL);
	json_write_string(listing->json, "name", name);
	json_write_string(listing->json, "implementation", implementation);
	json_write_bool(listing->json, "passed", passed);
	json_end_object(listing->json);
}

enum status cmd_selftest(struct arguments *arguments)
{
	struct listing listing = {0};
	enum status status;

	listing.is_json = arguments->values[OPTION_JSON] != NULL;
	listing.json = json_output_begin();
	json_begin_array(listing.json, NULL);
	status = selftest_run_all(report, &listing);
	json_end_array(listing.json);
	if (listing.is_json)
		puts(json_output_end());
	return status;
}
