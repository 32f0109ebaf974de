/* The block device: what brokers use. */
#include <unistd.h>

#include "app/features.h"
#include "app/worker/data_path.h"
#include "io/ublk_device.h"
#include "io/ublk_process.h"

static enum status probe(void)
{
	struct ublk_control control;

	ublk_control_load_driver();
	TRY(ublk_control_open(&control));
	ublk_control_close(&control);
	return OK;
}

static unsigned count_queues(unsigned wanted)
{
	return wanted != 0 ? MINIMUM(wanted, feature_queues_max()) : feature_queues_max();
}

/* The driver makes no more queues than there are CPUs. */
static void reserve(unsigned queue_count)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	buffer_pool_reserve(feature_request_size_max_bytes(), feature_queue_depth(),
			    MINIMUM(count_queues(queue_count), (unsigned)MAXIMUM(cpus, 1)));
}

static enum status open_device(void **state, const struct data_path_options *options,
			       const struct block_volume *volume)
{
	const struct ublk_device_options device = {
		.device_id = UBLK_ANY_DEVICE,
		.queue_count = count_queues(options->queue_count),
		.queue_depth = feature_queue_depth(),
		.request_size_max = feature_request_size_max_bytes(),
		.mark = options->mark,
		.is_recoverable = options->mark != 0,
	};
	enum status status = FAIL_VOLUME_UNKNOWN;

	if (options->mark != 0)
		status = ublk_device_recover((struct ublk_device **)state, &device, volume);
	if (status != FAIL_VOLUME_UNKNOWN)
		return status;
	/* What cannot be recovered would only be in the way of the next recovery. */
	if (options->mark != 0)
		TRY(ublk_device_remove_remains(options->mark));
	return ublk_device_start((struct ublk_device **)state, &device, volume);
}

static enum status close_device(void **state)
{
	return ublk_device_stop((struct ublk_device **)state);
}

static const char *where(const void *state)
{
	return ublk_device_path(state);
}

static int ended_fd(const void *state)
{
	return ublk_device_ended_fd(state);
}

static bool is_in_use(const void *state)
{
	return ublk_device_is_open(state);
}

static enum status remove_remains(const struct data_path_options *options)
{
	return ublk_device_remove_remains(options->mark);
}

const struct data_path_calls data_path_ublk = {
	.kind = DATA_PATH_UBLK,
	.probe = probe,
	.reserve = reserve,
	.prepare_process = ublk_process_prepare,
	.open = open_device,
	.close = close_device,
	.where = where,
	.ended_fd = ended_fd,
	.is_in_use = is_in_use,
	.remove_remains = remove_remains,
};
