#include "app/managed_volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/agent_session.h"
#include "app/data_path.h"
#include "app/key_url.h"
#include "crypto/base64.h"
#include "platform/entropy.h"
#include "platform/file.h"
#include "platform/log.h"

#define BACKOFF_BASE_MS 1000
#define SAME_CAUSE_LOGGED_AGAIN_MS (5 * 60 * 1000)

/* A volume that has been served for this long counts as well: its next failure is tried anew at
 * once. */
#define SERVED_WELL_MS (60 * 1000)

/* A server may ask for patience, not for giving up. */
#define RETRY_WAIT_MAX_LEAST_MS (60 * 1000)

/* What a header may cost the process that all volumes depend on. byok's own vault slots have 1000
 * iterations, since their secret has full entropy; a digest made by cryptsetup takes about 125 ms.
 */
#define VAULT_SLOT_ITERATIONS_MAX 100000
#define DIGEST_ITERATIONS_MAX 2000000

void managed_volume_init(struct managed_volume *managed, const char *disk_path,
			 const struct config *config)
{
	const uint64_t cap_ms = (uint64_t)config->retry_cap_s * 1000;

	*managed = (struct managed_volume){
		.state = VOLUME_FOUND,
		.since_ms = clock_now_ms(),
		.backoff = {.base_ms = BACKOFF_BASE_MS, .cap_ms = cap_ms},
		.retry_wait_max_ms = MAXIMUM(cap_ms, RETRY_WAIT_MAX_LEAST_MS),
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
	managed->is_loaded = false;
	TRY(volume_load(&managed->volume, managed->disk_path));
	TRY(volume_check_policy(&managed->layout, &managed->volume));
	TRY(volume_name_check(managed->volume.header.label));
	managed->is_loaded = true;
	/* The check has found a NUL within the name's size. */
	strcpy(managed->name, managed->volume.header.label);
	return OK;
}

/* Whoever can write to a disk can put a header of his own on it, under a key of his own. */
static enum status check_key_is_ours(const struct vault_token *token, const struct config *config)
{
	struct key_url ours, theirs;

	if (config->require_key == 0)
		return OK;
	TRY(key_url_parse(&ours, config->key));
	TRY(key_url_parse(&theirs, token->current.kid));
	return key_url_same_key(&ours, &theirs) ? OK : FAIL_KEY_FOREIGN;
}

static enum status check_cost(const struct managed_volume *managed)
{
	const struct luks2_metadata *metadata = &managed->volume.metadata;
	const struct luks2_kdf *kdf = &metadata->keyslots[managed->token.keyslot].kdf;

	if (kdf->kind != LUKS2_KDF_PBKDF2 || kdf->iterations > VAULT_SLOT_ITERATIONS_MAX ||
	    metadata->digests[managed->layout.digest].iterations > DIGEST_ITERATIONS_MAX)
		return FAIL_KDF_COST;
	return OK;
}

enum status managed_volume_request(struct managed_volume *managed,
				   struct message_agent_request *request,
				   const struct config *config)
{
	const struct vault_wrapping *wrapping = &managed->token.current;

	TRY(volume_vault_token(&managed->token, &managed->volume));
	TRY(check_key_is_ours(&managed->token, config));
	TRY(check_cost(managed));
	TRY(agent_request_init(request, AGENT_UNWRAP, wrapping->kid,
			       config->identity[0] != '\0' ? config->identity
							   : managed->token.identity));
	snprintf(request->algorithm, sizeof(request->algorithm), "%s", wrapping->algorithm);
	snprintf(request->wrapped, sizeof(request->wrapped), "%s", wrapping->wrapped);
	return OK;
}

void managed_volume_asked(struct managed_volume *managed, uint32_t request_id, uint64_t due_ms)
{
	managed->request_id = request_id;
	managed->due_ms = due_ms;
	handle_event(managed, VOLUME_KEY_ASKED);
}

bool managed_volume_same_secret(const struct managed_volume *a, const struct managed_volume *b)
{
	return strcmp(a->token.current.kid, b->token.current.kid) == 0 &&
	       strcmp(a->token.current.wrapped, b->token.current.wrapped) == 0;
}

static enum status send_start(struct managed_volume *managed, struct message_worker_start *start)
{
	enum status status;

	TRY(process_start(&managed->worker, "worker", managed->name));
	status = process_never_wait(&managed->worker);
	if (status == OK)
		status = message_send(managed->worker.socket_fd, MESSAGE_WORKER_START, 0, start);
	if (status != OK)
		process_end(&managed->worker, 0);
	return status;
}

/* The volume key leaves this process with the message; the copy here is wiped. */
static enum status start_worker(struct managed_volume *managed, const uint8_t volume_key[static 64],
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

	snprintf(start.disk_path, sizeof(start.disk_path), "%s", managed->disk_path);
	snprintf(start.name, sizeof(start.name), "%s", managed->name);
	if (start.data_path == DATA_PATH_NBD_SOCKET &&
	    (size_t)snprintf(start.socket_path, sizeof(start.socket_path), "%s/%s.nbd",
			     config->run_directory, managed->name) >= sizeof(start.socket_path))
		return FAIL_NBD_SOCKET;
	memcpy(start.volume_key, volume_key, sizeof(start.volume_key));
	status = send_start(managed, &start);
	secret_wipe_bytes(&start, sizeof(start));
	TRY(status);
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
	CHECK(volume_key.size == 64);
	return start_worker(managed, volume_key.bytes, config);
}

enum status managed_volume_recover(struct managed_volume *managed, const char *uuid,
				   const uint8_t volume_key[static 64], const struct config *config)
{
	if (strcmp(managed->volume.header.uuid, uuid) != 0)
		return FAIL_HEADER_CHANGED;
	return start_worker(managed, volume_key, config);
}

/* A volume that has failed in the same way for hours needs a line now and then, not one each time.
 */
static void log_failure(struct managed_volume *managed, uint64_t now_ms, uint64_t wait_ms)
{
	const char *detail = managed->detail;

	if (managed->cause == managed->logged_cause &&
	    now_ms - managed->logged_ms < SAME_CAUSE_LOGGED_AGAIN_MS)
		return;
	managed->logged_cause = managed->cause;
	managed->logged_ms = now_ms;
	log_warning("%s on %s is locked: %s%s%s%s; %s; tried again until it works (next in %.1f s)",
		    name_for_log(managed), managed->disk_path, status_sentence(managed->cause),
		    detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "",
		    status_advice(managed->cause), (double)wait_ms / 1000);
}

void managed_volume_fail(struct managed_volume *managed, enum status cause, const char *detail,
			 uint64_t retry_after_ms)
{
	uint64_t now_ms = clock_now_ms();
	uint64_t wait_ms = backoff_next_ms(&managed->backoff, entropy_u32(),
					   MINIMUM(retry_after_ms, managed->retry_wait_max_ms));

	handle_event(managed, VOLUME_FAILED);
	managed->cause = cause;
	snprintf(managed->detail, sizeof(managed->detail), "%s", detail);
	managed->due_ms = now_ms + wait_ms;
	log_failure(managed, now_ms, wait_ms);
}

static void link_path(const struct managed_volume *managed, char path[static 128])
{
	snprintf(path, 128, MANAGED_VOLUME_DEVICES "/%s", managed->name);
}

/* Has udev look at the device again, now that it has its name, so that systemd sees it. */
static void tell_udev(const char *device)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/block/%s/uevent", device);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (file_write_all(fd, "change", 6) != OK)
		log_warning("cannot tell udev of %s", device);
	close(fd);
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
	tell_udev(managed->device_path + 5);
}

static void unpublish(struct managed_volume *managed)
{
	char path[128];

	if (strncmp(managed->device_path, "/dev/", 5) == 0) {
		link_path(managed, path);
		(void)unlink(path);
	}
	managed->device_path[0] = '\0';
}

/* It may be told to stop before it has said that it serves, and then refuse: so the device is taken
 * note of in either state. */
static void worker_serves(struct managed_volume *managed, const char *device_path)
{
	snprintf(managed->device_path, sizeof(managed->device_path), "%s", device_path);
	handle_event(managed, VOLUME_WORKER_SERVES);
	managed->logged_cause = OK;
	publish(managed);
	log_info("%s on %s is unlocked: " MANAGED_VOLUME_DEVICES "/%s is %s", managed->name,
		 managed->disk_path, managed->name, managed->device_path);
}

static void hear_state(struct managed_volume *managed, const struct message_worker_state *message)
{
	enum status status = (enum status)message->status;
	bool is_expected = managed->state == VOLUME_STARTING || managed->state == VOLUME_STOPPING;

	if (message->state == WORKER_FAILED)
		managed->cause = status; /* its end follows, and tells what becomes of it */
	if (message->state != WORKER_SERVING || !is_expected)
		return;
	if (status == OK && managed->device_path[0] == '\0') {
		worker_serves(managed, message->device_path);
	} else if (status != OK && managed->state == VOLUME_STOPPING) {
		handle_event(managed, VOLUME_LOCK_REFUSED);
		managed->cause = status;
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
	/* A worker that hears nobody is left alone: it may be serving a mounted file system. */
	if (message_send(managed->worker.socket_fd, MESSAGE_WORKER_STOP, 0, &stop) != OK)
		log_error("the worker of %s cannot be told to stop", name_for_log(managed));
}

bool managed_volume_reap(struct managed_volume *managed, pid_t pid, int wait_status)
{
	bool was_wanted = managed->state == VOLUME_STOPPING;
	bool was_well = managed->state == VOLUME_SERVING &&
			clock_now_ms() - managed->since_ms >= SERVED_WELL_MS;

	if (managed->worker.pid != pid)
		return false;
	/* What it said last may still be in the socket. */
	while (managed->worker.socket_fd >= 0)
		managed_volume_hear_worker(managed);
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
	if (was_well)
		backoff_reset(&managed->backoff);
	managed_volume_fail(managed, managed->cause != OK ? managed->cause : FAIL_ROLE_DIED, "", 0);
	return true;
}
