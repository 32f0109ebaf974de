#include "io/ublk_control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

/* While the kernel winds up a dead process, START_RECOVERY is refused. */
#define RECOVERY_RETRY_MS 20

_Static_assert(sizeof(struct ublk_cpu_mask) <= UBLK_CONTROL_BUFFER_SIZE, "the largest fits");

static const char *command_word(uint32_t operation)
{
	switch (operation) {
	case UBLK_GET_QUEUE_AFFINITY: return "GET_QUEUE_AFFINITY";
	case UBLK_GET_DEVICE_INFO: return "GET_DEV_INFO";
	case UBLK_ADD_DEVICE: return "ADD_DEV";
	case UBLK_DELETE_DEVICE:
	case UBLK_DELETE_DEVICE_LATER: return "DEL_DEV";
	case UBLK_START_DEVICE: return "START_DEV";
	case UBLK_STOP_DEVICE: return "STOP_DEV";
	case UBLK_SET_PARAMETERS: return "SET_PARAMS";
	case UBLK_START_RECOVERY: return "START_USER_RECOVERY";
	case UBLK_END_RECOVERY: return "END_USER_RECOVERY";
	case UBLK_GET_FEATURES: return "GET_FEATURES";
	case UBLK_CONTROL_TUNE: return "TUNE";
	default: return "command";
	}
}

void ublk_control_load_driver(void)
{
	char *arguments[] = {"modprobe", "-q", "ublk_drv", NULL};
	char *environment[] = {NULL};
	pid_t pid;

	if (access(UBLK_CONTROL_PATH, F_OK) == 0)
		return;
	if (posix_spawn(&pid, "/sbin/modprobe", NULL, NULL, arguments, environment) != 0)
		return;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Runs a command; `size` bytes of the exchange's buffer go with it, both ways. *error is 0 or the
 * driver's errno. */
static enum status run(struct ublk_control *control, uint32_t operation, uint32_t device_id,
		       size_t size, uint64_t argument, int *error)
{
	struct ublk_exchange *exchange = control->process.exchange;

	CHECK(size <= sizeof(exchange->buffer));
	if (control->process.is_stuck)
		return FAIL_UBLK;
	exchange->operation = operation;
	exchange->device_id = device_id;
	exchange->size = (uint32_t)size;
	exchange->argument = argument;
	TRY(ublk_control_process_run(&control->process, command_word(operation),
				     UBLK_CONTROL_PATIENCE_MS));
	*error = exchange->result < 0 ? -exchange->result : 0;
	return OK;
}

static enum status judge(uint32_t operation, uint32_t device_id, int error)
{
	if (error == 0)
		return OK;
	if (device_id == UBLK_ANY_DEVICE)
		log_errno(LOG_PRIORITY_ERROR, error, "ublk %s", command_word(operation));
	else
		log_errno(LOG_PRIORITY_ERROR, error, "ublk %s of device %u",
			  command_word(operation), device_id);
	return FAIL_UBLK;
}

/* Somebody may have removed the device in the meantime. */
static enum status judge_removal(uint32_t operation, uint32_t device_id, int error)
{
	return error == ENODEV ? OK : judge(operation, device_id, error);
}

/* The same as run, where any error is a failure. */
static enum status command(struct ublk_control *control, uint32_t operation, uint32_t device_id,
			   size_t size, uint64_t argument)
{
	int error;

	TRY(run(control, operation, device_id, size, argument, &error));
	return judge(operation, device_id, error);
}

static enum status open_driver(int *fd)
{
	int error;

	*fd = open(UBLK_CONTROL_PATH, O_RDWR | O_CLOEXEC);
	if (*fd >= 0)
		return OK;
	error = errno;
	log_errno(LOG_PRIORITY_ERROR, error, "%s", UBLK_CONTROL_PATH);
	switch (error) {
	case ENOENT:
	case ENXIO:
	case ENODEV: return FAIL_UBLK_ABSENT;
	case EACCES:
	case EPERM: return FAIL_NOT_ROOT;
	default: return FAIL_UBLK;
	}
}

/* The oldest driver that answers this (6.5) understands all that byok sends. */
static enum status check_features(struct ublk_control *control)
{
	uint64_t flags;
	int error;

	TRY(run(control, UBLK_GET_FEATURES, UBLK_ANY_DEVICE, UBLK_FEATURES_SIZE, 0, &error));
	if (error != 0) {
		log_errno(LOG_PRIORITY_ERROR, error, "this kernel's ublk is too old");
		return FAIL_UBLK_ABSENT;
	}
	memcpy(&flags, control->process.exchange->buffer, sizeof(flags));
	return (flags & UBLK_FLAG_ENCODED_COMMANDS) != 0 ? OK : FAIL_UBLK_ABSENT;
}

enum status ublk_control_open(struct ublk_control *control)
{
	enum status status;
	int driver_fd;

	TRY(open_driver(&driver_fd));
	status = ublk_control_process_start(&control->process, driver_fd);
	close(driver_fd);
	if (status != OK)
		return status;
	status = check_features(control);
	if (status != OK)
		ublk_control_close(control);
	return status;
}

void ublk_control_close(struct ublk_control *control)
{
	ublk_control_process_end(&control->process);
}

enum status ublk_control_get_features(struct ublk_control *control, uint64_t *flags)
{
	TRY(command(control, UBLK_GET_FEATURES, UBLK_ANY_DEVICE, UBLK_FEATURES_SIZE, 0));
	memcpy(flags, control->process.exchange->buffer, sizeof(*flags));
	return OK;
}

enum status ublk_control_add(struct ublk_control *control, struct ublk_device_info *info)
{
	memcpy(control->process.exchange->buffer, info, sizeof(*info));
	TRY(command(control, UBLK_ADD_DEVICE, info->device_id, sizeof(*info), 0));
	memcpy(info, control->process.exchange->buffer, sizeof(*info));
	return OK;
}

enum status ublk_control_set_parameters(struct ublk_control *control, uint32_t device_id,
					const struct ublk_parameters *parameters)
{
	struct ublk_parameters sized = *parameters;

	sized.size = sizeof(sized);
	memcpy(control->process.exchange->buffer, &sized, sizeof(sized));
	return command(control, UBLK_SET_PARAMETERS, device_id, sizeof(sized), 0);
}

enum status ublk_control_get_queue_cpus(struct ublk_control *control, uint32_t device_id,
					unsigned queue, struct ublk_cpu_mask *cpus)
{
	TRY(command(control, UBLK_GET_QUEUE_AFFINITY, device_id, sizeof(*cpus), queue));
	memcpy(cpus, control->process.exchange->buffer, sizeof(*cpus));
	return OK;
}

enum status ublk_control_start(struct ublk_control *control, uint32_t device_id)
{
	return command(control, UBLK_START_DEVICE, device_id, 0, (uint64_t)getpid());
}

enum status ublk_control_tune(struct ublk_control *control, uint32_t device_id)
{
	return command(control, UBLK_CONTROL_TUNE, device_id, 0, 0);
}

enum status ublk_control_stop(struct ublk_control *control, uint32_t device_id)
{
	int error;

	TRY(run(control, UBLK_STOP_DEVICE, device_id, 0, 0, &error));
	return judge_removal(UBLK_STOP_DEVICE, device_id, error);
}

enum status ublk_control_delete(struct ublk_control *control, uint32_t device_id)
{
	int error;

	/* DEL_DEV waits for the last holder of the device, for ever if need be. Before Linux 6.9
	 * there is nothing else. */
	TRY(run(control, UBLK_DELETE_DEVICE_LATER, device_id, 0, 0, &error));
	if (error == EOPNOTSUPP)
		TRY(run(control, UBLK_DELETE_DEVICE, device_id, 0, 0, &error));
	return judge_removal(UBLK_DELETE_DEVICE, device_id, error);
}

enum status ublk_control_start_recovery(struct ublk_control *control, uint32_t device_id)
{
	const uint64_t deadline_ms = clock_now_ms() + UBLK_CONTROL_PATIENCE_MS;
	int error;

	/* EBUSY: the dead process's descriptors, rings or requests are not all gone yet. */
	for (;;) {
		TRY(run(control, UBLK_START_RECOVERY, device_id, 0, 0, &error));
		if (error != EBUSY || clock_left_ms(deadline_ms) == 0)
			break;
		clock_sleep_ms(RECOVERY_RETRY_MS);
	}
	/* A process that died before it had asked for requests on the first queue has begun it
	 * already; Linux 6.12 answers so until somebody has. */
	if (error == EINVAL)
		return OK;
	return judge(UBLK_START_RECOVERY, device_id, error);
}

enum status ublk_control_end_recovery(struct ublk_control *control, uint32_t device_id)
{
	return command(control, UBLK_END_RECOVERY, device_id, 0, (uint64_t)getpid());
}

enum status ublk_control_get_info(struct ublk_control *control, uint32_t device_id,
				  struct ublk_device_info *info)
{
	TRY(command(control, UBLK_GET_DEVICE_INFO, device_id, sizeof(*info), 0));
	memcpy(info, control->process.exchange->buffer, sizeof(*info));
	return OK;
}

enum status ublk_control_find(struct ublk_control *control, uint64_t server_mark, bool *found,
			      struct ublk_device_info *info)
{
	DIR *folder = opendir("/sys/class/ublk-char");
	enum status status = OK;
	const struct dirent *entry;
	struct ublk_device_info candidate;
	unsigned device_id;
	int error;

	CHECK(server_mark != 0);
	*found = false;
	if (folder == NULL) {
		log_errno(LOG_PRIORITY_ERROR, errno, "/sys/class/ublk-char");
		return FAIL_SYSTEM;
	}
	while (status == OK && !*found && (entry = readdir(folder)) != NULL) {
		if (sscanf(entry->d_name, "ublkc%u", &device_id) != 1)
			continue;
		status =
			run(control, UBLK_GET_DEVICE_INFO, device_id, sizeof(candidate), 0, &error);
		if (status != OK || error != 0)
			continue; /* somebody removed it in the meantime */
		memcpy(&candidate, control->process.exchange->buffer, sizeof(candidate));
		if (candidate.server_mark == server_mark) {
			*found = true;
			*info = candidate;
		}
	}
	closedir(folder);
	return status;
}
