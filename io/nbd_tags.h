/* Who holds which of the server's requests. Every connection is sure of a few, so that one which
 * leaves its answers unread cannot starve the others; the rest is for whoever comes first. Pure but
 * for the memory taken at start.
 */
#ifndef IO_NBD_TAGS_H
#define IO_NBD_TAGS_H

#include "io/block_request.h"
#include "io/nbd_protocol.h"
#include "platform/status.h"

enum nbd_tag_state {
	NBD_TAG_BROKEN, /* never */
	NBD_TAG_FREE,
	NBD_TAG_RECEIVING, /* its payload is on the way from the client */
	NBD_TAG_WORKING,   /* with the engine */
	NBD_TAG_REPLYING,  /* its reply waits or is on the way to the client */
	NBD_TAG_STATES
};

enum nbd_tag_event {
	NBD_TAG_TAKEN,
	NBD_TAG_SUBMITTED,
	NBD_TAG_ANSWERED, /* by the engine, or refused without it */
	NBD_TAG_RELEASED, /* the reply is sent, or nobody is left to read it */
	NBD_TAG_EVENTS
};

struct nbd_tag {
	enum nbd_tag_state state;
	unsigned owner; /* number of the connection */
	uint64_t cookie;
	struct block_command command;
	uint32_t reply_data_size; /* of a good READ */
	uint8_t reply[NBD_REPLY_SIZE];
};

struct nbd_tags {
	struct nbd_tag *tags;
	unsigned count;
	unsigned *free; /* a stack of numbers: the buffer used last is the one still in the cache */
	unsigned free_count;
	unsigned *held; /* by each owner */
	unsigned owner_count;
	unsigned sure;     /* what each owner can be sure of */
	unsigned promised; /* of the free ones, those that owners are sure of and do not hold */
};

/* `count` is at least `owner_count`. */
MUST_CHECK enum status nbd_tags_init(struct nbd_tags *tags, unsigned count, unsigned owner_count);
void nbd_tags_free(struct nbd_tags *tags);

/* False if none is left for this owner. */
bool nbd_tags_has(const struct nbd_tags *tags, unsigned owner);
MUST_CHECK bool nbd_tags_take(struct nbd_tags *tags, unsigned owner, unsigned *number);
void nbd_tags_release(struct nbd_tags *tags, unsigned number);

/* Moves on; what must not happen is CHECKed. */
void nbd_tag_step(struct nbd_tag *tag, enum nbd_tag_event event);

#endif
