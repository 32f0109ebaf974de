/* The bytes of NBD against doc/proto.md of the protocol; values of the examples are written out. */
#include "io/nbd_protocol.h"

#include <errno.h>
#include <string.h>

#include "platform/bytes.h"
#include "tests/unit/test.h"

static const struct nbd_export export = {
	.name = "data1",
	.size_bytes = 0x0000001122334000,
	.block_size_minimum = 4096,
	.block_size_preferred = 4096,
	.block_size_maximum = 1048576,
};

static struct nbd_handshake handshake;
static uint8_t answer[NBD_ANSWER_SIZE_MAX];
static size_t answer_size;

/* Steps once with the input and gives how much was used. */
static size_t step(const void *input, size_t size)
{
	size_t used = 99;

	nbd_handshake_step(&handshake, &export, input, size, &used, answer, &answer_size);
	EXPECT_TRUE(used <= size && answer_size <= NBD_ANSWER_SIZE_MAX);
	return used;
}

static void greet(uint32_t client_flags)
{
	uint8_t flags[4];

	bytes_store_be32(flags, client_flags);
	nbd_handshake_init(&handshake);
	EXPECT_EQUAL(step(NULL, 0), 0);
	EXPECT_EQUAL(step(flags, 4), 4);
	EXPECT_EQUAL(answer_size, 0);
}

static size_t make_option(uint8_t *target, uint32_t option, const void *data, size_t size)
{
	memcpy(target, "IHAVEOPT", 8);
	bytes_store_be32(target + 8, option);
	bytes_store_be32(target + 12, (uint32_t)size);
	if (size > 0)
		memcpy(target + 16, data, size);
	return 16 + size;
}

static void send_option(uint32_t option, const void *data, size_t size)
{
	uint8_t bytes[16 + NBD_OPTION_SIZE_MAX];
	size_t bytes_size = make_option(bytes, option, data, size);

	EXPECT_EQUAL(step(bytes, bytes_size), bytes_size);
}

/* INFO or GO: name, then a count of wishes, each one of `wishes`. */
static size_t make_info(uint8_t *target, const char *name, uint16_t wish_count)
{
	size_t name_size = strlen(name);

	bytes_store_be32(target, (uint32_t)name_size);
	memcpy(target + 4, name, name_size);
	bytes_store_be16(target + 4 + name_size, wish_count);
	for (uint16_t i = 0; i < wish_count; i++)
		bytes_store_be16(target + 6 + name_size + 2 * i, i);
	return 6 + name_size + 2u * wish_count;
}

static void expect_reply_header(const uint8_t *bytes, uint32_t option, uint32_t reply,
				uint32_t size)
{
	EXPECT_EQUAL(bytes_load_be64(bytes), 0x3e889045565a9);
	EXPECT_EQUAL(bytes_load_be32(bytes + 8), option);
	EXPECT_EQUAL(bytes_load_be32(bytes + 12), reply);
	EXPECT_EQUAL(bytes_load_be32(bytes + 16), size);
}

static void expect_only_reply(uint32_t option, uint32_t reply)
{
	EXPECT_EQUAL(answer_size, 20);
	expect_reply_header(answer, option, reply, 0);
}

TEST(the_server_greets_as_fixed_newstyle)
{
	nbd_handshake_init(&handshake);
	EXPECT_EQUAL(step(NULL, 0), 0);
	EXPECT_BYTES(answer, "NBDMAGICIHAVEOPT\0\3", 18);
	EXPECT_EQUAL(answer_size, 18);
	EXPECT_EQUAL(step(NULL, 0), 0);
	EXPECT_EQUAL(answer_size, 0);
}

TEST(client_flags_that_were_not_offered_end_it)
{
	greet(4);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_REFUSED);
	greet(0x80000001);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_REFUSED);
	greet(3);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_OPTIONS);
	greet(0);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_OPTIONS);
}

TEST(export_name_goes_straight_to_transmission)
{
	greet(1);
	send_option(1, "data1", 5);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_TRANSMISSION);
	EXPECT_EQUAL(answer_size, 8 + 2 + 124);
	EXPECT_EQUAL(bytes_load_be64(answer), export.size_bytes);
	/* HAS_FLAGS, FLUSH, FUA, WRITE_ZEROES, CAN_MULTI_CONN */
	EXPECT_EQUAL(bytes_load_be16(answer + 8), 1 | 4 | 8 | 64 | 256);
	for (size_t i = 10; i < answer_size; i++)
		EXPECT_EQUAL(answer[i], 0);
}

TEST(no_zeroes_leaves_the_padding_out)
{
	greet(3);
	send_option(1, "", 0);
	EXPECT_EQUAL(answer_size, 10);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_TRANSMISSION);
}

TEST(export_name_of_another_export_disconnects)
{
	static const char *const names[] = {"data", "data12", "DATA1", "x"};

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		greet(3);
		send_option(1, names[i], strlen(names[i]));
		EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_REFUSED);
		EXPECT_EQUAL(answer_size, 0);
	}
}

TEST(go_tells_size_flags_and_block_sizes)
{
	uint8_t data[64];

	greet(3);
	send_option(7, data, make_info(data, "data1", 2));
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_TRANSMISSION);
	EXPECT_EQUAL(answer_size, 32 + 34 + 20);
	expect_reply_header(answer, 7, 3, 12);
	EXPECT_EQUAL(bytes_load_be16(answer + 20), 0);
	EXPECT_EQUAL(bytes_load_be64(answer + 22), export.size_bytes);
	expect_reply_header(answer + 32, 7, 3, 14);
	EXPECT_EQUAL(bytes_load_be16(answer + 52), 3);
	EXPECT_EQUAL(bytes_load_be32(answer + 54), 4096);
	EXPECT_EQUAL(bytes_load_be32(answer + 58), 4096);
	EXPECT_EQUAL(bytes_load_be32(answer + 62), 1048576);
	expect_reply_header(answer + 66, 7, 1, 0);
}

TEST(info_tells_the_same_and_stays_in_the_handshake)
{
	uint8_t data[64];

	greet(3);
	send_option(6, data, make_info(data, "", 0));
	EXPECT_EQUAL(answer_size, 86);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_OPTIONS);
	send_option(7, data, make_info(data, "", 0));
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_TRANSMISSION);
}

TEST(what_the_volume_is_shows_in_the_flags)
{
	struct nbd_export other = export;
	uint8_t bytes[16];
	size_t used;
	size_t size = make_option(bytes, 1, NULL, 0);

	greet(3);
	other.is_read_only = true;
	other.can_trim = true;
	other.is_rotational = true;
	nbd_handshake_step(&handshake, &other, bytes, size, &used, answer, &answer_size);
	/* A read-only one offers neither TRIM nor WRITE_ZEROES. */
	EXPECT_EQUAL(bytes_load_be16(answer + 8), 1 | 2 | 4 | 8 | 16 | 256);
	greet(3);
	other.is_read_only = false;
	nbd_handshake_step(&handshake, &other, bytes, size, &used, answer, &answer_size);
	EXPECT_EQUAL(bytes_load_be16(answer + 8), 1 | 4 | 8 | 16 | 32 | 64 | 256);
}

TEST(an_unknown_export_is_refused_and_the_client_may_try_another)
{
	uint8_t data[64];

	greet(3);
	send_option(7, data, make_info(data, "data2", 0));
	expect_only_reply(7, 0x80000006);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_OPTIONS);
	send_option(7, data, make_info(data, "data1", 0));
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_TRANSMISSION);
}

TEST(an_info_request_whose_lengths_disagree_is_invalid)
{
	uint8_t data[64];
	size_t size = make_info(data, "data1", 3);

	for (uint32_t option = 6; option <= 7; option++) {
		for (size_t cut = 0; cut < size; cut++) {
			greet(3);
			send_option(option, data, cut);
			expect_only_reply(option, 0x80000003);
			EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_OPTIONS);
		}
		greet(3);
		send_option(option, data, size + 1);
		expect_only_reply(option, 0x80000003);
		for (unsigned bit = 0; bit < 32; bit++) {
			uint8_t odd[64];

			memcpy(odd, data, sizeof(odd));
			bytes_store_be32(odd, 5 ^ (1u << bit));
			greet(3);
			send_option(option, odd, size);
			expect_only_reply(option, 0x80000003);
		}
	}
}

TEST(list_names_the_export)
{
	greet(3);
	send_option(3, NULL, 0);
	EXPECT_EQUAL(answer_size, 20 + 4 + 5 + 20);
	expect_reply_header(answer, 3, 2, 9);
	EXPECT_EQUAL(bytes_load_be32(answer + 20), 5);
	EXPECT_BYTES(answer + 24, "data1", 5);
	expect_reply_header(answer + 29, 3, 1, 0);
	send_option(3, "x", 1);
	expect_only_reply(3, 0x80000003);
}

TEST(abort_is_acknowledged_and_ends_it)
{
	greet(3);
	send_option(2, NULL, 0);
	expect_only_reply(2, 1);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_ENDED);
	EXPECT_EQUAL(step("IHAVEOPT", 8), 0);
}

TEST(every_other_option_is_unsupported)
{
	for (uint32_t option = 0; option < 300; option++) {
		if (option == 1 || option == 2 || option == 3 || option == 6 || option == 7)
			continue;
		greet(3);
		send_option(option, "data", 4);
		expect_only_reply(option, 0x80000001);
		EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_OPTIONS);
	}
	greet(3);
	send_option(UINT32_MAX, NULL, 0);
	expect_only_reply(UINT32_MAX, 0x80000001);
}

TEST(bytes_may_come_one_at_a_time)
{
	uint8_t stream[128];
	uint8_t data[64];
	size_t size = 0;
	size_t begin = 0;

	bytes_store_be32(stream, 3);
	size += 4;
	size += make_option(stream + size, 3, NULL, 0);
	size += make_option(stream + size, 7, data, make_info(data, "data1", 1));
	nbd_handshake_init(&handshake);
	EXPECT_EQUAL(step(NULL, 0), 0);
	for (size_t end = 0; end <= size; end++) {
		size_t used = step(stream + begin, end - begin);

		EXPECT_TRUE(used == 0 || begin + used == end);
		begin += used;
	}
	EXPECT_EQUAL(begin, size);
	EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_TRANSMISSION);
}

TEST(an_option_without_its_magic_ends_it)
{
	for (size_t i = 0; i < 8; i++) {
		uint8_t bytes[16];

		make_option(bytes, 3, NULL, 0);
		bytes[i] ^= 0x20;
		greet(3);
		EXPECT_EQUAL(step(bytes, 16), 0);
		EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_REFUSED);
		EXPECT_EQUAL(answer_size, 0);
	}
}

TEST(an_option_larger_than_any_honest_one_ends_it_before_it_is_read)
{
	static const uint32_t sizes[] = {NBD_OPTION_SIZE_MAX + 1, INT32_MAX, 0x80000000, UINT32_MAX,
					 UINT32_MAX - 15};

	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		uint8_t bytes[16];

		make_option(bytes, 7, NULL, 0);
		bytes_store_be32(bytes + 12, sizes[i]);
		greet(3);
		EXPECT_EQUAL(step(bytes, 16), 0);
		EXPECT_EQUAL(handshake.state, NBD_HANDSHAKE_REFUSED);
	}
}

TEST(random_bytes_never_do_more_than_end_the_handshake)
{
	uint8_t noise[16 + NBD_OPTION_SIZE_MAX];

	for (uint64_t seed = 0; seed < 20000; seed++) {
		size_t size;

		test_fill(noise, sizeof(noise), seed);
		size = 16 + noise[100] * 4u;
		greet(3);
		/* Half of them get far enough to be taken for an option. */
		if (seed % 2 == 0) {
			make_option(noise, noise[11] % 9u, NULL, 0);
			bytes_store_be32(noise + 12, (uint32_t)(size - 16));
			if (seed % 4 == 0)
				bytes_store_be32(noise + 16, noise[101]);
		}
		step(noise, size);
		EXPECT_NOT_EQUAL(handshake.state, NBD_HANDSHAKE_BROKEN);
	}
}

TEST(a_request_is_decoded_field_by_field)
{
	struct nbd_request request;
	uint8_t bytes[NBD_REQUEST_SIZE];

	test_from_hex(bytes, sizeof(bytes),
		      "25609513 0001 0006 0123456789abcdef 0000001122334455 00fedcba");
	EXPECT_TRUE(nbd_request_decode(&request, bytes));
	EXPECT_EQUAL(request.flags, NBD_COMMAND_FUA);
	EXPECT_EQUAL(request.command, NBD_WRITE_ZEROES);
	EXPECT_EQUAL(request.cookie, 0x0123456789abcdef);
	EXPECT_EQUAL(request.offset_bytes, 0x1122334455);
	EXPECT_EQUAL(request.size, 0xfedcba);
}

TEST(a_request_without_its_magic_is_none)
{
	struct nbd_request request = {.cookie = 7};
	uint8_t bytes[NBD_REQUEST_SIZE] = {0};

	for (unsigned bit = 0; bit < 32; bit++) {
		bytes_store_be32(bytes, 0x25609513u ^ 1u << bit);
		EXPECT_FALSE(nbd_request_decode(&request, bytes));
		EXPECT_EQUAL(request.cookie, 7);
	}
}

TEST(a_reply_carries_cookie_and_the_protocols_error_number)
{
	static const struct {
		int ours;
		uint32_t theirs;
	} errors[] = {
		{0, 0},       {EPERM, 1},      {EROFS, 1},       {EIO, 5},
		{ENOMEM, 12}, {EINVAL, 22},    {ENOSPC, 28},     {EDQUOT, 28},
		{EFBIG, 28},  {EOVERFLOW, 75}, {EOPNOTSUPP, 95}, {ESHUTDOWN, 108},
		{ENODATA, 5}, {EBADF, 5},      {ETIMEDOUT, 5},   {99999, 5},
	};
	uint8_t bytes[NBD_REPLY_SIZE];

	for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
		nbd_reply_encode(bytes, 0xfedcba9876543210, errors[i].ours);
		EXPECT_EQUAL(bytes_load_be32(bytes), 0x67446698);
		EXPECT_EQUAL(bytes_load_be32(bytes + 4), errors[i].theirs);
		EXPECT_EQUAL(bytes_load_be64(bytes + 8), 0xfedcba9876543210);
	}
}
