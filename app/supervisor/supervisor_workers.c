#include "app/supervisor/supervisor_state.h"

#include <stdlib.h>
#include <string.h>

#include "app/worker/worker_socket.h"
#include "platform/log.h"

/* A worker answers at once; one that hangs must not keep the others from their disks. */
#define ADOPTION_PATIENCE_MS 5000

static void adopt(void *context, const char *name)
{
	struct supervisor *supervisor = context;
	struct managed_volume *managed = supervisor_add_disk(supervisor, "");
	enum status status;

	if (managed == NULL)
		return;
	status = managed_volume_adopt(managed, name, supervisor->config);
	if (status == OK)
		return;
	if (status != FAIL_ROLE_DIED)
		log_error("the worker of %s cannot be taken over: %s", name,
			  status_sentence(status));
	supervisor_forget(supervisor, managed);
}

void supervisor_find_workers(struct supervisor *supervisor)
{
	supervisor->adoption_deadline_ms = clock_now_ms() + ADOPTION_PATIENCE_MS;
	worker_socket_find_all(supervisor->config->run_directory, adopt, supervisor);
}

bool supervisor_is_adopting(const struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->state == VOLUME_ADOPTING &&
		    supervisor->volumes[i]->worker.socket_fd >= 0)
			return clock_left_ms(supervisor->adoption_deadline_ms) > 0;
	return false;
}

/* The same disk, by a worker that has told its path since. */
static bool is_served_by_another(const struct supervisor *supervisor,
				 const struct managed_volume *managed)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		const struct managed_volume *other = supervisor->volumes[i];

		if (other != managed && other->worker.pid != 0 &&
		    strcmp(other->disk_path, managed->disk_path) == 0)
			return true;
	}
	return false;
}

void supervisor_settle_adoptions(struct supervisor *supervisor)
{
	for (size_t i = supervisor->volume_count; i > 0; i--) {
		struct managed_volume *managed = supervisor->volumes[i - 1];
		bool has_lost_its_worker = managed->disk_path[0] == '\0';

		if (managed->worker.pid == 0 &&
		    (has_lost_its_worker || is_served_by_another(supervisor, managed)))
			supervisor_forget(supervisor, managed);
	}
}
