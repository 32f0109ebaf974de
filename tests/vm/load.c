/* A load for the VM's disks that verifies itself: load FILE THREADS MIB STOP-FILE
 *
 * Each thread writes blocks of its own part of FILE at random, with O_DIRECT, each time with a
 * content that says which block it is of and in which turn it was written, now and then makes them
 * durable, and reads back others. When STOP-FILE appears, everything that was written is read once
 * more. Then one line tells what was done, and the longest time that one operation took. The first
 * error or wrong byte ends it with exit status 1 and a line that says so. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_SIZE 16384
#define WORDS (BLOCK_SIZE / sizeof(uint64_t))
#define STACK_SIZE (64 * 1024)

struct part {
	pthread_t thread;
	uint64_t first_block;
	uint64_t block_count;
	uint32_t *turns; /* how often each block was written */
	uint64_t *words;
	uint64_t random;
	uint64_t written;
	uint64_t verified;
	uint64_t longest_ms;
};

static int file_fd;
static const char *stop_path;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t mix(uint64_t value)
{
	value ^= value >> 33;
	value *= 0xff51afd7ed558ccdull;
	value ^= value >> 33;
	value *= 0xc4ceb9fe1a85ec53ull;
	return value ^ value >> 33;
}

static uint64_t next_random(struct part *part)
{
	part->random += 0x9e3779b97f4a7c15ull;
	return mix(part->random);
}

static uint64_t word_of(uint64_t block, uint32_t turn, size_t index)
{
	return mix(block << 32 | turn) + index;
}

static void fail(const char *what, uint64_t block)
{
	printf("FAILED: %s of block %llu: %s\n", what, (unsigned long long)block, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void note_time(struct part *part, uint64_t began_ms)
{
	uint64_t duration_ms = now_ms() - began_ms;

	if (duration_ms > part->longest_ms)
		part->longest_ms = duration_ms;
}

static void write_block(struct part *part, uint64_t index)
{
	uint64_t block = part->first_block + index;
	uint64_t began_ms = now_ms();

	part->turns[index]++;
	for (size_t i = 0; i < WORDS; i++)
		part->words[i] = word_of(block, part->turns[index], i);
	errno = 0;
	if (pwrite(file_fd, part->words, BLOCK_SIZE, (off_t)(block * BLOCK_SIZE)) != BLOCK_SIZE)
		fail("writing", block);
	note_time(part, began_ms);
	part->written += BLOCK_SIZE;
}

static void verify_block(struct part *part, uint64_t index)
{
	uint64_t block = part->first_block + index;
	uint64_t began_ms = now_ms();

	errno = 0;
	if (pread(file_fd, part->words, BLOCK_SIZE, (off_t)(block * BLOCK_SIZE)) != BLOCK_SIZE)
		fail("reading", block);
	note_time(part, began_ms);
	for (size_t i = 0; i < WORDS; i++)
		if (part->words[i] != word_of(block, part->turns[index], i))
			fail("a wrong byte", block);
	part->verified += BLOCK_SIZE;
}

static void *run(void *argument)
{
	struct part *part = argument;

	while (access(stop_path, F_OK) != 0) {
		uint64_t index = next_random(part) % part->block_count;
		uint64_t began_ms = now_ms();

		if (part->turns[index] == 0 || next_random(part) % 2 == 0)
			write_block(part, index);
		else
			verify_block(part, index);
		if (next_random(part) % 64 == 0 && fdatasync(file_fd) != 0)
			fail("making durable", index);
		note_time(part, began_ms);
	}
	for (uint64_t index = 0; index < part->block_count; index++)
		if (part->turns[index] > 0)
			verify_block(part, index);
	return NULL;
}

static void start(struct part *part, uint64_t number, uint64_t block_count)
{
	pthread_attr_t attributes;
	void *words;

	part->first_block = number * block_count;
	part->block_count = block_count;
	part->random = mix(number + 1);
	part->turns = calloc(block_count, sizeof(*part->turns));
	if (part->turns == NULL || posix_memalign(&words, 4096, BLOCK_SIZE) != 0 ||
	    pthread_attr_init(&attributes) != 0 ||
	    pthread_attr_setstacksize(&attributes, STACK_SIZE) != 0)
		fail("memory", 0);
	part->words = words;
	if (pthread_create(&part->thread, &attributes, run, part) != 0)
		fail("a thread", 0);
}

int main(int argc, char *argv[])
{
	uint64_t written = 0, verified = 0, longest_ms = 0, thread_count, size;
	struct part *parts;

	if (argc != 5)
		return 2;
	thread_count = strtoull(argv[2], NULL, 10);
	size = strtoull(argv[3], NULL, 10) << 20;
	stop_path = argv[4];
	file_fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT, 0600);
	parts = calloc(thread_count, sizeof(*parts));
	if (file_fd < 0 || parts == NULL || posix_fallocate(file_fd, 0, (off_t)size) != 0)
		fail("the file", 0);
	for (uint64_t i = 0; i < thread_count; i++)
		start(&parts[i], i, size / BLOCK_SIZE / thread_count);
	for (uint64_t i = 0; i < thread_count; i++) {
		pthread_join(parts[i].thread, NULL);
		written += parts[i].written;
		verified += parts[i].verified;
		if (parts[i].longest_ms > longest_ms)
			longest_ms = parts[i].longest_ms;
	}
	printf("written %llu verified %llu longest %llu\n", (unsigned long long)written,
	       (unsigned long long)verified, (unsigned long long)longest_ms);
	return 0;
}
