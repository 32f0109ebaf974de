#include "app/managed_volume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/agent_session.h"
#include "app/data_path.h"
#include "crypto/base64.h"
#include "platform/entropy.h"
#include "platform/file.h"
#include "platform/log.h"

#define BACKOFF_BASE_MS 1000
#define SAME_CAUSE_LOGGED_AGAIN_MS (5 * 60 * 1000)

void managed_volume_init(struct managed_volume *managed, const char *disk_path,
			 const struct config *config)
{
	*managed = (struct managed_volume){
		.state = VOLUME_FOUND,
		.since_ms = clock_now_ms(),
		.backoff = {.base_ms = BACKOFF_BASE_MS,
			    .cap_ms = (uint64_t)config->retry_cap_s * 1000},
		.worker = {.socket_fd = -1},
	};
	snprintf(managed->disk_path, sizeof(managed->disk_path), "%s", disk_path);
}

static void handle_event(struct managed_volume *managed, enum volume_event event)
{
	enum volume_state next = volume_state_next(managed->state, event);

	if (next != managed->state)
		managed->since_ms = clock_now_ms();
	managed->state = next;
}

static const char *name_for_log(const struct managed_volume *managed)
{
	return managed->name[0] != '\0' ? managed->name : "(no name)";
}

enum status managed_volume_load(struct managed_volume *managed)
{
	TRY(volume_load(&managed->volume, managed->disk_path));
	TRY(volume_check_policy(&managed->layout, &managed->volume));
	TRY(volume_name_check(managed->volume.header.label));
	memcpy(managed->name, managed->volume.header.label, sizeof(managed->name) - 1);
	return OK;
}

enum status managed_volume_request(struct managed_volume *managed,
				   struct message_agent_request *request,
				   const struct config *config)
{
	const struct vault_wrapping *wrapping = &managed->token.current;

	TRY(volume_vault_token(&managed->token, &managed->volume));
	TRY(agent_request_init(request, AGENT_UNWRAP, wrapping->kid,
			       config->identity[0] != '\0' ? config->identity
							   : managed->token.identity));
	snprintf(request->algorithm, sizeof(request->algorithm), "%s", wrapping->algorithm);
	snprintf(request->wrapped, sizeof(request->wrapped), "%s", wrapping->wrapped);
	return OK;
}

void managed_volume_asked(struct managed_volume *managed, uint32_t request_id)
{
	managed->request_id = request_id;
	handle_event(managed, VOLUME_KEY_ASKED);
}

bool managed_volume_same_secret(const struct managed_volume *a, const struct managed_volume *b)
{
	return strcmp(a->token.current.kid, b->token.current.kid) == 0 &&
	       strcmp(a->token.current.wrapped, b->token.current.wrapped) == 0;
}

/* The volume key leaves this process with the message; both copies here are wiped. */
static enum status start_worker(struct managed_volume *managed, const struct secret *volume_key,
				const struct config *config)
{
	struct message_worker_start start = {
		.data_path = data_path_choose(config),
		.sector_size = managed->layout.sector_size,
		.data_offset_bytes = managed->layout.data_offset_bytes,
		.data_size_bytes = managed->layout.data_size_bytes,
		.first_unit = managed->layout.first_unit,
		.is_read_only = managed->volume.is_read_only,
		.queue_count = config->queue_count,
	};
	enum status status;

	CHECK(volume_key->size == sizeof(start.volume_key));
	snprintf(start.disk_path, sizeof(start.disk_path), "%s", managed->disk_path);
	snprintf(start.name, sizeof(start.name), "%s", managed->name);
	if ((size_t)snprintf(start.socket_path, sizeof(start.socket_path), "%s/%s.nbd",
			     config->run_directory, managed->name) >= sizeof(start.socket_path))
		return FAIL_NBD_SOCKET;
	TRY(process_start(&managed->worker, "worker", managed->name));
	memcpy(start.volume_key, volume_key->bytes, sizeof(start.volume_key));
	status = message_send(managed->worker.socket_fd, MESSAGE_WORKER_START, 0, &start);
	secret_wipe_bytes(&start, sizeof(start));
	if (status != OK) {
		process_end(&managed->worker, 0);
		return status;
	}
	handle_event(managed, VOLUME_UNLOCKED);
	managed->cause = OK;
	managed->detail[0] = '\0';
	return OK;
}

enum status managed_volume_unlock(struct managed_volume *managed, const uint8_t secret[static 32],
				  const struct config *config)
{
	SECRET_SCOPE struct secret volume_key = {0};
	SECRET_SCOPE struct secret passphrase = {0};
	enum status status;

	/* The slot's passphrase is the secret's base64 text, so that cryptsetup can be given it. */
	passphrase.size = base64_encode((char *)passphrase.bytes, secret, 32, BASE64_STANDARD);
	status = volume_unlock(&volume_key, &managed->volume, (int)managed->token.keyslot,
			       passphrase.bytes, passphrase.size);
	if (status == FAIL_WRONG_KEY)
		return FAIL_WRAPPED_MISMATCH;
	TRY(status);
	return start_worker(managed, &volume_key, config);
}

enum status managed_volume_recover(struct managed_volume *managed, const void *passphrase,
				   size_t passphrase_size, const struct config *config)
{
	SECRET_SCOPE struct secret volume_key = {0};

	TRY(managed_volume_load(managed));
	TRY(volume_unlock(&volume_key, &managed->volume, VOLUME_ANY_KEYSLOT, passphrase,
			  passphrase_size));
	return start_worker(managed, &volume_key, config);
}

void managed_volume_fail(struct managed_volume *managed, enum status cause, const char *detail,
			 uint64_t retry_after_ms)
{
	uint64_t now_ms = clock_now_ms();
	uint64_t wait_ms = backoff_next_ms(&managed->backoff, entropy_u32(), retry_after_ms);
	bool is_new = cause != managed->cause;

	handle_event(managed, VOLUME_FAILED);
	managed->cause = cause;
	snprintf(managed->detail, sizeof(managed->detail), "%s", detail);
	managed->next_try_ms = now_ms + wait_ms;
	if (!is_new && now_ms - managed->logged_ms < SAME_CAUSE_LOGGED_AGAIN_MS)
		return;
	managed->logged_ms = now_ms;
	log_warning(
		"%s on %s is locked: %s%s%s%s; %s; trying again until it works (next in %.1f s)",
		name_for_log(managed), managed->disk_path, status_sentence(cause),
		detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "",
		status_advice(cause), (double)wait_ms / 1000);
}

static void link_path(const struct managed_volume *managed, char path[static 128])
{
	snprintf(path, 128, MANAGED_VOLUME_DEVICES "/%s", managed->name);
}

/* An old link of the same name is of a device that is gone: names are unique among the served. */
static void publish(const struct managed_volume *managed)
{
	char path[128], target[80];

	if (strncmp(managed->device_path, "/dev/", 5) != 0)
		return; /* a socket, which is found by its own path */
	link_path(managed, path);
	snprintf(target, sizeof(target), "../%s", managed->device_path + 5);
	if (file_make_folder(MANAGED_VOLUME_DEVICES) != OK)
		return;
	/* Others than root may see what is served; the device keeps its own mode. */
	(void)chmod(MANAGED_VOLUME_DEVICES, 0755);
	(void)unlink(path);
	if (symlink(target, path) != 0)
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot make %s", path);
}

static void unpublish(struct managed_volume *managed)
{
	char path[128];

	if (managed->device_path[0] == '\0')
		return;
	link_path(managed, path);
	(void)unlink(path);
	managed->device_path[0] = '\0';
}

static void worker_serves(struct managed_volume *managed, const struct message_worker_state *state)
{
	snprintf(managed->device_path, sizeof(managed->device_path), "%s", state->device_path);
	handle_event(managed, VOLUME_WORKER_SERVES);
	backoff_reset(&managed->backoff);
	publish(managed);
	log_info("%s on %s is unlocked: " MANAGED_VOLUME_DEVICES "/%s is %s", managed->name,
		 managed->disk_path, managed->name, managed->device_path);
}

static void hear_state(struct managed_volume *managed, const struct message_worker_state *message)
{
	enum status status = (enum status)message->status;

	switch ((enum worker_state)message->state) {
	case WORKER_SERVING:
		if (managed->state == VOLUME_STARTING) {
			worker_serves(managed, message);
		} else if (managed->state == VOLUME_STOPPING && status != OK) {
			handle_event(managed, VOLUME_LOCK_REFUSED);
			managed->cause = status;
		}
		return;
	case WORKER_FAILED:
		managed->cause = status;
		return; /* its end follows, and tells what becomes of the volume */
	case WORKER_STARTING:
	case WORKER_STOPPED:
	case WORKER_STATES:
	default: return;
	}
}

static void end_worker_socket(struct managed_volume *managed)
{
	if (managed->worker.socket_fd >= 0)
		close(managed->worker.socket_fd);
	managed->worker.socket_fd = -1;
}

void managed_volume_hear_worker(struct managed_volume *managed)
{
	struct message_worker_state message = {0};
	enum status status, reported;

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
			  name_for_log(managed));
	end_worker_socket(managed); /* the reaping of the process does the rest */
}

void managed_volume_lock(struct managed_volume *managed, bool force)
{
	struct message_worker_stop stop = {.force = force};

	if (!volume_state_allows(managed->state, VOLUME_LOCK_ASKED))
		return;
	handle_event(managed, VOLUME_LOCK_ASKED);
	managed->cause = OK;
	managed->detail[0] = '\0';
	managed->request_id = 0;
	if (managed->state != VOLUME_STOPPING || managed->worker.socket_fd < 0)
		return;
	if (message_send(managed->worker.socket_fd, MESSAGE_WORKER_STOP, 0, &stop) != OK)
		end_worker_socket(managed);
}

bool managed_volume_reap(struct managed_volume *managed, pid_t pid, int wait_status)
{
	bool was_wanted = managed->state == VOLUME_STOPPING;
	enum status cause = managed->cause != OK ? managed->cause : FAIL_ROLE_DIED;

	if (managed->worker.pid != pid)
		return false;
	/* What it said last may still be in the socket. */
	while (managed->worker.socket_fd >= 0)
		managed_volume_hear_worker(managed);
	if (managed->cause != OK)
		cause = managed->cause;
	managed->worker = (struct process){.socket_fd = -1};
	unpublish(managed);
	handle_event(managed, VOLUME_WORKER_ENDED);
	if (was_wanted) {
		managed->cause = OK;
		log_info("%s on %s is locked", managed->name, managed->disk_path);
		return true;
	}
	if (WIFSIGNALED(wait_status))
		log_error("the worker of %s was killed by signal %d", managed->name,
			  WTERMSIG(wait_status));
	managed->cause = OK; /* so that the failure counts as new, and is said */
	managed_volume_fail(managed, cause, "", 0);
	return true;
}
