/* One NBD client: its stream of bytes in, cut into requests for the engine, and the stream of
 * replies out. Receives and sends go through the server's ring, payloads straight into and out of
 * the requests' own buffers.
 *
 * Not for: accepting clients, and when to end (nbd_server).
 */
#ifndef IO_NBD_CONNECTION_H
#define IO_NBD_CONNECTION_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "io/block_engine.h"
#include "io/nbd_protocol.h"
#include "io/nbd_tags.h"

/* What one receive may take ahead of the request being read. Small writes arrive through it,
 * several at a time, and are copied once; of a large write only this much is copied. With 4 KiB
 * writes of 4 KiB and 1 MiB lost 2 to 4 %, with 64 and 128 KiB nothing was won. */
#define NBD_INPUT_SIZE ((size_t)16 * 1024)

/* What one send carries at most: replies beyond it wait for the next. With no more than 4 replies
 * random 4 KiB reads lost 5 %; 128 of them, and 256 KiB or 4 MiB, changed nothing. */
#define NBD_SEND_REPLIES_MAX 32
#define NBD_SEND_SIZE_MAX ((size_t)1024 * 1024)

/* A client that announces a larger payload is mad or out of step; up to this a payload that is
 * refused is read and thrown away. The protocol's own bound for clients that ask for none. */
#define NBD_PAYLOAD_SIZE_MAX (32u * 1024 * 1024)

enum nbd_connection_state {
	NBD_CONNECTION_BROKEN, /* never */
	NBD_CONNECTION_FREE,
	NBD_CONNECTION_HANDSHAKE,
	NBD_CONNECTION_TRANSMISSION,
	NBD_CONNECTION_DRAINING, /* reads nothing more, answers what has begun */
	NBD_CONNECTION_CLOSING,  /* shut down; the kernel and the engine still hold some of its
				    things */
	NBD_CONNECTION_STATES
};

enum nbd_connection_event {
	NBD_CONNECTION_ACCEPTED,
	NBD_CONNECTION_CONNECTED, /* with a client that needs no handshake */
	NBD_CONNECTION_AGREED,  /* the handshake is over */
	NBD_CONNECTION_ENDED,   /* by the client's goodbye or end of stream, or by our stopping */
	NBD_CONNECTION_FAILED,  /* the client broke the protocol, or the socket did */
	NBD_CONNECTION_EMPTIED, /* nothing of what the state waits for is left */
	NBD_CONNECTION_EVENTS
};

/* What all connections of a server share. */
struct nbd_service {
	struct ring ring;
	struct buffer_pool buffers; /* one for each tag */
	struct buffer_pool inputs;  /* one for each connection */
	struct block_engine *engine;
	struct nbd_tags tags;
	struct nbd_export export;
	unsigned receive_handler; /* with the connection's number as index */
	unsigned send_handler;
	unsigned first_slot; /* of the connections' among the ring's files */
};

struct nbd_connection {
	enum nbd_connection_state state;
	unsigned number;
	int fd;
	uint64_t handshake_deadline_ms;
	struct nbd_handshake handshake;

	uint8_t *input; /* NBD_INPUT_SIZE bytes, of which begin to end are received and not used */
	size_t input_begin;
	size_t input_end;
	unsigned payload_tag; /* whose payload is being received, while payload_left > 0 */
	uint64_t payload_left;
	uint64_t skip_left; /* of a payload that nobody wants */
	bool is_receiving;  /* one receive is under way; the input must not move */
	bool is_starved;    /* the next request waits for a tag */
	struct iovec receive_parts[2];
	struct msghdr receive_message;

	uint8_t output[NBD_ANSWER_SIZE_MAX]; /* the handshake's; begin to end are not sent */
	size_t output_begin;
	size_t output_end;
	unsigned *replies; /* tags in the order of their replies; as many as there are tags */
	unsigned reply_first;
	unsigned reply_count;
	uint64_t reply_sent_size; /* of the first one's reply and data */
	bool is_sending;
	struct iovec send_parts[1 + 2 * NBD_SEND_REPLIES_MAX];
	struct msghdr send_message;
};

/* Takes `fd`. Closes it and stays free if the ring will not have it. */
void nbd_connection_start(struct nbd_connection *connection, struct nbd_service *service, int fd,
			  uint64_t handshake_deadline_ms);

/* The same for a client that knows all that a handshake would tell: the kernel's. */
void nbd_connection_start_agreed(struct nbd_connection *connection, struct nbd_service *service,
				 int fd);

/* From the ring's handlers. */
void nbd_connection_note_received(struct nbd_connection *connection, struct nbd_service *service,
				  int32_t result);
void nbd_connection_note_sent(struct nbd_connection *connection, struct nbd_service *service,
			      int32_t result);

/* From the engine: the request of that tag has an outcome. */
void nbd_connection_answer(struct nbd_connection *connection, struct nbd_service *service,
			   unsigned tag, int error);

/* Once a turn, before the engine advances: makes requests of what has been received. */
void nbd_connection_take_input(struct nbd_connection *connection, struct nbd_service *service);

/* Once a turn, after the engine has advanced: starts the next receive and send, ends what can end.
 */
void nbd_connection_go_on(struct nbd_connection *connection, struct nbd_service *service);

/* ENDED: reads no more, answers what has begun, then closes. FAILED: closes at once. */
void nbd_connection_end(struct nbd_connection *connection, enum nbd_connection_event event);

/* True if it waits for a tag, and now there is one. */
bool nbd_connection_can_go_on(const struct nbd_connection *connection,
			      const struct nbd_service *service);

#endif
