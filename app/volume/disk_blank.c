#include "app/volume/disk_blank.h"

#include <stdlib.h>

#include "app/volume/volume.h"
#include "io/backing_disk.h"
#include "platform/bytes.h"
#include "platform/entropy.h"

#define PIECE_SIZE ((size_t)1024 * 1024)
#define SAMPLE_SIZE 4096u
#define STRIPE_SIZE ((uint64_t)16 * 1024 * 1024)
#define BEGIN_SIZE (16 * STRIPE_SIZE)
#define SMALL_SIZE ((uint64_t)4 * 1024 * 1024 * 1024)

struct reading {
	const struct backing_disk *disk;
	uint8_t *piece;
	uint64_t *place;
	_Atomic uint64_t *done_bytes;
};

static enum status check_piece(const struct reading *reading, uint64_t offset, size_t size)
{
	TRY(backing_disk_read(reading->disk, offset, reading->piece, size));
	for (size_t at = 0; at < size; at += SAMPLE_SIZE) {
		*reading->place = offset + at;
		if (!bytes_are_zero(reading->piece + at, MINIMUM(size - at, SAMPLE_SIZE)))
			return FAIL_DISK_NOT_BLANK;
	}
	return OK;
}

static enum status check_all(const struct reading *reading, uint64_t offset, uint64_t end)
{
	for (; offset < end; offset += PIECE_SIZE) {
		atomic_store(reading->done_bytes, offset);
		TRY(check_piece(reading, offset, (size_t)MINIMUM(end - offset, PIECE_SIZE)));
	}
	return OK;
}

static enum status check_sample(const struct reading *reading, uint64_t offset, uint64_t end)
{
	for (; offset < end; offset += STRIPE_SIZE) {
		uint32_t block = entropy_u32() % (uint32_t)(STRIPE_SIZE / SAMPLE_SIZE);

		atomic_store(reading->done_bytes, offset);
		TRY(check_piece(reading, offset + (uint64_t)block * SAMPLE_SIZE, SAMPLE_SIZE));
	}
	return OK;
}

static enum status check_disk(const struct reading *reading, enum disk_blank_care care)
{
	uint64_t size = reading->disk->size_bytes, begin = 0;

	if (size >= VOLUME_MARK_SIZE) {
		TRY(backing_disk_read(reading->disk, 0, reading->piece, VOLUME_MARK_SIZE));
		if (volume_create_was_cut(reading->piece))
			begin = VOLUME_DATA_OFFSET;
	}
	if (care == DISK_BLANK_SAMPLE && size > SMALL_SIZE) {
		uint64_t end = (size / STRIPE_SIZE - 1) * STRIPE_SIZE;

		TRY(check_all(reading, begin, BEGIN_SIZE));
		TRY(check_sample(reading, BEGIN_SIZE, end));
		begin = end;
	}
	return check_all(reading, begin, size);
}

enum status disk_blank_prove(uint64_t *place, const char *disk_path, enum disk_blank_care care,
			     _Atomic uint64_t *done_bytes)
{
	struct backing_disk disk;
	struct reading reading = {&disk, NULL, place, done_bytes};
	enum status status = FAIL_OUT_OF_MEMORY;

	*place = 0;
	TRY(backing_disk_open(&disk, disk_path, BACKING_DISK_LOOK));
	reading.piece = aligned_alloc(BACKING_DISK_ALIGNMENT, PIECE_SIZE);
	if (reading.piece != NULL)
		status = check_disk(&reading, care);
	atomic_store(done_bytes, disk.size_bytes);
	free(reading.piece);
	backing_disk_close(&disk);
	return status;
}
