/* A command's own vault agent, asked one thing at a time. The supervisor, which must not wait for
 * an answer, speaks to its agent with messages of its own. */
#ifndef APP_VAULT_AGENT_SESSION_H
#define APP_VAULT_AGENT_SESSION_H

#include "app/vault/agent_request.h"
#include "platform/process.h"

struct agent_session {
	struct process process;
	uint32_t last_id;
	enum status outcome; /* once it has ended, what with */
};

#define AGENT_SESSION_SCOPE __attribute__((cleanup(agent_session_close)))

/* Starts the agent and tells it its settings, and how many requests it is to work on at a time.
 * FAIL_FEATURE_OFF in a build without the vault client, FAIL_SYSTEM (logged); FAIL_CONFIG,
 * FAIL_FILE (ca_file) or others of its own if it does not like them (logged), at the latest with
 * the first request; FAIL_ROLE_DIED. */
MUST_CHECK enum status agent_start(struct process *process, const struct config *config,
				   unsigned connection_count);

MUST_CHECK enum status agent_session_open(struct agent_session *session,
					  const struct config *config);
void agent_session_close(struct agent_session *session); /* harmless if never opened */

/* Fills in the header of `request`, sends it and waits for the answer. The agent's status with a
 * well-formed answer; or with one that is empty FAIL_MESSAGE, or what the agent has ended with. */
MUST_CHECK enum status agent_session_ask(struct agent_session *session,
					 struct message_agent_answer *answer,
					 struct message_agent_request *request);

/* FAIL_MESSAGE unless the answer is one to `request` and well-formed in every field. */
MUST_CHECK enum status agent_answer_check(const struct message_agent_answer *answer,
					  const struct message_agent_request *request);

#endif
