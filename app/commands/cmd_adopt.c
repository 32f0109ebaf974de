#include <stdio.h>
#include <string.h>

#include "app/commands/commands.h"
#include "app/commands/key_input.h"
#include "app/vault/key_preflight.h"
#include "app/volume/vault_slot.h"
#include "app/volume_name.h"

/* The label is what the device will be called; nobody else reads it. */
static enum status take_name(struct volume *volume, struct arguments *arguments)
{
	const char *name = arguments->values[OPTION_NAME];

	if (name == NULL)
		name = volume->header.label;
	arguments_set_object(arguments, "%s", name[0] != '\0' ? name : volume->disk_path);
	if (volume_name_check(name) != OK) {
		arguments_set_detail(arguments, "give it one with --name");
		return FAIL_NAME;
	}
	if (name != volume->header.label)
		snprintf(volume->header.label, sizeof(volume->header.label), "%s", name);
	arguments_set_object(arguments, "%s", volume->disk_path);
	return OK;
}

static enum status check_words(const struct arguments *arguments)
{
	if (arguments->config.key[0] != '\0')
		return key_preflight_url(arguments->config.key, arguments->is_key_given);
	fprintf(stderr, "byok adopt: --key is missing; see byok help adopt\n");
	return FAIL_USAGE;
}

static enum status wrap(struct vault_token *token, const struct vault_slot *slot,
			struct arguments *arguments)
{
	AGENT_SESSION_SCOPE struct agent_session session = {0};
	const struct config *config = &arguments->config;
	struct key_preflight preflight = {0};
	enum status status;

	TRY(agent_session_open(&session, config));
	status = key_preflight(&preflight, &session, config->key, config->identity,
			       slot->secret.bytes);
	arguments_set_detail(arguments, "%s", preflight.detail);
	TRY(status);
	return vault_slot_token(token, preflight.kid, preflight.wrapped, config->identity);
}

/* Keyslot and token come with one commit: neither is ever there without the other. */
static enum status put_slot(struct volume *volume, struct vault_token *token,
			    const struct vault_slot *slot, const struct secret *volume_key)
{
	const struct volume_keyslot_options options = {
		.purpose = VOLUME_KEYSLOT_VAULT,
		.passphrase = slot->passphrase.bytes,
		.passphrase_size = slot->passphrase.size,
	};
	SECRET_SCOPE struct secret proof = {0};
	char disk_path[VOLUME_PATH_SIZE];

	strcpy(disk_path, volume->disk_path);
	TRY(volume_add_keyslot(volume, &token->keyslot, &options, volume_key));
	TRY(volume_set_vault_token(volume, token));
	TRY(volume_commit(volume));
	TRY(volume_load(volume, disk_path));
	return volume_unlock(&proof, volume, (int)token->keyslot, slot->passphrase.bytes,
			     slot->passphrase.size);
}

enum status cmd_adopt(struct arguments *arguments)
{
	static struct volume volume;
	SECRET_SCOPE struct secret volume_key = {0};
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	struct vault_token token = {0};
	struct luks2_layout layout;
	enum status status;

	arguments_set_object(arguments, "%s", arguments->config.key);
	TRY(check_words(arguments));
	arguments_set_object(arguments, "%s", arguments->operands[0]);
	TRY(volume_load(&volume, arguments->operands[0]));
	TRY(volume_check_policy(&layout, &volume));
	status = volume_vault_token(&token, &volume);
	if (status != FAIL_NO_VAULT_TOKEN)
		return status == OK ? FAIL_VAULT_TOKEN_EXISTS : status;
	TRY(take_name(&volume, arguments));
	TRY(key_input_unlock(&volume_key, arguments, &volume));
	vault_slot_make(&slot);
	arguments_set_object(arguments, "%s", arguments->config.key);
	TRY(wrap(&token, &slot, arguments));
	arguments_set_object(arguments, "%s", arguments->operands[0]);
	TRY(put_slot(&volume, &token, &slot, &volume_key));
	printf("%s: adopted as %s under %s, keyslot %u\n", volume.disk_path, volume.header.label,
	       token.current.kid, token.keyslot);
	return OK;
}
