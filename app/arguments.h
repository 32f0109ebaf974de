/* The command line, read once for every command: options, settings (see app/config.h) and operands.
 */
#ifndef APP_ARGUMENTS_H
#define APP_ARGUMENTS_H

#include "app/config.h"

#define OPERANDS_MAX 64

/* Flags that are not settings. A command names those it takes as a set of bits. */
enum option {
	OPTION_CONFIG,
	OPTION_HELP,
	OPTION_NAME,
	OPTION_KEY_FILE,
	OPTION_RECOVERY_KEY_FILE,
	OPTION_SECTOR_SIZE,
	OPTION_DISK,
	OPTION_NBD,
	OPTION_FORCE,
	OPTION_JSON,
	OPTION_READ_ONLY,
	OPTION_IMPLEMENTATION,
	OPTION_QUICK,
	OPTION_WRITE,
	OPTION_REPORT,
	OPTION_OUTPUT,
	OPTIONS
};

#define OPTION_BIT(option) (1u << (option))

struct arguments {
	struct config config;
	bool is_key_given;           /* the setting `key` stands on the command line */
	const char *values[OPTIONS]; /* NULL: not given; "" for one that takes no value */
	const char *operands[OPERANDS_MAX];
	size_t operand_count;

	/* What the closing sentence is about if the command fails; set as the command goes on. */
	char object[512];
	char detail[512]; /* added in brackets; may stay empty */
};

/* What a command of this program is. */
struct command {
	const char *name;
	const char *operands; /* for help: "DISK", "[DISK...]" */
	const char *summary;  /* one line */
	uint32_t options;     /* OPTION_BITs */
	size_t operand_count_min;
	size_t operand_count_max;
	enum status (*run)(struct arguments *arguments);
};

/* Reads what stands behind the command's name. Values point into `argv`. Settings on the command
 * line win over the file, wherever they stand. FAIL_USAGE (said on standard error), FAIL_CONFIG. */
MUST_CHECK enum status arguments_read(struct arguments *arguments, const struct command *command,
				      int argc, char *const argv[]);

/* Names what goes wrong next, should it go wrong. */
void arguments_set_object(struct arguments *arguments, const char *format, ...) PRINTF_LIKE(2, 3);
void arguments_set_detail(struct arguments *arguments, const char *format, ...) PRINTF_LIKE(2, 3);

/* The whole help of one command, on standard output. */
void arguments_print_help(const struct command *command);

#endif
