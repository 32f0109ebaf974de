/* A queue of a ublk device between a kernel and a disk that the test plays. */
#include "io/ublk_queue.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/ublk_process.h"
#include "tests/unit/fakes/fake_cipher.c"
#include "tests/unit/fakes/fake_disk.c"
#include "tests/unit/fakes/fake_ublk.c"
#include "tests/unit/test.h"

enum {
	SECTOR_SIZE = 4096,
	VOLUME_SIZE = 256 * 1024,
	REQUEST_SIZE_MAX = 32768,
	UNITS_PER_SECTOR = SECTOR_SIZE / 512,
};

static struct {
	struct backing_disk disk;
	struct block_volume volume;
	struct ublk_queue *queue;
	int ended_fd;
	enum status flusher_status;
} test;

/* In the place of io/ublk_process.c: a test needs no rights. */
enum status ublk_process_join_flushers(void)
{
	return test.flusher_status;
}

static void prepare(void)
{
	fake_ublk_reset();
	test.flusher_status = OK;
	test.disk = fake_disk_make(VOLUME_SIZE);
	test.volume = (struct block_volume){.disk = &test.disk,
					    .size_bytes = VOLUME_SIZE,
					    .cipher = fake_cipher_make(SECTOR_SIZE)};
	if (test.ended_fd > 0)
		close(test.ended_fd);
	test.ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	EXPECT_TRUE(test.ended_fd > 0);
}

static enum status try_start(void)
{
	const struct ublk_queue_options options = {
		.depth = FAKE_UBLK_DEPTH,
		.request_size_max = REQUEST_SIZE_MAX,
		.ended_fd = test.ended_fd,
		.cpus.words = {UINT64_MAX},
	};

	return ublk_queue_start(&test.queue, &options, &test.volume);
}

static enum status attach(void)
{
	ublk_queue_attach(test.queue, fake_ublk.device_fd);
	return ublk_queue_await(test.queue);
}

/* Until all that was asked for is answered and the device stopped. */
static enum status serve(void)
{
	EXPECT_OK(try_start());
	EXPECT_OK(attach());
	return ublk_queue_join(&test.queue);
}

static bool has_told_its_end(void)
{
	struct pollfd poll_fd = {.fd = test.ended_fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) == 1;
}

TEST(what_is_written_is_read_back_and_lies_encrypted_on_the_disk)
{
	static uint8_t written[8192], read[8192];
	struct fake_ublk_request *write_request, *read_request;

	prepare();
	test_fill(written, sizeof(written), 1);
	write_request = fake_ublk_ask(UBLK_WRITE, 3 * UNITS_PER_SECTOR, 16, written);
	EXPECT_OK(serve());
	EXPECT_EQUAL(write_request->result, sizeof(written));
	for (size_t at = 0; at < sizeof(written); at++)
		EXPECT_EQUAL(fake.bytes[3 * SECTOR_SIZE + at] ^
				     fake_cipher_mask(3 * UNITS_PER_SECTOR + at / 512),
			     written[at]);

	memset(&fake_ublk.tags, 0, sizeof(fake_ublk.tags));
	fake_ublk.fetched = 0;
	read_request = fake_ublk_ask(UBLK_READ, 3 * UNITS_PER_SECTOR, 16, read);
	EXPECT_OK(serve());
	EXPECT_EQUAL(read_request->result, sizeof(read));
	EXPECT_BYTES(read, written, sizeof(read));
}

TEST(a_tag_serves_one_request_after_the_other)
{
	static uint8_t data[FAKE_UBLK_REQUESTS_MAX][SECTOR_SIZE];

	prepare();
	for (unsigned i = 0; i < FAKE_UBLK_REQUESTS_MAX; i++) {
		test_fill(data[i], SECTOR_SIZE, i);
		fake_ublk_ask(i % 2 == 0 ? UBLK_WRITE : UBLK_READ, i / 2 * UNITS_PER_SECTOR,
			      UNITS_PER_SECTOR, data[i]);
	}
	EXPECT_OK(serve());
	for (unsigned i = 0; i < FAKE_UBLK_REQUESTS_MAX; i++) {
		EXPECT_EQUAL(fake_ublk.requests[i].answer_count, 1);
		EXPECT_EQUAL(fake_ublk.requests[i].result, SECTOR_SIZE);
	}
	EXPECT_EQUAL(fake_ublk.aborted, FAKE_UBLK_DEPTH);
	EXPECT_TRUE(has_told_its_end());
}

TEST(a_flush_reaches_the_disk_wherever_it_claims_to_lie)
{
	struct fake_ublk_request *request;

	prepare();
	/* As Linux asks: with no sector's number. */
	request = fake_ublk_ask(UBLK_FLUSH, UINT64_MAX, 0, NULL);
	EXPECT_OK(serve());
	EXPECT_EQUAL(request->answer_count, 1);
	EXPECT_EQUAL(request->result, 0);
	EXPECT_EQUAL(fake.started[FAKE_FLUSH], 1);
}

TEST(a_write_with_fua_is_durable_on_the_disk_and_others_are_not)
{
	static uint8_t data[SECTOR_SIZE];

	prepare();
	fake_ublk_ask(UBLK_WRITE | UBLK_REQUEST_FUA, 0, UNITS_PER_SECTOR, data);
	fake_ublk_ask(UBLK_WRITE, UNITS_PER_SECTOR, UNITS_PER_SECTOR, data);
	EXPECT_OK(serve());
	EXPECT_TRUE(fake.operations[0].is_durable);
	EXPECT_FALSE(fake.operations[1].is_durable);
}

/* The volume is small, but the answer's number must not depend on it. */
TEST(a_discard_that_the_volume_allows_reaches_the_disk_and_moves_nothing)
{
	struct fake_ublk_request *request;

	prepare();
	test.volume.allows_discard = true;
	test.volume.data_offset_bytes = 8192;
	test.volume.size_bytes = VOLUME_SIZE - 8192;
	request = fake_ublk_ask(UBLK_DISCARD, UNITS_PER_SECTOR, 20 * UNITS_PER_SECTOR, NULL);
	EXPECT_OK(serve());
	EXPECT_EQUAL(request->answer_count, 1);
	EXPECT_EQUAL(request->result, 0);
	EXPECT_EQUAL(fake.started[FAKE_DISCARD], 1);
	EXPECT_EQUAL(fake.operations[0].offset_bytes, 8192 + SECTOR_SIZE);
	EXPECT_EQUAL(fake.operations[0].size, 20 * SECTOR_SIZE);
}

TEST(an_operation_that_was_never_offered_is_not_supported)
{
	static const uint32_t operations[] = {UBLK_DISCARD, UBLK_WRITE_SAME, UBLK_WRITE_ZEROES, 10,
					      255};

	prepare();
	for (size_t i = 0; i < ARRAY_COUNT(operations); i++)
		fake_ublk_ask(operations[i], 0, UNITS_PER_SECTOR, NULL);
	EXPECT_OK(serve());
	for (size_t i = 0; i < ARRAY_COUNT(operations); i++) {
		EXPECT_EQUAL(fake_ublk.requests[i].answer_count, 1);
		EXPECT_EQUAL(fake_ublk.requests[i].result, -EOPNOTSUPP);
	}
}

TEST(a_request_that_does_not_fit_is_refused_and_touches_no_disk)
{
	static uint8_t data[FAKE_UBLK_DATA_MAX];
	static const struct {
		uint64_t first_unit;
		uint32_t unit_count;
	} bad[] = {
		{VOLUME_SIZE / 512, UNITS_PER_SECTOR},
		{VOLUME_SIZE / 512 - UNITS_PER_SECTOR, 2 * UNITS_PER_SECTOR},
		{UINT64_MAX / 512, UNITS_PER_SECTOR},
		{UINT64_MAX, UNITS_PER_SECTOR},
		{UINT64_C(1) << 55, UNITS_PER_SECTOR},
		{1, UNITS_PER_SECTOR},
		{0, 1},
		{0, 0},
		{0, REQUEST_SIZE_MAX / 512 + UNITS_PER_SECTOR},
		{0, UINT32_MAX},
	};

	prepare();
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		fake_ublk_ask(UBLK_READ, bad[i].first_unit, bad[i].unit_count, data);
		/* The kernel copies no more than the buffer holds. */
		if (bad[i].unit_count * 512 <= REQUEST_SIZE_MAX)
			fake_ublk_ask(UBLK_WRITE, bad[i].first_unit, bad[i].unit_count, data);
	}
	EXPECT_OK(serve());
	for (size_t i = 0; i < fake_ublk.request_count; i++) {
		EXPECT_EQUAL(fake_ublk.requests[i].answer_count, 1);
		EXPECT_TRUE(fake_ublk.requests[i].result < 0);
	}
	EXPECT_EQUAL(fake.started[FAKE_READ] + fake.started[FAKE_WRITE], 0);
}

TEST(an_error_of_the_disk_reaches_the_request_that_met_it_and_no_other)
{
	static uint8_t data[3][SECTOR_SIZE];

	prepare();
	fake_disk_fail(FAKE_READ, 2, -EIO);
	for (unsigned i = 0; i < 3; i++)
		fake_ublk_ask(UBLK_READ, i * UNITS_PER_SECTOR, UNITS_PER_SECTOR, data[i]);
	EXPECT_OK(serve());
	EXPECT_EQUAL(fake_ublk.requests[0].result, SECTOR_SIZE);
	EXPECT_EQUAL(fake_ublk.requests[1].result, -EIO);
	EXPECT_EQUAL(fake_ublk.requests[2].result, SECTOR_SIZE);
}

TEST(requests_under_way_when_the_device_is_stopped_are_still_answered)
{
	static uint8_t data[2][SECTOR_SIZE];

	prepare();
	fake_ublk.stops_early = true;
	for (unsigned i = 0; i < 2; i++)
		fake_ublk_ask(UBLK_WRITE, i * UNITS_PER_SECTOR, UNITS_PER_SECTOR, data[i]);
	EXPECT_OK(serve());
	for (unsigned i = 0; i < 2; i++)
		EXPECT_EQUAL(fake_ublk.requests[i].result, SECTOR_SIZE);
	EXPECT_EQUAL(fake_ublk.aborted, FAKE_UBLK_DEPTH);
	EXPECT_TRUE(fake_ublk.is_closed);
}

TEST(a_thread_that_memory_reclaim_would_wait_for_does_not_serve)
{
	prepare();
	test.flusher_status = FAIL_NOT_ROOT;
	EXPECT_STATUS(try_start(), FAIL_NOT_ROOT);
	EXPECT_EQUAL(fake_ublk.fetched, 0);
}

TEST(a_queue_whose_first_commands_are_refused_does_not_serve)
{
	prepare();
	fake_ublk.refuses_fetches = true;
	EXPECT_OK(try_start());
	EXPECT_STATUS(attach(), FAIL_UBLK);
	EXPECT_STATUS(ublk_queue_join(&test.queue), FAIL_UBLK);
	EXPECT_TRUE(fake_ublk.is_closed);
}

TEST(a_queue_asks_for_nothing_before_it_has_a_device)
{
	prepare();
	EXPECT_OK(try_start());
	EXPECT_EQUAL(fake_ublk.fetched, 0);
	EXPECT_OK(attach());
	EXPECT_EQUAL(fake_ublk.fetched, FAKE_UBLK_DEPTH);
	EXPECT_OK(ublk_queue_join(&test.queue));
}

TEST(a_queue_that_gets_no_device_ends_when_it_is_joined)
{
	prepare();
	EXPECT_OK(try_start());
	EXPECT_OK(ublk_queue_join(&test.queue));
	EXPECT_EQUAL(fake_ublk.fetched, 0);
	EXPECT_TRUE(fake_ublk.is_closed);
	EXPECT_TRUE(has_told_its_end());
}

TEST(a_queue_whose_answer_is_refused_ends_but_lets_the_disk_finish)
{
	static uint8_t data[FAKE_UBLK_DEPTH][SECTOR_SIZE];

	prepare();
	fake_ublk.refuses_commits = true;
	for (unsigned i = 0; i < FAKE_UBLK_DEPTH; i++)
		fake_ublk_ask(UBLK_WRITE, i * UNITS_PER_SECTOR, UNITS_PER_SECTOR, data[i]);
	EXPECT_STATUS(serve(), FAIL_UBLK);
	EXPECT_EQUAL(fake.waiting_count, 0);
	EXPECT_EQUAL(fake.started[FAKE_WRITE], FAKE_UBLK_DEPTH);
	for (unsigned i = 1; i < FAKE_UBLK_DEPTH; i++)
		EXPECT_EQUAL(fake_ublk.requests[i].answer_count, 0);
	EXPECT_TRUE(fake_ublk.is_closed);
	EXPECT_TRUE(has_told_its_end());
}
