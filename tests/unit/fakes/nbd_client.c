/* An NBD server in a thread, and a client that can break every rule, for #include in a test. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/nbd_protocol.h"
#include "io/nbd_server.h"
#include "platform/bytes.h"
#include "tests/unit/test.h"

/* A client that waits longer than this has lost its server: the test fails instead of hanging. */
#define NBD_CLIENT_PATIENCE_S 60

static struct {
	struct nbd_server_options options;
	const struct block_volume *volume;
	pthread_t thread;
	bool is_running;
	int opened_fd;
	enum status open_status;
	enum status serve_status;
	char socket_path[108];
} nbd_thread;

/* The ring is the thread's that opens it, so all of the server's life is here. */
static void *nbd_thread_run(void *argument)
{
	const uint64_t one = 1;
	struct nbd_server *server = NULL;

	(void)argument;
	nbd_thread.open_status = nbd_server_open(&server, &nbd_thread.options, nbd_thread.volume);
	CHECK(write(nbd_thread.opened_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	if (nbd_thread.open_status == OK)
		nbd_thread.serve_status = nbd_server_serve(server);
	nbd_server_close(&server);
	return NULL;
}

static inline const char *nbd_socket_path(void)
{
	snprintf(nbd_thread.socket_path, sizeof(nbd_thread.socket_path), "%s/nbd", test_folder());
	return nbd_thread.socket_path;
}

static inline void nbd_thread_tell_to_stop(void)
{
	const uint64_t one = 1;

	EXPECT_EQUAL(write(nbd_thread.options.stop_fd, &one, sizeof(one)), sizeof(one));
}

static inline enum status nbd_thread_join(void)
{
	pthread_join(nbd_thread.thread, NULL);
	nbd_thread.is_running = false;
	close(nbd_thread.options.stop_fd);
	return nbd_thread.serve_status;
}

static inline enum status nbd_thread_stop(void)
{
	nbd_thread_tell_to_stop();
	return nbd_thread_join();
}

/* Before a test makes anything that a server of the test before it, which failed, may be using. */
static inline void nbd_thread_clear(void)
{
	if (nbd_thread.is_running)
		(void)!nbd_thread_stop();
}

/* Serves until nbd_thread_stop; what is left zero in `options` gets a value for tests. */
static inline enum status nbd_thread_start(const struct block_volume *volume,
					   struct nbd_server_options options)
{
	uint64_t opened;

	if (options.socket_path == NULL && options.connected_count == 0)
		options.socket_path = nbd_socket_path();
	options.export_name = "volume";
	options.connections_max = options.connections_max == 0 ? 4 : options.connections_max;
	options.queue_depth = options.queue_depth == 0 ? 16 : options.queue_depth;
	options.request_size_max =
		options.request_size_max == 0 ? 256 * 1024 : options.request_size_max;
	options.stop_fd = eventfd(0, EFD_CLOEXEC);
	nbd_thread.options = options;
	nbd_thread.volume = volume;
	nbd_thread.opened_fd = eventfd(0, EFD_CLOEXEC);
	EXPECT_TRUE(options.stop_fd >= 0 && nbd_thread.opened_fd >= 0);
	EXPECT_EQUAL(pthread_create(&nbd_thread.thread, NULL, nbd_thread_run, NULL), 0);
	nbd_thread.is_running = true;
	EXPECT_EQUAL(read(nbd_thread.opened_fd, &opened, sizeof(opened)), sizeof(opened));
	close(nbd_thread.opened_fd);
	if (nbd_thread.open_status != OK)
		(void)!nbd_thread_join();
	return nbd_thread.open_status;
}

/* --- the client ---------------------------------------------------------------------------------
 */

static inline int nbd_client_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval patience = {.tv_sec = NBD_CLIENT_PATIENCE_S};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	EXPECT_TRUE(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", nbd_thread.socket_path);
	EXPECT_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	EXPECT_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	EXPECT_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline void nbd_client_send(int fd, const void *bytes, size_t size)
{
	const uint8_t *position = bytes;

	while (size > 0) {
		ssize_t sent = send(fd, position, size, MSG_NOSIGNAL);

		EXPECT_TRUE(sent > 0);
		position += sent;
		size -= (size_t)sent;
	}
}

static inline void nbd_client_receive(int fd, void *bytes, size_t size)
{
	uint8_t *position = bytes;

	while (size > 0) {
		ssize_t received = recv(fd, position, size, 0);

		EXPECT_TRUE(received > 0);
		position += received;
		size -= (size_t)received;
	}
}

/* The server has hung up; anything still unread would be a surprise. */
static inline void nbd_client_expect_end(int fd)
{
	uint8_t byte;
	ssize_t received = recv(fd, &byte, 1, 0);

	EXPECT_TRUE(received == 0 || (received < 0 && errno == ECONNRESET));
	close(fd);
}

/* Through the handshake by EXPORT_NAME. */
static inline int nbd_client_open(void)
{
	uint8_t bytes[64];
	int fd = nbd_client_connect();

	nbd_client_receive(fd, bytes, 18);
	nbd_client_send(fd, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", 20);
	nbd_client_receive(fd, bytes, 10);
	return fd;
}

static inline size_t nbd_client_encode(uint8_t bytes[static 28], uint16_t command, uint16_t flags,
				       uint64_t cookie, uint64_t offset_bytes, uint32_t size)
{
	bytes_store_be32(bytes, 0x25609513);
	bytes_store_be16(bytes + 4, flags);
	bytes_store_be16(bytes + 6, command);
	bytes_store_be64(bytes + 8, cookie);
	bytes_store_be64(bytes + 16, offset_bytes);
	bytes_store_be32(bytes + 24, size);
	return 28;
}

static inline void nbd_client_ask(int fd, uint16_t command, uint64_t cookie, uint64_t offset_bytes,
				  uint32_t size)
{
	uint8_t bytes[28];

	nbd_client_encode(bytes, command, 0, cookie, offset_bytes, size);
	nbd_client_send(fd, bytes, sizeof(bytes));
}

/* Gives the reply's cookie; its error must be that. */
static inline uint64_t nbd_client_take_reply(int fd, uint32_t error)
{
	uint8_t bytes[16];

	nbd_client_receive(fd, bytes, sizeof(bytes));
	EXPECT_EQUAL(bytes_load_be32(bytes), 0x67446698);
	EXPECT_EQUAL(bytes_load_be32(bytes + 4), error);
	return bytes_load_be64(bytes + 8);
}

static inline void nbd_client_write(int fd, uint64_t offset_bytes, const void *source,
				    uint32_t size)
{
	nbd_client_ask(fd, NBD_WRITE, 1, offset_bytes, size);
	nbd_client_send(fd, source, size);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 1);
}

static inline void nbd_client_read(int fd, uint64_t offset_bytes, void *target, uint32_t size)
{
	nbd_client_ask(fd, NBD_READ, 2, offset_bytes, size);
	EXPECT_EQUAL(nbd_client_take_reply(fd, 0), 2);
	nbd_client_receive(fd, target, size);
}
