/* A connection through an HTTP proxy: TCP to the proxy, and CONNECT (RFC 9110 §9.3.6). What then
 * goes through it, TLS with the peer, is none of the proxy's business. For io/https only, whose
 * library is built without proxies: that would be 20 KiB. */
#ifndef IO_PROXY_TUNNEL_H
#define IO_PROXY_TUNNEL_H

#include <sys/socket.h>

#include "platform/status.h"

/* Connects to the proxy at `address` and has it connect to `target`, HOST:PORT. The caller closes
 * `fd`. `http_status` is what the proxy answered, or 0.
 *   FAIL_PROXY_UNREACHABLE  nobody at that address
 *   FAIL_PROXY_PASSWORD     407
 *   FAIL_PROXY_REFUSED, FAIL_PROXY_ERROR    any other answer that is not 2xx; a 5xx
 *   FAIL_PROXY_ANSWER       no HTTP, or too much of it, or cut short
 *   FAIL_PROXY_TIMEOUT      not by `deadline_ms` of clock_now_ms */
MUST_CHECK enum status proxy_tunnel_open(int *fd, int *http_status, const struct sockaddr *address,
					 socklen_t address_size, const char *target,
					 uint64_t deadline_ms);

#endif
