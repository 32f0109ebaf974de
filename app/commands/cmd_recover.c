#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/commands/foreground.h"
#include "app/commands/key_input.h"
#include "app/supervisor/control.h"

static bool is_service_there(const struct config *config)
{
	int fd;

	if (control_connect(&fd, config) != OK)
		return false;
	close(fd);
	return true;
}

static enum status ask_service(const struct config *config, struct message_control_request *request)
{
	struct message_control_done done;
	enum status status;
	int fd;

	TRY(control_connect(&fd, config));
	status = control_ask(fd, request, &done, NULL, NULL);
	close(fd);
	return status;
}

/* The running service takes the volume over, so that it is served, shown and locked like any other.
 * The keyslots are tried here, before it is called: that may cost seconds, which the service has
 * for nobody. */
static enum status hand_to_service(const struct config *config, const struct secret *key,
				   const char *disk_path)
{
	static struct volume volume;
	SECRET_SCOPE struct secret volume_key = {0};
	struct message_control_request request = {.operation = CONTROL_RECOVER};
	char *real_path;
	enum status status;

	TRY(volume_load(&volume, disk_path));
	TRY(volume_unlock(&volume_key, &volume, VOLUME_ANY_KEYSLOT, key->bytes, key->size));
	CHECK(volume_key.size == sizeof(request.volume_key));
	real_path = realpath(disk_path, NULL);
	if (real_path == NULL)
		return FAIL_DISK_ABSENT;
	if (!message_text_set(request.target, sizeof(request.target), real_path) ||
	    !message_text_set(request.uuid, sizeof(request.uuid), volume.header.uuid)) {
		free(real_path);
		return FAIL_DISK_ABSENT;
	}
	free(real_path);
	memcpy(request.volume_key, volume_key.bytes, sizeof(request.volume_key));
	status = ask_service(config, &request);
	secret_wipe_bytes(&request, sizeof(request));
	return status;
}

enum status cmd_recover(struct arguments *arguments)
{
	SECRET_SCOPE struct secret key = {0};
	SECRET_MEMORY_SCOPE struct secret_memory passphrase = {0};
	const char *disk_path = arguments->operands[0];
	enum status status;

	TRY(key_input_recovery_key(&key, arguments));
	arguments_set_object(arguments, "%s", disk_path);
	if (arguments->values[OPTION_NBD] == NULL && is_service_there(&arguments->config)) {
		/* The service has no volumes of which some are read-only because of a command. */
		status = arguments->values[OPTION_READ_ONLY] != NULL
				 ? FAIL_SERVICE_RUNNING
				 : hand_to_service(&arguments->config, &key, disk_path);
		if (status == OK)
			printf("%s: byok serve serves it; see byok status\n", disk_path);
	} else {
		TRY(secret_memory_open(&passphrase, key.size));
		memcpy(passphrase.bytes, key.bytes, key.size);
		status = foreground_serve(arguments, disk_path, &passphrase, key.size);
	}
	return status == FAIL_WRONG_KEY ? FAIL_WRONG_RECOVERY_KEY : status;
}
