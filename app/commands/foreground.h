/* Serves one disk from this very process, with a passphrase and without a vault. */
#ifndef APP_COMMANDS_FOREGROUND_H
#define APP_COMMANDS_FOREGROUND_H

#include "app/arguments.h"
#include "platform/secret.h"

/* Unlocks the disk with any of its keyslots that the passphrase opens, and serves it, as an NBD
 * socket if --nbd is given, else as a ublk device, until SIGTERM or SIGINT. Takes the passphrase:
 * its memory is closed as soon as the disk is unlocked. */
MUST_CHECK enum status foreground_serve(struct arguments *arguments, const char *disk_path,
					struct secret_memory *passphrase, size_t passphrase_size);

#endif
