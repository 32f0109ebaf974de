#include "tests/fleet/fleet.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/supervisor/key_policy.h"
#include "app/supervisor/retry.h"
#include "app/vault/vault_attempt.h"
#include "platform/clock.h"

#define OUTAGE_MS (3600 * 1000)
#define TIME_LIMIT_MS (OUTAGE_MS + (uint64_t)FLEET_SECONDS_MAX * 1000)
#define RETRY_CAP_MS 30000 /* the default of the setting retry_cap */
#define EXCHANGE_TIMEOUT_MS 10000
#define LATENCY_LEAST_MS 20
#define LATENCY_SPREAD_MS 160
#define KEY "https://bank.vault.azure.net/keys/broker"
#define OLD_KID KEY "/0123456789abcdef0123456789abcdef"
#define NEW_KID KEY "/fedcba9876543210fedcba9876543210"
#define FOLLOW_INTERVAL_MS 60000 /* the default of follow_interval */
#define PROBE_INTERVAL_MS 600000
#define PROBE_RETRY_MS 60000

/* What a broker does next about its secret. */
enum step {
	STEP_TOKEN,  /* then it unlocks */
	STEP_UNLOCK, /* then it looks */
	STEP_LOOK,   /* at its key; then again, or it wraps if there is a newer version */
	STEP_WRAP,
	STEP_PROVE, /* then it is moved to the newer version */
};

struct broker {
	enum step step;
	enum key_state key_state;
	const char *kid;    /* that its secret is wrapped by */
	const char *newest; /* as far as it knows */
	bool has_previous;  /* its secret is wrapped by the older version, too */
	struct retry retry;
	struct retry question_retry;
	uint32_t turn; /* the only one that counts, of its looks */
	bool is_done;
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
	uint32_t order;   /* of turns at one time */
	bool is_question; /* for the newest version */
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
	bool is_background; /* what is asked now would be asked in any case */
	char body[2048];
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

static void plan(uint32_t broker, uint64_t time_ms, bool is_question)
{
	struct turn turn = {.time_ms = time_ms,
			    .broker = broker,
			    .order = fleet.turns_planned++,
			    .is_question = is_question};
	size_t at = fleet.heap_size++;

	for (; at > 0 && comes_before(&turn, &fleet.heap[(at - 1) / 2]); at = (at - 1) / 2)
		fleet.heap[at] = fleet.heap[(at - 1) / 2];
	fleet.heap[at] = turn;
	if (!is_question)
		fleet.brokers[broker].turn = turn.order;
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

/* As if every secret and what it is wrapped to were zeros. */
static void answer_request(struct https_answer *answer, const char *url)
{
	const uint32_t bits = fleet.scenario->key_bits;
	const char *kid = strstr(url, "fedcba") != NULL ? NEW_KID : OLD_KID;
	char zeros[1024] = "";

	if (strstr(url, "/unwrapkey") == NULL && strstr(url, "/wrapkey") == NULL) {
		memset(zeros, 'A', (bits + 5) / 6);
		zeros[0] = '_'; /* the highest bit of a modulus is 1 */
		answer_with(answer, 200,
			    "{\"key\":{\"kid\":\"%s\",\"kty\":\"RSA\",\"key_ops\":[\"wrapKey\","
			    "\"unwrapKey\"],\"n\":\"%s\",\"e\":\"AQAB\"},\"attributes\":{"
			    "\"enabled\":true,\"recoveryLevel\":\"Recoverable\"}}",
			    fleet.scenario->event == FLEET_ROTATES ? NEW_KID : OLD_KID, zeros);
		return;
	}
	memset(zeros, 'A', strstr(url, "/unwrapkey") != NULL ? 43 : (bits + 5) / 6);
	answer_with(answer, 200, "{\"kid\":\"%s\",\"value\":\"%s\"}", kid, zeros);
}

static void answer_as_vault(struct https_answer *answer, const char *url)
{
	uint64_t second = (fleet.now_ms - fleet.there_ms) / 1000;
	uint64_t wait_ms;
	bool is_accepted = is_within_limit(&wait_ms);

	second = MINIMUM(second, FLEET_SECONDS_MAX - 1);
	fleet.result->requests += !fleet.is_background;
	(is_accepted ? fleet.result->accepted_in : fleet.result->refused_in)[second]++;
	fleet.result->seconds = (uint32_t)MAXIMUM(fleet.result->seconds, second + 1);
	if (is_accepted || fleet.scenario->limit.counts_refused)
		count_operation(fleet.now_ms);
	if (is_accepted) {
		answer_request(answer, url);
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
		answer_as_vault(answer, request->url);
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

static uint64_t attempt(struct message_agent_answer *answer, struct vault_outcome *outcome,
			enum agent_operation kind, const char *key_url)
{
	static struct vault_operation operation;
	struct message_agent_request request = {
		.operation = kind,
		.algorithm = KEYVAULT_ALGORITHM,
		.secret_size = sizeof(request.secret),
	};

	strcpy(request.key_url, key_url);
	memset(request.wrapped, 'A', (fleet.scenario->key_bits + 5) / 6);
	CHECK(vault_operation_read(&operation, &request) == OK);
	CHECK(keyvault_wrapped_bits(request.wrapped) == fleet.scenario->key_bits);
	*answer = (struct message_agent_answer){0};
	return vault_attempt(fleet.session, answer, outcome, &operation,
			     fleet.now_ms + EXCHANGE_TIMEOUT_MS);
}

/* How long the vault needs for all brokers, as one of them believes. */
static uint64_t round_ms(void)
{
	const struct fleet_scenario *scenario = fleet.scenario;

	return retry_round_ms(scenario->fleet_size != 0 ? scenario->fleet_size : scenario->brokers,
			      scenario->key_bits);
}

static void done(struct broker *broker)
{
	broker->is_done = true;
	fleet.result->unlocked++;
	fleet.result->time_ms = MAXIMUM(fleet.result->time_ms, fleet.now_ms - fleet.there_ms);
}

static uint64_t look_wait_ms(const struct broker *broker)
{
	const uint64_t retry_ms = retry_interval_ms(PROBE_RETRY_MS, round_ms());
	const uint64_t interval_ms = retry_interval_ms(PROBE_INTERVAL_MS, 2 * round_ms());

	return key_policy_wait_ms(broker->key_state, broker->has_previous ? retry_ms : interval_ms,
				  retry_ms, draw());
}

static uint64_t question_interval_ms(void)
{
	return retry_interval_ms(FOLLOW_INTERVAL_MS, round_ms());
}

static bool must_rotate(const struct broker *broker)
{
	return key_policy_must_rotate(broker->kid, broker->newest);
}

/* Before it is served. */
static void unlock(struct broker *broker, uint32_t index)
{
	const bool has_token = broker->step == STEP_UNLOCK;
	struct message_agent_answer answer;
	struct vault_outcome outcome;

	/* They hold their tokens each; here one place is for all. */
	if (!has_token)
		memset(fleet.session->tokens->held, 0, sizeof(fleet.session->tokens->held));
	if (attempt(&answer, &outcome, has_token ? AGENT_UNWRAP : AGENT_TOKEN, broker->kid) != OK) {
		plan(index,
		     fleet.now_ms + retry_next_ms(&broker->retry, round_ms(), outcome.status,
						  outcome.retry_after_ms, draw()),
		     false);
		return;
	}
	broker->step++;
	if (has_token) {
		done(broker);
		broker->key_state = KEY_OK;
		retry_reset(&broker->retry);
		plan(index, fleet.now_ms + retry_first_of_many_ms(question_interval_ms(), draw()),
		     true);
	}
	plan(index, fleet.now_ms + (has_token ? look_wait_ms(broker) : 0), false);
}

/* While it is served: a look at the key, or one of the two steps that may follow it. */
static void work_on_key(struct broker *broker, uint32_t index)
{
	const bool is_look = broker->step == STEP_LOOK;
	struct message_agent_answer answer;
	struct vault_outcome outcome;
	enum key_event event;

	fleet.is_background = is_look && !must_rotate(broker);
	(void)attempt(&answer, &outcome, broker->step == STEP_WRAP ? AGENT_WRAP : AGENT_UNWRAP,
		      is_look ? broker->kid : broker->newest);
	if (is_look && key_policy_classify(&event, outcome.status))
		broker->key_state = key_policy_next(broker->key_state, event);
	broker->has_previous = broker->has_previous && !(is_look && outcome.status == OK);
	if (must_rotate(broker) && outcome.status == OK) {
		if (broker->step < STEP_PROVE) {
			broker->step++;
			plan(index, fleet.now_ms, false);
			return;
		}
		broker->kid = broker->newest;
		broker->has_previous = true;
		retry_reset(&broker->retry);
		done(broker);
	}
	broker->step = STEP_LOOK;
	plan(index,
	     fleet.now_ms +
		     (must_rotate(broker)
			      ? retry_next_of_many_ms(&broker->retry,
						      retry_interval_ms(PROBE_RETRY_MS, round_ms()),
						      round_ms(), outcome.status,
						      outcome.retry_after_ms, draw())
			      : look_wait_ms(broker)),
	     false);
}

/* Only what is served is moved to a newer version. */
static void ask_for_newest(struct broker *broker, uint32_t index)
{
	struct message_agent_answer answer;
	struct vault_outcome outcome;

	fleet.is_background = must_rotate(broker) || broker->is_done;
	if (attempt(&answer, &outcome, AGENT_GET_KEY, KEY) == OK &&
	    keyvault_may_wrap(answer.enabled != 0, answer.not_before_s, answer.expires_s,
			      clock_wall_s()) == OK) {
		broker->newest = strstr(answer.kid, "fedcba") != NULL ? NEW_KID : OLD_KID;
		if (must_rotate(broker) && !fleet.is_background)
			plan(index, fleet.now_ms, false);
	}
	plan(index,
	     fleet.now_ms + retry_next_of_many_ms(&broker->question_retry, question_interval_ms(),
						  round_ms(), outcome.status,
						  outcome.retry_after_ms, draw()),
	     true);
}

/* Each with one exchange only, so that the vault gets requests in the order of time. */
static void take_turn(const struct turn *turn)
{
	struct broker *broker = &fleet.brokers[turn->broker];

	fleet.is_background = false;
	if (turn->is_question)
		ask_for_newest(broker, turn->broker);
	else if (turn->order != broker->turn)
		return; /* another one has taken its place */
	else if (broker->step < STEP_LOOK)
		unlock(broker, turn->broker);
	else
		work_on_key(broker, turn->broker);
}

/* Who knows everything asks for each broker once, and keeps the vault at its limit from the first
 * moment on. When the vault comes back, or has a new version, nobody can know without asking, and
 * nobody asks more often than the settings say. */
static void find_perfect(struct fleet_result *result, const struct fleet_scenario *scenario)
{
	const uint64_t each = scenario->event == FLEET_ROTATES ? 4 : 1;
	const uint64_t limit = scenario->limit.operations;
	const uint64_t exchanges = scenario->event == FLEET_BOOTS ? 2 : each;

	result->perfect_requests = scenario->brokers * each;
	result->perfect_time_ms =
		((result->perfect_requests + limit - 1) / limit - 1) * RETRY_WINDOW_MS;
	if (scenario->event == FLEET_ROTATES)
		result->perfect_time_ms = MAXIMUM(result->perfect_time_ms, FOLLOW_INTERVAL_MS);
	else if (scenario->event != FLEET_BOOTS)
		result->perfect_time_ms = MAXIMUM(result->perfect_time_ms, RETRY_CAP_MS);
	result->perfect_time_ms += exchanges * (LATENCY_LEAST_MS + LATENCY_SPREAD_MS);
}

static void start_broker(uint32_t index)
{
	struct broker *broker = &fleet.brokers[index];

	*broker = (struct broker){
		.kid = OLD_KID,
		.newest = OLD_KID,
		.key_state = KEY_UNKNOWN,
		.retry = {.cap_ms = RETRY_CAP_MS},
		.question_retry = {.cap_ms = RETRY_CAP_MS},
	};
	if (fleet.scenario->event != FLEET_ROTATES) {
		plan(index, retry_first_ms(round_ms(), draw()), false);
		return;
	}
	/* It has been served for long: wherever it may be between two looks or two questions. */
	broker->step = STEP_LOOK;
	broker->key_state = KEY_OK;
	plan(index, (look_wait_ms(broker) * draw()) >> 32, false);
	plan(index, (question_interval_ms() * draw()) >> 32, true);
}

static bool get_token(void)
{
	struct message_agent_answer answer;
	struct vault_outcome outcome;

	return attempt(&answer, &outcome, AGENT_TOKEN, OLD_KID) == OK;
}

void fleet_run(struct fleet_result *result, const struct fleet_scenario *scenario)
{
	*result = (struct fleet_result){0};
	memset(&fleet, 0, sizeof(fleet));
	fleet.scenario = scenario;
	fleet.result = result;
	fleet.random_state = (scenario->seed + 1) * 0x9e3779b97f4a7c15;
	fleet.there_ms =
		scenario->event == FLEET_OUTAGE || scenario->event == FLEET_FAILURE ? OUTAGE_MS : 0;
	fleet.session = calloc(1, sizeof(*fleet.session));
	fleet.session->tokens = calloc(1, sizeof(*fleet.session->tokens));
	fleet.brokers = calloc(scenario->brokers, sizeof(*fleet.brokers));
	fleet.heap = calloc((size_t)scenario->brokers * 3 + 1, sizeof(*fleet.heap));
	CHECK(fleet.session != NULL && fleet.brokers != NULL && fleet.heap != NULL);
	fleet.session->exchange_timeout_ms = EXCHANGE_TIMEOUT_MS;
	fleet.session->settings = (struct identity_settings){
		.imds_endpoint = IDENTITY_DEFAULT_ENDPOINT,
		.token_file = "",
	};
	CHECK(vault_attempt_choose_source(fleet.session) == OK);
	CHECK(get_token());
	find_perfect(result, scenario);
	for (uint32_t i = 0; i < scenario->brokers; i++)
		start_broker(i);
	while (result->unlocked < scenario->brokers && fleet.heap[0].time_ms < TIME_LIMIT_MS) {
		struct turn turn = take_next();

		fleet.now_ms = turn.time_ms;
		take_turn(&turn);
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
