#include "app/supervisor/managed_volume.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/worker/data_path.h"
#include "app/worker/worker_socket.h"
#include "crypto/hash.h"
#include "platform/entropy.h"
#include "platform/log.h"

/* A volume that has been served for this long counts as well: its next failure is tried anew at
 * once. */
#define SERVED_WELL_MS (60 * 1000)

#define MISSES_OF_LOST 2

/* --- what a worker is started with --- */

static struct message_worker_start *start_of(const struct managed_volume *managed)
{
	return &managed_volume_handover(managed)->start;
}

static enum data_path_kind path_of(const struct managed_volume *managed)
{
	return (enum data_path_kind)start_of(managed)->data_path;
}

/* The key is wiped with it. */
static void close_handover(struct managed_volume *managed)
{
	if (managed->handover.bytes == NULL)
		return;
	if (start_of(managed)->worker_path[0] != '\0')
		(void)unlink(start_of(managed)->worker_path);
	secret_memory_close(&managed->handover);
	managed->paused_since_ms = 0;
}

bool managed_volume_has_key(const struct managed_volume *managed)
{
	return managed->state == VOLUME_WAITING && managed->handover.bytes != NULL;
}

/* The volume's own, and never that of a copy of the disk, which has the same uuid: requests that
 * wait for one disk must not end on another. Never 0. */
static enum status find_mark(uint64_t *mark, const char *uuid, const char *disk_path)
{
	struct hash_state state;
	uint8_t digest[HASH_SIZE_MAX];
	struct stat disk;
	uint64_t place[2];

	if (stat(disk_path, &disk) != 0)
		return FAIL_DISK_ABSENT;
	place[0] = S_ISBLK(disk.st_mode) ? disk.st_rdev : disk.st_dev;
	place[1] = S_ISBLK(disk.st_mode) ? 0 : disk.st_ino;
	hash_init(&state, HASH_SHA256);
	hash_update(&state, uuid, strlen(uuid));
	hash_update(&state, place, sizeof(place));
	hash_finish(&state, digest);
	memcpy(mark, digest, sizeof(*mark));
	*mark |= 1;
	return OK;
}

static enum status fill_start(struct message_worker_start *start,
			      const struct managed_volume *managed, const struct config *config)
{
	*start = (struct message_worker_start){
		.data_path = data_path_choose(config),
		.sector_size = managed->layout.sector_size,
		.data_offset_bytes = managed->layout.data_offset_bytes,
		.data_size_bytes = managed->layout.data_size_bytes,
		.first_unit = managed->layout.first_unit,
		.is_read_only = managed->volume.is_read_only,
		.queue_count = config->queue_count,
		.allows_discards = config->allow_discards,
	};
	snprintf(start->disk_path, sizeof(start->disk_path), "%s", managed->disk_path);
	snprintf(start->name, sizeof(start->name), "%s", managed->name);
	snprintf(start->uuid, sizeof(start->uuid), "%s", managed->volume.header.uuid);
	if (start->data_path == DATA_PATH_NBD_SOCKET &&
	    (size_t)snprintf(start->socket_path, sizeof(start->socket_path), "%s/%s.nbd",
			     config->run_directory, managed->name) >= sizeof(start->socket_path))
		return FAIL_NBD_SOCKET;
	TRY(worker_socket_path(start->worker_path, config->run_directory, managed->name));
	return find_mark(&start->mark, start->uuid, start->disk_path);
}

void managed_volume_look_for_disk(struct managed_volume *managed)
{
	const struct message_worker_start *start = start_of(managed);
	uint64_t mark;

	if (start->mark == 0 ||
	    (find_mark(&mark, start->uuid, managed->disk_path) == OK && mark == start->mark)) {
		if (managed_volume_has_lost_disk(managed))
			log_info("%s is at %s again", managed->name, managed->disk_path);
		managed->disk_misses = 0;
		return;
	}
	if (++managed->disk_misses == MISSES_OF_LOST)
		log_error("the disk of %s is not at %s any more; when nobody uses the volume, it "
			  "is served where its disk is found",
			  managed->name, managed->disk_path);
}

bool managed_volume_has_lost_disk(const struct managed_volume *managed)
{
	return managed->disk_misses >= MISSES_OF_LOST;
}

/* --- its beginning --- */

static enum status start_process(struct process *process, const struct managed_volume *managed,
				 enum message_type type, struct message_worker_start *start)
{
	enum status status;

	TRY(process_start_to_the_last(process, "worker", managed->name));
	status = process_never_wait(process);
	if (status == OK)
		status = message_send(process->socket_fd, type, 0, start);
	if (status != OK)
		process_end(process, 0);
	return status;
}

void managed_volume_prepare(struct managed_volume *managed, const struct config *config)
{
	struct message_worker_start start;

	if (managed->state != VOLUME_ASKING || managed->was_prepared)
		return;
	managed->was_prepared = true;
	if (fill_start(&start, managed, config) == OK &&
	    start_process(&managed->prepared, managed, MESSAGE_WORKER_PREPARE, &start) != OK)
		log_debug("no worker can be prepared for %s", managed->name);
}

/* True if there is one, and it lives. */
static bool start_prepared(struct managed_volume *managed)
{
	managed->worker = managed->prepared;
	managed->prepared = PROCESS_NONE;
	if (managed->worker.pid != 0 &&
	    message_send(managed->worker.socket_fd, MESSAGE_WORKER_START, 0, start_of(managed)) ==
		    OK)
		return true;
	process_part(&managed->worker);
	return false;
}

static enum status launch(struct managed_volume *managed, enum volume_event event)
{
	if (!start_prepared(managed))
		TRY(start_process(&managed->worker, managed, MESSAGE_WORKER_START,
				  start_of(managed)));
	managed_volume_handle(managed, event);
	managed->was_prepared = false;
	managed->cause = OK;
	managed->detail[0] = '\0';
	managed->asks_previous = false;
	managed->header_cause = OK;
	managed->disk_misses = 0;
	return OK;
}

enum status managed_volume_start(struct managed_volume *managed,
				 const uint8_t volume_key[static 64], const struct config *config)
{
	enum status status;

	TRY(managed_volume_open_handover(managed));
	status = fill_start(start_of(managed), managed, config);
	if (status == OK) {
		memcpy(start_of(managed)->volume_key, volume_key, 64);
		status = launch(managed, VOLUME_UNLOCKED);
	}
	if (status != OK)
		close_handover(managed);
	return status;
}

/* The path may lead to another disk by now, and the header may be another one. */
enum status managed_volume_restart(struct managed_volume *managed)
{
	const struct message_worker_start *start = start_of(managed);

	TRY(managed_volume_load(managed));
	strcpy(managed->name, start->name);
	if (strcmp(managed->volume.header.uuid, start->uuid) != 0 ||
	    managed->layout.sector_size != start->sector_size ||
	    managed->layout.data_offset_bytes != start->data_offset_bytes ||
	    managed->layout.first_unit != start->first_unit)
		return FAIL_HEADER_CHANGED;
	return launch(managed, VOLUME_UNLOCKED);
}

/* --- its life --- */

/* It may be told to stop before it has said that it serves, and then refuse: so the device is taken
 * note of in either state. */
static void worker_serves(struct managed_volume *managed, const char *device_path)
{
	const bool has_link = strncmp(device_path, "/dev/", 5) == 0;

	snprintf(managed->device_path, sizeof(managed->device_path), "%s", device_path);
	managed_volume_handle(managed, VOLUME_WORKER_SERVES);
	managed->logged_cause = OK;
	managed_volume_publish(managed);
	if (managed->paused_since_ms == 0)
		log_info("%s on %s is unlocked: %s%s%s%s", managed->name, managed->disk_path,
			 has_link ? MANAGED_VOLUME_DEVICES "/" : "", has_link ? managed->name : "",
			 has_link ? " is " : "", managed->device_path);
	else
		log_info("%s on %s is served again, by process %d, after %llu ms", managed->name,
			 managed->disk_path, (int)managed->worker.pid,
			 (unsigned long long)(clock_now_ms() - managed->paused_since_ms));
	managed->paused_since_ms = 0;
}

static void hear_state(struct managed_volume *managed, const struct message_worker_state *message)
{
	enum status status = (enum status)message->status;
	bool is_expected = managed->state == VOLUME_STARTING || managed->state == VOLUME_STOPPING;

	if (message->state == WORKER_FAILED)
		managed->cause = status; /* its end follows, and tells what becomes of it */
	if (message->state != WORKER_SERVING || !is_expected)
		return;
	if (status == OK) {
		worker_serves(managed, message->device_path);
	} else if (managed->state == VOLUME_STOPPING) {
		managed_volume_handle(managed, VOLUME_LOCK_REFUSED);
		managed->cause = status;
	}
}

void managed_volume_hear_worker(struct managed_volume *managed)
{
	struct message_worker_state message = {0};
	enum status status, reported;

	if (managed->state == VOLUME_ADOPTING) {
		managed_volume_hear_handover(managed);
		return;
	}
	status = message_receive(managed->worker.socket_fd, &message.header, sizeof(message));
	if (status == OK && message.header.type == MESSAGE_WORKER_STATE &&
	    status_from_number(&reported, message.status) &&
	    message_text_is_valid(message.device_path, sizeof(message.device_path)) &&
	    message.state < WORKER_STATES) {
		hear_state(managed, &message);
		return;
	}
	if (status != FAIL_ROLE_DIED)
		log_error("the worker of %s sent a message that is not valid",
			  managed_volume_name(managed));
	managed_volume_hang_up(managed); /* the end of the process does the rest */
}

/* --- its end --- */

/* Users wait for a worker: then the device must not go without --force. */
static bool have_users_to_wait(const struct managed_volume *managed, const struct config *config)
{
	return managed->worker.pid == 0 && data_path_outlives_process(data_path_choose(config)) &&
	       managed_volume_is_published(managed);
}

static void begin_removal(struct managed_volume *managed, const struct config *config)
{
	enum status status = managed_volume_open_handover(managed);

	if (status == OK)
		status = fill_start(start_of(managed), managed, config);
	if (status == OK) {
		start_of(managed)->purpose = WORKER_REMOVES_REMAINS;
		status = launch(managed, VOLUME_REMOVAL_BEGUN);
	}
	if (status == OK)
		return;
	close_handover(managed);
	managed->cause = status;
}

void managed_volume_lock(struct managed_volume *managed, bool force, const struct config *config)
{
	struct message_worker_stop stop = {.force = force};

	if (!volume_state_allows(managed->state, VOLUME_LOCK_ASKED))
		return;
	managed->cause = OK;
	managed->detail[0] = '\0';
	if (have_users_to_wait(managed, config)) {
		/* Refused, it goes on waiting for the answer that it has asked for. */
		if (force && managed->is_loaded)
			begin_removal(managed, config);
		else
			managed->cause = FAIL_DEVICE_IN_USE;
		return;
	}
	managed->request_id = 0;
	managed_volume_handle(managed, VOLUME_LOCK_ASKED);
	process_part(&managed->prepared);
	if (managed->worker.pid == 0)
		close_handover(managed);
	if (managed->state != VOLUME_STOPPING || managed->worker.socket_fd < 0)
		return;
	/* A worker that hears nobody is left alone: it may be serving a mounted file system. */
	if (message_send(managed->worker.socket_fd, MESSAGE_WORKER_STOP, 0, &stop) != OK)
		log_error("the worker of %s cannot be told to stop", managed_volume_name(managed));
}

void managed_volume_close(struct managed_volume *managed)
{
	managed_volume_key_end(managed);
	process_part(&managed->worker);
	process_part(&managed->prepared);
	/* Not by close_handover: the worker's socket stays, as the worker does. */
	secret_memory_close(&managed->handover);
}

static void locked(struct managed_volume *managed, bool was_killed)
{
	managed_volume_unpublish(managed);
	close_handover(managed);
	managed_volume_handle(managed, VOLUME_WORKER_ENDED);
	if (was_killed)
		managed->cause = FAIL_ROLE_DIED;
	if (managed->cause == OK)
		log_info("%s on %s is locked", managed->name, managed->disk_path);
	else
		log_error("%s on %s is locked, but: %s; %s", managed->name, managed->disk_path,
			  status_sentence(managed->cause), status_advice(managed->cause));
}

/* The first one follows at once; then they are held back, more and more. */
static void plan_restart(struct managed_volume *managed, bool was_well, bool was_wanted)
{
	uint64_t wait_ms = 0;

	if (was_well)
		backoff_reset(&managed->restart_backoff);
	if (!was_wanted) {
		if (managed->restart_backoff.attempt > 0)
			wait_ms = backoff_next_ms(&managed->restart_backoff, entropy_u32(), 0);
		else
			managed->restart_backoff.attempt = 1;
		if (managed->cause == OK)
			managed->cause = FAIL_ROLE_DIED;
		log_warning("the worker of %s is gone (%s); another one is started in %.1f s",
			    managed->name, status_sentence(managed->cause), (double)wait_ms / 1000);
	}
	managed->due_ms = clock_now_ms() + wait_ms;
	if (managed->paused_since_ms == 0)
		managed->paused_since_ms = clock_now_ms();
	if (!data_path_outlives_process(path_of(managed)))
		managed_volume_unpublish(managed);
}

static void worker_ended(struct managed_volume *managed, int wait_status)
{
	const enum volume_state before = managed->state;
	bool was_well =
		before == VOLUME_SERVING && clock_now_ms() - managed->since_ms >= SERVED_WELL_MS;
	bool is_awaited;

	if (before == VOLUME_ADOPTING) {
		log_error("the worker of %s ended", managed->name);
		managed_volume_close(managed);
		managed_volume_handle(managed, VOLUME_WORKER_ENDED);
		return;
	}
	/* What it said last may still be in the socket. */
	while (managed->worker.socket_fd >= 0)
		managed_volume_hear_worker(managed);
	process_part(&managed->worker);
	if (WIFSIGNALED(wait_status))
		log_error("the worker of %s was killed by signal %d", managed->name,
			  WTERMSIG(wait_status));
	if (managed->state == VOLUME_STOPPING) {
		locked(managed, WIFSIGNALED(wait_status));
		return;
	}
	managed->workers_lost += managed->state != VOLUME_YIELDING;
	is_awaited = managed->state == VOLUME_SERVING || managed->state == VOLUME_YIELDING ||
		     managed->paused_since_ms != 0;
	if (is_awaited) {
		plan_restart(managed, was_well, managed->state == VOLUME_YIELDING);
		managed_volume_handle(managed, VOLUME_WORKER_ENDED);
		return;
	}
	managed_volume_unpublish(managed);
	close_handover(managed);
	managed_volume_handle(managed, VOLUME_WORKER_ENDED);
	managed_volume_fail(managed, managed->cause != OK ? managed->cause : FAIL_ROLE_DIED, "", 0);
}

bool managed_volume_reap(struct managed_volume *managed, pid_t pid, int wait_status)
{
	if (managed->prepared.pid == pid) {
		process_part(&managed->prepared);
		return true;
	}
	if (managed->worker.pid != pid)
		return false;
	worker_ended(managed, wait_status);
	return true;
}

void managed_volume_worker_ended(struct managed_volume *managed)
{
	worker_ended(managed, 0);
}

bool managed_volume_is_at_rest(const struct managed_volume *managed)
{
	return managed->state != VOLUME_STARTING && managed->state != VOLUME_STOPPING &&
	       managed->state != VOLUME_YIELDING && managed->state != VOLUME_ADOPTING &&
	       !managed_volume_has_key(managed);
}
