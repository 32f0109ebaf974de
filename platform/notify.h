/* systemd's readiness protocol (sd_notify(3)): a datagram to the socket that systemd named. */
#ifndef PLATFORM_NOTIFY_H
#define PLATFORM_NOTIFY_H

#include "platform/base.h"

/* Takes the socket's name out of the environment. Call once, before the environment is cleared. */
void notify_start(void);

/* Tells systemd, if it asked to be told. Lines such as "READY=1\nSTATUS=2 volumes served". */
void notify_send(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
