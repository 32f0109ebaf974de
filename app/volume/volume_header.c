#include "app/volume/volume_header.h"

#include <stdlib.h>
#include <string.h>

#include "app/volume/disk_signatures.h"
#include "platform/bytes.h"
#include "platform/entropy.h"

#define SIGNATURES 16

/* What became of reading one copy. */
struct candidate {
	enum status status;
	bool is_luks1;
	bool has_fields;   /* header was decoded */
	bool has_checksum; /* and the checksum is right: somebody meant what stands there */
	struct luks2_header header;
};

enum status volume_header_begin_work(struct volume_work **work)
{
	*work = calloc(1, sizeof(**work));
	return *work != NULL ? OK : FAIL_OUT_OF_MEMORY;
}

void volume_header_end_work(struct volume_work **work)
{
	if (*work == NULL)
		return;
	free((*work)->copy);
	free(*work);
	*work = NULL;
}

static enum status make_room_for_copy(struct volume_work *work, uint64_t size)
{
	if (size <= work->copy_size)
		return OK;
	free(work->copy);
	work->copy_size = 0;
	work->copy = malloc((size_t)size);
	if (work->copy == NULL)
		return FAIL_OUT_OF_MEMORY;
	work->copy_size = (size_t)size;
	return OK;
}

static enum status read_fields(struct candidate *candidate, const struct volume_disk *disk,
			       enum luks2_copy copy, uint64_t offset)
{
	uint8_t binary[LUKS2_BINARY_SIZE] = {0};
	uint64_t left = offset < disk->size_bytes ? disk->size_bytes - offset : 0;
	enum status status;

	if (left > 0)
		TRY(volume_disk_read(disk, offset, binary, (size_t)MINIMUM(left, sizeof(binary))));
	status = luks2_header_decode(&candidate->header, binary, copy, offset);
	candidate->is_luks1 = status == FAIL_LUKS_VERSION && bytes_load_be16(binary + 6) == 1;
	candidate->has_fields = status == OK;
	/* What is not there was read as zeros, and may have caused any other failure. */
	if (status != FAIL_NOT_LUKS && !candidate->is_luks1 && left < sizeof(binary))
		return FAIL_HEADER_TRUNCATED;
	return status;
}

static enum status read_metadata(struct candidate *candidate, struct luks2_text *text,
				 struct luks2_metadata *metadata, struct volume_work *work,
				 const struct volume_disk *disk, uint64_t offset)
{
	size_t size = (size_t)candidate->header.header_size;
	uint64_t end;

	if (!bytes_add(&end, offset, size) || end > disk->size_bytes)
		return FAIL_HEADER_TRUNCATED;
	TRY(make_room_for_copy(work, size));
	TRY(volume_disk_read(disk, offset, work->copy, size));
	TRY(luks2_header_check(work->copy, size));
	candidate->has_checksum = true;
	TRY(luks2_metadata_text(text, work->copy + LUKS2_BINARY_SIZE, size - LUKS2_BINARY_SIZE));
	TRY(luks2_metadata_parse(metadata, &work->nodes, text));
	return metadata->json_size == size - LUKS2_BINARY_SIZE ? OK : FAIL_METADATA_SHAPE;
}

static void read_copy(struct candidate *candidate, struct luks2_text *text,
		      struct luks2_metadata *metadata, struct volume_work *work,
		      const struct volume_disk *disk, enum luks2_copy copy, uint64_t offset)
{
	*candidate = (struct candidate){0};
	candidate->status = read_fields(candidate, disk, copy, offset);
	if (candidate->status == OK)
		candidate->status = read_metadata(candidate, text, metadata, work, disk, offset);
}

/* A good primary says where the secondary stands. Else it may stand at any of its places, and the
 * first that holds a whole one wins; failing that, the first failure that is more than "not there".
 */
static void read_secondary(struct candidate *secondary, struct volume_work *work,
			   const struct volume_disk *disk, const struct candidate *primary)
{
	struct candidate first = {.status = FAIL_NOT_LUKS};

	if (primary->has_fields)
		read_copy(secondary, &work->text, &work->metadata, work, disk, LUKS2_SECONDARY,
			  primary->header.header_size);
	else
		*secondary = first;
	if (secondary->has_checksum || primary->has_checksum)
		return;
	first = *secondary;
	for (unsigned i = 0; i < LUKS2_SECONDARY_OFFSETS; i++) {
		read_copy(secondary, &work->text, &work->metadata, work, disk, LUKS2_SECONDARY,
			  luks2_header_secondary_offset(i));
		if (secondary->has_checksum)
			return;
		if (first.status == FAIL_NOT_LUKS)
			first = *secondary;
	}
	*secondary = first;
}

static bool read_for_probe(const void *context, uint64_t offset, void *bytes, size_t size)
{
	return volume_disk_read(context, offset, bytes, size) == OK;
}

static bool shows_other_signature(const struct volume_disk *disk)
{
	const struct disk_signatures_reader reader = {read_for_probe, disk, disk->size_bytes};
	struct disk_signature signatures[SIGNATURES];
	size_t count = disk_signatures_find(signatures, ARRAY_COUNT(signatures), &reader);

	for (size_t i = 0; i < MINIMUM(count, ARRAY_COUNT(signatures)); i++)
		if (signatures[i].kind != DISK_SIGNATURE_LUKS)
			return true;
	return false;
}

/* The one sentence for two bad copies: what is wrong with content that somebody meant says more
 * than what is wrong with bytes that nobody meant. */
static enum status failure_of_both(const struct candidate *primary,
				   const struct candidate *secondary)
{
	if (primary->has_checksum)
		return primary->status;
	if (secondary->has_checksum)
		return secondary->status;
	if (secondary->status == primary->status ||
	    (secondary->status == FAIL_NOT_LUKS && !primary->has_fields))
		return primary->status;
	if (primary->status == FAIL_DISK_IO || primary->status == FAIL_OUT_OF_MEMORY ||
	    primary->status == FAIL_HEADER_TRUNCATED)
		return primary->status;
	if (secondary->status == FAIL_DISK_IO || secondary->status == FAIL_HEADER_TRUNCATED)
		return secondary->status;
	return FAIL_HEADER_DAMAGED;
}

static bool is_newer(const struct candidate *candidate, const struct candidate *than)
{
	return candidate->has_checksum && candidate->header.sequence_id > than->header.sequence_id;
}

/* Which copy is the volume's; the states of both. */
static enum status judge(enum luks2_copy *winner, enum volume_copy_state states[LUKS2_COPIES],
			 const struct candidate candidates[LUKS2_COPIES],
			 const struct volume_disk *disk)
{
	const struct candidate *primary = &candidates[LUKS2_PRIMARY];
	const struct candidate *secondary = &candidates[LUKS2_SECONDARY];
	enum luks2_copy other;

	if (primary->is_luks1)
		return FAIL_LUKS_VERSION;
	if (primary->status != OK && secondary->status != OK)
		return failure_of_both(primary, secondary);
	*winner = primary->status != OK || (secondary->status == OK && is_newer(secondary, primary))
			  ? LUKS2_SECONDARY
			  : LUKS2_PRIMARY;
	other = *winner == LUKS2_PRIMARY ? LUKS2_SECONDARY : LUKS2_PRIMARY;
	states[*winner] = states[other] = VOLUME_COPY_GOOD;
	if (candidates[other].status == OK) {
		if (is_newer(&candidates[*winner], &candidates[other]))
			states[other] = VOLUME_COPY_OLD;
		return OK;
	}
	if (is_newer(&candidates[other], &candidates[*winner]))
		return candidates[other].status;
	states[other] = VOLUME_COPY_BAD;
	return shows_other_signature(disk) ? FAIL_HEADER_AMBIGUOUS : OK;
}

enum status volume_header_read(struct volume *volume, struct volume_work *work,
			       const struct volume_disk *disk)
{
	struct candidate candidates[LUKS2_COPIES];
	enum luks2_copy winner;
	uint64_t end;

	read_copy(&candidates[LUKS2_PRIMARY], &volume->text, &volume->metadata, work, disk,
		  LUKS2_PRIMARY, 0);
	read_secondary(&candidates[LUKS2_SECONDARY], work, disk, &candidates[LUKS2_PRIMARY]);
	TRY(judge(&winner, volume->copies, candidates, disk));
	if (winner == LUKS2_SECONDARY) {
		volume->text = work->text;
		volume->metadata = work->metadata;
	}
	volume->header = candidates[winner].header;
	volume->disk_size_bytes = disk->size_bytes;
	volume->is_read_only = disk->is_read_only;
	if (!bytes_add(&end, 2 * volume->header.header_size, volume->metadata.keyslots_size) ||
	    end > disk->size_bytes)
		return FAIL_HEADER_TRUNCATED;
	return OK;
}

enum status volume_header_write(const struct volume_disk *disk, struct volume_work *work,
				enum luks2_copy copy, const struct luks2_header *header,
				const struct luks2_text *text)
{
	uint8_t salt[LUKS2_HEADER_SALT_SIZE];
	size_t size = (size_t)header->header_size;

	TRY(make_room_for_copy(work, size));
	CHECK(text->length < size - LUKS2_BINARY_SIZE);
	memset(work->copy, 0, size);
	memcpy(work->copy + LUKS2_BINARY_SIZE, text->bytes, text->length);
	entropy_fill(salt, sizeof(salt));
	luks2_header_encode(work->copy, header, copy, salt);
	/* The checksum covers all of it, so its parts need no order among them. */
	TRY(volume_disk_write(disk, copy == LUKS2_PRIMARY ? 0 : size, work->copy, size));
	return volume_disk_sync(disk);
}

enum status volume_header_open_unchanged(struct volume_disk *disk_out, struct volume_work *work,
					 const struct volume *volume)
{
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};

	TRY(volume_disk_open(&disk, volume->disk_path, VOLUME_DISK_CHANGE));
	TRY(volume_header_read(&work->current, work, &disk));
	if (work->current.header.sequence_id != volume->header.sequence_id ||
	    strcmp(work->current.header.uuid, volume->header.uuid) != 0 ||
	    work->current.header.header_size != volume->header.header_size)
		return FAIL_HEADER_CHANGED;
	*disk_out = disk;
	disk = (struct volume_disk){.lock_fd = -1};
	return OK;
}
