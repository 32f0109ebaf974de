#include "app/commands/key_input.h"

#include "app/commands/prompt.h"
#include "crypto/recovery_key.h"
#include "platform/file.h"

#define TYPED_SIZE_MAX 4096
#define KEY_FILE_SIZE_MAX (8u * 1024 * 1024) /* as cryptsetup's default limit */

/* One of the two holds it. */
struct input {
	struct secret_memory file;
	struct secret line;
	const void *bytes;
	size_t size;
};

#define INPUT_SCOPE __attribute__((cleanup(input_wipe)))

static void input_wipe(struct input *input)
{
	secret_memory_close(&input->file);
	secret_wipe(&input->line);
}

static enum status take(struct input *input, struct arguments *arguments, enum option option,
			const char *question, size_t size_max)
{
	const char *path = arguments->values[option];
	enum status status;

	arguments_set_object(arguments, "%s", path != NULL ? path : "terminal");
	if (path != NULL) {
		TRY(file_read_secret(&input->file, &input->size, path, size_max));
		input->bytes = input->file.bytes;
		return OK;
	}
	status = prompt_secret(&input->line, question);
	if (status == FAIL_FILE)
		arguments_set_detail(arguments, "without one: %s FILE",
				     option == OPTION_KEY_FILE ? "--key-file"
							       : "--recovery-key-file");
	TRY(status);
	input->bytes = input->line.bytes;
	input->size = input->line.size;
	return OK;
}

enum status key_input_recovery_key(struct secret *canonical, struct arguments *arguments)
{
	INPUT_SCOPE struct input input = {0};
	unsigned wrong_group = 0;
	enum status status;

	TRY(take(&input, arguments, OPTION_RECOVERY_KEY_FILE, "Recovery key: ", TYPED_SIZE_MAX));
	status = recovery_key_normalise(canonical, &wrong_group, input.bytes, input.size);
	if (status == FAIL_RECOVERY_KEY_TYPO)
		arguments_set_detail(arguments, "group %u of %u", wrong_group, RECOVERY_KEY_GROUPS);
	return status;
}

enum status key_input_unlock(struct secret *volume_key, struct arguments *arguments,
			     const struct volume *volume)
{
	INPUT_SCOPE struct input input = {0};

	TRY(take(&input, arguments, OPTION_KEY_FILE, "Passphrase: ", KEY_FILE_SIZE_MAX));
	arguments_set_object(arguments, "%s", volume->disk_path);
	return volume_unlock(volume_key, volume, VOLUME_ANY_KEYSLOT, input.bytes, input.size);
}
