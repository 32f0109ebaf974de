#include "app/volume/volume.h"

#include <string.h>

#include "app/volume/volume_header.h"
#include "platform/log.h"

static enum status set_path(struct volume *volume, const char *disk_path)
{
	size_t length = strlen(disk_path);

	if (length >= sizeof(volume->disk_path))
		return FAIL_DISK_ABSENT;
	memcpy(volume->disk_path, disk_path, length + 1);
	memset(volume->area_marks, 0, sizeof(volume->area_marks));
	return OK;
}

static const char *copy_name(enum luks2_copy copy)
{
	return copy == LUKS2_PRIMARY ? "first" : "second";
}

static bool needs_repair(enum volume_copy_state state)
{
	return state == VOLUME_COPY_BAD || state == VOLUME_COPY_OLD;
}

static bool has_copy_to_repair(const struct volume *volume)
{
	return needs_repair(volume->copies[LUKS2_PRIMARY]) ||
	       needs_repair(volume->copies[LUKS2_SECONDARY]);
}

/* Reads again first: between the two locks somebody else may have repaired or changed the header.
 */
static enum status repair(struct volume *volume, struct volume_work *work)
{
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};
	enum status status = volume_disk_open(&disk, volume->disk_path, VOLUME_DISK_CHANGE);

	if (status != OK) {
		volume->is_read_only = volume->is_read_only || status == FAIL_DISK_READ_ONLY;
		log_warning("%s: a copy of the header is not repaired: %s", volume->disk_path,
			    status_sentence(status));
		return OK;
	}
	TRY(volume_header_read(volume, work, &disk));
	for (enum luks2_copy copy = LUKS2_PRIMARY; copy < LUKS2_COPIES; copy++) {
		bool was_bad = volume->copies[copy] == VOLUME_COPY_BAD;

		if (!needs_repair(volume->copies[copy]))
			continue;
		status = volume_header_write(&disk, work, copy, &volume->header, &volume->text);
		if (status != OK)
			continue; /* the disk's failure is logged, and the other copy is good */
		volume->copies[copy] = VOLUME_COPY_REPAIRED;
		log_warning("%s: the %s copy of the LUKS2 header was %s; repaired from the other",
			    volume->disk_path, copy_name(copy),
			    was_bad ? "damaged" : "out of date");
	}
	return OK;
}

static enum status read_header(struct volume *volume, struct volume_work *work)
{
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};

	TRY(volume_disk_open(&disk, volume->disk_path, VOLUME_DISK_READ));
	return volume_header_read(volume, work, &disk);
}

enum status volume_load(struct volume *volume, const char *disk_path)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;

	TRY(volume_header_begin_work(&work));
	TRY(set_path(volume, disk_path));
	TRY(read_header(volume, work));
	if (!has_copy_to_repair(volume) || volume->is_read_only)
		return OK;
	return repair(volume, work);
}

enum status volume_load_unrepaired(struct volume *volume, const char *disk_path)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;

	TRY(volume_header_begin_work(&work));
	TRY(set_path(volume, disk_path));
	return read_header(volume, work);
}

enum status volume_check_policy(struct luks2_layout *layout, const struct volume *volume)
{
	return luks2_policy_check(layout, &volume->header, &volume->metadata,
				  volume->disk_size_bytes);
}

enum status volume_vault_token(struct vault_token *token, const struct volume *volume)
{
	VOLUME_WORK_SCOPE struct volume_work *work = NULL;
	unsigned number;

	TRY(volume_header_begin_work(&work));
	return vault_token_find(token, &number, &volume->metadata, &volume->text, &work->nodes);
}

bool volume_recovery_keyslot(unsigned *keyslot, const struct volume *volume)
{
	for (unsigned i = 0; i < LUKS2_TOKENS; i++) {
		const struct luks2_token *token = &volume->metadata.tokens[i];

		if (!token->exists || token->keyslots == 0 ||
		    strcmp(token->type, VOLUME_RECOVERY_TOKEN_TYPE) != 0)
			continue;
		*keyslot = (unsigned)__builtin_ctz(token->keyslots);
		return true;
	}
	return false;
}

static enum status read_area(uint8_t *area, const struct volume *volume,
			     const struct luks2_keyslot *keyslot)
{
	VOLUME_DISK_SCOPE struct volume_disk disk = {.lock_fd = -1};

	TRY(volume_disk_open(&disk, volume->disk_path, VOLUME_DISK_READ));
	return volume_disk_read(&disk, keyslot->area_offset, area, LUKS2_AREA_SIZE);
}

struct unlock_attempt {
	const struct volume *volume;
	const struct luks2_digest *digest;
	const void *passphrase;
	size_t passphrase_size;
	struct secret_memory area;
};

static enum status try_keyslot(struct secret *volume_key, const struct unlock_attempt *attempt,
			       unsigned number)
{
	const struct luks2_keyslot *keyslot = &attempt->volume->metadata.keyslots[number];

	TRY(luks2_policy_check_keyslot(keyslot));
	TRY(read_area(attempt->area.bytes, attempt->volume, keyslot));
	TRY(luks2_keyslot_open(volume_key, keyslot, attempt->area.bytes, attempt->passphrase,
			       attempt->passphrase_size));
	return luks2_keyslot_digest_agrees(attempt->digest, volume_key) ? OK : FAIL_WRONG_KEY;
}

/* FAIL_WRONG_KEY once a keyslot could be tried; before that, the first other failure. */
static enum status try_all(struct secret *volume_key, const struct unlock_attempt *attempt)
{
	const struct luks2_keyslot *keyslots = attempt->volume->metadata.keyslots;
	enum status failure = OK;

	for (uint32_t priority = 2; priority > 0; priority--) {
		for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
			enum status status;

			if ((attempt->digest->keyslots >> i & 1) == 0 ||
			    keyslots[i].priority != priority)
				continue;
			status = try_keyslot(volume_key, attempt, i);
			if (status == OK)
				return OK;
			if (status != FAIL_WRONG_KEY)
				log_warning("%s: keyslot %u was not tried: %s",
					    attempt->volume->disk_path, i, status_sentence(status));
			if (failure == OK || status == FAIL_WRONG_KEY)
				failure = status;
		}
	}
	return failure == OK ? FAIL_WRONG_KEY : failure;
}

enum status volume_unlock(struct secret *volume_key, const struct volume *volume, int keyslot,
			  const void *passphrase, size_t passphrase_size)
{
	SECRET_MEMORY_SCOPE struct secret_memory memory = {0};
	SECRET_SCOPE struct secret key = {0};
	struct luks2_layout layout;
	struct unlock_attempt attempt = {
		.volume = volume,
		.passphrase = passphrase,
		.passphrase_size = passphrase_size,
	};

	CHECK(keyslot == VOLUME_ANY_KEYSLOT || (keyslot >= 0 && keyslot < LUKS2_KEYSLOTS));
	TRY(volume_check_policy(&layout, volume));
	TRY(secret_memory_open(&memory, LUKS2_AREA_SIZE));
	attempt.digest = &volume->metadata.digests[layout.digest];
	attempt.area = memory;
	if (keyslot == VOLUME_ANY_KEYSLOT) {
		TRY(try_all(&key, &attempt));
	} else {
		/* One that is not this segment's cannot be right. */
		if ((attempt.digest->keyslots >> keyslot & 1) == 0)
			return FAIL_WRONG_KEY;
		TRY(try_keyslot(&key, &attempt, (unsigned)keyslot));
	}
	*volume_key = key;
	return OK;
}
