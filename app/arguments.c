#include "app/arguments.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "platform/log.h"

struct option_entry {
	const char *flag;
	const char *takes; /* NULL: nothing */
	const char *purpose;
};

static const struct option_entry option_table[OPTIONS] = {
	[OPTION_CONFIG] = {"--config", "FILE", "settings (default " CONFIG_FILE_DEFAULT ")"},
	[OPTION_HELP] = {"--help", NULL, "this text"},
	[OPTION_NAME] = {"--name", "NAME", "the volume will be /dev/byok/NAME"},
	[OPTION_KEY_FILE] = {"--key-file", "FILE",
			     "its whole content is the passphrase; - is standard input"},
	[OPTION_RECOVERY_KEY_FILE] = {"--recovery-key-file", "FILE",
				      "the recovery key is written to or read from it"},
	[OPTION_SECTOR_SIZE] = {"--sector-size", "BYTES", "512 or 4096 (default 4096)"},
	[OPTION_DISK] = {"--disk", "DISK", "the disk to serve"},
	[OPTION_NBD] = {"--nbd", "SOCKET", "serve NBD on this unix socket, in the foreground"},
	[OPTION_FORCE] = {"--force", NULL, "do it although data or users may suffer"},
	[OPTION_JSON] = {"--json", NULL, "for scripts"},
	[OPTION_READ_ONLY] = {"--read-only", NULL, "never write to the disk"},
	[OPTION_IMPLEMENTATION] = {"--implementation", "NAME", "only this one of the cipher's"},
	[OPTION_QUICK] = {"--quick", NULL, "fewer samples, so less sure"},
	[OPTION_WRITE] = {"--write", NULL, "measure writing too, on a blank disk: overwrites it"},
	[OPTION_REPORT] = {"--report", "FILE", "an HTML page with plots, written to this file"},
	[OPTION_OUTPUT] = {"--output", "FILE", "a new file for the secret, readable by root only"},
};

static void say_usage_error(const struct command *command, const char *what, const char *which)
{
	fprintf(stderr, "byok %s: %s %s; see byok help %s\n", command->name, what, which,
		command->name);
}

static bool has_option(const struct command *command, enum option option)
{
	const uint32_t of_all = OPTION_BIT(OPTION_CONFIG) | OPTION_BIT(OPTION_HELP);

	return ((command->options | of_all) & OPTION_BIT(option)) != 0;
}

/* A flag of `length` characters, without a "=VALUE" behind it; OPTIONS if the command has none
 * such. */
static enum option find_option(const struct command *command, const char *flag, size_t length)
{
	for (enum option option = 0; option < OPTIONS; option++)
		if (has_option(command, option) && strlen(option_table[option].flag) == length &&
		    strncmp(option_table[option].flag, flag, length) == 0)
			return option;
	return OPTIONS;
}

struct reader {
	const struct command *command;
	int argc;
	char *const *argv;
	int next;
};

/* The value of a flag at argv[next - 1]: behind its '=', or the next argument. */
static enum status take_value(struct reader *reader, const char **value, const char *equals)
{
	if (equals != NULL) {
		*value = equals + 1;
		return OK;
	}
	if (reader->next == reader->argc) {
		say_usage_error(reader->command, "a value is missing for",
				reader->argv[reader->next - 1]);
		return FAIL_USAGE;
	}
	*value = reader->argv[reader->next++];
	return OK;
}

/* Settings are only counted here, and set when the file has been read. */
struct given_settings {
	char keys[OPERANDS_MAX][64];
	const char *values[OPERANDS_MAX];
	size_t count;
};

static enum status take_setting(struct reader *reader, struct given_settings *settings,
				const char *flag, size_t length, const char *equals)
{
	char *key = settings->keys[settings->count];

	if (length < 3 || length - 2 >= sizeof(settings->keys[0]) ||
	    settings->count == ARRAY_COUNT(settings->keys)) {
		say_usage_error(reader->command, "there is no option", flag);
		return FAIL_USAGE;
	}
	memcpy(key, flag + 2, length - 2);
	key[length - 2] = '\0';
	if (!config_has_key(key)) {
		say_usage_error(reader->command, "there is no option", flag);
		return FAIL_USAGE;
	}
	return take_value(reader, &settings->values[settings->count++], equals);
}

static enum status take_flag(struct arguments *arguments, struct reader *reader,
			     struct given_settings *settings, const char *flag)
{
	const char *equals = strchr(flag, '=');
	size_t length = equals != NULL ? (size_t)(equals - flag) : strlen(flag);
	enum option option = find_option(reader->command, flag, length);

	if (strcmp(flag, "-h") == 0)
		option = OPTION_HELP;
	if (option == OPTIONS)
		return take_setting(reader, settings, flag, length, equals);
	if (arguments->values[option] != NULL) {
		say_usage_error(reader->command, "this option stands twice:", flag);
		return FAIL_USAGE;
	}
	if (option_table[option].takes != NULL)
		return take_value(reader, &arguments->values[option], equals);
	if (equals != NULL) {
		say_usage_error(reader->command, "this option takes no value:", flag);
		return FAIL_USAGE;
	}
	arguments->values[option] = "";
	return OK;
}

static enum status take_operand(struct arguments *arguments, struct reader *reader,
				const char *text)
{
	if (arguments->operand_count == MINIMUM(reader->command->operand_count_max, OPERANDS_MAX)) {
		say_usage_error(reader->command, "this is one too many:", text);
		return FAIL_USAGE;
	}
	arguments->operands[arguments->operand_count++] = text;
	return OK;
}

static enum status load_settings(struct arguments *arguments, const struct given_settings *settings)
{
	const char *path = arguments->values[OPTION_CONFIG];

	arguments_set_object(arguments, "%s", path != NULL ? path : CONFIG_FILE_DEFAULT);
	TRY(config_load(&arguments->config, path != NULL ? path : CONFIG_FILE_DEFAULT));
	arguments_set_object(arguments, "command line");
	for (size_t i = 0; i < settings->count; i++) {
		TRY(config_set(&arguments->config, settings->keys[i], settings->values[i]));
		if (strcmp(settings->keys[i], "key") == 0)
			arguments->is_key_given = true;
	}
	arguments_set_object(arguments, "user data");
	return config_load_user_data(&arguments->config);
}

enum status arguments_read(struct arguments *arguments, const struct command *command, int argc,
			   char *const argv[])
{
	struct reader reader = {.command = command, .argc = argc, .argv = argv};
	struct given_settings settings = {0};
	bool only_operands = false;

	*arguments = (struct arguments){0};
	config_init(&arguments->config);
	arguments_set_object(arguments, "%s", command->name);
	while (reader.next < argc) {
		const char *text = argv[reader.next++];

		if (!only_operands && strcmp(text, "--") == 0)
			only_operands = true;
		else if (!only_operands && text[0] == '-' && text[1] != '\0')
			TRY(take_flag(arguments, &reader, &settings, text));
		else
			TRY(take_operand(arguments, &reader, text));
	}
	if (arguments->values[OPTION_HELP] != NULL)
		return OK;
	if (arguments->operand_count < command->operand_count_min) {
		say_usage_error(command, "it needs", command->operands);
		return FAIL_USAGE;
	}
	return load_settings(arguments, &settings);
}

void arguments_set_object(struct arguments *arguments, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(arguments->object, sizeof(arguments->object), format, list);
	va_end(list);
	arguments->detail[0] = '\0';
}

void arguments_set_detail(struct arguments *arguments, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(arguments->detail, sizeof(arguments->detail), format, list);
	va_end(list);
}

static void print_row(const char *flag, const char *takes, const char *purpose)
{
	char left[96];

	snprintf(left, sizeof(left), "%s %s", flag, takes == NULL ? "" : takes);
	printf("  %-34s %s\n", left, purpose);
}

static void print_setting(const char *key, const char *takes, const char *purpose)
{
	char flag[64];

	snprintf(flag, sizeof(flag), "--%s", key);
	for (char *c = flag; *c != '\0'; c++)
		if (*c == '_')
			*c = '-';
	print_row(flag, takes, purpose);
}

void arguments_print_help(const struct command *command)
{
	printf("usage: byok %s %s%s[options]\n\n%s.\n\noptions:\n", command->name,
	       command->operands, command->operands[0] == '\0' ? "" : " ", command->summary);
	for (enum option option = 0; option < OPTIONS; option++)
		if (has_option(command, option))
			print_row(option_table[option].flag, option_table[option].takes,
				  option_table[option].purpose);
	printf("\nsettings, as flags or as lines \"key = value\" of the file:\n");
	config_describe(print_setting);
}
