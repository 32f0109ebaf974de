#include "app/vault/agent_session.h"

#include <stdio.h>
#include <string.h>

#include "app/features.h"
#include "platform/log.h"

#define END_PATIENCE_MS 2000

enum status agent_start(struct process *process, const struct config *config,
			unsigned connection_count)
{
	struct message_agent_configure configure = {
		.attempt_timeout_ms = config->attempt_timeout_s * 1000,
		.operation_deadline_ms = config->operation_deadline_s * 1000,
		.connection_count = connection_count,
	};
	enum status status;

	_Static_assert(sizeof(configure.ca_file) >= sizeof(config->ca_file), "a setting must fit");
	if (!feature_is_on(FEATURE_VAULT))
		return FAIL_FEATURE_OFF;
	strcpy(configure.imds_endpoint, config->imds_endpoint);
	strcpy(configure.vault_connect_to, config->vault_connect_to);
	strcpy(configure.ca_file, config->ca_file);
	strcpy(configure.proxy, config->proxy);
	strcpy(configure.federated_token_file, config->federated_token_file);
	strcpy(configure.tenant, config->tenant);
	strcpy(configure.authority_host, config->authority_host);
	TRY(process_start(process, "vault-agent", config->agent_user));
	status = message_send(process->socket_fd, MESSAGE_AGENT_CONFIGURE, 0, &configure);
	if (status == FAIL_ROLE_DIED)
		return process_outcome(process_end(process, END_PATIENCE_MS));
	if (status != OK)
		process_end(process, END_PATIENCE_MS);
	return status;
}

enum status agent_session_open(struct agent_session *session, const struct config *config)
{
	*session = (struct agent_session){.outcome = FAIL_ROLE_DIED};
	return agent_start(&session->process, config, 1);
}

void agent_session_close(struct agent_session *session)
{
	process_end(&session->process, END_PATIENCE_MS);
}

enum status agent_answer_check(const struct message_agent_answer *answer,
			       const struct message_agent_request *request)
{
	enum status status;

	if (answer->header.type != MESSAGE_AGENT_ANSWER ||
	    answer->header.id != request->header.id || answer->operation != request->operation ||
	    !status_from_number(&status, answer->status) ||
	    !message_text_is_valid(answer->detail, sizeof(answer->detail)) ||
	    !message_text_is_valid(answer->kid, sizeof(answer->kid)) ||
	    !message_text_is_valid(answer->wrapped, sizeof(answer->wrapped)) ||
	    memchr(answer->settings, '\0', sizeof(answer->settings)) == NULL ||
	    answer->secret_size > sizeof(answer->secret))
		return FAIL_MESSAGE;
	if (status == OK && request->operation == AGENT_UNWRAP &&
	    answer->secret_size != sizeof(answer->secret))
		return FAIL_MESSAGE;
	return OK;
}

enum status agent_session_ask(struct agent_session *session, struct message_agent_answer *answer,
			      struct message_agent_request *request)
{
	enum status status;

	*answer = (struct message_agent_answer){0};
	request->header.id = ++session->last_id;
	if (session->process.pid == 0)
		return session->outcome;
	status = message_send(session->process.socket_fd, MESSAGE_AGENT_REQUEST, request->header.id,
			      request);
	if (status == OK)
		status = message_receive(session->process.socket_fd, &answer->header,
					 sizeof(*answer));
	/* One that cannot begin has said why, and ends with it. */
	if (status == FAIL_ROLE_DIED)
		status = session->outcome =
			process_outcome(process_end(&session->process, END_PATIENCE_MS));
	if (status == OK)
		status = agent_answer_check(answer, request);
	if (status == OK)
		return (enum status)answer->status;
	/* Nothing of an answer that is not valid may reach the caller. */
	secret_wipe_bytes(answer, sizeof(*answer));
	return status;
}
