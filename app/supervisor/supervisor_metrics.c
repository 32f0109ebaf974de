#include "app/supervisor/supervisor_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/file.h"

/* A file that is older than some of these says that there is no supervisor. */
#define REWRITE_MS 30000

/* When it could not be written: a full disk would else fill the journal, too. */
#define RETRY_MS (5 * 60 * 1000)

/* Seconds since 1970 are told by how long ago it was, lest a clock that was set at boot move what
 * has long been told; but not for a second's difference, lest times of the past shiver. */
#define CLOCK_MOVED_MS 2000

static int64_t time_of_s(const struct supervisor *supervisor, uint64_t moment_ms)
{
	return ((int64_t)moment_ms + supervisor->wall_offset_ms) / 1000;
}

static void follow_wall_clock(struct supervisor *supervisor)
{
	int64_t offset_ms = clock_wall_s() * 1000 - (int64_t)clock_now_ms();
	int64_t moved_ms = offset_ms - supervisor->wall_offset_ms;

	if (moved_ms > CLOCK_MOVED_MS || moved_ms < -CLOCK_MOVED_MS)
		supervisor->wall_offset_ms = offset_ms;
}

static struct metrics_volume describe(const struct supervisor *supervisor,
				      const struct managed_volume *managed)
{
	return (struct metrics_volume){
		.name = managed->name,
		.disk = managed->disk_path,
		.uuid = managed->is_loaded ? managed->volume.header.uuid : "",
		.device = managed->device_path,
		.kid = managed->is_loaded ? managed->token.current.kid : "",
		.state = managed->state,
		.cause = managed_volume_problem(managed),
		.key_state = managed->key.state,
		.key_cause = managed->key.cause,
		.is_rotating = managed->is_loaded && managed->token.previous.kid[0] != '\0',
		.rotation_cause = managed->key.rotation_cause,
		.since_s = time_of_s(supervisor, managed->since_ms),
		.proved_s = managed->key.proved_ms == 0
				    ? 0
				    : time_of_s(supervisor, managed->key.proved_ms),
		.workers_lost = managed->workers_lost,
		.headers_repaired = managed->headers_repaired,
		.rotations = managed->rotations,
	};
}

/* FNV-1a. */
static uint64_t digest_of(const char *text)
{
	uint64_t digest = 0xcbf29ce484222325;

	for (; *text != '\0'; text++)
		digest = (digest ^ (uint8_t)*text) * 0x100000001b3;
	return digest;
}

static void write_file(struct supervisor *supervisor, const char *path)
{
	size_t size = METRICS_SIZE(supervisor->volume_count);
	/* Not static: every role would lock the room, which only the supervisor needs. */
	char *text = malloc(size);
	struct metrics_volume volumes[SUPERVISOR_VOLUMES_MAX];
	struct metrics metrics = {
		.volumes = volumes,
		.started_s = time_of_s(supervisor, supervisor->started_ms),
		.follow_cause = supervisor->follow.cause,
		.counters = supervisor->counters,
	};
	size_t length;
	uint64_t digest;

	/* The next turn may have it. */
	if (text == NULL)
		return;
	/* What a worker that was found has not told yet has no disk. */
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->disk_path[0] != '\0')
			volumes[metrics.volume_count++] =
				describe(supervisor, supervisor->volumes[i]);
	length = metrics_write(text, size, &metrics);
	digest = digest_of(text);
	/* A failure is logged, so the next one may go better, but not at once. */
	if (clock_left_ms(supervisor->metrics_due_ms) == 0 ||
	    (digest != supervisor->metrics_digest && supervisor->metrics_digest != 0)) {
		const bool is_written = file_publish(path, text, length) == OK;

		supervisor->metrics_digest = is_written ? digest : 0;
		supervisor->metrics_due_ms = clock_now_ms() + (is_written ? REWRITE_MS : RETRY_MS);
	}
	free(text);
}

void supervisor_tell_metrics(struct supervisor *supervisor)
{
	char path[CONFIG_TEXT_SIZE + 16];

	snprintf(path, sizeof(path), "%s/metrics.prom", supervisor->config->run_directory);
	follow_wall_clock(supervisor);
	if (supervisor->phase == SUPERVISOR_STOPS)
		(void)unlink(path);
	else
		write_file(supervisor, path);
}
