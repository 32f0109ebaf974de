#include "app/bench/bench_report.h"

#include <errno.h>
#include <unistd.h>

#include "app/bench/bench_perf.h"
#include "platform/log.h"

/* It draws what stands behind it. */
static const char page_text[] =
#include "generated/bench_report.h"
	;

/* Text that may come from anybody, as names of disks and processes do. */
static void write_safely(void *report, char character)
{
	if (character == '<' || character == '&')
		fprintf(report, "&#%d;", character);
	else
		putc(character, report);
}

enum status bench_report_write(const struct bench_table *table)
{
	FILE *report = table->report;

	(void)!ftruncate(fileno(report), 0); /* a pipe has nothing to lose */
	fputs(page_text, report);
	fputs("<pre hidden id=report>", report);
	for (const char *json = bench_table_json(table); *json != '\0'; json++)
		write_safely(report, *json);
	fputs("</pre>\n<pre hidden id=stacks>", report);
	bench_perf_watch(table, write_safely, report);
	fputs("</pre>\n", report);
	if (fflush(report) == 0 && ferror(report) == 0)
		return OK;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot write the report");
	return FAIL_FILE;
}
