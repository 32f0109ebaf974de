#include "app/bench/bench_volume.h"

#include <stdlib.h>
#include <string.h>

#include "app/bench/bench_table.h"

static enum status claim_all(struct bench_table *table, struct backing_disk *disks,
			     struct arguments *arguments)
{
	for (size_t i = 1; i < arguments->operand_count; i++) {
		for (size_t before = 1; before < i; before++)
			if (strcmp(arguments->operands[before], arguments->operands[i]) == 0) {
				fprintf(stderr, "byok bench: %s stands twice\n",
					arguments->operands[i]);
				return FAIL_USAGE;
			}
		TRY(bench_table_claim(table, &disks[i - 1], arguments->operands[i], arguments));
		table->paths[i - 1].is_served_elsewhere = true;
	}
	return OK;
}

enum status bench_volume(struct arguments *arguments)
{
	struct bench_table *table = calloc(1, sizeof(*table));
	struct backing_disk disks[BENCH_PATHS_MAX];
	enum status status;

	if (table == NULL)
		return FAIL_OUT_OF_MEMORY;
	status = bench_table_open(table, "volume", arguments);
	for (size_t i = 0; i < ARRAY_COUNT(disks); i++)
		disks[i] = (struct backing_disk){.fd = -1};
	if (status == OK)
		status = claim_all(table, disks, arguments);
	if (status == OK)
		status = bench_table_measure(table);
	if (status == OK)
		status = bench_table_tell(table, arguments);
	for (size_t i = 0; i < ARRAY_COUNT(disks); i++)
		backing_disk_close(&disks[i]);
	bench_table_close(table);
	free(table);
	return status;
}
