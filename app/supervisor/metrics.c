#include "app/supervisor/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "generated/version.h"

/* The two labels of every metric of a volume. Names may collide, and disks change theirs. */
#define LABELS_SIZE 768

struct text {
	char *target;
	size_t size;
	size_t length;
};

PRINTF_LIKE(2, 3)
static void add(struct text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text->target + text->length, text->size - text->length, format,
			   arguments);
	va_end(arguments);
	CHECK(length >= 0 && (size_t)length < text->size - text->length);
	text->length += (size_t)length;
}

static void add_family(struct text *text, const char *name, const char *type, const char *help)
{
	add(text, "# HELP byok_%s %s\n# TYPE byok_%s %s\n", name, help, name, type);
}

static void add_counter(struct text *text, const char *name, const char *help, uint64_t value)
{
	add_family(text, name, "counter", help);
	add(text, "byok_%s %llu\n", name, (unsigned long long)value);
}

static void add_label(struct text *text, const char *name, const char *value)
{
	add(text, "%s%s=\"", text->length == 0 ? "" : ",", name);
	for (; *value != '\0'; value++)
		add(text, "%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
	add(text, "\"");
}

static void write_labels(char labels[static LABELS_SIZE], const struct metrics_volume *volume)
{
	struct text text = {.target = labels, .size = LABELS_SIZE};

	add_label(&text, "volume", volume->name);
	add_label(&text, "disk", volume->disk);
}

/* --- of all volumes together --- */

static void add_states(struct text *text, const struct metrics *metrics)
{
	add_family(text, "volumes", "gauge", "Volumes that this machine has, by state.");
	for (unsigned state = VOLUME_BROKEN + 1; state < VOLUME_STATES; state++) {
		size_t count = 0;

		for (size_t i = 0; i < metrics->volume_count; i++)
			count += metrics->volumes[i].state == state;
		add(text, "byok_volumes{state=\"%s\"} %zu\n",
		    volume_state_word((enum volume_state)state), count);
	}
}

static void add_attempts(struct text *text, const struct metrics_counters *counters)
{
	static const char *const operations[AGENT_OPERATIONS] = {
		[AGENT_GET_KEY] = "get",
		[AGENT_WRAP] = "wrap",
		[AGENT_UNWRAP] = "unwrap",
	};

	add_family(text, "key_attempts_total", "counter",
		   "Attempts at operations with the customer's key, by operation.");
	for (unsigned i = 0; i < AGENT_OPERATIONS; i++)
		if (operations[i] != NULL)
			add(text, "byok_key_attempts_total{operation=\"%s\"} %llu\n", operations[i],
			    (unsigned long long)counters->attempts[i]);
	add_family(text, "key_failures_total", "counter", "Attempts that failed, by cause.");
	for (unsigned i = 0; i < STATUS_COUNT; i++)
		if (counters->failures[i] != 0)
			add(text, "byok_key_failures_total{cause=\"%s\"} %llu\n",
			    status_word((enum status)i), (unsigned long long)counters->failures[i]);
	add_family(text, "key_wait_seconds_total", "counter",
		   "Time spent waiting for answers of vault and identity.");
	add(text, "byok_key_wait_seconds_total %.3f\n", (double)counters->waited_ms / 1000);
}

/* --- of each volume --- */

static void add_info(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	char more[LABELS_SIZE];
	struct text others = {.target = more, .size = sizeof(more)};
	const char *slash = strrchr(volume->device, '/');

	add_label(&others, "uuid", volume->uuid);
	/* As node_exporter calls it, so that its counters of I/O can be joined. */
	add_label(&others, "device", slash == NULL ? volume->device : slash + 1);
	add_label(&others, "key", volume->kid);
	add(text, "byok_volume_info{%s,%s} 1\n", labels, more);
}

static void add_serving(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	add(text, "byok_volume_serving{%s} %d\n", labels, volume->state == VOLUME_SERVING);
}

static void add_problem(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	if (volume->cause != OK)
		add(text, "byok_volume_problem{%s,cause=\"%s\"} 1\n", labels,
		    status_word(volume->cause));
}

static void add_since(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	add(text, "byok_volume_state_change_timestamp_seconds{%s} %lld\n", labels,
	    (long long)volume->since_s);
}

static void add_key_state(struct text *text, const struct metrics_volume *volume,
			  const char *labels)
{
	add(text, "byok_key_state{%s,state=\"%s\",cause=\"%s\"} 1\n", labels,
	    key_policy_word(volume->key_state),
	    volume->key_cause == OK ? "" : status_word(volume->key_cause));
}

static void add_rotating(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	add(text, "byok_key_rotation_unfinished{%s} %d\n", labels, volume->is_rotating);
}

static void add_rotation_problem(struct text *text, const struct metrics_volume *volume,
				 const char *labels)
{
	if (volume->rotation_cause != OK)
		add(text, "byok_key_rotation_problem{%s,cause=\"%s\"} 1\n", labels,
		    status_word(volume->rotation_cause));
}

static void add_rotations(struct text *text, const struct metrics_volume *volume,
			  const char *labels)
{
	add(text, "byok_key_rotations_total{%s} %llu\n", labels,
	    (unsigned long long)volume->rotations);
}

static void add_proved(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	if (volume->proved_s != 0)
		add(text, "byok_key_last_success_timestamp_seconds{%s} %lld\n", labels,
		    (long long)volume->proved_s);
}

static void add_workers(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	add(text, "byok_workers_lost_total{%s} %llu\n", labels,
	    (unsigned long long)volume->workers_lost);
}

static void add_repairs(struct text *text, const struct metrics_volume *volume, const char *labels)
{
	add(text, "byok_header_repairs_total{%s} %llu\n", labels,
	    (unsigned long long)volume->headers_repaired);
}

static const struct {
	const char *name;
	const char *type;
	const char *help;
	void (*add)(struct text *text, const struct metrics_volume *volume, const char *labels);
} families[] = {
	{"volume_info", "gauge", "What a volume is; always 1.", add_info},
	{"volume_serving", "gauge", "1 while the volume is served.", add_serving},
	{"volume_problem", "gauge", "1 for what is wrong with a volume; none if it is well.",
	 add_problem},
	{"volume_state_change_timestamp_seconds", "gauge", "Since when a volume is in its state.",
	 add_since},
	{"key_state", "gauge", "1 for the state of a volume's key, and why it is not ok.",
	 add_key_state},
	{"key_rotation_unfinished", "gauge",
	 "1 while a volume keeps the wrapping by an older version, too.", add_rotating},
	{"key_rotation_problem", "gauge", "1 for why a volume does not get the newest version.",
	 add_rotation_problem},
	{"key_rotations_total", "counter", "Moves of a volume to a newer version of its key.",
	 add_rotations},
	{"key_last_success_timestamp_seconds", "gauge",
	 "When the customer's key was last proved to open the volume.", add_proved},
	{"workers_lost_total", "counter", "Workers of a volume that ended without being asked to.",
	 add_workers},
	{"header_repairs_total", "counter",
	 "Damaged copies of a volume's header that were renewed.", add_repairs},
};

size_t metrics_write(char *target, size_t size, const struct metrics *metrics)
{
	struct text text = {.target = target, .size = size};

	add_family(&text, "build_info", "gauge", "What program runs; always 1.");
	add(&text, "byok_build_info{version=\"%s\",revision=\"%s\"} 1\n", BYOK_VERSION,
	    BYOK_REVISION);
	add_family(&text, "start_time_seconds", "gauge", "When the supervisor has started.");
	add(&text, "byok_start_time_seconds %lld\n", (long long)metrics->started_s);
	add_states(&text, metrics);
	add_attempts(&text, &metrics->counters);
	add_family(&text, "key_follow_problem", "gauge",
		   "1 for why the newest version of the key cannot be used.");
	if (metrics->follow_cause != OK)
		add(&text, "byok_key_follow_problem{cause=\"%s\"} 1\n",
		    status_word(metrics->follow_cause));
	add_counter(&text, "agents_lost_total", "Vault agents that ended without being asked to.",
		    metrics->counters.agents_lost);
	for (size_t i = 0; i < ARRAY_COUNT(families); i++) {
		add_family(&text, families[i].name, families[i].type, families[i].help);
		for (size_t j = 0; j < metrics->volume_count; j++) {
			char labels[LABELS_SIZE];

			write_labels(labels, &metrics->volumes[j]);
			families[i].add(&text, &metrics->volumes[j], labels);
		}
	}
	return text.length;
}
