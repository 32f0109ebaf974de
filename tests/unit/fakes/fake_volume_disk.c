/* A disk in memory, for #include in a test: takes the place of app/volume/volume_disk.c.
 *
 * What was written since the last sync is not safe: when the power is cut, any of its 512-byte
 * pieces may be on the disk and any may not. Counts its calls, of which one can be made to fail or
 * to be the one at which the power goes. */
#include <stdlib.h>
#include <string.h>

#include "app/volume/volume_disk.h"
#include "tests/unit/test.h"

#define FAKE_DISK_SIZE (18u * 1024 * 1024)
#define FAKE_DISK_PIECES (FAKE_DISK_SIZE / 512)

struct fake_volume_disk {
	uint8_t *now;  /* what reads see */
	uint8_t *safe; /* what is left after a power cut, at least */
	bool dirty[FAKE_DISK_PIECES];
	uint64_t size_bytes;
	uint32_t block_size;
	bool is_read_only;
	bool is_claimed;     /* by somebody else */
	bool is_locked;      /* by somebody else */
	unsigned open_count; /* at this moment */
	unsigned call_count; /* since fake_disk_arm */
	unsigned write_count;
	unsigned first_write;        /* the number of that call; 0: none yet */
	void (*before_change)(void); /* somebody else, just before the exclusive lock is had */
	unsigned fail_at;            /* this call fails; 0: none */
	enum status failure;
	unsigned cut_at; /* at this call the power goes; 0: never */
	bool is_off;
	uint64_t cut_seed;   /* which pieces arrive */
	bool reads_are_free; /* they are not counted, and neither fail nor cut the power */
	const uint8_t *file; /* what is read by the path "file", which nothing happens to */
	uint64_t file_size_bytes;
};

static struct fake_volume_disk fake_disk;

static void fake_disk_reset(void)
{
	if (fake_disk.now == NULL) {
		fake_disk.now = malloc(FAKE_DISK_SIZE);
		fake_disk.safe = malloc(FAKE_DISK_SIZE);
	}
	CHECK(fake_disk.now != NULL && fake_disk.safe != NULL);
	fake_disk = (struct fake_volume_disk){
		.now = fake_disk.now,
		.safe = fake_disk.safe,
		.size_bytes = FAKE_DISK_SIZE,
		.block_size = 512,
	};
	memset(fake_disk.now, 0, FAKE_DISK_SIZE);
	memset(fake_disk.safe, 0, FAKE_DISK_SIZE);
}

/* From here on calls are counted. */
static void fake_disk_arm(unsigned fail_at, unsigned cut_at, uint64_t cut_seed)
{
	fake_disk.call_count = 0;
	fake_disk.write_count = 0;
	fake_disk.first_write = 0;
	fake_disk.fail_at = fail_at;
	fake_disk.failure = FAIL_DISK_IO;
	fake_disk.cut_at = cut_at;
	fake_disk.cut_seed = cut_seed;
}

static bool fake_disk_arrives(size_t piece)
{
	uint64_t x = (fake_disk.cut_seed + piece) * 0x9e3779b97f4a7c15u;

	/* 0: nothing arrives, 1: everything does, 2 and 3: what stands before or behind the
	 * middle of an area, else at random. */
	switch (fake_disk.cut_seed) {
	case 0: return false;
	case 1: return true;
	case 2: return piece % 128 < 64;
	case 3: return piece % 128 >= 64;
	default: return ((x ^ x >> 29) * 0xbf58476d1ce4e5b9u >> 63) != 0;
	}
}

/* The power comes back: what is on the disk is now all there is. */
static void fake_disk_reboot(void)
{
	for (size_t piece = 0; piece < FAKE_DISK_PIECES; piece++) {
		if (!fake_disk.dirty[piece])
			continue;
		memcpy(fake_disk_arrives(piece) ? fake_disk.safe + piece * 512
						: fake_disk.now + piece * 512,
		       fake_disk_arrives(piece) ? fake_disk.now + piece * 512
						: fake_disk.safe + piece * 512,
		       512);
		fake_disk.dirty[piece] = false;
	}
	fake_disk.is_off = false;
	fake_disk_arm(0, 0, 0);
}

static enum status fake_disk_call(void)
{
	fake_disk.call_count++;
	if (fake_disk.call_count == fake_disk.cut_at)
		fake_disk.is_off = true;
	if (fake_disk.is_off)
		return FAIL_DISK_IO;
	return fake_disk.call_count == fake_disk.fail_at ? fake_disk.failure : OK;
}

static bool fake_disk_is_file(const char *path)
{
	return fake_disk.file != NULL && strcmp(path, "file") == 0;
}

enum status volume_disk_open(struct volume_disk *disk, const char *path,
			     enum volume_disk_access access)
{
	if (fake_disk_is_file(path)) {
		CHECK(access == VOLUME_DISK_READ);
		*disk = (struct volume_disk){.backing = {.path = path},
					     .lock_fd = -1,
					     .size_bytes = fake_disk.file_size_bytes,
					     .block_size = 512};
		return OK;
	}
	TRY(fake_disk_call());
	if (fake_disk.is_locked)
		return FAIL_HEADER_LOCKED;
	if (fake_disk.is_read_only && access != VOLUME_DISK_READ)
		return FAIL_DISK_READ_ONLY;
	if (fake_disk.is_claimed && access == VOLUME_DISK_CLAIM)
		return FAIL_DISK_IN_USE;
	if (fake_disk.before_change != NULL && access == VOLUME_DISK_CHANGE)
		fake_disk.before_change();
	/* A second lock by the same process would wait for itself. */
	CHECK(fake_disk.open_count == 0);
	fake_disk.open_count++;
	*disk = (struct volume_disk){
		.backing = {.path = path, .is_writable = access != VOLUME_DISK_READ},
		.lock_fd = -1,
		.size_bytes = fake_disk.size_bytes,
		.block_size = fake_disk.block_size,
		.is_read_only = fake_disk.is_read_only,
		.is_open = true,
	};
	return OK;
}

void volume_disk_close(struct volume_disk *disk)
{
	if (!disk->is_open)
		return;
	CHECK(fake_disk.open_count == 1);
	fake_disk.open_count--;
	*disk = (struct volume_disk){.lock_fd = -1};
}

enum status volume_disk_read(const struct volume_disk *disk, uint64_t offset, void *bytes,
			     size_t size)
{
	if (!disk->is_open && fake_disk_is_file(disk->backing.path)) {
		if (offset > fake_disk.file_size_bytes || size > fake_disk.file_size_bytes - offset)
			return FAIL_DISK_IO;
		memcpy(bytes, fake_disk.file + offset, size);
		return OK;
	}
	CHECK(disk->is_open);
	if (!fake_disk.reads_are_free)
		TRY(fake_disk_call());
	if (offset > fake_disk.size_bytes || size > fake_disk.size_bytes - offset)
		return FAIL_DISK_IO;
	memcpy(bytes, fake_disk.now + offset, size);
	return OK;
}

static enum status fake_disk_write(const struct volume_disk *disk, uint64_t offset,
				   const uint8_t *bytes, uint64_t size)
{
	enum status status;
	uint64_t end = offset + size;

	CHECK(disk->is_open && disk->backing.is_writable);
	CHECK(offset % VOLUME_DISK_ALIGNMENT == 0 && end <= fake_disk.size_bytes);
	fake_disk.write_count++;
	if (fake_disk.first_write == 0)
		fake_disk.first_write = fake_disk.call_count + 1;
	status = fake_disk_call();
	/* The power may go while the write is under way; one that fails may have written a part. */
	if (fake_disk.is_off && fake_disk.call_count != fake_disk.cut_at)
		return status;
	if (status != OK)
		end = offset + size / 2 / 512 * 512;
	for (uint64_t at = offset; at < end; at += 512) {
		size_t piece = (size_t)MINIMUM(end - at, 512);

		if (bytes != NULL)
			memcpy(fake_disk.now + at, bytes + (at - offset), piece);
		else
			memset(fake_disk.now + at, 0, piece);
		fake_disk.dirty[at / 512] = true;
	}
	return status;
}

enum status volume_disk_write(const struct volume_disk *disk, uint64_t offset, const void *bytes,
			      size_t size)
{
	CHECK(size % VOLUME_DISK_ALIGNMENT == 0);
	return fake_disk_write(disk, offset, bytes, size);
}

enum status volume_disk_zero(const struct volume_disk *disk, uint64_t offset, uint64_t size)
{
	return fake_disk_write(disk, offset, NULL, size);
}

enum status volume_disk_sync(const struct volume_disk *disk)
{
	CHECK(disk->is_open);
	TRY(fake_disk_call());
	for (size_t piece = 0; piece < FAKE_DISK_PIECES; piece++)
		if (fake_disk.dirty[piece]) {
			memcpy(fake_disk.safe + piece * 512, fake_disk.now + piece * 512, 512);
			fake_disk.dirty[piece] = false;
		}
	return OK;
}
