#include <string.h>

#include "app/volume/volume.h"
#include "app/volume/volume_header.h"
#include "app/volume/volume_keyslot.h"
#include "crypto/hash.h"
#include "crypto/luks2_metadata_edit.h"
#include "platform/bytes.h"
#include "platform/entropy.h"

static bool find_free_keyslot(unsigned *number, const struct luks2_metadata *metadata)
{
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++)
		if (!metadata->keyslots[i].exists) {
			*number = i;
			return true;
		}
	return false;
}

/* The lowest place between the headers and the end of the keyslots where an area fits. Policy has
 * found that areas do not overlap and lie within the keyslots, so no sum overflows. */
static bool find_free_area(uint64_t *offset, const struct volume *volume)
{
	const struct luks2_keyslot *keyslots = volume->metadata.keyslots;
	uint64_t begin = 2 * volume->header.header_size;
	uint64_t end = begin + volume->metadata.keyslots_size;
	bool moved = true;

	while (moved && begin + LUKS2_AREA_SIZE <= end) {
		moved = false;
		for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
			uint64_t area_end = keyslots[i].area_offset + keyslots[i].area_size;

			if (!keyslots[i].exists ||
			    keyslots[i].area_offset >= begin + LUKS2_AREA_SIZE || area_end <= begin)
				continue;
			begin = ROUND_UP(area_end, (uint64_t)VOLUME_DISK_ALIGNMENT);
			moved = true;
		}
	}
	*offset = begin;
	return begin + LUKS2_AREA_SIZE <= end;
}

/* Takes the edited text over, if it is still what a reader accepts. */
static enum status adopt_text(struct volume *volume, struct volume_work *work)
{
	TRY(luks2_metadata_parse(&work->metadata, &work->nodes, &work->text));
	volume->text = work->text;
	volume->metadata = work->metadata;
	return OK;
}

static enum status edit_in_keyslot(struct volume_work *work, const struct volume *volume,
				   unsigned number, const struct luks2_keyslot *keyslot,
				   enum volume_keyslot_purpose purpose, unsigned digest)
{
	work->text = volume->text;
	TRY(luks2_metadata_edit_add_keyslot(&work->text, &work->nodes, number, keyslot, digest));
	if (purpose != VOLUME_KEYSLOT_RECOVERY)
		return OK;
	return volume_keyslot_mark_recovery(&work->text, &work->nodes, &volume->metadata, number);
}

static uint64_t mark_of(const uint8_t area[static LUKS2_AREA_SIZE])
{
	struct hash_state state;
	uint8_t digest[HASH_SIZE_MAX];

	hash_init(&state, HASH_SHA256);
	hash_update(&state, area, LUKS2_AREA_SIZE);
	hash_finish(&state, digest);
	return bytes_load_be64(digest) | 1;
}

/* Somebody who has added a keyslot at the same time may have found the same place free. */
static enum status check_new_areas(const struct volume_disk *disk, const struct volume *volume)
{
	SECRET_MEMORY_SCOPE struct secret_memory area = {0};

	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		if (volume->area_marks[i] == 0)
			continue;
		if (area.bytes == NULL)
			TRY(secret_memory_open(&area, LUKS2_AREA_SIZE));
		TRY(volume_disk_read(disk, volume->metadata.keyslots[i].area_offset, area.bytes,
				     LUKS2_AREA_SIZE));
		if (mark_of(area.bytes) != volume->area_marks[i])
			return FAIL_HEADER_CHANGED;
	}
	return OK;
}

enum status volume_add_keyslot(struct volume *volume, unsigned *number_out,
			       const struct volume_keyslot_options *options,
			       const struct secret *volume_key)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	SECRET_MEMORY_SCOPE struct secret_memory area = {0};
	struct luks2_keyslot keyslot;
	struct luks2_layout layout;
	unsigned number;
	uint64_t offset;

	TRY(volume_header_begin_work(&work));
	TRY(volume_check_policy(&layout, volume));
	if (!luks2_keyslot_digest_agrees(&volume->metadata.digests[layout.digest], volume_key))
		return FAIL_DIGEST;
	if (!find_free_keyslot(&number, &volume->metadata) || !find_free_area(&offset, volume))
		return FAIL_KEYSLOTS_FULL;
	TRY(secret_memory_open(&area, LUKS2_AREA_SIZE));
	TRY(volume_keyslot_make(&keyslot, area.bytes, offset, options, volume_key));
	TRY(volume_header_open_unchanged(&disk, work, volume));
	TRY(edit_in_keyslot(work, volume, number, &keyslot, options->purpose, layout.digest));
	TRY(volume_disk_write(&disk, offset, area.bytes, LUKS2_AREA_SIZE));
	TRY(volume_disk_sync(&disk));
	TRY(adopt_text(volume, work));
	volume->area_marks[number] = mark_of(area.bytes);
	*number_out = number;
	return OK;
}

static enum status edit_out_keyslot(struct volume_work *work, const struct volume *volume,
				    unsigned number)
{
	work->text = volume->text;
	TRY(luks2_metadata_edit_remove_keyslot(&work->text, &work->nodes, number));
	for (unsigned i = 0; i < LUKS2_TOKENS; i++) {
		const struct luks2_token *token = &volume->metadata.tokens[i];

		if (token->exists && token->keyslots == 1u << number &&
		    (strcmp(token->type, VOLUME_RECOVERY_TOKEN_TYPE) == 0 ||
		     strcmp(token->type, VAULT_TOKEN_TYPE) == 0))
			TRY(luks2_metadata_edit_remove_token(&work->text, &work->nodes, i));
	}
	return OK;
}

/* With noise, as fresh areas are filled: where a keyslot was is not to be seen. */
static enum status overwrite_area(const struct volume_disk *disk,
				  const struct luks2_keyslot *keyslot)
{
	SECRET_MEMORY_SCOPE struct secret_memory noise = {0};

	if ((keyslot->area_offset | keyslot->area_size) % VOLUME_DISK_ALIGNMENT != 0)
		return FAIL_KEYSLOT_LAYOUT;
	TRY(secret_memory_open(&noise, LUKS2_AREA_SIZE));
	for (uint64_t done = 0; done < keyslot->area_size; done += noise.size) {
		entropy_fill(noise.bytes, noise.size);
		TRY(volume_disk_write(disk, keyslot->area_offset + done, noise.bytes,
				      (size_t)MINIMUM(noise.size, keyslot->area_size - done)));
	}
	return volume_disk_sync(disk);
}

enum status volume_remove_keyslot(struct volume *volume, unsigned number)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	struct luks2_layout layout;

	CHECK(number < LUKS2_KEYSLOTS && volume->metadata.keyslots[number].exists);
	TRY(volume_header_begin_work(&work));
	TRY(volume_check_policy(&layout, volume));
	TRY(luks2_policy_check_keyslot(&volume->metadata.keyslots[number]));
	if ((volume->metadata.digests[layout.digest].keyslots & ~(1u << number)) == 0)
		return FAIL_KEYSLOT_LAST;
	TRY(volume_header_open_unchanged(&disk, work, volume));
	/* Whatever can fail in memory does so while the keyslot is whole. */
	TRY(edit_out_keyslot(work, volume, number));
	TRY(overwrite_area(&disk, &volume->metadata.keyslots[number]));
	volume->area_marks[number] = 0;
	return adopt_text(volume, work);
}

enum status volume_set_vault_token(struct volume *volume, const struct vault_token *token)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	char json[VAULT_TOKEN_JSON_SIZE];
	struct vault_token old;
	unsigned number;
	size_t length;
	enum status status;

	TRY(volume_header_begin_work(&work));
	work->text = volume->text;
	status = vault_token_find(&old, &number, &volume->metadata, &volume->text, &work->nodes);
	if (status == OK) {
		TRY(vault_token_edit(&work->text, &work->nodes, number, token));
		return adopt_text(volume, work);
	}
	if (status != FAIL_NO_VAULT_TOKEN)
		return status;
	if (!volume_keyslot_free_token(&number, &volume->metadata))
		return FAIL_METADATA_FULL;
	TRY(vault_token_encode(json, &length, token));
	TRY(luks2_metadata_edit_put_token(&work->text, &work->nodes, number, json, length));
	return adopt_text(volume, work);
}

enum status volume_commit(struct volume *volume)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	struct luks2_header header = volume->header;
	enum luks2_copy first = LUKS2_PRIMARY;

	TRY(volume_header_begin_work(&work));
	TRY(volume_header_open_unchanged(&disk, work, volume));
	TRY(check_new_areas(&disk, volume));
	if (header.sequence_id == UINT64_MAX ||
	    volume->text.length >= header.header_size - LUKS2_BINARY_SIZE)
		return FAIL_HEADER_FIELDS;
	header.sequence_id++;
	/* If only one copy holds the present state, it is written last. */
	if (work->current.copies[LUKS2_SECONDARY] != VOLUME_COPY_GOOD)
		first = LUKS2_SECONDARY;
	TRY(volume_header_write(&disk, work, first, &header, &volume->text));
	TRY(volume_header_write(&disk, work,
				first == LUKS2_PRIMARY ? LUKS2_SECONDARY : LUKS2_PRIMARY, &header,
				&volume->text));
	memset(volume->area_marks, 0, sizeof(volume->area_marks));
	volume->header = header;
	volume->copies[LUKS2_PRIMARY] = volume->copies[LUKS2_SECONDARY] = VOLUME_COPY_GOOD;
	return OK;
}
