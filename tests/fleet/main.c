/* fleet [SERIES-FILE]: runs every scenario and prints one line of JSON for each; into the file goes
 * what the vault got in each second. Ends with 1 if one is worse than it must be. */
#include <stdio.h>

#include "tests/fleet/fleet.h"

static void print_seconds(FILE *file, const char *name, const uint32_t *counts, uint32_t seconds)
{
	fprintf(file, ",\"%s\":[", name);
	for (uint32_t i = 0; i < seconds; i++)
		fprintf(file, "%s%u", i == 0 ? "" : ",", counts[i]);
	fputs("]", file);
}

static void print_line(FILE *file, const struct fleet_scenario *scenario,
		       const struct fleet_result *result)
{
	fprintf(file,
		"{\"scenario\":\"%s\",\"brokers\":%u,\"unlocked\":%u,\"requests_ratio\":%.3f,"
		"\"time_ratio\":%.3f,\"worst_wait_s\":%.1f",
		scenario->name, scenario->brokers, result->unlocked, fleet_requests_ratio(result),
		fleet_time_ratio(result), (double)result->worst_wait_ms / 1000);
}

static void print_series(FILE *file, const struct fleet_scenario *scenario,
			 const struct fleet_result *result)
{
	print_line(file, scenario, result);
	fprintf(file, ",\"limit\":%u,\"perfect_s\":%.1f", scenario->limit.operations,
		(double)result->perfect_time_ms / 1000);
	print_seconds(file, "accepted", result->accepted_in, result->seconds);
	print_seconds(file, "refused", result->refused_in, result->seconds);
	fputs("}\n", file);
}

int main(int argument_count, char **arguments)
{
	static struct fleet_result result;
	struct fleet_scenario scenario;
	FILE *series = argument_count > 1 ? fopen(arguments[1], "w") : NULL;
	bool is_good = true;

	for (size_t i = 0; fleet_scenario(&scenario, i); i++) {
		fleet_run(&result, &scenario);
		print_line(stdout, &scenario, &result);
		puts("}");
		fflush(stdout);
		if (series != NULL)
			print_series(series, &scenario, &result);
		if (!fleet_is_good(&result, &scenario) && !scenario.may_be_poor) {
			fprintf(stderr, "fleet: the last one is worse than it must be\n");
			is_good = false;
		}
	}
	if (series != NULL)
		fclose(series);
	return is_good ? 0 : 1;
}
