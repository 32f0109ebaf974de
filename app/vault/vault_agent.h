/* The role that talks to the outside: it parses everything that comes from the network, and answers
 * the supervisor's AGENT_REQUESTs. It never sees a volume key or a disk.
 *
 * As many requests are worked on at a time as the configuration says, each by a thread with a
 * connection of its own, which is started when there is work for it; the tokens are shared. While a
 * request waits to be tried again, its thread works on another one. A request is answered when it
 * has succeeded, when its failure cannot pass by itself, or when no further attempt fits into its
 * deadline; then with the cause of the last attempt, and the supervisor decides when to ask again.
 */
#ifndef APP_VAULT_VAULT_AGENT_H
#define APP_VAULT_VAULT_AGENT_H

#include "app/messages.h"
#include "io/https.h"

struct vault_agent {
	struct https_options https;
	unsigned connection_count;
	uint64_t operation_deadline_ms;
	char connect_to[MESSAGE_TEXT_SIZE];
	char proxy[MESSAGE_TEXT_SIZE];
	char token_folder[MESSAGE_TEXT_SIZE]; /* of the federated token; or empty */
	struct secret_memory roots;           /* PEM */
	struct secret_memory state;           /* tokens and requests */
};

/* All that needs rights: checks `configure`, which is kept, reads its ca_file, takes the memory and
 * starts libcurl. The built-in roots are as platform/deps/ca-bundle.sh makes them. FAIL_CONFIG
 * (after a log line that says which part), FAIL_FEATURE_OFF, FAIL_FILE, FAIL_FILE_TOO_LARGE,
 * FAIL_LOGIN_TOKEN_FILE (its folder is not there), FAIL_OUT_OF_MEMORY. */
MUST_CHECK enum status vault_agent_prepare(struct vault_agent *agent,
					   const struct message_agent_configure *configure,
					   const uint8_t *builtin_roots, size_t builtin_roots_size);

/* Serves until the supervisor closes its end of `fd`: then OK. FAIL_MESSAGE if the supervisor sends
 * what it must not. Needs, once locked down: sockets of AF_INET and AF_INET6, threads, and read
 * access to what the resolver reads (/etc/resolv.conf, /etc/hosts) and to `token_folder`. */
MUST_CHECK enum status vault_agent_serve(struct vault_agent *agent, int fd);

/* Right after any vault_agent_prepare, failed ones too. */
void vault_agent_close(struct vault_agent *agent);

#endif
