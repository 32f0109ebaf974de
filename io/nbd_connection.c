#include "io/nbd_connection.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "platform/log.h"

static const enum nbd_connection_state next_state[NBD_CONNECTION_STATES][NBD_CONNECTION_EVENTS] = {
	[NBD_CONNECTION_FREE] =
		{
			[NBD_CONNECTION_ACCEPTED] = NBD_CONNECTION_HANDSHAKE,
			[NBD_CONNECTION_CONNECTED] = NBD_CONNECTION_TRANSMISSION,
		},
	[NBD_CONNECTION_HANDSHAKE] =
		{
			[NBD_CONNECTION_AGREED] = NBD_CONNECTION_TRANSMISSION,
			[NBD_CONNECTION_ENDED] = NBD_CONNECTION_DRAINING,
			[NBD_CONNECTION_FAILED] = NBD_CONNECTION_CLOSING,
		},
	[NBD_CONNECTION_TRANSMISSION] =
		{
			[NBD_CONNECTION_ENDED] = NBD_CONNECTION_DRAINING,
			[NBD_CONNECTION_FAILED] = NBD_CONNECTION_CLOSING,
		},
	[NBD_CONNECTION_DRAINING] =
		{
			[NBD_CONNECTION_ENDED] = NBD_CONNECTION_DRAINING,
			[NBD_CONNECTION_FAILED] = NBD_CONNECTION_CLOSING,
			[NBD_CONNECTION_EMPTIED] = NBD_CONNECTION_CLOSING,
		},
	[NBD_CONNECTION_CLOSING] =
		{
			[NBD_CONNECTION_ENDED] = NBD_CONNECTION_CLOSING,
			[NBD_CONNECTION_FAILED] = NBD_CONNECTION_CLOSING,
			[NBD_CONNECTION_EMPTIED] = NBD_CONNECTION_FREE,
		},
};

static void step(struct nbd_connection *connection, enum nbd_connection_event event)
{
	enum nbd_connection_state before = connection->state;

	connection->state = next_state[before][event];
	CHECK(connection->state != NBD_CONNECTION_BROKEN);
	if (connection->state == before)
		return;
	/* The kernel then completes what is under way on the socket, so that it can be closed. */
	if (connection->state == NBD_CONNECTION_DRAINING)
		(void)shutdown(connection->fd, SHUT_RD);
	if (connection->state == NBD_CONNECTION_CLOSING)
		(void)shutdown(connection->fd, SHUT_RDWR);
}

void nbd_connection_end(struct nbd_connection *connection, enum nbd_connection_event event)
{
	CHECK(event == NBD_CONNECTION_ENDED || event == NBD_CONNECTION_FAILED);
	if (connection->state != NBD_CONNECTION_FREE)
		step(connection, event);
}

static void fail(struct nbd_connection *connection, const char *why)
{
	log_warning("NBD client %u: disconnected: %s", connection->number, why);
	step(connection, NBD_CONNECTION_FAILED);
}

static bool take_socket(struct nbd_connection *connection, struct nbd_service *service, int fd,
			enum nbd_connection_event event)
{
	CHECK(connection->state == NBD_CONNECTION_FREE);
	if (ring_set_file(&service->ring, service->first_slot + connection->number, fd) != OK) {
		close(fd);
		return false;
	}
	step(connection, event);
	connection->fd = fd;
	return true;
}

void nbd_connection_start(struct nbd_connection *connection, struct nbd_service *service, int fd,
			  uint64_t handshake_deadline_ms)
{
	if (!take_socket(connection, service, fd, NBD_CONNECTION_ACCEPTED))
		return;
	connection->handshake_deadline_ms = handshake_deadline_ms;
	nbd_handshake_init(&connection->handshake);
}

void nbd_connection_start_agreed(struct nbd_connection *connection, struct nbd_service *service,
				 int fd)
{
	(void)take_socket(connection, service, fd, NBD_CONNECTION_CONNECTED);
}

/* The type of the count is the C library's choice. */
static void set_parts(struct msghdr *message, struct iovec *parts, size_t count)
{
	*message = (struct msghdr){.msg_iov = parts};
	message->msg_iovlen = (__typeof__(message->msg_iovlen))count;
}

/* --- from the client ---------------------------------------------------------------------------
 */

static size_t available(const struct nbd_connection *connection)
{
	return connection->input_end - connection->input_begin;
}

static void submit(struct nbd_service *service, unsigned number)
{
	struct nbd_tag *tag = &service->tags.tags[number];

	nbd_tag_step(tag, NBD_TAG_SUBMITTED);
	block_engine_submit(service->engine, number, &tag->command);
}

static uint8_t *payload_position(const struct nbd_connection *connection,
				 const struct nbd_service *service)
{
	unsigned number = connection->payload_tag;

	return buffer_pool_at(&service->buffers, number) +
	       (service->tags.tags[number].command.size - connection->payload_left);
}

static void note_payload(struct nbd_connection *connection, struct nbd_service *service,
			 size_t size)
{
	CHECK(size <= connection->payload_left);
	connection->payload_left -= size;
	if (connection->payload_left == 0)
		submit(service, connection->payload_tag);
}

void nbd_connection_note_received(struct nbd_connection *connection, struct nbd_service *service,
				  int32_t result)
{
	size_t to_payload;

	CHECK(connection->is_receiving);
	connection->is_receiving = false;
	if (result == -EINTR || result == -EAGAIN)
		return;
	if (result <= 0) {
		if (result < 0 && result != -ECONNRESET)
			log_errno(LOG_PRIORITY_WARNING, -result, "NBD client %u: receive",
				  connection->number);
		step(connection, result == 0 ? NBD_CONNECTION_ENDED : NBD_CONNECTION_FAILED);
		return;
	}
	to_payload = MINIMUM((size_t)result, connection->payload_left);
	connection->input_end += (size_t)result - to_payload;
	CHECK(connection->input_end <= NBD_INPUT_SIZE);
	if (to_payload > 0 && connection->state == NBD_CONNECTION_TRANSMISSION)
		note_payload(connection, service, to_payload);
}

/* 0, or why the request is refused. */
static int translate(struct block_command *command, const struct nbd_request *request,
		     const struct block_limits *limits)
{
	static const struct {
		bool is_known;
		enum block_operation operation;
		unsigned flags; /* that mean something here */
	} commands[] = {
		/* A client may set FUA on any command, also where it means nothing. */
		[NBD_READ] = {true, BLOCK_READ, NBD_COMMAND_FUA},
		[NBD_WRITE] = {true, BLOCK_WRITE, NBD_COMMAND_FUA},
		[NBD_FLUSH] = {true, BLOCK_FLUSH, NBD_COMMAND_FUA},
		[NBD_TRIM] = {true, BLOCK_DISCARD, NBD_COMMAND_FUA},
		[NBD_WRITE_ZEROES] = {true, BLOCK_WRITE_ZEROES,
				      NBD_COMMAND_FUA | NBD_COMMAND_NO_HOLE},
	};

	if (request->command >= ARRAY_COUNT(commands) || !commands[request->command].is_known ||
	    (request->flags & ~commands[request->command].flags) != 0)
		return EINVAL;
	*command = (struct block_command){
		.operation = commands[request->command].operation,
		.is_durable = (request->flags & NBD_COMMAND_FUA) != 0,
		.offset_bytes = request->offset_bytes,
		.size = request->size,
	};
	return block_request_judge(limits, command);
}

static void begin_request(struct nbd_connection *connection, struct nbd_service *service,
			  const struct nbd_request *request, unsigned number)
{
	struct nbd_tag *tag = &service->tags.tags[number];
	int error;

	tag->cookie = request->cookie;
	tag->command = (struct block_command){0};
	error = translate(&tag->command, request, block_engine_limits(service->engine));
	if (error != 0) {
		if (request->command == NBD_WRITE)
			connection->skip_left = request->size;
		nbd_connection_answer(connection, service, number, error);
	} else if (request->command == NBD_WRITE) {
		connection->payload_tag = number;
		connection->payload_left = request->size;
	} else {
		submit(service, number);
	}
}

/* Makes a request of the next bytes. False if they do not suffice, or there is no tag for it. */
static bool take_request(struct nbd_connection *connection, struct nbd_service *service)
{
	struct nbd_request request;
	unsigned number;

	if (available(connection) < NBD_REQUEST_SIZE)
		return false;
	if (!nbd_request_decode(&request, connection->input + connection->input_begin)) {
		fail(connection, "not a request");
		return false;
	}
	if (request.command == NBD_DISCONNECT) {
		step(connection, NBD_CONNECTION_ENDED);
		return false;
	}
	if (request.command == NBD_WRITE && request.size > NBD_PAYLOAD_SIZE_MAX) {
		fail(connection, "a write of more than 32 MiB");
		return false;
	}
	if (!nbd_tags_take(&service->tags, connection->number, &number)) {
		connection->is_starved = true;
		return false;
	}
	connection->input_begin += NBD_REQUEST_SIZE;
	begin_request(connection, service, &request, number);
	return true;
}

/* The part of a payload that came ahead, together with its request. */
static void take_payload(struct nbd_connection *connection, struct nbd_service *service)
{
	size_t skipped = MINIMUM(available(connection), connection->skip_left);
	size_t size;

	connection->skip_left -= skipped;
	connection->input_begin += skipped;
	size = MINIMUM(available(connection), connection->payload_left);
	if (size == 0)
		return;
	memcpy(payload_position(connection, service), connection->input + connection->input_begin,
	       size);
	connection->input_begin += size;
	note_payload(connection, service, size);
}

static bool take_handshake(struct nbd_connection *connection, struct nbd_service *service)
{
	size_t used;

	/* One answer at a time: a client that does not read them gets no further. */
	if (connection->output_end > 0)
		return false;
	nbd_handshake_step(&connection->handshake, &service->export,
			   connection->input + connection->input_begin, available(connection),
			   &used, connection->output, &connection->output_end);
	connection->input_begin += used;
	switch (connection->handshake.state) {
	case NBD_HANDSHAKE_TRANSMISSION: step(connection, NBD_CONNECTION_AGREED); return true;
	case NBD_HANDSHAKE_ENDED: step(connection, NBD_CONNECTION_ENDED); return false;
	case NBD_HANDSHAKE_REFUSED:
		fail(connection, "not a handshake, or for an export that is not here");
		return false;
	case NBD_HANDSHAKE_GREETING:
	case NBD_HANDSHAKE_FLAGS:
	case NBD_HANDSHAKE_OPTIONS: return used > 0 || connection->output_end > 0;
	case NBD_HANDSHAKE_BROKEN:
	default: CHECK(false); return false;
	}
}

void nbd_connection_take_input(struct nbd_connection *connection, struct nbd_service *service)
{
	bool goes_on = !connection->is_receiving;

	connection->is_starved = false;
	while (goes_on) {
		if (connection->state == NBD_CONNECTION_HANDSHAKE) {
			goes_on = take_handshake(connection, service);
		} else if (connection->state == NBD_CONNECTION_TRANSMISSION) {
			take_payload(connection, service);
			goes_on = connection->payload_left + connection->skip_left == 0 &&
				  take_request(connection, service);
		} else {
			goes_on = false;
		}
	}
}

static void start_receive(struct nbd_connection *connection, struct nbd_service *service)
{
	size_t part_count = 0;
	size_t unused = available(connection);

	if (connection->is_receiving || connection->is_starved ||
	    (connection->state != NBD_CONNECTION_TRANSMISSION &&
	     (connection->state != NBD_CONNECTION_HANDSHAKE || connection->output_end > 0)))
		return;
	memmove(connection->input, connection->input + connection->input_begin, unused);
	connection->input_begin = 0;
	connection->input_end = unused;
	CHECK(unused < NBD_INPUT_SIZE);
	if (connection->payload_left > 0)
		connection->receive_parts[part_count++] =
			(struct iovec){.iov_base = payload_position(connection, service),
				       .iov_len = connection->payload_left};
	connection->receive_parts[part_count++] = (struct iovec){
		.iov_base = connection->input + unused, .iov_len = NBD_INPUT_SIZE - unused};
	set_parts(&connection->receive_message, connection->receive_parts, part_count);
	connection->is_receiving = true;
	ring_receive(&service->ring, ring_token(service->receive_handler, connection->number),
		     service->first_slot + connection->number, &connection->receive_message);
}

/* --- to the client -----------------------------------------------------------------------------
 */

void nbd_connection_answer(struct nbd_connection *connection, struct nbd_service *service,
			   unsigned number, int error)
{
	struct nbd_tag *tag = &service->tags.tags[number];

	nbd_tag_step(tag, NBD_TAG_ANSWERED);
	if (connection->state == NBD_CONNECTION_CLOSING) {
		nbd_tags_release(&service->tags, number);
		return;
	}
	nbd_reply_encode(tag->reply, tag->cookie, error);
	tag->reply_data_size = error == 0 && tag->command.operation == BLOCK_READ
				       ? (uint32_t)tag->command.size
				       : 0;
	CHECK(connection->reply_count < service->tags.count);
	connection->replies[(connection->reply_first + connection->reply_count) %
			    service->tags.count] = number;
	connection->reply_count++;
}

static unsigned first_reply(const struct nbd_connection *connection)
{
	CHECK(connection->reply_count > 0);
	return connection->replies[connection->reply_first];
}

static void drop_first_reply(struct nbd_connection *connection, struct nbd_service *service)
{
	nbd_tags_release(&service->tags, first_reply(connection));
	connection->reply_first = (connection->reply_first + 1) % service->tags.count;
	connection->reply_count--;
	connection->reply_sent_size = 0;
}

static void note_sent_bytes(struct nbd_connection *connection, struct nbd_service *service,
			    size_t size)
{
	size_t of_output = MINIMUM(size, connection->output_end - connection->output_begin);

	connection->output_begin += of_output;
	if (connection->output_begin == connection->output_end)
		connection->output_begin = connection->output_end = 0;
	size -= of_output;
	while (size > 0) {
		struct nbd_tag *tag = &service->tags.tags[first_reply(connection)];
		uint64_t left = NBD_REPLY_SIZE + tag->reply_data_size - connection->reply_sent_size;

		if (size < left) {
			connection->reply_sent_size += size;
			return;
		}
		size -= left;
		drop_first_reply(connection, service);
	}
}

void nbd_connection_note_sent(struct nbd_connection *connection, struct nbd_service *service,
			      int32_t result)
{
	CHECK(connection->is_sending);
	connection->is_sending = false;
	if (result >= 0) {
		note_sent_bytes(connection, service, (size_t)result);
		return;
	}
	if (result == -EINTR || result == -EAGAIN)
		return;
	if (result != -EPIPE && result != -ECONNRESET)
		log_errno(LOG_PRIORITY_WARNING, -result, "NBD client %u: send", connection->number);
	step(connection, NBD_CONNECTION_FAILED);
}

/* Appends bytes to what is to be sent, but for the first `sent` of them. */
static size_t add_part(struct nbd_connection *connection, size_t *count, uint8_t *bytes,
		       size_t size, uint64_t *sent)
{
	size_t skipped = MINIMUM(size, *sent);

	*sent -= skipped;
	if (size > skipped)
		connection->send_parts[(*count)++] =
			(struct iovec){.iov_base = bytes + skipped, .iov_len = size - skipped};
	return size - skipped;
}

static void start_send(struct nbd_connection *connection, struct nbd_service *service)
{
	uint64_t sent = connection->output_begin;
	size_t count = 0;
	size_t size = 0;

	if (connection->is_sending || connection->state == NBD_CONNECTION_CLOSING)
		return;
	size += add_part(connection, &count, connection->output, connection->output_end, &sent);
	sent = connection->reply_sent_size;
	for (unsigned i = 0;
	     i < connection->reply_count && i < NBD_SEND_REPLIES_MAX && size < NBD_SEND_SIZE_MAX;
	     i++) {
		unsigned number =
			connection->replies[(connection->reply_first + i) % service->tags.count];
		struct nbd_tag *tag = &service->tags.tags[number];

		size += add_part(connection, &count, tag->reply, NBD_REPLY_SIZE, &sent);
		size += add_part(connection, &count, buffer_pool_at(&service->buffers, number),
				 tag->reply_data_size, &sent);
	}
	if (count == 0)
		return;
	set_parts(&connection->send_message, connection->send_parts, count);
	connection->is_sending = true;
	ring_send(&service->ring, ring_token(service->send_handler, connection->number),
		  service->first_slot + connection->number, &connection->send_message);
}

/* --- its end -----------------------------------------------------------------------------------
 */

static void drop_half_payload(struct nbd_connection *connection, struct nbd_service *service)
{
	if (connection->payload_left > 0 && !connection->is_receiving) {
		nbd_tags_release(&service->tags, connection->payload_tag);
		connection->payload_left = 0;
	}
}

static void close_socket(struct nbd_connection *connection, struct nbd_service *service)
{
	/* Without this the ring's own reference would keep the client's end open. */
	if (ring_set_file(&service->ring, service->first_slot + connection->number, -1) != OK)
		log_warning("NBD client %u: its socket stays open until the next one comes",
			    connection->number);
	close(connection->fd);
	*connection = (struct nbd_connection){
		.state = connection->state,
		.number = connection->number,
		.fd = -1,
		.input = connection->input,
		.replies = connection->replies,
	};
	step(connection, NBD_CONNECTION_EMPTIED);
}

static void end_what_can_end(struct nbd_connection *connection, struct nbd_service *service)
{
	const unsigned *held = &service->tags.held[connection->number];

	drop_half_payload(connection, service);
	if (connection->state == NBD_CONNECTION_DRAINING && *held == 0 &&
	    connection->output_end == 0 && !connection->is_sending)
		step(connection, NBD_CONNECTION_EMPTIED);
	if (connection->state != NBD_CONNECTION_CLOSING)
		return;
	while (connection->reply_count > 0 && !connection->is_sending)
		drop_first_reply(connection, service);
	if (*held == 0 && !connection->is_sending && !connection->is_receiving)
		close_socket(connection, service);
}

void nbd_connection_go_on(struct nbd_connection *connection, struct nbd_service *service)
{
	if (connection->state == NBD_CONNECTION_FREE)
		return;
	start_receive(connection, service);
	start_send(connection, service);
	if (connection->state == NBD_CONNECTION_DRAINING ||
	    connection->state == NBD_CONNECTION_CLOSING)
		end_what_can_end(connection, service);
}

bool nbd_connection_can_go_on(const struct nbd_connection *connection,
			      const struct nbd_service *service)
{
	return connection->is_starved && nbd_tags_has(&service->tags, connection->number);
}
