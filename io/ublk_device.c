#include "io/ublk_device.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

/* udev opens every new device for a moment, and the driver allows one opener. */
#define OPEN_PATIENCE_MS 10000
#define OPEN_RETRY_MS 20

/* In one request. Where the backing disk takes less at once, the kernel splits it there. */
#define DISCARD_SIZE_MAX (1024u * 1024 * 1024)

struct ublk_device {
	struct ublk_device_info info;
	char path[UBLK_DEVICE_PATH_SIZE];
	int char_fd; /* /dev/ublkcN */
	int ended_fd;
	bool is_added;              /* there is a device to delete */
	struct ublk_queue **queues; /* info.queue_count of them, NULL where not started */
};

static uint8_t shift_of(uint32_t power_of_two)
{
	return (uint8_t)__builtin_ctz(power_of_two);
}

static struct ublk_basic_parameters basic_parameters_of(const struct block_volume *volume,
							uint32_t request_size_max)
{
	const struct backing_disk *disk = volume->disk;
	const uint32_t logical_size = volume->cipher.sector_size;
	const uint32_t physical_size = MAXIMUM(logical_size, disk->physical_block_size);
	struct ublk_basic_parameters parameters = {
		.logical_block_shift = shift_of(logical_size),
		.physical_block_shift = shift_of(physical_size),
		.optimal_size_shift = shift_of(physical_size),
		.minimal_size_shift = shift_of(physical_size),
		.request_units_max = request_size_max / SECTOR_UNIT_SIZE,
		.device_units = volume->size_bytes / SECTOR_UNIT_SIZE,
	};

	if (volume->is_read_only || !disk->is_writable)
		parameters.attributes |= UBLK_ATTRIBUTE_READ_ONLY;
	if (disk->is_rotational)
		parameters.attributes |= UBLK_ATTRIBUTE_ROTATIONAL;
	if (disk->has_write_cache)
		parameters.attributes |= UBLK_ATTRIBUTE_VOLATILE_CACHE;
	if (disk->has_write_cache && disk->has_fua)
		parameters.attributes |= UBLK_ATTRIBUTE_FUA;
	return parameters;
}

/* WRITE_ZEROES is not offered: zeros must reach the disk encrypted, and those that the block layer
 * then writes itself come as many requests at once, not as one. */
static struct ublk_parameters parameters_of(const struct block_volume *volume,
					    uint32_t request_size_max)
{
	struct ublk_parameters parameters = {
		.kinds = UBLK_PARAMETERS_BASIC,
		.basic = basic_parameters_of(volume, request_size_max),
	};

	if (!block_engine_can_discard(volume))
		return parameters;
	parameters.kinds |= UBLK_PARAMETERS_DISCARD;
	parameters.discard = (struct ublk_discard_parameters){
		.granularity =
			MAXIMUM(volume->disk->discard_granularity, volume->cipher.sector_size),
		.units_max = DISCARD_SIZE_MAX / SECTOR_UNIT_SIZE,
		.segments_max = 1,
	};
	return parameters;
}

static enum status open_char_device(struct ublk_device *device)
{
	const uint64_t deadline_ms = clock_now_ms() + OPEN_PATIENCE_MS;
	char path[UBLK_DEVICE_PATH_SIZE];

	snprintf(path, sizeof(path), "/dev/ublkc%u", device->info.device_id);
	for (;;) {
		device->char_fd = open(path, O_RDWR | O_CLOEXEC);
		if (device->char_fd >= 0)
			return OK;
		if ((errno != EBUSY && errno != ENOENT && errno != EINTR) ||
		    clock_left_ms(deadline_ms) == 0)
			break;
		clock_sleep_ms(OPEN_RETRY_MS);
	}
	log_errno(LOG_PRIORITY_ERROR, errno, "%s", path);
	return FAIL_UBLK;
}

static enum status start_queues(struct ublk_device *device, struct ublk_control *control,
				const struct ublk_device_options *options,
				const struct block_volume *volume)
{
	struct ublk_queue_options queue_options = {
		.depth = device->info.queue_depth,
		.request_size_max = device->info.request_size_max,
		.piece_size = options->piece_size,
		.ended_fd = device->ended_fd,
	};

	device->queues = calloc(device->info.queue_count, sizeof(*device->queues));
	if (device->queues == NULL)
		return FAIL_OUT_OF_MEMORY;
	for (unsigned i = 0; i < device->info.queue_count; i++) {
		queue_options.index = i;
		TRY(ublk_control_get_queue_cpus(control, device->info.device_id, i,
						&queue_options.cpus));
		TRY(ublk_queue_start(&device->queues[i], &queue_options, volume));
	}
	return OK;
}

static enum status attach_queues(struct ublk_device *device)
{
	enum status status = OK;

	for (unsigned i = 0; i < device->info.queue_count; i++)
		ublk_queue_attach(device->queues[i], device->char_fd);
	for (unsigned i = 0; i < device->info.queue_count; i++) {
		enum status queue_status = ublk_queue_await(device->queues[i]);

		status = status == OK ? queue_status : status;
	}
	return status;
}

/* The first half of making a new device: all but its queues. */
static enum status add(struct ublk_device *device, struct ublk_control *control,
		       const struct ublk_device_options *options, const struct block_volume *volume)
{
	const uint64_t recovery_flags = UBLK_FLAG_USER_RECOVERY | UBLK_FLAG_RECOVERY_REISSUE;
	const uint64_t flags =
		UBLK_FLAG_ENCODED_COMMANDS | (options->is_recoverable ? recovery_flags : 0);
	struct ublk_parameters parameters;

	device->info = (struct ublk_device_info){
		.device_id = options->device_id,
		.queue_count = (uint16_t)options->queue_count,
		.queue_depth = (uint16_t)options->queue_depth,
		.request_size_max = options->request_size_max,
		.flags = flags,
		.server_mark = options->mark,
	};
	TRY(ublk_control_add(control, &device->info));
	device->is_added = true;
	/* The driver says which flags it has kept, and may add some that change nothing for us. */
	if ((device->info.flags & flags) != flags) {
		log_error("ublk: the driver granted flags 0x%llx of 0x%llx",
			  (unsigned long long)device->info.flags, (unsigned long long)flags);
		return FAIL_UBLK;
	}
	parameters = parameters_of(volume, device->info.request_size_max);
	return ublk_control_set_parameters(control, device->info.device_id, &parameters);
}

static enum status start_parts(struct ublk_device *device, struct ublk_control *control,
			       const struct ublk_device_options *options,
			       const struct block_volume *volume)
{
	TRY(add(device, control, options, volume));
	TRY(start_queues(device, control, options, volume));
	TRY(open_char_device(device));
	TRY(attach_queues(device));
	TRY(ublk_control_start(control, device->info.device_id));
	return ublk_control_tune(control, device->info.device_id);
}

static enum status recover_parts(struct ublk_device *device, struct ublk_control *control,
				 const struct ublk_device_options *options,
				 const struct block_volume *volume)
{
	bool found;

	TRY(ublk_control_find(control, options->mark, &found, &device->info));
	if (!found || (device->info.flags & UBLK_FLAG_USER_RECOVERY) == 0 ||
	    device->info.state == UBLK_DEVICE_DEAD)
		return FAIL_VOLUME_UNKNOWN;
	TRY(start_queues(device, control, options, volume));
	TRY(ublk_control_start_recovery(control, device->info.device_id));
	TRY(open_char_device(device));
	TRY(attach_queues(device));
	return ublk_control_end_recovery(control, device->info.device_id);
}

static void name(struct ublk_device *device)
{
	snprintf(device->path, sizeof(device->path), "/dev/ublkb%u", device->info.device_id);
}

static enum status make_empty(struct ublk_device **result)
{
	struct ublk_device *device = calloc(1, sizeof(*device));

	if (device == NULL)
		return FAIL_OUT_OF_MEMORY;
	device->char_fd = -1;
	device->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->ended_fd < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "eventfd");
		free(device);
		return FAIL_SYSTEM;
	}
	*result = device;
	return OK;
}

/* What the driver will not let go of, threads and all, is left to the end of the process. */
static enum status end(struct ublk_device *device, struct ublk_control *control)
{
	enum status status = OK;

	if (device->is_added)
		TRY(ublk_control_stop(control, device->info.device_id));
	for (unsigned i = 0; device->queues != NULL && i < device->info.queue_count; i++) {
		enum status queue_status = ublk_queue_join(&device->queues[i]);

		status = status == OK ? queue_status : status;
	}
	if (device->char_fd >= 0)
		close(device->char_fd);
	if (device->is_added)
		TRY(ublk_control_delete(control, device->info.device_id));
	close(device->ended_fd);
	free(device->queues);
	free(device);
	return status;
}

static enum status start(struct ublk_device **result, struct ublk_control *control,
			 const struct ublk_device_options *options,
			 const struct block_volume *volume)
{
	struct ublk_device *device;
	enum status status;

	TRY(make_empty(&device));
	status = start_parts(device, control, options, volume);
	if (status != OK) {
		/* The cause is what counts; why the end failed as well is logged. */
		(void)!end(device, control);
		return status;
	}
	name(device);
	*result = device;
	return OK;
}

enum status ublk_device_start(struct ublk_device **result,
			      const struct ublk_device_options *options,
			      const struct block_volume *volume)
{
	struct ublk_control control;
	enum status status;

	CHECK(options->queue_count > 0);
	TRY(ublk_control_open(&control));
	status = start(result, &control, options, volume);
	ublk_control_close(&control);
	return status;
}

static enum status recover(struct ublk_device **result, struct ublk_control *control,
			   const struct ublk_device_options *options,
			   const struct block_volume *volume)
{
	struct ublk_device *device;

	TRY(make_empty(&device));
	/* After a failure everything stays as it is until the process ends: to stop the queues is
	 * to stop the device, and its users with it. */
	TRY(recover_parts(device, control, options, volume));
	device->is_added = true;
	name(device);
	*result = device;
	return OK;
}

enum status ublk_device_recover(struct ublk_device **result,
				const struct ublk_device_options *options,
				const struct block_volume *volume)
{
	struct ublk_control control;
	enum status status;

	TRY(ublk_control_open(&control));
	status = recover(result, &control, options, volume);
	ublk_control_close(&control);
	return status;
}

enum status ublk_device_stop(struct ublk_device **device)
{
	struct ublk_control control;
	enum status status;

	if (*device == NULL)
		return OK;
	TRY(ublk_control_open(&control));
	status = end(*device, &control);
	*device = NULL;
	ublk_control_close(&control);
	return status;
}

const char *ublk_device_path(const struct ublk_device *device)
{
	return device->path;
}

int ublk_device_ended_fd(const struct ublk_device *device)
{
	return device->ended_fd;
}

bool ublk_device_is_open(const struct ublk_device *device)
{
	int fd = open(device->path, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return errno == EBUSY;
	close(fd);
	return false;
}

static enum status remove_remains(struct ublk_control *control, uint64_t mark)
{
	struct ublk_device_info info;
	bool found;

	TRY(ublk_control_find(control, mark, &found, &info));
	if (!found)
		return OK;
	if (info.state != UBLK_DEVICE_DEAD && info.server_pid > 0 &&
	    (kill(info.server_pid, 0) == 0 || errno != ESRCH))
		return FAIL_NAME_TAKEN;
	return ublk_control_delete(control, info.device_id);
}

enum status ublk_device_remove_remains(uint64_t mark)
{
	struct ublk_control control;
	enum status status;

	TRY(ublk_control_open(&control));
	status = remove_remains(&control, mark);
	ublk_control_close(&control);
	return status;
}
