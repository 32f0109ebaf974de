#include "app/messages.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test.h"

struct pair {
	int ours;
	int theirs;
};

static void close_pair(struct pair *pair)
{
	close(pair->ours);
	close(pair->theirs);
}

#define PAIR_SCOPE __attribute__((cleanup(close_pair)))

static struct pair open_pair(void)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	return (struct pair){fds[0], fds[1]};
}

/* What an enemy may send: `size` bytes that begin with that header. */
static enum status receive_forged(struct message_header header, size_t size)
{
	PAIR_SCOPE struct pair pair = open_pair();
	static uint8_t bytes[16384];
	static struct message_agent_request room;

	memcpy(bytes, &header, sizeof(header));
	CHECK(send(pair.theirs, bytes, size, 0) == (ssize_t)size);
	return message_receive(pair.ours, &room.header, sizeof(room));
}

TEST(every_type_has_a_size_that_begins_with_a_header)
{
	EXPECT_EQUAL(message_size((enum message_type)0), 0);
	for (int type = 1; type < MESSAGE_TYPES; type++)
		EXPECT_TRUE(message_size((enum message_type)type) > sizeof(struct message_header));
	EXPECT_EQUAL(message_size(MESSAGE_TYPES), 0);
	EXPECT_EQUAL(message_size((enum message_type)UINT32_MAX), 0);
}

TEST(a_message_arrives_as_it_was_sent)
{
	PAIR_SCOPE struct pair pair = open_pair();
	struct message_agent_request sent = {
		.operation = AGENT_WRAP, .key_url = "a", .secret = {7}};
	struct message_agent_request received;

	EXPECT_OK(message_send(pair.theirs, MESSAGE_AGENT_REQUEST, 42, &sent));
	EXPECT_OK(message_receive(pair.ours, &received.header, sizeof(received)));
	EXPECT_EQUAL(received.header.id, 42);
	EXPECT_EQUAL(received.header.type, MESSAGE_AGENT_REQUEST);
	EXPECT_BYTES(&received, &sent, sizeof(sent));
}

TEST(messages_keep_their_borders_and_order)
{
	PAIR_SCOPE struct pair pair = open_pair();
	struct message_worker_stop stop = {.force = 1};
	struct message_worker_state state = {.state = WORKER_STOPPED};
	struct message_worker_state received;

	EXPECT_OK(message_send(pair.theirs, MESSAGE_WORKER_STOP, 1, &stop));
	EXPECT_OK(message_send(pair.theirs, MESSAGE_WORKER_STATE, 2, &state));
	EXPECT_OK(message_receive(pair.ours, &received.header, sizeof(received)));
	EXPECT_EQUAL(received.header.id, 1);
	EXPECT_OK(message_receive(pair.ours, &received.header, sizeof(received)));
	EXPECT_EQUAL(received.header.id, 2);
	EXPECT_EQUAL(received.state, WORKER_STOPPED);
}

TEST(the_other_end_being_gone_is_told_and_raises_no_signal)
{
	struct pair pair = open_pair();
	struct message_worker_stop stop = {0};
	struct message_worker_stop received;

	close(pair.theirs);
	EXPECT_STATUS(message_receive(pair.ours, &received.header, sizeof(received)),
		      FAIL_ROLE_DIED);
	EXPECT_STATUS(message_send(pair.ours, MESSAGE_WORKER_STOP, 1, &stop), FAIL_ROLE_DIED);
	close(pair.ours);
}

TEST(a_forged_header_is_refused)
{
	const uint32_t size = sizeof(struct message_agent_request);
	const struct message_header good = {MESSAGE_VERSION, MESSAGE_AGENT_REQUEST, size, 1};
	struct message_header bad;

	EXPECT_OK(receive_forged(good, size));
	EXPECT_STATUS(receive_forged(good, size - 1), FAIL_MESSAGE);
	EXPECT_STATUS(receive_forged(good, size + 1), FAIL_MESSAGE);
	EXPECT_STATUS(receive_forged(good, 1), FAIL_MESSAGE);
	EXPECT_STATUS(receive_forged(good, sizeof(good) - 1), FAIL_MESSAGE);
	bad = good;
	bad.version++;
	EXPECT_STATUS(receive_forged(bad, size), FAIL_MESSAGE);
	bad = good;
	bad.type = MESSAGE_AGENT_ANSWER;
	EXPECT_STATUS(receive_forged(bad, size), FAIL_MESSAGE);
	bad = good;
	bad.type = UINT32_MAX;
	EXPECT_STATUS(receive_forged(bad, size), FAIL_MESSAGE);
	bad = good;
	bad.type = 0;
	bad.size = sizeof(bad);
	EXPECT_STATUS(receive_forged(bad, sizeof(bad)), FAIL_MESSAGE);
	bad = good;
	bad.size--;
	EXPECT_STATUS(receive_forged(bad, size), FAIL_MESSAGE);
}

TEST(a_good_message_that_is_larger_than_the_room_is_refused)
{
	PAIR_SCOPE struct pair pair = open_pair();
	struct message_agent_answer sent = {0};
	struct message_worker_state room;

	EXPECT_OK(message_send(pair.theirs, MESSAGE_AGENT_ANSWER, 1, &sent));
	EXPECT_STATUS(message_receive(pair.ours, &room.header, sizeof(room)), FAIL_MESSAGE);
}

TEST(a_descriptor_that_comes_along_is_not_taken)
{
	PAIR_SCOPE struct pair pair = open_pair();
	struct message_worker_stop stop = {
		.header = {MESSAGE_VERSION, MESSAGE_WORKER_STOP, sizeof(stop), 1},
	};
	struct message_worker_stop received;
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec part = {&stop, sizeof(stop)};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int before = dup(0);
	int after;

	close(before);
	memcpy(CMSG_DATA(&control.head), &pair.theirs, sizeof(int));
	EXPECT_EQUAL(sendmsg(pair.theirs, &message, 0), sizeof(stop));
	EXPECT_OK(message_receive(pair.ours, &received.header, sizeof(received)));
	after = dup(0);
	close(after);
	EXPECT_EQUAL(after, before);
}

TEST(only_printable_text_that_ends_is_text)
{
	const char endless[4] = {'a', 'b', 'c', 'd'};

	EXPECT_TRUE(message_text_is_valid("", 1));
	EXPECT_TRUE(message_text_is_valid("a ~", 4));
	EXPECT_FALSE(message_text_is_valid(endless, sizeof(endless)));
	EXPECT_FALSE(message_text_is_valid("a\nb", 4));
	EXPECT_FALSE(message_text_is_valid("a\x7f", 3));
	EXPECT_FALSE(message_text_is_valid("\xc3\xa9", 3));
	/* What stands behind the NUL is nobody's text. */
	EXPECT_TRUE(message_text_is_valid("a\0\n", 4));
}

TEST(a_start_that_makes_no_sense_is_refused)
{
	const struct message_worker_start good = {
		.name = "data1",
		.data_path = DATA_PATH_UBLK,
		.sector_size = 4096,
		.data_offset_bytes = 16777216,
		.data_size_bytes = 4096,
	};
	struct message_worker_start bad;

	EXPECT_TRUE(message_start_is_valid(&good));
	bad = good;
	bad.name[0] = '/';
	EXPECT_FALSE(message_start_is_valid(&bad));
	bad = good;
	memset(bad.worker_path, 'x', sizeof(bad.worker_path));
	EXPECT_FALSE(message_start_is_valid(&bad));
	bad = good;
	bad.data_path = 0;
	EXPECT_FALSE(message_start_is_valid(&bad));
	bad = good;
	bad.purpose = WORKER_PURPOSES;
	EXPECT_FALSE(message_start_is_valid(&bad));
	bad = good;
	bad.sector_size = 1024;
	EXPECT_FALSE(message_start_is_valid(&bad));
	bad = good;
	bad.data_size_bytes = UINT64_MAX - 4095;
	EXPECT_FALSE(message_start_is_valid(&bad));
}
