#include "app/supervisor/metrics.h"

#include <string.h>

#include "tests/unit/test.h"

static char text[METRICS_SIZE(64)];

static const struct metrics_volume well = {
	.name = "data1",
	.disk = "/dev/sdc",
	.uuid = "11111111-2222-3333-4444-555555555555",
	.device = "/dev/ublkb0",
	.kid = "https://bank.vault.azure.net/keys/broker/0123456789abcdef0123456789abcdef",
	.state = VOLUME_SERVING,
	.since_s = 1700000000,
	.key_state = KEY_OK_DOUBTED,
	.proved_s = 1700000060,
};

static void write_out(const struct metrics *metrics)
{
	size_t length = metrics_write(text, sizeof(text), metrics);

	EXPECT_EQUAL(length, strlen(text));
}

static void write_two(const struct metrics_volume *second)
{
	struct metrics_volume volumes[] = {well, *second};
	struct metrics metrics = {.volumes = volumes, .volume_count = 2, .started_s = 1699999999};

	write_out(&metrics);
}

TEST(a_volume_that_is_served_shows_what_it_is_and_since_when)
{
	struct metrics metrics = {.volumes = &well, .volume_count = 1, .started_s = 1699999999};

	write_out(&metrics);
	EXPECT_TEXT_CONTAINS(text, "\nbyok_start_time_seconds 1699999999\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volumes{state=\"serving\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volumes{state=\"waiting\"} 0\n");
	EXPECT_TEXT_CONTAINS(text,
			     "\nbyok_volume_info{volume=\"data1\",disk=\"/dev/sdc\","
			     "uuid=\"11111111-2222-3333-4444-555555555555\",device=\"ublkb0\","
			     "key=\"https://bank.vault.azure.net/keys/broker/"
			     "0123456789abcdef0123456789abcdef\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volume_serving{volume=\"data1\",disk=\"/dev/sdc\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volume_state_change_timestamp_seconds{volume=\"data1\","
				   "disk=\"/dev/sdc\"} 1700000000\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_state{volume=\"data1\",disk=\"/dev/sdc\","
				   "state=\"ok\",cause=\"\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_last_success_timestamp_seconds{volume=\"data1\","
				   "disk=\"/dev/sdc\"} 1700000060\n");
	EXPECT_TRUE(strstr(text, "byok_volume_problem{") == NULL);
}

TEST(what_is_wrong_is_told_by_its_cause_and_a_key_that_was_never_proved_has_no_time)
{
	struct metrics_volume ill = well;

	ill.name = "data2";
	ill.disk = "/dev/sdd";
	ill.state = VOLUME_WAITING;
	ill.cause = FAIL_VAULT_FIREWALL;
	ill.key_state = KEY_LOST;
	ill.key_cause = FAIL_VAULT_RBAC;
	ill.proved_s = 0;
	ill.rotations = 3;
	ill.rotation_cause = FAIL_KEY_OPERATIONS;
	ill.is_rotating = true;
	write_two(&ill);
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volume_serving{volume=\"data2\",disk=\"/dev/sdd\"} 0\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volume_problem{volume=\"data2\",disk=\"/dev/sdd\","
				   "cause=\"vault-firewall\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_state{volume=\"data2\",disk=\"/dev/sdd\","
				   "state=\"lost\",cause=\"vault-rbac\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_rotation_problem{volume=\"data2\",disk=\"/dev/sdd\","
				   "cause=\"key-operations\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_rotation_unfinished{volume=\"data2\","
				   "disk=\"/dev/sdd\"} 1\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_rotations_total{volume=\"data2\","
				   "disk=\"/dev/sdd\"} 3\n");
	EXPECT_TRUE(strstr(text, "success_timestamp_seconds{volume=\"data2\"") == NULL);
}

TEST(counters_have_their_causes_and_operations)
{
	struct metrics metrics = {.counters = {.waited_ms = 1500, .agents_lost = 2},
				  .follow_cause = FAIL_KEY_EXPIRED};

	metrics.counters.attempts[AGENT_UNWRAP] = 7;
	metrics.counters.failures[FAIL_VAULT_THROTTLED] = 4;
	write_out(&metrics);
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_attempts_total{operation=\"unwrap\"} 7\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_attempts_total{operation=\"wrap\"} 0\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_failures_total{cause=\"vault-throttled\"} 4\n");
	EXPECT_TRUE(strstr(text, "cause=\"vault-timeout\"") == NULL);
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_wait_seconds_total 1.500\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_agents_lost_total 2\n");
	EXPECT_TEXT_CONTAINS(text, "\nbyok_key_follow_problem{cause=\"key-expired\"} 1\n");
}

TEST(a_label_cannot_be_left_by_what_stands_in_it)
{
	struct metrics_volume odd = well;

	odd.disk = "/dev/\"\\x";
	write_two(&odd);
	EXPECT_TEXT_CONTAINS(text, "{volume=\"data1\",disk=\"/dev/\\\"\\\\x\"} 1\n");
}

static const char *long_text(char *target, size_t size)
{
	memset(target, '"', size - 1);
	target[size - 1] = '\0';
	return target;
}

TEST(as_many_volumes_as_there_can_be_fit_whatever_they_are_called)
{
	static struct metrics_volume volumes[64];
	struct metrics metrics = {.volumes = volumes, .volume_count = ARRAY_COUNT(volumes)};
	char name[64], path[MESSAGE_TEXT_SIZE], uuid[40];
	enum status status;

	for (size_t i = 0; i < ARRAY_COUNT(volumes); i++)
		volumes[i] = (struct metrics_volume){
			.name = long_text(name, sizeof(name)),
			.disk = long_text(path, sizeof(path)),
			.uuid = long_text(uuid, sizeof(uuid)),
			.device = name,
			.kid = path,
			.state = VOLUME_WAITING,
			.cause = FAIL_KEY_URL_VERSIONLESS,
			.key_state = KEY_WRONG,
			.key_cause = FAIL_KEY_URL_VERSIONLESS,
			.rotation_cause = FAIL_KEY_URL_VERSIONLESS,
			.rotations = UINT64_MAX,
			.proved_s = INT64_MAX,
			.since_s = INT64_MAX,
			.workers_lost = UINT64_MAX,
			.headers_repaired = UINT64_MAX,
		};
	for (uint32_t i = 0; i < STATUS_COUNT; i++)
		if (status_from_number(&status, i))
			metrics.counters.failures[i] = UINT64_MAX;
	write_out(&metrics);
}

TEST(without_volumes_the_text_is_there_too)
{
	struct metrics metrics = {0};

	EXPECT_TRUE(metrics_write(text, METRICS_SIZE(0), &metrics) > 0);
	EXPECT_TEXT_CONTAINS(text, "\nbyok_volumes{state=\"serving\"} 0\n");
}
