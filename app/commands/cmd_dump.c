#include <stdio.h>

#include "app/commands/commands.h"
#include "app/json_output.h"
#include "app/volume/volume.h"

/* Texts of a header may hold any bytes; a terminal would obey some of them. */
static const char *shown(char target[static LUKS2_TOKEN_TYPE_SIZE], const char *text)
{
	size_t i = 0;

	for (; text[i] != '\0' && i < LUKS2_TOKEN_TYPE_SIZE - 1; i++)
		target[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	target[i] = '\0';
	return target;
}

static const char *copy_word(enum volume_copy_state state)
{
	static const char *const words[] = {
		[VOLUME_COPY_GOOD] = "good",
		[VOLUME_COPY_OLD] = "old",
		[VOLUME_COPY_BAD] = "bad",
		[VOLUME_COPY_REPAIRED] = "repaired",
	};

	return words[state];
}

static const char *kdf_word(const struct luks2_keyslot *keyslot)
{
	static const char *const words[] = {
		[LUKS2_KDF_OTHER] = "unknown",
		[LUKS2_KDF_PBKDF2] = "pbkdf2",
		[LUKS2_KDF_ARGON2I] = "argon2i",
		[LUKS2_KDF_ARGON2ID] = "argon2id",
	};

	return words[keyslot->kdf.kind];
}

static void print_keyslots(const struct luks2_metadata *metadata)
{
	char type[LUKS2_TOKEN_TYPE_SIZE];

	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		const struct luks2_keyslot *keyslot = &metadata->keyslots[i];

		if (keyslot->exists)
			printf("keyslot %-4u %s, %u-bit key, area at %llu\n", i, kdf_word(keyslot),
			       keyslot->key_size * 8, (unsigned long long)keyslot->area_offset);
	}
	for (unsigned i = 0; i < LUKS2_TOKENS; i++)
		if (metadata->tokens[i].exists)
			printf("token %-6u %s\n", i, shown(type, metadata->tokens[i].type));
}

static void print_token(const struct volume *volume)
{
	struct vault_token token;
	enum status status = volume_vault_token(&token, volume);

	if (status != OK) {
		printf("vault key    none: %s\n", status_sentence(status));
		return;
	}
	printf("vault key    %s (%s), keyslot %u\n", token.current.kid, token.current.algorithm,
	       token.keyslot);
	if (token.previous.kid[0] != '\0')
		printf("previously   %s\n", token.previous.kid);
	printf("identity     %s\ncreated      %s\n", token.identity, token.created);
}

static void print_layout(const struct volume *volume)
{
	struct luks2_layout layout;
	enum status status = volume_check_policy(&layout, volume);

	if (status != OK) {
		printf("data         refused: %s; %s\n", status_sentence(status),
		       status_advice(status));
		return;
	}
	printf("data         aes-xts-plain64, %u-byte sectors, %llu bytes at %llu\n",
	       layout.sector_size, (unsigned long long)layout.data_size_bytes,
	       (unsigned long long)layout.data_offset_bytes);
}

static void print_text(const struct volume *volume)
{
	char label[LUKS2_TOKEN_TYPE_SIZE];

	printf("name         %s\nuuid         %s\ndisk         %s, %llu bytes%s\n",
	       shown(label, volume->header.label), volume->header.uuid, volume->disk_path,
	       (unsigned long long)volume->disk_size_bytes,
	       volume->is_read_only ? ", read-only" : "");
	printf("header       sequence id %llu, 2 x %llu bytes, copies: %s, %s\n",
	       (unsigned long long)volume->header.sequence_id,
	       (unsigned long long)volume->header.header_size, copy_word(volume->copies[0]),
	       copy_word(volume->copies[1]));
	print_layout(volume);
	print_token(volume);
	print_keyslots(&volume->metadata);
}

/* `metadata` is the text on the disk, byte for byte. */
static void print_json(const struct volume *volume)
{
	char label[LUKS2_TOKEN_TYPE_SIZE], subsystem[LUKS2_TOKEN_TYPE_SIZE];
	struct json_writer *writer = json_output_begin();

	json_begin_object(writer, NULL);
	json_write_string(writer, "disk", volume->disk_path);
	json_write_u64(writer, "disk_size_bytes", volume->disk_size_bytes);
	json_write_string(writer, "name", shown(label, volume->header.label));
	json_write_string(writer, "uuid", volume->header.uuid);
	json_write_string(writer, "subsystem", shown(subsystem, volume->header.subsystem));
	json_write_u64(writer, "sequence_id", volume->header.sequence_id);
	json_write_u64(writer, "header_size_bytes", volume->header.header_size);
	json_begin_array(writer, "copies");
	for (size_t i = 0; i < LUKS2_COPIES; i++)
		json_write_string(writer, NULL, copy_word(volume->copies[i]));
	json_end_array(writer);
	json_write_raw(writer, "metadata", volume->text.bytes, volume->text.length);
	json_end_object(writer);
	puts(json_output_end());
}

enum status cmd_dump(struct arguments *arguments)
{
	static struct volume volume;

	arguments_set_object(arguments, "%s", arguments->operands[0]);
	TRY(volume_load_unrepaired(&volume, arguments->operands[0]));
	if (arguments->values[OPTION_JSON] != NULL)
		print_json(&volume);
	else
		print_text(&volume);
	return OK;
}
