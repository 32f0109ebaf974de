/* The role that runs as `byok serve`: keeps every volume served, or on its way there. It reads and
 * commits headers and decides what happens; it has no network and moves no data.
 *
 * One thread, one poll loop; it waits for nobody: the vault agent and the workers are asked by
 * messages and answer when they can. */
#ifndef APP_SUPERVISOR_SUPERVISOR_H
#define APP_SUPERVISOR_SUPERVISOR_H

#include "app/config.h"

/* Serves the named disks, or every byok disk of the machine (also those attached later) if none is
 * named, until SIGTERM or SIGINT. Fails at once only for what no waiting can mend: the settings, no
 * ublk, another supervisor, or named disks none of which can be read (with the first one's failure,
 * and `failed_disk` pointing to it). */
MUST_CHECK enum status supervisor_run(const struct config *config, const char *const *disk_paths,
				      size_t disk_count, const char **failed_disk);

#endif
