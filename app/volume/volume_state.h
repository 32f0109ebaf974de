/* The life of one volume under the supervisor: every state, every event, and the one table. */
#ifndef APP_VOLUME_VOLUME_STATE_H
#define APP_VOLUME_VOLUME_STATE_H

#include "platform/base.h"

enum volume_state {
	VOLUME_BROKEN,   /* what the table does not allow */
	VOLUME_FOUND,    /* nothing was tried yet */
	VOLUME_ASKING,   /* the vault was asked to unwrap its secret */
	VOLUME_WAITING,  /* something failed; it is tried again at a known time */
	VOLUME_STARTING, /* a worker has the volume key */
	VOLUME_SERVING,  /* the device is there */
	VOLUME_STOPPING, /* the worker was told to stop */
	VOLUME_LOCKED,   /* stopped on purpose; stays so until asked for */
	VOLUME_ADOPTING, /* a worker was found, and asked what it serves */
	VOLUME_YIELDING, /* the worker was told to make room for another one */
	VOLUME_STATES
};

enum volume_event {
	VOLUME_KEY_ASKED,
	VOLUME_UNLOCKED, /* by the vault or the recovery key: a worker was started */
	VOLUME_FAILED,   /* before, or when, the worker could serve */
	VOLUME_WORKER_SERVES,
	VOLUME_WORKER_ENDED,
	VOLUME_LOCK_ASKED,
	VOLUME_LOCK_REFUSED,   /* the device is in use */
	VOLUME_REMOVAL_BEGUN,  /* of a device that has no worker: a process was started for it */
	VOLUME_WORKER_FOUND,   /* that another supervisor has started */
	VOLUME_EXCHANGE_ASKED, /* the worker's program is not this one */
	VOLUME_KEY_AWAITED,    /* it was locked because its key or its disk was lost */
	VOLUME_EVENTS
};

/* CHECKs that the table has an entry. */
enum volume_state volume_state_next(enum volume_state state, enum volume_event event);

/* Whether the table has one: for requests of operators, which come at any time. */
MUST_CHECK bool volume_state_allows(enum volume_state state, enum volume_event event);

const char *volume_state_word(enum volume_state state); /* "serving" */

#endif
