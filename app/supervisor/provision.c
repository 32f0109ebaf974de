#include "app/supervisor/provision.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "app/volume/disk_blank.h"
#include "app/volume/disk_probe.h"
#include "app/volume_name.h"
#include "platform/clock.h"
#include "platform/thread.h"

#define GIB ((uint64_t)1024 * 1024 * 1024)
#define THREAD_STACK_SIZE ((size_t)256 * 1024)
#define BAR_INTERVAL_MS 1000

/* --- the rule ----------------------------------------------------------------------------------
 */

/* A text around one '*', which stands for one or more letters and digits. */
struct pattern {
	char before[CONFIG_TEXT_SIZE];
	const char *behind;
};

static bool pattern_read(struct pattern *pattern, const char *text)
{
	char *star;

	strcpy(pattern->before, text);
	star = strchr(pattern->before, '*');
	if (star == NULL)
		return false;
	*star = '\0';
	pattern->behind = star + 1;
	return strpbrk(pattern->behind, "*/") == NULL;
}

/* What the '*' stands for in `text`; its length is 0 if they do not match. */
static const char *pattern_match(size_t *length, const char *before, const char *behind,
				 const char *text)
{
	static const char characters[] =
		"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t begin = strlen(before);

	*length = 0;
	if (strncmp(text, before, begin) != 0)
		return text;
	text += begin;
	begin = strspn(text, characters);
	/* What stands behind may begin with such characters too. */
	for (size_t i = begin; i > 0 && *length == 0; i--)
		if (strcmp(text + i, behind) == 0)
			*length = i;
	return text;
}

/* --- what a disk is ----------------------------------------------------------------------------
 */

PRINTF_LIKE(4, 5)
static void settle(struct provision_disk *disk, enum provision_state state, enum status status,
		   const char *format, ...)
{
	va_list arguments;

	disk->state = state;
	disk->status = status;
	va_start(arguments, format);
	vsnprintf(disk->detail, sizeof(disk->detail), format, arguments);
	va_end(arguments);
}

/* True if it is none of those that the rule can mean. */
static bool is_passed_over(struct provision_disk *disk, const struct config *config)
{
	struct stat information;
	char path[64];

	if (stat(disk->path, &information) != 0 || S_ISDIR(information.st_mode))
		return true;
	if (S_ISBLK(information.st_mode)) {
		disk->place[0] = information.st_rdev;
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition",
			 major(information.st_rdev), minor(information.st_rdev));
		return access(path, F_OK) == 0;
	}
	/* User data may name disks, not files. */
	disk->place[0] = information.st_dev;
	disk->place[1] = information.st_ino;
	return !S_ISREG(information.st_mode) || !config_is_given(config, "provision_disks");
}

/* By another name. */
static bool is_known(const struct provision_list *list, const struct provision_disk *disk)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->disks[i].place[0] == disk->place[0] &&
		    list->disks[i].place[1] == disk->place[1])
			return true;
	return false;
}

/* A volume is one for which serve needs no more than the vault. */
static bool is_volume(struct provision_disk *disk)
{
	static struct volume volume;
	struct vault_token token;

	if (volume_load_unrepaired(&volume, disk->path) != OK ||
	    volume_vault_token(&token, &volume) != OK ||
	    volume_name_check(volume.header.label) != OK)
		return false;
	/* The check has found a NUL within the name's size. */
	strcpy(disk->name, volume.header.label);
	settle(disk, PROVISION_KEPT, OK, "%s", token.current.kid);
	return true;
}

static void look_at(struct provision_disk *disk, const struct config *config)
{
	struct disk_probe probe;
	char content[sizeof(disk->detail)];
	enum status status;

	if (is_volume(disk))
		return;
	status = disk_probe(&probe, disk->path);
	if (status != OK) {
		settle(disk, PROVISION_LEFT_ALONE, status, "%s", "");
		return;
	}
	disk->size_bytes = probe.size_bytes;
	if (probe.size_bytes < config->provision_size_min_gib * GIB ||
	    (config->provision_size_max_gib != 0 &&
	     probe.size_bytes > config->provision_size_max_gib * GIB)) {
		settle(disk, PROVISION_PASSED_OVER, OK, "it has %.1f GiB",
		       (double)probe.size_bytes / (double)GIB);
		return;
	}
	disk_probe_describe(&probe, content, sizeof(content));
	status = disk_probe_may_overwrite(&probe, false);
	if (status == OK && probe.size_bytes < VOLUME_DISK_SIZE_MIN)
		status = FAIL_DISK_TOO_SMALL;
	if (status == OK)
		status = volume_name_check(disk->name);
	settle(disk, status == OK ? PROVISION_BLANK : PROVISION_LEFT_ALONE, status, "%s",
	       content[0] != '\0' ? content : probe.user);
}

static enum status list_disks(struct provision_list *list, const struct config *config)
{
	struct pattern paths, names;
	struct dirent **entries = NULL;
	char *file_name;
	int entry_count;

	if (!pattern_read(&paths, config->provision_disks) || paths.before[0] != '/' ||
	    !pattern_read(&names, config->provision_name)) {
		log_error("provision_disks is a path, and provision_name a name, with one * in the "
			  "last part");
		return FAIL_CONFIG;
	}
	file_name = strrchr(paths.before, '/') + 1;
	file_name[-1] = '\0';
	entry_count =
		scandir(paths.before[0] != '\0' ? paths.before : "/", &entries, NULL, versionsort);
	for (int i = 0; i < entry_count; i++) {
		struct provision_disk *disk = &list->disks[list->count];
		size_t length = 0;
		const char *star = entries[i]->d_name;

		if (list->count < PROVISION_DISKS_MAX)
			star = pattern_match(&length, file_name, paths.behind, star);
		if (length > 0 &&
		    (size_t)snprintf(disk->path, sizeof(disk->path), "%s/%s", paths.before,
				     entries[i]->d_name) < sizeof(disk->path)) {
			if ((size_t)snprintf(disk->name, sizeof(disk->name), "%s%.*s%s",
					     names.before, (int)length, star,
					     names.behind) >= sizeof(disk->name))
				disk->name[0] = '\0';
			list->count += !is_passed_over(disk, config) && !is_known(list, disk);
		}
		free(entries[i]);
	}
	free(entries);
	return OK;
}

/* Of two disks of one name serve takes only one. */
static void check_names(struct provision_list *list)
{
	static struct volume_found found[PROVISION_DISKS_MAX];
	size_t found_count =
		volume_find_all(found, ARRAY_COUNT(found), LOG_PRIORITY_DEBUG, NULL, NULL);

	found_count = MINIMUM(found_count, ARRAY_COUNT(found));
	for (size_t i = 0; i < list->count; i++) {
		struct provision_disk *disk = &list->disks[i];

		for (size_t j = 0; j < list->count && disk->state == PROVISION_BLANK; j++)
			if (j != i && list->disks[j].state == PROVISION_KEPT &&
			    strcmp(list->disks[j].name, disk->name) == 0)
				settle(disk, PROVISION_LEFT_ALONE, FAIL_NAME_TAKEN, "%s",
				       list->disks[j].path);
		for (size_t j = 0; j < found_count && disk->state == PROVISION_BLANK; j++)
			if (strcmp(found[j].name, disk->name) == 0)
				settle(disk, PROVISION_LEFT_ALONE, FAIL_NAME_TAKEN, "%s",
				       found[j].disk_path);
	}
}

/* --- reading them ------------------------------------------------------------------------------
 */

struct proof {
	struct provision_disk *disk;
	enum disk_blank_care care;
	pthread_t thread;
	bool is_running;
	_Atomic uint64_t done_bytes;
	uint64_t place;
	enum status status;
};

static void *prove(void *context)
{
	struct proof *proof = context;

	proof->status =
		disk_blank_prove(&proof->place, proof->disk->path, proof->care, &proof->done_bytes);
	return NULL;
}

/* Until all are read. */
static void show_bar(struct proof *proofs, size_t count)
{
	uint64_t done_bytes, size_bytes;

	if (isatty(STDERR_FILENO) == 0)
		return;
	do {
		done_bytes = size_bytes = 0;
		for (size_t i = 0; i < count; i++) {
			done_bytes += atomic_load(&proofs[i].done_bytes);
			size_bytes += proofs[i].disk->size_bytes;
		}
		fprintf(stderr, "\rreading %zu disks: %3.0f %%", count,
			size_bytes == 0 ? 100.0 : 100.0 * (double)done_bytes / (double)size_bytes);
		clock_sleep_ms(done_bytes < size_bytes ? BAR_INTERVAL_MS : 0);
	} while (done_bytes < size_bytes);
	fputc('\n', stderr);
}

static void prove_all(struct provision_list *list, enum disk_blank_care care)
{
	static struct proof proofs[PROVISION_DISKS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		if (list->disks[i].state == PROVISION_BLANK) {
			proofs[count].disk = &list->disks[i];
			proofs[count].care = care;
			proofs[count].is_running =
				thread_start(&proofs[count].thread, THREAD_STACK_SIZE, prove,
					     &proofs[count]) == 0;
			count++;
		}
	for (size_t i = 0; i < count; i++)
		if (!proofs[i].is_running)
			prove(&proofs[i]);
	if (count > 0)
		show_bar(proofs, count);
	for (size_t i = 0; i < count; i++) {
		struct proof *proof = &proofs[i];

		if (proof->is_running)
			pthread_join(proof->thread, NULL);
		if (proof->status == FAIL_DISK_NOT_BLANK)
			settle(proof->disk, PROVISION_LEFT_ALONE, proof->status,
			       "there is something at byte %llu", (unsigned long long)proof->place);
		else if (proof->status != OK)
			settle(proof->disk, PROVISION_LEFT_ALONE, proof->status, "%s", "");
		list->blank_count += proof->status == OK;
	}
}

enum status provision_find(struct provision_list *list, const struct config *config)
{
	*list = (struct provision_list){0};
	TRY(list_disks(list, config));
	for (size_t i = 0; i < list->count; i++)
		look_at(&list->disks[i], config);
	check_names(list);
	_Static_assert(DISK_BLANK_SAMPLE == 0 && DISK_BLANK_WHOLE == 1, "as the setting's words");
	prove_all(list, (enum disk_blank_care)config->provision_check);
	return OK;
}

/* --- making volumes of them --------------------------------------------------------------------
 */

static enum status format(const struct provision_disk *disk, const struct vault_token *token,
			  const struct secret *passphrase)
{
	static struct volume volume;
	SECRET_SCOPE struct secret volume_key = {0};
	const struct volume_keyslot_options keyslot = {
		.purpose = VOLUME_KEYSLOT_VAULT,
		.passphrase = passphrase->bytes,
		.passphrase_size = passphrase->size,
	};
	const struct volume_create_options options = {
		.disk_path = disk->path,
		.name = disk->name,
		.keyslots = &keyslot,
		.keyslot_count = 1,
		.vault_token = token,
		.only_if_blank = true,
	};

	TRY(volume_create(&volume, &options));
	return volume_unlock(&volume_key, &volume, 0, passphrase->bytes, passphrase->size);
}

void provision_format(struct provision_disk *disk, const struct vault_token *token,
		      const struct secret *passphrase)
{
	enum status status = format(disk, token, passphrase);

	settle(disk, status == OK ? PROVISION_FORMATTED : PROVISION_LEFT_ALONE, status, "%s",
	       status == OK ? token->current.kid : "");
}

const char *provision_state_word(enum provision_state state)
{
	static const char *const words[PROVISION_STATES] = {
		[PROVISION_PASSED_OVER] = "passed over", [PROVISION_KEPT] = "kept",
		[PROVISION_LEFT_ALONE] = "left alone",   [PROVISION_BLANK] = "blank",
		[PROVISION_FORMATTED] = "formatted",
	};

	return words[state];
}
