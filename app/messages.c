#include "app/messages.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "app/volume_name.h"
#include "platform/bytes.h"
#include "platform/log.h"

/* What binaries of different age say to each other; see HANDOVER_VERSION. */
#define FROZEN(fact) _Static_assert(fact, "binaries of different age must understand each other")
#define START_AT(field, place) FROZEN(offsetof(struct message_worker_start, field) == (place))

FROZEN(MESSAGE_VERSION == 1 && sizeof(struct message_header) == 16);
FROZEN(MESSAGE_HANDOVER_REQUEST == 10 && sizeof(struct message_handover_request) == 20);
FROZEN(MESSAGE_HANDOVER == 11 && offsetof(struct message_handover, version) == 84);

FROZEN(MESSAGE_WORKER_STOP == 5 && sizeof(struct message_worker_stop) == 20);
FROZEN(MESSAGE_WORKER_STATE == 6 && sizeof(struct message_worker_state) == 88);
FROZEN(MESSAGE_WORKER_LEAVE == 12 && sizeof(struct message_worker_leave) == 20);
FROZEN(offsetof(struct message_handover, device_path) == 20);
FROZEN(offsetof(struct message_handover, program) == 88);
FROZEN(offsetof(struct message_handover, start) == 112);
FROZEN(sizeof(struct message_handover) == 1216 && sizeof(struct message_worker_start) == 1104);
FROZEN(WORKER_STARTING == 1 && WORKER_SERVING == 2 && WORKER_STOPPED == 3 && WORKER_FAILED == 4);
FROZEN(WORKER_SERVES == 0 && WORKER_REMOVES_REMAINS == 1);
FROZEN(DATA_PATH_UBLK == 1 && DATA_PATH_NBD_SOCKET == 2 && DATA_PATH_DM_CRYPT == 3 &&
       DATA_PATH_NBD_KERNEL == 4);
START_AT(disk_path, 16);
START_AT(name, 272);
START_AT(socket_path, 336);
START_AT(data_path, 592);
START_AT(sector_size, 596);
START_AT(data_offset_bytes, 600);
START_AT(data_size_bytes, 608);
START_AT(first_unit, 616);
START_AT(is_read_only, 624);
START_AT(queue_count, 628);
START_AT(volume_key, 632);
START_AT(purpose, 696);
START_AT(worker_path, 700);
START_AT(uuid, 808);
START_AT(mark, 848);
START_AT(allows_discards, 856);
START_AT(reserved, 860);

size_t message_size(enum message_type type)
{
	static const size_t sizes[MESSAGE_TYPES] = {
		[MESSAGE_AGENT_CONFIGURE] = sizeof(struct message_agent_configure),
		[MESSAGE_AGENT_REQUEST] = sizeof(struct message_agent_request),
		[MESSAGE_AGENT_ANSWER] = sizeof(struct message_agent_answer),
		[MESSAGE_WORKER_START] = sizeof(struct message_worker_start),
		[MESSAGE_WORKER_STOP] = sizeof(struct message_worker_stop),
		[MESSAGE_WORKER_STATE] = sizeof(struct message_worker_state),
		[MESSAGE_CONTROL_REQUEST] = sizeof(struct message_control_request),
		[MESSAGE_CONTROL_VOLUME] = sizeof(struct message_control_volume),
		[MESSAGE_CONTROL_DONE] = sizeof(struct message_control_done),
		[MESSAGE_HANDOVER_REQUEST] = sizeof(struct message_handover_request),
		[MESSAGE_HANDOVER] = sizeof(struct message_handover),
		[MESSAGE_WORKER_LEAVE] = sizeof(struct message_worker_leave),
		[MESSAGE_WORKER_PREPARE] = sizeof(struct message_worker_start),
	};

	return (unsigned)type < MESSAGE_TYPES ? sizes[type] : 0;
}

/* What the kernel says when the other end has closed its socket or died. */
static bool is_gone(int error_number)
{
	return error_number == EPIPE || error_number == ECONNRESET || error_number == ENOTCONN;
}

enum status message_send(int fd, enum message_type type, uint32_t id, void *message)
{
	struct message_header *header = message;
	size_t size = message_size(type);
	ssize_t sent;

	CHECK(size > 0);
	*header = (struct message_header){
		.version = MESSAGE_VERSION,
		.type = type,
		.size = (uint32_t)size,
		.id = id,
	};
	do
		sent = send(fd, message, size, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent == (ssize_t)size)
		return OK;
	if (sent < 0 && is_gone(errno))
		return FAIL_ROLE_DIED;
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot send a message of type %u", (unsigned)type);
	return FAIL_SYSTEM;
}

enum status message_receive(int fd, struct message_header *message, size_t message_size_max)
{
	ssize_t received;

	CHECK(message_size_max >= sizeof(*message));
	do
		/* With MSG_TRUNC the answer is the packet's true size, so that one that is too
		 * large is seen to be. No room is given for descriptors: the kernel closes them. */
		received = recv(fd, message, message_size_max, MSG_TRUNC);
	while (received < 0 && errno == EINTR);
	if (received == 0 || (received < 0 && is_gone(errno)))
		return FAIL_ROLE_DIED;
	if (received < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "cannot receive a message");
		return FAIL_SYSTEM;
	}
	if ((size_t)received < sizeof(*message) || (size_t)received > message_size_max ||
	    message->version != MESSAGE_VERSION || message->type >= MESSAGE_TYPES ||
	    message->size != (size_t)received ||
	    message_size((enum message_type)message->type) != (size_t)received)
		return FAIL_MESSAGE;
	return OK;
}

bool message_start_is_valid(const struct message_worker_start *start)
{
	uint64_t end;

	return message_text_is_valid(start->disk_path, sizeof(start->disk_path)) &&
	       message_text_is_valid(start->name, sizeof(start->name)) &&
	       message_text_is_valid(start->socket_path, sizeof(start->socket_path)) &&
	       message_text_is_valid(start->worker_path, sizeof(start->worker_path)) &&
	       message_text_is_valid(start->uuid, sizeof(start->uuid)) &&
	       volume_name_check(start->name) == OK && start->data_path > 0 &&
	       start->data_path < DATA_PATH_KINDS && start->purpose < WORKER_PURPOSES &&
	       (start->sector_size == 512 || start->sector_size == 4096) &&
	       start->data_offset_bytes % start->sector_size == 0 && start->data_size_bytes > 0 &&
	       start->data_size_bytes % start->sector_size == 0 &&
	       bytes_add(&end, start->data_offset_bytes, start->data_size_bytes);
}

bool message_text_is_valid(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\0')
			return true;
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	}
	return false;
}

bool message_text_set(char *target, size_t size, const char *text)
{
	size_t length = strlen(text);

	if (length >= size || !message_text_is_valid(text, length + 1))
		return false;
	memcpy(target, text, length + 1);
	return true;
}
