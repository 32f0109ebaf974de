#include "tests/fleet/fleet.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/retry.h"
#include "app/vault_attempt.h"
#include "platform/clock.h"

#define OUTAGE_MS (3600 * 1000)
#define TIME_LIMIT_MS (OUTAGE_MS + (uint64_t)FLEET_SECONDS_MAX * 1000)
#define RETRY_CAP_MS 30000 /* the default of the setting retry_cap */
#define EXCHANGE_TIMEOUT_MS 10000
#define LATENCY_LEAST_MS 20
#define LATENCY_SPREAD_MS 160
#define KID "https://bank.vault.azure.net/keys/broker/0123456789abcdef0123456789abcdef"

struct broker {
	struct retry retry;
	uint32_t place; /* what it draws once */
	bool has_token;
	bool is_unlocked;
};

/* The times of what counts against the limit, oldest first. */
struct count {
	uint64_t *times_ms;
	size_t first;
	size_t end;
	size_t size;
};

struct turn {
	uint64_t time_ms;
	uint32_t broker;
	uint32_t order; /* of turns at one time */
};

static struct {
	const struct fleet_scenario *scenario;
	struct fleet_result *result;
	struct vault_session *session;
	uint64_t now_ms;
	uint64_t there_ms; /* when the vault can be asked */
	uint64_t random_state;
	struct broker *brokers;
	struct count count;
	struct turn *heap;
	size_t heap_size;
	uint32_t turns_planned;
	char body[1024];
} fleet;

/* --- chance, the same in every run: xorshift64* --- */

static uint32_t draw(void)
{
	fleet.random_state ^= fleet.random_state >> 12;
	fleet.random_state ^= fleet.random_state << 25;
	fleet.random_state ^= fleet.random_state >> 27;
	return (uint32_t)((fleet.random_state * 0x2545f4914f6cdd1d) >> 32);
}

static uint64_t draw_latency_ms(void)
{
	return LATENCY_LEAST_MS + draw() % LATENCY_SPREAD_MS;
}

/* --- turns, as a heap --- */

static bool comes_before(const struct turn *a, const struct turn *b)
{
	return a->time_ms < b->time_ms || (a->time_ms == b->time_ms && a->order < b->order);
}

static void plan(uint32_t broker, uint64_t time_ms)
{
	struct turn turn = {.time_ms = time_ms, .broker = broker, .order = fleet.turns_planned++};
	size_t at = fleet.heap_size++;

	for (; at > 0 && comes_before(&turn, &fleet.heap[(at - 1) / 2]); at = (at - 1) / 2)
		fleet.heap[at] = fleet.heap[(at - 1) / 2];
	fleet.heap[at] = turn;
}

static struct turn take_next(void)
{
	struct turn next = fleet.heap[0];
	struct turn last = fleet.heap[--fleet.heap_size];
	size_t at = 0;

	for (size_t child; (child = 2 * at + 1) < fleet.heap_size; at = child) {
		if (child + 1 < fleet.heap_size &&
		    comes_before(&fleet.heap[child + 1], &fleet.heap[child]))
			child++;
		if (!comes_before(&fleet.heap[child], &last))
			break;
		fleet.heap[at] = fleet.heap[child];
	}
	fleet.heap[at] = last;
	return next;
}

/* --- the vault's limit --- */

static void count_operation(uint64_t time_ms)
{
	struct count *count = &fleet.count;

	if (count->end == count->size) {
		count->size = MAXIMUM(count->size * 2, 65536);
		count->times_ms = realloc(count->times_ms, count->size * sizeof(uint64_t));
		CHECK(count->times_ms != NULL);
	}
	count->times_ms[count->end++] = time_ms;
}

static bool is_past(uint64_t time_ms)
{
	return time_ms + RETRY_WINDOW_MS <= fleet.now_ms;
}

/* Whether one more operation is within the limit; else, when it will be. */
static bool is_within_limit(uint64_t *wait_ms)
{
	const struct fleet_limit *limit = &fleet.scenario->limit;
	struct count *count = &fleet.count;
	uint64_t decisive_ms;

	while (count->first < count->end && is_past(count->times_ms[count->first]))
		count->first++;
	if (count->end - count->first < limit->operations)
		return true;
	decisive_ms = count->times_ms[count->end - limit->operations];
	*wait_ms = decisive_ms + RETRY_WINDOW_MS - fleet.now_ms;
	return false;
}

/* --- what answers --- */

uint64_t clock_now_ms(void)
{
	return fleet.now_ms;
}

int64_t clock_wall_s(void)
{
	return 1700000000 + (int64_t)(fleet.now_ms / 1000);
}

uint64_t clock_left_ms(uint64_t deadline_ms)
{
	return deadline_ms > fleet.now_ms ? deadline_ms - fleet.now_ms : 0;
}

__attribute__((format(printf, 3, 4))) static void
answer_with(struct https_answer *answer, int http_status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer->body_size = (size_t)vsnprintf(fleet.body, sizeof(fleet.body), format, arguments);
	va_end(arguments);
	answer->http_status = http_status;
	answer->body = fleet.body;
}

static void answer_as_vault(struct https_answer *answer)
{
	uint64_t second = (fleet.now_ms - fleet.there_ms) / 1000;
	uint64_t wait_ms;
	bool is_accepted = is_within_limit(&wait_ms);

	CHECK(second < FLEET_SECONDS_MAX);
	fleet.result->requests++;
	(is_accepted ? fleet.result->accepted_in : fleet.result->refused_in)[second]++;
	fleet.result->seconds = (uint32_t)MAXIMUM(fleet.result->seconds, second + 1);
	if (is_accepted || fleet.scenario->limit.counts_refused)
		count_operation(fleet.now_ms);
	if (is_accepted) {
		/* 32 zero bytes. */
		answer_with(answer, 200, "{\"kid\":\"%s\",\"value\":\"%043d\"}", KID, 0);
		memset(strstr(fleet.body, "\"value\":\"") + 9, 'A', 43);
		return;
	}
	answer_with(answer, 429,
		    "{\"error\":{\"code\":\"Throttled\",\"message\":\"Request was not processed "
		    "because too many requests were received. Reason: "
		    "VaultRequestTypeLimitReached\"}}");
	answer->has_retry_after = fleet.scenario->limit.says_when;
	answer->retry_after_ms = (wait_ms + 999) / 1000 * 1000;
}

enum status https_exchange(struct https_client *client, struct https_answer *answer,
			   const struct https_request *request)
{
	enum status status = OK;

	(void)client;
	*answer = (struct https_answer){.body = fleet.body};
	fleet.body[0] = '\0';
	answer->duration_ms = draw_latency_ms();
	if (request->is_for_metadata)
		answer_with(answer, 200,
			    "{\"access_token\":\"token\",\"expires_in\":\"86399\",\"resource\":"
			    "\"https://vault.azure.net\",\"token_type\":\"Bearer\"}");
	else if (fleet.now_ms >= fleet.there_ms)
		answer_as_vault(answer);
	else if (fleet.scenario->event == FLEET_FAILURE)
		answer_with(answer, 503, "{\"error\":{\"code\":\"ServiceUnavailable\"}}");
	else
		status = FAIL_VAULT_UNREACHABLE;
	fleet.now_ms += answer->duration_ms;
	return status;
}

void https_wipe_body(struct https_client *client)
{
	(void)client;
	memset(fleet.body, 0, sizeof(fleet.body));
}

/* --- the brokers --- */

static const struct vault_operation *operation(enum agent_operation kind)
{
	static struct vault_operation operation;
	struct message_agent_request request = {
		.operation = kind,
		.key_url = KID,
		.algorithm = KEYVAULT_ALGORITHM,
	};

	memset(request.wrapped, 'A', (fleet.scenario->key_bits + 5) / 6);
	CHECK(vault_operation_read(&operation, &request) == OK);
	CHECK(keyvault_wrapped_bits(operation.wrapped) == fleet.scenario->key_bits ||
	      kind == AGENT_TOKEN);
	return &operation;
}

/* How long the vault needs for all brokers, as one of them believes. */
static uint64_t round_ms(void)
{
	const struct fleet_scenario *scenario = fleet.scenario;

	return retry_round_ms(scenario->fleet_size != 0 ? scenario->fleet_size : scenario->brokers,
			      scenario->key_bits);
}

/* One attempt. It has one exchange only, so that the vault gets requests in the order of time: the
 * token comes in a turn of its own. */
static void take_turn(uint32_t index)
{
	struct broker *broker = &fleet.brokers[index];
	struct vault_outcome outcome;
	struct message_agent_answer answer;
	enum status status;

	/* They hold their tokens each; here one place is for all. */
	if (!broker->has_token)
		memset(fleet.session->tokens->held, 0, sizeof(fleet.session->tokens->held));
	status = vault_attempt(fleet.session, &answer, &outcome,
			       operation(broker->has_token ? AGENT_UNWRAP : AGENT_TOKEN),
			       fleet.now_ms + EXCHANGE_TIMEOUT_MS);
	if (status != OK) {
		plan(index, fleet.now_ms + retry_next_ms(&broker->retry, round_ms(), status,
							 outcome.retry_after_ms, draw()));
	} else if (!broker->has_token) {
		broker->has_token = true;
		plan(index, fleet.now_ms);
	} else {
		broker->is_unlocked = true;
		fleet.result->unlocked++;
		fleet.result->time_ms =
			MAXIMUM(fleet.result->time_ms, fleet.now_ms - fleet.there_ms);
	}
}

/* Who knows everything asks for each broker once, and keeps the vault at its limit from the first
 * moment on. When the vault comes back nobody can know without asking, and nobody asks more often
 * than retry_cap allows. */
static void find_perfect(struct fleet_result *result, const struct fleet_scenario *scenario)
{
	const uint64_t windows =
		(scenario->brokers + scenario->limit.operations - 1) / scenario->limit.operations;
	const uint64_t exchanges = scenario->event == FLEET_BOOTS ? 2 : 1;

	result->perfect_requests = scenario->brokers;
	result->perfect_time_ms = (windows - 1) * RETRY_WINDOW_MS;
	if (scenario->event != FLEET_BOOTS)
		result->perfect_time_ms = MAXIMUM(result->perfect_time_ms, RETRY_CAP_MS);
	result->perfect_time_ms += exchanges * (LATENCY_LEAST_MS + LATENCY_SPREAD_MS);
}

void fleet_run(struct fleet_result *result, const struct fleet_scenario *scenario)
{
	*result = (struct fleet_result){0};
	memset(&fleet, 0, sizeof(fleet));
	fleet.scenario = scenario;
	fleet.result = result;
	fleet.random_state = (scenario->seed + 1) * 0x9e3779b97f4a7c15;
	fleet.there_ms = scenario->event == FLEET_BOOTS ? 0 : OUTAGE_MS;
	fleet.session = calloc(1, sizeof(*fleet.session));
	fleet.session->tokens = calloc(1, sizeof(*fleet.session->tokens));
	fleet.brokers = calloc(scenario->brokers, sizeof(*fleet.brokers));
	fleet.heap = calloc(scenario->brokers + 1, sizeof(*fleet.heap));
	CHECK(fleet.session != NULL && fleet.brokers != NULL && fleet.heap != NULL);
	fleet.session->exchange_timeout_ms = EXCHANGE_TIMEOUT_MS;
	fleet.session->imds_endpoint = IDENTITY_DEFAULT_ENDPOINT;
	find_perfect(result, scenario);
	for (uint32_t i = 0; i < scenario->brokers; i++) {
		fleet.brokers[i].retry.cap_ms = RETRY_CAP_MS;
		plan(i, retry_first_ms(round_ms(), draw()));
	}
	while (fleet.heap_size > 0 && fleet.heap[0].time_ms < TIME_LIMIT_MS) {
		struct turn turn = take_next();

		fleet.now_ms = turn.time_ms;
		take_turn(turn.broker);
	}
	result->worst_wait_ms = result->time_ms;
	free(fleet.session->tokens);
	free(fleet.session);
	free(fleet.brokers);
	free(fleet.heap);
	free(fleet.count.times_ms);
}

bool fleet_is_good(const struct fleet_result *result, const struct fleet_scenario *scenario)
{
	return result->unlocked == scenario->brokers &&
	       fleet_requests_ratio(result) <= FLEET_REQUESTS_RATIO_MAX &&
	       fleet_time_ratio(result) <= FLEET_TIME_RATIO_MAX;
}

double fleet_requests_ratio(const struct fleet_result *result)
{
	return (double)result->requests / (double)result->perfect_requests;
}

double fleet_time_ratio(const struct fleet_result *result)
{
	return (double)result->time_ms / (double)result->perfect_time_ms;
}
