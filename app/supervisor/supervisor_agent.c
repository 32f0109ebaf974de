#include "app/supervisor/supervisor_state.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/features.h"
#include "app/vault/agent_session.h"
#include "app/vault/keyvault.h"
#include "platform/entropy.h"
#include "platform/log.h"
#include "platform/thread.h"

/* An attempt asks IMDS and the vault, and may ask both again with a fresh token. */
#define EXCHANGES_OF_ATTEMPT 4
#define ANSWER_GRACE_MS 10000

#define REFUSED_AGAIN_MS (5 * 60 * 1000)

#define OF_AGENT "vault agent; see the journal"

#define ANSWERS_MAX 16
#define UNLOCK_STACK_SIZE ((size_t)128 * 1024)

/* What it refuses at its start is for people to mend, and was told. */
static void plan_restart(struct supervisor *supervisor, enum status cause)
{
	const bool is_refusal =
		cause == FAIL_CONFIG || cause == FAIL_FILE || cause == FAIL_FEATURE_OFF;

	supervisor->agent = PROCESS_NONE;
	supervisor->agent_cause = cause;
	supervisor->agent_restart_ms =
		clock_now_ms() +
		(is_refusal ? REFUSED_AGAIN_MS
			    : backoff_next_ms(&supervisor->agent_backoff, entropy_u32(), 0));
}

/* The agent tries once and tells the cause; when to try again is decided here, where the state is
 * that operators see. */
void supervisor_start_agent(struct supervisor *supervisor)
{
	struct config config = *supervisor->config;
	enum status status;

	config.operation_deadline_s = config.attempt_timeout_s;
	status = agent_start(&supervisor->agent, &config, feature_vault_connections_max());
	if (status == OK)
		status = process_never_wait(&supervisor->agent);
	if (status == OK)
		return;
	plan_restart(supervisor, status);
	if (status != FAIL_FEATURE_OFF)
		log_error("the vault agent cannot be started: %s", status_sentence(status));
}

/* Its end is noticed as a child's; supervisor_agent_ended then does the rest. `why` is NULL for one
 * that is ending already. */
static void end_agent(struct supervisor *supervisor, const char *why)
{
	if (why != NULL)
		log_error("the vault agent %s; ending it", why);
	if (supervisor->agent.socket_fd >= 0)
		close(supervisor->agent.socket_fd);
	supervisor->agent.socket_fd = -1;
	kill(supervisor->agent.pid, SIGKILL);
}

void supervisor_agent_ended(struct supervisor *supervisor, int wait_status)
{
	const enum status cause = process_outcome(wait_status);

	if (supervisor->agent.socket_fd >= 0)
		close(supervisor->agent.socket_fd);
	supervisor->counters.agents_lost++;
	plan_restart(supervisor, cause);
	log_error("the vault agent ended (%s %d: %s); another one is started in %.1f s",
		  WIFSIGNALED(wait_status) ? "signal" : "exit status",
		  WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status),
		  status_sentence(cause),
		  (double)clock_left_ms(supervisor->agent_restart_ms) / 1000);
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_ASKING)
			managed_volume_fail(supervisor->volumes[i], cause, OF_AGENT, 0);
	supervisor_keys_lose_agent(supervisor);
}

/* Requests are worked on in turn, so the more are under way, the later the last one's answer. */
static uint64_t find_answer_due_ms(const struct supervisor *supervisor)
{
	uint64_t asking_count = 2; /* this one, and the question for the newest version */

	for (size_t i = 0; i < supervisor->volume_count; i++)
		asking_count += supervisor->volumes[i]->state == VOLUME_ASKING ||
				supervisor->volumes[i]->key.job != KEY_JOB_NONE;
	return clock_now_ms() + ANSWER_GRACE_MS +
	       asking_count * EXCHANGES_OF_ATTEMPT * supervisor->config->attempt_timeout_s * 1000;
}

void supervisor_watch_agent(struct supervisor *supervisor)
{
	uint64_t now_ms = clock_now_ms();

	if (supervisor->agent.pid == 0 || supervisor->agent.socket_fd < 0)
		return;
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_ASKING &&
		    supervisor->volumes[i]->due_ms <= now_ms) {
			end_agent(supervisor, "gives no answer");
			return;
		}
	if (supervisor_keys_are_overdue(supervisor))
		end_agent(supervisor, "gives no answer about a key");
}

/* If another volume waits for the very same secret, that one's answer will do for both. */
static bool join_request(const struct supervisor *supervisor, struct managed_volume *managed)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_volume *other = supervisor->volumes[i];

		if (other == managed || other->state != VOLUME_ASKING ||
		    !managed_volume_same_secret(other, managed))
			continue;
		managed_volume_asked(managed, other->request_id, other->due_ms);
		return true;
	}
	return false;
}

enum status supervisor_ask_agent(struct supervisor *supervisor,
				 struct message_agent_request *request, uint64_t *answer_due_ms)
{
	enum status status;

	if (supervisor->agent.pid == 0)
		return supervisor->agent_cause;
	if (supervisor->agent.socket_fd < 0)
		return FAIL_ROLE_DIED;
	status = message_send(supervisor->agent.socket_fd, MESSAGE_AGENT_REQUEST,
			      ++supervisor->last_request_id, request);
	if (status != OK) {
		end_agent(supervisor, status == FAIL_ROLE_DIED ? NULL : "does not listen");
		return FAIL_ROLE_DIED;
	}
	*answer_due_ms = find_answer_due_ms(supervisor);
	return OK;
}

uint64_t supervisor_round_ms(const struct supervisor *supervisor,
			     const struct managed_volume *managed)
{
	return retry_round_ms((uint64_t)supervisor->config->fleet_size * supervisor->volume_count,
			      keyvault_wrapped_bits(managed->token.current.wrapped));
}

/* When the whole fleet may be starting, each machine asks in its turn. A disk that comes later
 * finds the turn past. */
static bool waits_for_its_turn(const struct supervisor *supervisor, struct managed_volume *managed)
{
	uint64_t left_ms;

	if (managed->state != VOLUME_FOUND)
		return false;
	managed->due_ms =
		supervisor->started_ms + retry_first_ms(managed->round_ms, supervisor->place);
	left_ms = clock_left_ms(managed->due_ms);
	if (left_ms > 0)
		log_info("%s waits for its turn among %u machines (%.1f s)", managed->name,
			 supervisor->config->fleet_size, (double)left_ms / 1000);
	return left_ms > 0;
}

static enum status load_and_ask(struct supervisor *supervisor, struct managed_volume *managed)
{
	struct message_agent_request request;
	uint64_t answer_due_ms;

	TRY(managed_volume_load(managed));
	if (supervisor_name_is_taken(supervisor, managed))
		return FAIL_NAME_TAKEN;
	TRY(managed_volume_request(managed, &request, supervisor->config));
	managed->round_ms = supervisor_round_ms(supervisor, managed);
	if (join_request(supervisor, managed) || waits_for_its_turn(supervisor, managed))
		return OK;
	TRY(supervisor_ask_agent(supervisor, &request, &answer_due_ms));
	managed_volume_asked(managed, supervisor->last_request_id, answer_due_ms);
	return OK;
}

void supervisor_try_volume(struct supervisor *supervisor, struct managed_volume *managed)
{
	enum status status = managed_volume_has_key(managed) ? managed_volume_restart(managed)
							     : load_and_ask(supervisor, managed);

	if (status != OK)
		managed_volume_fail(managed, status,
				    supervisor->agent.pid == 0 && status == supervisor->agent_cause
					    ? OF_AGENT
					    : "",
				    0);
}

/* Of one that nobody waits for any more, what it says itself. */
static uint32_t operation_of(const struct supervisor *supervisor,
			     const struct message_agent_answer *answer)
{
	uint32_t operation = supervisor_keys_operation(supervisor, answer->header.id);

	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_ASKING &&
		    supervisor->volumes[i]->request_id == answer->header.id)
			operation = AGENT_UNWRAP;
	return operation != 0 ? operation : answer->operation;
}

static void count_answer(struct metrics_counters *counters,
			 const struct message_agent_answer *answer)
{
	/* Of an answer that nobody waits for, only its own word is known. */
	if (answer->operation < AGENT_OPERATIONS)
		counters->attempts[answer->operation]++;
	if (answer->status != OK)
		counters->failures[answer->status]++;
	counters->waited_ms += answer->waited_ms;
}

/* --- answers --- */

/* A volume whose answer has come, and what becomes of it. */
struct unlocking {
	struct managed_volume *managed;
	const struct message_agent_answer *answer;
	struct secret volume_key;
	enum status status;
};

struct unlockings {
	struct unlocking of[SUPERVISOR_VOLUMES_MAX];
	size_t count;
	_Atomic size_t next;
};

static void *open_keyslots(void *context)
{
	struct unlockings *all = context;
	size_t i;

	while ((i = atomic_fetch_add(&all->next, 1)) < all->count) {
		struct unlocking *unlocking = &all->of[i];

		unlocking->status = (enum status)unlocking->answer->status;
		if (unlocking->status == OK)
			unlocking->status =
				managed_volume_open_slot(&unlocking->volume_key, unlocking->managed,
							 unlocking->answer->secret);
	}
	return NULL;
}

/* A keyslot takes some milliseconds of a CPU: many disks are opened by all of them. More threads
 * than CPUs would only lock more memory. */
static void open_all(struct unlockings *all)
{
	const size_t cpus = (size_t)MAXIMUM(sysconf(_SC_NPROCESSORS_ONLN), 1);
	pthread_t threads[SUPERVISOR_VOLUMES_MAX];
	size_t count = 0;

	while (count + 1 < MINIMUM(all->count, cpus) &&
	       thread_start(&threads[count], UNLOCK_STACK_SIZE, open_keyslots, all) == 0)
		count++;
	open_keyslots(all);
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void end_unlocking(struct supervisor *supervisor, struct unlocking *unlocking)
{
	struct managed_volume *managed = unlocking->managed;
	const struct message_agent_answer *answer = unlocking->answer;
	const bool is_current = !managed->asks_previous;
	const char *detail = answer->status == OK ? "" : answer->detail;
	enum status status = unlocking->status;

	if (status == OK && supervisor_name_is_taken(supervisor, managed))
		status = FAIL_NAME_TAKEN;
	if (status == OK)
		status = managed_volume_unlock(managed, &unlocking->volume_key, supervisor->config);
	if (is_current)
		managed_volume_key_seen(managed, status, detail, supervisor->config);
	if (status == OK || (managed_volume_asks_previous(managed, status, detail) &&
			     load_and_ask(supervisor, managed) == OK))
		return;
	managed_volume_fail(managed, status, detail, answer->retry_after_ms);
}

/* One answer may be for several volumes, or for one that was locked in the meantime. */
static void give_answers(struct supervisor *supervisor, const struct message_agent_answer *answers,
			 size_t answer_count)
{
	struct unlockings all = {0};

	for (size_t i = 0; i < supervisor->volume_count; i++)
		for (size_t j = 0; j < answer_count; j++)
			if (supervisor->volumes[i]->state == VOLUME_ASKING &&
			    supervisor->volumes[i]->request_id == answers[j].header.id) {
				all.of[all.count].managed = supervisor->volumes[i];
				all.of[all.count++].answer = &answers[j];
				break;
			}
	open_all(&all);
	for (size_t i = 0; i < all.count; i++)
		end_unlocking(supervisor, &all.of[i]);
	secret_wipe_bytes(&all, sizeof(all));
}

static bool has_more(const struct supervisor *supervisor)
{
	struct pollfd agent = {.fd = supervisor->agent.socket_fd, .events = POLLIN};

	return poll(&agent, 1, 0) > 0 && agent.revents == POLLIN;
}

static enum status hear_answer(struct supervisor *supervisor, struct message_agent_answer *answer)
{
	struct message_agent_request asked = {0};

	TRY(message_receive(supervisor->agent.socket_fd, &answer->header, sizeof(*answer)));
	asked.header.id = answer->header.id;
	asked.operation = operation_of(supervisor, answer);
	TRY(agent_answer_check(answer, &asked));
	count_answer(&supervisor->counters, answer);
	return OK;
}

/* All that are there, so that their keyslots are opened together. */
void supervisor_hear_agent(struct supervisor *supervisor)
{
	static struct message_agent_answer answers[ANSWERS_MAX];
	enum status status = OK;
	size_t count = 0;

	do {
		status = hear_answer(supervisor, &answers[count]);
		count += status == OK;
	} while (status == OK && count < ANSWERS_MAX && has_more(supervisor));
	if (count > 0)
		backoff_reset(&supervisor->agent_backoff);
	give_answers(supervisor, answers, count);
	for (size_t i = 0; i < count; i++)
		supervisor_hear_keys(supervisor, &answers[i]);
	secret_wipe_bytes(answers, sizeof(answers));
	if (status != OK)
		end_agent(supervisor,
			  status == FAIL_ROLE_DIED ? NULL : "sent a message that is not valid");
}
