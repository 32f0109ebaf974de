#include "app/supervisor/supervisor_state.h"

#include <signal.h>
#include <sys/wait.h>

#include "platform/log.h"

#define PATIENCE_MS 10000

/* It is told how things are, so one that is still running misses what lies between. */
static void run(const struct supervisor *supervisor, struct managed_volume *managed)
{
	struct managed_key *key = &managed->key;
	char *const arguments[] = {
		(char *)supervisor->config->on_key_change,
		managed->name,
		(char *)key_policy_word(key->state),
		(char *)status_word(key->cause),
		managed->token.current.kid,
		NULL,
	};

	key->is_news = false;
	if (arguments[0][0] == '\0' || process_run_program(&key->hook_pid, arguments) != OK)
		return;
	key->hook_deadline_ms = clock_now_ms() + PATIENCE_MS;
}

void supervisor_end_hook(struct managed_volume *managed)
{
	if (managed->key.hook_pid != 0)
		kill(-managed->key.hook_pid, SIGKILL);
}

void supervisor_run_hooks(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_volume *managed = supervisor->volumes[i];
		struct managed_key *key = &managed->key;

		if (key->hook_pid == 0 && key->is_news && managed->is_loaded) {
			run(supervisor, managed);
		} else if (key->hook_pid != 0 && key->hook_deadline_ms <= clock_now_ms()) {
			supervisor_end_hook(managed);
			key->hook_deadline_ms = UINT64_MAX;
		}
	}
}

uint64_t supervisor_hooks_wake_ms(const struct supervisor *supervisor)
{
	uint64_t wake_ms = UINT64_MAX;

	for (size_t i = 0; i < supervisor->volume_count; i++)
		if (supervisor->volumes[i]->key.hook_pid != 0)
			wake_ms = MINIMUM(wake_ms, supervisor->volumes[i]->key.hook_deadline_ms);
	return wake_ms;
}

bool supervisor_hook_ended(struct supervisor *supervisor, pid_t pid, int wait_status)
{
	for (size_t i = 0; i < supervisor->volume_count; i++) {
		struct managed_key *key = &supervisor->volumes[i]->key;

		if (key->hook_pid != pid)
			continue;
		key->hook_pid = 0;
		if (WIFSIGNALED(wait_status))
			log_warning("on_key_change was ended: it took longer than %d s",
				    PATIENCE_MS / 1000);
		else if (WEXITSTATUS(wait_status) != 0)
			log_warning("on_key_change ended with %d%s", WEXITSTATUS(wait_status),
				    WEXITSTATUS(wait_status) == 127 ? ": it cannot be run" : "");
		return true;
	}
	return false;
}
