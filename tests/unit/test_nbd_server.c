/* The NBD server over a disk in memory, with clients that stall, die and lie. */
#include "io/nbd_server.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "io/nbd_protocol.h"
#include "tests/unit/fakes/fake_cipher.c"
#include "tests/unit/fakes/fake_disk.c"
#include "tests/unit/fakes/nbd_client.c"
#include "tests/unit/test.h"

enum {
	KIB = 1024,
	DATA_OFFSET = 64 * KIB,
	VOLUME_SIZE = 4 * 1024 * KIB,
	REQUEST_SIZE_MAX = 256 * KIB,
};

static struct backing_disk disk;
static struct block_volume volume;
static uint8_t plaintext[REQUEST_SIZE_MAX];
static uint8_t received[REQUEST_SIZE_MAX];

static void prepare(void)
{
	nbd_thread_clear();
	disk = fake_disk_make(DATA_OFFSET + VOLUME_SIZE);
	fake_disk_set_automatic();
	volume = (struct block_volume){
		.disk = &disk,
		.data_offset_bytes = DATA_OFFSET,
		.size_bytes = VOLUME_SIZE,
		.first_unit = 77,
		.cipher = fake_cipher_make(4096),
		.allows_discard = true,
	};
	test_fill(plaintext, sizeof(plaintext), 1);
}

static void start_with(struct nbd_server_options options)
{
	EXPECT_OK(nbd_thread_start(&volume, options));
}

static void start(void)
{
	prepare();
	start_with((struct nbd_server_options){0});
}

/* The client that needs no handshake: our end of a pair, the other end of which the server has. */
static int start_connected(void)
{
	static int fds[2];
	const struct timeval patience = {.tv_sec = NBD_CLIENT_PATIENCE_S};

	prepare();
	EXPECT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	EXPECT_EQUAL(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	start_with((struct nbd_server_options){.connected_fds = &fds[1], .connected_count = 1});
	return fds[0];
}

/* A new client gets what it asks for. */
static void expect_service(void)
{
	int fd = nbd_client_open();

	test_fill(plaintext, 8192, (uint64_t)fd);
	nbd_client_write(fd, 8192, plaintext, 8192);
	nbd_client_read(fd, 8192, received, 8192);
	EXPECT_BYTES(received, plaintext, 8192);
	close(fd);
}

static void stop(void)
{
	EXPECT_OK(nbd_thread_stop());
	EXPECT_EQUAL(fake.waiting_count, 0);
	backing_disk_close(&disk);
}

/* --- what it is for -----------------------------------------------------------------------------
 */

TEST(what_is_written_is_read_back_and_lies_encrypted)
{
	int fd;

	start();
	fd = nbd_client_open();
	nbd_client_write(fd, 64 * KIB, plaintext, REQUEST_SIZE_MAX);
	nbd_client_read(fd, 64 * KIB, received, REQUEST_SIZE_MAX);
	EXPECT_BYTES(received, plaintext, REQUEST_SIZE_MAX);
	for (size_t at = 0; at < REQUEST_SIZE_MAX; at++)
		received[at] =
			(uint8_t)(plaintext[at] ^ fake_cipher_mask(77 + (64 * KIB + at) / 512));
	EXPECT_BYTES(fake.bytes + DATA_OFFSET + 64 * KIB, received, REQUEST_SIZE_MAX);
	close(fd);
	stop();
}

TEST(requests_sent_in_one_go_are_all_answered)
{
	enum { COUNT = 40 };
	static uint8_t stream[COUNT * (28 + 4096) + COUNT * 28];
	size_t size = 0;
	int fd;

	start();
	fd = nbd_client_open();
	for (uint64_t i = 0; i < COUNT; i++) {
		size += nbd_client_encode(stream + size, NBD_WRITE, 0, i, i * 4096, 4096);
		test_fill(stream + size, 4096, i);
		size += 4096;
	}
	nbd_client_send(fd, stream, size);
	for (unsigned i = 0; i < COUNT; i++)
		EXPECT_TRUE(nbd_client_take_reply(fd, 0) < COUNT);
	size = 0;
	for (uint64_t i = 0; i < COUNT; i++)
		size += nbd_client_encode(stream + size, NBD_READ, 0, i, i * 4096, 4096);
	nbd_client_send(fd, stream, size);
	for (unsigned i = 0; i < COUNT; i++) {
		uint64_t cookie = nbd_client_take_reply(fd, 0);

		nbd_client_receive(fd, received, 4096);
		test_fill(plaintext, 4096, cookie);
		EXPECT_BYTES(received, plaintext, 4096);
	}
	close(fd);
	stop();
}

TEST(bytes_may_come_one_at_a_time)
{
	uint8_t stream[20 + 28 + 4096 + 28];
	size_t size = 20;
	int fd;

	start();
	fd = nbd_client_connect();
	memcpy(stream, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	size += nbd_client_encode(stream + size, NBD_WRITE, 0, 5, 0, 4096);
	memcpy(stream + size, plaintext, 4096);
	size += 4096;
	size += nbd_client_encode(stream + size, NBD_FLUSH, 0, 6, 0, 0);
	for (size_t i = 0; i < size; i++)
		nbd_client_send(fd, stream + i, 1);
	nbd_client_receive(fd, received, 18 + 10);
	/* They may overtake each other. */
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0) + nbd_client_take_reply(fd, 0), 5 + 6);
	nbd_client_read(fd, 0, received, 4096);
	EXPECT_BYTES(received, plaintext, 4096);
	close(fd);
	stop();
}

TEST(handshake_and_requests_may_come_in_one_go)
{
	uint8_t stream[20 + 28];
	int fd;

	start();
	fd = nbd_client_connect();
	memcpy(stream, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	nbd_client_encode(stream + 20, NBD_FLUSH, 0, 9, 0, 0);
	nbd_client_send(fd, stream, sizeof(stream));
	nbd_client_receive(fd, received, 18 + 10);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 9);
	close(fd);
	stop();
}

TEST(flush_fua_zeroes_and_trim_reach_the_disk)
{
	static const uint8_t zeros[8192];
	uint8_t bytes[28];
	int fd;

	start();
	fd = nbd_client_open();
	nbd_client_ask(fd, NBD_FLUSH, 3, 0, 0);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 3);
	EXPECT_EQUAL(fake.started[FAKE_FLUSH], 1);
	nbd_client_encode(bytes, NBD_WRITE, NBD_COMMAND_FUA, 4, 0, 4096);
	nbd_client_send(fd, bytes, 28);
	nbd_client_send(fd, plaintext, 4096);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 4);
	EXPECT_TRUE(fake.operations[0].is_durable);
	nbd_client_encode(bytes, NBD_WRITE_ZEROES, NBD_COMMAND_NO_HOLE, 5, 4096,
			  VOLUME_SIZE - 4096);
	nbd_client_send(fd, bytes, 28);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 5);
	nbd_client_read(fd, VOLUME_SIZE - 8192, received, 8192);
	EXPECT_BYTES(received, zeros, 8192);
	nbd_client_read(fd, 0, received, 4096);
	EXPECT_BYTES(received, plaintext, 4096);
	nbd_client_ask(fd, NBD_TRIM, 6, 0, VOLUME_SIZE);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 6);
	EXPECT_EQUAL(fake.started[FAKE_DISCARD], 1);
	close(fd);
	stop();
}

TEST(several_connections_see_one_volume)
{
	int first;
	int second;

	start();
	first = nbd_client_open();
	second = nbd_client_open();
	nbd_client_write(first, 0, plaintext, 65536);
	nbd_client_read(second, 0, received, 65536);
	EXPECT_BYTES(received, plaintext, 65536);
	nbd_client_ask(second, NBD_FLUSH, 3, 0, 0);
	EXPECT_EQUAL(nbd_client_take_reply(second, 0), 3);
	close(first);
	close(second);
	stop();
}

TEST(a_goodbye_is_answered_with_the_replies_due_and_the_end)
{
	uint8_t stream[9 * 28];
	size_t size = 0;
	int fd;

	start();
	fd = nbd_client_open();
	for (uint64_t i = 0; i < 8; i++)
		size += nbd_client_encode(stream + size, NBD_READ, 0, i, i * 4096, 4096);
	size += nbd_client_encode(stream + size, NBD_DISCONNECT, 0, 0, 0, 0);
	nbd_client_send(fd, stream, size);
	for (unsigned i = 0; i < 8; i++) {
		EXPECT_TRUE(nbd_client_take_reply(fd, 0) < 8);
		nbd_client_receive(fd, received, 4096);
	}
	nbd_client_expect_end(fd);
	stop();
}

/* --- requests that are refused ------------------------------------------------------------------
 */

TEST(a_refused_request_leaves_the_stream_in_step)
{
	static const struct {
		uint16_t command;
		uint16_t flags;
		uint64_t offset_bytes;
		uint32_t size;
		uint32_t error;
	} refused[] = {
		{NBD_READ, 0, 512, 4096, 22},
		{NBD_READ, 0, 0, 512, 22},
		{NBD_READ, 0, 0, 0, 22},
		{NBD_READ, 0, VOLUME_SIZE, 4096, 22},
		{NBD_READ, 0, UINT64_MAX - 4095, 4096, 22},
		{NBD_READ, 0, 0, REQUEST_SIZE_MAX + 4096, 22},
		{NBD_READ, 0, 0, UINT32_MAX, 22},
		{NBD_READ, 2, 0, 4096, 22},
		{NBD_WRITE, 0, 512, 4096, 22},
		{NBD_WRITE, 0, 0, 100, 22},
		{NBD_WRITE, 0, 0, 0, 22},
		{NBD_WRITE, 0, VOLUME_SIZE - 4096, 8192, 28},
		{NBD_WRITE, 0, 0, REQUEST_SIZE_MAX + 4096, 22},
		{NBD_WRITE, 0x8000, 0, 4096, 22},
		{NBD_WRITE_ZEROES, 0, VOLUME_SIZE, 4096, 28},
		{NBD_WRITE_ZEROES, 16, 0, 4096, 22},
		{NBD_TRIM, 0, 4096, VOLUME_SIZE, 28},
		{5, 0, 0, 4096, 22},
		{7, 0, 0, 4096, 22},
		{0xffff, 0, 0, 4096, 22},
	};
	static uint8_t payload[REQUEST_SIZE_MAX + 4096];
	int fd;

	start();
	fd = nbd_client_open();
	nbd_client_write(fd, 0, plaintext, 8192);
	for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
		uint8_t bytes[28];

		nbd_client_encode(bytes, refused[i].command, refused[i].flags, i,
				  refused[i].offset_bytes, refused[i].size);
		nbd_client_send(fd, bytes, 28);
		if (refused[i].command == NBD_WRITE)
			nbd_client_send(fd, payload, refused[i].size);
		EXPECT_EQUAL(nbd_client_take_reply(fd, refused[i].error), i);
		nbd_client_read(fd, 0, received, 8192);
		EXPECT_BYTES(received, plaintext, 8192);
	}
	close(fd);
	stop();
}

TEST(a_read_only_volume_says_so_and_refuses_writes)
{
	uint8_t bytes[64];
	int fd;

	prepare();
	volume.is_read_only = true;
	start_with((struct nbd_server_options){0});
	fd = nbd_client_connect();
	nbd_client_receive(fd, bytes, 18);
	nbd_client_send(fd, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	nbd_client_receive(fd, bytes, 10);
	EXPECT_EQUAL(bytes[9] & 2, 2);
	nbd_client_ask(fd, NBD_WRITE, 1, 0, 4096);
	nbd_client_send(fd, plaintext, 4096);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 1), 1);
	nbd_client_ask(fd, NBD_WRITE_ZEROES, 2, 0, 4096);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 1), 2);
	nbd_client_read(fd, 0, received, 4096);
	close(fd);
	EXPECT_EQUAL(fake.started[FAKE_WRITE], 0);
	stop();
}

TEST(an_error_of_the_disk_is_that_requests_reply_and_no_more)
{
	int fd;

	prepare();
	fake_disk_fail(FAKE_READ, 2, -EIO);
	fake_disk_fail(FAKE_WRITE, 2, -ENOSPC);
	fake_disk_fail(FAKE_FLUSH, 1, -EIO);
	start_with((struct nbd_server_options){0});
	fd = nbd_client_open();
	nbd_client_write(fd, 0, plaintext, 4096);
	nbd_client_read(fd, 0, received, 4096);
	nbd_client_ask(fd, NBD_READ, 7, 0, 4096);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 5), 7);
	nbd_client_ask(fd, NBD_WRITE, 8, 4096, 4096);
	nbd_client_send(fd, plaintext, 4096);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 28), 8);
	nbd_client_ask(fd, NBD_FLUSH, 9, 0, 0);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 5), 9);
	nbd_client_read(fd, 0, received, 4096);
	EXPECT_BYTES(received, plaintext, 4096);
	close(fd);
	stop();
}

/* --- clients that stall, die and lie
 * -------------------------------------------------------------- */

TEST(a_client_out_of_step_is_disconnected_and_nobody_else)
{
	int good;
	int bad;

	start();
	good = nbd_client_open();
	bad = nbd_client_open();
	nbd_client_send(bad, "GET / HTTP/1.1\r\nHost: byok\r\n\r\n", 31);
	nbd_client_expect_end(bad);
	bad = nbd_client_connect();
	nbd_client_receive(bad, received, 18);
	nbd_client_send(bad, "\0\0\0\3GET / HTTP/1.1\r\n\r\n", 23);
	nbd_client_expect_end(bad);
	bad = nbd_client_open();
	nbd_client_ask(bad, NBD_WRITE, 1, 0, 32 * 1024 * KIB + 1);
	nbd_client_expect_end(bad);
	nbd_client_write(good, 0, plaintext, 4096);
	nbd_client_read(good, 0, received, 4096);
	EXPECT_BYTES(received, plaintext, 4096);
	close(good);
	stop();
}

/* More often than there are connections, tags or buffers, so that none can be lost. */
TEST(clients_that_die_anywhere_leave_nothing_behind)
{
	static uint8_t stream[20 + 28 + 65536 + 4 * 28];
	size_t size = 20;

	start();
	memcpy(stream, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	size += nbd_client_encode(stream + size, NBD_WRITE, 0, 1, 0, 65536);
	size += 65536;
	for (unsigned i = 0; i < 4; i++)
		size += nbd_client_encode(stream + size, NBD_READ, 0, 2, 0, 65536);
	for (size_t cut = 0; cut < size; cut += cut < 60 ? 1 : 1009) {
		int fd = nbd_client_connect();

		nbd_client_send(fd, stream, cut);
		close(fd);
	}
	expect_service();
	stop();
}

TEST(a_client_that_reads_no_reply_starves_nobody)
{
	int stalled[3];
	uint8_t stream[64 * 28];

	start();
	for (size_t i = 0; i < ARRAY_COUNT(stalled); i++) {
		size_t size = 0;

		stalled[i] = nbd_client_open();
		for (unsigned j = 0; j < 64; j++)
			size += nbd_client_encode(stream + size, NBD_READ, 0, j, 0,
						  REQUEST_SIZE_MAX);
		nbd_client_send(stalled[i], stream, size);
	}
	for (unsigned i = 0; i < 20; i++)
		expect_service();
	/* One of them wakes up, and gets all it asked for. */
	for (unsigned j = 0; j < 64; j++) {
		EXPECT_TRUE(nbd_client_take_reply(stalled[1], 0) < 64);
		nbd_client_receive(stalled[1], received, REQUEST_SIZE_MAX);
	}
	for (size_t i = 0; i < ARRAY_COUNT(stalled); i++)
		close(stalled[i]);
	expect_service();
	stop();
}

TEST(a_client_that_stalls_in_its_payload_starves_nobody)
{
	int stalled[3];

	start();
	for (size_t i = 0; i < ARRAY_COUNT(stalled); i++) {
		stalled[i] = nbd_client_open();
		nbd_client_ask(stalled[i], NBD_WRITE, 1, 0, REQUEST_SIZE_MAX);
		nbd_client_send(stalled[i], plaintext, 5000);
	}
	for (unsigned i = 0; i < 20; i++)
		expect_service();
	nbd_client_send(stalled[0], plaintext + 5000, REQUEST_SIZE_MAX - 5000);
	EXPECT_EQUAL(nbd_client_take_reply(stalled[0], 0), 1);
	for (size_t i = 0; i < ARRAY_COUNT(stalled); i++)
		close(stalled[i]);
	/* Half a payload writes nothing. */
	EXPECT_EQUAL(fake.started[FAKE_WRITE], 20 + 1);
	stop();
}

TEST(one_client_too_many_waits_until_another_leaves)
{
	int fds[5];
	uint8_t byte;

	start();
	for (size_t i = 0; i < 4; i++)
		fds[i] = nbd_client_open();
	fds[4] = nbd_client_connect();
	EXPECT_EQUAL(recv(fds[4], &byte, 1, MSG_DONTWAIT), -1);
	EXPECT_EQUAL(errno, EAGAIN);
	close(fds[2]);
	nbd_client_receive(fds[4], received, 18);
	for (size_t i = 0; i < 5; i++)
		if (i != 2)
			close(fds[i]);
	stop();
}

TEST(noise_harms_only_its_sender)
{
	static uint8_t noise[65536];
	int good;

	start();
	good = nbd_client_open();
	for (uint64_t seed = 0; seed < 200; seed++) {
		int fd = seed % 2 == 0 ? nbd_client_connect() : nbd_client_open();
		size_t size;

		test_fill(noise, sizeof(noise), seed);
		size = noise[0] * 128u;
		/* Some of it well enough formed to be taken for requests. */
		if (seed % 4 == 1)
			for (size_t at = 0; at + 28 <= size; at += 28)
				nbd_client_encode(noise + at, noise[at] % 8u, noise[at + 1] % 4u,
						  at, noise[at + 2] * 4096u, noise[at + 3] * 512u);
		if (size > 0)
			(void)!send(fd, noise, size, MSG_NOSIGNAL);
		close(fd);
	}
	nbd_client_write(good, 0, plaintext, 4096);
	nbd_client_read(good, 0, received, 4096);
	EXPECT_BYTES(received, plaintext, 4096);
	close(good);
	stop();
}

/* --- its beginning and its end
 * -------------------------------------------------------------------- */

TEST(the_socket_is_for_its_owner_only_and_goes_with_the_server)
{
	struct stat information;

	start();
	EXPECT_EQUAL(stat(nbd_thread.socket_path, &information), 0);
	EXPECT_TRUE(S_ISSOCK(information.st_mode));
	EXPECT_EQUAL(information.st_mode & 0777, 0600);
	stop();
	EXPECT_EQUAL(stat(nbd_thread.socket_path, &information), -1);
}

TEST(a_socket_that_nobody_answers_on_is_replaced)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	nbd_thread_clear();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", nbd_socket_path());
	EXPECT_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	start();
	expect_service();
	stop();
}

TEST(a_socket_that_somebody_answers_on_is_left_alone)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	prepare();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", nbd_socket_path());
	EXPECT_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	EXPECT_EQUAL(listen(fd, 1), 0);
	EXPECT_STATUS(nbd_thread_start(&volume, (struct nbd_server_options){0}), FAIL_NBD_SOCKET);
	EXPECT_EQUAL(access(address.sun_path, F_OK), 0);
	close(fd);
	EXPECT_EQUAL(unlink(address.sun_path), 0);
}

TEST(a_file_at_the_sockets_path_is_left_alone)
{
	int fd;

	prepare();
	fd = open(nbd_socket_path(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT_TRUE(fd >= 0);
	EXPECT_STATUS(nbd_thread_start(&volume, (struct nbd_server_options){0}), FAIL_NBD_SOCKET);
	EXPECT_EQUAL(access(nbd_socket_path(), F_OK), 0);
	close(fd);
	EXPECT_EQUAL(unlink(nbd_socket_path()), 0);
}

TEST(a_path_too_long_for_a_socket_is_refused)
{
	char path[200];

	prepare();
	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	EXPECT_STATUS(nbd_thread_start(&volume, (struct nbd_server_options){.socket_path = path}),
		      FAIL_NBD_SOCKET);
}

TEST(a_socket_that_was_replaced_by_another_is_not_removed)
{
	int fd;

	start();
	EXPECT_EQUAL(unlink(nbd_thread.socket_path), 0);
	fd = open(nbd_thread.socket_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT_TRUE(fd >= 0);
	close(fd);
	stop();
	EXPECT_EQUAL(unlink(nbd_thread.socket_path), 0);
}

/* What has been answered is whole, and nothing is answered that was not done. */
TEST(a_stop_under_load_cuts_no_reply)
{
	for (unsigned lap = 0; lap < 20; lap++) {
		uint8_t stream[64 * 28];
		uint8_t first;
		size_t size = 0;
		ssize_t got;
		int fd;

		start();
		fd = nbd_client_open();
		for (unsigned i = 0; i < 64; i++)
			size += nbd_client_encode(stream + size, NBD_READ, 0, i, 0, 65536);
		nbd_client_send(fd, stream, size);
		EXPECT_TRUE(nbd_client_take_reply(fd, 0) < 64);
		nbd_client_receive(fd, received, 65536);
		nbd_thread_tell_to_stop();
		while ((got = recv(fd, &first, 1, MSG_PEEK)) > 0) {
			EXPECT_TRUE(nbd_client_take_reply(fd, 0) < 64);
			nbd_client_receive(fd, received, 65536);
		}
		EXPECT_TRUE(got == 0 || errno == ECONNRESET);
		EXPECT_OK(nbd_thread_join());
		close(fd);
		backing_disk_close(&disk);
	}
}

TEST(a_stop_waits_only_so_long_for_a_client_that_reads_nothing)
{
	uint8_t stream[64 * 28];
	size_t size = 0;
	int fd;

	/* 16 MiB of replies at once: more than a socket holds. */
	prepare();
	start_with((struct nbd_server_options){.queue_depth = 64, .connections_max = 1});
	fd = nbd_client_open();
	for (unsigned i = 0; i < 64; i++)
		size += nbd_client_encode(stream + size, NBD_READ, 0, i, 0, REQUEST_SIZE_MAX);
	nbd_client_send(fd, stream, size);
	EXPECT_EQUAL(recv(fd, received, 1, MSG_PEEK), 1);
	stop();
	close(fd);
}

TEST(a_stop_ends_idle_and_half_open_clients)
{
	int idle;
	int silent;
	int half;

	start();
	idle = nbd_client_open();
	silent = nbd_client_connect();
	nbd_client_receive(silent, received, 18);
	half = nbd_client_open();
	nbd_client_ask(half, NBD_WRITE, 1, 0, 8192);
	nbd_client_send(half, plaintext, 4096);
	nbd_client_read(idle, 0, received, 4096);
	stop();
	nbd_client_expect_end(idle);
	nbd_client_expect_end(silent);
	nbd_client_expect_end(half);
	EXPECT_EQUAL(fake.started[FAKE_WRITE], 0);
}

TEST(with_a_single_request_at_a_time_everybody_is_served)
{
	int first;
	int second;

	prepare();
	start_with((struct nbd_server_options){.queue_depth = 1, .connections_max = 4});
	first = nbd_client_open();
	nbd_client_write(first, 0, plaintext, 65536);
	second = nbd_client_connect();
	close(first);
	nbd_client_receive(second, received, 18);
	close(second);
	expect_service();
	stop();
}

TEST(requests_in_pieces_are_the_same_to_a_client)
{
	int fd;

	prepare();
	fake_disk_fail(FAKE_READ, 3, 4096);
	fake_disk_fail(FAKE_READ, 20, -EIO);
	start_with((struct nbd_server_options){.piece_size = 16384});
	fd = nbd_client_open();
	nbd_client_write(fd, 4096, plaintext, REQUEST_SIZE_MAX);
	nbd_client_read(fd, 4096, received, REQUEST_SIZE_MAX);
	EXPECT_BYTES(received, plaintext, REQUEST_SIZE_MAX);
	nbd_client_ask(fd, NBD_READ, 7, 4096, REQUEST_SIZE_MAX);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 5), 7);
	nbd_client_read(fd, 4096, received, REQUEST_SIZE_MAX);
	EXPECT_BYTES(received, plaintext, REQUEST_SIZE_MAX);
	close(fd);
	stop();
}

TEST(a_connected_client_is_served_without_handshake)
{
	int fd = start_connected();

	nbd_client_write(fd, 8192, plaintext, 8192);
	nbd_client_read(fd, 8192, received, 8192);
	EXPECT_BYTES(received, plaintext, 8192);
	EXPECT_OK(nbd_thread_stop());
	close(fd);
}

TEST(serving_ends_when_the_connected_client_has_left)
{
	int fd = start_connected();

	nbd_client_write(fd, 0, plaintext, 4096);
	close(fd);
	/* Without being told to stop. */
	EXPECT_OK(nbd_thread_join());
}
