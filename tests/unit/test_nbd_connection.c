/* One connection's stream, in any cut: the test plays the kernel, so that every receive and send
 * may move as few bytes as it likes. */
#include "io/nbd_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/bytes.h"
#include "tests/unit/fakes/fake_cipher.c"
#include "tests/unit/fakes/fake_disk.c"
#include "tests/unit/fakes/fake_ring.c"
#include "tests/unit/test.h"

enum {
	TAG_COUNT = 4,
	BUFFER_SIZE = 65536,
	VOLUME_SIZE = 1024 * 1024,
	STREAM_SIZE_MAX = 512 * 1024,
};

static struct {
	struct backing_disk disk;
	struct block_volume volume;
	struct nbd_service service;
	struct nbd_connection connection;
	unsigned replies[TAG_COUNT];
	int client_fd;
	uint8_t output[STREAM_SIZE_MAX]; /* what the client has got */
	size_t output_size;
} test;

static void note_complete(void *context, unsigned tag, int error)
{
	(void)context;
	nbd_connection_answer(&test.connection, &test.service, tag, error);
}

static void stop(void)
{
	ring_close(&test.service.ring);
	block_engine_close(&test.service.engine);
	buffer_pool_close(&test.service.buffers);
	buffer_pool_close(&test.service.inputs);
	nbd_tags_free(&test.service.tags);
	backing_disk_close(&test.disk);
	if (test.client_fd > 0)
		close(test.client_fd);
	if (test.connection.fd > 0)
		close(test.connection.fd);
	memset(&test, 0, sizeof(test));
}

static void start(void)
{
	const struct ring_options ring_options = {.operations_max = 64, .file_count = 2};
	const struct block_engine_options engine_options = {.tag_count = TAG_COUNT};
	struct nbd_service *service = &test.service;
	int ends[2];

	stop();
	test.disk = fake_disk_make(VOLUME_SIZE);
	test.volume = (struct block_volume){
		.disk = &test.disk, .size_bytes = VOLUME_SIZE, .cipher = fake_cipher_make(512)};
	EXPECT_OK(ring_open(&service->ring, &ring_options));
	EXPECT_OK(buffer_pool_open(&service->buffers, BUFFER_SIZE, TAG_COUNT));
	EXPECT_OK(buffer_pool_open(&service->inputs, NBD_INPUT_SIZE, 1));
	EXPECT_OK(nbd_tags_init(&service->tags, TAG_COUNT, 1));
	EXPECT_OK(block_engine_open(&service->engine, &engine_options, &test.volume, &service->ring,
				    &service->buffers, note_complete, NULL));
	service->export = (struct nbd_export){.name = "x", .size_bytes = VOLUME_SIZE};
	service->first_slot = 1;
	test.connection = (struct nbd_connection){.state = NBD_CONNECTION_FREE,
						  .fd = -1,
						  .input = buffer_pool_at(&service->inputs, 0),
						  .replies = test.replies};
	EXPECT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	test.client_fd = ends[0];
	nbd_connection_start(&test.connection, service, ends[1], 0);
}

/* Scatters up to `size` bytes as a receive would; gives how many. */
static size_t scatter(const struct msghdr *message, const uint8_t *bytes, size_t size)
{
	size_t done = 0;

	for (size_t i = 0; i < message->msg_iovlen && done < size; i++) {
		size_t lap = MINIMUM(message->msg_iov[i].iov_len, size - done);

		memcpy(message->msg_iov[i].iov_base, bytes + done, lap);
		done += lap;
	}
	return done;
}

static size_t gather(const struct msghdr *message, uint8_t *bytes, size_t size)
{
	size_t done = 0;

	for (size_t i = 0; i < message->msg_iovlen && done < size; i++) {
		size_t lap = MINIMUM(message->msg_iov[i].iov_len, size - done);

		memcpy(bytes + done, message->msg_iov[i].iov_base, lap);
		done += lap;
	}
	return done;
}

static void turn(void)
{
	nbd_connection_take_input(&test.connection, &test.service);
	while (fake.waiting_count > 0) {
		struct fake_operation *operation = fake_disk_waiting(0);

		fake_disk_finish(operation, fake_disk_good_result(operation));
	}
	block_engine_advance(test.service.engine);
	nbd_connection_go_on(&test.connection, &test.service);
}

/* Lets one send that is under way move up to `size` bytes. */
static void move_out(size_t size)
{
	size_t sent;

	if (!test.connection.is_sending)
		return;
	sent = gather(&test.connection.send_message, test.output + test.output_size,
		      MINIMUM(size, STREAM_SIZE_MAX - test.output_size));
	EXPECT_NOT_EQUAL(sent, 0);
	test.output_size += sent;
	nbd_connection_note_sent(&test.connection, &test.service, (int32_t)sent);
}

/* Bytes of the client through receives and sends of at most these sizes, until all is quiet. */
static void converse(const uint8_t *stream, size_t size, size_t receive_size, size_t send_size)
{
	size_t done = 0;
	unsigned quiet_turns = 0;

	while (quiet_turns < 8) {
		size_t before = done + test.output_size;

		turn();
		if (test.connection.is_receiving && done < size) {
			size_t lap = scatter(&test.connection.receive_message, stream + done,
					     MINIMUM(receive_size, size - done));

			EXPECT_NOT_EQUAL(lap, 0);
			done += lap;
			nbd_connection_note_received(&test.connection, &test.service, (int32_t)lap);
		}
		move_out(send_size);
		quiet_turns = done + test.output_size == before ? quiet_turns + 1 : 0;
	}
	EXPECT_EQUAL(done, size);
}

static size_t add_request(uint8_t *stream, uint16_t command, uint64_t cookie, uint64_t offset,
			  uint32_t size)
{
	bytes_store_be32(stream, 0x25609513);
	bytes_store_be16(stream + 4, 0);
	bytes_store_be16(stream + 6, command);
	bytes_store_be64(stream + 8, cookie);
	bytes_store_be64(stream + 16, offset);
	bytes_store_be32(stream + 24, size);
	if (command != NBD_WRITE)
		return NBD_REQUEST_SIZE;
	test_fill(stream + NBD_REQUEST_SIZE, size, cookie);
	return NBD_REQUEST_SIZE + size;
}

/* Handshake and writes of several sizes, one of them refused; then, from *writes_size on, what may
 * come only when these are answered: reads of all that was written. */
static size_t make_stream(uint8_t *stream, size_t *writes_size)
{
	size_t size = 20;

	memcpy(stream, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	size += add_request(stream + size, NBD_WRITE, 1, 0, 512);
	size += add_request(stream + size, NBD_WRITE, 2, 512, 1024);
	size += add_request(stream + size, NBD_WRITE, 3, 100, 700);
	size += add_request(stream + size, NBD_WRITE, 4, 1536, 40960);
	size += add_request(stream + size, NBD_FLUSH, 5, 0, 0);
	*writes_size = size;
	for (unsigned i = 0; i < 8; i++)
		size += add_request(stream + size, NBD_READ, 10 + i, 0, 1536 + 40960);
	size += add_request(stream + size, NBD_WRITE, 20, 65536, 512);
	return size;
}

/* The client's view of make_stream. */
static size_t make_expected(uint8_t *expected)
{
	static const uint64_t cookies[] = {1, 2, 3, 4, 5};
	size_t size = 18 + 10;

	memcpy(expected, "NBDMAGICIHAVEOPT\0\3", 18);
	bytes_store_be64(expected + 18, VOLUME_SIZE);
	bytes_store_be16(expected + 26, 1 | 4 | 8 | 64 | 256);
	for (size_t i = 0; i < ARRAY_COUNT(cookies); i++, size += NBD_REPLY_SIZE)
		nbd_reply_encode(expected + size, cookies[i], cookies[i] == 3 ? EINVAL : 0);
	for (unsigned i = 0; i < 8; i++) {
		nbd_reply_encode(expected + size, 10 + i, 0);
		test_fill(expected + size + 16, 512, 1);
		test_fill(expected + size + 16 + 512, 1024, 2);
		test_fill(expected + size + 16 + 1536, 40960, 4);
		size += 16 + 1536 + 40960;
	}
	nbd_reply_encode(expected + size, 20, 0);
	return size + NBD_REPLY_SIZE;
}

/* Replies may come in any order: those of one size are put into the order of their cookies. */
static void expect_same_replies(const uint8_t *expected, size_t expected_size)
{
	size_t at = 28;

	EXPECT_EQUAL(test.output_size, expected_size);
	EXPECT_BYTES(test.output, expected, 28);
	while (at < test.output_size) {
		uint64_t cookie = bytes_load_be64(test.output + at + 8);
		size_t size = cookie >= 10 && cookie < 20 ? 16 + 1536 + 40960 : 16;
		size_t place = 28;

		while (bytes_load_be64(expected + place + 8) != cookie) {
			uint64_t other = bytes_load_be64(expected + place + 8);

			place += other >= 10 && other < 20 ? 16 + 1536 + 40960 : 16;
			EXPECT_TRUE(place < expected_size);
		}
		EXPECT_BYTES(test.output + at, expected + place, size);
		at += size;
	}
}

TEST(in_any_cut_of_the_streams_the_client_gets_the_same)
{
	static const size_t sizes[] = {1,     2,     3,     15,    16,     17,
				       27,    28,    29,    511,   1000,   4096,
				       16383, 16384, 16385, 42528, 100000, STREAM_SIZE_MAX};
	static uint8_t stream[STREAM_SIZE_MAX];
	static uint8_t expected[STREAM_SIZE_MAX];
	size_t writes_size;
	size_t size = make_stream(stream, &writes_size);
	size_t expected_size = make_expected(expected);

	for (size_t i = 0; i < 3 * ARRAY_COUNT(sizes); i++) {
		size_t in = i % 3 == 0 ? STREAM_SIZE_MAX : sizes[i / 3];
		size_t out = i % 3 == 1 ? STREAM_SIZE_MAX : sizes[ARRAY_COUNT(sizes) - 1 - i / 3];

		start();
		converse(stream, writes_size, in, out);
		converse(stream + writes_size, size - writes_size, in, out);
		expect_same_replies(expected, expected_size);
		EXPECT_EQUAL(test.service.tags.free_count, TAG_COUNT);
	}
	stop();
}

TEST(wherever_the_stream_ends_all_is_given_back)
{
	static uint8_t stream[STREAM_SIZE_MAX];
	size_t writes_size;
	size_t whole = make_stream(stream, &writes_size);

	for (size_t size = 0; size <= whole; size += size < 2000 ? 7 : 997) {
		start();
		converse(stream, size, 5000, 100000);
		if (test.connection.is_receiving)
			nbd_connection_note_received(&test.connection, &test.service, 0);
		for (unsigned i = 0; i < 8; i++) {
			turn();
			move_out(100000);
		}
		EXPECT_EQUAL(test.connection.state, NBD_CONNECTION_FREE);
		EXPECT_EQUAL(test.service.tags.free_count, TAG_COUNT);
		EXPECT_TRUE(block_engine_is_idle(test.service.engine));
	}
	stop();
}

TEST(a_socket_error_gives_everything_back_once_the_kernel_and_the_disk_have)
{
	static uint8_t stream[STREAM_SIZE_MAX];
	size_t size = 20;

	start();
	memcpy(stream, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	for (unsigned i = 0; i < 3; i++)
		size += add_request(stream + size, NBD_READ, i, 0, 512);
	size += add_request(stream + size, NBD_WRITE, 9, 0, 4096) - 96;
	turn();
	move_out(100);
	turn();
	EXPECT_TRUE(test.connection.is_receiving);
	size = scatter(&test.connection.receive_message, stream, size);
	nbd_connection_note_received(&test.connection, &test.service, (int32_t)size);
	nbd_connection_take_input(&test.connection, &test.service);
	nbd_connection_go_on(&test.connection, &test.service);
	move_out(100);
	nbd_connection_take_input(&test.connection, &test.service);
	nbd_connection_go_on(&test.connection, &test.service);
	/* One payload half received, three reads with the disk, and then the socket breaks. */
	EXPECT_EQUAL(test.service.tags.free_count, 0);
	EXPECT_EQUAL(fake.waiting_count, 3);
	nbd_connection_end(&test.connection, NBD_CONNECTION_FAILED);
	nbd_connection_go_on(&test.connection, &test.service);
	EXPECT_EQUAL(test.connection.state, NBD_CONNECTION_CLOSING);
	EXPECT_EQUAL(test.service.tags.free_count, 0);
	nbd_connection_note_received(&test.connection, &test.service, -ECONNRESET);
	nbd_connection_go_on(&test.connection, &test.service);
	EXPECT_EQUAL(test.service.tags.free_count, 1);
	EXPECT_EQUAL(test.connection.state, NBD_CONNECTION_CLOSING);
	turn();
	EXPECT_EQUAL(test.service.tags.free_count, TAG_COUNT);
	EXPECT_EQUAL(test.connection.state, NBD_CONNECTION_FREE);
	stop();
}

TEST(an_interrupted_receive_or_send_is_started_again)
{
	start();
	turn();
	EXPECT_EQUAL(fake_ring.sends, 1);
	nbd_connection_note_sent(&test.connection, &test.service, -EINTR);
	turn();
	EXPECT_EQUAL(fake_ring.sends, 2);
	move_out(100);
	turn();
	EXPECT_EQUAL(fake_ring.receives, 1);
	nbd_connection_note_received(&test.connection, &test.service, -EAGAIN);
	turn();
	EXPECT_EQUAL(fake_ring.receives, 2);
	EXPECT_EQUAL(test.connection.state, NBD_CONNECTION_HANDSHAKE);
	stop();
}
