#include "io/ring.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/test.h"

enum { OPERATIONS_MAX = 1024, HANDLER_COUNT = 2 };

static struct {
	struct ring ring;
	unsigned handlers[HANDLER_COUNT];
	unsigned counts[HANDLER_COUNT];
	uint32_t last_index;
	int32_t last_result;
} test;

static void note(void *context, uint32_t index, int32_t result)
{
	unsigned *count = context;

	(*count)++;
	test.last_index = index;
	test.last_result = result;
}

static void start(void)
{
	const struct ring_options options = {.operations_max = OPERATIONS_MAX, .file_count = 4};

	ring_close(&test.ring);
	memset(&test, 0, sizeof(test));
	EXPECT_OK(ring_open(&test.ring, &options));
	for (unsigned i = 0; i < HANDLER_COUNT; i++)
		test.handlers[i] = ring_add_handler(&test.ring, note, &test.counts[i]);
}

TEST(a_completion_comes_to_its_handler_with_its_index)
{
	start();
	ring_nop(&test.ring, ring_token(test.handlers[1], 0xfffffffe));
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.counts[0], 0);
	EXPECT_EQUAL(test.counts[1], 1);
	EXPECT_EQUAL(test.last_index, 0xfffffffe);
	EXPECT_EQUAL(test.last_result, 0);
	ring_close(&test.ring);
}

TEST(a_turn_runs_a_bounded_number_and_loses_none)
{
	start();
	for (uint32_t i = 0; i < OPERATIONS_MAX; i++)
		ring_nop(&test.ring, ring_token(test.handlers[0], i));
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.counts[0], RING_TURN_MAX);
	while (test.ring.started != test.ring.completed)
		EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.counts[0], OPERATIONS_MAX);
	ring_close(&test.ring);
}

TEST(a_turn_that_need_not_wait_does_not)
{
	start();
	EXPECT_OK(ring_turn(&test.ring, false));
	EXPECT_EQUAL(test.counts[0], 0);
	ring_close(&test.ring);
}

TEST(to_wait_for_nothing_or_start_too_much_is_our_own_mistake)
{
	start();
	EXPECT_ABORT({
		enum status ignored = ring_turn(&test.ring, true);
		(void)ignored;
	});
	for (uint32_t i = 0; i < OPERATIONS_MAX; i++)
		ring_nop(&test.ring, ring_token(test.handlers[0], i));
	EXPECT_ABORT(ring_nop(&test.ring, ring_token(test.handlers[0], 0)));
	EXPECT_ABORT(ring_deliver(&test.ring, ring_token(HANDLER_COUNT, 0), 0));
	ring_close(&test.ring);
}

TEST(messages_go_through_a_socket_in_a_slot)
{
	char text[8] = "hello";
	char received[8] = "";
	struct iovec source = {.iov_base = text, .iov_len = sizeof(text)};
	struct iovec target = {.iov_base = received, .iov_len = sizeof(received)};
	struct msghdr to_send = {.msg_iov = &source, .msg_iovlen = 1};
	struct msghdr to_receive = {.msg_iov = &target, .msg_iovlen = 1};
	int ends[2];

	start();
	EXPECT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	EXPECT_OK(ring_set_file(&test.ring, 1, ends[0]));
	EXPECT_OK(ring_set_file(&test.ring, 3, ends[1]));
	ring_receive(&test.ring, ring_token(test.handlers[0], 0), 3, &to_receive);
	ring_wait_readable(&test.ring, ring_token(test.handlers[0], 1), 3);
	EXPECT_OK(ring_turn(&test.ring, false));
	ring_send(&test.ring, ring_token(test.handlers[1], 0), 1, &to_send);
	while (test.ring.started != test.ring.completed)
		EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_BYTES(received, text, sizeof(text));
	EXPECT_EQUAL(test.counts[0], 2);
	EXPECT_EQUAL(test.counts[1], 1);

	/* An emptied slot holds the socket no more: its peer sees the end. */
	EXPECT_OK(ring_set_file(&test.ring, 1, -1));
	close(ends[0]);
	ring_receive(&test.ring, ring_token(test.handlers[0], 2), 3, &to_receive);
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.last_index, 2);
	EXPECT_EQUAL(test.last_result, 0);
	ring_nop(&test.ring, ring_token(test.handlers[0], 3));
	ring_receive(&test.ring, ring_token(test.handlers[1], 4), 1, &to_receive);
	while (test.ring.started != test.ring.completed)
		EXPECT_OK(ring_turn(&test.ring, true));
	close(ends[1]);
	ring_close(&test.ring);
}

TEST(an_operation_on_an_empty_slot_fails_alone)
{
	start();
	ring_sync_data(&test.ring, ring_token(test.handlers[0], 1), 2);
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.last_result, -EBADF);
	ring_nop(&test.ring, ring_token(test.handlers[0], 2));
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.last_result, 0);
	ring_close(&test.ring);
}

static void ignore_signal(int number)
{
	(void)number;
}

TEST(a_signal_ends_the_sleep_and_nothing_else)
{
	const struct sigaction action = {.sa_handler = ignore_signal};
	const struct itimerval soon = {.it_value = {.tv_usec = 20000},
				       .it_interval = {.tv_usec = 20000}};
	const struct itimerval never = {0};
	int ends[2];

	start();
	EXPECT_EQUAL(pipe(ends), 0);
	EXPECT_OK(ring_set_file(&test.ring, 0, ends[0]));
	ring_wait_readable(&test.ring, ring_token(test.handlers[0], 0), 0);
	EXPECT_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
	EXPECT_EQUAL(setitimer(ITIMER_REAL, &soon, NULL), 0);
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(setitimer(ITIMER_REAL, &never, NULL), 0);
	EXPECT_EQUAL(test.counts[0], 0);
	EXPECT_EQUAL(write(ends[1], "x", 1), 1);
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.counts[0], 1);
	ring_close(&test.ring);
	close(ends[0]);
	close(ends[1]);
}

TEST(a_patient_ring_takes_what_completes_meanwhile)
{
	start();
	test.ring.patience_ns = 1000000;
	ring_nop(&test.ring, ring_token(test.handlers[0], 7));
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.counts[0], 1);
	EXPECT_EQUAL(test.ring.vain_looks, 0);
	EXPECT_EQUAL(test.ring.looks_left_out, 0);
}

TEST(after_looks_in_vain_more_and_more_are_left_out_until_one_succeeds)
{
	const struct sigaction action = {.sa_handler = ignore_signal};
	const struct itimerval soon = {.it_value = {.tv_usec = 5000},
				       .it_interval = {.tv_usec = 5000}};
	const struct itimerval never = {0};
	static const unsigned left_out[] = {1, 0, 3, 2, 1, 0, 7};
	int ends[2];

	start();
	test.ring.patience_ns = 1000;
	EXPECT_EQUAL(pipe(ends), 0);
	EXPECT_OK(ring_set_file(&test.ring, 0, ends[0]));
	ring_wait_readable(&test.ring, ring_token(test.handlers[0], 0), 0);
	EXPECT_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
	EXPECT_EQUAL(setitimer(ITIMER_REAL, &soon, NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(left_out); i++) {
		EXPECT_OK(ring_turn(&test.ring, true));
		EXPECT_EQUAL(test.ring.looks_left_out, left_out[i]);
	}
	EXPECT_EQUAL(setitimer(ITIMER_REAL, &never, NULL), 0);
	test.ring.looks_left_out = 0;
	EXPECT_EQUAL(write(ends[1], "x", 1), 1);
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.counts[0], 1);
	EXPECT_EQUAL(test.ring.vain_looks, 0);
	ring_close(&test.ring);
	close(ends[0]);
	close(ends[1]);
}

TEST(a_ring_closes_while_it_waits_for_what_never_comes)
{
	int ends[2];

	start();
	EXPECT_EQUAL(pipe(ends), 0);
	EXPECT_OK(ring_set_file(&test.ring, 0, ends[0]));
	ring_wait_readable(&test.ring, ring_token(test.handlers[0], 0), 0);
	EXPECT_OK(ring_turn(&test.ring, false));
	ring_close(&test.ring);
	EXPECT_EQUAL(test.counts[0], 0);
	close(ends[0]);
	close(ends[1]);
}

TEST(a_sleep_ends_by_itself)
{
	const struct ring_timeout timeout = {.nanoseconds = 1000000};

	start();
	ring_sleep(&test.ring, ring_token(test.handlers[0], 9), &timeout);
	EXPECT_OK(ring_turn(&test.ring, true));
	EXPECT_EQUAL(test.last_index, 9);
	EXPECT_EQUAL(test.last_result, -ETIME);
	ring_close(&test.ring);
}

/* The status with which ring_open ends where the system call io_uring_setup ends with `error`. */
static enum status open_where_refused(int error)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = {.len = ARRAY_COUNT(program), .filter = program};
	const struct ring_options options = {.operations_max = 8, .file_count = 1};
	int wait_status = 0;
	pid_t child = fork();

	if (child == 0) {
		struct ring ring = {0};

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
			_exit(255);
		_exit((int)ring_open(&ring, &options));
	}
	EXPECT_EQUAL(waitpid(child, &wait_status, 0), child);
	EXPECT_TRUE(WIFEXITED(wait_status));
	return (enum status)WEXITSTATUS(wait_status);
}

TEST(where_io_uring_is_forbidden_the_reason_is_told)
{
	EXPECT_STATUS(open_where_refused(EPERM), FAIL_IO_URING_ABSENT);
	EXPECT_STATUS(open_where_refused(ENOSYS), FAIL_IO_URING_ABSENT);
	EXPECT_STATUS(open_where_refused(EACCES), FAIL_IO_URING_ABSENT);
	EXPECT_STATUS(open_where_refused(ENOMEM), FAIL_OUT_OF_MEMORY);
	EXPECT_STATUS(open_where_refused(EINVAL), FAIL_SYSTEM);
}
