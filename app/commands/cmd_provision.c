#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/json_output.h"
#include "app/supervisor/provision.h"
#include "app/vault/key_preflight.h"
#include "app/volume/vault_slot.h"
#include "platform/file.h"
#include "platform/log.h"

/* Kept for the other commands of this boot, which have no network when they read their settings. */
static enum status take_user_data(struct arguments *arguments, struct agent_session *session)
{
	struct config *config = &arguments->config;
	struct message_agent_request request;
	struct message_agent_answer answer = {0};
	char path[CONFIG_TEXT_SIZE + sizeof(CONFIG_USER_DATA_FILE)];
	enum status status;

	if (config->user_data == 0)
		return OK;
	arguments_set_object(arguments, "user data");
	TRY(agent_request_init(&request, AGENT_USER_DATA, "", ""));
	status = agent_session_ask(session, &answer, &request);
	arguments_set_detail(arguments, "%s", answer.detail);
	TRY(status);
	TRY(config_take_user_data(config, answer.settings));
	TRY(file_make_folder(config->run_directory));
	snprintf(path, sizeof(path), "%s/" CONFIG_USER_DATA_FILE, config->run_directory);
	arguments_set_object(arguments, "%s", path);
	return file_replace(path, answer.settings, strlen(answer.settings));
}

/* One secret for all of them, so that one unwrap opens all of them at the next boot; but a volume
 * key for each. */
static enum status format_all(struct provision_list *list, struct arguments *arguments,
			      struct agent_session *session)
{
	const struct config *config = &arguments->config;
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	struct key_preflight preflight = {0};
	struct vault_token token;
	enum status status;

	if (list->blank_count == 0)
		return OK;
	arguments_set_object(arguments, "key");
	if (config->key[0] == '\0') {
		arguments_set_detail(arguments, "the setting key is missing");
		return FAIL_CONFIG;
	}
	arguments_set_object(arguments, "%s", config->key);
	vault_slot_make(&slot);
	status = key_preflight(&preflight, session, config->key, config->identity,
			       slot.secret.bytes);
	arguments_set_detail(arguments, "%s", preflight.detail);
	TRY(status);
	TRY(vault_slot_token(&token, preflight.kid, preflight.wrapped, config->identity));
	for (size_t i = 0; i < list->count; i++)
		if (list->disks[i].state == PROVISION_BLANK)
			provision_format(&list->disks[i], &token, &slot.passphrase);
	return OK;
}

static void print_json(const struct provision_list *list)
{
	struct json_writer *writer = json_output_begin();

	json_begin_array(writer, NULL);
	for (size_t i = 0; i < list->count; i++) {
		const struct provision_disk *disk = &list->disks[i];

		json_begin_object(writer, NULL);
		json_write_string(writer, "disk", disk->path);
		json_write_string(writer, "name", disk->name);
		json_write_string(writer, "outcome", provision_state_word(disk->state));
		json_write_string(writer, "status", status_word(disk->status));
		json_write_string(writer, "detail", disk->detail);
		json_end_object(writer);
	}
	json_end_array(writer);
	puts(json_output_end());
}

static void print_line(const struct provision_disk *disk)
{
	bool is_volume = disk->state == PROVISION_FORMATTED || disk->state == PROVISION_KEPT;

	printf("%s: %s%s%s%s%s%s%s%s\n", disk->path, provision_state_word(disk->state),
	       is_volume ? " as " : "", is_volume ? disk->name : "", disk->status != OK ? ": " : "",
	       disk->status != OK ? status_sentence(disk->status) : "",
	       disk->detail[0] != '\0' ? " (" : "", disk->detail,
	       disk->detail[0] != '\0' ? ")" : "");
}

static void print_all(const struct provision_list *list, bool is_json)
{
	if (is_json)
		print_json(list);
	for (size_t i = 0; i < list->count && !is_json; i++)
		print_line(&list->disks[i]);
}

/* What was left alone is for somebody to look at: the first one is what the command ends with. */
static enum status first_failure(const struct provision_list *list, struct arguments *arguments)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct provision_disk *disk = &list->disks[i];

		if (disk->status == OK)
			continue;
		arguments_set_object(arguments, "%s", disk->path);
		arguments_set_detail(arguments, "%s", disk->detail);
		return disk->status;
	}
	return OK;
}

enum status cmd_provision(struct arguments *arguments)
{
	static struct provision_list list;
	AGENT_SESSION_SCOPE struct agent_session session = {0};
	enum status status;

	arguments_set_object(arguments, "vault agent");
	TRY(agent_session_open(&session, &arguments->config));
	TRY(take_user_data(arguments, &session));
	arguments_set_object(arguments, "provision_disks");
	if (arguments->config.provision_disks[0] != '\0')
		TRY(provision_find(&list, &arguments->config));
	if (list.count == 0)
		log_info("nothing to do: provision_disks %s%s",
			 arguments->config.provision_disks[0] == '\0' ? "is not set"
								      : "names no disk: ",
			 arguments->config.provision_disks);
	status = format_all(&list, arguments, &session);
	print_all(&list, arguments->values[OPTION_JSON] != NULL);
	TRY(status);
	return first_failure(&list, arguments);
}
