/* The bytes of the NBD protocol (fixed newstyle, simple replies), server side: pure encoding and
 * decoding. Every byte from the client is hostile. Section names are those of the protocol's
 * doc/proto.md.
 *
 * Replies are simple ones. Structured replies tell of holes, which an encrypted disk has none of,
 * and of what was read before an error; for each read they cost 12 bytes of header more.
 *
 * Not for: sockets, buffers of requests, or what a request does to a disk.
 */
#ifndef IO_NBD_PROTOCOL_H
#define IO_NBD_PROTOCOL_H

#include "platform/base.h"

/* What the handshake tells about the volume. */
struct nbd_export {
	const char *name; /* listed; served under this name and as the default export "" */
	uint64_t size_bytes;
	uint32_t block_size_minimum; /* the sector size */
	uint32_t block_size_preferred;
	uint32_t block_size_maximum; /* the largest READ or WRITE */
	bool is_read_only;
	bool is_rotational;
	bool can_trim;
};

#define NBD_EXPORT_NAME_SIZE_MAX 255

/* Handshake phase. Sans-I/O: it eats the client's bytes and writes the server's. */

/* The largest option that is read whole; a client that announces more is disconnected. */
#define NBD_OPTION_SIZE_MAX 1024

/* What one step writes at most: the answers to one option. */
#define NBD_ANSWER_SIZE_MAX 1024

enum nbd_handshake_state {
	NBD_HANDSHAKE_BROKEN,       /* never */
	NBD_HANDSHAKE_GREETING,     /* the server speaks first */
	NBD_HANDSHAKE_FLAGS,        /* client flags awaited */
	NBD_HANDSHAKE_OPTIONS,      /* an option awaited */
	NBD_HANDSHAKE_TRANSMISSION, /* over: requests follow */
	NBD_HANDSHAKE_ENDED,        /* the client said goodbye: send the answer, then disconnect */
	NBD_HANDSHAKE_REFUSED,      /* the client broke the protocol: disconnect */
};

struct nbd_handshake {
	enum nbd_handshake_state state;
	bool omits_zeroes; /* client flag NO_ZEROES */
};

void nbd_handshake_init(struct nbd_handshake *handshake);

/* One step: at most one greeting, flags word or option. Says in *input_used how much of `input` it
 * ate (0: it needs more) and in *answer_size what it wrote to `answer`. To be called again until
 * both are 0, sending each answer. */
void nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_export *export,
			const uint8_t *input, size_t input_size, size_t *input_used,
			uint8_t answer[static NBD_ANSWER_SIZE_MAX], size_t *answer_size);

/* Transmission phase. */

#define NBD_REQUEST_SIZE 28
#define NBD_REPLY_SIZE 16

enum nbd_command {
	NBD_READ = 0,
	NBD_WRITE = 1,
	NBD_DISCONNECT = 2,
	NBD_FLUSH = 3,
	NBD_TRIM = 4,
	NBD_WRITE_ZEROES = 6,
};

#define NBD_COMMAND_FUA (1u << 0)
#define NBD_COMMAND_NO_HOLE (1u << 1)

struct nbd_request {
	uint16_t flags;
	uint16_t command; /* any number: the client's word */
	uint64_t cookie;
	uint64_t offset_bytes;
	uint32_t size; /* for NBD_WRITE also of the payload that follows */
};

/* False if the magic is wrong: the client is out of step, and there is no way on. */
MUST_CHECK bool nbd_request_decode(struct nbd_request *request,
				   const uint8_t bytes[static NBD_REQUEST_SIZE]);

/* `error` is 0 or a positive errno of ours; one that the protocol lacks becomes EIO. */
void nbd_reply_encode(uint8_t bytes[static NBD_REPLY_SIZE], uint64_t cookie, int error);

#endif
