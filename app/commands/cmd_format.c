#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/vault/key_preflight.h"
#include "app/volume/disk_probe.h"
#include "app/volume/vault_slot.h"
#include "app/volume_name.h"
#include "crypto/recovery_key.h"
#include "platform/entropy.h"
#include "platform/file.h"
#include "platform/log.h"

#define KEY_FILE_SIZE_MAX (8u * 1024 * 1024) /* as cryptsetup's default limit */

/* What is being made. The secrets are wiped when cmd_format returns. */
struct plan {
	struct arguments *arguments;
	const char *disk_path;
	const char *name;
	uint32_t sector_size;
	char content[256]; /* what is on the disk now */
	struct vault_slot slot;
	struct secret_memory key_file;
	size_t key_file_size;
	struct secret recovery_text;
	struct vault_token token;
	struct volume_keyslot_options keyslots[2];
	size_t keyslot_count;
};

static void plan_wipe(struct plan *plan)
{
	secret_memory_close(&plan->key_file);
	secret_wipe_bytes(plan, sizeof(*plan));
}

static enum status read_words(struct plan *plan)
{
	struct arguments *arguments = plan->arguments;
	const char *sector_size = arguments->values[OPTION_SECTOR_SIZE];

	plan->disk_path = arguments->operands[0];
	plan->name = arguments->values[OPTION_NAME];
	if (plan->name == NULL) {
		fprintf(stderr, "byok format: --name is missing; see byok help format\n");
		return FAIL_USAGE;
	}
	arguments_set_object(arguments, "%s", plan->name);
	TRY(volume_name_check(plan->name));
	if (sector_size != NULL && strcmp(sector_size, "512") == 0)
		plan->sector_size = 512;
	else if (sector_size != NULL && strcmp(sector_size, "4096") == 0)
		plan->sector_size = 4096;
	else if (sector_size != NULL) {
		fprintf(stderr, "byok format: --sector-size is 512 or 4096, not %s\n", sector_size);
		return FAIL_USAGE;
	}
	if (arguments->values[OPTION_KEY_FILE] != NULL)
		return OK;
	if (arguments->config.key[0] == '\0') {
		fprintf(stderr,
			"byok format: --key or --key-file is missing; see byok help format\n");
		return FAIL_USAGE;
	}
	arguments_set_object(arguments, "%s", arguments->config.key);
	return key_preflight_url(arguments->config.key, arguments->is_key_given);
}

static void say_what_force_destroys(const struct plan *plan)
{
	if (plan->content[0] != '\0')
		fprintf(stderr, "byok: %s: --force destroys: %s\n", plan->disk_path, plan->content);
}

static enum status look_at_disk(struct plan *plan)
{
	struct disk_probe probe;
	char *content = plan->content;
	bool force = plan->arguments->values[OPTION_FORCE] != NULL;

	arguments_set_object(plan->arguments, "%s", plan->disk_path);
	TRY(disk_probe(&probe, plan->disk_path));
	disk_probe_describe(&probe, content, sizeof(plan->content));
	if (content[0] != '\0')
		arguments_set_detail(plan->arguments, "%s", content);
	else if (probe.user[0] != '\0')
		arguments_set_detail(plan->arguments, "%s", probe.user);
	TRY(disk_probe_may_overwrite(&probe, force));
	arguments_set_detail(plan->arguments, "%s", "");
	if (probe.size_bytes < VOLUME_DISK_SIZE_MIN)
		return FAIL_DISK_TOO_SMALL;
	if (plan->sector_size != 0 && plan->sector_size < probe.block_size)
		return FAIL_DISK_GEOMETRY;
	return OK;
}

static enum status take_key_file(struct plan *plan)
{
	const char *path = plan->arguments->values[OPTION_KEY_FILE];

	arguments_set_object(plan->arguments, "%s", path);
	TRY(file_read_secret(&plan->key_file, &plan->key_file_size, path, KEY_FILE_SIZE_MAX));
	if (plan->key_file_size == 0) {
		arguments_set_detail(plan->arguments, "it is empty");
		return FAIL_FILE;
	}
	plan->keyslots[plan->keyslot_count++] = (struct volume_keyslot_options){
		.purpose = VOLUME_KEYSLOT_PASSPHRASE,
		.passphrase = plan->key_file.bytes,
		.passphrase_size = plan->key_file_size,
	};
	return OK;
}

/* All questions to the vault come before the first byte is written to the disk. */
static enum status take_vault_key(struct plan *plan)
{
	const struct config *config = &plan->arguments->config;
	AGENT_SESSION_SCOPE struct agent_session session = {0};
	struct key_preflight preflight = {0};
	enum status status;

	arguments_set_object(plan->arguments, "%s", config->key);
	vault_slot_make(&plan->slot);
	status = agent_session_open(&session, config);
	if (status == OK)
		status = key_preflight(&preflight, &session, config->key, config->identity,
				       plan->slot.secret.bytes);
	if (status != OK) {
		arguments_set_detail(plan->arguments, "%s", preflight.detail);
		return status;
	}
	plan->keyslots[plan->keyslot_count++] = (struct volume_keyslot_options){
		.purpose = VOLUME_KEYSLOT_VAULT,
		.passphrase = plan->slot.passphrase.bytes,
		.passphrase_size = plan->slot.passphrase.size,
	};
	return vault_slot_token(&plan->token, preflight.kid, preflight.wrapped, config->identity);
}

/* Written before the disk is: a volume whose recovery key nobody has must not come to be. */
static enum status make_recovery_key(struct plan *plan)
{
	const char *path = plan->arguments->values[OPTION_RECOVERY_KEY_FILE];
	SECRET_SCOPE struct secret key = {.size = RECOVERY_KEY_SIZE};

	if (path == NULL)
		return OK;
	arguments_set_object(plan->arguments, "%s", path);
	entropy_fill(key.bytes, RECOVERY_KEY_SIZE);
	recovery_key_encode(&plan->recovery_text, key.bytes);
	plan->keyslots[plan->keyslot_count++] = (struct volume_keyslot_options){
		.purpose = VOLUME_KEYSLOT_RECOVERY,
		.passphrase = plan->recovery_text.bytes,
		.passphrase_size = plan->recovery_text.size,
	};
	return file_create(path, plan->recovery_text.bytes, plan->recovery_text.size);
}

/* Makes the volume, then opens it as an unlock will, before anybody trusts data to it. */
static enum status make_volume(const struct plan *plan)
{
	static struct volume volume;
	SECRET_SCOPE struct secret volume_key = {0};
	const struct volume_create_options options = {
		.disk_path = plan->disk_path,
		.name = plan->name,
		.sector_size = plan->sector_size,
		.keyslots = plan->keyslots,
		.keyslot_count = plan->keyslot_count,
		.vault_token = plan->token.current.kid[0] != '\0' ? &plan->token : NULL,
	};

	arguments_set_object(plan->arguments, "%s", plan->disk_path);
	TRY(volume_create(&volume, &options));
	TRY(volume_load(&volume, plan->disk_path));
	return volume_unlock(&volume_key, &volume, 0, plan->keyslots[0].passphrase,
			     plan->keyslots[0].passphrase_size);
}

/* Of a volume that did not come to be. If there is anything like one on the disk, the key is kept.
 */
static void drop_useless_recovery_key(const struct plan *plan)
{
	static struct volume volume;
	const char *path = plan->arguments->values[OPTION_RECOVERY_KEY_FILE];

	if (path != NULL && strcmp(path, "-") != 0 &&
	    volume_load_unrepaired(&volume, plan->disk_path) == FAIL_NOT_LUKS)
		(void)unlink(path);
}

static enum status carry_out(struct plan *plan)
{
	const char *recovery_path = plan->arguments->values[OPTION_RECOVERY_KEY_FILE];
	const bool is_key_printed = recovery_path != NULL && strcmp(recovery_path, "-") == 0;
	enum status status;

	TRY(read_words(plan));
	TRY(look_at_disk(plan));
	say_what_force_destroys(plan);
	TRY(plan->arguments->values[OPTION_KEY_FILE] != NULL ? take_key_file(plan)
							     : take_vault_key(plan));
	/* The questions above can take a minute, in which somebody else may have used the disk. */
	TRY(look_at_disk(plan));
	TRY(make_recovery_key(plan));
	status = make_volume(plan);
	if (status != OK)
		drop_useless_recovery_key(plan);
	TRY(status);
	if (is_key_printed && isatty(STDOUT_FILENO))
		fputc('\n', stderr);
	/* Standard output is the recovery key's alone, if it goes there. */
	fprintf(is_key_printed ? stderr : stdout, "%s: formatted as %s%s%s%s\n", plan->disk_path,
		plan->name, plan->token.current.kid[0] != '\0' ? " under " : " under the key file",
		plan->token.current.kid, recovery_path != NULL ? ", with a recovery key" : "");
	if (recovery_path == NULL && plan->token.current.kid[0] != '\0')
		log_warning("%s has no recovery key: if its key is lost, so is its data",
			    plan->name);
	return OK;
}

enum status cmd_format(struct arguments *arguments)
{
	struct plan plan __attribute__((cleanup(plan_wipe))) = {.arguments = arguments};

	return carry_out(&plan);
}
