#include "app/supervisor/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/supervisor/supervisor_state.h"
#include "app/worker/data_path.h"
#include "platform/entropy.h"
#include "platform/log.h"
#include "platform/notify.h"

#define VOLUMES_MAX SUPERVISOR_VOLUMES_MAX
#define AGENT_RESTART_BASE_MS 500
#define STOP_PATIENCE_MS 60000
#define END_PATIENCE_MS 2000
#define NEVER UINT64_MAX

/* --- volumes --- */

static bool has_disk(const struct supervisor *supervisor, const char *disk_path)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (strcmp(supervisor->volumes[i]->disk_path, disk_path) == 0)
			return true;
	return false;
}

struct managed_volume *supervisor_add_disk(struct supervisor *supervisor, const char *disk_path)
{
	struct managed_volume *managed;

	if (disk_path[0] != '\0' && has_disk(supervisor, disk_path))
		return NULL;
	if (supervisor->volume_count == VOLUMES_MAX) {
		log_error("%s is one disk too many: this build serves %d", disk_path, VOLUMES_MAX);
		return NULL;
	}
	managed = malloc(sizeof(*managed));
	if (managed == NULL) {
		log_error("no memory to serve %s", disk_path);
		return NULL;
	}
	managed_volume_init(managed, disk_path, supervisor->config);
	supervisor->volumes[supervisor->volume_count++] = managed;
	return managed;
}

void supervisor_forget(struct supervisor *supervisor, struct managed_volume *managed)
{
	size_t i = 0;

	while (supervisor->volumes[i] != managed)
		i++;
	supervisor->volume_count--;
	memmove(&supervisor->volumes[i], &supervisor->volumes[i + 1],
		(supervisor->volume_count - i) * sizeof(supervisor->volumes[0]));
	supervisor_end_hook(managed);
	managed_volume_close(managed);
	free(managed);
}

/* Two disks of one name cannot both be /dev/byok/NAME: the first one has it, also while its worker
 * is being replaced. */
bool supervisor_name_is_taken(const struct supervisor *supervisor,
			      const struct managed_volume *managed)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_volume *other = supervisor->volumes[i];

		if (other != managed && strcmp(other->name, managed->name) == 0 &&
		    (other->worker.pid != 0 || managed_volume_has_key(other)))
			return true;
	}
	return false;
}

static void try_due_volumes(struct supervisor *supervisor)
{
	uint64_t now_ms = clock_now_ms();

	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		managed_volume_watch(managed);
		if ((managed->state == VOLUME_FOUND || managed->state == VOLUME_WAITING) &&
		    managed->due_ms <= now_ms)
			supervisor_try_volume(supervisor, managed);
	}
}

/* When every secret has been asked for: until the first answer, this machine is idle. */
static void prepare_workers(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		managed_volume_prepare(supervisor->volumes[i], supervisor->config);
}

/* --- signals --- */

/* A device that somebody uses is served on, by a worker that the next supervisor finds. */
static void begin_stop(struct supervisor *supervisor, enum supervisor_phase phase)
{
	if (supervisor->phase != SUPERVISOR_RUNS)
		return;
	supervisor->phase = phase;
	notify_send("STOPPING=1\nSTATUS=stopping");
	log_info("stopping%s", phase == SUPERVISOR_LEAVES ? "; every volume is served on" : "");
}

/* Each volume once, when it has a worker that can be told, or needs none: a refusal is final. */
static void lock_what_can_be(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		bool can_be =
			managed_volume_is_at_rest(managed) ||
			(managed_volume_has_key(managed) && !managed_volume_is_published(managed));

		if (can_be && managed->state != VOLUME_LOCKED &&
		    managed->cause != FAIL_DEVICE_IN_USE)
			managed_volume_lock(managed, false, supervisor->config);
	}
}

static void reap_children(struct supervisor *supervisor)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid == supervisor->agent.pid) {
			supervisor_agent_ended(supervisor, wait_status);
			continue;
		}
		if (supervisor_hook_ended(supervisor, pid, wait_status))
			continue;
		for (size_t i = 0; i < supervisor->volume_count; i++)
			if (managed_volume_reap(supervisor->volumes[i], pid, wait_status))
				break;
	}
}

static void hear_signal(struct supervisor *supervisor)
{
	switch (process_take_signal(supervisor->signal_fd)) {
	case 0: break;
	case SIGCHLD: reap_children(supervisor); break;
	case PROCESS_SIGNAL_LEAVE: begin_stop(supervisor, SUPERVISOR_LEAVES); break;
	default: begin_stop(supervisor, SUPERVISOR_STOPS); break;
	}
}

/* --- the loop --- */

static bool is_all_settled(const struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state != VOLUME_SERVING &&
		    supervisor->volumes[i]->state != VOLUME_LOCKED)
			return false;
	return true;
}

static size_t count_serving(const struct supervisor *supervisor)
{
	size_t count = 0;

	for (size_t i = 0; i < supervisor->volume_count; i++)
		count += supervisor->volumes[i]->state == VOLUME_SERVING;
	return count;
}

/* Not while a volume is on its way, nor before as many are there as the machine is known to have.
 */
static bool is_ready(const struct supervisor *supervisor)
{
	return is_all_settled(supervisor) &&
	       (!supervisor->finds_disks || supervisor->searches.is_done_once) &&
	       supervisor->volume_count >= supervisor->config->expected_volumes;
}

/* Once for each number of them: it may be hours until the next one comes. */
static void tell_missing_disks(struct supervisor *supervisor)
{
	const size_t expected = supervisor->config->expected_volumes;
	const size_t missing = expected - MINIMUM(expected, supervisor->volume_count);

	if (supervisor_is_adopting(supervisor))
		return;
	if (missing != 0 && missing != supervisor->missing_told)
		log_warning("%zu of %zu expected disks are attached; waiting for the rest",
			    supervisor->volume_count, expected);
	supervisor->missing_told = missing;
}

/* systemd holds back whatever is ordered behind byok.service (Kafka) until every volume is there;
 * people see with it how many are, at any time. */
static void notify_progress(struct supervisor *supervisor)
{
	const size_t serving = count_serving(supervisor);
	const size_t count =
		MAXIMUM(supervisor->volume_count, supervisor->config->expected_volumes);

	if (supervisor->phase != SUPERVISOR_RUNS)
		return;
	notify_send("STATUS=%zu of %zu volumes served", serving, count);
	if (supervisor->was_ready)
		return;
	tell_missing_disks(supervisor);
	supervisor->was_ready = is_ready(supervisor);
	notify_send(supervisor->was_ready ? "READY=1" : "EXTEND_TIMEOUT_USEC=600000000");
	if (supervisor->was_ready)
		log_info("ready: %zu of %zu volumes served", serving, count);
}

/* One that nothing was tried with yet waits for what holds all of them back, or for its turn. */
static bool is_due_sometime(const struct managed_volume *managed)
{
	return managed->state == VOLUME_WAITING || managed->state == VOLUME_ASKING ||
	       managed->state == VOLUME_YIELDING ||
	       (managed->state == VOLUME_FOUND && managed->due_ms > 0);
}

/* Who is told after each turn what there is to tell. */
static void (*const listeners[])(struct supervisor *supervisor) = {
#if CONFIG_METRICS
	supervisor_tell_metrics,
#endif
	NULL,
};

static void tell_listeners(struct supervisor *supervisor)
{
	for (size_t i = 0; listeners[i] != NULL; i++)
		listeners[i](supervisor);
}

static uint64_t disks_wake_ms(const struct supervisor *supervisor)
{
	const struct supervisor_searches *searches = &supervisor->searches;

	if (supervisor->phase != SUPERVISOR_RUNS || supervisor_is_adopting(supervisor))
		return NEVER;
	return searches->running_count > searches->held_up_count
		       ? MINIMUM(supervisor->disks_due_ms, searches->patience_ms)
		       : supervisor->disks_due_ms;
}

static uint64_t next_wake_ms(const struct supervisor *supervisor)
{
	uint64_t wake_ms = disks_wake_ms(supervisor);

	wake_ms = MINIMUM(wake_ms, supervisor_keys_wake_ms(supervisor));
	wake_ms = MINIMUM(wake_ms, supervisor_hooks_wake_ms(supervisor));
	if (supervisor->metrics_due_ms != 0)
		wake_ms = MINIMUM(wake_ms, supervisor->metrics_due_ms);
	if (supervisor->agent.pid == 0)
		wake_ms = MINIMUM(wake_ms, supervisor->agent_restart_ms);
	if (supervisor_is_adopting(supervisor))
		wake_ms = MINIMUM(wake_ms, supervisor->adoption_deadline_ms);
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (is_due_sometime(supervisor->volumes[i]))
			wake_ms = MINIMUM(wake_ms, supervisor->volumes[i]->due_ms);
	return wake_ms;
}

enum {
	POLL_SIGNALS,
	POLL_CONTROL,
	POLL_AGENT,
	POLL_SEARCHES,
	POLL_CLIENTS = POLL_SEARCHES + SUPERVISOR_SEARCHES_MAX,
	POLL_VOLUMES = POLL_CLIENTS + SUPERVISOR_CLIENTS_MAX,
	POLL_WATCHES = POLL_VOLUMES + VOLUMES_MAX,
	POLLS = POLL_WATCHES + VOLUMES_MAX
};

static bool is_first_search(const struct supervisor *supervisor)
{
	return supervisor->searches.running_count > 0 && !supervisor->searches.is_done_once;
}

static int poll_timeout_ms(uint64_t wake_ms)
{
	uint64_t left_ms = wake_ms == NEVER ? NEVER : clock_left_ms(wake_ms);

	return left_ms == NEVER ? -1 : (int)MINIMUM(left_ms + 1, 60000);
}

/* Sleeps until something happens, then hears everybody who has something to say. Descriptors of -1
 * are passed over by poll. */
static enum status turn(struct supervisor *supervisor, uint64_t wake_ms)
{
	struct pollfd polls[POLLS] = {
		[POLL_SIGNALS] = {.fd = supervisor->signal_fd, .events = POLLIN},
		/* A command given at once waits until it is known what disks there are. */
		[POLL_CONTROL] = {.events = POLLIN,
				  .fd = is_first_search(supervisor)
						? -1
						: supervisor->control.socket_fd},
		[POLL_AGENT] = {.fd = supervisor->agent.pid == 0 ? -1 : supervisor->agent.socket_fd,
				.events = POLLIN},
	};
	size_t volume_count = supervisor->volume_count;
	size_t searching_count = supervisor->searches.running_count;

	for (size_t i = 0; i < SUPERVISOR_SEARCHES_MAX; i++)
		polls[POLL_SEARCHES + i] = (struct pollfd){
			.fd = i < searching_count ? supervisor->searches.ended_fds[i] : -1,
			.events = POLLIN};
	/* Of held clients only their leaving is of interest. */
	for (size_t i = 0; i < SUPERVISOR_CLIENTS_MAX; i++)
		polls[POLL_CLIENTS + i] = (struct pollfd){.fd = supervisor->clients[i].fd};
	for (size_t i = 0; i < VOLUMES_MAX; i++) {
		const struct process *worker =
			i < volume_count ? &supervisor->volumes[i]->worker : &PROCESS_NONE;

		polls[POLL_VOLUMES + i] =
			(struct pollfd){.fd = worker->socket_fd, .events = POLLIN};
		polls[POLL_WATCHES + i] = (struct pollfd){.fd = worker->watch_fd, .events = POLLIN};
	}
	if (poll(polls, POLLS, poll_timeout_ms(wake_ms)) < 0) {
		if (errno == EINTR)
			return OK;
		log_errno(LOG_PRIORITY_ERROR, errno, "poll");
		return FAIL_SYSTEM;
	}
	for (size_t i = 0; i < volume_count; i++)
		if (polls[POLL_VOLUMES + i].revents != 0)
			managed_volume_hear_worker(supervisor->volumes[i]);
	for (size_t i = 0; i < volume_count; i++)
		if (polls[POLL_WATCHES + i].revents != 0 &&
		    supervisor->volumes[i]->worker.watch_fd >= 0)
			managed_volume_worker_ended(supervisor->volumes[i]);
	supervisor_settle_adoptions(supervisor);
	if (polls[POLL_AGENT].revents != 0)
		supervisor_hear_agent(supervisor);
	/* From the last on, as each one that has ended makes those behind it move. */
	for (size_t i = searching_count; i > 0; i--)
		if (polls[POLL_SEARCHES + i - 1].revents != 0)
			supervisor_hear_search(supervisor, i - 1);
	if (polls[POLL_SIGNALS].revents != 0)
		hear_signal(supervisor);
	if (polls[POLL_CONTROL].revents != 0)
		supervisor_hear_control(supervisor);
	for (size_t i = 0; i < SUPERVISOR_CLIENTS_MAX; i++)
		if (polls[POLL_CLIENTS + i].revents != 0)
			supervisor_drop_client(&supervisor->clients[i]);
	supervisor_answer_settled(supervisor);
	return OK;
}

static enum status serve_until_stopped(struct supervisor *supervisor)
{
	while (supervisor->phase == SUPERVISOR_RUNS) {
		uint64_t now_ms = clock_now_ms();

		if (supervisor->agent.pid == 0 && supervisor->agent_restart_ms <= now_ms)
			supervisor_start_agent(supervisor);
		supervisor_watch_agent(supervisor);
		/* A disk that is about to be adopted needs no key. */
		if (!supervisor_is_adopting(supervisor)) {
			if (supervisor->disks_due_ms <= now_ms)
				supervisor_look_at_disks(supervisor);
			supervisor_watch_search(supervisor);
			try_due_volumes(supervisor);
			prepare_workers(supervisor);
		}
		supervisor_watch_keys(supervisor);
		supervisor_run_hooks(supervisor);
		notify_progress(supervisor);
		tell_listeners(supervisor);
		TRY(turn(supervisor, next_wake_ms(supervisor)));
	}
	return OK;
}

static bool is_all_at_rest(const struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (!managed_volume_is_at_rest(supervisor->volumes[i]) &&
		    (supervisor->volumes[i]->state != VOLUME_ADOPTING ||
		     supervisor_is_adopting(supervisor)))
			return false;
	return true;
}

/* Users who wait for a worker get one before this process ends, for it alone has the key. */
static void restart_what_is_awaited(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		managed_volume_watch(managed);
		if (managed_volume_has_key(managed) && managed->due_ms <= clock_now_ms())
			supervisor_try_volume(supervisor, managed);
	}
}

static void come_to_rest(struct supervisor *supervisor)
{
	const uint64_t deadline_ms = clock_now_ms() + STOP_PATIENCE_MS;

	for (;;) {
		restart_what_is_awaited(supervisor);
		if (supervisor->phase == SUPERVISOR_STOPS)
			lock_what_can_be(supervisor);
		if (is_all_at_rest(supervisor) || clock_left_ms(deadline_ms) == 0)
			return;
		if (turn(supervisor, MINIMUM(deadline_ms, next_wake_ms(supervisor))) != OK)
			return;
	}
}

static void tell_what_stays(const struct managed_volume *managed, enum supervisor_phase phase)
{
	if (!managed_volume_is_at_rest(managed))
		log_error("%s is left as it is: %s", managed_volume_name(managed),
			  volume_state_word(managed->state));
	else if (managed->worker.pid != 0 && phase == SUPERVISOR_STOPS)
		log_warning("%s is in use: it is served on, by process %d", managed->name,
			    (int)managed->worker.pid);
	else if (managed->worker.pid == 0 && managed_volume_is_published(managed))
		log_warning("the users of %s wait until byok serve runs again and gets its key",
			    managed->name);
}

static void end_everything(struct supervisor *supervisor)
{
	come_to_rest(supervisor);
	if (supervisor->phase == SUPERVISOR_STOPS)
		tell_listeners(supervisor);
	for (size_t i = 0; i < SUPERVISOR_CLIENTS_MAX; i++)
		if (supervisor->clients[i].fd >= 0)
			supervisor_drop_client(&supervisor->clients[i]);
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		tell_what_stays(supervisor->volumes[i], supervisor->phase);
		supervisor_end_hook(supervisor->volumes[i]);
		managed_volume_close(supervisor->volumes[i]);
		free(supervisor->volumes[i]);
	}
	process_end(&supervisor->agent, END_PATIENCE_MS);
	if (supervisor->signal_fd >= 0)
		close(supervisor->signal_fd);
	control_close(&supervisor->control);
}

/* Named disks are read once before anything starts, so that a wrong name is told at once. As long
 * as one of them is good, the others are tried for ever like disks that were found. */
static enum status add_named_disks(struct supervisor *supervisor, const char *const *disk_paths,
				   size_t disk_count, const char **failed_disk)
{
	enum status first = OK;
	bool one_is_good = false;

	for (size_t i = 0; i < disk_count; i++) {
		struct managed_volume *managed = supervisor_add_disk(supervisor, disk_paths[i]);
		enum status status = managed == NULL ? FAIL_USAGE : managed_volume_load(managed);

		if (status == OK)
			status = volume_vault_token(&managed->token, &managed->volume);
		one_is_good = one_is_good || status == OK;
		if (status == OK || first != OK)
			continue;
		first = status;
		*failed_disk = disk_paths[i];
	}
	return one_is_good ? OK : first;
}

static enum status begin(struct supervisor *supervisor, const char *const *disk_paths,
			 size_t disk_count, const char **failed_disk)
{
	TRY(process_catch_signals(&supervisor->signal_fd, true));
	TRY(data_path_settle(supervisor->config));
	TRY(control_open(&supervisor->control, supervisor->config));
	supervisor_find_workers(supervisor);
	supervisor->finds_disks = disk_count == 0;
	TRY(add_named_disks(supervisor, disk_paths, disk_count, failed_disk));
	supervisor_start_agent(supervisor);
	supervisor_begin_following(supervisor);
	return OK;
}

enum status supervisor_run(const struct config *config, const char *const *disk_paths,
			   size_t disk_count, const char **failed_disk)
{
	static struct supervisor supervisor;
	enum status status;

	supervisor = (struct supervisor){
		.config = config,
		.signal_fd = -1,
		.started_ms = clock_now_ms(),
		.place = entropy_u32(),
		.follow = {.retry = {.cap_ms = (uint64_t)config->retry_cap_s * 1000}},
		.agent = PROCESS_NONE,
		.agent_cause = FAIL_ROLE_DIED,
		.control = {.socket_fd = -1, .lock_fd = -1},
		.agent_backoff = {.base_ms = AGENT_RESTART_BASE_MS,
				  .cap_ms = (uint64_t)config->retry_cap_s * 1000},
	};
	for (size_t i = 0; i < SUPERVISOR_CLIENTS_MAX; i++)
		supervisor.clients[i].fd = -1;
	status = begin(&supervisor, disk_paths, disk_count, failed_disk);
	if (status == OK)
		status = serve_until_stopped(&supervisor);
	if (supervisor.phase == SUPERVISOR_RUNS)
		supervisor.phase = SUPERVISOR_LEAVES; /* it failed, and nobody has asked for more */
	end_everything(&supervisor);
	return status;
}
