#include "io/nbd_protocol.h"

#include <errno.h>
#include <string.h>

#include "platform/bytes.h"

#define MAGIC_GREETING 0x4e42444d41474943u /* "NBDMAGIC" */
#define MAGIC_OPTION 0x49484156454f5054u   /* "IHAVEOPT" */
#define MAGIC_OPTION_REPLY 0x0003e889045565a9u
#define MAGIC_REQUEST 0x25609513u
#define MAGIC_REPLY 0x67446698u

/* Handshake flags, the same bits from server and client. */
#define FLAG_FIXED_NEWSTYLE 1u
#define FLAG_NO_ZEROES 2u

#define CLIENT_FLAGS_SIZE 4
#define OPTION_HEADER_SIZE 16
#define EXPORT_NAME_PADDING_SIZE 124

enum option {
	OPTION_EXPORT_NAME = 1,
	OPTION_ABORT = 2,
	OPTION_LIST = 3,
	OPTION_INFO = 6,
	OPTION_GO = 7,
};

enum option_reply {
	REPLY_ACK = 1,
	REPLY_SERVER = 2,
	REPLY_INFO = 3,
};
#define REPLY_ERR_UNSUP 0x80000001u
#define REPLY_ERR_INVALID 0x80000003u
#define REPLY_ERR_UNKNOWN 0x80000006u

enum info {
	INFO_EXPORT = 0,
	INFO_BLOCK_SIZE = 3,
};

enum transmission_flag {
	EXPORT_HAS_FLAGS = 1 << 0,
	EXPORT_READ_ONLY = 1 << 1,
	EXPORT_SEND_FLUSH = 1 << 2,
	EXPORT_SEND_FUA = 1 << 3,
	EXPORT_ROTATIONAL = 1 << 4,
	EXPORT_SEND_TRIM = 1 << 5,
	EXPORT_SEND_WRITE_ZEROES = 1 << 6,
	EXPORT_CAN_MULTI_CONN = 1 << 8,
};

/* --- the server's bytes ------------------------------------------------------------------------
 */

struct answer {
	uint8_t *bytes; /* NBD_ANSWER_SIZE_MAX of them */
	size_t size;
};

static uint8_t *extend(struct answer *answer, size_t size)
{
	uint8_t *place = answer->bytes + answer->size;

	CHECK(size <= NBD_ANSWER_SIZE_MAX - answer->size);
	answer->size += size;
	return place;
}

static void put_u16(struct answer *answer, uint16_t value)
{
	bytes_store_be16(extend(answer, 2), value);
}

static void put_u32(struct answer *answer, uint32_t value)
{
	bytes_store_be32(extend(answer, 4), value);
}

static void put_u64(struct answer *answer, uint64_t value)
{
	bytes_store_be64(extend(answer, 8), value);
}

static void put_option_reply(struct answer *answer, uint32_t option, uint32_t reply, size_t size)
{
	put_u64(answer, MAGIC_OPTION_REPLY);
	put_u32(answer, option);
	put_u32(answer, reply);
	put_u32(answer, (uint32_t)size);
}

static uint16_t transmission_flags(const struct nbd_export *export)
{
	/* A flush covers all connections because all of them share one disk. */
	unsigned flags =
		EXPORT_HAS_FLAGS | EXPORT_SEND_FLUSH | EXPORT_SEND_FUA | EXPORT_CAN_MULTI_CONN;

	if (export->is_rotational)
		flags |= EXPORT_ROTATIONAL;
	if (export->is_read_only)
		flags |= EXPORT_READ_ONLY;
	else
		flags |= EXPORT_SEND_WRITE_ZEROES | (export->can_trim ? EXPORT_SEND_TRIM : 0);
	return (uint16_t)flags;
}

/* --- options -----------------------------------------------------------------------------------
 */

static bool is_served_name(const struct nbd_export *export, const uint8_t *name, size_t size)
{
	return size == 0 || (size == strlen(export->name) && memcmp(name, export->name, size) == 0);
}

/* The one option whose answer has no header, and that cannot be refused but by disconnecting. */
static void answer_export_name(struct nbd_handshake *handshake, const struct nbd_export *export,
			       const uint8_t *name, size_t size, struct answer *answer)
{
	if (!is_served_name(export, name, size)) {
		handshake->state = NBD_HANDSHAKE_REFUSED;
		return;
	}
	put_u64(answer, export->size_bytes);
	put_u16(answer, transmission_flags(export));
	if (!handshake->omits_zeroes)
		memset(extend(answer, EXPORT_NAME_PADDING_SIZE), 0, EXPORT_NAME_PADDING_SIZE);
	handshake->state = NBD_HANDSHAKE_TRANSMISSION;
}

static void answer_list(const struct nbd_export *export, size_t size, struct answer *answer)
{
	size_t name_size = strlen(export->name);

	CHECK(name_size <= NBD_EXPORT_NAME_SIZE_MAX);
	if (size != 0) {
		put_option_reply(answer, OPTION_LIST, REPLY_ERR_INVALID, 0);
		return;
	}
	put_option_reply(answer, OPTION_LIST, REPLY_SERVER, 4 + name_size);
	put_u32(answer, (uint32_t)name_size);
	memcpy(extend(answer, name_size), export->name, name_size);
	put_option_reply(answer, OPTION_LIST, REPLY_ACK, 0);
}

/* u32 size of the name, the name, u16 count of the wishes, u16 each. */
static bool decode_info_request(const uint8_t *data, size_t size, size_t *name_size)
{
	size_t wish_count;

	if (size < 6)
		return false;
	*name_size = bytes_load_be32(data);
	if (*name_size > size - 6)
		return false;
	wish_count = bytes_load_be16(data + 4 + *name_size);
	return size == 6 + *name_size + 2 * wish_count;
}

/* Block sizes are told to everybody, asked for or not: a client that does not heed them has
 * requests refused. */
static void answer_info(struct nbd_handshake *handshake, const struct nbd_export *export,
			uint32_t option, const uint8_t *data, size_t size, struct answer *answer)
{
	size_t name_size;

	if (!decode_info_request(data, size, &name_size)) {
		put_option_reply(answer, option, REPLY_ERR_INVALID, 0);
		return;
	}
	if (!is_served_name(export, data + 4, name_size)) {
		put_option_reply(answer, option, REPLY_ERR_UNKNOWN, 0);
		return;
	}
	put_option_reply(answer, option, REPLY_INFO, 12);
	put_u16(answer, INFO_EXPORT);
	put_u64(answer, export->size_bytes);
	put_u16(answer, transmission_flags(export));
	put_option_reply(answer, option, REPLY_INFO, 14);
	put_u16(answer, INFO_BLOCK_SIZE);
	put_u32(answer, export->block_size_minimum);
	put_u32(answer, export->block_size_preferred);
	put_u32(answer, export->block_size_maximum);
	put_option_reply(answer, option, REPLY_ACK, 0);
	if (option == OPTION_GO)
		handshake->state = NBD_HANDSHAKE_TRANSMISSION;
}

static void answer_option(struct nbd_handshake *handshake, const struct nbd_export *export,
			  uint32_t option, const uint8_t *data, size_t size, struct answer *answer)
{
	switch (option) {
	case OPTION_EXPORT_NAME: answer_export_name(handshake, export, data, size, answer); break;
	case OPTION_ABORT:
		put_option_reply(answer, option, REPLY_ACK, 0);
		handshake->state = NBD_HANDSHAKE_ENDED;
		break;
	case OPTION_LIST: answer_list(export, size, answer); break;
	case OPTION_INFO:
	case OPTION_GO: answer_info(handshake, export, option, data, size, answer); break;
	default: put_option_reply(answer, option, REPLY_ERR_UNSUP, 0);
	}
}

/* --- the handshake -----------------------------------------------------------------------------
 */

void nbd_handshake_init(struct nbd_handshake *handshake)
{
	*handshake = (struct nbd_handshake){.state = NBD_HANDSHAKE_GREETING};
}

static size_t take_client_flags(struct nbd_handshake *handshake, const uint8_t *input,
				size_t input_size)
{
	uint32_t flags;

	if (input_size < CLIENT_FLAGS_SIZE)
		return 0;
	flags = bytes_load_be32(input);
	handshake->omits_zeroes = (flags & FLAG_NO_ZEROES) != 0;
	handshake->state = (flags & ~(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)) == 0
				   ? NBD_HANDSHAKE_OPTIONS
				   : NBD_HANDSHAKE_REFUSED;
	return CLIENT_FLAGS_SIZE;
}

static size_t take_option(struct nbd_handshake *handshake, const struct nbd_export *export,
			  const uint8_t *input, size_t input_size, struct answer *answer)
{
	size_t data_size;

	if (input_size < OPTION_HEADER_SIZE)
		return 0;
	data_size = bytes_load_be32(input + 12);
	if (bytes_load_be64(input) != MAGIC_OPTION || data_size > NBD_OPTION_SIZE_MAX) {
		handshake->state = NBD_HANDSHAKE_REFUSED;
		return 0;
	}
	if (input_size - OPTION_HEADER_SIZE < data_size)
		return 0;
	answer_option(handshake, export, bytes_load_be32(input + 8), input + OPTION_HEADER_SIZE,
		      data_size, answer);
	return OPTION_HEADER_SIZE + data_size;
}

void nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_export *export,
			const uint8_t *input, size_t input_size, size_t *input_used,
			uint8_t answer_bytes[static NBD_ANSWER_SIZE_MAX], size_t *answer_size)
{
	struct answer answer = {.bytes = answer_bytes};

	*input_used = 0;
	switch (handshake->state) {
	case NBD_HANDSHAKE_GREETING:
		put_u64(&answer, MAGIC_GREETING);
		put_u64(&answer, MAGIC_OPTION);
		put_u16(&answer, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
		handshake->state = NBD_HANDSHAKE_FLAGS;
		break;
	case NBD_HANDSHAKE_FLAGS:
		*input_used = take_client_flags(handshake, input, input_size);
		break;
	case NBD_HANDSHAKE_OPTIONS:
		*input_used = take_option(handshake, export, input, input_size, &answer);
		break;
	case NBD_HANDSHAKE_TRANSMISSION:
	case NBD_HANDSHAKE_ENDED:
	case NBD_HANDSHAKE_REFUSED: break;
	case NBD_HANDSHAKE_BROKEN: CHECK(false);
	}
	*answer_size = answer.size;
}

/* --- transmission ------------------------------------------------------------------------------
 */

bool nbd_request_decode(struct nbd_request *request, const uint8_t bytes[static NBD_REQUEST_SIZE])
{
	if (bytes_load_be32(bytes) != MAGIC_REQUEST)
		return false;
	*request = (struct nbd_request){
		.flags = bytes_load_be16(bytes + 4),
		.command = bytes_load_be16(bytes + 6),
		.cookie = bytes_load_be64(bytes + 8),
		.offset_bytes = bytes_load_be64(bytes + 16),
		.size = bytes_load_be32(bytes + 24),
	};
	return true;
}

/* The protocol's own numbers, which only happen to be Linux's. */
static uint32_t error_number(int error)
{
	switch (error) {
	case 0: return 0;
	case EPERM:
	case EROFS: return 1;
	case ENOMEM: return 12;
	case EINVAL: return 22;
	case ENOSPC:
	case EDQUOT:
	case EFBIG: return 28;
	case EOVERFLOW: return 75;
	case EOPNOTSUPP: return 95;
	case ESHUTDOWN: return 108;
	default: return 5;
	}
}

void nbd_reply_encode(uint8_t bytes[static NBD_REPLY_SIZE], uint64_t cookie, int error)
{
	bytes_store_be32(bytes, MAGIC_REPLY);
	bytes_store_be32(bytes + 4, error_number(error));
	bytes_store_be64(bytes + 8, cookie);
}
