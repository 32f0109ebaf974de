#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/volume/vault_slot.h"
#include "platform/file.h"

/* A copy of a header ends where the data would begin, and they are not needed here. */
static enum status load(struct volume *volume, bool *is_backup, const char *path)
{
	struct luks2_layout layout;

	TRY(volume_load_unrepaired(volume, path));
	*is_backup = volume_check_policy(&layout, volume) == FAIL_SEGMENT_OUTSIDE;
	if (*is_backup)
		volume->disk_size_bytes = INT64_MAX;
	return OK;
}

static void say_next_step(const char *path, bool is_backup, const char *output)
{
	fprintf(stderr,
		"Now, on any machine: cryptsetup open --type luks2%s%s --key-file %s %s NAME\n",
		is_backup ? " --header " : "", is_backup ? path : "", output,
		is_backup ? "DISK" : path);
	fprintf(stderr, "Whoever has %s can read the disk: delete it when done.\n", output);
}

/* A passphrase on a terminal stays in its scrollback and in whatever records the session. */
static enum status choose_output(const char **output, const struct arguments *arguments)
{
	*output = arguments->values[OPTION_OUTPUT];
	if (*output == NULL && isatty(STDOUT_FILENO)) {
		fprintf(stderr, "byok rescue: the passphrase is not shown on a terminal; "
				"use --output FILE, or pipe it\n");
		return FAIL_USAGE;
	}
	if (*output == NULL)
		*output = "-";
	return OK;
}

enum status cmd_rescue(struct arguments *arguments)
{
	static struct volume volume;
	AGENT_SESSION_SCOPE struct agent_session session = {0};
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	const char *path = arguments->operands[0];
	const char *output;
	bool is_backup;
	enum status status;

	TRY(choose_output(&output, arguments));
	arguments_set_object(arguments, "%s", output);
	if (strcmp(output, "-") != 0 && file_exists(output))
		return FAIL_FILE_EXISTS;
	arguments_set_object(arguments, "%s", path);
	TRY(load(&volume, &is_backup, path));
	TRY(agent_session_open(&session, &arguments->config));
	status = vault_slot_open(&slot, &session, &arguments->config, &volume);
	arguments_set_detail(arguments, "%s", slot.detail);
	TRY(status);
	arguments_set_object(arguments, "%s", output);
	TRY(file_create(output, slot.passphrase.bytes, slot.passphrase.size));
	if (arguments->values[OPTION_OUTPUT] != NULL && strcmp(output, "-") != 0)
		say_next_step(path, is_backup, output);
	return OK;
}
