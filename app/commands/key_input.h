/* Keys that a person or a file brings to a command. */
#ifndef APP_COMMANDS_KEY_INPUT_H
#define APP_COMMANDS_KEY_INPUT_H

#include "app/arguments.h"
#include "app/volume/volume.h"

/* Of --recovery-key-file, else asked for at the terminal; the object is then that. The failures of
 * file_read_secret, prompt_secret, recovery_key_normalise; a typing error's group is the detail. */
MUST_CHECK enum status key_input_recovery_key(struct secret *canonical,
					      struct arguments *arguments);

/* Opens any keyslot with the passphrase of --key-file, else one that is asked for at the terminal.
 * The object is the volume's disk once there is a passphrase. */
MUST_CHECK enum status key_input_unlock(struct secret *volume_key, struct arguments *arguments,
					const struct volume *volume);

#endif
