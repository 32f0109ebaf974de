#include "app/supervisor_state.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/agent_session.h"
#include "app/keyvault.h"
#include "platform/entropy.h"
#include "platform/log.h"

/* An attempt asks IMDS and the vault, and may ask both again with a fresh token. */
#define EXCHANGES_OF_ATTEMPT 4
#define ANSWER_GRACE_MS 10000

static void plan_restart(struct supervisor *supervisor)
{
	supervisor->agent = PROCESS_NONE;
	supervisor->agent_restart_ms =
		clock_now_ms() + backoff_next_ms(&supervisor->agent_backoff, entropy_u32(), 0);
}

/* The agent tries once and tells the cause; when to try again is decided here, where the state is
 * that operators see. */
void supervisor_start_agent(struct supervisor *supervisor)
{
	struct config config = *supervisor->config;
	enum status status;

	config.operation_deadline_s = config.attempt_timeout_s;
	status = agent_start(&supervisor->agent, &config);
	if (status == OK)
		status = process_never_wait(&supervisor->agent);
	if (status == OK)
		return;
	plan_restart(supervisor);
	if (status != FAIL_FEATURE_OFF)
		log_error("the vault agent cannot be started: %s", status_sentence(status));
}

/* Its end is noticed as a child's; supervisor_agent_ended then does the rest. */
static void end_agent(struct supervisor *supervisor, const char *why)
{
	log_error("the vault agent %s; ending it", why);
	if (supervisor->agent.socket_fd >= 0)
		close(supervisor->agent.socket_fd);
	supervisor->agent.socket_fd = -1;
	kill(supervisor->agent.pid, SIGKILL);
}

void supervisor_agent_ended(struct supervisor *supervisor, int wait_status)
{
	log_error("the vault agent ended (%s %d); starting another one",
		  WIFSIGNALED(wait_status) ? "signal" : "exit status",
		  WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
	if (supervisor->agent.socket_fd >= 0)
		close(supervisor->agent.socket_fd);
	supervisor->counters.agents_lost++;
	plan_restart(supervisor);
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_ASKING)
			managed_volume_fail(supervisor->volumes[i], FAIL_ROLE_DIED, "vault agent",
					    0);
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

	if (supervisor->agent.pid == 0 || supervisor->agent.socket_fd < 0)
		return FAIL_ROLE_DIED;
	status = message_send(supervisor->agent.socket_fd, MESSAGE_AGENT_REQUEST,
			      ++supervisor->last_request_id, request);
	if (status != OK) {
		end_agent(supervisor, "does not listen");
		return FAIL_ROLE_DIED;
	}
	*answer_due_ms = find_answer_due_ms(supervisor);
	return OK;
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
	managed->round_ms =
		retry_round_ms((uint64_t)supervisor->config->fleet_size * supervisor->volume_count,
			       keyvault_wrapped_bits(managed->token.current.wrapped));
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
		managed_volume_fail(managed, status, "", 0);
}

static void give_answer(struct supervisor *supervisor, struct managed_volume *managed,
			const struct message_agent_answer *answer)
{
	const bool is_current = !managed->asks_previous;
	enum status status = (enum status)answer->status;
	const char *detail = answer->detail;

	if (status == OK) {
		detail = "";
		status = supervisor_name_is_taken(supervisor, managed)
				 ? FAIL_NAME_TAKEN
				 : managed_volume_unlock(managed, answer->secret,
							 supervisor->config);
	}
	if (is_current)
		managed_volume_key_seen(managed, status, detail, supervisor->config);
	if (status == OK || (managed_volume_asks_previous(managed, status, detail) &&
			     load_and_ask(supervisor, managed) == OK))
		return;
	managed_volume_fail(managed, status, detail, answer->retry_after_ms);
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

static void count(struct metrics_counters *counters, const struct message_agent_answer *answer)
{
	/* Of an answer that nobody waits for, only its own word is known. */
	if (answer->operation < AGENT_OPERATIONS)
		counters->attempts[answer->operation]++;
	if (answer->status != OK)
		counters->failures[answer->status]++;
	counters->waited_ms += answer->waited_ms;
}

/* One answer may be for several volumes, or for one that was locked in the meantime. */
void supervisor_hear_agent(struct supervisor *supervisor)
{
	struct message_agent_answer answer = {0};
	struct message_agent_request asked = {0};
	enum status status =
		message_receive(supervisor->agent.socket_fd, &answer.header, sizeof(answer));

	asked.header.id = answer.header.id;
	asked.operation = operation_of(supervisor, &answer);
	if (status == OK)
		status = agent_answer_check(&answer, &asked);
	if (status == OK) {
		count(&supervisor->counters, &answer);
		backoff_reset(&supervisor->agent_backoff);
		for (size_t i = 0; i < supervisor->volume_count; i++)
			if (supervisor->volumes[i]->state == VOLUME_ASKING &&
			    supervisor->volumes[i]->request_id == answer.header.id)
				give_answer(supervisor, supervisor->volumes[i], &answer);
		supervisor_hear_keys(supervisor, &answer);
	} else {
		end_agent(supervisor, status == FAIL_ROLE_DIED
					      ? "has closed its socket"
					      : "sent a message that is not valid");
	}
	secret_wipe_bytes(&answer, sizeof(answer));
}
