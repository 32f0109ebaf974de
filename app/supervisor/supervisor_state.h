/* What the files of the supervisor share: supervisor.c runs the loop, supervisor_agent.c speaks to
 * the vault agent, supervisor_control.c to other byok commands, supervisor_disks.c looks at disks,
 * supervisor_search.c finds them, supervisor_workers.c the workers of the supervisor before,
 * supervisor_keys.c watches and follows the keys of volumes that are served, supervisor_hook.c
 * tells the operator's program of it, supervisor_metrics.c tells Prometheus. For nobody else. */
#ifndef APP_SUPERVISOR_SUPERVISOR_STATE_H
#define APP_SUPERVISOR_SUPERVISOR_STATE_H

#include "app/supervisor/control.h"
#include "app/supervisor/managed_volume.h"
#include "app/supervisor/metrics.h"
#include "app/vault/key_url.h"
#include "generated/config.h"

#define SUPERVISOR_VOLUMES_MAX CONFIG_VOLUMES_MAX
#define SUPERVISOR_CLIENTS_MAX 8
#define SUPERVISOR_SEARCHES_MAX 8

/* A command that is answered when every volume it means has come to rest. */
struct supervisor_client {
	int fd; /* -1: free */
	char target[MESSAGE_TEXT_SIZE];
};

/* The key of the settings, if it has no version: its newest one is asked for again and again. */
struct supervisor_follow {
	char url[KEY_URL_TEXT_SIZE];  /* empty: nothing is followed */
	struct newest_version newest; /* as it was seen last */
	enum status cause;            /* what the last question came to */
	char detail[MESSAGE_TEXT_SIZE];
	struct retry retry;
	uint64_t due_ms;     /* 0: nothing is served that could be moved */
	uint32_t request_id; /* 0: no answer is awaited */
	uint64_t answer_due_ms;
};

/* Who looks for disks; each thread that one of them does not answer is left waiting for it. */
struct supervisor_searches {
	struct disk_search *running[SUPERVISOR_SEARCHES_MAX]; /* first those that are held up */
	int ended_fds[SUPERVISOR_SEARCHES_MAX];               /* of them: readable at their end */
	size_t running_count;
	size_t held_up_count; /* all that run, or all but one */
	bool is_done_once;
	uint64_t patience_ms; /* of the one that is not held up: when it will be */
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
	enum status agent_cause;   /* what the last one has ended with */
	uint64_t started_ms;
	uint32_t place; /* drawn at random: this machine's in the fleet that starts with it */
	uint32_t last_request_id;
	struct supervisor_follow follow;
	struct metrics_counters counters;
	int64_t wall_offset_ms;  /* from the clock that nobody sets to the other one */
	uint64_t metrics_due_ms; /* when they are written again at the latest */
	uint64_t metrics_digest; /* of what was written */
	struct supervisor_client clients[SUPERVISOR_CLIENTS_MAX];
	struct managed_volume *volumes[SUPERVISOR_VOLUMES_MAX];
	size_t volume_count;
	bool finds_disks;      /* none was named */
	uint64_t disks_due_ms; /* the next look at disks; 0: none was made yet */
	struct supervisor_searches searches;
	uint64_t adoption_deadline_ms;
	bool was_ready;
	size_t missing_told; /* disks that are expected, and were told not to be there */
	enum supervisor_phase phase;
};

/* NULL if the disk is known already, or there is no room (logged). */
struct managed_volume *supervisor_add_disk(struct supervisor *supervisor, const char *disk_path);
void supervisor_forget(struct supervisor *supervisor, struct managed_volume *managed);
bool supervisor_name_is_taken(const struct supervisor *supervisor,
			      const struct managed_volume *managed);

/* Has new disks looked for, if none was named, and tells which of those served are not there. */
void supervisor_look_at_disks(struct supervisor *supervisor);

/* Begins to look for disks, if nobody does; passes over one that does not answer; takes in what the
 * search at that place has found. */
void supervisor_begin_search(struct supervisor_searches *searches);
void supervisor_watch_search(struct supervisor *supervisor);
void supervisor_hear_search(struct supervisor *supervisor, size_t index);

/* Loads the volume's header and asks for its secret; what fails is noted with the volume. */
void supervisor_try_volume(struct supervisor *supervisor, struct managed_volume *managed);

/* What the vault needs to unwrap the secrets of all of the fleet, if they are all like this one. */
uint64_t supervisor_round_ms(const struct supervisor *supervisor,
			     const struct managed_volume *managed);

void supervisor_start_agent(struct supervisor *supervisor);
void supervisor_hear_agent(struct supervisor *supervisor);
void supervisor_agent_ended(struct supervisor *supervisor, int wait_status);

/* Sends a request; its id is then last_request_id. FAIL_ROLE_DIED without an agent. */
MUST_CHECK enum status supervisor_ask_agent(struct supervisor *supervisor,
					    struct message_agent_request *request,
					    uint64_t *answer_due_ms);

/* Ends an agent that owes an answer for too long. */
void supervisor_watch_agent(struct supervisor *supervisor);

/* Looks at keys and moves volumes to newer versions, when it is time; locks those whose key is lost
 * for too long, if the settings say so, and brings back those that were locked for that. */
void supervisor_begin_following(struct supervisor *supervisor);
void supervisor_watch_keys(struct supervisor *supervisor);
uint64_t supervisor_keys_wake_ms(const struct supervisor *supervisor);
void supervisor_look_at_keys_now(struct supervisor *supervisor);

/* The agent's answers, and the lack of them. 0 for an id that no key waits for. */
uint32_t supervisor_keys_operation(const struct supervisor *supervisor, uint32_t request_id);
void supervisor_hear_keys(struct supervisor *supervisor, const struct message_agent_answer *answer);
void supervisor_keys_lose_agent(struct supervisor *supervisor);
MUST_CHECK bool supervisor_keys_are_overdue(const struct supervisor *supervisor);

/* Runs on_key_change for volumes with news, and ends what runs too long. */
void supervisor_run_hooks(struct supervisor *supervisor);
uint64_t supervisor_hooks_wake_ms(const struct supervisor *supervisor);
MUST_CHECK bool supervisor_hook_ended(struct supervisor *supervisor, pid_t pid, int wait_status);
void supervisor_end_hook(struct managed_volume *managed);

/* Writes metrics.prom in the run directory, if it has anything new to say or is due; removes it
 * when everything is stopped on purpose. */
void supervisor_tell_metrics(struct supervisor *supervisor);

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
