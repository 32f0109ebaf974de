#include "io/dm_crypt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "io/kernel_key.h"
#include "platform/clock.h"
#include "platform/log.h"

/* How long udev, blkid and the like may have a device open that nobody uses. */
#define GLANCE_TIME_MS 1000
#define GLANCE_PAUSE_MS 20

#define KEY_DESCRIPTION_SIZE 64

enum status dm_crypt_probe(void)
{
	int control_fd, error;

	TRY(device_mapper_open(&control_fd));
	error = device_mapper_find_target(control_fd, "crypt");
	close(control_fd);
	return error == 0 ? OK : FAIL_DM_CRYPT_ABSENT;
}

/* --- what the device is called, and its table --------------------------------------------------
 */

static void describe_key(char description[static KEY_DESCRIPTION_SIZE],
			 const struct dm_crypt_volume *volume)
{
	snprintf(description, KEY_DESCRIPTION_SIZE, "byok:%.36s", volume->uuid);
}

/* The options stand in the order in which the kernel shows them, and the sector size only where the
 * kernel would show it, so that the two tables can be compared as texts. */
void dm_crypt_table(struct device_mapper_table *table, const struct dm_crypt_volume *volume)
{
	char description[KEY_DESCRIPTION_SIZE], sector_size[32] = "";
	unsigned option_count = 2;
	int length;

	describe_key(description, volume);
	if (volume->sector_size != 512) {
		option_count++;
		snprintf(sector_size, sizeof(sector_size), " sector_size:%u", volume->sector_size);
	}
	if (volume->allows_discard)
		option_count++;
	*table = (struct device_mapper_table){
		.size_sectors = volume->size_bytes / 512,
		.target = "crypt",
		.is_read_only = volume->is_read_only,
	};
	length = snprintf(table->parameters, sizeof(table->parameters),
			  "aes-xts-plain64 :%d:logon:%s %llu %u:%u %llu %u%s"
			  " no_read_workqueue no_write_workqueue%s",
			  DM_CRYPT_KEY_SIZE, description, (unsigned long long)volume->first_unit,
			  major(volume->disk), minor(volume->disk),
			  (unsigned long long)volume->data_offset_bytes / 512, option_count,
			  volume->allows_discard ? " allow_discards" : "", sector_size);
	CHECK(length > 0 && (size_t)length < sizeof(table->parameters));
}

static void name_device(struct dm_crypt *device, const char *volume_name)
{
	snprintf(device->name, sizeof(device->name), "byok-%.63s", volume_name);
}

static void make_uuid(char uuid[static DEVICE_MAPPER_UUID_SIZE], const struct dm_crypt *device,
		      const struct dm_crypt_volume *volume)
{
	char plain[DM_CRYPT_UUID_SIZE];
	size_t count = 0;

	for (const char *at = volume->uuid; *at != '\0' && count < sizeof(plain) - 1; at++)
		if (*at != '-')
			plain[count++] = *at;
	plain[count] = '\0';
	snprintf(uuid, DEVICE_MAPPER_UUID_SIZE, "CRYPT-LUKS2-%s-%.70s", plain, device->name);
}

/* --- making it ---------------------------------------------------------------------------------
 */

static enum status refused(const struct dm_crypt *device, const char *what, int error)
{
	log_errno(LOG_PRIORITY_ERROR, error, "%s: device mapper: %s", device->name, what);
	return error == EPERM || error == EACCES ? FAIL_NOT_ROOT : FAIL_DM_CRYPT;
}

static enum status load_with_key(struct dm_crypt *device, const struct dm_crypt_volume *volume,
				 const struct device_mapper_table *table,
				 const uint8_t key[static DM_CRYPT_KEY_SIZE])
{
	KERNEL_KEY_SCOPE struct kernel_key kernel_key = {0};
	uint64_t deadline_ms = clock_now_ms() + GLANCE_TIME_MS;
	char description[KEY_DESCRIPTION_SIZE];
	int error;

	describe_key(description, volume);
	TRY(kernel_key_add(&kernel_key, description, key, DM_CRYPT_KEY_SIZE));
	error = device_mapper_load(device->control_fd, device->name, table);
	/* As backing_disk_open: a killed process may have claimed the disk a moment ago. */
	while (error == EBUSY && clock_left_ms(deadline_ms) > 0) {
		clock_sleep_ms(GLANCE_PAUSE_MS);
		error = device_mapper_load(device->control_fd, device->name, table);
	}
	if (error == EBUSY)
		return FAIL_DISK_IN_USE;
	return error == 0 ? OK : refused(device, "loading the table", error);
}

static bool is_same_table(const struct device_mapper_table *a, const struct device_mapper_table *b)
{
	return a->size_sectors == b->size_sectors && a->is_read_only == b->is_read_only &&
	       strcmp(a->target, b->target) == 0 && strcmp(a->parameters, b->parameters) == 0;
}

/* devtmpfs has made the node, or udev has; where neither is, it is made here. It stays: its name
 * says what it is whoever has that number next. */
static enum status find_node(struct dm_crypt *device, dev_t number)
{
	struct stat information;

	snprintf(device->path, sizeof(device->path), "/dev/dm-%u", minor(number));
	if (stat(device->path, &information) != 0 && errno == ENOENT &&
	    mknod(device->path, S_IFBLK | 0600, number) == 0)
		return OK;
	if (stat(device->path, &information) == 0 && S_ISBLK(information.st_mode) &&
	    information.st_rdev == number)
		return OK;
	log_error("%s is not the node of %s", device->path, device->name);
	return FAIL_DM_CRYPT;
}

/* One process looks after a device. The lock on a byte of the control device that has the device's
 * number says which; it ends with the process. */
static enum status become_keeper(const struct dm_crypt *device, dev_t number)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = minor(number), .l_len = 1};

	if (fcntl(device->control_fd, F_OFD_SETLK, &lock) == 0)
		return OK;
	return errno == EAGAIN || errno == EACCES ? FAIL_DISK_IN_USE
						  : refused(device, "locking it", errno);
}

/* The kernel must show what it was given, whoever loaded it. */
static enum status verify(struct dm_crypt *device, const char *uuid,
			  const struct device_mapper_table *table)
{
	struct device_mapper_state state;
	int error = device_mapper_look(device->control_fd, device->name, &state);

	if (error != 0)
		return refused(device, "asking for its table", error);
	if (strcmp(state.uuid, uuid) != 0 || !is_same_table(&state.table, table)) {
		/* The other table may hold a key in clear. */
		log_error("%s is there already, for another disk or with another table: its uuid is"
			  " \"%s\"",
			  device->name, state.uuid);
		return FAIL_DM_CRYPT;
	}
	return find_node(device, state.device);
}

static enum status make(struct dm_crypt *device, const struct dm_crypt_volume *volume,
			const char *uuid, const struct device_mapper_table *table,
			const uint8_t key[static DM_CRYPT_KEY_SIZE])
{
	dev_t number;
	enum status status;
	int error = device_mapper_create(device->control_fd, device->name, uuid, &number);

	if (error != 0)
		return refused(device, "creating it", error);
	status = become_keeper(device, number);
	if (status == OK)
		status = load_with_key(device, volume, table, key);
	if (status == OK) {
		error = device_mapper_resume(device->control_fd, device->name, false);
		if (error != 0)
			status = refused(device, "starting it", error);
	}
	if (status == OK)
		status = verify(device, uuid, table);
	if (status == OK)
		return OK;
	error = device_mapper_remove(device->control_fd, device->name, true);
	if (error != 0)
		log_errno(LOG_PRIORITY_WARNING, error, "%s is left behind", device->name);
	return status;
}

/* True if it is gone: what never had a table, or was stopped by force and is closed by now. */
static bool clear_remains(const struct dm_crypt *device, const struct device_mapper_state *state)
{
	return strcmp(state->table.target, "crypt") != 0 &&
	       device_mapper_remove(device->control_fd, device->name, false) == 0;
}

static enum status make_or_take_over(struct dm_crypt *device, const struct dm_crypt_volume *volume,
				     const uint8_t key[static DM_CRYPT_KEY_SIZE])
{
	char uuid[DEVICE_MAPPER_UUID_SIZE];
	struct device_mapper_table table;
	struct device_mapper_state state;

	name_device(device, volume->name);
	make_uuid(uuid, device, volume);
	dm_crypt_table(&table, volume);
	device->size_sectors = table.size_sectors;
	device->is_read_only = table.is_read_only;
	if (device_mapper_look(device->control_fd, device->name, &state) != 0)
		return make(device, volume, uuid, &table, key);
	TRY(become_keeper(device, state.device));
	if (clear_remains(device, &state))
		return make(device, volume, uuid, &table, key);
	if (strcmp(state.table.target, "error") == 0)
		return FAIL_DEVICE_IN_USE;
	TRY(verify(device, uuid, &table));
	log_info("%s was still there, and is taken over", device->name);
	return OK;
}

enum status dm_crypt_open(struct dm_crypt *device, const struct dm_crypt_volume *volume,
			  const uint8_t key[static DM_CRYPT_KEY_SIZE])
{
	enum status status;

	*device = (struct dm_crypt){.control_fd = -1};
	TRY(device_mapper_open(&device->control_fd));
	status = make_or_take_over(device, volume, key);
	if (status != OK) {
		close(device->control_fd);
		device->control_fd = -1;
	}
	return status;
}

/* --- its end -----------------------------------------------------------------------------------
 */

static int remove_unless_open(const struct dm_crypt *device)
{
	uint64_t deadline_ms = clock_now_ms() + GLANCE_TIME_MS;
	int error = device_mapper_remove(device->control_fd, device->name, false);

	while (error == EBUSY && clock_left_ms(deadline_ms) > 0) {
		clock_sleep_ms(GLANCE_PAUSE_MS);
		error = device_mapper_remove(device->control_fd, device->name, false);
	}
	return error;
}

/* The other table takes the place of the one that holds disk and key. */
static int replace_by_errors(const struct dm_crypt *device)
{
	const struct device_mapper_table errors = {
		.size_sectors = device->size_sectors,
		.target = "error",
		.is_read_only = device->is_read_only,
	};
	int error = device_mapper_load(device->control_fd, device->name, &errors);

	if (error == 0)
		error = device_mapper_resume(device->control_fd, device->name, true);
	if (error == 0)
		error = device_mapper_remove(device->control_fd, device->name, true);
	return error;
}

enum status dm_crypt_close(struct dm_crypt *device)
{
	int error;

	if (device->control_fd < 0)
		return OK;
	error = remove_unless_open(device);
	if (error == EBUSY) {
		log_warning("%s is still open: whoever uses it gets errors now", device->name);
		error = replace_by_errors(device);
	}
	close(device->control_fd);
	device->control_fd = -1;
	/* Somebody else may have removed it. */
	return error == 0 || error == ENXIO ? OK : refused(device, "removing it", error);
}

enum status dm_crypt_remove_remains(const char *volume_name)
{
	struct dm_crypt device = {0};
	struct device_mapper_state state;

	TRY(device_mapper_open(&device.control_fd));
	name_device(&device, volume_name);
	if (device_mapper_look(device.control_fd, device.name, &state) != 0) {
		close(device.control_fd);
		return OK;
	}
	if (become_keeper(&device, state.device) != OK) {
		close(device.control_fd);
		return FAIL_NAME_TAKEN;
	}
	device.size_sectors = state.table.size_sectors;
	device.is_read_only = state.table.is_read_only;
	return dm_crypt_close(&device);
}

bool dm_crypt_is_in_use(const struct dm_crypt *device)
{
	uint64_t deadline_ms = clock_now_ms() + GLANCE_TIME_MS;
	struct device_mapper_state state = {0};

	do {
		if (device_mapper_look(device->control_fd, device->name, &state) != 0 ||
		    state.open_count == 0)
			return false;
		clock_sleep_ms(GLANCE_PAUSE_MS);
	} while (clock_left_ms(deadline_ms) > 0);
	return true;
}
