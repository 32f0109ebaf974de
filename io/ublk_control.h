/* Commands to the kernel's ublk driver: making, starting, stopping and removing a block device
 * whose requests a process like ours answers. What carries the requests is ublk_queue; what joins
 * the two is ublk_device.
 *
 * Every command is bounded in time: drivers have hung in ADD and START (Ubuntu's 6.17), and STOP
 * waits for requests that a sick disk holds. After one that did not end in time every other fails
 * at once; the process may still go on and end. Why a second process gives the commands stands in
 * ublk_control_process.h; it lives as long as the control is open.
 */
#ifndef IO_UBLK_CONTROL_H
#define IO_UBLK_CONTROL_H

#include "io/ublk_abi.h"
#include "io/ublk_control_process.h"
#include "platform/status.h"

/* Long enough for a partition scan through a disk that is stalled by its storage service. */
#define UBLK_CONTROL_PATIENCE_MS 60000

/* CPUs as the kernel's masks have them: bit n % 64 of word n / 64. */
#define UBLK_CPUS_MAX 8192
struct ublk_cpu_mask {
	uint64_t words[UBLK_CPUS_MAX / 64];
};

struct ublk_control {
	struct ublk_control_process process;
};

/* Asks modprobe for the driver, where there is one; the driver has no alias by which the kernel
 * would load it. Says nothing: whether the driver is there, ublk_control_open tells. Not from a
 * process that lockdown has forbidden to start programs. */
void ublk_control_load_driver(void);

/* FAIL_UBLK_ABSENT if the kernel has no ublk or one older than Linux 6.5, FAIL_NOT_ROOT,
 * FAIL_IO_URING_ABSENT, FAIL_OUT_OF_MEMORY, FAIL_UBLK. */
MUST_CHECK enum status ublk_control_open(struct ublk_control *control);
void ublk_control_close(struct ublk_control *control);

/* All the following: FAIL_UBLK, logged, if the driver refuses or does not answer in time. */

/* UBLK_FLAG_ bits that the driver knows. */
MUST_CHECK enum status ublk_control_get_features(struct ublk_control *control, uint64_t *flags);

/* Makes /dev/ublkcN. In: queue_count, queue_depth, request_size_max, flags, server_mark, and
 * device_id (UBLK_ANY_DEVICE: the kernel picks one). Out: all of it as the driver has cut it. */
MUST_CHECK enum status ublk_control_add(struct ublk_control *control,
					struct ublk_device_info *info);

/* Between add and start. The size is filled in here. */
MUST_CHECK enum status ublk_control_set_parameters(struct ublk_control *control, uint32_t device_id,
						   const struct ublk_parameters *parameters);

/* The CPUs from which the kernel sends requests to that queue. */
MUST_CHECK enum status ublk_control_get_queue_cpus(struct ublk_control *control, uint32_t device_id,
						   unsigned queue, struct ublk_cpu_mask *cpus);

/* Makes /dev/ublkbN, served by this process. Every queue must have fetched all its tags and be
 * answering: whoever waits for the device may read it before this returns. */
MUST_CHECK enum status ublk_control_start(struct ublk_control *control, uint32_t device_id);

/* Betters the kernel's side of a started device: no scheduler on top of the backing disk's, and a
 * server that died is noticed within two seconds in any case, not thirty. */
MUST_CHECK enum status ublk_control_tune(struct ublk_control *control, uint32_t device_id);

/* Removes /dev/ublkbN, even if it is mounted, once its requests are answered; then every tag comes
 * home with UBLK_RESULT_ABORT. Of a device that was never started, only the latter. Here and in
 * delete, a device that is gone already is no failure. */
MUST_CHECK enum status ublk_control_stop(struct ublk_control *control, uint32_t device_id);

/* Removes /dev/ublkcN, stopping it first if need be. Its number is free again when nobody holds
 * the device any more, which a file system that is still mounted on it does. */
MUST_CHECK enum status ublk_control_delete(struct ublk_control *control, uint32_t device_id);

/* Readies a device made with UBLK_FLAG_USER_RECOVERY, whose process died, for new queues. Waits,
 * within the time limit, for the kernel to be done with the dead process. After it, as after add:
 * queues are attached, then end_recovery takes the place of start. Until then requests wait. OK
 * also if a process has begun this already, and died. */
MUST_CHECK enum status ublk_control_start_recovery(struct ublk_control *control,
						   uint32_t device_id);
MUST_CHECK enum status ublk_control_end_recovery(struct ublk_control *control, uint32_t device_id);

MUST_CHECK enum status ublk_control_get_info(struct ublk_control *control, uint32_t device_id,
					     struct ublk_device_info *info);

/* The device that was added with that mark (not 0, which is what others leave there), whatever its
 * state; *found is false if there is none. */
MUST_CHECK enum status ublk_control_find(struct ublk_control *control, uint64_t server_mark,
					 bool *found, struct ublk_device_info *info);

#endif
