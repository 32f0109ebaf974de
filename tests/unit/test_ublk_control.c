/* The process that gives commands to ublk, with a file that knows none in the driver's place, and
 * a kernel without ublk. What the driver answers is shown in the VM. */
#include "io/ublk_control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/ublk_control_process.h"
#include "tests/unit/test.h"

static struct ublk_control_process process;

static enum status start(void)
{
	int fd = memfd_create("driver", MFD_CLOEXEC);
	enum status status;

	EXPECT_TRUE(fd >= 0);
	status = ublk_control_process_start(&process, fd);
	close(fd);
	if (status == FAIL_IO_URING_ABSENT)
		SKIP("this machine allows no io_uring");
	return status;
}

static enum status ask(uint64_t patience_ms)
{
	process.exchange->operation = UBLK_GET_FEATURES;
	process.exchange->size = UBLK_FEATURES_SIZE;
	process.exchange->result = 1;
	return ublk_control_process_run(&process, "GET_FEATURES", patience_ms);
}

TEST(a_refusal_of_the_driver_is_an_answer)
{
	EXPECT_OK(start());
	for (int i = 0; i < 3; i++) {
		EXPECT_OK(ask(60000));
		EXPECT_EQUAL(process.exchange->result, -EOPNOTSUPP);
	}
	ublk_control_process_end(&process);
}

TEST(the_process_ends_with_its_caller_and_leaves_no_zombie)
{
	pid_t pid;

	EXPECT_OK(start());
	pid = process.pid;
	ublk_control_process_end(&process);
	EXPECT_EQUAL(kill(pid, 0), -1);
	EXPECT_EQUAL(errno, ESRCH);
	ublk_control_process_end(&process); /* and once more does nothing */
}

TEST(the_process_holds_nothing_that_its_caller_has_open)
{
	int pipe_fds[2];
	char byte;

	EXPECT_EQUAL(pipe2(pipe_fds, O_CLOEXEC), 0);
	EXPECT_OK(start());
	close(pipe_fds[1]);
	EXPECT_EQUAL(read(pipe_fds[0], &byte, 1), 0); /* would wait for as long as it had the end */
	close(pipe_fds[0]);
	ublk_control_process_end(&process);
}

TEST(signals_to_the_whole_service_do_not_end_a_command)
{
	EXPECT_OK(start());
	EXPECT_EQUAL(kill(process.pid, SIGTERM), 0);
	EXPECT_EQUAL(kill(process.pid, SIGINT), 0);
	EXPECT_OK(ask(60000));
	ublk_control_process_end(&process);
}

TEST(a_command_without_an_answer_fails_and_so_does_every_later_one)
{
	EXPECT_OK(start());
	EXPECT_EQUAL(kill(process.pid, SIGSTOP), 0);
	EXPECT_STATUS(ask(0), FAIL_UBLK);
	EXPECT_EQUAL(kill(process.pid, SIGCONT), 0);
	EXPECT_STATUS(ask(60000), FAIL_UBLK);
	ublk_control_process_end(&process);
}

TEST(the_death_of_the_process_is_a_failure_not_a_wait)
{
	EXPECT_OK(start());
	EXPECT_EQUAL(kill(process.pid, SIGKILL), 0);
	EXPECT_EQUAL(waitpid(process.pid, NULL, 0), process.pid);
	EXPECT_STATUS(ask(60000), FAIL_UBLK);
	ublk_control_process_end(&process);
}

TEST(a_kernel_without_ublk_is_told_from_one_that_refuses)
{
	struct ublk_control control;

	if (access(UBLK_CONTROL_PATH, F_OK) == 0)
		SKIP("this kernel has ublk");
	EXPECT_STATUS(ublk_control_open(&control), FAIL_UBLK_ABSENT);
}
