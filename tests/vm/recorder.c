/* Writes what can be judged after a power cut or on a bad disk, and judges it. Runs in the tests'
 * virtual machine, static.
 *
 *   recorder write ACKS ROUND FOLDER...   until it is killed
 *   recorder verify FOLDER ACKED
 *   recorder fill DEVICE ROUND BLOCKS     all of it, in writes of as many blocks
 *   recorder scan DEVICE ROUND BLOCKS     reads and judges it in the same way
 *   recorder where FILE                   the first piece of a file on its device: OFFSET SIZE
 *
 * Everything is made of blocks of 4096 bytes that name the place they belong to, so that a block
 * that is lost, foreign, old or torn is told from the right one.
 *
 * `write` prints a line to ACKS (a file or a port) for all that the file system has promised to
 * keep, after it has: `NUMBER-OF-FOLDER KIND WRITER SLOT VALUE`. Kinds:
 *   log    a file grows; VALUE blocks of it are safe (fsync, fdatasync)
 *   place  a block is written over where it lies (O_DIRECT): safe with generation VALUE, after
 *          fdatasync, or O_DSYNC alone
 *   name   a new file takes the name of the old one: safe with generation VALUE after fsync of the
 *          file, rename, and fsync of the folder
 * `verify` reads the greatest VALUE of each from ACKED, lines of `KIND WRITER SLOT VALUE`.
 *
 * fill and scan print `bad OFFSET ERRNO` for every request that fails, ERRNO 0 for wrong bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/base.h"

#define UNIT_SIZE 4096u
#define PIECE_MAX 32u /* blocks in one write */
#define LOG_SIZE_MAX 8192u
#define PLACE_SLOTS 64u
#define NAME_BLOCKS 5u
#define WRITERS 2u /* of each kind in each folder */
#define SCANNERS 8u
#define OBJECTIONS_MAX 3u /* what is printed of them */

enum kind { LOG, PLACE, NAME, DEVICE, KINDS };

static const char *const kind_names[KINDS] = {"log", "place", "name", "device"};

struct block_label {
	uint64_t magic;
	uint64_t kind;
	uint64_t writer;
	uint64_t slot; /* which block of its file */
	uint64_t generation;
};

#define MAGIC 0x62796f6b20726563u

struct block {
	_Alignas(UNIT_SIZE) uint64_t words[UNIT_SIZE / sizeof(uint64_t)];
};

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "recorder: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t mixed;

	*state += 0x9e3779b97f4a7c15u;
	mixed = (*state ^ (*state >> 30)) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
	return mixed ^ (mixed >> 31);
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static void block_make(struct block *block, enum kind kind, uint64_t writer, uint64_t slot,
		       uint64_t generation)
{
	const struct block_label label = {MAGIC, kind, writer, slot, generation};
	uint64_t state = ((generation * KINDS + kind) * 64 + writer) * 0x100000 + slot;

	for (size_t i = 0; i < ARRAY_COUNT(block->words); i++)
		block->words[i] = next_random(&state);
	memcpy(block->words, &label, sizeof(label));
}

/* True if it is, in every byte, a block for that place; then `generation` is its own. */
static bool block_judge(const struct block *block, enum kind kind, uint64_t writer, uint64_t slot,
			uint64_t *generation)
{
	struct block_label label;
	struct block right;

	memcpy(&label, block->words, sizeof(label));
	block_make(&right, kind, writer, slot, label.generation);
	*generation = label.generation;
	return memcmp(&right, block, sizeof(right)) == 0;
}

static bool block_is_zero(const struct block *block)
{
	for (size_t i = 0; i < ARRAY_COUNT(block->words); i++)
		if (block->words[i] != 0)
			return false;
	return true;
}

/* --- writing -----------------------------------------------------------------------------------
 */

struct writer {
	pthread_t thread;
	enum kind kind;
	uint64_t number;
	unsigned folder_number;
	const char *folder;
	uint64_t generation;
	uint64_t random;
};

static int acks_fd;

static void acknowledge(const struct writer *writer, uint64_t slot, uint64_t value)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char line[128];
	int length = snprintf(line, sizeof(line), "%u %s %llu %llu %llu\n", writer->folder_number,
			      kind_names[writer->kind], (unsigned long long)writer->number,
			      (unsigned long long)slot, (unsigned long long)value);

	pthread_mutex_lock(&lock);
	if (write(acks_fd, line, (size_t)length) != length)
		give_up("acks");
	pthread_mutex_unlock(&lock);
}

static int open_in(const struct writer *writer, const char *suffix, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s-%llu%s", writer->folder, kind_names[writer->kind],
		 (unsigned long long)writer->number, suffix);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		give_up(path);
	return fd;
}

static void write_blocks(int fd, const struct block *blocks, uint64_t count, uint64_t slot)
{
	if (pwrite(fd, blocks, count * UNIT_SIZE, (off_t)(slot * UNIT_SIZE)) !=
	    (ssize_t)(count * UNIT_SIZE))
		give_up("write");
}

static void sync_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) != 0 || close(fd) != 0)
		give_up(folder);
}

/* From the beginning in every round: what was promised of the last one was judged before. */
static void grow_log(struct writer *writer)
{
	static _Thread_local struct block blocks[PIECE_MAX];
	int fd = open_in(writer, "", O_RDWR | O_CREAT | O_TRUNC);
	uint64_t slot = 0;

	sync_folder(writer->folder);
	while (slot < LOG_SIZE_MAX) {
		uint64_t pieces = 1 + next_random(&writer->random) % 4;

		for (; pieces > 0; pieces--) {
			uint64_t count = 1 + next_random(&writer->random) % PIECE_MAX;

			for (uint64_t i = 0; i < count; i++)
				block_make(&blocks[i], LOG, writer->number, slot + i,
					   writer->generation);
			write_blocks(fd, blocks, count, slot);
			slot += count;
		}
		if ((next_random(&writer->random) % 2 ? fsync(fd) : fdatasync(fd)) != 0)
			give_up("fsync");
		acknowledge(writer, 0, slot);
	}
}

static void write_in_place(struct writer *writer)
{
	static _Thread_local struct block block;
	int fd = open_in(writer, "", O_RDWR | O_CREAT | O_DIRECT);
	int durable_fd = open_in(writer, "", O_RDWR | O_DIRECT | O_DSYNC);
	uint64_t slots[24];

	if (fallocate(fd, 0, 0, PLACE_SLOTS * UNIT_SIZE) != 0 || fsync(fd) != 0)
		give_up("fallocate");
	sync_folder(writer->folder);
	for (;;) {
		uint64_t count = 1 + next_random(&writer->random) % ARRAY_COUNT(slots);
		bool is_alone = count == 1;

		writer->generation++;
		for (uint64_t i = 0; i < count; i++) {
			slots[i] = next_random(&writer->random) % PLACE_SLOTS;
			block_make(&block, PLACE, writer->number, slots[i], writer->generation);
			write_blocks(is_alone ? durable_fd : fd, &block, 1, slots[i]);
		}
		if (!is_alone && fdatasync(fd) != 0)
			give_up("fdatasync");
		for (uint64_t i = 0; i < count; i++)
			acknowledge(writer, slots[i], writer->generation);
	}
}

static void replace_by_name(struct writer *writer)
{
	static _Thread_local struct block blocks[NAME_BLOCKS];
	char from[256];
	char to[256];

	snprintf(from, sizeof(from), "%s/name-%llu.new", writer->folder,
		 (unsigned long long)writer->number);
	snprintf(to, sizeof(to), "%s/name-%llu", writer->folder,
		 (unsigned long long)writer->number);
	for (;;) {
		int fd = open_in(writer, ".new", O_RDWR | O_CREAT | O_TRUNC);

		writer->generation++;
		for (uint64_t i = 0; i < NAME_BLOCKS; i++)
			block_make(&blocks[i], NAME, writer->number, i, writer->generation);
		write_blocks(fd, blocks, NAME_BLOCKS, 0);
		if (fsync(fd) != 0 || close(fd) != 0 || rename(from, to) != 0)
			give_up(from);
		sync_folder(writer->folder);
		acknowledge(writer, 0, writer->generation);
	}
}

static void *run_writer(void *argument)
{
	struct writer *writer = argument;

	switch (writer->kind) {
	case LOG: grow_log(writer); break;
	case PLACE: write_in_place(writer); break;
	case NAME: replace_by_name(writer); break;
	case DEVICE:
	case KINDS: break;
	}
	return NULL;
}

static int write_until_killed(const char *acks, uint64_t round, unsigned count, char **folders)
{
	struct writer *writers = calloc((size_t)count * DEVICE * WRITERS, sizeof(*writers));
	struct writer *writer = writers;

	acks_fd = open(acks, O_WRONLY | O_CLOEXEC);
	if (writers == NULL || acks_fd < 0)
		give_up(acks);
	for (unsigned folder = 0; folder < count; folder++)
		for (enum kind kind = LOG; kind < DEVICE; kind++)
			for (uint64_t number = 0; number < WRITERS; number++, writer++) {
				*writer = (struct writer){
					.kind = kind,
					.number = number,
					.folder_number = folder,
					.folder = folders[folder],
					.generation = round << 32,
					.random = ((round * 64 + folder) * KINDS + kind) * 64 +
						  number,
				};
				if (pthread_create(&writer->thread, NULL, run_writer, writer) != 0)
					give_up("thread");
			}
	while (writer-- > writers)
		pthread_join(writer->thread, NULL);
	return 0;
}

/* --- judging files -----------------------------------------------------------------------------
 */

struct verdict {
	unsigned long promises;
	unsigned long long blocks;
	unsigned long broken;
};

static void object(struct verdict *verdict, const char *file, uint64_t slot, const char *what)
{
	if (verdict->broken++ < OBJECTIONS_MAX)
		printf("%s, block %llu: %s\n", file, (unsigned long long)slot, what);
}

/* Behind what was promised may stand blocks that were on their way, or zeroes; nothing else. */
static void verify_log(struct verdict *verdict, int fd, const char *file, uint64_t writer,
		       uint64_t promised)
{
	struct block block;
	uint64_t generation;
	ssize_t size;

	for (uint64_t slot = 0;; slot++, verdict->blocks++) {
		size = pread(fd, &block, sizeof(block), (off_t)(slot * UNIT_SIZE));
		if (size == 0 && slot >= promised)
			return;
		if (size == 0) {
			object(verdict, file, slot, "the file ends before what was acknowledged");
			return;
		}
		if (size == UNIT_SIZE && block_judge(&block, LOG, writer, slot, &generation))
			continue;
		if (slot < promised)
			object(verdict, file, slot, "was acknowledged and is not whole");
		else if (size < 0 || !block_is_zero(&block))
			object(verdict, file, slot, "is neither a block nor zero");
	}
}

static void verify_place(struct verdict *verdict, int fd, const char *file, uint64_t writer,
			 uint64_t slot, uint64_t promised)
{
	struct block block;
	uint64_t generation;

	verdict->blocks++;
	if (pread(fd, &block, sizeof(block), (off_t)(slot * UNIT_SIZE)) != UNIT_SIZE)
		object(verdict, file, slot, "cannot be read");
	else if (!block_judge(&block, PLACE, writer, slot, &generation))
		object(verdict, file, slot, "is torn or foreign");
	else if (generation < promised)
		object(verdict, file, slot, "is older than what was acknowledged");
}

static void verify_name(struct verdict *verdict, int fd, const char *file, uint64_t writer,
			uint64_t promised)
{
	struct block block;
	uint64_t generation;
	uint64_t first = 0;

	for (uint64_t slot = 0; slot < NAME_BLOCKS; slot++, verdict->blocks++) {
		if (pread(fd, &block, sizeof(block), (off_t)(slot * UNIT_SIZE)) != UNIT_SIZE ||
		    !block_judge(&block, NAME, writer, slot, &generation)) {
			object(verdict, file, slot, "is not whole");
			return;
		}
		if (slot == 0)
			first = generation;
		if (generation < promised || generation != first)
			object(verdict, file, slot, "is older than what was acknowledged");
	}
}

static int verify(const char *folder, const char *acked)
{
	struct verdict verdict = {0};
	FILE *lines = fopen(acked, "re");
	char name[16];
	unsigned long long writer;
	unsigned long long slot;
	unsigned long long value;

	if (lines == NULL)
		give_up(acked);
	while (fscanf(lines, "%15s %llu %llu %llu", name, &writer, &slot, &value) == 4) {
		char path[256];
		int fd;

		verdict.promises++;
		snprintf(path, sizeof(path), "%s/%s-%llu", folder, name, writer);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			object(&verdict, path, slot, strerror(errno));
			continue;
		}
		if (strcmp(name, "log") == 0)
			verify_log(&verdict, fd, path, writer, value);
		else if (strcmp(name, "place") == 0)
			verify_place(&verdict, fd, path, writer, slot, value);
		else
			verify_name(&verdict, fd, path, writer, value);
		close(fd);
	}
	fclose(lines);
	printf("%lu promises, %llu blocks, %lu broken\n", verdict.promises, verdict.blocks,
	       verdict.broken);
	return verdict.broken > 0;
}

/* --- a whole device ----------------------------------------------------------------------------
 */

struct device {
	int fd;
	bool is_filled; /* else it is judged */
	uint64_t generation;
	uint64_t blocks_per_request;
	uint64_t request_count;
	_Atomic uint64_t next;
};

static int judge_request(const struct block *blocks, uint64_t first, uint64_t count,
			 uint64_t expected)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t generation;

		if (!block_judge(&blocks[i], DEVICE, 0, first + i, &generation) ||
		    generation != expected)
			return 0;
	}
	return -1;
}

static void *run_requests(void *argument)
{
	static _Thread_local struct block blocks[PIECE_MAX * 8];
	struct device *device = argument;
	const size_t size = device->blocks_per_request * UNIT_SIZE;

	for (uint64_t request; (request = device->next++) < device->request_count;) {
		uint64_t first = request * device->blocks_per_request;
		off_t offset = (off_t)(first * UNIT_SIZE);
		int verdict = -1;
		ssize_t moved;

		for (uint64_t i = 0; device->is_filled && i < device->blocks_per_request; i++)
			block_make(&blocks[i], DEVICE, 0, first + i, device->generation);
		moved = device->is_filled ? pwrite(device->fd, blocks, size, offset)
					  : pread(device->fd, blocks, size, offset);
		if (moved < 0)
			verdict = errno;
		else if (moved != (ssize_t)size)
			verdict = EMSGSIZE;
		else if (!device->is_filled)
			verdict = judge_request(blocks, first, device->blocks_per_request,
						device->generation);
		if (verdict >= 0)
			printf("bad %llu %d\n", (unsigned long long)offset, verdict);
	}
	return NULL;
}

static int go_through(const char *path, bool is_filled, uint64_t generation, uint64_t blocks)
{
	struct device device = {.fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC),
				.is_filled = is_filled,
				.generation = generation,
				.blocks_per_request = blocks};
	pthread_t threads[SCANNERS];
	off_t end;

	if (device.fd < 0 || blocks == 0 || blocks > PIECE_MAX * 8)
		give_up(path);
	end = lseek(device.fd, 0, SEEK_END);
	device.request_count = (uint64_t)end / UNIT_SIZE / blocks;
	for (unsigned i = 0; i < SCANNERS; i++)
		if (pthread_create(&threads[i], NULL, run_requests, &device) != 0)
			give_up("thread");
	for (unsigned i = 0; i < SCANNERS; i++)
		pthread_join(threads[i], NULL);
	printf("%llu requests\n", (unsigned long long)device.request_count);
	return 0;
}

static int print_place(const char *path)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extent;
	} place = {.map = {.fm_length = ~0ull, .fm_flags = FIEMAP_FLAG_SYNC, .fm_extent_count = 1}};
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, (int)FS_IOC_FIEMAP, &place) != 0 || place.map.fm_mapped_extents < 1)
		give_up(path);
	printf("%llu %llu\n", (unsigned long long)place.extent.fe_physical,
	       (unsigned long long)place.extent.fe_length);
	return 0;
}

int main(int count, char **words)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (count >= 5 && strcmp(words[1], "write") == 0)
		return write_until_killed(words[2], strtoull(words[3], NULL, 10),
					  (unsigned)count - 4, words + 4);
	if (count == 4 && strcmp(words[1], "verify") == 0)
		return verify(words[2], words[3]);
	if (count == 5 && (strcmp(words[1], "fill") == 0 || strcmp(words[1], "scan") == 0))
		return go_through(words[2], words[1][0] == 'f', strtoull(words[3], NULL, 10),
				  strtoull(words[4], NULL, 10));
	if (count == 3 && strcmp(words[1], "where") == 0)
		return print_place(words[2]);
	fputs("usage: recorder write|verify|fill|scan|where ...; see recorder.c\n", stderr);
	return 2;
}
