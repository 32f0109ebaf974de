/* The supervisor's state as a Prometheus text file, for node_exporter's textfile collector. Pure:
 * the supervisor gathers and writes the file. Names, units and labels are a promise to whoever has
 * alerts and dashboards on them: byok(8) lists them.
 */
#ifndef APP_SUPERVISOR_METRICS_H
#define APP_SUPERVISOR_METRICS_H

#include "app/messages.h"
#include "app/supervisor/key_policy.h"
#include "app/volume/volume_state.h"

/* Room for the text of so many volumes, whatever they are called. */
#define METRICS_SIZE(volume_count) (8192 + (volume_count)*12288)

/* Since the supervisor has started. */
struct metrics_counters {
	uint64_t attempts[AGENT_OPERATIONS]; /* at operations with the key */
	uint64_t failures[STATUS_COUNT];     /* of these, by cause */
	uint64_t waited_ms;                  /* for answers of vault and IMDS */
	uint64_t agents_lost;
};

struct metrics_volume {
	const char *name; /* may be empty; so may the other texts */
	const char *disk; /* no two are the same */
	const char *uuid;
	const char *device;
	const char *kid;
	enum volume_state state;
	enum status cause; /* why it is not well */
	int64_t since_s;   /* in this state; times are in seconds since 1970 */
	enum key_state key_state;
	enum status key_cause;
	int64_t proved_s;           /* when its key opened it last; 0: never */
	bool is_rotating;           /* not finished yet */
	enum status rotation_cause; /* why the newest version is not taken */
	uint64_t workers_lost;
	uint64_t headers_repaired;
	uint64_t rotations; /* to newer versions */
};

struct metrics {
	const struct metrics_volume *volumes;
	size_t volume_count;
	int64_t started_s;
	enum status follow_cause; /* why the newest version is not known */
	struct metrics_counters counters;
};

/* Writes the text, with its NUL, into METRICS_SIZE(volume_count) bytes; returns its length. */
size_t metrics_write(char *target, size_t size, const struct metrics *metrics);

#endif
