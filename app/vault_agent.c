#include "app/vault_agent.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "app/vault_attempt.h"
#include "generated/config.h"
#include "platform/clock.h"
#include "platform/entropy.h"
#include "platform/file.h"
#include "platform/log.h"

/* Requests worked on at a time; further ones wait in the socket. */
#define REQUESTS_MAX 16

#define ROOTS_SIZE_MAX ((size_t)512 * 1024)

/* Azure asks for 1, 2, 4, 8, 16 seconds. */
#define BACKOFF_BASE_MS 1000
#define BACKOFF_CAP_MS 16000

struct pending {
	bool is_taken;
	uint32_t id;
	uint64_t deadline_ms;       /* all by clock_now_ms */
	uint64_t due_ms;            /* of the next attempt */
	uint64_t updating_since_ms; /* IMDS says so since then; 0: it does not */
	struct backoff backoff;
	uint32_t exchanges;
	uint64_t waited_ms;
	enum status last; /* status of the last attempt, which was logged */
	struct vault_operation operation;
};

/* Lives in secret memory, all of it. */
struct vault_agent_state {
	struct vault_session session;
	struct pending pending[REQUESTS_MAX];
	struct vault_outcome outcome;
	union {
		struct message_header header;
		struct message_agent_request request;
		struct message_agent_answer answer;
	} message;
};

/* --- before the rights are gone --- */

static enum status refuse_setting(const char *name)
{
	log_error("the setting %s is not valid", name);
	return FAIL_CONFIG;
}

static enum status check_settings(const struct message_agent_configure *configure)
{
	if (configure->header.type != MESSAGE_AGENT_CONFIGURE ||
	    !message_text_is_valid(configure->ca_file, sizeof(configure->ca_file)) ||
	    !message_text_is_valid(configure->vault_connect_to,
				   sizeof(configure->vault_connect_to)) ||
	    !message_text_is_valid(configure->imds_endpoint, sizeof(configure->imds_endpoint)))
		return FAIL_MESSAGE;
	if (!identity_endpoint_is_valid(configure->imds_endpoint))
		return refuse_setting("imds_endpoint");
	if (configure->attempt_timeout_ms == 0 || configure->attempt_timeout_ms > INT32_MAX)
		return refuse_setting("attempt_timeout");
	if (configure->operation_deadline_ms == 0 || configure->operation_deadline_ms > INT32_MAX)
		return refuse_setting("operation_deadline");
	return OK;
}

/* Puts the file's roots in the place of the built-in ones, if there is one. */
static enum status load_roots(struct vault_agent *agent, const char *ca_file, const char **roots,
			      size_t *size)
{
	if (ca_file[0] != '\0') {
		TRY(secret_memory_open(&agent->roots, ROOTS_SIZE_MAX));
		/* One byte is left for the line feed that the parser of PEM wants at the end. */
		TRY(file_read_text((char *)agent->roots.bytes, ROOTS_SIZE_MAX - 1, size, ca_file));
		agent->roots.bytes[(*size)++] = '\n';
		*roots = (const char *)agent->roots.bytes;
	}
	if (memmem(*roots, *size, "-----BEGIN CERTIFICATE-----", 27) == NULL) {
		if (ca_file[0] == '\0')
			log_error("this build has no roots built in: set ca_file");
		else
			log_error("ca_file %s holds no certificate in PEM form", ca_file);
		return FAIL_CONFIG;
	}
	return OK;
}

enum status vault_agent_prepare(struct vault_agent *agent,
				const struct message_agent_configure *configure,
				const char *builtin_roots, size_t builtin_roots_size)
{
	struct https_options options = {
		.roots_pem = builtin_roots,
		.roots_size = builtin_roots_size,
		.connect_to =
			configure->vault_connect_to[0] == '\0' ? NULL : configure->vault_connect_to,
		.body_size_max = (size_t)CONFIG_HTTP_BODY_KIB_MAX * 1024,
	};
	struct vault_agent_state *state;
	enum status status;

	*agent = (struct vault_agent){0};
	TRY(check_settings(configure));
	TRY(load_roots(agent, configure->ca_file, &options.roots_pem, &options.roots_size));
	TRY(secret_memory_open_hidden(&agent->state, sizeof(*state)));
	status = https_open(&agent->https, &options);
	if (status == FAIL_CONFIG)
		return refuse_setting("vault_connect_to");
	TRY(status);
	state = (struct vault_agent_state *)(void *)agent->state.bytes;
	state->session.https = &agent->https;
	state->session.exchange_timeout_ms = configure->attempt_timeout_ms;
	strcpy(state->session.imds_endpoint, configure->imds_endpoint);
	agent->operation_deadline_ms = configure->operation_deadline_ms;
	return OK;
}

void vault_agent_close(struct vault_agent *agent)
{
	https_close(&agent->https);
	secret_memory_close(&agent->state);
	secret_memory_close(&agent->roots);
}

/* --- answering --- */

static const char *operation_name(enum agent_operation operation)
{
	switch (operation) {
	case AGENT_GET_KEY: return "get key";
	case AGENT_WRAP: return "wrap by";
	case AGENT_UNWRAP: return "unwrap by";
	case AGENT_TOKEN: return "token for";
	case AGENT_USER_DATA: return "user data";
	case AGENT_OPERATIONS: break;
	}
	return "request for";
}

static void log_failure(enum log_priority priority, const struct pending *pending,
			const struct vault_outcome *outcome, const char *what_next)
{
	char url[KEY_URL_TEXT_SIZE] = "a key URL that is not valid";

	if (pending->operation.operation == AGENT_USER_DATA)
		strcpy(url, "of this VM");
	else if (pending->operation.key.resource != NULL)
		key_url_format(url, &pending->operation.key);
	log_line(priority, "%s %s: %s%s%s%s%s", operation_name(pending->operation.operation), url,
		 status_sentence(outcome->status), outcome->detail[0] == '\0' ? "" : " (",
		 outcome->detail, outcome->detail[0] == '\0' ? "" : ")", what_next);
}

/* Fills in what every answer has, sends it, and forgets the request. */
static enum status answer(struct vault_agent_state *state, int fd, struct pending *pending)
{
	struct message_agent_answer *message = &state->message.answer;
	const struct vault_outcome *outcome = &state->outcome;
	enum status status;

	message->status = outcome->status;
	message->operation = pending->operation.operation;
	strcpy(message->detail, outcome->detail);
	message->retry_after_ms = (uint32_t)MINIMUM(outcome->retry_after_ms, UINT32_MAX);
	message->attempts = pending->exchanges;
	message->waited_ms = (uint32_t)MINIMUM(pending->waited_ms, UINT32_MAX);
	status = message_send(fd, MESSAGE_AGENT_ANSWER, pending->id, message);
	secret_wipe_bytes(message, sizeof(*message));
	secret_wipe_bytes(pending, sizeof(*pending));
	return status;
}

static struct pending *find_free(struct vault_agent_state *state)
{
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (!state->pending[i].is_taken)
			return &state->pending[i];
	return NULL;
}

static struct pending *find_next(struct vault_agent_state *state)
{
	struct pending *next = NULL;

	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (state->pending[i].is_taken &&
		    (next == NULL || state->pending[i].due_ms < next->due_ms))
			next = &state->pending[i];
	return next;
}

static enum status take_request(struct vault_agent_state *state, int fd, struct pending *pending,
				uint64_t operation_deadline_ms)
{
	uint64_t now_ms = clock_now_ms();
	enum status status;

	TRY(message_receive(fd, &state->message.header, sizeof(state->message)));
	if (state->message.header.type != MESSAGE_AGENT_REQUEST)
		return FAIL_MESSAGE;
	*pending = (struct pending){
		.is_taken = true,
		.id = state->message.header.id,
		.due_ms = now_ms,
		.deadline_ms = now_ms + operation_deadline_ms,
		.backoff = {.base_ms = BACKOFF_BASE_MS, .cap_ms = BACKOFF_CAP_MS},
	};
	status = vault_operation_read(&pending->operation, &state->message.request);
	secret_wipe_bytes(&state->message, sizeof(state->message));
	if (status == OK)
		return OK;
	state->outcome = (struct vault_outcome){.status = status};
	log_failure(LOG_PRIORITY_WARNING, pending, &state->outcome, "");
	return answer(state, fd, pending);
}

/* Whether the failure is worth another attempt, and when. */
static bool plan_next_attempt(const struct vault_agent_state *state, struct pending *pending)
{
	const struct vault_outcome *outcome = &state->outcome;
	uint64_t now_ms = clock_now_ms();
	uint64_t wait_ms;

	if (!outcome->is_transient)
		return false;
	if (outcome->status != FAIL_IMDS_UPDATING)
		pending->updating_since_ms = 0;
	else if (pending->updating_since_ms == 0)
		pending->updating_since_ms = now_ms;
	else if (now_ms - pending->updating_since_ms > IDENTITY_UPDATE_LIMIT_MS)
		return false;
	wait_ms = backoff_next_ms(&pending->backoff, entropy_u32(), outcome->retry_after_ms);
	pending->due_ms = now_ms + wait_ms;
	/* An attempt that is cut short would put a time-out in the place of the cause. */
	return pending->due_ms + state->session.exchange_timeout_ms <= pending->deadline_ms;
}

static enum status work_on(struct vault_agent_state *state, int fd, struct pending *pending)
{
	struct vault_outcome *outcome = &state->outcome;

	secret_wipe_bytes(&state->message, sizeof(state->message));
	if (vault_attempt(&state->session, &state->message.answer, outcome, &pending->operation,
			  pending->deadline_ms) != OK)
		secret_wipe_bytes(&state->message, sizeof(state->message));
	pending->exchanges += outcome->exchanges;
	pending->waited_ms += outcome->waited_ms;
	if (outcome->status == OK)
		return answer(state, fd, pending);
	if (plan_next_attempt(state, pending)) {
		/* One line for each cause, not for each attempt. */
		if (outcome->status != pending->last)
			log_failure(LOG_PRIORITY_INFO, pending, outcome, "; trying again");
		pending->last = outcome->status;
		return OK;
	}
	/* Whoever asked says it to people, once, and to whom it matters. */
	log_failure(LOG_PRIORITY_DEBUG, pending, outcome, "");
	return answer(state, fd, pending);
}

/* Waits until there is something to read or `next` is due. */
static enum status wait_for_work(struct pollfd *supervisor, const struct pending *next)
{
	uint64_t left_ms = next == NULL ? 0 : clock_left_ms(next->due_ms);
	int timeout_ms = next == NULL ? -1 : (int)MINIMUM(left_ms, INT32_MAX);

	supervisor->revents = 0;
	if (poll(supervisor, 1, timeout_ms) < 0 && errno != EINTR) {
		log_errno(LOG_PRIORITY_ERROR, errno, "poll");
		return FAIL_SYSTEM;
	}
	return OK;
}

static enum status serve(struct vault_agent *agent, struct vault_agent_state *state, int fd)
{
	for (;;) {
		struct pending *free_place = find_free(state);
		struct pending *next = find_next(state);
		struct pollfd supervisor = {.fd = fd, .events = free_place == NULL ? 0 : POLLIN};

		TRY(wait_for_work(&supervisor, next));
		if ((supervisor.revents & POLLIN) != 0)
			TRY(take_request(state, fd, free_place, agent->operation_deadline_ms));
		else if (supervisor.revents != 0)
			return FAIL_ROLE_DIED;
		if (next != NULL && clock_left_ms(next->due_ms) == 0)
			TRY(work_on(state, fd, next));
	}
}

enum status vault_agent_serve(struct vault_agent *agent, int fd)
{
	struct vault_agent_state *state = (struct vault_agent_state *)(void *)agent->state.bytes;
	enum status status = serve(agent, state, fd);

	/* The supervisor's end is the one way to end. */
	return status == FAIL_ROLE_DIED ? OK : status;
}
