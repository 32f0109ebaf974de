#include <unistd.h>

#include "app/commands/commands.h"
#include "app/supervisor/control.h"

enum status cmd_lock(struct arguments *arguments)
{
	struct message_control_request request = {
		.operation = CONTROL_LOCK,
		.force = arguments->values[OPTION_FORCE] != NULL,
	};
	struct message_control_done done;
	enum status status;
	int fd;

	if (arguments->operand_count > 0) {
		arguments_set_object(arguments, "%s", arguments->operands[0]);
		if (!message_text_set(request.target, sizeof(request.target),
				      arguments->operands[0]))
			return FAIL_VOLUME_UNKNOWN;
	}
	TRY(control_connect(&fd, &arguments->config));
	status = control_ask(fd, &request, &done, NULL, NULL);
	close(fd);
	return status;
}
