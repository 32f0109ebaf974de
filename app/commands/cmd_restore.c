#include <stdio.h>

#include "app/commands/commands.h"
#include "app/volume/header_backup.h"

enum status cmd_restore(struct arguments *arguments)
{
	static struct volume volume;
	const char *disk_path = arguments->operands[0], *path = arguments->operands[1];
	struct header_backup_result result;
	struct vault_token token;
	enum status status;

	arguments_set_object(arguments, "%s", path);
	TRY(volume_load_unrepaired(&volume, path));
	arguments_set_object(arguments, "%s", disk_path);
	status = header_backup_restore(&result, disk_path, path,
				       arguments->values[OPTION_FORCE] != NULL);
	arguments_set_detail(arguments, "%s", result.detail);
	TRY(status);
	TRY(volume_load(&volume, disk_path));
	printf("%s: header of %s restored", disk_path, volume.header.uuid);
	if (result.had_header)
		printf(", over one with sequence id %llu",
		       (unsigned long long)result.old_sequence_id);
	printf("\n");
	if (volume_vault_token(&token, &volume) == OK)
		printf("%s: its key is %s; every key of the backup's day opens it again\n",
		       disk_path, token.current.kid);
	return OK;
}
