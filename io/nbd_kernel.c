#include "io/nbd_kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "platform/clock.h"
#include "platform/log.h"

/* The kernel takes some moments to see that a process is gone, the rings of which it winds up. */
#define RECONNECT_TIME_MS 5000
#define RECONNECT_PAUSE_MS 20

#define ANSWER_SIZE_MAX 4096
#define ANSWER_TIME_S 60

/* NLA_HDRLEN and its like mix signed and unsigned. */
#define ATTRIBUTE_HEAD sizeof(struct nlattr)
#define GENERIC_HEAD sizeof(struct genlmsghdr)

_Static_assert(sizeof(struct nlmsghdr) == 16 && ATTRIBUTE_HEAD == 4 && GENERIC_HEAD == 4,
	       "headers are aligned as they stand");
_Static_assert(NLA_ALIGNTO == 4 && NLMSG_ALIGNTO == 4, "messages and attributes alike");

/* --- bytes -------------------------------------------------------------------------------------
 */

/* Everything begins at a multiple of four bytes. */
static size_t align(size_t size)
{
	return ROUND_UP(size, (size_t)NLA_ALIGNTO);
}

struct writer {
	uint8_t *bytes;
	size_t size;
};

static void put(struct writer *writer, const void *bytes, size_t size)
{
	CHECK(writer->size + align(size) <= NBD_KERNEL_MESSAGE_SIZE);
	memset(writer->bytes + writer->size, 0, align(size));
	memcpy(writer->bytes + writer->size, bytes, size);
	writer->size += align(size);
}

static void put_attribute(struct writer *writer, uint16_t type, const void *value, size_t size)
{
	const struct nlattr head = {.nla_len = (uint16_t)(ATTRIBUTE_HEAD + size), .nla_type = type};

	put(writer, &head, sizeof(head));
	put(writer, value, size);
}

static void put_u32(struct writer *writer, uint16_t type, uint32_t value)
{
	put_attribute(writer, type, &value, sizeof(value));
}

static void put_u64(struct writer *writer, uint16_t type, uint64_t value)
{
	put_attribute(writer, type, &value, sizeof(value));
}

/* Of a nest, or of the whole message: its length is known at its end. */
static size_t begin_nest(struct writer *writer, uint16_t type)
{
	const struct nlattr head = {.nla_type = type | NLA_F_NESTED};
	size_t at = writer->size;

	put(writer, &head, sizeof(head));
	return at;
}

static void end_nest(struct writer *writer, size_t at)
{
	const uint16_t length = (uint16_t)(writer->size - at);

	memcpy(writer->bytes + at + offsetof(struct nlattr, nla_len), &length, sizeof(length));
}

static struct writer begin_message(const struct nbd_kernel *kernel, uint8_t *bytes, uint16_t family,
				   uint8_t command)
{
	struct writer writer = {.bytes = bytes};
	const struct nlmsghdr head = {
		.nlmsg_type = family,
		/* So that there is an answer to each, and not only to those that have one. */
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		.nlmsg_seq = kernel->sequence,
	};
	const struct genlmsghdr generic = {.cmd = command, .version = 1};

	put(&writer, &head, sizeof(head));
	put(&writer, &generic, sizeof(generic));
	return writer;
}

static size_t end_message(const struct writer *writer)
{
	const uint32_t length = (uint32_t)writer->size;

	memcpy(writer->bytes + offsetof(struct nlmsghdr, nlmsg_len), &length, sizeof(length));
	return writer->size;
}

static uint64_t server_flags(const struct nbd_kernel_volume *volume, unsigned connection_count)
{
	uint64_t flags = NBD_FLAG_HAS_FLAGS;

	if (volume->is_read_only)
		flags |= NBD_FLAG_READ_ONLY;
	if (volume->has_write_cache)
		flags |= NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
	if (volume->is_rotational)
		flags |= 1 << 4; /* NBD_FLAG_ROTATIONAL, which the header lacks */
	if (volume->can_trim)
		flags |= NBD_FLAG_SEND_TRIM;
	if (connection_count > 1)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	return flags;
}

size_t nbd_kernel_encode_connect(const struct nbd_kernel *kernel,
				 uint8_t message[static NBD_KERNEL_MESSAGE_SIZE],
				 const struct nbd_kernel_volume *volume, const int *fds,
				 unsigned count, const uint32_t *device_index)
{
	struct writer writer =
		begin_message(kernel, message, kernel->family,
			      device_index != NULL ? NBD_CMD_RECONFIGURE : NBD_CMD_CONNECT);
	size_t sockets;

	if (device_index != NULL)
		put_u32(&writer, NBD_ATTR_INDEX, *device_index);
	put_u64(&writer, NBD_ATTR_SIZE_BYTES, volume->size_bytes);
	put_u64(&writer, NBD_ATTR_BLOCK_SIZE_BYTES, volume->sector_size);
	put_u64(&writer, NBD_ATTR_TIMEOUT, NBD_KERNEL_REQUEST_TIMEOUT_S);
	put_u64(&writer, NBD_ATTR_DEAD_CONN_TIMEOUT, NBD_KERNEL_PATIENCE_S);
	put_u64(&writer, NBD_ATTR_SERVER_FLAGS, server_flags(volume, count));
	put_attribute(&writer, NBD_ATTR_BACKEND_IDENTIFIER, volume->identifier,
		      strlen(volume->identifier) + 1);
	sockets = begin_nest(&writer, NBD_ATTR_SOCKETS);
	for (unsigned i = 0; i < count; i++) {
		size_t item = begin_nest(&writer, NBD_SOCK_ITEM);

		put_u32(&writer, NBD_SOCK_FD, (uint32_t)fds[i]);
		end_nest(&writer, item);
	}
	end_nest(&writer, sockets);
	return end_message(&writer);
}

/* The first attribute of that type; numbers of 16 and of 32 bits. */
static void find_number(const uint8_t *bytes, size_t size, uint16_t type, uint32_t *value)
{
	struct nlattr head;

	while (size >= sizeof(head)) {
		size_t lap;

		memcpy(&head, bytes, sizeof(head));
		if (head.nla_len < sizeof(head) || head.nla_len > size)
			return;
		if ((head.nla_type & NLA_TYPE_MASK) == type && head.nla_len == ATTRIBUTE_HEAD + 4) {
			memcpy(value, bytes + ATTRIBUTE_HEAD, sizeof(*value));
			return;
		}
		if ((head.nla_type & NLA_TYPE_MASK) == type && head.nla_len == ATTRIBUTE_HEAD + 2) {
			uint16_t narrow;

			memcpy(&narrow, bytes + ATTRIBUTE_HEAD, sizeof(narrow));
			*value = narrow;
			return;
		}
		lap = MINIMUM(align(head.nla_len), size);
		bytes += lap;
		size -= lap;
	}
}

bool nbd_kernel_decode_answer(const struct nbd_kernel *kernel, const uint8_t *bytes, size_t size,
			      uint16_t attribute, int *error, uint32_t *value)
{
	struct nlmsghdr head;

	while (size >= sizeof(head)) {
		size_t lap;

		memcpy(&head, bytes, sizeof(head));
		if (head.nlmsg_len < sizeof(head) || head.nlmsg_len > size)
			return false;
		if (head.nlmsg_seq == kernel->sequence && head.nlmsg_type == NLMSG_ERROR) {
			int32_t result;

			if (head.nlmsg_len < sizeof(head) + sizeof(result))
				return false;
			memcpy(&result, bytes + sizeof(head), sizeof(result));
			*error = result > -INT_MAX && result < 0 ? -result : 0;
			return true;
		}
		if (head.nlmsg_seq == kernel->sequence &&
		    head.nlmsg_len >= sizeof(head) + GENERIC_HEAD)
			find_number(bytes + sizeof(head) + GENERIC_HEAD,
				    head.nlmsg_len - sizeof(head) - GENERIC_HEAD, attribute, value);
		lap = MINIMUM(align(head.nlmsg_len), size);
		bytes += lap;
		size -= lap;
	}
	return false;
}

/* --- asking the kernel -------------------------------------------------------------------------
 */

static enum status refused(const char *what, int error)
{
	log_errno(LOG_PRIORITY_ERROR, error, "the kernel's NBD client: %s", what);
	return error == EPERM || error == EACCES ? FAIL_NOT_ROOT : FAIL_NBD_KERNEL;
}

/* Sends one request and hears until its answer has come; what is of others is passed over. */
static enum status ask(struct nbd_kernel *kernel, const uint8_t *message, size_t size,
		       uint16_t attribute, int *error, uint32_t *value)
{
	uint8_t answer[ANSWER_SIZE_MAX];

	if (send(kernel->netlink_fd, message, size, 0) != (ssize_t)size)
		return refused("sending a request", errno);
	for (;;) {
		struct sockaddr_nl sender = {0};
		socklen_t sender_size = sizeof(sender);
		ssize_t got = recvfrom(kernel->netlink_fd, answer, sizeof(answer), 0,
				       (struct sockaddr *)&sender, &sender_size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return refused("hearing its answer", errno);
		/* Any process can send to a netlink socket; 0 is the kernel. */
		if (sender.nl_pid == 0 && nbd_kernel_decode_answer(kernel, answer, (size_t)got,
								   attribute, error, value)) {
			kernel->sequence++;
			return OK;
		}
	}
}

static enum status find_family(struct nbd_kernel *kernel)
{
	uint8_t message[NBD_KERNEL_MESSAGE_SIZE];
	struct writer writer = begin_message(kernel, message, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	uint32_t family = 0;
	int error = 0;

	put_attribute(&writer, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME,
		      sizeof(NBD_GENL_FAMILY_NAME));
	TRY(ask(kernel, message, end_message(&writer), CTRL_ATTR_FAMILY_ID, &error, &family));
	if (error == ENOENT)
		return FAIL_NBD_KERNEL_ABSENT;
	if (error != 0 || family < GENL_MIN_ID)
		return refused("asking for it", error);
	kernel->family = (uint16_t)family;
	return OK;
}

enum status nbd_kernel_open(struct nbd_kernel *kernel)
{
	const struct timeval patience = {.tv_sec = ANSWER_TIME_S};
	enum status status;

	*kernel = (struct nbd_kernel){
		.netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC),
		.sequence = 1,
	};
	if (kernel->netlink_fd < 0) {
		log_errno(LOG_PRIORITY_ERROR, errno, "a netlink socket");
		return FAIL_SYSTEM;
	}
	(void)setsockopt(kernel->netlink_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	status = find_family(kernel);
	if (status != OK)
		nbd_kernel_close(kernel);
	return status;
}

void nbd_kernel_close(struct nbd_kernel *kernel)
{
	if (kernel->netlink_fd >= 0)
		close(kernel->netlink_fd);
	kernel->netlink_fd = -1;
}

/* --- the device --------------------------------------------------------------------------------
 */

/* The device that has that identifier, whether anybody serves it or not. */
static bool find_device(uint32_t *index, const char *identifier)
{
	DIR *devices = opendir("/sys/block");
	const struct dirent *entry;
	bool found = false;

	if (devices == NULL)
		return false;
	while (!found && (entry = readdir(devices)) != NULL) {
		char path[NAME_MAX + 32], backend[NBD_KERNEL_IDENTIFIER_SIZE + 2] = "";
		FILE *file;

		if (sscanf(entry->d_name, "nbd%u", index) != 1)
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s/backend", entry->d_name);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fgets(backend, sizeof(backend), file) != NULL)
			backend[strcspn(backend, "\n")] = '\0';
		fclose(file);
		found = strcmp(backend, identifier) == 0;
	}
	closedir(devices);
	return found;
}

static void close_all(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

static enum status make_pairs(int *ours, int *theirs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
			log_errno(LOG_PRIORITY_ERROR, errno, "a pair of sockets");
			close_all(ours, i);
			close_all(theirs, i);
			return FAIL_SYSTEM;
		}
		ours[i] = pair[0];
		theirs[i] = pair[1];
	}
	return OK;
}

/* Hands new sockets to the kernel; *index is of the device, which is a new one if `is_new`. */
static enum status offer(struct nbd_kernel *kernel, const struct nbd_kernel_volume *volume,
			 bool is_new, int *ours, unsigned count)
{
	uint8_t message[NBD_KERNEL_MESSAGE_SIZE];
	int theirs[NBD_KERNEL_CONNECTIONS_MAX] = {0};
	enum status status;
	size_t size;
	int error = 0;

	TRY(make_pairs(ours, theirs, count));
	size = nbd_kernel_encode_connect(kernel, message, volume, theirs, count,
					 is_new ? NULL : &kernel->index);
	status = ask(kernel, message, size, NBD_ATTR_INDEX, &error, &kernel->index);
	/* The kernel has its own hold on those that it took. */
	close_all(theirs, count);
	if (status == OK && error != 0)
		status = refused(is_new ? "connecting" : "connecting again", error);
	if (status != OK)
		close_all(ours, count);
	return status;
}

static bool is_taken(int fd)
{
	struct pollfd other_end = {.fd = fd, .events = POLLIN};

	return poll(&other_end, 1, 0) >= 0 && (other_end.revents & (POLLHUP | POLLERR)) == 0;
}

/* The kernel puts new sockets in the places of dead ones, and says nothing when there was none to
 * replace: only the other end of a socket tells whether it was taken. */
static enum status connect_again(struct nbd_kernel *kernel, const struct nbd_kernel_volume *volume,
				 int *fds, unsigned *count)
{
	const uint64_t deadline_ms = clock_now_ms() + RECONNECT_TIME_MS;
	unsigned taken = 0;

	for (;;) {
		const unsigned wanted = *count - taken;
		int ours[NBD_KERNEL_CONNECTIONS_MAX];
		enum status status = offer(kernel, volume, false, ours, wanted);

		if (status != OK) {
			close_all(fds, taken);
			return status;
		}
		for (unsigned i = 0; i < wanted; i++) {
			if (is_taken(ours[i]))
				fds[taken++] = ours[i];
			else
				close(ours[i]);
		}
		if (taken == *count || clock_left_ms(deadline_ms) == 0)
			break;
		clock_sleep_ms(RECONNECT_PAUSE_MS);
	}
	*count = taken;
	return taken > 0 ? OK : refused("connecting again", EBUSY);
}

enum status nbd_kernel_connect(struct nbd_kernel *kernel, const struct nbd_kernel_volume *volume,
			       int fds[static NBD_KERNEL_CONNECTIONS_MAX], unsigned *count)
{
	CHECK(*count > 0 && *count <= NBD_KERNEL_CONNECTIONS_MAX);
	CHECK(strlen(volume->identifier) < NBD_KERNEL_IDENTIFIER_SIZE);
	if (find_device(&kernel->index, volume->identifier))
		TRY(connect_again(kernel, volume, fds, count));
	else
		TRY(offer(kernel, volume, true, fds, *count));
	snprintf(kernel->path, sizeof(kernel->path), "/dev/nbd%u", kernel->index);
	return OK;
}

/* A write of the attribute waits for all requests under way, so one that changes nothing is left
 * out. */
enum status nbd_kernel_limit_requests(const struct nbd_kernel *kernel, uint32_t size_max)
{
	char path[64], wanted[16], found[16] = "";
	int length = snprintf(wanted, sizeof(wanted), "%u\n", size_max / 1024);
	bool done;
	int fd;

	snprintf(path, sizeof(path), "/sys/block/nbd%u/queue/max_sectors_kb", kernel->index);
	fd = open(path, O_RDWR | O_CLOEXEC);
	done = fd >= 0 && pread(fd, found, sizeof(found) - 1, 0) > 0 &&
	       (strcmp(found, wanted) == 0 ||
		pwrite(fd, wanted, (size_t)length, 0) == (ssize_t)length);
	if (!done)
		log_errno(LOG_PRIORITY_ERROR, errno, "%s", path);
	if (fd >= 0)
		close(fd);
	return done ? OK : FAIL_NBD_KERNEL;
}

enum status nbd_kernel_disconnect(struct nbd_kernel *kernel)
{
	uint8_t message[NBD_KERNEL_MESSAGE_SIZE];
	struct writer writer =
		begin_message(kernel, message, kernel->family, NBD_CMD_DISCONNECT);
	uint32_t ignored = 0;
	int error = 0;

	put_u32(&writer, NBD_ATTR_INDEX, kernel->index);
	TRY(ask(kernel, message, end_message(&writer), NBD_ATTR_UNSPEC, &error, &ignored));
	return error == 0 ? OK : refused("disconnecting", error);
}

enum status nbd_kernel_remove_remains(const char *identifier)
{
	struct nbd_kernel kernel;
	enum status status;
	uint32_t index;

	if (!find_device(&index, identifier))
		return OK;
	TRY(nbd_kernel_open(&kernel));
	kernel.index = index;
	status = nbd_kernel_disconnect(&kernel);
	nbd_kernel_close(&kernel);
	return status;
}

bool nbd_kernel_is_in_use(const struct nbd_kernel *kernel)
{
	int fd = open(kernel->path, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return errno == EBUSY;
	close(fd);
	return false;
}
