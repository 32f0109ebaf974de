#include "app/supervisor/supervisor_state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/log.h"

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
		.status = managed_volume_problem(managed),
		.worker_pid = (uint32_t)managed->worker.pid,
		.since_ms = now_ms - managed->since_ms,
	};

	message.key_state = managed->key.state;
	message.key_status = managed->key.cause;
	message.key_since_ms = now_ms - managed->key.since_ms;
	message.key_proved_ms =
		managed->key.proved_ms == 0 ? UINT64_MAX : now_ms - managed->key.proved_ms;
	message.rotation_status = managed->key.rotation_cause;
	message.is_rotating = managed->token.previous.kid[0] != '\0';
	snprintf(message.key_detail, sizeof(message.key_detail), "%s", managed->key.detail);
	if ((managed->state == VOLUME_FOUND || managed->state == VOLUME_WAITING) &&
	    managed->due_ms > now_ms)
		message.next_try_ms = managed->due_ms - now_ms;
	snprintf(message.name, sizeof(message.name), "%s", managed->name);
	snprintf(message.disk_path, sizeof(message.disk_path), "%s", managed->disk_path);
	snprintf(message.detail, sizeof(message.detail), "%s", managed->detail);
	if (managed->is_loaded) {
		snprintf(message.uuid, sizeof(message.uuid), "%s", managed->volume.header.uuid);
		snprintf(message.kid, sizeof(message.kid), "%s", managed->token.current.kid);
	}
	if (managed->device_path[0] == '/')
		snprintf(message.device_path, sizeof(message.device_path), "%s",
			 managed->device_path);
	return message_send(fd, MESSAGE_CONTROL_VOLUME, 0, &message);
}

/* Ends the conversation. A client that does not read loses its answer, nothing else. */
static void answer(struct supervisor *supervisor, int fd, enum status status, const char *target,
		   bool with_volumes)
{
	struct message_control_done done = {
		.status = status,
		.supervisor_pid = (uint32_t)getpid(),
		.agent_pid = (uint32_t)supervisor->agent.pid,
		.volume_count = (uint32_t)count_targets(supervisor, target),
		.follow_status = supervisor->follow.cause,
	};
	enum status sent = OK;

	snprintf(done.followed, sizeof(done.followed), "%s", supervisor->follow.url);
	snprintf(done.newest, sizeof(done.newest), "%s", supervisor->follow.newest.kid);

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
	for (size_t i = 0; i < SUPERVISOR_CLIENTS_MAX; i++) {
		struct supervisor_client *client = &supervisor->clients[i];

		if (client->fd >= 0)
			continue;
		client->fd = fd;
		snprintf(client->target, sizeof(client->target), "%s", target);
		return;
	}
	answer(supervisor, fd, FAIL_SERVICE_BUSY, target, false);
}

void supervisor_drop_client(struct supervisor_client *client)
{
	close(client->fd);
	client->fd = -1;
}

static bool is_settled(const struct managed_volume *managed)
{
	return managed->state != VOLUME_STOPPING && managed->state != VOLUME_STARTING &&
	       managed->state != VOLUME_YIELDING;
}

/* The first volume that refused gives the status. A refusal to lock is news for whoever asked only:
 * the volume itself is well. */
static void answer_if_settled(struct supervisor *supervisor, struct supervisor_client *client)
{
	enum status status = OK;

	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_volume *managed = supervisor->volumes[i];

		if (!is_target(managed, client->target))
			continue;
		if (!is_settled(managed))
			return;
		if (status == OK)
			status = managed->cause;
	}
	answer(supervisor, client->fd, status, client->target, true);
	client->fd = -1;
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (is_target(supervisor->volumes[i], client->target) &&
		    supervisor->volumes[i]->state == VOLUME_SERVING)
			supervisor->volumes[i]->cause = OK;
}

void supervisor_answer_settled(struct supervisor *supervisor)
{
	for (size_t i = 0; i < SUPERVISOR_CLIENTS_MAX; i++)
		if (supervisor->clients[i].fd >= 0)
			answer_if_settled(supervisor, &supervisor->clients[i]);
}

/* Not while a worker changes hands. */
static bool can_be_locked(const struct supervisor *supervisor, const char *target)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (is_target(supervisor->volumes[i], target) &&
		    !volume_state_allows(supervisor->volumes[i]->state, VOLUME_LOCK_ASKED))
			return false;
	return true;
}

static void lock_targets(struct supervisor *supervisor, const char *target, bool force)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (is_target(supervisor->volumes[i], target))
			managed_volume_lock(supervisor->volumes[i], force, supervisor->config);
}

static struct managed_volume *find_target(const struct supervisor *supervisor, const char *target)
{
	for (size_t i = 0; target[0] != '\0' && i < supervisor->volume_count; i++)
		if (is_target(supervisor->volumes[i], target))
			return supervisor->volumes[i];
	return NULL;
}

static enum status recover(struct supervisor *supervisor, struct managed_volume *managed,
			   const struct message_control_request *request)
{
	if (!volume_state_allows(managed->state, VOLUME_UNLOCKED))
		return managed->state == VOLUME_SERVING ? OK : FAIL_DISK_IN_USE;
	TRY(managed_volume_load(managed));
	if (supervisor_name_is_taken(supervisor, managed))
		return FAIL_NAME_TAKEN;
	return managed_volume_recover(managed, request->uuid, request->volume_key,
				      supervisor->config);
}

/* Serves a disk with a volume key that the command has proved; a disk that is not known yet is
 * added, and forgotten again if that fails. */
static enum status recover_target(struct supervisor *supervisor,
				  const struct message_control_request *request)
{
	struct managed_volume *managed = find_target(supervisor, request->target);
	struct managed_volume *added = NULL;
	enum status status;

	if (supervisor->phase != SUPERVISOR_RUNS)
		return FAIL_SERVICE_BUSY;
	if (managed == NULL && request->target[0] == '/')
		managed = added = supervisor_add_disk(supervisor, request->target);
	if (managed == NULL)
		return FAIL_VOLUME_UNKNOWN;
	status = recover(supervisor, managed, request);
	if (status != OK && added != NULL)
		supervisor_forget(supervisor, added);
	return status;
}

static enum status carry_out(struct supervisor *supervisor,
			     const struct message_control_request *request)
{
	switch ((enum control_operation)request->operation) {
	case CONTROL_RECOVER: return recover_target(supervisor, request);
	case CONTROL_LOCK:
		if (request->target[0] != '\0' && find_target(supervisor, request->target) == NULL)
			return FAIL_VOLUME_UNKNOWN;
		if (!can_be_locked(supervisor, request->target))
			return FAIL_SERVICE_BUSY;
		lock_targets(supervisor, request->target, request->force != 0);
		return OK;
	case CONTROL_LOOK: supervisor_look_at_keys_now(supervisor); return OK;
	case CONTROL_STATUS:
		if (request->target[0] != '\0' && find_target(supervisor, request->target) == NULL)
			return FAIL_VOLUME_UNKNOWN;
		return OK;
	case CONTROL_OPERATIONS:
	default: return FAIL_MESSAGE;
	}
}

void supervisor_hear_control(struct supervisor *supervisor)
{
	struct message_control_request request = {0};
	int fd = control_accept(&supervisor->control);
	enum status status;

	if (fd < 0)
		return;
	status = control_receive(fd, &request);
	if (status == OK)
		status = carry_out(supervisor, &request);
	if (status == OK &&
	    (request.operation == CONTROL_LOCK || request.operation == CONTROL_RECOVER))
		hold_client(supervisor, fd, request.target);
	else
		answer(supervisor, fd, status, request.target, status == OK);
	secret_wipe_bytes(&request, sizeof(request));
}
