#include "io/nbd_tags.h"

#include <stdlib.h>

static const enum nbd_tag_state next_state[NBD_TAG_STATES][NBD_TAG_EVENTS] = {
	[NBD_TAG_FREE] =
		{
			[NBD_TAG_TAKEN] = NBD_TAG_RECEIVING,
		},
	[NBD_TAG_RECEIVING] =
		{
			[NBD_TAG_SUBMITTED] = NBD_TAG_WORKING,
			[NBD_TAG_ANSWERED] = NBD_TAG_REPLYING,
			[NBD_TAG_RELEASED] = NBD_TAG_FREE,
		},
	[NBD_TAG_WORKING] =
		{
			[NBD_TAG_ANSWERED] = NBD_TAG_REPLYING,
		},
	[NBD_TAG_REPLYING] =
		{
			[NBD_TAG_RELEASED] = NBD_TAG_FREE,
		},
};

void nbd_tag_step(struct nbd_tag *tag, enum nbd_tag_event event)
{
	tag->state = next_state[tag->state][event];
	CHECK(tag->state != NBD_TAG_BROKEN);
}

enum status nbd_tags_init(struct nbd_tags *tags, unsigned count, unsigned owner_count)
{
	unsigned quarter = count / 4 / owner_count;

	CHECK(owner_count > 0 && count >= owner_count);
	*tags = (struct nbd_tags){
		.tags = calloc(count, sizeof(*tags->tags)),
		.count = count,
		.free = calloc(count, sizeof(*tags->free)),
		.free_count = count,
		.held = calloc(owner_count, sizeof(*tags->held)),
		.owner_count = owner_count,
		.sure = MAXIMUM(quarter, 1),
	};
	if (tags->tags == NULL || tags->free == NULL || tags->held == NULL) {
		nbd_tags_free(tags);
		return FAIL_OUT_OF_MEMORY;
	}
	tags->promised = tags->sure * owner_count;
	for (unsigned i = 0; i < count; i++) {
		tags->tags[i].state = NBD_TAG_FREE;
		tags->free[i] = count - 1 - i;
	}
	return OK;
}

void nbd_tags_free(struct nbd_tags *tags)
{
	free(tags->tags);
	free(tags->free);
	free(tags->held);
	*tags = (struct nbd_tags){0};
}

bool nbd_tags_has(const struct nbd_tags *tags, unsigned owner)
{
	CHECK(owner < tags->owner_count && tags->promised <= tags->free_count);
	return tags->held[owner] < tags->sure || tags->free_count > tags->promised;
}

bool nbd_tags_take(struct nbd_tags *tags, unsigned owner, unsigned *number)
{
	if (!nbd_tags_has(tags, owner))
		return false;
	if (tags->held[owner]++ < tags->sure)
		tags->promised--;
	*number = tags->free[--tags->free_count];
	nbd_tag_step(&tags->tags[*number], NBD_TAG_TAKEN);
	tags->tags[*number].owner = owner;
	return true;
}

void nbd_tags_release(struct nbd_tags *tags, unsigned number)
{
	unsigned owner;

	CHECK(number < tags->count);
	owner = tags->tags[number].owner;
	nbd_tag_step(&tags->tags[number], NBD_TAG_RELEASED);
	CHECK(tags->held[owner] > 0);
	if (--tags->held[owner] < tags->sure)
		tags->promised++;
	tags->free[tags->free_count++] = number;
}
