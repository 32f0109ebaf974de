/* The command table, the roles, and the one place that says how it ended. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "app/commands/commands.h"
#include "app/vault/vault_role.h"
#include "app/worker/worker.h"
#include "crypto/selftest.h"
#include "generated/config.h"
#include "platform/lockdown.h"
#include "platform/log.h"
#include "platform/notify.h"
#include "platform/process.h"

static const struct command commands[] = {
	{"format", "DISK",
	 "Makes an encrypted volume on a disk, under the customer's key or a key file",
	 OPTION_BIT(OPTION_NAME) | OPTION_BIT(OPTION_KEY_FILE) |
		 OPTION_BIT(OPTION_RECOVERY_KEY_FILE) | OPTION_BIT(OPTION_SECTOR_SIZE) |
		 OPTION_BIT(OPTION_FORCE),
	 1, 1, cmd_format},
	{"serve", "[DISK...]",
	 "Unlocks the named disks, or all of byok's, and serves them until SIGTERM",
	 OPTION_BIT(OPTION_DISK) | OPTION_BIT(OPTION_KEY_FILE) | OPTION_BIT(OPTION_NBD) |
		 OPTION_BIT(OPTION_READ_ONLY),
	 0, OPERANDS_MAX, cmd_serve},
	{"status", "[NAME]", "Shows what is served, and why not what is not",
	 OPTION_BIT(OPTION_JSON), 0, 1, cmd_status},
	{"check", "[DISK...]",
	 "Tries everything that unlocking needs, for the named disks or all, and changes nothing",
	 OPTION_BIT(OPTION_JSON), 0, OPERANDS_MAX, cmd_check},
	{"dump", "DISK", "Shows the LUKS2 header of a disk", OPTION_BIT(OPTION_JSON), 1, 1,
	 cmd_dump},
	{"recover", "DISK", "Opens a disk with its recovery key, without the vault",
	 OPTION_BIT(OPTION_RECOVERY_KEY_FILE) | OPTION_BIT(OPTION_NBD) |
		 OPTION_BIT(OPTION_READ_ONLY),
	 1, 1, cmd_recover},
	{"recovery", "add|remove|test DISK",
	 "Adds, removes or tries a recovery key, for the day without the vault",
	 OPTION_BIT(OPTION_RECOVERY_KEY_FILE) | OPTION_BIT(OPTION_KEY_FILE) |
		 OPTION_BIT(OPTION_FORCE),
	 2, 2, cmd_recovery},
	{"rescue", "DISK|BACKUP", "Has the vault give what cryptsetup open needs, on any machine",
	 OPTION_BIT(OPTION_OUTPUT), 1, 1, cmd_rescue},
	{"rotate", "[DISK...]", "Moves disks to the newest version of their key, or to another key",
	 0, 0, OPERANDS_MAX, cmd_rotate},
	{"adopt", "DISK", "Puts a LUKS2 disk of cryptsetup's under the customer's key",
	 OPTION_BIT(OPTION_NAME) | OPTION_BIT(OPTION_KEY_FILE), 1, 1, cmd_adopt},
	{"backup", "DISK FILE", "Copies header and keyslots of a disk into a new file", 0, 2, 2,
	 cmd_backup},
	{"restore", "DISK FILE", "Puts such a copy back, if it is one of that disk",
	 OPTION_BIT(OPTION_FORCE), 2, 2, cmd_restore},
#if CONFIG_PROVISION
	{"provision", "", "Formats the blank disks that the settings name, as after a scale-up",
	 OPTION_BIT(OPTION_JSON), 0, 0, cmd_provision},
#endif
	{"lock", "[NAME]", "Stops serving a volume, or all of them", OPTION_BIT(OPTION_FORCE), 0, 1,
	 cmd_lock},
	{"selftest", "", "Runs every cipher that this CPU has against known answers",
	 OPTION_BIT(OPTION_JSON), 0, 0, cmd_selftest},
#if CONFIG_BENCH
	{"bench", "crypto | disk DISK | volume DEVICE...",
	 "Measures how fast this machine encrypts, or what encryption costs on disks",
	 OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_IMPLEMENTATION) | OPTION_BIT(OPTION_QUICK) |
		 OPTION_BIT(OPTION_WRITE) | OPTION_BIT(OPTION_REPORT),
	 1, OPERANDS_MAX, cmd_bench},
#endif
	{"version", "", "Shows version and features", OPTION_BIT(OPTION_JSON), 0, 0, cmd_version},
};

static const struct {
	const char *name;
	enum status (*run)(const char *subject);
} roles[] = {
	{"worker", worker_run},
#if CONFIG_VAULT
	{"vault-agent", vault_role_run},
#endif
};

static int run_role(const char *name, const char *subject)
{
	static char log_name[128];

	snprintf(log_name, sizeof(log_name), "byok %s%s%s", name,
		 strcmp(name, "worker") == 0 ? " " : "",
		 strcmp(name, "worker") == 0 ? subject : "");
	log_start(log_name, LOG_PRIORITY_INFO);
	/* What ps shows would else be the name of what was executed, "exe". */
	(void)prctl(PR_SET_NAME, strcmp(name, "worker") == 0 ? "byok-worker" : "byok-agent");
	for (size_t i = 0; i < ARRAY_COUNT(roles); i++) {
		enum status status;

		if (strcmp(roles[i].name, name) != 0)
			continue;
		status = selftest_run();
		if (status == OK)
			status = roles[i].run(subject);
		/* Of a setting or file the line before has told more. */
		if (status != OK && status != FAIL_CONFIG && status != FAIL_FILE)
			log_error("%s", status_sentence(status));
		return (int)status;
	}
	return FAIL_FEATURE_OFF;
}

static void print_overview(FILE *stream)
{
	fprintf(stream, "usage: byok COMMAND [options]\n\n"
			"Serves encrypted disks under a key that the customer owns.\n\n");
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
		fprintf(stream, "  %-9s %s\n", commands[i].name, commands[i].summary);
	fprintf(stream, "  %-9s %s\n\nMore: byok help COMMAND, man byok\n", "help",
		"Shows this, or the options of one command");
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int say_unknown(const char *name)
{
	fprintf(stderr, "byok: there is no command %s; see byok help\n", name);
	return FAIL_USAGE;
}

static int help(int argc, char *const argv[])
{
	const struct command *command;

	if (argc == 0) {
		print_overview(stdout);
		return 0;
	}
	command = find_command(argv[0]);
	if (command == NULL)
		return say_unknown(argv[0]);
	arguments_print_help(command);
	return 0;
}

/* "byok: OBJECT: SENTENCE (DETAIL); ADVICE", once, for whatever went wrong. */
static void say_failure(const struct arguments *arguments, enum status status)
{
	const char *advice = status_advice(status);

	log_ending("%s: %s%s%s%s%s%s", arguments->object, status_sentence(status),
		   arguments->detail[0] != '\0' ? " (" : "", arguments->detail,
		   arguments->detail[0] != '\0' ? ")" : "", advice[0] != '\0' ? "; " : "", advice);
}

static int run_command(const struct command *command, int argc, char *const argv[])
{
	static struct arguments arguments;
	enum status status = arguments_read(&arguments, command, argc, argv);

	if (status == OK && arguments.values[OPTION_HELP] != NULL) {
		arguments_print_help(command);
		return 0;
	}
	if (status == OK) {
		log_start("byok", (enum log_priority)arguments.config.log_priority);
		arguments_set_object(&arguments, "%s", command->name);
		status = selftest_run();
	}
	if (status == OK)
		status = command->run(&arguments);
	if ((fflush(stdout) != 0 || ferror(stdout) != 0) && status == OK) {
		arguments_set_object(&arguments, "standard output");
		status = FAIL_FILE;
	}
	/* arguments_read has said already what is wrong with the words. */
	if (status != OK && status != FAIL_USAGE)
		say_failure(&arguments, status);
	return (int)status;
}

int main(int argc, char *argv[])
{
	const struct command *command;

	notify_start();
	lockdown_begin();
	log_start("byok", LOG_PRIORITY_INFO);
	if (argc == 4 && strcmp(argv[1], PROCESS_ROLE_FLAG) == 0) {
		lockdown_memory();
		return run_role(argv[2], argv[3]);
	}
	if (argc < 2) {
		print_overview(stderr);
		return FAIL_USAGE;
	}
	if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
	    strcmp(argv[1], "-h") == 0)
		return help(argc - 2, argv + 2);
	command = find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
	if (command == NULL)
		return say_unknown(argv[1]);
	lockdown_memory();
	return run_command(command, argc - 2, argv + 2);
}
