#include <stdio.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/commands/foreground.h"
#include "app/supervisor/supervisor.h"
#include "platform/file.h"

#define KEY_FILE_SIZE_MAX (8u * 1024 * 1024) /* as cryptsetup's default limit */

/* serve --disk DISK --key-file FILE [--nbd SOCKET] */
static enum status serve_with_key_file(struct arguments *arguments)
{
	SECRET_MEMORY_SCOPE struct secret_memory passphrase = {0};
	size_t size;

	if (arguments->values[OPTION_DISK] == NULL || arguments->values[OPTION_KEY_FILE] == NULL ||
	    arguments->operand_count > 0) {
		fprintf(stderr, "byok serve: --nbd and --read-only need --disk and --key-file, "
				"which go together, without further disks; see byok help serve\n");
		return FAIL_USAGE;
	}
	arguments_set_object(arguments, "%s", arguments->values[OPTION_KEY_FILE]);
	TRY(file_read_secret(&passphrase, &size, arguments->values[OPTION_KEY_FILE],
			     KEY_FILE_SIZE_MAX));
	return foreground_serve(arguments, arguments->values[OPTION_DISK], &passphrase, size);
}

enum status cmd_serve(struct arguments *arguments)
{
	const char *failed_disk = NULL;
	enum status status;

	if (arguments->values[OPTION_DISK] != NULL || arguments->values[OPTION_KEY_FILE] != NULL ||
	    arguments->values[OPTION_NBD] != NULL || arguments->values[OPTION_READ_ONLY] != NULL)
		return serve_with_key_file(arguments);
	if (geteuid() != 0)
		return FAIL_NOT_ROOT;
	status = supervisor_run(&arguments->config, arguments->operands, arguments->operand_count,
				&failed_disk);
	if (failed_disk != NULL)
		arguments_set_object(arguments, "%s", failed_disk);
	return status;
}
