#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/commands/key_input.h"
#include "app/supervisor/control.h"
#include "app/volume/vault_slot.h"
#include "crypto/recovery_key.h"
#include "platform/entropy.h"
#include "platform/file.h"

static struct volume volume;

/* By --key-file, else by the vault: whoever has neither has no business with the keyslots. */
static enum status open_volume(struct secret *volume_key, struct arguments *arguments,
			       const struct volume *subject)
{
	AGENT_SESSION_SCOPE struct agent_session session = {0};
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	enum status status;

	if (arguments->values[OPTION_KEY_FILE] != NULL)
		return key_input_unlock(volume_key, arguments, subject);
	TRY(agent_session_open(&session, &arguments->config));
	status = vault_slot_open(&slot, &session, &arguments->config, subject);
	arguments_set_detail(arguments, "%s", slot.detail);
	TRY(status);
	arguments_set_detail(arguments, "%s", "");
	*volume_key = slot.volume_key;
	return OK;
}

/* `is_opener` becomes false when it is certain that the key opens nothing. */
static enum status put_keyslot(bool *is_opener, const struct secret *text,
			       const struct secret *volume_key)
{
	const struct volume_keyslot_options options = {
		.purpose = VOLUME_KEYSLOT_RECOVERY,
		.passphrase = text->bytes,
		.passphrase_size = text->size,
	};
	SECRET_SCOPE struct secret proof = {0};
	char disk_path[VOLUME_PATH_SIZE];
	enum status status;
	unsigned number;

	*is_opener = false;
	strcpy(disk_path, volume.disk_path);
	TRY(volume_add_keyslot(&volume, &number, &options, volume_key));
	status = volume_commit(&volume);
	*is_opener = status != FAIL_HEADER_CHANGED;
	TRY(status);
	/* As a recovery will find it. */
	TRY(volume_load(&volume, disk_path));
	return volume_unlock(&proof, &volume, (int)number, text->bytes, text->size);
}

/* The file is on its disk before the keyslot is: a recovery key that nobody has must not come to
 * be. One that may open the volume is never deleted; one that surely does not would be taken for
 * one. */
static enum status add(struct arguments *arguments)
{
	const char *path = arguments->values[OPTION_RECOVERY_KEY_FILE];
	SECRET_SCOPE struct secret volume_key = {0};
	SECRET_SCOPE struct secret key = {.size = RECOVERY_KEY_SIZE};
	SECRET_SCOPE struct secret text = {0};
	enum status status;
	bool is_opener;

	if (path == NULL) {
		fprintf(stderr, "byok recovery add: --recovery-key-file is missing; "
				"see byok help recovery\n");
		return FAIL_USAGE;
	}
	if (strcmp(path, "-") != 0 && file_exists(path)) {
		arguments_set_object(arguments, "%s", path);
		return FAIL_FILE_EXISTS;
	}
	TRY(volume_load(&volume, arguments->operands[1]));
	TRY(open_volume(&volume_key, arguments, &volume));
	entropy_fill(key.bytes, RECOVERY_KEY_SIZE);
	recovery_key_encode(&text, key.bytes);
	arguments_set_object(arguments, "%s", path);
	TRY(file_create(path, text.bytes, text.size));
	arguments_set_object(arguments, "%s", arguments->operands[1]);
	status = put_keyslot(&is_opener, &text, &volume_key);
	if (!is_opener && strcmp(path, "-") != 0)
		(void)unlink(path);
	TRY(status);
	if (strcmp(path, "-") == 0 && isatty(STDOUT_FILENO))
		fputc('\n', stderr);
	fprintf(stderr, "%s: the recovery key opens it\n", volume.disk_path);
	return OK;
}

static uint32_t marked_keyslots(void)
{
	uint32_t marked = 0;

	for (unsigned i = 0; i < LUKS2_TOKENS; i++)
		if (volume.metadata.tokens[i].exists &&
		    strcmp(volume.metadata.tokens[i].type, VOLUME_RECOVERY_TOKEN_TYPE) == 0)
			marked |= volume.metadata.tokens[i].keyslots;
	return marked;
}

/* All of the volume's recovery keys, or the one that --recovery-key-file holds. */
static enum status choose_keyslots(uint32_t *chosen, struct arguments *arguments)
{
	SECRET_SCOPE struct secret text = {0};
	uint32_t marked = marked_keyslots();

	*chosen = marked;
	if (marked == 0)
		return FAIL_NO_RECOVERY_KEY;
	if (arguments->values[OPTION_RECOVERY_KEY_FILE] == NULL)
		return OK;
	TRY(key_input_recovery_key(&text, arguments));
	arguments_set_object(arguments, "%s", volume.disk_path);
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		SECRET_SCOPE struct secret volume_key = {0};

		if ((marked >> i & 1) == 0 ||
		    volume_unlock(&volume_key, &volume, (int)i, text.bytes, text.size) != OK)
			continue;
		*chosen = 1u << i;
		return OK;
	}
	return FAIL_WRONG_RECOVERY_KEY;
}

/* Something that stays must be seen to open the volume, or its data hang by a key that nobody has
 * tried. */
static enum status prove_the_rest(struct arguments *arguments, uint32_t chosen)
{
	static struct volume rest;
	SECRET_SCOPE struct secret volume_key = {0};

	rest = volume;
	for (unsigned i = 0; i < LUKS2_DIGESTS; i++)
		rest.metadata.digests[i].keyslots &= ~chosen;
	return open_volume(&volume_key, arguments, &rest);
}

static enum status remove_keys(struct arguments *arguments)
{
	unsigned count = 0;
	uint32_t chosen;

	TRY(volume_load(&volume, arguments->operands[1]));
	TRY(choose_keyslots(&chosen, arguments));
	if (arguments->values[OPTION_FORCE] == NULL)
		TRY(prove_the_rest(arguments, chosen));
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		if ((chosen >> i & 1) == 0)
			continue;
		TRY(volume_remove_keyslot(&volume, i));
		/* One at a time, so that what stands in the header is what there is. */
		TRY(volume_commit(&volume));
		count++;
	}
	printf("%s: %u recovery key%s removed\n", volume.disk_path, count, count == 1 ? "" : "s");
	return OK;
}

static enum status try_key(struct arguments *arguments)
{
	SECRET_SCOPE struct secret text = {0};
	SECRET_SCOPE struct secret volume_key = {0};
	enum status status;

	TRY(volume_load_unrepaired(&volume, arguments->operands[1]));
	TRY(key_input_recovery_key(&text, arguments));
	arguments_set_object(arguments, "%s", volume.disk_path);
	status = volume_unlock(&volume_key, &volume, VOLUME_ANY_KEYSLOT, text.bytes, text.size);
	if (status == FAIL_WRONG_KEY)
		return FAIL_WRONG_RECOVERY_KEY;
	TRY(status);
	printf("%s: the recovery key opens it\n", volume.disk_path);
	return OK;
}

enum status cmd_recovery(struct arguments *arguments)
{
	static const struct {
		const char *verb;
		enum status (*run)(struct arguments *arguments);
	} verbs[] = {{"add", add}, {"remove", remove_keys}, {"test", try_key}};

	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
		if (strcmp(verbs[i].verb, arguments->operands[0]) != 0)
			continue;
		arguments_set_object(arguments, "%s", arguments->operands[1]);
		TRY(verbs[i].run(arguments));
		control_tell_change(&arguments->config);
		return OK;
	}
	fprintf(stderr, "byok recovery: there is no %s; it is add, remove or test\n",
		arguments->operands[0]);
	return FAIL_USAGE;
}
