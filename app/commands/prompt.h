/* Asks a person at the terminal for a secret. */
#ifndef APP_COMMANDS_PROMPT_H
#define APP_COMMANDS_PROMPT_H

#include "platform/secret.h"

/* Shows `question` on /dev/tty and reads a line without showing it. FAIL_FILE without a terminal,
 * FAIL_FILE_TOO_LARGE for a line that does not fit. */
MUST_CHECK enum status prompt_secret(struct secret *secret, const char *question);

#endif
