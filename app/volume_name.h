/* Names of volumes. They become file names, and come from disks, so they are checked at each entry.
 */
#ifndef APP_VOLUME_NAME_H
#define APP_VOLUME_NAME_H

#include "platform/status.h"

#define VOLUME_NAME_LENGTH_MAX 32

/* OK for 1 to 32 of a-z A-Z 0-9 . _ - that begin with a letter or digit; else FAIL_NAME. */
MUST_CHECK enum status volume_name_check(const char *name);

#endif
