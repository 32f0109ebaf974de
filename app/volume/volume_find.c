#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/volume/volume.h"
#include "platform/log.h"

#define LAYERS_MAX 64 /* devices below one, with itself; more are not looked through */
#define BLOCK_FOLDER "/sys/class/block"

/* Devices that byok itself or a network serves, or that hold nothing over a reboot: asking a device
 * that waits for byok would wait for ever. */
static bool is_kind_to_skip(const char *name)
{
	static const char *const prefixes[] = {"ublkb", "nbd", "ram", "zram", "sr", "fd", "mtd"};

	for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++) {
		size_t length = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], length) == 0 && name[length] >= '0' &&
		    name[length] <= '9')
			return true;
	}
	return false;
}

/* Whether it is one of those, or lies on one by device mapper or md, at any depth. */
static bool stands_on_kind_to_skip(const char *name)
{
	char names[LAYERS_MAX][NAME_MAX + 1];
	size_t count = 1, done = 0;

	snprintf(names[0], sizeof(names[0]), "%s", name);
	while (done < count) {
		char path[NAME_MAX + 64];
		struct dirent *entry;
		DIR *folder;

		if (is_kind_to_skip(names[done]))
			return true;
		snprintf(path, sizeof(path), BLOCK_FOLDER "/%s/slaves", names[done++]);
		folder = opendir(path);
		if (folder == NULL)
			continue;
		while ((entry = readdir(folder)) != NULL && count < LAYERS_MAX)
			if (entry->d_name[0] != '.')
				snprintf(names[count++], sizeof(names[0]), "%s", entry->d_name);
		closedir(folder);
	}
	return count == LAYERS_MAX;
}

static bool has_size(const char *name)
{
	char path[NAME_MAX + 64];
	unsigned long long sectors = 0;
	FILE *file;

	snprintf(path, sizeof(path), BLOCK_FOLDER "/%s/size", name);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fscanf(file, "%llu", &sectors) != 1)
		sectors = 0;
	fclose(file);
	return sectors >= VOLUME_DISK_SIZE_MIN / 512;
}

/* What dm-crypt serves for byok, as io/dm_crypt.h names it, perhaps without a worker: the next one
 * takes it over. */
static bool is_ours(const char *holder)
{
	char path[NAME_MAX + 64], uuid[160] = "";
	FILE *file;

	snprintf(path, sizeof(path), BLOCK_FOLDER "/%s/dm/uuid", holder);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fgets(uuid, sizeof(uuid), file) == NULL)
		uuid[0] = '\0';
	fclose(file);
	return strncmp(uuid, "CRYPT-LUKS2-", 12) == 0 && strlen(uuid) > 44 &&
	       strncmp(uuid + 44, "-byok-", 6) == 0;
}

/* By device mapper, md, bcache ...: whoever opens it, opens what lies on top. */
static bool has_holder(const char *name)
{
	char path[NAME_MAX + 64];
	struct dirent *entry;
	bool found = false;
	DIR *folder;

	snprintf(path, sizeof(path), BLOCK_FOLDER "/%s/holders", name);
	folder = opendir(path);
	if (folder == NULL)
		return false;
	while (!found && (entry = readdir(folder)) != NULL)
		found = entry->d_name[0] != '.' && !is_ours(entry->d_name);
	closedir(folder);
	return found;
}

/* One small read for most disks: only those with the magic of a LUKS2 header are looked at closely.
 */
static bool has_magic(const char *path)
{
	_Alignas(LUKS2_BINARY_SIZE) uint8_t bytes[LUKS2_BINARY_SIZE];
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct luks2_header header;
	bool found = false;

	if (fd < 0)
		return false;
	if (pread(fd, bytes, sizeof(bytes), 0) == (ssize_t)sizeof(bytes))
		found = luks2_header_decode(&header, bytes, LUKS2_PRIMARY, 0) != FAIL_NOT_LUKS;
	for (unsigned i = 0; i < LUKS2_SECONDARY_OFFSETS && !found; i++) {
		uint64_t offset = luks2_header_secondary_offset(i);

		if (pread(fd, bytes, sizeof(bytes), (off_t)offset) != (ssize_t)sizeof(bytes))
			break;
		found = luks2_header_decode(&header, bytes, LUKS2_SECONDARY, offset) !=
			FAIL_NOT_LUKS;
	}
	close(fd);
	return found;
}

static bool has_vault_token(const struct volume *volume)
{
	for (unsigned i = 0; i < LUKS2_TOKENS; i++)
		if (volume->metadata.tokens[i].exists &&
		    strcmp(volume->metadata.tokens[i].type, VAULT_TOKEN_TYPE) == 0)
			return true;
	return false;
}

/* In the kernel's names '!' stands for a '/' of the path. */
static bool make_path(char path[static VOLUME_PATH_SIZE], const char *name)
{
	int length = snprintf(path, VOLUME_PATH_SIZE, "/dev/%s", name);

	if (length < 0 || length >= VOLUME_PATH_SIZE)
		return false;
	for (char *at = path; *at != '\0'; at++)
		if (*at == '!')
			*at = '/';
	return true;
}

static bool can_be_read(struct volume_found *found, const char *name)
{
	return !stands_on_kind_to_skip(name) && has_size(name) && !has_holder(name) &&
	       make_path(found->disk_path, name);
}

static bool look_at(struct volume_found *found, struct volume *volume, enum log_priority priority)
{
	enum status status;

	if (!has_magic(found->disk_path))
		return false;
	status = volume_load_unrepaired(volume, found->disk_path);
	if (status != OK && status != FAIL_LUKS_VERSION)
		log_line(priority, "%s: looks like LUKS2, but is passed over: %s", found->disk_path,
			 status_sentence(status));
	if (status != OK || !has_vault_token(volume))
		return false;
	memcpy(found->name, volume->header.label, sizeof(found->name));
	memcpy(found->uuid, volume->header.uuid, sizeof(found->uuid));
	return true;
}

size_t volume_find_all(struct volume_found *found, size_t found_max, enum log_priority priority,
		       volume_may_read *may_read, void *context)
{
	struct volume *volume = malloc(sizeof(*volume));
	struct dirent **entries = NULL;
	size_t count = 0;
	int entry_count;

	if (volume == NULL)
		return 0;
	entry_count = scandir(BLOCK_FOLDER, &entries, NULL, versionsort);
	if (entry_count < 0)
		log_errno(LOG_PRIORITY_ERROR, errno, BLOCK_FOLDER ": scandir");
	for (int i = 0; i < entry_count; i++) {
		struct volume_found one = {0};

		const char *name = entries[i]->d_name;

		if (name[0] != '.' && can_be_read(&one, name) &&
		    (may_read == NULL || may_read(context, one.disk_path)) &&
		    look_at(&one, volume, priority)) {
			if (count < found_max)
				found[count] = one;
			count++;
		}
		free(entries[i]);
	}
	free(entries);
	free(volume);
	return count;
}
