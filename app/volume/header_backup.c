#include "app/volume/header_backup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/volume/disk_probe.h"
#include "app/volume/volume_header.h"
#include "platform/file.h"

/* Twice the largest header and the largest room for keyslots that the format knows. */
#define IMAGE_SIZE_MAX (2ull * LUKS2_HEADER_SIZE_MAX + 128ull * 1024 * 1024)
#define PIECE_SIZE (64u * 1024)

struct image {
	uint8_t *bytes;
	size_t size;
};

static void image_free(struct image *image)
{
	free(image->bytes);
}

#define IMAGE_SCOPE __attribute__((cleanup(image_free)))

static enum status open_as_loaded(struct volume_disk *disk, struct volume_work *work,
				  const struct volume *volume)
{
	TRY(volume_disk_open(disk, volume->disk_path, VOLUME_DISK_READ));
	TRY(volume_header_read(&work->current, work, disk));
	return work->current.header.sequence_id == volume->header.sequence_id &&
			       strcmp(work->current.header.uuid, volume->header.uuid) == 0
		       ? OK
		       : FAIL_HEADER_CHANGED;
}

/* Everything before the data, from a disk or file that still holds what was loaded. */
static enum status image_read(struct image *image, struct volume_work *work,
			      const struct volume *volume)
{
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	uint64_t size = 2 * volume->header.header_size + volume->metadata.keyslots_size;

	if (size > IMAGE_SIZE_MAX)
		return FAIL_KEYSLOT_LAYOUT;
	image->bytes = malloc((size_t)size);
	if (image->bytes == NULL)
		return FAIL_OUT_OF_MEMORY;
	image->size = (size_t)size;
	TRY(open_as_loaded(&disk, work, volume));
	return volume_disk_read(&disk, 0, image->bytes, image->size);
}

enum status header_backup_save(const struct volume *volume, const char *path)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	IMAGE_SCOPE struct image image = {0};
	struct luks2_layout layout;

	TRY(volume_header_begin_work(&work));
	TRY(volume_check_policy(&layout, volume));
	TRY(image_read(&image, work, volume));
	for (enum luks2_copy copy = LUKS2_PRIMARY; copy < LUKS2_COPIES; copy++)
		if (work->current.copies[copy] != VOLUME_COPY_GOOD)
			return FAIL_DISK_READ_ONLY;
	return file_create(path, image.bytes, image.size);
}

static bool is_same_state(const struct volume *a, const struct volume *b)
{
	return a->header.sequence_id == b->header.sequence_id &&
	       strcmp(a->header.uuid, b->header.uuid) == 0;
}

static enum status copy_range(const struct file_draft *draft, const struct volume_disk *disk,
			      uint64_t offset, uint64_t size)
{
	uint8_t piece[PIECE_SIZE];

	for (uint64_t done = 0; done < size;) {
		size_t part = (size_t)MINIMUM(sizeof(piece), size - done);

		TRY(volume_disk_read(disk, offset + done, piece, part));
		TRY(file_draft_write(draft, offset + done, piece, part));
		done += part;
	}
	return OK;
}

static enum status copy_used(const struct file_draft *draft, const struct volume_disk *disk,
			     const struct volume *volume)
{
	TRY(copy_range(draft, disk, 0, 2 * volume->header.header_size));
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		const struct luks2_keyslot *keyslot = &volume->metadata.keyslots[i];

		if (keyslot->exists)
			TRY(copy_range(draft, disk, keyslot->area_offset, keyslot->area_size));
	}
	return OK;
}

enum status header_backup_keep(const struct volume *volume, const char *folder)
{
	static struct volume kept; /* too large for a stack */
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	FILE_DRAFT_SCOPE struct file_draft draft = {.fd = -1};
	char path[VOLUME_PATH_SIZE];
	struct luks2_layout layout;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s.header", folder, volume->header.uuid) >=
	    sizeof(path))
		return FAIL_FILE;
	if (file_exists(path) && volume_load_unrepaired(&kept, path) == OK &&
	    is_same_state(&kept, volume))
		return OK;
	TRY(file_make_folder(folder));
	TRY(volume_header_begin_work(&work));
	TRY(volume_check_policy(&layout, volume));
	/* Under one lock, so that nobody changes one part after the other was read. */
	TRY(open_as_loaded(&disk, work, volume));
	TRY(file_draft_open(&draft, path));
	TRY(copy_used(&draft, &disk, volume));
	return file_draft_finish(&draft,
				 2 * volume->header.header_size + volume->metadata.keyslots_size);
}

struct restoration {
	struct volume backup;
	struct volume old;
	struct image image;
	struct volume_disk disk;
	struct volume_work *work;
	struct header_backup_result *result;
};

#define RESTORATION_SCOPE __attribute__((cleanup(restoration_end)))

static void restoration_end(struct restoration **restoration)
{
	if (*restoration == NULL)
		return;
	volume_disk_close(&(*restoration)->disk);
	volume_header_end_work(&(*restoration)->work);
	image_free(&(*restoration)->image);
	free(*restoration);
}

/* Users and other signatures; LUKS is looked at more closely than a probe can. */
static enum status look_at_disk(struct restoration *restoration, const char *disk_path, bool force)
{
	struct header_backup_result *result = restoration->result;
	struct disk_probe probe;
	size_t kept = 0;

	TRY(disk_probe(&probe, disk_path));
	for (size_t i = 0; i < probe.signature_count; i++)
		if (probe.signatures[i].kind != DISK_SIGNATURE_LUKS)
			probe.signatures[kept++] = probe.signatures[i];
	probe.signature_count = kept;
	if (probe.user[0] != '\0')
		snprintf(result->detail, sizeof(result->detail), "%s", probe.user);
	else
		disk_probe_describe(&probe, result->detail, sizeof(result->detail));
	return disk_probe_may_overwrite(&probe, force);
}

static enum status expect_uuid(struct restoration *restoration, const struct luks2_header *header)
{
	if (strcmp(header->uuid, restoration->backup.header.uuid) == 0)
		return OK;
	snprintf(restoration->result->detail, sizeof(restoration->result->detail),
		 "uuid %s on the disk, %s in the backup", header->uuid,
		 restoration->backup.header.uuid);
	return FAIL_BACKUP_FOREIGN;
}

/* Of a header that cannot be read as a whole, what can be read must not speak against it. */
static enum status compare_fragments(struct restoration *restoration)
{
	const uint64_t offsets[LUKS2_COPIES] = {0, restoration->backup.header.header_size};

	for (enum luks2_copy copy = LUKS2_PRIMARY; copy < LUKS2_COPIES; copy++) {
		uint8_t binary[LUKS2_BINARY_SIZE];
		struct luks2_header header;

		TRY(volume_disk_read(&restoration->disk, offsets[copy], binary, sizeof(binary)));
		if (luks2_header_decode(&header, binary, copy, offsets[copy]) == OK)
			TRY(expect_uuid(restoration, &header));
	}
	return OK;
}

static enum status compare_whole(struct restoration *restoration, bool force)
{
	const struct volume *old = &restoration->old, *backup = &restoration->backup;
	struct header_backup_result *result = restoration->result;

	result->had_header = true;
	result->old_sequence_id = old->header.sequence_id;
	TRY(expect_uuid(restoration, &old->header));
	if (old->header.header_size != backup->header.header_size ||
	    old->metadata.keyslots_size != backup->metadata.keyslots_size ||
	    old->metadata.segments[0].offset != backup->metadata.segments[0].offset) {
		snprintf(result->detail, sizeof(result->detail),
			 "data at %llu on the disk, at %llu in the backup",
			 (unsigned long long)old->metadata.segments[0].offset,
			 (unsigned long long)backup->metadata.segments[0].offset);
		return FAIL_BACKUP_FOREIGN;
	}
	/* Half of the data is under another key: only the header that is there knows which half. */
	if (old->metadata.requirement == LUKS2_REQUIREMENT_REENCRYPTION)
		return FAIL_REENCRYPTION;
	if (old->header.sequence_id <= backup->header.sequence_id)
		return OK;
	snprintf(result->detail, sizeof(result->detail),
		 "sequence id %llu on the disk, %llu in the backup",
		 (unsigned long long)old->header.sequence_id,
		 (unsigned long long)backup->header.sequence_id);
	if (old->header.sequence_id == UINT64_MAX)
		return FAIL_HEADER_FIELDS;
	result->new_sequence_id = old->header.sequence_id + 1;
	return force ? OK : FAIL_BACKUP_OLDER;
}

static bool is_one_of(enum status status, const enum status *set, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (set[i] == status)
			return true;
	return false;
}

static enum status compare_with_disk(struct restoration *restoration, bool force)
{
	/* What a restoration is for; and what somebody meant, though byok cannot read it. */
	static const enum status damage[] = {FAIL_NOT_LUKS, FAIL_HEADER_DAMAGED, FAIL_HEADER_FIELDS,
					     FAIL_HEADER_TRUNCATED, FAIL_HEADER_AMBIGUOUS};
	static const enum status meant[] = {FAIL_METADATA_SYNTAX, FAIL_METADATA_SHAPE,
					    FAIL_METADATA_TOO_LARGE};
	struct luks2_layout layout;
	enum status status;

	restoration->backup.disk_size_bytes = restoration->disk.size_bytes;
	TRY(volume_check_policy(&layout, &restoration->backup));
	status = volume_header_read(&restoration->old, restoration->work, &restoration->disk);
	if (status == OK)
		return compare_whole(restoration, force);
	if (!is_one_of(status, damage, ARRAY_COUNT(damage)) &&
	    !is_one_of(status, meant, ARRAY_COUNT(meant)))
		return status;
	TRY(compare_fragments(restoration));
	return force || is_one_of(status, damage, ARRAY_COUNT(damage)) ? OK : status;
}

/* What is the same already is not written. */
static enum status write_areas(const struct restoration *restoration)
{
	uint8_t present[PIECE_SIZE];
	const struct image *image = &restoration->image;
	size_t at = (size_t)(2 * restoration->backup.header.header_size);

	while (at < image->size) {
		size_t size = MINIMUM(sizeof(present), image->size - at);

		TRY(volume_disk_read(&restoration->disk, at, present, size));
		if (!secret_equal(present, image->bytes + at, size))
			TRY(volume_disk_write(&restoration->disk, at, image->bytes + at, size));
		at += size;
	}
	return volume_disk_sync(&restoration->disk);
}

static enum status write_all(const struct restoration *restoration)
{
	struct luks2_header header = restoration->backup.header;

	header.sequence_id = restoration->result->new_sequence_id;
	TRY(write_areas(restoration));
	TRY(volume_header_write(&restoration->disk, restoration->work, LUKS2_SECONDARY, &header,
				&restoration->backup.text));
	return volume_header_write(&restoration->disk, restoration->work, LUKS2_PRIMARY, &header,
				   &restoration->backup.text);
}

enum status header_backup_restore(struct header_backup_result *result, const char *disk_path,
				  const char *path, bool force)
{
	RESTORATION_SCOPE struct restoration *restoration = calloc(1, sizeof(*restoration));

	*result = (struct header_backup_result){0};
	if (restoration == NULL)
		return FAIL_OUT_OF_MEMORY;
	restoration->result = result;
	restoration->disk.lock_fd = -1;
	TRY(volume_header_begin_work(&restoration->work));
	TRY(volume_load_unrepaired(&restoration->backup, path));
	TRY(image_read(&restoration->image, restoration->work, &restoration->backup));
	result->new_sequence_id = restoration->backup.header.sequence_id;
	TRY(look_at_disk(restoration, disk_path, force));
	TRY(volume_disk_open(&restoration->disk, disk_path, VOLUME_DISK_CLAIM));
	result->detail[0] = '\0';
	TRY(compare_with_disk(restoration, force));
	return write_all(restoration);
}
