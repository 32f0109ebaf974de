#include <stdio.h>

#include "app/commands/commands.h"
#include "app/volume/header_backup.h"

enum status cmd_backup(struct arguments *arguments)
{
	static struct volume volume;
	const char *disk_path = arguments->operands[0], *path = arguments->operands[1];
	enum status status;

	arguments_set_object(arguments, "%s", disk_path);
	TRY(volume_load(&volume, disk_path));
	status = header_backup_save(&volume, path);
	if (status == FAIL_FILE || status == FAIL_FILE_EXISTS || status == FAIL_DISK_FULL)
		arguments_set_object(arguments, "%s", path);
	TRY(status);
	fprintf(stderr, "%s: header with sequence id %llu saved; guard it like the disk\n", path,
		(unsigned long long)volume.header.sequence_id);
	return OK;
}
