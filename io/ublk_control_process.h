/* The process that gives commands to the ublk driver in our place. Used by ublk_control only.
 *
 * Some commands wait for requests that our own threads must answer: making a device may read it,
 * removing one has the file system on it write out what it holds. Were they given by the process
 * that serves, and it killed meanwhile, its dead threads would answer no more, and the kernel
 * would not cancel what waits for them before the process is gone, nor let it go before the
 * command has ended: it would stay for ever, and the machine could not even be shut down. Given by
 * another process, the command fails when the server dies. And whatever the driver does, the
 * caller gets an answer in time.
 */
#ifndef IO_UBLK_CONTROL_PROCESS_H
#define IO_UBLK_CONTROL_PROCESS_H

#include <sys/types.h>

#include "io/ublk_abi.h"
#include "platform/status.h"

/* Of what goes with a command. */
#define UBLK_CONTROL_BUFFER_SIZE 1024

/* No command of the driver: sets what makes the kernel's side of the device better. */
#define UBLK_CONTROL_TUNE 0

/* Memory that both share: the caller's but while a command is under way. */
struct ublk_exchange {
	uint32_t operation; /* UBLK_ADD_DEVICE ... */
	uint32_t device_id;
	uint32_t size; /* bytes of the buffer that go with the command; 0 for none */
	uint64_t argument;
	int32_t result;     /* the driver's: -errno, or not negative */
	enum status status; /* OK, or why there is no result */
	uint8_t buffer[UBLK_CONTROL_BUFFER_SIZE];
};

struct ublk_control_process {
	pid_t pid;     /* 0 if there is none */
	int socket_fd; /* tells whose turn it is */
	struct ublk_exchange *exchange;
	bool is_stuck; /* its command did not end in time; it takes no other */
};

/* Takes no part in `driver_fd` (/dev/ublk-control) after the call. FAIL_IO_URING_ABSENT,
 * FAIL_OUT_OF_MEMORY, FAIL_SYSTEM. */
MUST_CHECK enum status ublk_control_process_start(struct ublk_control_process *process,
						  int driver_fd);

/* Has it do what the exchange says. FAIL_UBLK, logged with `what`, if no answer came in time. */
MUST_CHECK enum status ublk_control_process_run(struct ublk_control_process *process,
						const char *what, uint64_t patience_ms);

void ublk_control_process_end(struct ublk_control_process *process); /* harmless if not started */

#endif
