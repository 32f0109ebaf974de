/* What a process of byok gives up before it touches a secret or a byte from outside. */
#ifndef PLATFORM_LOCKDOWN_H
#define PLATFORM_LOCKDOWN_H

#include "platform/status.h"

/* For every process, first thing in main: no core dumps, no ptrace by others, files made are for
 * their owner only, an empty environment, descriptors 0 to 2 open. */
void lockdown_begin(void);

/* Locks all memory, now and later, so that no secret reaches a swap device. Without the right to
 * (not root, small limit), says so once and goes on: secret_memory still locks what it holds. */
void lockdown_memory(void);

/* How much more this process may lock when it has no rights any more; SIZE_MAX: no limit is known.
 */
size_t lockdown_memory_left(void);

/* For the vault agent: becomes `user` (or nobody, if there is no such user), without capabilities;
 * can read /etc, the folder that /etc/resolv.conf links to (names are resolved there), `folder`
 * unless it is NULL, and no other file, start no program, trace no process. What the kernel is too
 * old for is left out; a step that fails otherwise is FAIL_SYSTEM. */
MUST_CHECK enum status lockdown_network_role(const char *user, const char *folder);

/* For a worker, when its disk is open: can start no program and look into no process, has no
 * network, and of root's rights those that ublk needs; of files it can only use what is below /dev,
 * /sys and `socket_folder` (where it makes a unix socket; NULL: none). As above in all else. */
MUST_CHECK enum status lockdown_disk_role(const char *socket_folder);

#endif
