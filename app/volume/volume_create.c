#include <stdio.h>
#include <string.h>

#include "app/volume/volume.h"
#include "app/volume/volume_header.h"
#include "app/volume/volume_keyslot.h"
#include "app/volume_name.h"
#include "crypto/luks2_metadata_edit.h"
#include "platform/bytes.h"
#include "platform/entropy.h"

#define HEADER_SIZE LUKS2_HEADER_SIZE_DEFAULT
#define KEYSLOTS_OFFSET (2 * HEADER_SIZE)
#define KEYSLOTS_SIZE (VOLUME_DATA_OFFSET - KEYSLOTS_OFFSET)
#define DISK_END_SIZE (1024u * 1024)
#define DIGEST_ITERATIONS 1000 /* the volume key has full entropy; readers insist on so many */
#define SUBSYSTEM "byok"
#define PIECE_SIZE (64u * 1024)
#define MARK "byok: a volume was being made here\n"

_Static_assert(KEYSLOTS_OFFSET + (uint64_t)LUKS2_KEYSLOTS * LUKS2_AREA_SIZE <= VOLUME_DATA_OFFSET,
	       "every keyslot has an area");
_Static_assert(VOLUME_NAME_LENGTH_MAX + 1 == VOLUME_NAME_SIZE, "as the check allows");
_Static_assert(VOLUME_NAME_SIZE <= LUKS2_LABEL_SIZE, "the name is the label");

/* RFC 4122 §4.4: random, but for the six bits that say so. */
static void make_uuid(char text[static LUKS2_UUID_SIZE])
{
	uint8_t b[16];

	entropy_fill(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(text, LUKS2_UUID_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
}

static void make_volume_key(struct secret *volume_key)
{
	entropy_fill(volume_key->bytes, LUKS2_VOLUME_KEY_SIZE);
	volume_key->size = LUKS2_VOLUME_KEY_SIZE;
}

static enum status make_metadata(struct luks2_text *text, const struct secret *volume_key,
				 uint32_t sector_size)
{
	struct luks2_digest digest = {
		.exists = true,
		.is_pbkdf2 = true,
		.hash = HASH_SHA256,
		.iterations = DIGEST_ITERATIONS,
	};

	entropy_fill(digest.salt, sizeof(digest.salt));
	luks2_keyslot_digest_make(&digest, volume_key);
	return luks2_metadata_edit_create(text, HEADER_SIZE - LUKS2_BINARY_SIZE, KEYSLOTS_SIZE,
					  VOLUME_DATA_OFFSET, sector_size, &digest);
}

/* Both in memory: the areas one behind the other, and the text that names them. */
static enum status make_keyslots(uint8_t *areas, struct volume_work *work,
				 const struct volume_create_options *options,
				 const struct secret *volume_key)
{
	for (unsigned i = 0; i < options->keyslot_count; i++) {
		uint64_t offset = (uint64_t)i * LUKS2_AREA_SIZE;
		struct luks2_keyslot keyslot;

		TRY(volume_keyslot_make(&keyslot, areas + offset, KEYSLOTS_OFFSET + offset,
					&options->keyslots[i], volume_key));
		TRY(luks2_metadata_edit_add_keyslot(&work->text, &work->nodes, i, &keyslot, 0));
	}
	return OK;
}

static enum status make_tokens(struct volume_work *work,
			       const struct volume_create_options *options)
{
	char json[VAULT_TOKEN_JSON_SIZE];
	size_t length;

	if (options->vault_token != NULL) {
		TRY(vault_token_encode(json, &length, options->vault_token));
		TRY(luks2_metadata_edit_put_token(&work->text, &work->nodes, 0, json, length));
	}
	for (unsigned i = 0; i < options->keyslot_count; i++) {
		if (options->keyslots[i].purpose != VOLUME_KEYSLOT_RECOVERY)
			continue;
		TRY(luks2_metadata_parse(&work->metadata, &work->nodes, &work->text));
		TRY(volume_keyslot_mark_recovery(&work->text, &work->nodes, &work->metadata, i));
	}
	return luks2_metadata_parse(&work->metadata, &work->nodes, &work->text);
}

static enum status check_options(const struct volume_create_options *options)
{
	CHECK(options->keyslot_count > 0);
	TRY(volume_name_check(options->name));
	if (options->keyslot_count > LUKS2_KEYSLOTS)
		return FAIL_KEYSLOTS_FULL;
	if (options->sector_size != 0 && options->sector_size != 512 &&
	    options->sector_size != 4096)
		return FAIL_DISK_GEOMETRY;
	return OK;
}

bool volume_create_was_cut(const uint8_t first_sector[static VOLUME_MARK_SIZE])
{
	_Static_assert(sizeof(MARK) <= VOLUME_MARK_SIZE, "must fit");
	return strncmp((const char *)first_sector, MARK, sizeof(MARK)) == 0 &&
	       bytes_are_zero(first_sector + sizeof(MARK), VOLUME_MARK_SIZE - sizeof(MARK));
}

/* Whoever asked before the disk was claimed may have been overtaken. */
static enum status check_blank(const struct volume_disk *disk)
{
	_Alignas(VOLUME_DISK_ALIGNMENT) uint8_t piece[PIECE_SIZE];

	for (uint64_t offset = 0; offset < VOLUME_DATA_OFFSET; offset += sizeof(piece)) {
		TRY(volume_disk_read(disk, offset, piece, sizeof(piece)));
		if (offset == 0 && volume_create_was_cut(piece))
			return OK;
		if (!bytes_are_zero(piece, sizeof(piece)))
			return FAIL_DISK_NOT_BLANK;
	}
	return OK;
}

static enum status check_disk(const struct volume_disk *disk, uint32_t sector_size,
			      bool only_if_blank)
{
	if (sector_size < disk->block_size)
		return FAIL_DISK_GEOMETRY;
	if (disk->size_bytes < VOLUME_DISK_SIZE_MIN)
		return FAIL_DISK_TOO_SMALL;
	return only_if_blank ? check_blank(disk) : OK;
}

/* Before anything else of an old LUKS2 volume is touched, so that until then it opens, and from
 * then on it is not there: never a header without its keyslots. */
static enum status forget_old_header(const struct volume_disk *disk)
{
	uint8_t binary[LUKS2_BINARY_SIZE];
	struct luks2_header header;

	TRY(volume_disk_read(disk, 0, binary, sizeof(binary)));
	if (luks2_header_decode(&header, binary, LUKS2_PRIMARY, 0) != FAIL_NOT_LUKS)
		TRY(volume_disk_zero(disk, 0, sizeof(binary)));
	for (unsigned i = 0; i < LUKS2_SECONDARY_OFFSETS; i++) {
		uint64_t offset = luks2_header_secondary_offset(i);

		TRY(volume_disk_read(disk, offset, binary, sizeof(binary)));
		if (luks2_header_decode(&header, binary, LUKS2_SECONDARY, offset) != FAIL_NOT_LUKS)
			TRY(volume_disk_zero(disk, offset, sizeof(binary)));
	}
	return volume_disk_sync(disk);
}

/* It fits a sector, so it arrives whole or not at all. */
static enum status write_mark(const struct volume_disk *disk)
{
	uint8_t block[VOLUME_DISK_ALIGNMENT] = {0};

	memcpy(block, MARK, sizeof(MARK));
	TRY(volume_disk_write(disk, 0, block, sizeof(block)));
	return volume_disk_sync(disk);
}

/* The order that volume.h promises. */
static enum status write_all(const struct volume_disk *disk, struct volume_work *work,
			     const struct luks2_header *header, const uint8_t *areas,
			     size_t areas_size)
{
	uint64_t disk_end = MAXIMUM(
		(disk->size_bytes - DISK_END_SIZE) / VOLUME_DISK_ALIGNMENT * VOLUME_DISK_ALIGNMENT,
		VOLUME_DATA_OFFSET);

	TRY(forget_old_header(disk));
	TRY(volume_disk_zero(disk, VOLUME_DISK_ALIGNMENT,
			     VOLUME_DATA_OFFSET - VOLUME_DISK_ALIGNMENT));
	TRY(volume_disk_zero(disk, disk_end, disk->size_bytes - disk_end));
	TRY(volume_disk_sync(disk));
	TRY(write_mark(disk));
	TRY(volume_disk_write(disk, KEYSLOTS_OFFSET, areas, areas_size));
	TRY(volume_disk_sync(disk));
	TRY(volume_header_write(disk, work, LUKS2_SECONDARY, header, &work->text));
	return volume_header_write(disk, work, LUKS2_PRIMARY, header, &work->text);
}

static enum status create(struct volume_work *work, const struct volume_create_options *options)
{
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	SECRET_MEMORY_SCOPE struct secret_memory areas = {0};
	SECRET_SCOPE struct secret volume_key = {0};
	uint32_t sector_size = options->sector_size != 0 ? options->sector_size : 4096;
	struct luks2_header header = {
		.header_size = HEADER_SIZE,
		.sequence_id = 1,
		.subsystem = SUBSYSTEM,
	};

	TRY(volume_disk_open(&disk, options->disk_path, VOLUME_DISK_CLAIM));
	TRY(check_disk(&disk, sector_size, options->only_if_blank));
	memcpy(header.label, options->name, strlen(options->name));
	make_uuid(header.uuid);
	make_volume_key(&volume_key);
	TRY(secret_memory_open(&areas, options->keyslot_count * LUKS2_AREA_SIZE));
	TRY(make_metadata(&work->text, &volume_key, sector_size));
	TRY(make_keyslots(areas.bytes, work, options, &volume_key));
	TRY(make_tokens(work, options));
	return write_all(&disk, work, &header, areas.bytes, areas.size);
}

enum status volume_create(struct volume *volume, const struct volume_create_options *options)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;

	TRY(check_options(options));
	TRY(volume_header_begin_work(&work));
	TRY(create(work, options));
	return volume_load(volume, options->disk_path);
}
