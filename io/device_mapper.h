/* The kernel's device mapper, by its ioctls: one device of one target at a time. What the target
 * does is the caller's business. */
#ifndef IO_DEVICE_MAPPER_H
#define IO_DEVICE_MAPPER_H

#include <sys/types.h>

#include "platform/status.h"

#define DEVICE_MAPPER_CONTROL "/dev/mapper/control"
#define DEVICE_MAPPER_NAME_SIZE 128
#define DEVICE_MAPPER_UUID_SIZE 129
#define DEVICE_MAPPER_PARAMETERS_SIZE 512

struct device_mapper_table {
	uint64_t size_sectors; /* of 512 bytes */
	char target[16];       /* "crypt", "error"; empty: there is no table */
	char parameters[DEVICE_MAPPER_PARAMETERS_SIZE];
	bool is_read_only;
};

struct device_mapper_state {
	dev_t device;
	unsigned open_count;
	char uuid[DEVICE_MAPPER_UUID_SIZE];
	struct device_mapper_table table; /* the live one, by device_mapper_look only */
};

/* A descriptor of the control device, which the caller closes. FAIL_DM_CRYPT_ABSENT (not logged) if
 * the kernel has no device mapper, FAIL_NOT_ROOT, else FAIL_DM_CRYPT (logged). */
MUST_CHECK enum status device_mapper_open(int *control_fd);

/* 0, or the errno with which the kernel refused. Nothing is logged: what a refusal means depends on
 * the caller. */
MUST_CHECK int device_mapper_find_target(int control_fd, const char *target);
MUST_CHECK int device_mapper_create(int control_fd, const char *name, const char *uuid,
				    dev_t *device);
/* Sets the table that the next resume makes live; the kernel wipes its copy of the parameters. */
MUST_CHECK int device_mapper_load(int control_fd, const char *name,
				  const struct device_mapper_table *table);
/* `at_once`: neither file systems nor requests under way are waited for. */
MUST_CHECK int device_mapper_resume(int control_fd, const char *name, bool at_once);
MUST_CHECK int device_mapper_look(int control_fd, const char *name,
				  struct device_mapper_state *state);
/* `later`: if it is still open, when it is closed. */
MUST_CHECK int device_mapper_remove(int control_fd, const char *name, bool later);

#endif
