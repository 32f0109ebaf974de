#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/json_output.h"
#include "app/vault/key_preflight.h"
#include "app/volume/vault_slot.h"
#include "app/worker/data_path.h"
#include "platform/clock.h"
#include "platform/entropy.h"

#define EXPIRY_WARNING_S (30 * 24 * 3600)
#define DISKS_MAX 64

/* Each step is tried whatever came of the ones before, so that one run tells everything. */
struct checklist {
	struct arguments *arguments;
	struct agent_session session;
	struct json_writer *json;
	bool is_json;
	enum status first; /* failure */
};

static void tell(struct checklist *list, const char *step, const char *object, enum status status,
		 const char *detail)
{
	if (status != OK && list->first == OK) {
		list->first = status;
		arguments_set_object(list->arguments, "%s", object);
		arguments_set_detail(list->arguments, "%s", detail);
	}
	if (list->is_json) {
		json_begin_object(list->json, NULL);
		json_write_string(list->json, "step", step);
		json_write_string(list->json, "object", object);
		json_write_string(list->json, "status", status_word(status));
		json_write_string(list->json, "detail", detail);
		json_end_object(list->json);
		return;
	}
	printf("%-5s %-10s %s%s%s%s%s%s%s%s\n", status == OK ? "ok" : "FAIL", step, object,
	       status == OK ? "" : ": ", status == OK ? "" : status_sentence(status),
	       detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "",
	       status == OK ? "" : "; ", status_advice(status));
}

static void check_machine(struct checklist *list)
{
	enum data_path_kind kind = data_path_choose(&list->arguments->config);

	tell(list, "rights", "root", geteuid() == 0 ? OK : FAIL_NOT_ROOT, "");
	tell(list, "kernel", data_path_word(kind), data_path_probe(kind), "");
}

/* A whole round trip with a secret that nobody needs. */
static void check_key(struct checklist *list)
{
	const struct config *config = &list->arguments->config;
	struct key_preflight result = {0};
	uint8_t secret[32];
	char detail[512];
	enum status status;

	if (config->key[0] == '\0')
		return;
	entropy_fill(secret, sizeof(secret));
	status = key_preflight(&result, &list->session, config->key, config->identity, secret);
	snprintf(detail, sizeof(detail), "%s", result.detail);
	if (status == OK && result.expires_s != 0 &&
	    result.expires_s - clock_wall_s() < EXPIRY_WARNING_S)
		snprintf(detail, sizeof(detail), "it expires in %lld days",
			 (long long)(result.expires_s - clock_wall_s()) / (24 * 3600));
	tell(list, "key", config->key, status, detail);
}

static enum status check_disk(struct checklist *list, const char *disk_path,
			      char detail[static 256])
{
	static struct volume volume;
	struct vault_slot slot VAULT_SLOT_SCOPE = {0};
	const struct config *config = &list->arguments->config;
	struct luks2_layout layout;
	struct vault_token token;
	enum status status;

	TRY(volume_load_unrepaired(&volume, disk_path));
	TRY(volume_check_policy(&layout, &volume));
	TRY(volume_vault_token(&token, &volume));
	status = vault_slot_prove(&slot, &list->session, &token.current,
				  agent_client_id(config, &token), &volume, token.keyslot);
	strcpy(detail, slot.detail);
	for (size_t i = 0; status == OK && i < LUKS2_COPIES; i++)
		if (volume.copies[i] != VOLUME_COPY_GOOD)
			strcpy(detail, "one copy of the header is damaged or old; "
				       "byok serve repairs it");
	return status;
}

/* A disk that is being served is looked at all the same: its header is readable, and its key can be
 * proved beside the worker. */
static void check_and_tell(struct checklist *list, const char *disk_path)
{
	char detail[256] = "";
	enum status status = check_disk(list, disk_path, detail);

	tell(list, "disk", disk_path, status, detail);
}

static void check_disks(struct checklist *list)
{
	static struct volume_found found[DISKS_MAX];
	const struct arguments *arguments = list->arguments;
	size_t count;

	for (size_t i = 0; i < arguments->operand_count; i++)
		check_and_tell(list, arguments->operands[i]);
	if (arguments->operand_count > 0)
		return;
	count = volume_find_all(found, DISKS_MAX, LOG_PRIORITY_WARNING, NULL, NULL);
	count = MINIMUM(count, DISKS_MAX);
	for (size_t i = 0; i < count; i++)
		check_and_tell(list, found[i].disk_path);
}

enum status cmd_check(struct arguments *arguments)
{
	static struct checklist list;
	enum status status;

	list.arguments = arguments;
	list.is_json = arguments->values[OPTION_JSON] != NULL;
	list.json = json_output_begin();
	json_begin_array(list.json, NULL);
	check_machine(&list);
	status = agent_session_open(&list.session, &arguments->config);
	if (status != OK) {
		tell(&list, "agent", "vault agent", status, "");
	} else {
		check_key(&list);
		check_disks(&list);
	}
	agent_session_close(&list.session);
	json_end_array(list.json);
	if (list.is_json)
		puts(json_output_end());
	return list.first;
}
