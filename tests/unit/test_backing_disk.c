#include "io/backing_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/buffer_pool.h"
#include "tests/unit/test.h"

enum { FILE_SIZE = 1024 * 1024 };

static char path[256];
static char loop_device[64];

static int close_after_use(int fd)
{
	EXPECT_TRUE(fd >= 0);
	return fd;
}

/* A file of that size in the test's folder, filled from `seed`. */
static const char *make_file(const char *name, size_t size, uint64_t seed)
{
	uint8_t *bytes = malloc(size + 1);
	int fd;

	EXPECT_TRUE(bytes != NULL);
	test_fill(bytes, size, seed);
	snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	fd = close_after_use(open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	EXPECT_EQUAL(write(fd, bytes, size), size);
	close(fd);
	free(bytes);
	return path;
}

static enum status try_open(const char *file, enum backing_disk_claim claim)
{
	struct backing_disk disk;
	enum status status = backing_disk_open(&disk, file, claim);

	if (status == OK)
		backing_disk_close(&disk);
	return status;
}

static int run(const char *command)
{
	return system(command);
}

static void detach_loop_device(void)
{
	char command[128];

	if (loop_device[0] == '\0')
		return;
	snprintf(command, sizeof(command), "losetup -d %s 2>/dev/null", loop_device);
	(void)run(command);
	loop_device[0] = '\0';
}

/* Loop devices go away with the program, whichever test fails. */
static const char *make_loop_device(const char *file, const char *options)
{
	char command[512];
	FILE *output;

	detach_loop_device();
	snprintf(command, sizeof(command), "losetup --show -f %s %s 2>/dev/null", options, file);
	output = popen(command, "r");
	if (output == NULL || fgets(loop_device, sizeof(loop_device), output) == NULL)
		loop_device[0] = '\0';
	if (output != NULL)
		pclose(output);
	if (loop_device[0] == '\0')
		SKIP("this machine has no loop devices for us");
	loop_device[strcspn(loop_device, "\n")] = '\0';
	atexit(detach_loop_device);
	return loop_device;
}

TEST(a_file_is_described)
{
	struct backing_disk disk;

	EXPECT_OK(backing_disk_open(&disk, make_file("plain", FILE_SIZE, 1), BACKING_DISK_SERVE));
	EXPECT_EQUAL(disk.size_bytes, FILE_SIZE);
	EXPECT_FALSE(disk.is_block_device);
	EXPECT_TRUE(disk.is_writable);
	EXPECT_TRUE(disk.logical_block_size == 512 || disk.logical_block_size == 4096);
	EXPECT_TRUE(disk.physical_block_size >= disk.logical_block_size);
	EXPECT_TRUE(disk.has_write_cache && disk.has_fua);
	EXPECT_NOT_EQUAL(disk.discard_granularity, 0);
	backing_disk_close(&disk);
	EXPECT_OK(backing_disk_open(&disk, path, BACKING_DISK_LOOK));
	EXPECT_FALSE(disk.is_writable);
	backing_disk_close(&disk);
}

TEST(what_is_no_disk_is_refused_by_its_kind)
{
	char fifo[256];

	snprintf(fifo, sizeof(fifo), "%s/fifo", test_folder());
	EXPECT_EQUAL(mkfifo(fifo, 0600), 0);
	EXPECT_STATUS(try_open(fifo, BACKING_DISK_SERVE), FAIL_DISK_KIND);
	EXPECT_STATUS(try_open(fifo, BACKING_DISK_LOOK), FAIL_DISK_KIND);
	EXPECT_STATUS(try_open(test_folder(), BACKING_DISK_LOOK), FAIL_DISK_KIND);
	EXPECT_STATUS(try_open("/dev/null", BACKING_DISK_SERVE), FAIL_DISK_KIND);
}

TEST(what_is_not_there_is_absent)
{
	snprintf(path, sizeof(path), "%s/nothing", test_folder());
	EXPECT_STATUS(try_open(path, BACKING_DISK_SERVE), FAIL_DISK_ABSENT);
	make_file("file", 4096, 1);
	snprintf(path, sizeof(path), "%s/file/below", test_folder());
	EXPECT_STATUS(try_open(path, BACKING_DISK_LOOK), FAIL_DISK_ABSENT);
}

TEST(without_the_right_to_open_it_the_disk_needs_root)
{
	const char *file = make_file("forbidden", FILE_SIZE, 1);
	int wait_status = 0;
	pid_t child;

	EXPECT_EQUAL(chmod(test_folder(), 0755), 0);
	child = fork();
	if (child == 0)
		_exit(setuid(65534) == 0 && try_open(file, BACKING_DISK_LOOK) == FAIL_NOT_ROOT ? 0
											       : 1);
	EXPECT_EQUAL(waitpid(child, &wait_status, 0), child);
	EXPECT_EQUAL(wait_status, 0);
}

TEST(a_served_file_is_served_once_and_can_still_be_looked_at)
{
	struct backing_disk disk;
	const char *file = make_file("claimed", FILE_SIZE, 1);

	EXPECT_OK(backing_disk_open(&disk, file, BACKING_DISK_SERVE));
	EXPECT_STATUS(try_open(file, BACKING_DISK_SERVE), FAIL_DISK_IN_USE);
	EXPECT_STATUS(try_open(file, BACKING_DISK_SERVE_READ_ONLY), FAIL_DISK_IN_USE);
	EXPECT_OK(try_open(file, BACKING_DISK_LOOK));
	EXPECT_OK(try_open(file, BACKING_DISK_HEADER));
	backing_disk_close(&disk);
	EXPECT_OK(try_open(file, BACKING_DISK_SERVE));
}

TEST(a_claim_leaves_flock_to_cryptsetup)
{
	struct backing_disk disk;
	int fd;

	EXPECT_OK(backing_disk_open(&disk, make_file("flock", 8192, 1), BACKING_DISK_SERVE));
	fd = close_after_use(open(path, O_RDWR | O_CLOEXEC));
	EXPECT_EQUAL(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
	backing_disk_close(&disk);
}

TEST(the_successor_of_a_killed_server_gets_the_disk)
{
	struct backing_disk disk;
	const char *file = make_file("successor", FILE_SIZE, 1);
	struct backing_disk holder;
	pid_t child;
	int wait_status;

	/* The child dies holding the claim a moment after we ask for it. */
	EXPECT_OK(backing_disk_open(&holder, file, BACKING_DISK_SERVE));
	child = fork();
	if (child == 0) {
		usleep(20 * 1000);
		_exit(0);
	}
	backing_disk_close(&holder);
	EXPECT_OK(backing_disk_open(&disk, file, BACKING_DISK_SERVE));
	backing_disk_close(&disk);
	EXPECT_EQUAL(waitpid(child, &wait_status, 0), child);
}

TEST(a_file_behind_a_loop_device_is_in_use)
{
	char file[256];

	snprintf(file, sizeof(file), "%s", make_file("looped", FILE_SIZE, 1));
	make_loop_device(file, "");
	EXPECT_STATUS(try_open(file, BACKING_DISK_SERVE), FAIL_DISK_IN_USE);
	EXPECT_OK(try_open(file, BACKING_DISK_LOOK));
	detach_loop_device();
	EXPECT_OK(try_open(file, BACKING_DISK_SERVE));
}

TEST(a_block_device_is_described_and_claimed)
{
	struct backing_disk disk;
	const char *device = make_loop_device(make_file("block", FILE_SIZE, 7), "-b 4096");
	uint8_t expected[FILE_SIZE];
	uint8_t bytes[100];

	EXPECT_OK(backing_disk_open(&disk, device, BACKING_DISK_SERVE));
	EXPECT_TRUE(disk.is_block_device);
	EXPECT_EQUAL(disk.size_bytes, FILE_SIZE);
	EXPECT_EQUAL(disk.logical_block_size, 4096);
	test_fill(expected, sizeof(expected), 7);
	EXPECT_OK(backing_disk_read(&disk, 4090, bytes, sizeof(bytes)));
	EXPECT_BYTES(bytes, expected + 4090, sizeof(bytes));
	EXPECT_STATUS(try_open(device, BACKING_DISK_SERVE), FAIL_DISK_IN_USE);
	EXPECT_OK(try_open(device, BACKING_DISK_LOOK));
	EXPECT_OK(try_open(device, BACKING_DISK_HEADER));
	backing_disk_close(&disk);
	detach_loop_device();
}

TEST(a_read_only_block_device_is_looked_at_and_not_written)
{
	const char *device = make_loop_device(make_file("ro", FILE_SIZE, 1), "-r");

	EXPECT_STATUS(try_open(device, BACKING_DISK_SERVE), FAIL_DISK_READ_ONLY);
	EXPECT_STATUS(try_open(device, BACKING_DISK_HEADER), FAIL_DISK_READ_ONLY);
	EXPECT_OK(try_open(device, BACKING_DISK_SERVE_READ_ONLY));
	detach_loop_device();
}

TEST(a_mounted_block_device_is_mounted)
{
	char command[512];
	char folder[256];
	const char *device = make_loop_device(make_file("mounted", 8 * FILE_SIZE, 1), "");

	snprintf(folder, sizeof(folder), "%s/mount-point", test_folder());
	EXPECT_EQUAL(mkdir(folder, 0700), 0);
	snprintf(command, sizeof(command), "mkfs.ext4 -q -F %s >/dev/null 2>&1", device);
	if (run(command) != 0 || mount(device, folder, "ext4", 0, NULL) != 0) {
		detach_loop_device();
		SKIP("this machine mounts nothing for us");
	}
	EXPECT_STATUS(try_open(device, BACKING_DISK_SERVE), FAIL_DISK_MOUNTED);
	EXPECT_EQUAL(umount(folder), 0);
	EXPECT_OK(try_open(device, BACKING_DISK_SERVE));
	detach_loop_device();
}

TEST(a_read_takes_any_offset_size_and_address)
{
	static const size_t places[] = {0, 1, 511, 512, 4095, 4096, 16383, 16384, 20000};
	static uint8_t expected[65536];
	static uint8_t bytes[65536 + 1];
	struct backing_disk disk;

	EXPECT_OK(backing_disk_open(&disk, make_file("any", 65536, 3), BACKING_DISK_LOOK));
	test_fill(expected, sizeof(expected), 3);
	for (size_t i = 0; i < ARRAY_COUNT(places); i++)
		for (size_t j = 0; j < ARRAY_COUNT(places); j++) {
			memset(bytes, 0xee, sizeof(bytes));
			EXPECT_OK(backing_disk_read(&disk, places[i], bytes, places[j]));
			EXPECT_BYTES(bytes, expected + places[i], places[j]);
			EXPECT_EQUAL(bytes[places[j]], 0xee);
		}
	backing_disk_close(&disk);
}

TEST(a_read_ends_with_the_disk)
{
	struct backing_disk disk;
	uint8_t bytes[8192];

	/* A size that no block divides: the image of somebody's making. */
	EXPECT_OK(backing_disk_open(&disk, make_file("odd", 10000, 4), BACKING_DISK_LOOK));
	EXPECT_EQUAL(disk.size_bytes, 10000);
	EXPECT_OK(backing_disk_read(&disk, 9000, bytes, 1000));
	EXPECT_STATUS(backing_disk_read(&disk, 9000, bytes, 1001), FAIL_DISK_IO);
	EXPECT_STATUS(backing_disk_read(&disk, 10000, bytes, 1), FAIL_DISK_IO);
	EXPECT_STATUS(backing_disk_read(&disk, UINT64_MAX - 4095, bytes, 4096), FAIL_DISK_IO);
	EXPECT_OK(backing_disk_read(&disk, 10000, bytes, 0));
	backing_disk_close(&disk);
}

TEST(what_is_written_at_any_address_is_read_back)
{
	static uint8_t source[40960 + 1];
	static uint8_t bytes[40960];
	struct backing_disk disk;

	EXPECT_OK(backing_disk_open(&disk, make_file("write", 65536, 5), BACKING_DISK_HEADER));
	for (size_t shift = 0; shift <= 1; shift++) {
		test_fill(source + shift, sizeof(bytes), 100 + shift);
		EXPECT_OK(backing_disk_write(&disk, 8192, source + shift, sizeof(bytes)));
		EXPECT_OK(backing_disk_flush(&disk));
		EXPECT_OK(backing_disk_read(&disk, 8192, bytes, sizeof(bytes)));
		EXPECT_BYTES(bytes, source + shift, sizeof(bytes));
	}
	backing_disk_close(&disk);
}

TEST(a_write_of_half_a_block_is_our_own_mistake)
{
	struct backing_disk disk;
	uint8_t bytes[8192] = {0};

	EXPECT_OK(backing_disk_open(&disk, make_file("half", 65536, 5), BACKING_DISK_HEADER));
	EXPECT_ABORT({
		enum status ignored = backing_disk_write(&disk, 512, bytes, 4096);
		(void)ignored;
	});
	backing_disk_close(&disk);
}

TEST(a_disk_without_room_is_full)
{
	char folder[256];
	char file[300];
	struct backing_disk disk;
	static uint8_t bytes[1024 * 1024];
	enum status status;

	snprintf(folder, sizeof(folder), "%s/small", test_folder());
	EXPECT_EQUAL(mkdir(folder, 0700), 0);
	if (mount("none", folder, "tmpfs", 0, "size=64k") != 0)
		SKIP("this machine mounts nothing for us");
	snprintf(file, sizeof(file), "%s/file", folder);
	close(close_after_use(open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600)));
	EXPECT_EQUAL(truncate(file, sizeof(bytes)), 0);
	EXPECT_OK(backing_disk_open(&disk, file, BACKING_DISK_SERVE));
	status = backing_disk_write(&disk, 0, bytes, sizeof(bytes));
	backing_disk_close(&disk);
	EXPECT_EQUAL(umount(folder), 0);
	EXPECT_STATUS(status, FAIL_DISK_FULL);
}

TEST(an_adopted_descriptor_keeps_its_claim)
{
	struct backing_disk disk;
	struct backing_disk adopted;
	const char *file = make_file("adopted", FILE_SIZE, 1);

	EXPECT_OK(backing_disk_open(&disk, file, BACKING_DISK_SERVE));
	EXPECT_OK(backing_disk_adopt(&adopted, file, fcntl(disk.fd, F_DUPFD_CLOEXEC, 0)));
	backing_disk_close(&disk);
	EXPECT_EQUAL(adopted.size_bytes, FILE_SIZE);
	EXPECT_TRUE(adopted.is_writable);
	EXPECT_STATUS(try_open(file, BACKING_DISK_SERVE), FAIL_DISK_IN_USE);
	backing_disk_close(&adopted);
	EXPECT_OK(try_open(file, BACKING_DISK_SERVE));
}

TEST(an_adopted_pipe_is_no_disk)
{
	struct backing_disk disk;
	int ends[2];

	EXPECT_EQUAL(pipe2(ends, O_CLOEXEC), 0);
	EXPECT_STATUS(backing_disk_adopt(&disk, "pipe", ends[0]), FAIL_DISK_KIND);
	EXPECT_EQUAL(fcntl(ends[0], F_GETFD), -1);
	close(ends[1]);
}

/* --- through a ring -----------------------------------------------------------------------------
 */

static struct {
	struct ring ring;
	struct buffer_pool pool;
	unsigned handler;
	int32_t results[8];
	unsigned count;
} through;

static void note_result(void *context, uint32_t index, int32_t result)
{
	EXPECT_TRUE(context == &through);
	through.results[index] = result;
	through.count++;
}

static void open_ring(void)
{
	const struct ring_options options = {.operations_max = 8, .file_count = 1};

	memset(&through, 0, sizeof(through));
	EXPECT_OK(ring_open(&through.ring, &options));
	through.handler = ring_add_handler(&through.ring, note_result, &through);
	EXPECT_OK(buffer_pool_open(&through.pool, 65536, 2));
	EXPECT_OK(ring_register_memory(&through.ring, through.pool.arena, through.pool.arena_size));
}

static void wait_for(unsigned count)
{
	while (through.count < count)
		EXPECT_OK(ring_turn(&through.ring, true));
}

TEST(a_ring_moves_bytes_flushes_and_punches_holes)
{
	static uint8_t expected[8192];
	struct backing_disk disk;
	struct stat before;
	struct stat after;
	uint8_t *first;
	uint8_t *second;

	EXPECT_OK(backing_disk_open(&disk, make_file("ring", FILE_SIZE, 9), BACKING_DISK_SERVE));
	open_ring();
	EXPECT_OK(backing_disk_attach(&disk, &through.ring));
	first = buffer_pool_at(&through.pool, 0);
	second = buffer_pool_at(&through.pool, 1);
	test_fill(first, 8192, 77);
	backing_disk_start_write(&disk, &through.ring, ring_token(through.handler, 0), first, 8192,
				 65536, true);
	wait_for(1);
	EXPECT_EQUAL(through.results[0], 8192);
	backing_disk_start_read(&disk, &through.ring, ring_token(through.handler, 1), second, 8192,
				65536);
	backing_disk_start_flush(&disk, &through.ring, ring_token(through.handler, 2));
	wait_for(3);
	EXPECT_EQUAL(through.results[1], 8192);
	EXPECT_EQUAL(through.results[2], 0);
	EXPECT_BYTES(second, first, 8192);

	/* Past the end: nothing, which the engine takes for an error. */
	backing_disk_start_read(&disk, &through.ring, ring_token(through.handler, 3), second, 4096,
				FILE_SIZE);
	wait_for(4);
	EXPECT_EQUAL(through.results[3], 0);

	EXPECT_EQUAL(stat(path, &before), 0);
	backing_disk_start_discard(&disk, &through.ring, ring_token(through.handler, 4), 65536,
				   131072);
	wait_for(5);
	EXPECT_EQUAL(through.results[4], 0);
	EXPECT_EQUAL(stat(path, &after), 0);
	EXPECT_EQUAL(after.st_size, before.st_size);
	EXPECT_TRUE(after.st_blocks < before.st_blocks);
	EXPECT_OK(backing_disk_read(&disk, 65536, first, 8192));
	EXPECT_BYTES(first, expected, 8192);
	ring_close(&through.ring);
	buffer_pool_close(&through.pool);
	backing_disk_close(&disk);
}

TEST(a_closed_ring_gives_the_disk_back_at_once)
{
	struct backing_disk disk;
	const char *file = make_file("given-back", FILE_SIZE, 1);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd;

	EXPECT_OK(backing_disk_open(&disk, file, BACKING_DISK_SERVE));
	open_ring();
	EXPECT_OK(backing_disk_attach(&disk, &through.ring));
	ring_close(&through.ring);
	buffer_pool_close(&through.pool);
	backing_disk_close(&disk);
	/* Asked for by hand: backing_disk_open would try again. */
	fd = close_after_use(open(file, O_RDWR | O_CLOEXEC));
	EXPECT_EQUAL(fcntl(fd, F_OFD_SETLK, &lock), 0);
	close(fd);
}
