/* The kernel's ublk interface, in our own words: numbers, structures and flag bits as the driver
 * has them since Linux 6.12. Debian 12's own header is from 6.1 and knows neither the encoded
 * commands nor GET_FEATURES. Little-endian machines only, as all of byok.
 *
 * Facts only, no functions; what they are for stands in ublk_control.h and ublk_queue.h. Left out
 * is what byok does not use: zoned devices, user copy, zero copy, unprivileged devices.
 */
#ifndef IO_UBLK_ABI_H
#define IO_UBLK_ABI_H

#include "platform/base.h"

#define UBLK_CONTROL_PATH "/dev/ublk-control"

/* Commands are numbered as ioctls of type 'u': direction (1 kernel reads, 2 kernel writes), size
 * of the structure that goes with them, type, number. The bare numbers of the first kernels are an
 * option of the kernel's configuration, so that only this form is sure to be understood. */
#define UBLK_COMMAND(direction, structure, number)                                              \
	((uint32_t)(direction) << 30 | (uint32_t)sizeof(structure) << 16 | (uint32_t)'u' << 8 | \
	 (uint32_t)(number))

#define UBLK_GET_QUEUE_AFFINITY UBLK_COMMAND(2, struct ublk_control_command, 0x01)
#define UBLK_GET_DEVICE_INFO UBLK_COMMAND(2, struct ublk_control_command, 0x02)
#define UBLK_ADD_DEVICE UBLK_COMMAND(3, struct ublk_control_command, 0x04)
#define UBLK_DELETE_DEVICE UBLK_COMMAND(3, struct ublk_control_command, 0x05)
#define UBLK_START_DEVICE UBLK_COMMAND(3, struct ublk_control_command, 0x06)
#define UBLK_STOP_DEVICE UBLK_COMMAND(3, struct ublk_control_command, 0x07)
#define UBLK_SET_PARAMETERS UBLK_COMMAND(3, struct ublk_control_command, 0x08)
#define UBLK_START_RECOVERY UBLK_COMMAND(3, struct ublk_control_command, 0x10)
#define UBLK_END_RECOVERY UBLK_COMMAND(3, struct ublk_control_command, 0x11)
#define UBLK_GET_FEATURES UBLK_COMMAND(2, struct ublk_control_command, 0x13)
#define UBLK_DELETE_DEVICE_LATER UBLK_COMMAND(2, struct ublk_control_command, 0x14)

#define UBLK_FETCH UBLK_COMMAND(3, struct ublk_io_command, 0x20)
#define UBLK_COMMIT_AND_FETCH UBLK_COMMAND(3, struct ublk_io_command, 0x21)

/* What goes with a control command: behind the first 48 bytes of a 128-byte submission. */
struct ublk_control_command {
	uint32_t device_id;
	uint16_t queue_id;    /* UBLK_NO_QUEUE in all that byok sends */
	uint16_t buffer_size; /* of what `buffer` points to */
	uint64_t buffer;      /* an address, in or out by command; 0 for none */
	uint64_t argument;    /* pid, queue number: by command */
	uint16_t path_size;   /* the rest is for unprivileged devices */
	uint16_t pad;
	uint32_t reserved;
};

#define UBLK_NO_QUEUE UINT16_MAX
#define UBLK_ANY_DEVICE UINT32_MAX /* ADD_DEVICE: the kernel picks the number */
#define UBLK_FEATURES_SIZE 8       /* GET_FEATURES gives exactly one 64-bit mask of flags */

#define UBLK_FLAG_USER_RECOVERY (UINT64_C(1) << 3)
#define UBLK_FLAG_RECOVERY_REISSUE (UINT64_C(1) << 4)
#define UBLK_FLAG_ENCODED_COMMANDS (UINT64_C(1) << 6)

enum ublk_device_state {
	UBLK_DEVICE_DEAD = 0,
	UBLK_DEVICE_LIVE = 1,
	UBLK_DEVICE_QUIESCED = 2, /* its server died; requests wait for recovery */
};

/* ADD_DEVICE takes it and gives it back as the driver has cut it; GET_DEVICE_INFO gives it. */
struct ublk_device_info {
	uint16_t queue_count;
	uint16_t queue_depth;
	uint16_t state; /* enum ublk_device_state */
	uint16_t pad0;
	uint32_t request_size_max; /* bytes */
	uint32_t device_id;
	int32_t server_pid; /* -1 if nobody serves it */
	uint32_t pad1;
	uint64_t flags;
	uint64_t server_mark; /* the driver keeps it and never looks at it */
	uint32_t owner_uid;
	uint32_t owner_gid;
	uint64_t reserved[2];
};

#define UBLK_QUEUE_DEPTH_MAX 4096
#define UBLK_QUEUE_COUNT_MAX 4096

#define UBLK_ATTRIBUTE_READ_ONLY (UINT32_C(1) << 0)
#define UBLK_ATTRIBUTE_ROTATIONAL (UINT32_C(1) << 1)
#define UBLK_ATTRIBUTE_VOLATILE_CACHE (UINT32_C(1) << 2)
#define UBLK_ATTRIBUTE_FUA (UINT32_C(1) << 3)

struct ublk_basic_parameters {
	uint32_t attributes;
	uint8_t logical_block_shift; /* 9 to 12, at most the physical one */
	uint8_t physical_block_shift;
	uint8_t optimal_size_shift;
	uint8_t minimal_size_shift;
	uint32_t request_units_max; /* of 512 bytes; 8 to request_size_max / 512 */
	uint32_t chunk_units;
	uint64_t device_units;
	uint64_t virtual_boundary_mask;
};

struct ublk_discard_parameters {
	uint32_t alignment;        /* bytes */
	uint32_t granularity;      /* bytes; not 0 */
	uint32_t units_max;        /* of 512 bytes, in one request */
	uint32_t zeroes_units_max; /* the same for WRITE_ZEROES */
	uint16_t segments_max;     /* 1 */
	uint16_t reserved;
};

#define UBLK_PARAMETERS_BASIC (UINT32_C(1) << 0)
#define UBLK_PARAMETERS_DISCARD (UINT32_C(1) << 1)

/* The driver's own structure goes on (zones); it takes as much as `size` says. */
struct ublk_parameters {
	uint32_t size;  /* of this structure */
	uint32_t kinds; /* which of the following count */
	struct ublk_basic_parameters basic;
	struct ublk_discard_parameters discard;
	uint32_t pad;
};

enum ublk_operation {
	UBLK_READ = 0,
	UBLK_WRITE = 1,
	UBLK_FLUSH = 2,
	UBLK_DISCARD = 3,
	UBLK_WRITE_SAME = 4,
	UBLK_WRITE_ZEROES = 5,
};

#define UBLK_OPERATION_MASK UINT32_C(0xff)
/* Bits of `operation` as it stands, not counted from the ninth. */
#define UBLK_REQUEST_FUA (UINT32_C(1) << 13)

/* One request: written by the kernel into memory that is mapped read-only, one per tag. */
struct ublk_request_descriptor {
	uint32_t operation;  /* enum ublk_operation in the low 8 bits, flags above */
	uint32_t unit_count; /* of 512 bytes */
	uint64_t first_unit;
	uint64_t buffer;
};

/* Queue q's descriptors are mapped from the character device at q times this, for any depth. */
#define UBLK_DESCRIPTORS_STRIDE \
	((uint64_t)UBLK_QUEUE_DEPTH_MAX * sizeof(struct ublk_request_descriptor))

/* What goes with FETCH and COMMIT_AND_FETCH: behind the first 48 bytes of a 64-byte submission. */
struct ublk_io_command {
	uint16_t queue_id;
	uint16_t tag;
	int32_t result;  /* COMMIT: bytes or -errno of the request that ends */
	uint64_t buffer; /* where the data of the next request goes, or comes from */
};

/* Completion of FETCH and COMMIT_AND_FETCH: 0, a request has come. */
#define UBLK_RESULT_REQUEST 0
#define UBLK_RESULT_ABORT (-19) /* -ENODEV: the device goes; do not fetch again */

_Static_assert(sizeof(struct ublk_control_command) == 32, "control command");
_Static_assert(offsetof(struct ublk_control_command, buffer) == 8, "control command");
_Static_assert(offsetof(struct ublk_control_command, argument) == 16, "control command");
_Static_assert(sizeof(struct ublk_device_info) == 64, "device info");
_Static_assert(offsetof(struct ublk_device_info, request_size_max) == 8, "device info");
_Static_assert(offsetof(struct ublk_device_info, flags) == 24, "device info");
_Static_assert(offsetof(struct ublk_device_info, server_mark) == 32, "device info");
_Static_assert(offsetof(struct ublk_device_info, reserved) == 48, "device info");
_Static_assert(sizeof(struct ublk_basic_parameters) == 32, "basic parameters");
_Static_assert(offsetof(struct ublk_basic_parameters, request_units_max) == 8, "basic parameters");
_Static_assert(offsetof(struct ublk_basic_parameters, device_units) == 16, "basic parameters");
_Static_assert(offsetof(struct ublk_parameters, basic) == 8, "parameters");
_Static_assert(sizeof(struct ublk_discard_parameters) == 20, "discard parameters");
_Static_assert(offsetof(struct ublk_parameters, discard) == 40, "parameters");
_Static_assert(sizeof(struct ublk_parameters) == 64, "parameters");
_Static_assert(sizeof(struct ublk_request_descriptor) == 24, "request descriptor");
_Static_assert(offsetof(struct ublk_request_descriptor, first_unit) == 8, "request descriptor");
_Static_assert(UBLK_DESCRIPTORS_STRIDE == 98304, "descriptor area");
_Static_assert(sizeof(struct ublk_io_command) == 16, "request command");
_Static_assert(offsetof(struct ublk_io_command, buffer) == 8, "request command");
_Static_assert(UBLK_GET_QUEUE_AFFINITY == 0x80207501, "command number");
_Static_assert(UBLK_GET_DEVICE_INFO == 0x80207502, "command number");
_Static_assert(UBLK_ADD_DEVICE == 0xc0207504, "command number");
_Static_assert(UBLK_DELETE_DEVICE == 0xc0207505, "command number");
_Static_assert(UBLK_START_DEVICE == 0xc0207506, "command number");
_Static_assert(UBLK_STOP_DEVICE == 0xc0207507, "command number");
_Static_assert(UBLK_SET_PARAMETERS == 0xc0207508, "command number");
_Static_assert(UBLK_START_RECOVERY == 0xc0207510, "command number");
_Static_assert(UBLK_END_RECOVERY == 0xc0207511, "command number");
_Static_assert(UBLK_GET_FEATURES == 0x80207513, "command number");
_Static_assert(UBLK_DELETE_DEVICE_LATER == 0x80207514, "command number");
_Static_assert(UBLK_FETCH == 0xc0107520, "command number");
_Static_assert(UBLK_COMMIT_AND_FETCH == 0xc0107521, "command number");

#endif
