#include "app/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/agent_session.h"
#include "app/control.h"
#include "app/data_path.h"
#include "app/managed_volume.h"
#include "generated/config.h"
#include "platform/entropy.h"
#include "platform/log.h"
#include "platform/notify.h"

#define VOLUMES_MAX CONFIG_VOLUMES_MAX
#define CLIENTS_MAX 8
#define RESCAN_MS 30000
#define AGENT_RESTART_BASE_MS 500
#define STOP_PATIENCE_MS 60000
#define END_PATIENCE_MS 2000
#define NEVER UINT64_MAX

/* A command that is answered when every volume it means has come to rest. */
struct client {
	int fd; /* -1: free */
	char target[MESSAGE_TEXT_SIZE];
};

struct supervisor {
	const struct config *config;
	struct control_server control;
	int signal_fd;
	struct process agent;
	struct backoff agent_backoff;
	uint64_t agent_restart_ms; /* when it may be started again */
	uint32_t last_request_id;
	struct client clients[CLIENTS_MAX];
	struct managed_volume *volumes[VOLUMES_MAX];
	size_t volume_count;
	bool finds_disks; /* none was named */
	uint64_t rescan_ms;
	bool was_ready;
	bool is_stopping;
};

/* --- volumes --- */

static bool has_disk(const struct supervisor *supervisor, const char *disk_path)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (strcmp(supervisor->volumes[i]->disk_path, disk_path) == 0)
			return true;
	return false;
}

static struct managed_volume *add_disk(struct supervisor *supervisor, const char *disk_path)
{
	struct managed_volume *managed;

	if (has_disk(supervisor, disk_path))
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

static void find_disks(struct supervisor *supervisor)
{
	struct volume_found found[VOLUMES_MAX];
	size_t count = volume_find_all(found, VOLUMES_MAX);

	supervisor->rescan_ms = clock_now_ms() + RESCAN_MS;
	for (size_t i = 0; i < MINIMUM(count, VOLUMES_MAX); i++)
		if (add_disk(supervisor, found[i].disk_path) != NULL)
			log_info("found %s on %s", found[i].name, found[i].disk_path);
	if (supervisor->volume_count == 0 && !supervisor->was_ready)
		log_info("no byok disk is attached; looking again every %d s", RESCAN_MS / 1000);
}

/* Two disks of one name cannot both be /dev/byok/NAME: the first one has it. */
static bool name_is_taken(const struct supervisor *supervisor, const struct managed_volume *managed)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i] != managed && supervisor->volumes[i]->worker.pid != 0 &&
		    strcmp(supervisor->volumes[i]->name, managed->name) == 0)
			return true;
	return false;
}

/* If another volume waits for the very same secret, that one's answer will do for both. */
static bool join_request(const struct supervisor *supervisor, struct managed_volume *managed)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_volume *other = supervisor->volumes[i];

		if (other == managed || other->state != VOLUME_ASKING ||
		    !managed_volume_same_secret(other, managed))
			continue;
		managed_volume_asked(managed, other->request_id);
		return true;
	}
	return false;
}

static enum status ask_for_key(struct supervisor *supervisor, struct managed_volume *managed)
{
	struct message_agent_request request;

	TRY(managed_volume_load(managed));
	if (name_is_taken(supervisor, managed))
		return FAIL_NAME_TAKEN;
	TRY(managed_volume_request(managed, &request, supervisor->config));
	if (join_request(supervisor, managed))
		return OK;
	if (supervisor->agent.pid == 0)
		return FAIL_ROLE_DIED;
	TRY(message_send(supervisor->agent.socket_fd, MESSAGE_AGENT_REQUEST,
			 ++supervisor->last_request_id, &request));
	managed_volume_asked(managed, supervisor->last_request_id);
	return OK;
}

/* Nobody waits for more than the kernel's queue of messages to the agent has room for: each volume
 * has one request under way at most, and the agent takes them as they come. */
static void try_volume(struct supervisor *supervisor, struct managed_volume *managed)
{
	enum status status = ask_for_key(supervisor, managed);

	if (status != OK)
		managed_volume_fail(managed, status, "", 0);
}

static void try_due_volumes(struct supervisor *supervisor)
{
	uint64_t now_ms = clock_now_ms();

	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		if (managed->state == VOLUME_FOUND ||
		    (managed->state == VOLUME_WAITING && managed->next_try_ms <= now_ms))
			try_volume(supervisor, managed);
	}
}

/* --- the vault agent --- */

/* The agent tries once and tells the cause; when to try again is decided here, where the state is
 * that operators see. */
static void start_agent(struct supervisor *supervisor)
{
	struct config config = *supervisor->config;
	enum status status;

	config.operation_deadline_s = config.attempt_timeout_s;
	status = agent_start(&supervisor->agent, &config);
	if (status == OK)
		return;
	supervisor->agent = (struct process){.socket_fd = -1};
	supervisor->agent_restart_ms =
		clock_now_ms() + backoff_next_ms(&supervisor->agent_backoff, entropy_u32(), 0);
	if (status != FAIL_FEATURE_OFF)
		log_error("the vault agent cannot be started: %s", status_sentence(status));
}

static void agent_died(struct supervisor *supervisor, int wait_status)
{
	log_error("the vault agent ended (%s %d); starting another one",
		  WIFSIGNALED(wait_status) ? "signal" : "exit status",
		  WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
	if (supervisor->agent.socket_fd >= 0)
		close(supervisor->agent.socket_fd);
	supervisor->agent = (struct process){.socket_fd = -1};
	supervisor->agent_restart_ms =
		clock_now_ms() + backoff_next_ms(&supervisor->agent_backoff, entropy_u32(), 0);
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_ASKING)
			managed_volume_fail(supervisor->volumes[i], FAIL_ROLE_DIED, "vault agent",
					    0);
}

static void give_answer(struct supervisor *supervisor, struct managed_volume *managed,
			const struct message_agent_answer *answer)
{
	enum status status = (enum status)answer->status;
	const char *detail = answer->detail;

	if (status == OK) {
		detail = "";
		status = name_is_taken(supervisor, managed)
				 ? FAIL_NAME_TAKEN
				 : managed_volume_unlock(managed, answer->secret,
							 supervisor->config);
	}
	if (status != OK)
		managed_volume_fail(managed, status, detail, answer->retry_after_ms);
}

/* One answer may be for several volumes, or for one that was locked in the meantime. */
static void hear_agent(struct supervisor *supervisor)
{
	struct message_agent_answer answer = {0};
	struct message_agent_request asked = {.operation = AGENT_UNWRAP};
	enum status status =
		message_receive(supervisor->agent.socket_fd, &answer.header, sizeof(answer));

	asked.header.id = answer.header.id;
	if (status == OK)
		status = agent_answer_check(&answer, &asked);
	if (status == OK) {
		backoff_reset(&supervisor->agent_backoff);
		for (size_t i = 0; i < supervisor->volume_count; i++)
			if (supervisor->volumes[i]->state == VOLUME_ASKING &&
			    supervisor->volumes[i]->request_id == answer.header.id)
				give_answer(supervisor, supervisor->volumes[i], &answer);
	} else {
		if (status != FAIL_ROLE_DIED)
			log_error("the vault agent sent a message that is not valid; ending it");
		close(supervisor->agent.socket_fd);
		supervisor->agent.socket_fd = -1;
		kill(supervisor->agent.pid, SIGKILL);
	}
	secret_wipe_bytes(&answer, sizeof(answer));
}

/* --- commands --- */

static bool is_target(const struct managed_volume *managed, const char *target)
{
	return target[0] == '\0' || strcmp(target, managed->name) == 0 ||
	       strcmp(target, managed->disk_path) == 0 ||
	       (strncmp(target, MANAGED_VOLUME_DEVICES "/", sizeof(MANAGED_VOLUME_DEVICES)) == 0 &&
		strcmp(target + sizeof(MANAGED_VOLUME_DEVICES), managed->name) == 0);
}

static size_t count_targets(const struct supervisor *supervisor, const char *target)
{
	size_t count = 0;

	for (size_t i = 0; i < supervisor->volume_count; i++)
		count += is_target(supervisor->volumes[i], target);
	return count;
}

static enum status tell_volume(int fd, const struct managed_volume *managed)
{
	uint64_t now_ms = clock_now_ms();
	struct message_control_volume message = {
		.state = managed->state,
		.status = managed->cause,
		.worker_pid = (uint32_t)managed->worker.pid,
		.since_ms = now_ms - managed->since_ms,
	};

	if (managed->state == VOLUME_WAITING && managed->next_try_ms > now_ms)
		message.next_try_ms = managed->next_try_ms - now_ms;
	snprintf(message.name, sizeof(message.name), "%s", managed->name);
	snprintf(message.uuid, sizeof(message.uuid), "%s", managed->volume.header.uuid);
	snprintf(message.disk_path, sizeof(message.disk_path), "%s", managed->disk_path);
	snprintf(message.kid, sizeof(message.kid), "%s", managed->token.current.kid);
	snprintf(message.detail, sizeof(message.detail), "%s", managed->detail);
	if (managed->device_path[0] == '/')
		snprintf(message.device_path, sizeof(message.device_path), "%s",
			 managed->device_path);
	return message_send(fd, MESSAGE_CONTROL_VOLUME, 0, &message);
}

/* Ends the conversation. A client that does not read loses its answer, nothing else. */
static void answer_client(struct supervisor *supervisor, int fd, enum status status,
			  const char *target, bool with_volumes)
{
	struct message_control_done done = {
		.status = status,
		.supervisor_pid = (uint32_t)getpid(),
		.agent_pid = (uint32_t)supervisor->agent.pid,
		.volume_count = (uint32_t)count_targets(supervisor, target),
	};
	enum status sent = OK;

	for (size_t i = 0; with_volumes && sent == OK && i < supervisor->volume_count; i++)
		if (is_target(supervisor->volumes[i], target))
			sent = tell_volume(fd, supervisor->volumes[i]);
	if (sent == OK)
		sent = message_send(fd, MESSAGE_CONTROL_DONE, 0, &done);
	if (sent != OK)
		log_debug("a client left before its answer");
	close(fd);
}

static void hold_client(struct supervisor *supervisor, int fd, const char *target)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (supervisor->clients[i].fd >= 0)
			continue;
		supervisor->clients[i].fd = fd;
		snprintf(supervisor->clients[i].target, sizeof(supervisor->clients[i].target), "%s",
			 target);
		return;
	}
	answer_client(supervisor, fd, FAIL_OUT_OF_MEMORY, target, false);
}

/* Answers those whose volumes have all come to rest; the first one that refused gives the status.
 */
static void answer_settled_clients(struct supervisor *supervisor)
{
	for (size_t c = 0; c < CLIENTS_MAX; c++) {
		struct client *client = &supervisor->clients[c];
		enum status status = OK;
		bool is_settled = true;

		if (client->fd < 0)
			continue;
		for (size_t i = 0; i < supervisor->volume_count; i++) {
			const struct managed_volume *managed = supervisor->volumes[i];

			if (!is_target(managed, client->target))
				continue;
			is_settled = is_settled && managed->state != VOLUME_STOPPING &&
				     managed->state != VOLUME_STARTING;
			if (status == OK)
				status = managed->cause;
		}
		if (!is_settled)
			continue;
		answer_client(supervisor, client->fd, status, client->target, true);
		client->fd = -1;
	}
}

static void lock_targets(struct supervisor *supervisor, const char *target, bool force)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (is_target(supervisor->volumes[i], target))
			managed_volume_lock(supervisor->volumes[i], force);
}

/* Opens a disk with a passphrase that needs no vault; one that is not known yet is added. */
static enum status recover_target(struct supervisor *supervisor,
				  const struct message_control_request *request)
{
	struct managed_volume *managed = NULL;

	for (size_t i = 0; managed == NULL && i < supervisor->volume_count; i++)
		if (request->target[0] != '\0' &&
		    is_target(supervisor->volumes[i], request->target))
			managed = supervisor->volumes[i];
	if (managed == NULL && request->target[0] == '/')
		managed = add_disk(supervisor, request->target);
	if (managed == NULL)
		return FAIL_VOLUME_UNKNOWN;
	if (!volume_state_allows(managed->state, VOLUME_UNLOCKED))
		return managed->state == VOLUME_SERVING ? OK : FAIL_DISK_IN_USE;
	return managed_volume_recover(managed, request->passphrase, request->passphrase_size,
				      supervisor->config);
}

static void hear_client(struct supervisor *supervisor)
{
	struct message_control_request request = {0};
	int fd = control_accept(&supervisor->control);
	enum status status;

	if (fd < 0)
		return;
	status = control_receive(fd, &request);
	if (status == OK && request.operation != CONTROL_RECOVER && request.target[0] != '\0' &&
	    count_targets(supervisor, request.target) == 0)
		status = FAIL_VOLUME_UNKNOWN;
	if (status == OK && request.operation == CONTROL_RECOVER)
		status = recover_target(supervisor, &request);
	if (status == OK && request.operation == CONTROL_LOCK)
		lock_targets(supervisor, request.target, request.force != 0);
	if (status == OK && request.operation != CONTROL_STATUS)
		hold_client(supervisor, fd, request.target);
	else
		answer_client(supervisor, fd, status, request.target, status == OK);
	secret_wipe_bytes(&request, sizeof(request));
}

/* --- signals --- */

static void begin_stop(struct supervisor *supervisor)
{
	if (supervisor->is_stopping)
		return;
	supervisor->is_stopping = true;
	notify_send("STOPPING=1\nSTATUS=stopping");
	log_info("stopping");
	/* Whoever still has a device mounted keeps at least what the page cache holds by now. */
	sync();
	lock_targets(supervisor, "", true);
}

static void reap_children(struct supervisor *supervisor)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid == supervisor->agent.pid) {
			agent_died(supervisor, wait_status);
			continue;
		}
		for (size_t i = 0; i < supervisor->volume_count; i++)
			if (managed_volume_reap(supervisor->volumes[i], pid, wait_status))
				break;
	}
}

static void hear_signal(struct supervisor *supervisor)
{
	struct signalfd_siginfo information;

	if (read(supervisor->signal_fd, &information, sizeof(information)) !=
	    (ssize_t)sizeof(information))
		return;
	if (information.ssi_signo == SIGCHLD)
		reap_children(supervisor);
	else
		begin_stop(supervisor);
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

/* systemd holds back whatever is ordered behind byok.service (Kafka) until every volume is there.
 */
static void notify_progress(struct supervisor *supervisor)
{
	if (supervisor->is_stopping || supervisor->was_ready)
		return;
	if (!is_all_settled(supervisor)) {
		notify_send("STATUS=%zu of %zu volumes served\nEXTEND_TIMEOUT_USEC=600000000",
			    count_serving(supervisor), supervisor->volume_count);
		return;
	}
	supervisor->was_ready = true;
	notify_send("READY=1\nSTATUS=%zu volumes served", count_serving(supervisor));
	log_info("ready: %zu volumes served", count_serving(supervisor));
}

static uint64_t next_wake_ms(const struct supervisor *supervisor)
{
	uint64_t wake_ms = supervisor->finds_disks ? supervisor->rescan_ms : NEVER;

	if (supervisor->is_stopping)
		return NEVER;
	if (supervisor->agent.pid == 0)
		wake_ms = MINIMUM(wake_ms, supervisor->agent_restart_ms);
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_WAITING)
			wake_ms = MINIMUM(wake_ms, supervisor->volumes[i]->next_try_ms);
	return wake_ms;
}

enum { POLL_SIGNALS, POLL_CONTROL, POLL_AGENT, POLL_VOLUMES };

static int poll_timeout_ms(uint64_t wake_ms)
{
	uint64_t left_ms = wake_ms == NEVER ? NEVER : clock_left_ms(wake_ms);

	return left_ms == NEVER ? -1 : (int)MINIMUM(left_ms + 1, 60000);
}

/* Sleeps until something happens, then hears everybody who has something to say. Descriptors of -1
 * are passed over by poll. */
static enum status turn(struct supervisor *supervisor, uint64_t wake_ms)
{
	struct pollfd polls[POLL_VOLUMES + VOLUMES_MAX] = {
		[POLL_SIGNALS] = {.fd = supervisor->signal_fd, .events = POLLIN},
		[POLL_CONTROL] = {.fd = supervisor->control.socket_fd, .events = POLLIN},
		[POLL_AGENT] = {.fd = supervisor->agent.pid == 0 ? -1 : supervisor->agent.socket_fd,
				.events = POLLIN},
	};
	size_t volume_count = supervisor->volume_count;

	for (size_t i = 0; i < volume_count; i++)
		polls[POLL_VOLUMES + i] = (struct pollfd){
			.fd = supervisor->volumes[i]->worker.socket_fd, .events = POLLIN};
	if (poll(polls, POLL_VOLUMES + volume_count, poll_timeout_ms(wake_ms)) < 0) {
		if (errno == EINTR)
			return OK;
		log_errno(LOG_PRIORITY_ERROR, errno, "poll");
		return FAIL_SYSTEM;
	}
	for (size_t i = 0; i < volume_count; i++)
		if (polls[POLL_VOLUMES + i].revents != 0)
			managed_volume_hear_worker(supervisor->volumes[i]);
	if (polls[POLL_AGENT].revents != 0)
		hear_agent(supervisor);
	if (polls[POLL_SIGNALS].revents != 0)
		hear_signal(supervisor);
	if (polls[POLL_CONTROL].revents != 0)
		hear_client(supervisor);
	answer_settled_clients(supervisor);
	return OK;
}

static enum status serve_until_stopped(struct supervisor *supervisor)
{
	while (!supervisor->is_stopping) {
		uint64_t now_ms = clock_now_ms();

		if (supervisor->agent.pid == 0 && supervisor->agent_restart_ms <= now_ms)
			start_agent(supervisor);
		if (supervisor->finds_disks && supervisor->rescan_ms <= now_ms)
			find_disks(supervisor);
		try_due_volumes(supervisor);
		notify_progress(supervisor);
		TRY(turn(supervisor, next_wake_ms(supervisor)));
	}
	return OK;
}

static bool has_workers(const struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->worker.pid != 0)
			return true;
	return false;
}

static void end_everything(struct supervisor *supervisor)
{
	uint64_t deadline_ms = clock_now_ms() + STOP_PATIENCE_MS;

	while (has_workers(supervisor) && clock_left_ms(deadline_ms) > 0)
		if (turn(supervisor, deadline_ms) != OK)
			break;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (supervisor->clients[i].fd >= 0)
			close(supervisor->clients[i].fd);
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		if (supervisor->volumes[i]->worker.pid != 0)
			log_error("the worker of %s does not stop; it is left alone",
				  supervisor->volumes[i]->name);
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
		struct managed_volume *managed = add_disk(supervisor, disk_paths[i]);
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
	TRY(data_path_probe(data_path_choose(supervisor->config)));
	TRY(control_open(&supervisor->control, supervisor->config));
	supervisor->finds_disks = disk_count == 0;
	TRY(add_named_disks(supervisor, disk_paths, disk_count, failed_disk));
	start_agent(supervisor);
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
		.agent = {.socket_fd = -1},
		.control = {.socket_fd = -1, .lock_fd = -1},
		.agent_backoff = {.base_ms = AGENT_RESTART_BASE_MS,
				  .cap_ms = (uint64_t)config->retry_cap_s * 1000},
	};
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		supervisor.clients[i].fd = -1;
	status = begin(&supervisor, disk_paths, disk_count, failed_disk);
	if (status == OK)
		status = serve_until_stopped(&supervisor);
	end_everything(&supervisor);
	return status;
}
