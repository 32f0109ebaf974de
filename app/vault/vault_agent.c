#include "app/vault/vault_agent.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "app/vault/vault_attempt.h"
#include "generated/config.h"
#include "platform/bytes.h"
#include "platform/clock.h"
#include "platform/entropy.h"
#include "platform/file.h"
#include "platform/lockdown.h"
#include "platform/log.h"
#include "platform/thread.h"

/* Requests held at a time; further ones wait in the socket. */
#define REQUESTS_MAX 64
#define LANES_MAX CONFIG_VAULT_CONNECTIONS_MAX

/* Of which libcurl and BearSSL have been seen to use a quarter. */
#define LANE_STACK_SIZE ((size_t)96 * 1024)
#define LANE_GUARD_SIZE ((size_t)8 * 1024)

#define ROOTS_SIZE_MAX ((size_t)512 * 1024)

/* Azure asks for 1, 2, 4, 8, 16 seconds. */
#define BACKOFF_BASE_MS 1000
#define BACKOFF_CAP_MS 16000

struct pending {
	bool is_taken;
	bool is_worked_on; /* by a lane, to which all below belongs until it is done */
	uint32_t id;
	uint64_t deadline_ms;       /* all by clock_now_ms */
	uint64_t due_ms;            /* of the next attempt */
	uint64_t updating_since_ms; /* IMDS says so since then; 0: it does not */
	struct backoff backoff;
	uint32_t exchanges;
	uint64_t waited_ms;
	enum status last;    /* status of the last attempt, which was logged */
	enum status invalid; /* what is wrong with the request itself; OK: nothing */
	struct vault_operation operation;
};

/* A thread and its connections. */
struct lane {
	struct vault_agent_state *state;
	struct https_client https;
	struct vault_session session;
	struct vault_outcome outcome;
	struct message_agent_answer answer;
	pthread_t thread;
	bool is_idle;
};

/* Lives in secret memory, all of it. */
struct vault_agent_state {
	int fd;
	pthread_mutex_t mutex; /* for all below; nobody waits for others while having it */
	pthread_cond_t changed;
	bool is_ending;
	enum status failure; /* of a lane that could not answer */
	struct pending pending[REQUESTS_MAX];
	struct lane lanes[LANES_MAX];
	unsigned lane_count; /* running */

	struct vault_tokens tokens; /* has a mutex of its own */
	struct message_agent_request request;
};

/* What can fail only by a mistake of ours. */
static void must(int error_number)
{
	CHECK(error_number == 0);
}

static void lock(struct vault_agent_state *state)
{
	must(pthread_mutex_lock(&state->mutex));
}

static void unlock(struct vault_agent_state *state)
{
	must(pthread_mutex_unlock(&state->mutex));
}

/* That there is something to look at: a request that came, went or is to wait. */
static void tell(struct vault_agent_state *state)
{
	must(pthread_cond_broadcast(&state->changed));
}

/* --- before the rights are gone --- */

static enum status refuse_setting(const char *name, const char *value)
{
	log_error("%s cannot be \"%s\"", name, value);
	return FAIL_CONFIG;
}

static enum status check_settings(const struct message_agent_configure *configure)
{
	if (configure->header.type != MESSAGE_AGENT_CONFIGURE ||
	    !message_text_is_valid(configure->ca_file, sizeof(configure->ca_file)) ||
	    !message_text_is_valid(configure->vault_connect_to,
				   sizeof(configure->vault_connect_to)) ||
	    !message_text_is_valid(configure->proxy, sizeof(configure->proxy)) ||
	    !message_text_is_valid(configure->federated_token_file,
				   sizeof(configure->federated_token_file)) ||
	    !message_text_is_valid(configure->tenant, sizeof(configure->tenant)) ||
	    !message_text_is_valid(configure->authority_host, sizeof(configure->authority_host)) ||
	    !message_text_is_valid(configure->imds_endpoint, sizeof(configure->imds_endpoint)))
		return FAIL_MESSAGE;
	if (configure->attempt_timeout_ms == 0 || configure->attempt_timeout_ms > INT32_MAX)
		return refuse_setting("attempt_timeout", "");
	if (configure->operation_deadline_ms == 0 || configure->operation_deadline_ms > INT32_MAX)
		return refuse_setting("operation_deadline", "");
	return configure->connection_count == 0 || configure->connection_count > LANES_MAX
		       ? FAIL_MESSAGE
		       : OK;
}

/* http://HOST:PORT, with or without a slash at its end. A proxy that is itself spoken to by TLS
 * would make nothing safer that TLS with the vault does not. */
static enum status set_proxy(struct vault_agent *agent, const char *url)
{
	static const char scheme[] = "http://";
	char *end;

	if (url[0] == '\0')
		return OK;
	if (strncmp(url, scheme, strlen(scheme)) != 0)
		return refuse_setting("proxy", url);
	strcpy(agent->proxy, url + strlen(scheme));
	end = strchr(agent->proxy, '/');
	if (end != NULL && end[1] == '\0')
		*end = '\0';
	agent->https.proxy = agent->proxy;
	return https_address_is_valid(agent->proxy) ? OK : refuse_setting("proxy", url);
}

/* The file is replaced, and in Kubernetes is a link to one that is; so what may be read is its
 * folder, which must be there when the rights are given up. */
static enum status set_token_folder(struct vault_agent *agent, const char *token_file)
{
	if (token_file[0] == '\0')
		return OK;
	strcpy(agent->token_folder, token_file);
	*strrchr(agent->token_folder, '/') = '\0';
	if (file_exists(agent->token_folder))
		return OK;
	log_error("there is no folder %s for the federated token", agent->token_folder);
	return FAIL_LOGIN_TOKEN_FILE;
}

/* libcurl wants PEM. */
static enum status write_roots(struct secret_memory *memory, size_t *size, const uint8_t *roots,
			       size_t roots_size)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----\n";
	static const char end[] = "\n-----END CERTIFICATE-----\n";
	size_t length;

	TRY(secret_memory_open(memory, 2 * roots_size + sizeof(begin) + sizeof(end)));
	for (*size = 0; (length = bytes_load_be16(roots)) > 0; roots += 2 + length) {
		char *text = (char *)memory->bytes + *size;

		strcpy(text, begin);
		text += strlen(begin);
		text += base64_encode(text, roots + 2, length, BASE64_STANDARD);
		strcpy(text, end);
		*size = (size_t)(text - (char *)memory->bytes) + strlen(end);
	}
	return OK;
}

/* The file's, if there is one, or the built-in ones. */
static enum status load_roots(struct vault_agent *agent, const char *ca_file, const uint8_t *roots,
			      size_t roots_size)
{
	size_t size;

	if (ca_file[0] == '\0') {
		TRY(write_roots(&agent->roots, &size, roots, roots_size));
	} else {
		TRY(file_read_secret(&agent->roots, &size, ca_file, ROOTS_SIZE_MAX));
		/* The memory has a byte more than the file, for the line feed that the parser of
		 * PEM wants at the end. */
		if (size == agent->roots.size)
			return FAIL_FILE_TOO_LARGE;
		agent->roots.bytes[size++] = '\n';
	}
	agent->https.roots_pem = (const char *)agent->roots.bytes;
	agent->https.roots_size = size;
	if (memmem(agent->roots.bytes, size, "-----BEGIN CERTIFICATE-----", 27) != NULL)
		return OK;
	if (ca_file[0] == '\0')
		log_error("this build has no roots built in: set ca_file");
	else
		log_error("ca_file %s holds no certificate in PEM form", ca_file);
	return FAIL_CONFIG;
}

static struct vault_agent_state *state_of(const struct vault_agent *agent)
{
	return (struct vault_agent_state *)(void *)agent->state.bytes;
}

/* With clocks that nobody sets. */
static void init_state(struct vault_agent_state *state)
{
	pthread_condattr_t attributes;

	must(pthread_mutex_init(&state->tokens.mutex, NULL));
	must(pthread_cond_init(&state->tokens.changed, NULL));
	must(pthread_mutex_init(&state->mutex, NULL));
	must(pthread_condattr_init(&attributes));
	must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
	must(pthread_cond_init(&state->changed, &attributes));
}

/* Where little memory can be locked, fewer that work are better than more of which some fail. */
static void limit_connections(struct vault_agent *agent)
{
	const size_t left = lockdown_memory_left();
	unsigned *count = &agent->https.client_count;

	for (*count = agent->connection_count; *count > 1; --*count)
		if (https_memory(&agent->https) + *count * (LANE_STACK_SIZE + LANE_GUARD_SIZE) <=
		    left)
			break;
	agent->connection_count = *count;
}

enum status vault_agent_prepare(struct vault_agent *agent,
				const struct message_agent_configure *configure,
				const uint8_t *builtin_roots, size_t builtin_roots_size)
{
	struct vault_session session = {0};
	enum status status;

	*agent = (struct vault_agent){
		.https = {.body_size_max = (size_t)CONFIG_HTTP_BODY_KIB_MAX * 1024},
		.connection_count = configure->connection_count,
		.operation_deadline_ms = configure->operation_deadline_ms,
	};
	TRY(check_settings(configure));
	TRY(set_proxy(agent, configure->proxy));
	TRY(load_roots(agent, configure->ca_file, builtin_roots, builtin_roots_size));
	strcpy(agent->connect_to, configure->vault_connect_to);
	if (agent->connect_to[0] != '\0')
		agent->https.connect_to = agent->connect_to;
	TRY(secret_memory_open_hidden(&agent->state, sizeof(struct vault_agent_state)));
	limit_connections(agent);
	init_state(state_of(agent));
	session.exchange_timeout_ms = configure->attempt_timeout_ms;
	session.settings = (struct identity_settings){
		.imds_endpoint = configure->imds_endpoint,
		.token_file = configure->federated_token_file,
		.tenant = configure->tenant,
		.authority = configure->authority_host,
	};
	TRY(vault_attempt_choose_source(&session));
	TRY(set_token_folder(agent, configure->federated_token_file));
	session.tokens = &state_of(agent)->tokens;
	for (unsigned i = 0; i < LANES_MAX; i++) {
		struct lane *lane = &state_of(agent)->lanes[i];

		lane->state = state_of(agent);
		lane->session = session;
		lane->session.https = &lane->https;
	}
	status = https_open(&state_of(agent)->lanes[0].https, &agent->https);
	return status == FAIL_CONFIG ? refuse_setting("vault_connect_to", agent->connect_to)
				     : status;
}

void vault_agent_close(struct vault_agent *agent)
{
	for (unsigned i = 0; agent->state.bytes != NULL && i < LANES_MAX; i++)
		https_close(&state_of(agent)->lanes[i].https);
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

/* Fills in what every answer has, forgets the request, and sends it: whoever has it may ask for
 * something else at once, and is to find this lane free. */
static enum status answer(struct lane *lane, struct pending *pending)
{
	struct vault_agent_state *state = lane->state;
	struct message_agent_answer *message = &lane->answer;
	const struct vault_outcome *outcome = &lane->outcome;
	uint32_t id = pending->id;
	enum status status;

	message->status = outcome->status;
	message->operation = pending->operation.operation;
	strcpy(message->detail, outcome->detail);
	message->retry_after_ms = (uint32_t)MINIMUM(outcome->retry_after_ms, UINT32_MAX);
	message->attempts = pending->exchanges;
	message->waited_ms = (uint32_t)MINIMUM(pending->waited_ms, UINT32_MAX);
	lock(state);
	secret_wipe_bytes(pending, sizeof(*pending));
	lane->is_idle = true;
	tell(state);
	unlock(state);
	status = message_send(state->fd, MESSAGE_AGENT_ANSWER, id, message);
	secret_wipe_bytes(message, sizeof(*message));
	return status;
}

/* Whether the failure is worth another attempt, and when. */
static bool plan_next_attempt(const struct lane *lane, struct pending *pending)
{
	const struct vault_outcome *outcome = &lane->outcome;
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
	return pending->due_ms + lane->session.exchange_timeout_ms <= pending->deadline_ms;
}

/* One attempt; then the request is answered, or is to be worked on again when it is due. */
static enum status work_on(struct lane *lane, struct pending *pending)
{
	struct vault_agent_state *state = lane->state;
	struct vault_outcome *outcome = &lane->outcome;

	if (pending->invalid != OK) {
		*outcome = (struct vault_outcome){.status = pending->invalid};
		if (pending->invalid == FAIL_CONFIG)
			strcpy(outcome->detail, "identity is no client id");
		log_failure(LOG_PRIORITY_DEBUG, pending, outcome, "");
		return answer(lane, pending);
	}
	if (vault_attempt(&lane->session, &lane->answer, outcome, &pending->operation,
			  pending->deadline_ms) != OK)
		secret_wipe_bytes(&lane->answer, sizeof(lane->answer));
	pending->exchanges += outcome->exchanges;
	pending->waited_ms += outcome->waited_ms;
	if (outcome->status == OK)
		return answer(lane, pending);
	if (!plan_next_attempt(lane, pending)) {
		/* Whoever asked says it to people, once, and to whom it matters. */
		log_failure(LOG_PRIORITY_DEBUG, pending, outcome, "");
		return answer(lane, pending);
	}
	/* One line for each cause, not for each attempt. */
	if (outcome->status != pending->last)
		log_failure(LOG_PRIORITY_INFO, pending, outcome, "; trying again");
	pending->last = outcome->status;
	lock(state);
	pending->is_worked_on = false;
	tell(state);
	unlock(state);
	return OK;
}

/* --- lanes: with the mutex, unless they work --- */

static struct pending *find_next(struct vault_agent_state *state)
{
	struct pending *next = NULL;

	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (state->pending[i].is_taken && !state->pending[i].is_worked_on &&
		    (next == NULL || state->pending[i].due_ms < next->due_ms))
			next = &state->pending[i];
	return next;
}

static void wait_for_change(struct vault_agent_state *state, const struct pending *next)
{
	uint64_t left_ms = next == NULL ? 0 : clock_left_ms(next->due_ms);
	struct timespec until;

	if (next == NULL) {
		must(pthread_cond_wait(&state->changed, &state->mutex));
		return;
	}
	must(clock_gettime(CLOCK_MONOTONIC, &until));
	left_ms += (uint64_t)until.tv_nsec / 1000000;
	until.tv_sec += (time_t)(left_ms / 1000);
	until.tv_nsec = (long)(left_ms % 1000) * 1000000;
	(void)pthread_cond_timedwait(&state->changed, &state->mutex, &until);
}

/* The first idle lane takes what is due, the second what is due besides, and so on: few requests
 * find the connections that were used last. */
static struct pending *find_mine(struct lane *lane)
{
	struct vault_agent_state *state = lane->state;
	struct pending *next = find_next(state);
	size_t due_count = 0, idle_count = 0;

	for (size_t i = 0; i < REQUESTS_MAX; i++)
		due_count += state->pending[i].is_taken && !state->pending[i].is_worked_on &&
			     clock_left_ms(state->pending[i].due_ms) == 0;
	for (const struct lane *other = state->lanes; other < lane; other++)
		idle_count += other->is_idle;
	return idle_count == 0 || due_count > idle_count ? next : NULL;
}

static void *run_lane(void *context)
{
	struct lane *lane = context;
	struct vault_agent_state *state = lane->state;

	lock(state);
	while (!state->is_ending) {
		struct pending *next;
		enum status status;

		lane->is_idle = true;
		next = find_mine(lane);
		if (next == NULL || clock_left_ms(next->due_ms) > 0) {
			wait_for_change(state, next);
			continue;
		}
		lane->is_idle = false;
		next->is_worked_on = true;
		tell(state); /* another lane is the first idle one now */
		unlock(state);
		status = work_on(lane, next);
		lock(state);
		if (status == OK)
			continue;
		state->failure = status;
		state->is_ending = true;
		tell(state);
		(void)shutdown(state->fd, SHUT_RDWR);
	}
	unlock(state);
	return NULL;
}

/* Fails only if there is no lane at all. */
static enum status start_lane(struct vault_agent *agent)
{
	struct vault_agent_state *state = state_of(agent);
	struct lane *lane = &state->lanes[state->lane_count];

	if (!lane->https.is_open && https_open(&lane->https, &agent->https) != OK)
		return OK;
	state->lane_count += thread_start(&lane->thread, LANE_STACK_SIZE, run_lane, lane) == 0;
	return state->lane_count > 0 ? OK : FAIL_SYSTEM;
}

/* --- requests --- */

static struct pending *find_free(struct vault_agent_state *state)
{
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (!state->pending[i].is_taken)
			return &state->pending[i];
	return NULL;
}

/* What is wrong with the request itself is for the first attempt to tell. */
static enum status take_request(struct vault_agent *agent, struct pending *pending)
{
	struct vault_agent_state *state = state_of(agent);
	uint64_t now_ms = clock_now_ms();
	size_t taken_count = 0;

	*pending = (struct pending){
		.is_taken = true,
		.id = state->request.header.id,
		.due_ms = now_ms,
		.deadline_ms = now_ms + agent->operation_deadline_ms,
		.backoff = {.base_ms = BACKOFF_BASE_MS, .cap_ms = BACKOFF_CAP_MS},
	};
	pending->invalid = vault_operation_read(&pending->operation, &state->request);
	secret_wipe_bytes(&state->request, sizeof(state->request));
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		taken_count += state->pending[i].is_taken;
	tell(state);
	if (state->lane_count < MINIMUM(taken_count, agent->connection_count))
		return start_lane(agent);
	return OK;
}

static enum status serve(struct vault_agent *agent, struct vault_agent_state *state)
{
	for (;;) {
		struct pending *place;
		enum status status;

		TRY(message_receive(state->fd, &state->request.header, sizeof(state->request)));
		if (state->request.header.type != MESSAGE_AGENT_REQUEST)
			return FAIL_MESSAGE;
		lock(state);
		while ((place = find_free(state)) == NULL && !state->is_ending)
			must(pthread_cond_wait(&state->changed, &state->mutex));
		status = place == NULL ? FAIL_ROLE_DIED : take_request(agent, place);
		unlock(state);
		TRY(status);
	}
}

static void end_lanes(struct vault_agent_state *state)
{
	lock(state);
	state->is_ending = true;
	tell(state);
	unlock(state);
	for (unsigned i = 0; i < state->lane_count; i++)
		must(pthread_join(state->lanes[i].thread, NULL));
}

enum status vault_agent_serve(struct vault_agent *agent, int fd)
{
	struct vault_agent_state *state = state_of(agent);
	enum status status;

	state->fd = fd;
	status = serve(agent, state);
	end_lanes(state);
	if (state->failure != OK)
		status = state->failure;
	/* The supervisor's end is the one way to end. */
	return status == FAIL_ROLE_DIED ? OK : status;
}
