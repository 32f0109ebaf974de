#include <stdio.h>
#include <unistd.h>

#include "app/commands/commands.h"
#include "app/json_output.h"
#include "app/supervisor/control.h"
#include "app/supervisor/key_policy.h"
#include "app/volume/volume_state.h"

struct listing {
	struct arguments *arguments;
	struct json_writer *json;
	bool is_json;
	size_t count;
	enum status first; /* what is wrong with the first volume that is not well */
};

static void write_key_json(struct json_writer *writer, const struct message_control_volume *volume)
{
	enum status status = (enum status)volume->key_status;

	json_begin_object(writer, "access");
	json_write_string(writer, "state", key_policy_word((enum key_state)volume->key_state));
	json_write_string(writer, "cause", status_word(status));
	json_write_string(writer, "sentence", status == OK ? "" : status_sentence(status));
	json_write_string(writer, "advice", status_advice(status));
	json_write_string(writer, "detail", volume->key_detail);
	json_write_u64(writer, "since_seconds", volume->key_since_ms / 1000);
	if (volume->key_proved_ms == UINT64_MAX)
		json_write_null(writer, "proved_seconds");
	else
		json_write_u64(writer, "proved_seconds", volume->key_proved_ms / 1000);
	json_write_bool(writer, "has_previous", volume->is_rotating != 0);
	json_write_string(writer, "rotation", status_word((enum status)volume->rotation_status));
	json_end_object(writer);
}

static void write_json(struct json_writer *writer, const struct message_control_volume *volume)
{
	enum status status = (enum status)volume->status;

	json_begin_object(writer, NULL);
	json_write_string(writer, "name", volume->name);
	json_write_string(writer, "uuid", volume->uuid);
	json_write_string(writer, "disk", volume->disk_path);
	json_write_string(writer, "device", volume->device_path);
	json_write_string(writer, "key", volume->kid);
	json_write_string(writer, "state", volume_state_word((enum volume_state)volume->state));
	json_write_string(writer, "cause", status_word(status));
	json_write_string(writer, "sentence", status == OK ? "" : status_sentence(status));
	json_write_string(writer, "advice", status_advice(status));
	json_write_string(writer, "detail", volume->detail);
	json_write_u64(writer, "worker_pid", volume->worker_pid);
	json_write_u64(writer, "since_seconds", volume->since_ms / 1000);
	json_write_u64(writer, "next_try_seconds", (volume->next_try_ms + 999) / 1000);
	write_key_json(writer, volume);
	json_end_object(writer);
}

/* A line for each part: sentences are long, and what a vault answers is longer. */
static void print_cause(const char *what, enum status status, const char *detail)
{
	if (status == OK)
		return;
	printf("    %s%s\n", what, status_sentence(status));
	if (detail[0] != '\0')
		printf("      (%s)\n", detail);
	printf("      %s\n", status_advice(status));
}

static void print_text(const struct message_control_volume *volume)
{
	enum status status = (enum status)volume->status;
	enum key_state state = (enum key_state)volume->key_state;
	char what[32];

	printf("%-16s %-9s %-24s %s\n", volume->name[0] != '\0' ? volume->name : "-",
	       volume_state_word((enum volume_state)volume->state), volume->disk_path,
	       volume->device_path);
	print_cause("", status, volume->detail);
	snprintf(what, sizeof(what), "key %s: ", key_policy_word(state));
	if (key_policy_is_raised(state) && status == OK)
		print_cause(what, (enum status)volume->key_status, volume->key_detail);
	print_cause("newest version not taken: ", (enum status)volume->rotation_status, "");
	if (volume->next_try_ms > 0)
		printf("    tried again in %llu s\n",
		       (unsigned long long)(volume->next_try_ms + 999) / 1000);
}

static void show(void *context, const struct message_control_volume *volume)
{
	struct listing *listing = context;
	const char *detail = volume->detail;
	enum status status = (enum status)volume->status;

	if (status == OK && volume->state != VOLUME_SERVING)
		status = FAIL_NOT_SERVED;
	if (status == OK && key_policy_is_raised((enum key_state)volume->key_state)) {
		status = (enum status)volume->key_status;
		detail = volume->key_detail;
	}
	listing->count++;
	if (listing->first == OK && status != OK) {
		listing->first = status;
		arguments_set_object(listing->arguments, "%s",
				     volume->name[0] != '\0' ? volume->name : volume->disk_path);
		arguments_set_detail(listing->arguments, "%s", detail);
	}
	if (listing->is_json)
		write_json(listing->json, volume);
	else
		print_text(volume);
}

static enum status ask(struct listing *listing, struct message_control_done *done,
		       struct message_control_request *request)
{
	enum status status;
	int fd;

	TRY(control_connect(&fd, &listing->arguments->config));
	status = control_ask(fd, request, done, show, listing);
	close(fd);
	return status;
}

static void print_rest(const struct listing *listing, const struct message_control_done *done)
{
	if (listing->count == 0)
		puts("no byok disk is attached");
	if (done->follow_status != OK)
		puts(done->followed);
	print_cause("newest version not followed: ", (enum status)done->follow_status, "");
}

/* A disk that is not attached is no volume yet, but holds up whatever waits for the service. */
static enum status find_missing(struct listing *listing)
{
	const unsigned expected = listing->arguments->config.expected_volumes;

	if (listing->first != OK || listing->arguments->operand_count > 0 ||
	    listing->count >= expected)
		return listing->first;
	arguments_set_object(listing->arguments, "expected_volumes");
	arguments_set_detail(listing->arguments, "%zu of %u disks are attached", listing->count,
			     expected);
	return FAIL_NOT_SERVED;
}

/* Exit status 0 if all is served and well; else that of the first volume that is not, so that a
 * script need not read the text. */
enum status cmd_status(struct arguments *arguments)
{
	static struct listing listing;
	struct message_control_request request = {.operation = CONTROL_STATUS};
	struct message_control_done done = {0};

	listing.arguments = arguments;
	listing.is_json = arguments->values[OPTION_JSON] != NULL;
	if (arguments->operand_count > 0) {
		arguments_set_object(arguments, "%s", arguments->operands[0]);
		if (!message_text_set(request.target, sizeof(request.target),
				      arguments->operands[0]))
			return FAIL_VOLUME_UNKNOWN;
	}
	listing.json = json_output_begin();
	json_begin_object(listing.json, NULL);
	json_begin_array(listing.json, "volumes");
	TRY(ask(&listing, &done, &request));
	json_end_array(listing.json);
	json_begin_object(listing.json, "follow");
	json_write_string(listing.json, "key", done.followed);
	json_write_string(listing.json, "newest", done.newest);
	json_write_string(listing.json, "cause", status_word((enum status)done.follow_status));
	json_end_object(listing.json);
	json_write_u64(listing.json, "supervisor_pid", done.supervisor_pid);
	json_begin_object(listing.json, "agent");
	json_write_u64(listing.json, "pid", done.agent_pid);
	json_end_object(listing.json);
	json_end_object(listing.json);
	if (listing.is_json)
		puts(json_output_end());
	else
		print_rest(&listing, &done);
	return find_missing(&listing);
}
