/* One volume as the supervisor sees it: its state, why, what happens next, and its worker. Knows
 * nothing of the event loop around it, and waits for nobody.
 *
 * managed_volume.c has the way to the key, managed_volume_worker.c the worker's life,
 * managed_volume_handover.c what goes from one worker or supervisor to the next,
 * managed_volume_device.c the device's name, managed_volume_key.c the watch over its key. */
#ifndef APP_SUPERVISOR_MANAGED_VOLUME_H
#define APP_SUPERVISOR_MANAGED_VOLUME_H

#include "app/config.h"
#include "app/messages.h"
#include "app/supervisor/key_policy.h"
#include "app/supervisor/retry.h"
#include "app/volume/rotation.h"
#include "app/volume/volume_state.h"
#include "app/volume_name.h"
#include "platform/clock.h"
#include "platform/process.h"

#define MANAGED_VOLUME_DEVICES "/dev/byok"

enum key_job {
	KEY_JOB_NONE,
	KEY_JOB_LOOKS,      /* the vault was asked to unwrap by the token's key */
	KEY_JOB_LOOKS_BACK, /* in vain, but there is a newer version: by the previous one */
	KEY_JOB_WRAPS,      /* the newer version was asked to wrap */
	KEY_JOB_PROVES,     /* and to unwrap that again */
};

/* How well its key can be reached, and the move to a newer version of it. */
struct managed_key {
	enum key_state state;
	enum status cause; /* what the last look came to, and what the other side said */
	char detail[MESSAGE_TEXT_SIZE];
	uint64_t since_ms;        /* in this state */
	uint64_t lost_since_ms;   /* also when the supervisor before noted that; 0: it is not */
	uint64_t proved_ms;       /* the last good look; 0: none */
	uint64_t due_ms;          /* the next one */
	bool is_news;             /* not told to on_key_change yet */
	enum status backup_cause; /* what the last copy of the header came to */
	uint64_t backup_id;       /* the sequence id that it was of */

	enum key_job job;
	uint32_t request_id;
	uint64_t answer_due_ms;
	struct secret_memory secret; /* WRAPS, PROVES: the slot secret */
	struct rotation rotation;
	enum status rotation_cause; /* why the newest version is not taken */
	uint64_t rotation_due_ms;   /* not before */

	bool is_locking; /* for its loss */
	uint64_t lock_due_ms;

	pid_t hook_pid; /* on_key_change; 0: does not run */
	uint64_t hook_deadline_ms;
};

struct managed_volume {
	struct volume volume; /* as last loaded, if it was loaded */
	struct luks2_layout layout;
	struct vault_token token;
	bool is_loaded; /* the three above say something */
	char disk_path[VOLUME_PATH_SIZE];
	char name[VOLUME_NAME_SIZE]; /* empty before the first good load */

	enum volume_state state;
	enum status cause; /* of the state; OK if all is well */
	char detail[MESSAGE_TEXT_SIZE];
	uint64_t since_ms;
	uint64_t due_ms; /* FOUND, WAITING: the next try; ASKING: when an answer is overdue */
	struct retry retry;
	uint64_t round_ms;        /* what the vault needs for the whole fleet's unwraps */
	enum status logged_cause; /* what was last said of it, and when */
	uint64_t logged_ms;
	enum status header_cause; /* SERVING: what the last look at its header came to */
	unsigned disk_misses;     /* SERVING: looks in a row that did not find its disk */
	bool is_given_up;         /* for its disk is not there */
	uint32_t workers_lost;
	uint32_t headers_repaired;
	uint32_t rotations;

	uint32_t request_id;       /* ASKING: of the request whose answer it waits for */
	bool asks_previous;        /* ASKING: by the token's previous wrapping, after... */
	enum status current_cause; /* ...the present one came to this */
	char current_detail[MESSAGE_TEXT_SIZE];
	struct managed_key key;
	struct process worker;
	struct process prepared; /* is to be the worker when there is a key */
	bool was_prepared;       /* one was, since it was served last */
	char device_path[64];    /* what it serves: "/dev/ublkb0"; stays while users wait */

	/* A struct message_handover: what its worker was started with, key included, so that
	 * another one can take its place. Without a worker only open while users wait for one. */
	struct secret_memory handover;
	uint64_t paused_since_ms;       /* users wait for a worker; 0: none do */
	struct backoff restart_backoff; /* of workers that die */
};

void managed_volume_init(struct managed_volume *managed, const char *disk_path,
			 const struct config *config);

/* Wipes the key and parts from the worker, which goes on. */
void managed_volume_close(struct managed_volume *managed);

/* (Re)reads header and token, and checks them against policy and settings. FAIL_KEY_FOREIGN,
 * FAIL_NAME, and the failures of volume_load, volume_check_policy. */
MUST_CHECK enum status managed_volume_load(struct managed_volume *managed);

/* The request by which the vault agent unwraps its secret, by the token's present wrapping or,
 * after managed_volume_asks_previous, by the one before; then managed_volume_asked with its id and
 * the time by which there must be an answer. FAIL_NO_VAULT_TOKEN, FAIL_TOKEN, FAIL_KEY_FOREIGN,
 * FAIL_KDF_COST. */
MUST_CHECK enum status managed_volume_request(struct managed_volume *managed,
					      struct message_agent_request *request,
					      const struct config *config);
void managed_volume_asked(struct managed_volume *managed, uint32_t request_id, uint64_t due_ms);

/* After a failure: whether another wrapping is there to try, the one before an unfinished rotation.
 * What then fails is reported as the failure of the present one. */
MUST_CHECK bool managed_volume_asks_previous(struct managed_volume *managed, enum status cause,
					     const char *detail);

/* Whether both wait for the very same secret, so that one unwrap serves both. */
MUST_CHECK bool managed_volume_same_secret(const struct managed_volume *a,
					   const struct managed_volume *b);

/* Starts the process that will be its worker, and has it take its buffers, while the vault is
 * waited for. Once: if it dies, or the vault gives no key, the memory is the machine's again, and
 * the worker is started when there is a key. */
void managed_volume_prepare(struct managed_volume *managed, const struct config *config);

/* Opens its vault slot with the slot secret. Any thread, as long as nobody else has `managed`.
 * FAIL_WRAPPED_MISMATCH, those of volume_unlock. */
MUST_CHECK enum status managed_volume_open_slot(struct secret *volume_key,
						const struct managed_volume *managed,
						const uint8_t secret[static 32]);

/* Starts a worker with what the slot held. */
MUST_CHECK enum status managed_volume_unlock(struct managed_volume *managed,
					     const struct secret *volume_key,
					     const struct config *config);

/* Starts a worker with a volume key that somebody proved on the disk of that uuid; load first.
 * FAIL_HEADER_CHANGED if it is another disk by now. */
MUST_CHECK enum status managed_volume_recover(struct managed_volume *managed, const char *uuid,
					      const uint8_t volume_key[static 64],
					      const struct config *config);

/* Notes that something failed, says so (once per cause and every few minutes) and plans the next
 * try by back-off; `retry_after_ms` is the least wait. */
void managed_volume_fail(struct managed_volume *managed, enum status cause, const char *detail,
			 uint64_t retry_after_ms);

/* What the worker's socket has to say; also at its end. Publishes and removes /dev/byok/NAME. */
void managed_volume_hear_worker(struct managed_volume *managed);

/* The room for what a worker is started with, which must have been opened; it stays until it is
 * closed. FAIL_OUT_OF_MEMORY. */
MUST_CHECK enum status managed_volume_open_handover(struct managed_volume *managed);
struct message_handover *managed_volume_handover(const struct managed_volume *managed);

/* What a worker that was found has to say: ADOPTING ends. */
void managed_volume_hear_handover(struct managed_volume *managed);

/* Hears the worker no more; the end of its process is still seen. */
void managed_volume_hang_up(struct managed_volume *managed);

/* Asks for a stop. A volume without worker is locked at once; but not if users wait for one, unless
 * forced: then they get errors. */
void managed_volume_lock(struct managed_volume *managed, bool force, const struct config *config);

/* A process of that id ended: true if it was this volume's worker. */
MUST_CHECK bool managed_volume_reap(struct managed_volume *managed, pid_t pid, int wait_status);

/* Its worker, which is not a child, ended. */
void managed_volume_worker_ended(struct managed_volume *managed);

/* Takes over the worker of that name, which another supervisor has started, if it is there. What it
 * serves is known when it has answered: SERVING. A worker of another program is then exchanged. */
MUST_CHECK enum status managed_volume_adopt(struct managed_volume *managed, const char *name,
					    const struct config *config);

/* The volume key is here because users wait for another worker, or would. */
MUST_CHECK bool managed_volume_has_key(const struct managed_volume *managed);

/* Starts another worker with the key that is here. FAIL_HEADER_CHANGED if the disk's path leads to
 * another volume by now; the failures of managed_volume_load. */
MUST_CHECK enum status managed_volume_restart(struct managed_volume *managed);

/* Ends a worker that is to make room and does not. */
void managed_volume_watch(struct managed_volume *managed);

/* While it is served. Looks whether its path still leads to the disk that its worker has; one miss
 * may be chance, for instance a link that udev makes anew. */
void managed_volume_look_for_disk(struct managed_volume *managed);
MUST_CHECK bool managed_volume_has_lost_disk(const struct managed_volume *managed);
void managed_volume_header_seen(struct managed_volume *managed, enum status outcome);

/* What is wrong with it, or OK: also of one that is served, but would not be again. */
enum status managed_volume_problem(const struct managed_volume *managed);

/* Nothing happens to it unless something comes from outside. */
MUST_CHECK bool managed_volume_is_at_rest(const struct managed_volume *managed);

/* --- its key, once it is served --- */

/* What an attempt to have its secret unwrapped by its present key came to. */
void managed_volume_key_seen(struct managed_volume *managed, enum status outcome,
			     const char *detail, const struct config *config);

/* The time of a loss is on file in the run directory. Of a volume that is taken over, reads when
 * the supervisor before has noted one; of one that somebody has opened although its key is lost,
 * lets it begin anew. */
void managed_volume_key_remember(struct managed_volume *managed, const struct config *config);
void managed_volume_key_overruled(struct managed_volume *managed, const struct config *config);

/* Begins a look: reads the header again and gives the request for the vault agent. The failures of
 * volume_load and volume_vault_token; FAIL_HEADER_CHANGED if it is another volume's. */
MUST_CHECK enum status managed_volume_key_look(struct managed_volume *managed,
					       struct message_agent_request *request,
					       const struct config *config);

/* The newest version of the key that is followed, if it is known and may be used. Versions of one
 * key need not be of one kind. */
struct newest_version {
	char kid[MESSAGE_TEXT_SIZE]; /* or empty */
	uint32_t key_bits;
};

/* Goes on with the answer: true if `request`, which holds a secret, is to be sent next. When it is
 * over, the next look is planned. */
MUST_CHECK bool managed_volume_key_hear(struct managed_volume *managed,
					struct message_agent_request *request,
					const struct message_agent_answer *answer,
					const struct newest_version *newest,
					const struct config *config);

/* Keeps a copy of the header as it was loaded, unless there is one. */
void managed_volume_back_up(struct managed_volume *managed, const struct config *config);

void managed_volume_key_end(struct managed_volume *managed); /* gives up what is under way */

/* --- between the files --- */

void managed_volume_count_repairs(struct managed_volume *managed, const struct volume *loaded);
MUST_CHECK enum status managed_volume_check_cost(const struct managed_volume *managed);

void managed_volume_handle(struct managed_volume *managed, enum volume_event event);
const char *managed_volume_name(const struct managed_volume *managed); /* also without one */

/* Puts a worker with that volume key on its way. */
MUST_CHECK enum status managed_volume_start(struct managed_volume *managed,
					    const uint8_t volume_key[static 64],
					    const struct config *config);

/* Makes and removes /dev/byok/NAME. */
void managed_volume_publish(const struct managed_volume *managed);
void managed_volume_unpublish(struct managed_volume *managed);

/* Whether there is a device of that name. */
MUST_CHECK bool managed_volume_is_published(const struct managed_volume *managed);

#endif
