#include "io/block_request.h"

#include <errno.h>

/* What is not written here is REQUEST_BROKEN. A failed disk is told like any other outcome: the
 * error stands in the request. */
static const enum request_state next_state[REQUEST_STATES][REQUEST_EVENTS] = {
	[REQUEST_IDLE] =
		{
			[REQUEST_ASKED_READ] = REQUEST_READING,
			[REQUEST_ASKED_WRITE] = REQUEST_ENCRYPTING,
			[REQUEST_ASKED_FLUSH] = REQUEST_FLUSHING,
			[REQUEST_ASKED_DISCARD] = REQUEST_DISCARDING,
			[REQUEST_REFUSED] = REQUEST_DONE,
		},
	[REQUEST_READING] =
		{
			[REQUEST_DISK_DONE] = REQUEST_DECRYPTING,
			[REQUEST_DISK_SHORT] = REQUEST_READING,
			[REQUEST_DISK_FAILED] = REQUEST_DONE,
		},
	[REQUEST_DECRYPTING] =
		{
			[REQUEST_TRANSFORMED] = REQUEST_DONE,
		},
	[REQUEST_ENCRYPTING] =
		{
			[REQUEST_TRANSFORMED] = REQUEST_WRITING,
		},
	[REQUEST_WRITING] =
		{
			[REQUEST_DISK_DONE] = REQUEST_DONE,
			[REQUEST_DISK_SHORT] = REQUEST_WRITING,
			[REQUEST_DISK_FAILED] = REQUEST_DONE,
		},
	[REQUEST_FLUSHING] =
		{
			[REQUEST_DISK_DONE] = REQUEST_DONE,
			[REQUEST_DISK_SHORT] = REQUEST_FLUSHING,
			[REQUEST_DISK_FAILED] = REQUEST_DONE,
		},
	[REQUEST_DISCARDING] =
		{
			[REQUEST_DISK_DONE] = REQUEST_DONE,
			[REQUEST_DISK_SHORT] = REQUEST_DISCARDING,
			[REQUEST_DISK_FAILED] = REQUEST_DONE,
		},
	[REQUEST_DONE] =
		{
			[REQUEST_TOLD] = REQUEST_IDLE,
		},
};

enum request_state block_request_next(enum request_state state, enum request_event event)
{
	CHECK(state < REQUEST_STATES && event < REQUEST_EVENTS);
	return next_state[state][event];
}

void block_request_step(struct block_request *request, enum request_event event)
{
	request->state = block_request_next(request->state, event);
	CHECK(request->state != REQUEST_BROKEN);
}

static enum request_event fail(struct block_request *request, int error)
{
	request->error = error;
	return REQUEST_DISK_FAILED;
}

enum request_event block_request_take_result(struct block_request *request, int32_t result,
					     uint32_t block_size)
{
	uint64_t left = request->size - request->done_size;
	uint64_t moved;

	if (result == -EINTR || result == -EAGAIN)
		return REQUEST_DISK_SHORT;
	if (result < 0)
		return fail(request, -result);
	if (request->buffer == NULL)
		return REQUEST_DISK_DONE;
	if ((uint64_t)result > left)
		return fail(request, EIO);
	if ((uint64_t)result == left) {
		request->done_size = request->size;
		return REQUEST_DISK_DONE;
	}
	/* The rest must begin on a block: O_DIRECT takes nothing else. */
	moved = (uint64_t)result - (uint64_t)result % block_size;
	if (moved == 0)
		return fail(request, EIO);
	request->done_size += moved;
	return REQUEST_DISK_SHORT;
}

static bool is_within(const struct block_limits *limits, const struct block_command *command)
{
	return command->offset_bytes <= limits->size_bytes &&
	       command->size <= limits->size_bytes - command->offset_bytes;
}

static bool is_whole_sectors(const struct block_limits *limits, const struct block_command *command)
{
	return command->size > 0 && command->size % limits->sector_size == 0 &&
	       command->offset_bytes % limits->sector_size == 0;
}

int block_request_judge(const struct block_limits *limits, const struct block_command *command)
{
	bool is_transfer = command->operation == BLOCK_READ || command->operation == BLOCK_WRITE;

	if (command->operation == BLOCK_FLUSH)
		return 0;
	if ((unsigned)command->operation >= BLOCK_OPERATIONS)
		return EINVAL;
	if (command->operation != BLOCK_READ && !limits->is_writable)
		return EPERM;
	if (command->operation == BLOCK_DISCARD && !limits->can_discard)
		return EOPNOTSUPP;
	if (!is_whole_sectors(limits, command))
		return EINVAL;
	if (!is_within(limits, command))
		return command->operation == BLOCK_READ ? EINVAL : ENOSPC;
	if (is_transfer && command->size > limits->transfer_size_max)
		return EINVAL;
	return 0;
}

const char *block_request_state_word(enum request_state state)
{
	static const char *const words[REQUEST_STATES] = {
		[REQUEST_BROKEN] = "broken",
		[REQUEST_IDLE] = "idle",
		[REQUEST_READING] = "reading",
		[REQUEST_DECRYPTING] = "decrypting",
		[REQUEST_ENCRYPTING] = "encrypting",
		[REQUEST_WRITING] = "writing",
		[REQUEST_FLUSHING] = "flushing",
		[REQUEST_DISCARDING] = "discarding",
		[REQUEST_DONE] = "done",
	};

	CHECK(state < REQUEST_STATES);
	return words[state];
}
