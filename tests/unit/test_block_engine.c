/* The request path over a disk in memory whose operations end when and how the test says. */
#include "io/block_engine.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/fakes/fake_cipher.c"
#include "tests/unit/fakes/fake_disk.c"
#include "tests/unit/test.h"

enum {
	SECTOR_SIZE = 4096,
	DATA_OFFSET = 65536,
	VOLUME_SIZE = 256 * 1024,
	FIRST_UNIT = 1000,
	BUFFER_SIZE = 32768,
	TAG_COUNT = 8,
	NOT_TOLD = -1,
	TOLD_MAX = 64,
};

static struct {
	struct backing_disk disk;
	struct block_volume volume;
	struct ring ring;
	struct buffer_pool pool;
	struct block_engine *engine;
	int outcome[TAG_COUNT]; /* NOT_TOLD, or the error */
	unsigned told_count;
	unsigned told[TOLD_MAX];
	const struct block_command *resubmit; /* by the next completion */
} test;

static void note_told(void *context, unsigned tag, int error)
{
	const struct block_command *resubmit = test.resubmit;

	EXPECT_TRUE(context == &test);
	EXPECT_EQUAL(test.outcome[tag], NOT_TOLD);
	test.outcome[tag] = error;
	test.told[test.told_count++ % TOLD_MAX] = tag;
	if (resubmit != NULL) {
		test.resubmit = NULL;
		test.outcome[tag] = NOT_TOLD;
		block_engine_submit(test.engine, tag, resubmit);
	}
}

static void stop(void)
{
	ring_close(&test.ring);
	block_engine_close(&test.engine);
	buffer_pool_close(&test.pool);
	backing_disk_close(&test.disk);
}

static enum status try_start(const struct block_engine_options *options)
{
	const struct ring_options ring_options = {.operations_max = 64, .file_count = 1};

	EXPECT_OK(buffer_pool_open(&test.pool, BUFFER_SIZE, TAG_COUNT));
	EXPECT_OK(ring_open(&test.ring, &ring_options));
	return block_engine_open(&test.engine, options, &test.volume, &test.ring, &test.pool,
				 note_told, &test);
}

static void prepare(void)
{
	stop();
	memset(&test, 0, sizeof(test));
	test.disk = fake_disk_make(DATA_OFFSET + VOLUME_SIZE);
	test.volume = (struct block_volume){
		.disk = &test.disk,
		.data_offset_bytes = DATA_OFFSET,
		.size_bytes = VOLUME_SIZE,
		.first_unit = FIRST_UNIT,
		.cipher = fake_cipher_make(SECTOR_SIZE),
		.allows_discard = true,
	};
	for (unsigned i = 0; i < TAG_COUNT; i++)
		test.outcome[i] = NOT_TOLD;
}

static void start_with(uint32_t piece_size, uint32_t cipher_size)
{
	prepare();
	EXPECT_OK(try_start(&(struct block_engine_options){
		.tag_count = TAG_COUNT, .piece_size = piece_size, .cipher_size = cipher_size}));
}

static void start(void)
{
	start_with(0, 0);
}

static void submit(unsigned tag, enum block_operation operation, uint64_t offset_bytes,
		   uint64_t size)
{
	test.outcome[tag] = NOT_TOLD;
	block_engine_submit(test.engine, tag,
			    &(struct block_command){.operation = operation,
						    .offset_bytes = offset_bytes,
						    .size = size});
}

static void advance(void)
{
	block_engine_advance(test.engine);
}

static void finish(unsigned skipped, int32_t result)
{
	fake_disk_finish(fake_disk_waiting(skipped), result);
}

static void finish_well(unsigned skipped)
{
	struct fake_operation *operation = fake_disk_waiting(skipped);

	fake_disk_finish(operation, fake_disk_good_result(operation));
}

static void finish_all_well(void)
{
	while (fake.waiting_count > 0 || block_engine_has_work(test.engine)) {
		while (fake.waiting_count > 0)
			finish_well(0);
		advance();
	}
}

static uint8_t *buffer(unsigned tag)
{
	return buffer_pool_at(&test.pool, tag);
}

/* What the disk must hold where the volume holds `plaintext`. */
static void expect_encrypted(uint64_t offset_bytes, const uint8_t *plaintext, size_t size)
{
	uint8_t expected[VOLUME_SIZE];

	for (size_t at = 0; at < size; at++)
		expected[at] = (uint8_t)(plaintext[at] ^
					 fake_cipher_mask(FIRST_UNIT + (offset_bytes + at) / 512));
	EXPECT_BYTES(fake.bytes + DATA_OFFSET + offset_bytes, expected, size);
}

static void put_encrypted(uint64_t offset_bytes, const uint8_t *plaintext, size_t size)
{
	for (size_t at = 0; at < size; at++)
		fake.bytes[DATA_OFFSET + offset_bytes + at] =
			(uint8_t)(plaintext[at] ^
				  fake_cipher_mask(FIRST_UNIT + (offset_bytes + at) / 512));
}

TEST(a_write_lies_encrypted_at_its_place)
{
	uint8_t plaintext[8192];

	start();
	test_fill(plaintext, sizeof(plaintext), 1);
	memcpy(buffer(3), plaintext, sizeof(plaintext));
	submit(3, BLOCK_WRITE, 20480, 8192);
	EXPECT_EQUAL(fake.waiting_count, 0);
	advance();
	EXPECT_EQUAL(fake.waiting_count, 1);
	EXPECT_EQUAL(fake_disk_waiting(0)->offset_bytes, DATA_OFFSET + 20480);
	EXPECT_EQUAL(test.outcome[3], NOT_TOLD);
	finish_well(0);
	advance();
	EXPECT_EQUAL(test.outcome[3], 0);
	expect_encrypted(20480, plaintext, sizeof(plaintext));
	stop();
}

TEST(a_read_comes_back_decrypted)
{
	uint8_t plaintext[8192];

	start();
	test_fill(plaintext, sizeof(plaintext), 2);
	put_encrypted(VOLUME_SIZE - 8192, plaintext, sizeof(plaintext));
	submit(0, BLOCK_READ, VOLUME_SIZE - 8192, 8192);
	finish_well(0);
	EXPECT_EQUAL(test.outcome[0], NOT_TOLD);
	advance();
	EXPECT_EQUAL(test.outcome[0], 0);
	EXPECT_BYTES(buffer(0), plaintext, sizeof(plaintext));
	stop();
}

TEST(what_completes_together_is_one_list_for_the_cipher)
{
	start();
	for (unsigned tag = 0; tag < TAG_COUNT; tag++)
		submit(tag, tag % 2 == 0 ? BLOCK_READ : BLOCK_WRITE, tag * 8192, 4096);
	while (fake.waiting_count > 0)
		finish_well(0);
	advance();
	EXPECT_EQUAL(fake_cipher.decrypt_calls, 1);
	EXPECT_EQUAL(fake_cipher.encrypt_calls, 1);
	EXPECT_EQUAL(fake_cipher.runs_in_last_call, TAG_COUNT / 2);
	finish_all_well();
	for (unsigned tag = 0; tag < TAG_COUNT; tag++)
		EXPECT_EQUAL(test.outcome[tag], 0);
	stop();
}

TEST(a_durable_write_is_durable_on_the_disk)
{
	start();
	block_engine_submit(test.engine, 0,
			    &(struct block_command){
				    .operation = BLOCK_WRITE, .is_durable = true, .size = 4096});
	submit(1, BLOCK_WRITE, 4096, 4096);
	advance();
	EXPECT_TRUE(fake_disk_waiting(0)->is_durable);
	EXPECT_FALSE(fake_disk_waiting(1)->is_durable);
	/* The rest after a short transfer must not lose it. */
	finish(0, 512);
	EXPECT_TRUE(fake_disk_waiting(0)->is_durable || fake_disk_waiting(1)->is_durable);
	finish_all_well();
	stop();
}

TEST(a_flush_reaches_the_disk_and_waits_for_it_alone)
{
	start();
	submit(0, BLOCK_READ, 0, 4096);
	submit(1, BLOCK_FLUSH, 0, 0);
	EXPECT_EQUAL(fake.started[FAKE_FLUSH], 1);
	finish_well(1);
	advance();
	EXPECT_EQUAL(test.outcome[1], 0);
	EXPECT_EQUAL(test.outcome[0], NOT_TOLD);
	submit(1, BLOCK_FLUSH, 0, 0);
	finish(1, -EIO);
	advance();
	EXPECT_EQUAL(test.outcome[1], EIO);
	finish_all_well();
	stop();
}

TEST(a_discard_names_the_range_on_the_disk)
{
	start();
	submit(0, BLOCK_DISCARD, 8192, 131072);
	EXPECT_EQUAL(fake_disk_waiting(0)->kind, FAKE_DISCARD);
	EXPECT_EQUAL(fake_disk_waiting(0)->offset_bytes, DATA_OFFSET + 8192);
	EXPECT_EQUAL(fake_disk_waiting(0)->size, 131072);
	finish_all_well();
	EXPECT_EQUAL(test.outcome[0], 0);
	EXPECT_EQUAL(fake_cipher.encrypt_calls, 0);
	stop();
}

TEST(a_short_transfer_is_continued_wherever_it_stops)
{
	uint8_t plaintext[8192];

	for (int32_t first = 512; first < 8192; first += 512) {
		start();
		test_fill(plaintext, sizeof(plaintext), (uint64_t)first);
		put_encrypted(0, plaintext, sizeof(plaintext));
		memcpy(buffer(1), plaintext, sizeof(plaintext));
		submit(0, BLOCK_READ, 0, 8192);
		submit(1, BLOCK_WRITE, 16384, 8192);
		advance();
		finish(0, first);
		finish(1, first);
		EXPECT_EQUAL(fake_cipher.decrypt_calls, 0);
		finish_all_well();
		EXPECT_EQUAL(test.outcome[0], 0);
		EXPECT_EQUAL(test.outcome[1], 0);
		EXPECT_EQUAL(fake_cipher.encrypt_calls, 1);
		EXPECT_EQUAL(fake_cipher.decrypt_calls, 1);
		EXPECT_BYTES(buffer(0), plaintext, sizeof(plaintext));
		expect_encrypted(16384, plaintext, sizeof(plaintext));
		stop();
	}
}

TEST(an_error_reaches_its_own_request_only)
{
	for (unsigned failing = 0; failing < TAG_COUNT; failing++) {
		start();
		for (unsigned tag = 0; tag < TAG_COUNT; tag++)
			submit(tag, tag % 2 == 0 ? BLOCK_READ : BLOCK_WRITE, tag * 8192, 8192);
		advance();
		for (unsigned i = 0; i < TAG_COUNT; i++) {
			struct fake_operation *operation = fake_disk_waiting(0);
			bool fails = operation->offset_bytes == DATA_OFFSET + failing * 8192;

			fake_disk_finish(operation,
					 fails ? -ENODATA : fake_disk_good_result(operation));
		}
		advance();
		for (unsigned tag = 0; tag < TAG_COUNT; tag++)
			EXPECT_EQUAL(test.outcome[tag], tag == failing ? ENODATA : 0);
		stop();
	}
}

TEST(what_failed_to_be_read_is_not_decrypted)
{
	start();
	submit(0, BLOCK_READ, 0, 4096);
	finish(0, -EIO);
	advance();
	EXPECT_EQUAL(test.outcome[0], EIO);
	EXPECT_EQUAL(fake_cipher.decrypt_calls, 0);
	stop();
}

TEST(a_large_request_goes_in_pieces_and_comes_back_whole)
{
	uint8_t plaintext[28672];

	start_with(8192, 0);
	test_fill(plaintext, sizeof(plaintext), 5);
	memcpy(buffer(2), plaintext, sizeof(plaintext));
	submit(2, BLOCK_WRITE, 4096, sizeof(plaintext));
	advance();
	EXPECT_EQUAL(fake.waiting_count, 4);
	EXPECT_EQUAL(fake_disk_waiting(3)->size, 4096);
	/* In the reverse order, and told only with the last. */
	for (unsigned left = 4; left > 0; left--) {
		EXPECT_EQUAL(test.outcome[2], NOT_TOLD);
		finish_well(left - 1);
		advance();
	}
	EXPECT_EQUAL(test.outcome[2], 0);
	expect_encrypted(4096, plaintext, sizeof(plaintext));

	submit(5, BLOCK_READ, 4096, sizeof(plaintext));
	EXPECT_EQUAL(fake.waiting_count, 4);
	finish_well(2);
	advance();
	/* The cipher works on what is there while the disk reads the rest. */
	EXPECT_EQUAL(fake_cipher.decrypt_calls, 1);
	EXPECT_EQUAL(fake_cipher.bytes_in_last_call, 8192);
	finish_all_well();
	EXPECT_EQUAL(test.outcome[5], 0);
	EXPECT_BYTES(buffer(5), plaintext, sizeof(plaintext));
	stop();
}

TEST(a_failed_piece_fails_its_request_once_no_piece_is_with_the_disk)
{
	for (unsigned failing = 0; failing < 4; failing++) {
		start_with(8192, 0);
		submit(0, BLOCK_READ, 0, 32768);
		submit(1, BLOCK_READ, 32768, 32768);
		finish(failing, -EIO);
		for (unsigned left = 3; left > 0; left--) {
			advance();
			EXPECT_EQUAL(test.outcome[0], NOT_TOLD);
			for (unsigned i = 0; i < fake.waiting_count; i++)
				if (fake_disk_waiting(i)->offset_bytes < DATA_OFFSET + 32768) {
					finish_well(i);
					break;
				}
		}
		advance();
		EXPECT_EQUAL(test.outcome[0], EIO);
		EXPECT_EQUAL(test.outcome[1], NOT_TOLD);
		finish_all_well();
		EXPECT_EQUAL(test.outcome[1], 0);
		stop();
	}
}

TEST(zeros_are_written_encrypted_over_any_length)
{
	static const uint8_t zeros[VOLUME_SIZE];

	for (uint32_t piece_size = 0; piece_size <= 8192; piece_size += 8192) {
		start_with(piece_size, 0);
		memset(fake.bytes, 0xee, DATA_OFFSET + VOLUME_SIZE);
		memset(buffer(0), 0x77, BUFFER_SIZE);
		submit(0, BLOCK_WRITE_ZEROES, 4096, VOLUME_SIZE - 8192);
		finish_all_well();
		EXPECT_EQUAL(test.outcome[0], 0);
		EXPECT_EQUAL(test.told_count, 1);
		expect_encrypted(4096, zeros, VOLUME_SIZE - 8192);
		EXPECT_EQUAL(fake.bytes[DATA_OFFSET + 4095], 0xee);
		EXPECT_EQUAL(fake.bytes[DATA_OFFSET + VOLUME_SIZE - 4096], 0xee);
		stop();
	}
}

TEST(zeroing_ends_at_its_first_error)
{
	start();
	submit(0, BLOCK_WRITE_ZEROES, 0, VOLUME_SIZE);
	advance();
	finish_well(0);
	advance();
	advance();
	finish(0, -EIO);
	advance();
	EXPECT_EQUAL(test.outcome[0], EIO);
	EXPECT_EQUAL(fake.started[FAKE_WRITE], 2);
	EXPECT_TRUE(block_engine_is_idle(test.engine));
	stop();
}

TEST(a_refusal_is_told_in_its_turn_and_never_reaches_the_disk)
{
	start();
	submit(0, BLOCK_READ, VOLUME_SIZE, 4096);
	submit(1, BLOCK_WRITE, VOLUME_SIZE - 4096, 8192);
	submit(2, BLOCK_READ, 512, 4096);
	submit(3, BLOCK_READ, 0, BUFFER_SIZE + 4096);
	submit(4, BLOCK_WRITE, UINT64_MAX - 4095, 4096);
	EXPECT_EQUAL(test.told_count, 0);
	EXPECT_TRUE(block_engine_has_work(test.engine));
	advance();
	EXPECT_EQUAL(test.outcome[0], EINVAL);
	EXPECT_EQUAL(test.outcome[1], ENOSPC);
	EXPECT_EQUAL(test.outcome[2], EINVAL);
	EXPECT_EQUAL(test.outcome[3], EINVAL);
	EXPECT_EQUAL(test.outcome[4], ENOSPC);
	EXPECT_EQUAL(fake.waiting_count, 0);
	EXPECT_TRUE(block_engine_is_idle(test.engine));
	stop();
}

TEST(a_read_only_volume_or_disk_takes_no_write)
{
	for (int which = 0; which < 2; which++) {
		prepare();
		test.volume.is_read_only = which == 0;
		test.disk.is_writable = which == 0;
		EXPECT_OK(try_start(&(struct block_engine_options){.tag_count = TAG_COUNT}));
		EXPECT_FALSE(block_engine_limits(test.engine)->is_writable);
		submit(0, BLOCK_WRITE, 0, 4096);
		submit(1, BLOCK_WRITE_ZEROES, 0, 4096);
		submit(2, BLOCK_DISCARD, 0, 4096);
		submit(3, BLOCK_READ, 0, 4096);
		finish_all_well();
		EXPECT_EQUAL(test.outcome[0], EPERM);
		EXPECT_EQUAL(test.outcome[1], EPERM);
		EXPECT_EQUAL(test.outcome[2], EPERM);
		EXPECT_EQUAL(test.outcome[3], 0);
		EXPECT_EQUAL(fake.started[FAKE_WRITE], 0);
		stop();
	}
}

TEST(a_discard_that_nobody_allowed_is_refused)
{
	for (int which = 0; which < 2; which++) {
		prepare();
		if (which == 0)
			test.volume.allows_discard = false;
		else
			test.disk.discard_granularity = 0;
		EXPECT_OK(try_start(&(struct block_engine_options){.tag_count = TAG_COUNT}));
		submit(0, BLOCK_DISCARD, 0, 4096);
		advance();
		EXPECT_EQUAL(test.outcome[0], EOPNOTSUPP);
		EXPECT_EQUAL(fake.started[FAKE_DISCARD], 0);
		stop();
	}
}

TEST(a_tag_may_be_used_again_while_its_outcome_is_told)
{
	const struct block_command again = {.operation = BLOCK_FLUSH};
	const struct block_command refused = {.operation = BLOCK_READ, .size = 1};

	start();
	test.resubmit = &again;
	submit(0, BLOCK_READ, 0, 4096);
	finish_well(0);
	advance();
	EXPECT_EQUAL(test.outcome[0], NOT_TOLD);
	EXPECT_EQUAL(fake.waiting_count, 1);
	/* Even if it is refused at once, it is told in a later turn: the work of one is bounded. */
	test.resubmit = &refused;
	finish_well(0);
	advance();
	EXPECT_EQUAL(test.outcome[0], NOT_TOLD);
	EXPECT_TRUE(block_engine_has_work(test.engine));
	advance();
	EXPECT_EQUAL(test.outcome[0], EINVAL);
	stop();
}

TEST(the_cipher_takes_a_bounded_share_of_a_turn)
{
	start_with(0, 8192);
	for (unsigned tag = 0; tag < 4; tag++)
		submit(tag, BLOCK_READ, tag * 4096, 4096);
	for (unsigned tag = 0; tag < 4; tag++)
		finish_well(0);
	advance();
	EXPECT_EQUAL(fake_cipher.runs_in_last_call, 2);
	EXPECT_EQUAL(test.told_count, 2);
	EXPECT_TRUE(block_engine_has_work(test.engine));
	advance();
	EXPECT_EQUAL(test.told_count, 4);
	EXPECT_FALSE(block_engine_has_work(test.engine));
	/* One that is larger than the share is taken all the same. */
	submit(0, BLOCK_READ, 0, 32768);
	finish_all_well();
	EXPECT_EQUAL(test.outcome[0], 0);
	stop();
}

TEST(idle_means_that_nothing_is_under_way)
{
	start();
	EXPECT_TRUE(block_engine_is_idle(test.engine));
	submit(0, BLOCK_READ, 0, 4096);
	EXPECT_FALSE(block_engine_is_idle(test.engine));
	EXPECT_FALSE(block_engine_has_work(test.engine));
	finish_well(0);
	EXPECT_TRUE(block_engine_has_work(test.engine));
	EXPECT_FALSE(block_engine_is_idle(test.engine));
	advance();
	EXPECT_TRUE(block_engine_is_idle(test.engine));
	stop();
}

TEST(a_tag_that_is_under_way_cannot_be_submitted_again)
{
	start();
	submit(0, BLOCK_READ, 0, 4096);
	EXPECT_ABORT(submit(0, BLOCK_FLUSH, 0, 0));
	finish_all_well();
	stop();
}

TEST(a_volume_larger_than_its_disk_is_not_served)
{
	prepare();
	test.volume.size_bytes += SECTOR_SIZE;
	EXPECT_STATUS(try_start(&(struct block_engine_options){.tag_count = TAG_COUNT}),
		      FAIL_SEGMENT_OUTSIDE);
	prepare();
	test.volume.data_offset_bytes = UINT64_MAX - SECTOR_SIZE + 1;
	EXPECT_STATUS(try_start(&(struct block_engine_options){.tag_count = TAG_COUNT}),
		      FAIL_SEGMENT_OUTSIDE);
	stop();
}

TEST(sectors_smaller_than_the_disks_blocks_are_not_served)
{
	prepare();
	test.volume.cipher.sector_size = 512;
	test.disk.logical_block_size = 4096;
	EXPECT_STATUS(try_start(&(struct block_engine_options){.tag_count = TAG_COUNT}),
		      FAIL_DISK_GEOMETRY);
	stop();
}

/* --- all orders, and many lives ------------------------------------------------------------------
 */

enum fate { GOES_WELL, COMES_SHORT, IS_INTERRUPTED, FAILS, FATES };

static void meet_fate(unsigned tag, enum fate fate)
{
	struct fake_operation *operation = NULL;
	uint64_t offset = DATA_OFFSET + tag * 32768;

	for (unsigned i = 0; i < fake.waiting_count; i++)
		if (fake_disk_waiting(i)->offset_bytes / 32768 == offset / 32768)
			operation = fake_disk_waiting(i);
	CHECK(operation != NULL);
	switch (fate) {
	case GOES_WELL: fake_disk_finish(operation, fake_disk_good_result(operation)); break;
	case COMES_SHORT: fake_disk_finish(operation, 4096); break;
	case IS_INTERRUPTED: fake_disk_finish(operation, -EINTR); break;
	case FAILS: fake_disk_finish(operation, -EIO); break;
	case FATES: CHECK(false);
	}
}

TEST(in_every_order_and_with_every_fate_each_request_gets_its_own_outcome)
{
	static const unsigned orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
					     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	uint8_t plaintext[3][8192];

	start();
	for (size_t order = 0; order < ARRAY_COUNT(orders); order++)
		for (unsigned fates = 0; fates < FATES * FATES * FATES; fates++) {
			enum fate fate[3] = {fates % FATES, fates / FATES % FATES,
					     fates / FATES / FATES};

			for (unsigned tag = 0; tag < 3; tag++)
				test_fill(plaintext[tag], 8192, order * 1000 + fates * 3 + tag);
			put_encrypted(0, plaintext[0], 8192);
			put_encrypted(2 * 32768, plaintext[2], 8192);
			memcpy(buffer(1), plaintext[1], 8192);
			submit(0, BLOCK_READ, 0, 8192);
			submit(1, BLOCK_WRITE, 32768, 8192);
			submit(2, BLOCK_READ, 2 * 32768, 8192);
			advance();
			for (unsigned i = 0; i < 3; i++) {
				meet_fate(orders[order][i], fate[orders[order][i]]);
				advance();
			}
			finish_all_well();
			for (unsigned tag = 0; tag < 3; tag++)
				EXPECT_EQUAL(test.outcome[tag], fate[tag] == FAILS ? EIO : 0);
			if (fate[0] != FAILS)
				EXPECT_BYTES(buffer(0), plaintext[0], 8192);
			if (fate[1] != FAILS)
				expect_encrypted(32768, plaintext[1], 8192);
			if (fate[2] != FAILS)
				EXPECT_BYTES(buffer(2), plaintext[2], 8192);
		}
	stop();
}

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
	uint64_t value;

	test_fill(&value, sizeof(value), random_state++);
	return (uint32_t)(value >> 33) % bound;
}

/* Each tag works in a part of the volume that is its own, whose content the model knows. */
static struct {
	enum block_operation operation[TAG_COUNT];
	uint64_t offset[TAG_COUNT];
	uint64_t size[TAG_COUNT];
	bool must_fail[TAG_COUNT];
	uint8_t plaintext[TAG_COUNT][BUFFER_SIZE];
} model;

static void begin_random(unsigned tag)
{
	uint64_t in_part = random_below(BUFFER_SIZE / SECTOR_SIZE) * SECTOR_SIZE;
	uint64_t size =
		(1 + random_below((uint32_t)(BUFFER_SIZE - in_part) / SECTOR_SIZE)) * SECTOR_SIZE;

	model.operation[tag] = random_below(2) == 0 ? BLOCK_READ : BLOCK_WRITE;
	model.offset[tag] = in_part;
	model.size[tag] = size;
	model.must_fail[tag] = false;
	if (model.operation[tag] == BLOCK_WRITE) {
		test_fill(model.plaintext[tag] + in_part, size, random_state);
		memcpy(buffer(tag), model.plaintext[tag] + in_part, size);
	}
	submit(tag, model.operation[tag], tag * BUFFER_SIZE + in_part, size);
}

static void end_random(unsigned tag)
{
	EXPECT_EQUAL(test.outcome[tag], model.must_fail[tag] ? EIO : 0);
	if (model.must_fail[tag]) {
		/* Nobody knows what a failed write has left: start from what is there. */
		for (size_t at = 0; at < BUFFER_SIZE; at++) {
			uint64_t offset = tag * BUFFER_SIZE + at;

			model.plaintext[tag][at] =
				(uint8_t)(fake.bytes[DATA_OFFSET + offset] ^
					  fake_cipher_mask(FIRST_UNIT + offset / 512));
		}
	} else if (model.operation[tag] == BLOCK_READ) {
		EXPECT_BYTES(buffer(tag), model.plaintext[tag] + model.offset[tag],
			     model.size[tag]);
	}
}

static void finish_randomly(void)
{
	struct fake_operation *operation = fake_disk_waiting(random_below(fake.waiting_count));
	unsigned tag = (unsigned)((operation->offset_bytes - DATA_OFFSET) / BUFFER_SIZE);
	int32_t whole = fake_disk_good_result(operation);

	switch (random_below(8)) {
	case 0: fake_disk_finish(operation, -EAGAIN); break;
	case 1:
		model.must_fail[tag] = true;
		fake_disk_finish(operation, -EIO);
		break;
	case 2:
		if (whole > 512)
			fake_disk_finish(operation,
					 512 * (1 + (int32_t)random_below((uint32_t)whole / 512)));
		break;
	default: fake_disk_finish(operation, whole);
	}
}

static void live_random_life(uint64_t seed)
{
	random_state = seed << 32;
	start_with(random_below(2) * 8192, random_below(3) * 8192);
	memset(&model, 0, sizeof(model));
	for (unsigned tag = 0; tag < TAG_COUNT; tag++) {
		put_encrypted(tag * BUFFER_SIZE, model.plaintext[tag], BUFFER_SIZE);
		test.outcome[tag] = 0;
		model.operation[tag] = BLOCK_FLUSH;
	}
	for (unsigned act = 0; act < 1000; act++) {
		unsigned tag = random_below(TAG_COUNT);

		if (random_below(3) == 0)
			advance();
		else if (fake.waiting_count > 0 && random_below(2) == 0)
			finish_randomly();
		else if (test.outcome[tag] != NOT_TOLD) {
			end_random(tag);
			begin_random(tag);
		}
	}
	finish_all_well();
	for (unsigned tag = 0; tag < TAG_COUNT; tag++)
		end_random(tag);
	EXPECT_TRUE(block_engine_is_idle(test.engine));
	stop();
}

TEST(many_random_lives_end_with_the_right_data_and_each_outcome_told_once)
{
	for (uint64_t seed = 1; seed <= 100; seed++)
		live_random_life(seed);
}
