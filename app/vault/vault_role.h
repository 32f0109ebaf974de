/* The vault agent as a process of its own: takes its settings, gives up its rights, serves. */
#ifndef APP_VAULT_VAULT_ROLE_H
#define APP_VAULT_VAULT_ROLE_H

#include "platform/status.h"

/* Until the supervisor closes its end of PROCESS_SOCKET_FD. `user` is whom it becomes. */
MUST_CHECK enum status vault_role_run(const char *user);

#endif
