/* The NBD server over a real file, used by clients that others have written. */
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/unit/fakes/fake_cipher.c"
#include "tests/unit/fakes/nbd_client.c"
#include "tests/unit/test.h"

enum { MIB = 1024 * 1024, DATA_OFFSET = 16 * MIB, VOLUME_SIZE = 64 * MIB };

static struct backing_disk disk;
static struct block_volume volume;
static char disk_path[256];
static char output[16384];

static void start_with(uint32_t sector_size, struct nbd_server_options options)
{
	int fd;

	nbd_thread_clear();
	backing_disk_close(&disk);
	snprintf(disk_path, sizeof(disk_path), "%s/disk", test_folder());
	fd = open(disk_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	EXPECT_TRUE(fd >= 0);
	EXPECT_EQUAL(ftruncate(fd, DATA_OFFSET + VOLUME_SIZE), 0);
	close(fd);
	EXPECT_OK(backing_disk_open(&disk, disk_path, BACKING_DISK_SERVE));
	volume = (struct block_volume){
		.disk = &disk,
		.data_offset_bytes = DATA_OFFSET,
		.size_bytes = VOLUME_SIZE,
		.cipher = fake_cipher_make(sector_size),
		.allows_discard = true,
	};
	EXPECT_OK(nbd_thread_start(&volume, options));
}

static void start(void)
{
	start_with(4096, (struct nbd_server_options){.request_size_max = MIB});
}

static void stop(void)
{
	EXPECT_OK(nbd_thread_stop());
	backing_disk_close(&disk);
}

/* Runs a shell command in the test's folder, with the export's address in $U; its output, standard
 * error too, stands in `output`. Gives its exit status. */
static int run(const char *command)
{
	char line[4096];
	FILE *pipe;
	size_t size;
	int status;

	snprintf(line, sizeof(line), "cd %s; U='nbd+unix:///volume?socket=%s'; { %s; } 2>&1",
		 test_folder(), nbd_thread.socket_path, command);
	pipe = popen(line, "r");
	EXPECT_TRUE(pipe != NULL);
	size = fread(output, 1, sizeof(output) - 1, pipe);
	output[size] = '\0';
	/* A client that says more must not be stopped by a full pipe. */
	while (fgetc(pipe) != EOF)
		;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_run(const char *command)
{
	int status = run(command);

	if (status != 0)
		printf("%s\n", output);
	EXPECT_EQUAL(status, 0);
}

static void need(const char *program)
{
	char command[64];

	snprintf(command, sizeof(command), "command -v %s", program);
	if (run(command) != 0)
		SKIP("the client is not installed");
}

TEST(nbdinfo_sees_what_the_volume_is)
{
	start();
	need("nbdinfo");
	expect_run("nbdinfo --json \"$U\"");
	EXPECT_TEXT_CONTAINS(output, "\"protocol\": \"newstyle-fixed\"");
	EXPECT_TEXT_CONTAINS(output, "\"export-size\": 67108864");
	EXPECT_TEXT_CONTAINS(output, "\"is_read_only\": false");
	EXPECT_TEXT_CONTAINS(output, "\"can_flush\": true");
	EXPECT_TEXT_CONTAINS(output, "\"can_fua\": true");
	EXPECT_TEXT_CONTAINS(output, "\"can_multi_conn\": true");
	EXPECT_TEXT_CONTAINS(output, "\"can_trim\": true");
	EXPECT_TEXT_CONTAINS(output, "\"can_zero\": true");
	EXPECT_TEXT_CONTAINS(output, "\"block_size_minimum\": 4096");
	EXPECT_TEXT_CONTAINS(output, "\"block_size_maximum\": 1048576");
	expect_run("nbdinfo --list --json \"$U\"");
	EXPECT_TEXT_CONTAINS(output, "\"export-name\": \"volume\"");
	EXPECT_EQUAL(run("nbdinfo \"$(echo \"$U\" | sed s/volume/other/)\""), 1);
	stop();
}

TEST(nbdcopy_gets_back_what_it_put_there_by_four_connections)
{
	start();
	need("nbdcopy");
	expect_run("head -c 40000000 /dev/urandom >source && truncate -s 64M source && "
		   "nbdcopy --connections=4 --requests=32 --flush source \"$U\" && "
		   "nbdcopy --connections=4 \"$U\" copy && cmp source copy");
	/* And it is not there in the clear. */
	expect_run("if cmp -s -i 0:16777216 -n 4096 source disk; then exit 1; fi");
	stop();
}

TEST(qemu_io_finds_each_pattern_in_its_place)
{
	start();
	need("qemu-io");
	expect_run("qemu-io -f raw -c 'write -P 0x11 0 3M' -c 'write -P 0x22 -f 4k 8k' "
		   "-c 'write -z 64k 1M' -c 'aio_write -P 0x33 2M 64k' -c aio_flush -c flush "
		   "-c 'read -P 0x11 0 4k' -c 'read -P 0x22 4k 8k' -c 'read -P 0x11 12k 52k' "
		   "-c 'read -P 0 64k 1M' -c 'read -P 0x11 1088k 960k' -c 'read -P 0x33 2M 64k' "
		   "-c 'discard 8M 4M' \"$U\"");
	EXPECT_EQUAL(strstr(output, "failed"), NULL);
	EXPECT_EQUAL(strstr(output, "error"), NULL);
	stop();
}

TEST(an_image_converted_by_qemu_survives_a_restart_of_the_server)
{
	start();
	need("qemu-img");
	expect_run("head -c 5000000 /dev/urandom >image && truncate -s 64M image && "
		   "qemu-img convert -n -f raw -O raw -W -m 8 image \"$U\"");
	EXPECT_OK(nbd_thread_stop());
	EXPECT_OK(nbd_thread_start(&volume, (struct nbd_server_options){0}));
	expect_run("qemu-img compare -f raw -F raw image \"$U\"");
	stop();
}

static void verify_with_fio(uint32_t sector_size, uint32_t piece_size, const char *sizes)
{
	char command[2048];

	start_with(sector_size, (struct nbd_server_options){.request_size_max = MIB,
							    .piece_size = piece_size,
							    .queue_depth = 64});
	need("fio");
	/* Three jobs at once, each over its own part, checksums in every block. */
	snprintf(command, sizeof(command),
		 "for i in 0 1 2; do echo \"[job$i]\noffset=$((i * 20))M\"; done >jobs && "
		 "{ printf '[global]\\nioengine=nbd\\nuri=%%s\\nrw=randrw\\n%s\\nsize=16M\\n"
		 "iodepth=24\\nfsync=32\\nverify=crc32c\\nverify_fatal=1\\ngroup_reporting\\n' "
		 "\"$U\"; cat jobs; } >fio.job && fio --output-format=terse fio.job",
		 sizes);
	expect_run(command);
	EXPECT_EQUAL(strstr(output, "verify:"), NULL);
	stop();
}

TEST(fio_verifies_sectors_of_4096_bytes)
{
	verify_with_fio(4096, 0, "bsrange=4k-1m\\nba=4k");
}

TEST(fio_verifies_requests_in_pieces)
{
	verify_with_fio(4096, 65536, "bsrange=4k-1m\\nba=4k");
}

TEST(fio_verifies_sectors_of_512_bytes)
{
	verify_with_fio(512, 0, "bsrange=512-64k\\nba=512");
}
