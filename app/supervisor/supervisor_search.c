#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "app/supervisor/supervisor_state.h"
#include "platform/log.h"
#include "platform/thread.h"

#define PATIENCE_MS 5000
#define STACK_SIZE (256 * 1024)

/* One look at every disk, by a thread of its own: whatever else there is, it can be waiting for a
 * disk that does not answer. Its own are count and found until it has ended. */
struct disk_search {
	pthread_t thread;
	int ended_fd;
	enum log_priority priority;
	size_t passed_over_count;
	char passed_over[SUPERVISOR_SEARCHES_MAX][VOLUME_PATH_SIZE];
	size_t count;
	struct volume_found found[SUPERVISOR_VOLUMES_MAX];
	pthread_mutex_t mutex;
	char disk_path[VOLUME_PATH_SIZE];  /* that it reads now; under the mutex */
	char held_up_by[VOLUME_PATH_SIZE]; /* ours */
};

static bool may_read(void *context, const char *disk_path)
{
	struct disk_search *search = context;

	for (size_t i = 0; i < search->passed_over_count; i++)
		if (strcmp(search->passed_over[i], disk_path) == 0)
			return false;
	pthread_mutex_lock(&search->mutex);
	snprintf(search->disk_path, sizeof(search->disk_path), "%s", disk_path);
	pthread_mutex_unlock(&search->mutex);
	return true;
}

static void *look(void *context)
{
	struct disk_search *search = context;
	const uint64_t one = 1;

	search->count = volume_find_all(search->found, SUPERVISOR_VOLUMES_MAX, search->priority,
					may_read, search);
	CHECK(write(search->ended_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	return NULL;
}

static void copy_disk_path(char target[static VOLUME_PATH_SIZE], struct disk_search *search)
{
	pthread_mutex_lock(&search->mutex);
	memcpy(target, search->disk_path, VOLUME_PATH_SIZE);
	pthread_mutex_unlock(&search->mutex);
}

static void release(struct disk_search *search)
{
	if (search->ended_fd >= 0)
		close(search->ended_fd);
	pthread_mutex_destroy(&search->mutex);
	free(search);
}

/* Past the disks at which the others are held up. */
void supervisor_begin_search(struct supervisor_searches *searches)
{
	struct disk_search *search;

	if (searches->running_count > searches->held_up_count ||
	    searches->running_count == SUPERVISOR_SEARCHES_MAX)
		return;
	search = calloc(1, sizeof(*search));
	if (search == NULL)
		return;
	CHECK(pthread_mutex_init(&search->mutex, NULL) == 0);
	search->priority = searches->is_done_once ? LOG_PRIORITY_DEBUG : LOG_PRIORITY_WARNING;
	while (search->passed_over_count < searches->held_up_count) {
		const size_t i = search->passed_over_count++;

		copy_disk_path(search->passed_over[i], searches->running[i]);
	}
	search->ended_fd = eventfd(0, EFD_CLOEXEC);
	if (search->ended_fd < 0 || thread_start(&search->thread, STACK_SIZE, look, search) != 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "disks cannot be looked for");
		release(search);
		return;
	}
	searches->ended_fds[searches->running_count] = search->ended_fd;
	searches->running[searches->running_count++] = search;
	searches->patience_ms = clock_now_ms() + PATIENCE_MS;
}

static void hold_up_last(struct supervisor_searches *searches)
{
	struct disk_search *search = searches->running[searches->held_up_count];

	copy_disk_path(search->held_up_by, search);
	log_warning("%s does not answer: it is passed over until it does", search->held_up_by);
	searches->held_up_count++;
}

void supervisor_watch_search(struct supervisor *supervisor)
{
	struct supervisor_searches *searches = &supervisor->searches;

	if (searches->running_count == searches->held_up_count ||
	    searches->patience_ms > clock_now_ms())
		return;
	hold_up_last(searches);
	supervisor_begin_search(searches);
}

static void take_found(struct supervisor *supervisor, const struct disk_search *search)
{
	for (size_t i = 0; i < MINIMUM(search->count, SUPERVISOR_VOLUMES_MAX); i++)
		if (supervisor_add_disk(supervisor, search->found[i].disk_path) != NULL)
			log_info("found %s on %s", search->found[i].name,
				 search->found[i].disk_path);
}

void supervisor_hear_search(struct supervisor *supervisor, size_t index)
{
	struct supervisor_searches *searches = &supervisor->searches;
	struct disk_search *search = searches->running[index];
	const bool was_held_up = index < searches->held_up_count;

	CHECK(pthread_join(search->thread, NULL) == 0);
	take_found(supervisor, search);
	if (was_held_up) {
		log_info("%s answers again", search->held_up_by);
		searches->held_up_count--;
	} else {
		searches->is_done_once = true;
	}
	searches->running_count--;
	for (size_t i = index; i < searches->running_count; i++) {
		searches->running[i] = searches->running[i + 1];
		searches->ended_fds[i] = searches->ended_fds[i + 1];
	}
	release(search);
}
