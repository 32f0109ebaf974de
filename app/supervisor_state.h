/* What the files of the supervisor share: supervisor.c runs the loop, supervisor_agent.c speaks to
 * the vault agent, supervisor_control.c to other byok commands, supervisor_workers.c finds the
 * workers of the supervisor before. For nobody else. */
#ifndef APP_SUPERVISOR_STATE_H
#define APP_SUPERVISOR_STATE_H

#include "app/control.h"
#include "app/managed_volume.h"
#include "generated/config.h"

#define SUPERVISOR_VOLUMES_MAX CONFIG_VOLUMES_MAX
#define SUPERVISOR_CLIENTS_MAX 8

/* A command that is answered when every volume it means has come to rest. */
struct supervisor_client {
	int fd; /* -1: free */
	char target[MESSAGE_TEXT_SIZE];
};

enum supervisor_phase {
	SUPERVISOR_RUNS,
	SUPERVISOR_STOPS,  /* what is not in use is locked */
	SUPERVISOR_LEAVES, /* everything stays for the next supervisor */
};

struct supervisor {
	const struct config *config;
	struct control_server control;
	int signal_fd;
	struct process agent;
	struct backoff agent_backoff;
	uint64_t agent_restart_ms; /* when it may be started again */
	uint64_t started_ms;
	uint32_t place; /* drawn at random: this machine's in the fleet that starts with it */
	uint32_t last_request_id;
	struct supervisor_client clients[SUPERVISOR_CLIENTS_MAX];
	struct managed_volume *volumes[SUPERVISOR_VOLUMES_MAX];
	size_t volume_count;
	bool finds_disks; /* none was named */
	uint64_t rescan_ms;
	uint64_t adoption_deadline_ms;
	bool was_ready;
	enum supervisor_phase phase;
};

/* NULL if the disk is known already, or there is no room (logged). */
struct managed_volume *supervisor_add_disk(struct supervisor *supervisor, const char *disk_path);
void supervisor_forget(struct supervisor *supervisor, struct managed_volume *managed);
bool supervisor_name_is_taken(const struct supervisor *supervisor,
			      const struct managed_volume *managed);

/* Loads the volume's header and asks for its secret; what fails is noted with the volume. */
void supervisor_try_volume(struct supervisor *supervisor, struct managed_volume *managed);

void supervisor_start_agent(struct supervisor *supervisor);
void supervisor_hear_agent(struct supervisor *supervisor);
void supervisor_agent_ended(struct supervisor *supervisor, int wait_status);

/* Ends an agent that owes an answer for too long. */
void supervisor_watch_agent(struct supervisor *supervisor);

/* Joins every worker that is there already; then hears what each one serves, which makes some
 * volumes one, and for some time holds back disks that may be served. */
void supervisor_find_workers(struct supervisor *supervisor);
void supervisor_settle_adoptions(struct supervisor *supervisor);
MUST_CHECK bool supervisor_is_adopting(const struct supervisor *supervisor);

/* A new command, one that was left by whoever gave it, and all those that can be answered now. */
void supervisor_hear_control(struct supervisor *supervisor);
void supervisor_drop_client(struct supervisor_client *client);
void supervisor_answer_settled(struct supervisor *supervisor);

#endif
