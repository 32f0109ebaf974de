/* The life of one request, or of one piece of a large one, as a table of states and events. Pure:
 * it moves no bytes. Who acts on the states is block_engine.
 */
#ifndef IO_BLOCK_REQUEST_H
#define IO_BLOCK_REQUEST_H

#include "platform/base.h"

enum block_operation {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,        /* puts what was answered before on stable storage */
	BLOCK_DISCARD,      /* the range's content is of no use any more; may be ignored */
	BLOCK_WRITE_ZEROES, /* as a write of zeros, which needs no data from the caller */
	BLOCK_OPERATIONS
};

/* What a front end asks for. Offsets count from the start of the volume. */
struct block_command {
	enum block_operation operation;
	bool is_durable;       /* answered only when on stable storage (FUA) */
	uint64_t offset_bytes; /* 0 for a flush */
	uint64_t size;         /* bytes; 0 for a flush */
};

enum request_state {
	REQUEST_BROKEN, /* never */
	REQUEST_IDLE,   /* nobody has asked */
	REQUEST_READING,
	REQUEST_DECRYPTING, /* waits for the cipher */
	REQUEST_ENCRYPTING, /* waits for the cipher */
	REQUEST_WRITING,
	REQUEST_FLUSHING,
	REQUEST_DISCARDING,
	REQUEST_DONE, /* its outcome is known and not yet told */
	REQUEST_STATES
};

enum request_event {
	REQUEST_ASKED_READ,
	REQUEST_ASKED_WRITE,
	REQUEST_ASKED_FLUSH,
	REQUEST_ASKED_DISCARD,
	REQUEST_REFUSED,    /* asked for something impossible */
	REQUEST_DISK_DONE,  /* the whole range */
	REQUEST_DISK_SHORT, /* a part of it: go on with the rest */
	REQUEST_DISK_FAILED,
	REQUEST_TRANSFORMED, /* by the cipher */
	REQUEST_TOLD,        /* to the front end */
	REQUEST_EVENTS
};

struct block_request {
	enum request_state state;
	bool is_durable;
	int error;             /* 0 or a positive errno, known when DONE */
	uint64_t offset_bytes; /* in the volume */
	uint64_t size;
	uint64_t done_size; /* bytes of it that the disk has moved */
	uint8_t *buffer;    /* `size` bytes; NULL where no data moves */
};

/* REQUEST_BROKEN for what must not happen. */
enum request_state block_request_next(enum request_state state, enum request_event event);

/* Moves on; what must not happen is CHECKed. */
void block_request_step(struct block_request *request, enum request_event event);

/* Takes in the kernel's result for the rest of the range and says what it amounts to. A count is
 * rounded down to whole blocks; a result that does not bring the request on is a failure (EIO), as
 * is a count above what was asked for. EINTR and EAGAIN mean "again": a short transfer of nothing.
 */
enum request_event block_request_take_result(struct block_request *request, int32_t result,
					     uint32_t block_size);

/* What the volume allows, for judging commands. */
struct block_limits {
	uint64_t size_bytes;
	uint32_t sector_size;
	uint64_t transfer_size_max; /* of one READ or WRITE */
	bool is_writable;
	bool can_discard;
};

/* 0, or the errno with which to refuse: EINVAL (not whole sectors, of size 0, too large, or a read
 * past the end), ENOSPC (a write past the end), EPERM (a write to a read-only volume), EOPNOTSUPP.
 * Any command whatever may come here. */
int block_request_judge(const struct block_limits *limits, const struct block_command *command);

/* Words for logs and the picture in README.md: "decrypting". */
const char *block_request_state_word(enum request_state state);

#endif
