#include "app/supervisor/supervisor_state.h"

#include "platform/log.h"

#define LOOK_MS 30000
#define LOOK_AGAIN_MS 5000

/* Disks that are gone, perhaps to come back under another name, make room. */
static void forget_absent_disks(struct supervisor *supervisor)
{
	for (size_t i = supervisor->volume_count; i > 0; i--) {
		struct managed_volume *managed = supervisor->volumes[i - 1];

		if (managed->state == VOLUME_WAITING && managed->cause == FAIL_DISK_ABSENT &&
		    !managed_volume_has_key(managed)) {
			log_info("%s is gone", managed->disk_path);
			supervisor_forget(supervisor, managed);
		}
	}
}

/* One that nobody uses is given up, and found again wherever its disk has come back. Under its
 * users nothing is exchanged: what they wrote in vain may not be on the disk that has come. */
void supervisor_look_at_disks(struct supervisor *supervisor)
{
	uint64_t wait_ms = LOOK_MS;

	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];

		if (managed->state != VOLUME_SERVING)
			continue;
		managed_volume_look_for_disk(managed);
		if (managed_volume_has_lost_disk(managed)) {
			managed->is_given_up = true;
			managed_volume_lock(managed, false, supervisor->config);
		} else if (managed->disk_misses > 0) {
			wait_ms = LOOK_AGAIN_MS;
		}
	}
	if (supervisor->finds_disks) {
		forget_absent_disks(supervisor);
		supervisor_begin_search(&supervisor->searches);
	}
	supervisor->disks_due_ms = clock_now_ms() + wait_ms;
}
