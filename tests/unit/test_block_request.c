#include "io/block_request.h"

#include <errno.h>

#include "tests/unit/test.h"

static const struct block_limits limits = {
	.size_bytes = 1024 * 1024,
	.sector_size = 4096,
	.transfer_size_max = 65536,
	.is_writable = true,
	.can_discard = true,
};

/* Written a second time, from the other side: who may come from where. */
static bool is_allowed(enum request_state state, enum request_event event)
{
	bool with_disk = state == REQUEST_READING || state == REQUEST_WRITING ||
			 state == REQUEST_FLUSHING || state == REQUEST_DISCARDING;

	switch (event) {
	case REQUEST_ASKED_READ:
	case REQUEST_ASKED_WRITE:
	case REQUEST_ASKED_FLUSH:
	case REQUEST_ASKED_DISCARD:
	case REQUEST_REFUSED: return state == REQUEST_IDLE;
	case REQUEST_DISK_DONE:
	case REQUEST_DISK_SHORT:
	case REQUEST_DISK_FAILED: return with_disk;
	case REQUEST_TRANSFORMED: return state == REQUEST_DECRYPTING || state == REQUEST_ENCRYPTING;
	case REQUEST_TOLD: return state == REQUEST_DONE;
	case REQUEST_EVENTS:
	default: return false;
	}
}

TEST(an_event_is_taken_exactly_where_it_can_happen)
{
	for (enum request_state state = 0; state < REQUEST_STATES; state++)
		for (enum request_event event = 0; event < REQUEST_EVENTS; event++)
			EXPECT_EQUAL(block_request_next(state, event) != REQUEST_BROKEN,
				     is_allowed(state, event));
}

TEST(every_state_can_be_reached_and_left_towards_idle)
{
	bool reached[REQUEST_STATES] = {[REQUEST_IDLE] = true};
	bool ends[REQUEST_STATES] = {[REQUEST_IDLE] = true};

	for (unsigned lap = 0; lap < REQUEST_STATES; lap++)
		for (enum request_state state = 0; state < REQUEST_STATES; state++)
			for (enum request_event event = 0; event < REQUEST_EVENTS; event++) {
				enum request_state next = block_request_next(state, event);

				reached[next] = reached[next] || reached[state];
				ends[state] = ends[state] || ends[next];
			}
	for (enum request_state state = REQUEST_IDLE; state < REQUEST_STATES; state++) {
		EXPECT_TRUE(reached[state]);
		EXPECT_TRUE(ends[state]);
	}
	EXPECT_FALSE(ends[REQUEST_BROKEN]);
}

TEST(plaintext_is_never_written_and_ciphertext_never_told)
{
	enum request_state after_read = block_request_next(REQUEST_READING, REQUEST_DISK_DONE);

	EXPECT_EQUAL(block_request_next(REQUEST_IDLE, REQUEST_ASKED_WRITE), REQUEST_ENCRYPTING);
	EXPECT_EQUAL(after_read, REQUEST_DECRYPTING);
	/* Writing is come to only from the cipher. */
	for (enum request_state state = 0; state < REQUEST_STATES; state++)
		for (enum request_event event = 0; event < REQUEST_EVENTS; event++)
			if (block_request_next(state, event) == REQUEST_WRITING &&
			    state != REQUEST_WRITING)
				EXPECT_TRUE(state == REQUEST_ENCRYPTING &&
					    event == REQUEST_TRANSFORMED);
}

TEST(what_must_not_happen_crashes)
{
	struct block_request request = {.state = REQUEST_IDLE};

	EXPECT_ABORT(block_request_step(&request, REQUEST_DISK_DONE));
	EXPECT_EQUAL(request.state, REQUEST_IDLE);
}

TEST(every_state_has_a_word)
{
	for (enum request_state state = 0; state < REQUEST_STATES; state++)
		EXPECT_NOT_EQUAL(block_request_state_word(state)[0], '\0');
}

static uint8_t somewhere[8192];

TEST(a_whole_transfer_is_done)
{
	struct block_request request = {.size = 8192, .buffer = somewhere};

	EXPECT_EQUAL(block_request_take_result(&request, 8192, 512), REQUEST_DISK_DONE);
	EXPECT_EQUAL(request.done_size, 8192);
	EXPECT_EQUAL(request.error, 0);
}

TEST(a_short_transfer_goes_on_at_the_last_whole_block)
{
	struct block_request request = {.size = 8192, .buffer = somewhere};

	EXPECT_EQUAL(block_request_take_result(&request, 1500, 512), REQUEST_DISK_SHORT);
	EXPECT_EQUAL(request.done_size, 1024);
	EXPECT_EQUAL(block_request_take_result(&request, 7167, 512), REQUEST_DISK_SHORT);
	EXPECT_EQUAL(request.done_size, 1024 + 6656);
	EXPECT_EQUAL(block_request_take_result(&request, 512, 512), REQUEST_DISK_DONE);
}

TEST(a_transfer_that_brings_nothing_forward_is_an_error)
{
	static const int32_t results[] = {0, 1, 511, 8193, INT32_MAX};

	for (size_t i = 0; i < ARRAY_COUNT(results); i++) {
		struct block_request request = {.size = 8192, .buffer = somewhere};

		EXPECT_EQUAL(block_request_take_result(&request, results[i], 512),
			     REQUEST_DISK_FAILED);
		EXPECT_EQUAL(request.error, EIO);
		EXPECT_EQUAL(request.done_size, 0);
	}
}

TEST(a_disk_error_keeps_its_number)
{
	struct block_request request = {.size = 8192, .buffer = somewhere};

	EXPECT_EQUAL(block_request_take_result(&request, -ENOSPC, 512), REQUEST_DISK_FAILED);
	EXPECT_EQUAL(request.error, ENOSPC);
}

TEST(an_interrupted_operation_is_tried_again)
{
	struct block_request request = {.size = 8192, .buffer = somewhere};

	EXPECT_EQUAL(block_request_take_result(&request, -EINTR, 512), REQUEST_DISK_SHORT);
	EXPECT_EQUAL(block_request_take_result(&request, -EAGAIN, 512), REQUEST_DISK_SHORT);
	EXPECT_EQUAL(request.done_size, 0);
}

TEST(what_moves_no_data_is_done_with_zero)
{
	struct block_request request = {.size = 8192};

	EXPECT_EQUAL(block_request_take_result(&request, 0, 512), REQUEST_DISK_DONE);
}

static int judge(enum block_operation operation, uint64_t offset_bytes, uint64_t size)
{
	const struct block_command command = {
		.operation = operation, .offset_bytes = offset_bytes, .size = size};

	return block_request_judge(&limits, &command);
}

TEST(whole_sectors_within_the_volume_are_allowed)
{
	EXPECT_EQUAL(judge(BLOCK_READ, 0, 4096), 0);
	EXPECT_EQUAL(judge(BLOCK_WRITE, 4096, 65536), 0);
	EXPECT_EQUAL(judge(BLOCK_READ, 1024 * 1024 - 4096, 4096), 0);
	EXPECT_EQUAL(judge(BLOCK_WRITE_ZEROES, 0, 1024 * 1024), 0);
	EXPECT_EQUAL(judge(BLOCK_DISCARD, 0, 1024 * 1024), 0);
	EXPECT_EQUAL(judge(BLOCK_FLUSH, 0, 0), 0);
}

TEST(parts_of_sectors_are_refused)
{
	for (enum block_operation operation = 0; operation < BLOCK_OPERATIONS; operation++) {
		if (operation == BLOCK_FLUSH)
			continue;
		EXPECT_EQUAL(judge(operation, 512, 4096), EINVAL);
		EXPECT_EQUAL(judge(operation, 0, 512), EINVAL);
		EXPECT_EQUAL(judge(operation, 0, 4097), EINVAL);
		EXPECT_EQUAL(judge(operation, 0, 0), EINVAL);
	}
}

TEST(the_end_of_the_volume_is_the_end)
{
	static const uint64_t offsets[] = {1024 * 1024, 1024 * 1024 - 4096, UINT64_MAX - 4095,
					   UINT64_MAX - 8191, (uint64_t)1 << 63};

	for (size_t i = 0; i < ARRAY_COUNT(offsets); i++) {
		EXPECT_EQUAL(judge(BLOCK_READ, offsets[i], 8192), EINVAL);
		EXPECT_EQUAL(judge(BLOCK_WRITE, offsets[i], 8192), ENOSPC);
		EXPECT_EQUAL(judge(BLOCK_WRITE_ZEROES, offsets[i], 8192), ENOSPC);
		EXPECT_EQUAL(judge(BLOCK_DISCARD, offsets[i], 8192), ENOSPC);
	}
	EXPECT_EQUAL(judge(BLOCK_READ, 0, UINT64_MAX - 4095), EINVAL);
}

TEST(a_transfer_larger_than_a_buffer_is_refused)
{
	EXPECT_EQUAL(judge(BLOCK_READ, 0, 65536 + 4096), EINVAL);
	EXPECT_EQUAL(judge(BLOCK_WRITE, 0, 65536 + 4096), EINVAL);
}

TEST(a_read_only_volume_takes_no_change)
{
	struct block_limits read_only = limits;

	read_only.is_writable = false;
	for (enum block_operation operation = 0; operation < BLOCK_OPERATIONS; operation++) {
		const struct block_command command = {.operation = operation, .size = 4096};
		bool changes = operation != BLOCK_READ && operation != BLOCK_FLUSH;

		EXPECT_EQUAL(block_request_judge(&read_only, &command), changes ? EPERM : 0);
	}
}

TEST(a_discard_needs_a_disk_that_can)
{
	struct block_limits no_discard = limits;
	const struct block_command command = {.operation = BLOCK_DISCARD, .size = 4096};

	no_discard.can_discard = false;
	EXPECT_EQUAL(block_request_judge(&no_discard, &command), EOPNOTSUPP);
}

TEST(an_unknown_operation_is_refused)
{
	EXPECT_EQUAL(judge(BLOCK_OPERATIONS, 0, 4096), EINVAL);
	EXPECT_EQUAL(judge((enum block_operation)77, 0, 4096), EINVAL);
}
