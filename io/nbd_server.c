#include "io/nbd_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/nbd_connection.h"
#include "io/nbd_socket.h"
#include "platform/clock.h"
#include "platform/log.h"

/* Long enough for any client; one that says nothing must not hold a place for ever. */
#define HANDSHAKE_TIME_MS 10000

/* How long a client that does not read its replies can delay our end. */
#define STOP_TIME_MS 3000

/* A client that has had no more than so many requests at once for so many turns waits for each: the
 * disk's answer and its next request are awaited awake for so long. Not with more, where the sleep
 * is what gathers requests into batches. Single 4 KiB reads, from a disk that answers in 40 us,
 * went from 12.0 to 16.1 thousand a second, at a third more CPU time each; 10 us won nothing. */
#define PATIENCE_REQUESTS_MAX 2
#define PATIENCE_TURNS 100
#define PATIENCE_NS 50000

/* Lets some replies wait in the socket while the client works on those before. */
#define SEND_BUFFER_SIZE (4 * 1024 * 1024)

enum slot {
	SLOT_LISTENER = BACKING_DISK_SLOT + 1,
	SLOT_STOP,
	SLOT_CONNECTIONS,
};

struct nbd_server {
	struct nbd_service service;
	const struct block_volume *volume;
	struct nbd_socket socket;
	struct nbd_connection *connections;
	unsigned connection_count;
	unsigned turn;     /* which connection comes first changes each turn */
	uint64_t turns_with_few_requests;
	unsigned *replies; /* of all connections */

	unsigned accept_handler;
	unsigned stop_handler;
	unsigned tick_handler;
	bool is_accepting; /* each: such an operation is under way */
	bool is_ticking;
	bool accept_must_rest; /* after it failed, until the next tick */
	bool is_stopping;
	uint64_t stop_deadline_ms;
};

static const struct ring_timeout tick_time = {.seconds = 1};

/* --- handlers: they note what happened ---------------------------------------------------------
 */

static void handle_received(void *context, uint32_t index, int32_t result)
{
	struct nbd_server *server = context;

	nbd_connection_note_received(&server->connections[index], &server->service, result);
}

static void handle_sent(void *context, uint32_t index, int32_t result)
{
	struct nbd_server *server = context;

	nbd_connection_note_sent(&server->connections[index], &server->service, result);
}

static void handle_complete(void *context, unsigned tag, int error)
{
	struct nbd_server *server = context;
	unsigned owner = server->service.tags.tags[tag].owner;

	nbd_connection_answer(&server->connections[owner], &server->service, tag, error);
}

static struct nbd_connection *find_free(struct nbd_server *server)
{
	for (unsigned i = 0; i < server->connection_count; i++)
		if (server->connections[i].state == NBD_CONNECTION_FREE)
			return &server->connections[i];
	return NULL;
}

static void enlarge_send_buffer(int fd)
{
	const int size = SEND_BUFFER_SIZE;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void handle_accepted(void *context, uint32_t index, int32_t result)
{
	struct nbd_server *server = context;
	struct nbd_connection *connection = find_free(server);

	(void)index;
	server->is_accepting = false;
	if (result < 0) {
		if (!server->is_stopping)
			log_errno(LOG_PRIORITY_WARNING, -result, "%s: accept", server->socket.path);
		server->accept_must_rest = true;
		return;
	}
	if (server->is_stopping) {
		close(result);
		return;
	}
	/* Only looked for when there was a free one, and only this handler takes it. */
	CHECK(connection != NULL);
	enlarge_send_buffer(result);
	nbd_connection_start(connection, &server->service, result,
			     clock_now_ms() + HANDSHAKE_TIME_MS);
}

static void handle_stop(void *context, uint32_t index, int32_t result)
{
	struct nbd_server *server = context;

	(void)index;
	(void)result;
	server->is_stopping = true;
	server->stop_deadline_ms = clock_now_ms() + STOP_TIME_MS;
	for (unsigned i = 0; i < server->connection_count; i++)
		nbd_connection_end(&server->connections[i], NBD_CONNECTION_ENDED);
}

static void handle_tick(void *context, uint32_t index, int32_t result)
{
	struct nbd_server *server = context;
	uint64_t now_ms = clock_now_ms();

	(void)index;
	(void)result;
	server->is_ticking = false;
	server->accept_must_rest = false;
	for (unsigned i = 0; i < server->connection_count; i++) {
		struct nbd_connection *connection = &server->connections[i];
		bool is_late = server->is_stopping
				       ? now_ms >= server->stop_deadline_ms
				       : connection->state == NBD_CONNECTION_HANDSHAKE &&
						 now_ms >= connection->handshake_deadline_ms;

		if (is_late)
			nbd_connection_end(connection, NBD_CONNECTION_FAILED);
	}
}

/* --- the loop ----------------------------------------------------------------------------------
 */

static bool is_listening(const struct nbd_server *server)
{
	return server->socket.fd >= 0;
}

static bool needs_tick(const struct nbd_server *server)
{
	if (server->is_stopping || server->accept_must_rest)
		return true;
	for (unsigned i = 0; i < server->connection_count; i++)
		if (server->connections[i].state == NBD_CONNECTION_HANDSHAKE)
			return true;
	return false;
}

static void start_housekeeping(struct nbd_server *server)
{
	struct ring *ring = &server->service.ring;

	if (is_listening(server) && !server->is_accepting && !server->accept_must_rest &&
	    !server->is_stopping && find_free(server) != NULL) {
		server->is_accepting = true;
		ring_accept(ring, ring_token(server->accept_handler, 0), SLOT_LISTENER);
	}
	if (!server->is_ticking && needs_tick(server)) {
		server->is_ticking = true;
		ring_sleep(ring, ring_token(server->tick_handler, 0), &tick_time);
	}
}

static bool can_go_on(const struct nbd_server *server)
{
	for (unsigned i = 0; i < server->connection_count; i++)
		if (nbd_connection_can_go_on(&server->connections[i], &server->service))
			return true;
	return block_engine_has_work(server->service.engine);
}

static bool has_ended(const struct nbd_server *server)
{
	if (!server->is_stopping && is_listening(server))
		return false;
	for (unsigned i = 0; i < server->connection_count; i++)
		if (server->connections[i].state != NBD_CONNECTION_FREE)
			return false;
	CHECK(block_engine_is_idle(server->service.engine));
	return true;
}

static enum status turn(struct nbd_server *server)
{
	struct nbd_service *service = &server->service;
	unsigned count = server->connection_count;

	server->turns_with_few_requests =
		service->tags.count - service->tags.free_count <= PATIENCE_REQUESTS_MAX
			? server->turns_with_few_requests + 1
			: 0;
	service->ring.patience_ns =
		server->turns_with_few_requests > PATIENCE_TURNS ? PATIENCE_NS : 0;
	TRY(ring_turn(&service->ring, !can_go_on(server)));
	server->turn++;
	for (unsigned i = 0; i < count; i++)
		nbd_connection_take_input(&server->connections[(server->turn + i) % count],
					  service);
	block_engine_advance(service->engine);
	for (unsigned i = 0; i < count; i++)
		nbd_connection_go_on(&server->connections[(server->turn + i) % count], service);
	start_housekeeping(server);
	return OK;
}

enum status nbd_server_serve(struct nbd_server *server)
{
	ring_wait_readable(&server->service.ring, ring_token(server->stop_handler, 0), SLOT_STOP);
	for (unsigned i = 0; i < server->connection_count; i++)
		nbd_connection_go_on(&server->connections[i], &server->service);
	start_housekeeping(server);
	while (!has_ended(server))
		TRY(turn(server));
	if (!server->volume->disk->is_writable)
		return OK;
	return backing_disk_flush(server->volume->disk);
}

/* --- its start and end -------------------------------------------------------------------------
 */

static struct nbd_export describe_export(const struct nbd_server *server, const char *name)
{
	const struct block_limits *limits = block_engine_limits(server->service.engine);

	return (struct nbd_export){
		.name = name,
		.size_bytes = limits->size_bytes,
		.block_size_minimum = limits->sector_size,
		.block_size_preferred = BACKING_DISK_ALIGNMENT,
		.block_size_maximum = (uint32_t)limits->transfer_size_max,
		.is_read_only = !limits->is_writable,
		.is_rotational = server->volume->disk->is_rotational,
		.can_trim = limits->can_discard,
	};
}

static enum status open_service(struct nbd_server *server, const struct nbd_server_options *options)
{
	struct nbd_service *service = &server->service;
	const struct block_engine_options engine_options = {.tag_count = options->queue_depth,
							    .piece_size = options->piece_size};

	TRY(nbd_tags_init(&service->tags, options->queue_depth, server->connection_count));
	TRY(buffer_pool_open(&service->buffers, options->request_size_max, options->queue_depth));
	TRY(buffer_pool_open(&service->inputs, NBD_INPUT_SIZE, server->connection_count));
	TRY(ring_open(&service->ring,
		      &(struct ring_options){
			      /* Each connection receives and sends; accept, stop and tick. */
			      .operations_max = 2 * server->connection_count + 3 +
						block_engine_operations_max(&engine_options,
									    &service->buffers),
			      .file_count = SLOT_CONNECTIONS + server->connection_count}));
	TRY(block_engine_open(&service->engine, &engine_options, server->volume, &service->ring,
			      &service->buffers, handle_complete, server));
	service->export = describe_export(server, options->export_name);
	service->first_slot = SLOT_CONNECTIONS;
	service->receive_handler = ring_add_handler(&service->ring, handle_received, server);
	service->send_handler = ring_add_handler(&service->ring, handle_sent, server);
	server->accept_handler = ring_add_handler(&service->ring, handle_accepted, server);
	server->stop_handler = ring_add_handler(&service->ring, handle_stop, server);
	server->tick_handler = ring_add_handler(&service->ring, handle_tick, server);
	return OK;
}

static enum status open_all(struct nbd_server *server, const struct nbd_server_options *options)
{
	TRY(open_service(server, options));
	server->connections = calloc(server->connection_count, sizeof(*server->connections));
	server->replies = calloc((size_t)server->connection_count * options->queue_depth,
				 sizeof(*server->replies));
	if (server->connections == NULL || server->replies == NULL)
		return FAIL_OUT_OF_MEMORY;
	for (unsigned i = 0; i < server->connection_count; i++)
		server->connections[i] = (struct nbd_connection){
			.state = NBD_CONNECTION_FREE,
			.number = i,
			.fd = -1,
			.input = buffer_pool_at(&server->service.inputs, i),
			.replies = server->replies + (size_t)i * options->queue_depth,
		};
	TRY(ring_set_file(&server->service.ring, SLOT_STOP, options->stop_fd));
	if (options->socket_path == NULL)
		return OK;
	TRY(nbd_socket_open(&server->socket, options->socket_path));
	return ring_set_file(&server->service.ring, SLOT_LISTENER, server->socket.fd);
}

static void take_connected(struct nbd_server *server, const struct nbd_server_options *options)
{
	for (unsigned i = 0; i < options->connected_count; i++) {
		enlarge_send_buffer(options->connected_fds[i]);
		nbd_connection_start_agreed(&server->connections[i], &server->service,
					    options->connected_fds[i]);
	}
}

static void close_connected(const struct nbd_server_options *options)
{
	for (unsigned i = 0; i < options->connected_count; i++)
		close(options->connected_fds[i]);
}

enum status nbd_server_open(struct nbd_server **server_out,
			    const struct nbd_server_options *options,
			    const struct block_volume *volume)
{
	struct nbd_server *server = calloc(1, sizeof(*server));
	enum status status;

	CHECK(strlen(options->export_name) <= NBD_EXPORT_NAME_SIZE_MAX);
	CHECK(options->connections_max > 0 && options->queue_depth > 0);
	if (server == NULL) {
		close_connected(options);
		return FAIL_OUT_OF_MEMORY;
	}
	server->volume = volume;
	server->connection_count = MINIMUM(options->connections_max, options->queue_depth);
	server->socket.fd = -1;
	CHECK(options->connected_count <= server->connection_count);
	status = open_all(server, options);
	if (status != OK) {
		close_connected(options);
		nbd_server_close(&server);
		return status;
	}
	take_connected(server, options);
	*server_out = server;
	return OK;
}

void nbd_server_close(struct nbd_server **server_in)
{
	struct nbd_server *server = *server_in;

	if (server == NULL)
		return;
	nbd_socket_close(&server->socket);
	ring_close(&server->service.ring);
	if (server->connections != NULL)
		for (unsigned i = 0; i < server->connection_count; i++)
			if (server->connections[i].fd >= 0)
				close(server->connections[i].fd);
	/* After a failure the disk may still be taking data from a buffer. Wiping it under the
	 * write would put bytes on the disk that nobody has written: it is left to the end of the
	 * process. */
	if (server->service.engine == NULL || block_engine_is_idle(server->service.engine))
		buffer_pool_close(&server->service.buffers);
	block_engine_close(&server->service.engine);
	buffer_pool_close(&server->service.inputs);
	nbd_tags_free(&server->service.tags);
	free(server->connections);
	free(server->replies);
	free(server);
	*server_in = NULL;
}
