/* What is said to the kernel's NBD client, with a socket pair in the place of netlink. */
#include "io/nbd_kernel.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test.h"

static struct nbd_kernel kernel;
static uint8_t message[NBD_KERNEL_MESSAGE_SIZE];

static const struct nbd_kernel_volume volume = {
	.identifier = "byok-1234",
	.size_bytes = 0x123456789000,
	.sector_size = 4096,
	.has_write_cache = true,
};

static void prepare(void)
{
	kernel = (struct nbd_kernel){.netlink_fd = -1, .family = 0x21, .sequence = 7};
}

/* The value of an attribute of that type, or NULL. */
static const uint8_t *find(const uint8_t *bytes, size_t size, uint16_t type, size_t *value_size)
{
	struct nlattr head;

	for (size_t at = 0; at + sizeof(head) <= size; at += (head.nla_len + 3u) & ~3u) {
		memcpy(&head, bytes + at, sizeof(head));
		EXPECT_TRUE(head.nla_len >= sizeof(head) && at + head.nla_len <= size);
		if ((head.nla_type & NLA_TYPE_MASK) != type)
			continue;
		*value_size = head.nla_len - sizeof(head);
		return bytes + at + sizeof(head);
	}
	return NULL;
}

static uint64_t number(size_t message_size, uint16_t type)
{
	size_t size;
	const uint8_t *value = find(message + 20, message_size - 20, type, &size);
	uint64_t result = 0;

	EXPECT_TRUE(value != NULL && size <= sizeof(result));
	memcpy(&result, value, size);
	return result;
}

static uint8_t command(void)
{
	return message[16];
}

TEST(a_connect_names_size_sectors_flags_and_every_socket)
{
	const int fds[] = {11, 12, 13};
	struct nlmsghdr head;
	const uint8_t *sockets;
	size_t size, sockets_size, found = 0;

	prepare();
	size = nbd_kernel_encode_connect(&kernel, message, &volume, fds, 3, NULL);
	memcpy(&head, message, sizeof(head));
	EXPECT_EQUAL(head.nlmsg_len, size);
	EXPECT_EQUAL(head.nlmsg_type, 0x21);
	EXPECT_EQUAL(head.nlmsg_seq, 7);
	EXPECT_EQUAL(command(), NBD_CMD_CONNECT);
	EXPECT_EQUAL(number(size, NBD_ATTR_SIZE_BYTES), 0x123456789000);
	EXPECT_EQUAL(number(size, NBD_ATTR_BLOCK_SIZE_BYTES), 4096);
	EXPECT_EQUAL(number(size, NBD_ATTR_DEAD_CONN_TIMEOUT), NBD_KERNEL_PATIENCE_S);
	/* HAS_FLAGS, SEND_FLUSH, SEND_FUA, CAN_MULTI_CONN of the protocol. */
	EXPECT_EQUAL(number(size, NBD_ATTR_SERVER_FLAGS), 1 + 4 + 8 + 256);
	EXPECT_TRUE(find(message + 20, size - 20, NBD_ATTR_INDEX, &found) == NULL);
	sockets = find(message + 20, size - 20, NBD_ATTR_SOCKETS, &sockets_size);
	EXPECT_EQUAL(sockets_size, 3 * 12);
	for (size_t i = 0; i < 3; i++) {
		uint32_t fd;

		memcpy(&fd, sockets + 12 * i + 8, sizeof(fd));
		EXPECT_EQUAL(fd, fds[i]);
	}
}

TEST(a_read_only_disk_without_cache_gets_no_flushes)
{
	struct nbd_kernel_volume other = volume;
	const int fd = 5;
	size_t size;

	prepare();
	other.is_read_only = true;
	other.has_write_cache = false;
	other.is_rotational = true;
	other.can_trim = true;
	size = nbd_kernel_encode_connect(&kernel, message, &other, &fd, 1, NULL);
	EXPECT_EQUAL(number(size, NBD_ATTR_SERVER_FLAGS), 1 + 2 + 16 + 32);
}

TEST(a_device_that_waits_is_named_and_proved)
{
	const uint32_t index = 3;
	const int fd = 5;
	size_t size, value_size;
	const uint8_t *identifier;

	prepare();
	size = nbd_kernel_encode_connect(&kernel, message, &volume, &fd, 1, &index);
	EXPECT_EQUAL(command(), NBD_CMD_RECONFIGURE);
	EXPECT_EQUAL(number(size, NBD_ATTR_INDEX), 3);
	identifier = find(message + 20, size - 20, NBD_ATTR_BACKEND_IDENTIFIER, &value_size);
	EXPECT_EQUAL(value_size, sizeof("byok-1234"));
	EXPECT_TEXT((const char *)identifier, "byok-1234");
}

/* One message of the kernel: the answer with a number, or an error (0: the end of a good one). */
static size_t answer(uint8_t *bytes, uint32_t sequence, uint16_t type, uint16_t attribute,
		     uint32_t value)
{
	const bool is_error = type == NLMSG_ERROR;
	const struct nlmsghdr head = {
		.nlmsg_len = is_error ? 36 : 28, .nlmsg_type = type, .nlmsg_seq = sequence};
	const struct nlattr attribute_head = {.nla_len = 8, .nla_type = attribute};

	memset(bytes, 0, 36);
	memcpy(bytes, &head, sizeof(head));
	if (is_error) {
		memcpy(bytes + 16, &value, sizeof(value));
	} else {
		memcpy(bytes + 20, &attribute_head, sizeof(attribute_head));
		memcpy(bytes + 24, &value, sizeof(value));
	}
	return head.nlmsg_len;
}

TEST(an_answer_is_a_number_and_an_acknowledgement_in_one_packet_or_two)
{
	uint8_t bytes[128];
	uint32_t value = 99;
	int error = 1;
	size_t first, size;

	prepare();
	first = answer(bytes, 7, 0x21, NBD_ATTR_INDEX, 4);
	EXPECT_FALSE(nbd_kernel_decode_answer(&kernel, bytes, first, NBD_ATTR_INDEX, &error,
					      &value));
	EXPECT_EQUAL(value, 4);
	value = 99;
	size = first + answer(bytes + first, 7, NLMSG_ERROR, 0, 0);
	EXPECT_TRUE(nbd_kernel_decode_answer(&kernel, bytes, size, NBD_ATTR_INDEX, &error, &value));
	EXPECT_EQUAL(error, 0);
	EXPECT_EQUAL(value, 4);
}

TEST(a_refusal_is_its_errno_and_what_answers_another_request_is_none)
{
	uint8_t bytes[64];
	uint32_t value = 99;
	int error = 0;
	size_t size;

	prepare();
	size = answer(bytes, 6, NLMSG_ERROR, 0, (uint32_t)-EBUSY);
	EXPECT_FALSE(nbd_kernel_decode_answer(&kernel, bytes, size, NBD_ATTR_INDEX, &error,
					      &value));
	size = answer(bytes, 7, NLMSG_ERROR, 0, (uint32_t)-EBUSY);
	EXPECT_TRUE(nbd_kernel_decode_answer(&kernel, bytes, size, NBD_ATTR_INDEX, &error, &value));
	EXPECT_EQUAL(error, EBUSY);
	EXPECT_EQUAL(value, 99);
}

TEST(no_answer_of_any_length_or_noise_is_read_past_its_end)
{
	uint8_t whole[128];
	size_t size;

	prepare();
	size = answer(whole, 7, 0x21, NBD_ATTR_INDEX, 4);
	size += answer(whole + size, 7, NLMSG_ERROR, 0, 0);
	for (uint64_t seed = 0; seed < 2000; seed++) {
		/* Of the exact size, so that the sanitizer sees a byte too many. */
		size_t cut = seed % (size + 1);
		uint8_t *bytes = malloc(cut);
		uint32_t value;
		int error;

		memcpy(bytes, whole, cut);
		if (seed > size && cut > 0) {
			uint8_t noise[4];

			test_fill(noise, sizeof(noise), seed);
			bytes[noise[0] % cut] = noise[1];
			bytes[noise[2] % cut] = noise[3];
		}
		(void)!nbd_kernel_decode_answer(&kernel, bytes, cut, NBD_ATTR_INDEX, &error,
						&value);
		free(bytes);
	}
}

/* Plays the kernel: hears one request on the other end and refuses it. */
static void *refuse(void *argument)
{
	const int fd = *(const int *)argument;
	uint8_t request[NBD_KERNEL_MESSAGE_SIZE], bytes[64];

	if (recv(fd, request, sizeof(request), 0) <= 0)
		return NULL;
	/* First something that answers nobody. */
	(void)!send(fd, bytes, answer(bytes, 1234, NLMSG_ERROR, 0, 0), 0);
	(void)!send(fd, bytes, answer(bytes, 7, NLMSG_ERROR, 0, (uint32_t)-EINVAL), 0);
	return NULL;
}

TEST(what_the_kernel_refuses_is_told)
{
	int fds[NBD_KERNEL_CONNECTIONS_MAX], pair[2];
	unsigned count = 2;
	pthread_t thread;

	prepare();
	EXPECT_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	kernel.netlink_fd = pair[0];
	EXPECT_EQUAL(pthread_create(&thread, NULL, refuse, &pair[1]), 0);
	EXPECT_STATUS(nbd_kernel_connect(&kernel, &volume, fds, &count), FAIL_NBD_KERNEL);
	pthread_join(thread, NULL);
	close(pair[1]);
	nbd_kernel_close(&kernel);
}

TEST(a_kernel_without_the_driver_is_told)
{
	struct nbd_kernel found;
	enum status status = nbd_kernel_open(&found);

	if (status == OK) {
		nbd_kernel_close(&found);
		SKIP("this kernel has the driver");
	}
	EXPECT_STATUS(status, FAIL_NBD_KERNEL_ABSENT);
	EXPECT_EQUAL(found.netlink_fd, -1);
}
