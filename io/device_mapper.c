#include "io/device_mapper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/log.h"
#include "platform/secret.h"

/* What every ioctl carries: its header, and behind it one target with its parameters. */
struct packet {
	struct dm_ioctl header;
	struct dm_target_spec target;
	char parameters[DEVICE_MAPPER_PARAMETERS_SIZE];
};

_Static_assert(sizeof(struct dm_ioctl) == 312 && offsetof(struct packet, target) == 312,
	       "the target begins right behind the header");
_Static_assert(sizeof(struct dm_target_spec) == 40, "its parameters follow it at once");
_Static_assert(DEVICE_MAPPER_NAME_SIZE == DM_NAME_LEN && DEVICE_MAPPER_UUID_SIZE == DM_UUID_LEN,
	       "names are as long as the kernel's");
_Static_assert(sizeof(((struct device_mapper_table *)0)->target) == DM_MAX_TYPE_NAME,
	       "the kinds of target too");

enum status device_mapper_open(int *control_fd)
{
	*control_fd = open(DEVICE_MAPPER_CONTROL, O_RDWR | O_CLOEXEC);
	if (*control_fd >= 0)
		return OK;
	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO: return FAIL_DM_CRYPT_ABSENT;
	case EACCES:
	case EPERM: return FAIL_NOT_ROOT;
	default:
		log_errno(LOG_PRIORITY_ERROR, errno, DEVICE_MAPPER_CONTROL);
		return FAIL_DM_CRYPT;
	}
}

static void prepare(struct packet *packet, const char *name, uint32_t flags)
{
	*packet = (struct packet){
		.header = {.version = {DM_VERSION_MAJOR, 0, 0},
			   .data_size = sizeof(*packet),
			   .data_start = offsetof(struct packet, target),
			   .flags = flags},
	};
	snprintf(packet->header.name, sizeof(packet->header.name), "%s", name);
}

/* musl and glibc disagree about the type of ioctl's request; the system call takes a long. */
static int run(int control_fd, unsigned long request, struct packet *packet)
{
	return syscall(SYS_ioctl, control_fd, request, packet) == 0 ? 0 : errno;
}

int device_mapper_find_target(int control_fd, const char *target)
{
	struct packet packet;

	prepare(&packet, target, 0);
	return run(control_fd, DM_GET_TARGET_VERSION, &packet);
}

/* The kernel gives device numbers as new_encode_dev does: the low 32 bits of the C library's. */
int device_mapper_create(int control_fd, const char *name, const char *uuid, dev_t *device)
{
	struct packet packet;
	int error;

	prepare(&packet, name, 0);
	snprintf(packet.header.uuid, sizeof(packet.header.uuid), "%s", uuid);
	error = run(control_fd, DM_DEV_CREATE, &packet);
	if (error == 0)
		*device = (dev_t)packet.header.dev;
	return error;
}

int device_mapper_load(int control_fd, const char *name, const struct device_mapper_table *table)
{
	struct packet packet;

	prepare(&packet, name,
		DM_SECURE_DATA_FLAG | (table->is_read_only ? DM_READONLY_FLAG : 0));
	packet.header.target_count = 1;
	packet.target.length = table->size_sectors;
	packet.target.next = sizeof(packet.target) + sizeof(packet.parameters);
	snprintf(packet.target.target_type, sizeof(packet.target.target_type), "%s", table->target);
	snprintf(packet.parameters, sizeof(packet.parameters), "%s", table->parameters);
	return run(control_fd, DM_TABLE_LOAD, &packet);
}

/* A suspend without the flag to suspend is a resume. */
int device_mapper_resume(int control_fd, const char *name, bool at_once)
{
	struct packet packet;

	prepare(&packet, name, at_once ? DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG : 0);
	return run(control_fd, DM_DEV_SUSPEND, &packet);
}

int device_mapper_look(int control_fd, const char *name, struct device_mapper_state *state)
{
	struct packet packet;
	int error;

	prepare(&packet, name, DM_STATUS_TABLE_FLAG | DM_NOFLUSH_FLAG | DM_SECURE_DATA_FLAG);
	error = run(control_fd, DM_TABLE_STATUS, &packet);
	if (error != 0)
		return error;
	*state = (struct device_mapper_state){
		.device = (dev_t)packet.header.dev,
		.open_count = (unsigned)packet.header.open_count,
		.table.is_read_only = (packet.header.flags & DM_READONLY_FLAG) != 0,
	};
	memcpy(state->uuid, packet.header.uuid, sizeof(state->uuid) - 1);
	/* A table of several targets, or one too long for the packet, is none of ours. */
	if (packet.header.target_count != 1 || (packet.header.flags & DM_BUFFER_FULL_FLAG) != 0 ||
	    packet.header.data_start != offsetof(struct packet, target))
		return 0;
	state->table.size_sectors = packet.target.length;
	memcpy(state->table.target, packet.target.target_type, sizeof(state->table.target) - 1);
	memcpy(state->table.parameters, packet.parameters, sizeof(state->table.parameters) - 1);
	return 0;
}

int device_mapper_remove(int control_fd, const char *name, bool later)
{
	struct packet packet;

	prepare(&packet, name, later ? DM_DEFERRED_REMOVE : 0);
	return run(control_fd, DM_DEV_REMOVE, &packet);
}
