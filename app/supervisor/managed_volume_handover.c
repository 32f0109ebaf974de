#include "app/supervisor/managed_volume.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "app/worker/worker_socket.h"
#include "platform/log.h"

/* To make room is to end at once. */
#define YIELD_PATIENCE_MS 5000

struct message_handover *managed_volume_handover(const struct managed_volume *managed)
{
	CHECK(managed->handover.bytes != NULL);
	return (struct message_handover *)(void *)managed->handover.bytes;
}

enum status managed_volume_open_handover(struct managed_volume *managed)
{
	if (managed->handover.bytes != NULL)
		return OK;
	return secret_memory_open_hidden(&managed->handover, sizeof(struct message_handover));
}

void managed_volume_hang_up(struct managed_volume *managed)
{
	if (managed->worker.socket_fd >= 0)
		close(managed->worker.socket_fd);
	managed->worker.socket_fd = -1;
}

static bool is_this_program(const struct program_identity *theirs)
{
	const struct program_identity ours = worker_program();

	return theirs->device == ours.device && theirs->inode == ours.inode &&
	       theirs->changed_ns == ours.changed_ns;
}

/* Its end is what follows, and the start of another one. */
static void exchange(struct managed_volume *managed)
{
	struct message_worker_leave leave = {0};

	log_info("the worker of %s runs another program; exchanging it", managed->name);
	managed->due_ms = clock_now_ms() + YIELD_PATIENCE_MS;
	managed_volume_handle(managed, VOLUME_EXCHANGE_ASKED);
	if (message_send(managed->worker.socket_fd, MESSAGE_WORKER_LEAVE, 0, &leave) != OK)
		log_warning("the worker of %s cannot be told to make room",
			    managed_volume_name(managed));
}

void managed_volume_watch(struct managed_volume *managed)
{
	if (managed->state != VOLUME_YIELDING || managed->due_ms > clock_now_ms())
		return;
	log_warning("the worker of %s makes no room; ending it", managed_volume_name(managed));
	process_kill(&managed->worker);
	managed->due_ms = clock_now_ms() + YIELD_PATIENCE_MS;
}

enum status managed_volume_adopt(struct managed_volume *managed, const char *name,
				 const struct config *config)
{
	struct message_handover_request request = {0};
	char path[WORKER_SOCKET_PATH_SIZE];
	enum status status;
	int fd;

	TRY(worker_socket_path(path, config->run_directory, name));
	TRY(worker_socket_connect(&fd, path));
	TRY(process_join(&managed->worker, fd));
	status = managed_volume_open_handover(managed);
	if (status == OK)
		status = message_send(managed->worker.socket_fd, MESSAGE_HANDOVER_REQUEST, 0,
				      &request);
	if (status != OK) {
		process_part(&managed->worker);
		return status;
	}
	snprintf(managed->name, sizeof(managed->name), "%s", name);
	managed_volume_key_remember(managed, config);
	managed_volume_handle(managed, VOLUME_WORKER_FOUND);
	return OK;
}

static bool handover_is_valid(const struct managed_volume *managed)
{
	const struct message_handover *handover = managed_volume_handover(managed);

	return handover->header.type == MESSAGE_HANDOVER && handover->version == HANDOVER_VERSION &&
	       handover->state == WORKER_SERVING &&
	       message_text_is_valid(handover->device_path, sizeof(handover->device_path)) &&
	       message_start_is_valid(&handover->start) &&
	       strcmp(handover->start.name, managed->name) == 0;
}

/* For the reports; a header that cannot be read at this moment does not matter to the worker. */
static void load_for_reports(struct managed_volume *managed)
{
	const struct message_worker_start *start = &managed_volume_handover(managed)->start;

	if (managed_volume_load(managed) != OK)
		log_warning("the header of %s cannot be read", managed->disk_path);
	else if (strcmp(managed->volume.header.uuid, start->uuid) != 0)
		managed->is_loaded = false;
	else if (volume_vault_token(&managed->token, &managed->volume) != OK)
		managed->token = (struct vault_token){0};
	strcpy(managed->name, start->name);
}

/* It serves something, perhaps to a mounted file system, and has the name until it ends, which may
 * be at once: that is then seen as the end of the process. */
static void leave_alone(struct managed_volume *managed)
{
	managed->cause = FAIL_MESSAGE;
	snprintf(managed->detail, sizeof(managed->detail),
		 "its worker, process %d, is of another version; it serves on, until it ends",
		 (int)managed->worker.pid);
	log_warning("%s: %s", managed->name, managed->detail);
	managed_volume_hang_up(managed);
	secret_memory_close(&managed->handover);
}

void managed_volume_hear_handover(struct managed_volume *managed)
{
	struct message_handover *handover = managed_volume_handover(managed);
	enum status status =
		message_receive(managed->worker.socket_fd, &handover->header, sizeof(*handover));

	if (status != OK || !handover_is_valid(managed)) {
		leave_alone(managed);
		return;
	}
	snprintf(managed->disk_path, sizeof(managed->disk_path), "%s", handover->start.disk_path);
	snprintf(managed->device_path, sizeof(managed->device_path), "%s", handover->device_path);
	load_for_reports(managed);
	managed_volume_handle(managed, VOLUME_WORKER_SERVES);
	managed_volume_publish(managed);
	log_info("%s on %s is served on by process %d", managed->name, managed->disk_path,
		 (int)managed->worker.pid);
	if (!is_this_program(&handover->program))
		exchange(managed);
}
