#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands/commands.h"
#include "app/supervisor/control.h"
#include "app/volume/rotation.h"

struct plan {
	struct arguments *arguments;
	struct agent_session session;
	const char *target; /* empty: the newest version of each disk's own key */
	const char *disk_paths[OPERANDS_MAX];
	size_t count;
	struct rotation rotations[OPERANDS_MAX];
};

static enum status choose_disks(struct plan *plan)
{
	static struct volume_found found[OPERANDS_MAX];
	struct arguments *arguments = plan->arguments;

	plan->count = arguments->operand_count;
	for (size_t i = 0; i < plan->count; i++)
		plan->disk_paths[i] = arguments->operands[i];
	if (plan->count > 0)
		return OK;
	plan->count =
		volume_find_all(found, ARRAY_COUNT(found), LOG_PRIORITY_WARNING, NULL, NULL);
	plan->count = MINIMUM(plan->count, ARRAY_COUNT(found));
	for (size_t i = 0; i < plan->count; i++)
		plan->disk_paths[i] = found[i].disk_path;
	return plan->count > 0 ? OK : FAIL_NO_VAULT_TOKEN;
}

/* The first failure of any disk ends it, and nothing is changed. */
static enum status prepare_all(struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		struct rotation *rotation = &plan->rotations[i];
		enum status status;

		arguments_set_object(plan->arguments, "%s", plan->disk_paths[i]);
		status = rotation_prepare(rotation, &plan->session, &plan->arguments->config,
					  plan->disk_paths[i], plan->target);
		arguments_set_detail(plan->arguments, "%s%snothing was changed", rotation->detail,
				     rotation->detail[0] != '\0' ? "; " : "");
		TRY(status);
	}
	return OK;
}

static void keep_first(struct plan *plan, enum status *first, const struct rotation *rotation,
		       enum status status)
{
	if (status == OK)
		return;
	log_error("%s: %s: call byok rotate again; the disk opens as it is", rotation->disk_path,
		  status_sentence(status));
	if (*first != OK)
		return;
	*first = status;
	arguments_set_object(plan->arguments, "%s", rotation->disk_path);
	arguments_set_detail(plan->arguments, "%s", rotation->detail);
}

static void say_outcome(const struct rotation *rotation)
{
	if (strcmp(rotation->old.current.kid, rotation->new.current.kid) != 0)
		printf("%s: from %s to %s\n", rotation->disk_path, rotation->old.current.kid,
		       rotation->new.current.kid);
	else
		printf("%s: under %s%s\n", rotation->disk_path, rotation->new.current.kid,
		       rotation->old.previous.kid[0] != '\0'
			       ? "; a rotation that was cut short is complete"
			       : " already");
}

/* A disk that fails does not hold up the others: each opens whatever becomes of them. */
static enum status carry_out(struct plan *plan)
{
	enum status first = OK;

	for (size_t i = 0; i < plan->count; i++)
		keep_first(plan, &first, &plan->rotations[i], rotation_commit(&plan->rotations[i]));
	for (size_t i = 0; i < plan->count; i++) {
		struct rotation *rotation = &plan->rotations[i];

		keep_first(plan, &first, rotation,
			   rotation_finish(rotation, &plan->session, &plan->arguments->config));
		if (rotation->state == ROTATION_DONE)
			say_outcome(rotation);
	}
	return first;
}

static enum status rotate(struct plan *plan, struct arguments *arguments)
{
	enum status status;

	plan->arguments = arguments;
	plan->target = arguments->is_key_given ? arguments->config.key : "";
	arguments_set_object(arguments, "this machine");
	TRY(choose_disks(plan));
	TRY(agent_session_open(&plan->session, &arguments->config));
	status = prepare_all(plan);
	if (status == OK)
		status = carry_out(plan);
	control_tell_change(&arguments->config);
	agent_session_close(&plan->session);
	if (status == OK && arguments->is_key_given && arguments->config.require_key != 0)
		log_warning("require_key is set: the settings' key must be the new one before byok "
			    "serve starts again");
	return status;
}

/* On the heap, as what is static is locked in every process, a worker's too. */
enum status cmd_rotate(struct arguments *arguments)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	enum status status = plan != NULL ? rotate(plan, arguments) : FAIL_OUT_OF_MEMORY;

	free(plan);
	return status;
}
