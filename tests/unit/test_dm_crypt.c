/* The hand-off to dm-crypt, with the device mapper and the keyring played by the test. */
#include "io/dm_crypt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "io/kernel_key.h"
#include "tests/unit/test.h"

#define UUID "12345678-90ab-cdef-1234-567890abcdef"

/* --- the kernel --- */

static struct {
	bool is_absent;
	bool exists;
	bool is_open_by_others;
	int load_error;
	int resume_error;
	unsigned busy_looks; /* removals that are refused before one is granted */
	struct device_mapper_state state;
	struct device_mapper_table loaded; /* but not live */
	char control_path[256];
	unsigned loads_without_key;
	unsigned removals;
	unsigned removals_later;

	bool has_key;
	char key_description[64];
	uint8_t key[DM_CRYPT_KEY_SIZE];
} kernel;

enum status device_mapper_open(int *control_fd)
{
	if (kernel.is_absent)
		return FAIL_DM_CRYPT_ABSENT;
	snprintf(kernel.control_path, sizeof(kernel.control_path), "%s/control", test_folder());
	*control_fd = open(kernel.control_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT_TRUE(*control_fd >= 0);
	return OK;
}

int device_mapper_find_target(int control_fd, const char *target)
{
	(void)control_fd;
	EXPECT_TEXT(target, "crypt");
	return kernel.load_error == ENXIO ? ENXIO : 0;
}

int device_mapper_create(int control_fd, const char *name, const char *uuid, dev_t *device)
{
	(void)control_fd;
	if (kernel.exists)
		return EBUSY;
	kernel.exists = true;
	kernel.state = (struct device_mapper_state){.device = makedev(253, 0)};
	EXPECT_TEXT(name, "byok-data1");
	snprintf(kernel.state.uuid, sizeof(kernel.state.uuid), "%s", uuid);
	*device = kernel.state.device;
	return 0;
}

int device_mapper_load(int control_fd, const char *name, const struct device_mapper_table *table)
{
	(void)control_fd;
	(void)name;
	if (kernel.load_error != 0)
		return kernel.load_error;
	if (strcmp(table->target, "crypt") == 0 && !kernel.has_key)
		kernel.loads_without_key++;
	kernel.loaded = *table;
	return 0;
}

int device_mapper_resume(int control_fd, const char *name, bool at_once)
{
	(void)control_fd;
	(void)name;
	(void)at_once;
	if (kernel.resume_error != 0)
		return kernel.resume_error;
	kernel.state.table = kernel.loaded;
	return 0;
}

int device_mapper_look(int control_fd, const char *name, struct device_mapper_state *state)
{
	(void)control_fd;
	(void)name;
	if (!kernel.exists)
		return ENXIO;
	*state = kernel.state;
	state->open_count = kernel.is_open_by_others || kernel.busy_looks > 0 ? 1 : 0;
	if (kernel.busy_looks > 0)
		kernel.busy_looks--;
	return 0;
}

int device_mapper_remove(int control_fd, const char *name, bool later)
{
	(void)control_fd;
	(void)name;
	if (!kernel.exists)
		return ENXIO;
	if (later) {
		kernel.removals_later++;
		kernel.exists = kernel.is_open_by_others;
		return 0;
	}
	if (kernel.busy_looks > 0) {
		kernel.busy_looks--;
		return EBUSY;
	}
	if (kernel.is_open_by_others)
		return EBUSY;
	kernel.removals++;
	kernel.exists = false;
	return 0;
}

enum status kernel_key_add(struct kernel_key *key, const char *description, const uint8_t *bytes,
			   size_t size)
{
	EXPECT_EQUAL(size, DM_CRYPT_KEY_SIZE);
	snprintf(kernel.key_description, sizeof(kernel.key_description), "%s", description);
	memcpy(kernel.key, bytes, size);
	kernel.has_key = true;
	key->serial = 77;
	return OK;
}

void kernel_key_forget(struct kernel_key *key)
{
	if (key->serial == 77)
		kernel.has_key = false;
	key->serial = 0;
}

/* --- helpers --- */

static uint8_t key[DM_CRYPT_KEY_SIZE];
static struct dm_crypt device;

static struct dm_crypt_volume prepare(void)
{
	memset(&kernel, 0, sizeof(kernel));
	test_fill(key, sizeof(key), 5);
	return (struct dm_crypt_volume){
		.name = "data1",
		.uuid = UUID,
		.disk = makedev(8, 16),
		.data_offset_bytes = 16 << 20,
		.size_bytes = 1 << 30,
		.sector_size = 4096,
	};
}

/* Where there is a node of that number by chance, or none can be made, only what comes before is
 * tested: opening needs the node. */
static bool can_have_node(void)
{
	struct stat information;

	if (stat("/dev/dm-0", &information) == 0)
		return S_ISBLK(information.st_mode) && information.st_rdev == makedev(253, 0);
	if (mknod("/dev/dm-0", S_IFBLK | 0600, makedev(253, 0)) != 0)
		return false;
	unlink("/dev/dm-0");
	return true;
}

static void open_device(const struct dm_crypt_volume *volume)
{
	if (!can_have_node())
		SKIP("no device node can be made here");
	EXPECT_OK(dm_crypt_open(&device, volume, key));
}

static void close_device(void)
{
	EXPECT_OK(dm_crypt_close(&device));
	unlink("/dev/dm-0");
}

/* --- */

TEST(the_table_is_as_the_kernel_shows_it)
{
	struct dm_crypt_volume volume = prepare();
	struct device_mapper_table table;

	dm_crypt_table(&table, &volume);
	EXPECT_TEXT(table.target, "crypt");
	EXPECT_EQUAL(table.size_sectors, 1 << 21);
	EXPECT_TEXT(table.parameters,
		    "aes-xts-plain64 :64:logon:byok:" UUID " 0 8:16 32768 3"
		    " no_read_workqueue no_write_workqueue sector_size:4096");
	/* The kernel shows no sector size of 512, and counts the IV from where the segment says. */
	volume.sector_size = 512;
	volume.first_unit = 88;
	volume.allows_discard = true;
	dm_crypt_table(&table, &volume);
	EXPECT_TEXT(table.parameters,
		    "aes-xts-plain64 :64:logon:byok:" UUID " 88 8:16 32768 3"
		    " allow_discards no_read_workqueue no_write_workqueue");
}

TEST(the_key_is_in_the_keyring_only_while_the_table_is_loaded)
{
	struct dm_crypt_volume volume = prepare();

	open_device(&volume);
	EXPECT_TEXT(kernel.key_description, "byok:" UUID);
	EXPECT_BYTES(kernel.key, key, sizeof(key));
	EXPECT_EQUAL(kernel.loads_without_key, 0);
	EXPECT_FALSE(kernel.has_key);
	EXPECT_TEXT(kernel.state.uuid, "CRYPT-LUKS2-1234567890abcdef1234567890abcdef-byok-data1");
	EXPECT_TEXT(device.path, "/dev/dm-0");
	close_device();
	EXPECT_FALSE(kernel.exists);
}

TEST(the_key_leaves_the_keyring_and_the_device_goes_when_the_table_is_refused)
{
	struct dm_crypt_volume volume = prepare();

	kernel.load_error = EINVAL;
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DM_CRYPT);
	EXPECT_FALSE(kernel.has_key);
	EXPECT_FALSE(kernel.exists);
	EXPECT_EQUAL(device.control_fd, -1);
	EXPECT_OK(dm_crypt_close(&device));
}

TEST(a_disk_that_somebody_has_claimed_is_said_to_be_in_use)
{
	struct dm_crypt_volume volume = prepare();

	kernel.load_error = EBUSY;
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DISK_IN_USE);
	EXPECT_FALSE(kernel.exists);
}

TEST(a_device_that_does_not_start_is_taken_away)
{
	struct dm_crypt_volume volume = prepare();

	kernel.resume_error = EIO;
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DM_CRYPT);
	EXPECT_FALSE(kernel.exists);
}

TEST(a_kernel_without_device_mapper_or_target_is_told)
{
	struct dm_crypt_volume volume = prepare();

	kernel.load_error = ENXIO;
	EXPECT_STATUS(dm_crypt_probe(), FAIL_DM_CRYPT_ABSENT);
	kernel.is_absent = true;
	EXPECT_STATUS(dm_crypt_probe(), FAIL_DM_CRYPT_ABSENT);
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DM_CRYPT_ABSENT);
	EXPECT_OK(dm_crypt_close(&device));
}

/* A process dies: its locks go with it, the device stays. */
static void die(void)
{
	close(device.control_fd);
	device.control_fd = -1;
}

TEST(the_device_of_a_process_that_died_is_taken_over_without_the_key)
{
	struct dm_crypt_volume volume = prepare();

	open_device(&volume);
	die();
	kernel.is_open_by_others = true; /* it is mounted */
	kernel.key_description[0] = '\0';
	EXPECT_OK(dm_crypt_open(&device, &volume, key));
	EXPECT_TEXT(kernel.key_description, "");
	kernel.is_open_by_others = false;
	close_device();
}

TEST(one_process_looks_after_a_device)
{
	struct dm_crypt_volume volume = prepare();
	struct dm_crypt second;

	open_device(&volume);
	EXPECT_STATUS(dm_crypt_open(&second, &volume, key), FAIL_DISK_IN_USE);
	EXPECT_TRUE(kernel.exists);
	close_device();
}

TEST(a_device_that_is_not_the_very_same_is_left_alone)
{
	struct dm_crypt_volume volume = prepare();

	open_device(&volume);
	die();
	volume.data_offset_bytes += 4096;
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DM_CRYPT);
	volume.data_offset_bytes -= 4096;
	volume.is_read_only = true;
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DM_CRYPT);
	volume.is_read_only = false;
	volume.uuid = "00000000-90ab-cdef-1234-567890abcdef";
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DM_CRYPT);
	EXPECT_TRUE(kernel.exists);
	EXPECT_EQUAL(kernel.removals + kernel.removals_later, 0);
	unlink("/dev/dm-0");
}

TEST(a_device_that_never_got_its_table_is_made_anew)
{
	struct dm_crypt_volume volume = prepare();
	dev_t number;

	EXPECT_EQUAL(device_mapper_create(-1, "byok-data1", "half", &number), 0);
	open_device(&volume);
	EXPECT_EQUAL(kernel.removals, 1);
	close_device();
}

TEST(a_glance_at_the_device_does_not_keep_it)
{
	struct dm_crypt_volume volume = prepare();

	open_device(&volume);
	kernel.busy_looks = 3;
	EXPECT_FALSE(dm_crypt_is_in_use(&device));
	kernel.busy_looks = 3;
	EXPECT_OK(dm_crypt_close(&device));
	EXPECT_EQUAL(kernel.removals, 1);
	unlink("/dev/dm-0");
}

TEST(a_device_that_stays_open_turns_into_errors_and_goes_when_it_is_closed)
{
	struct dm_crypt_volume volume = prepare();

	open_device(&volume);
	kernel.is_open_by_others = true;
	EXPECT_TRUE(dm_crypt_is_in_use(&device));
	EXPECT_OK(dm_crypt_close(&device));
	EXPECT_TEXT(kernel.state.table.target, "error");
	EXPECT_EQUAL(kernel.state.table.size_sectors, 1 << 21);
	EXPECT_EQUAL(kernel.removals_later, 1);
	/* Until then the volume cannot be served; afterwards it can. */
	EXPECT_STATUS(dm_crypt_open(&device, &volume, key), FAIL_DEVICE_IN_USE);
	kernel.is_open_by_others = false;
	EXPECT_OK(dm_crypt_open(&device, &volume, key));
	EXPECT_TEXT(kernel.state.table.target, "crypt");
	close_device();
}

TEST(what_a_process_left_is_removed_unless_it_lives)
{
	struct dm_crypt_volume volume = prepare();

	EXPECT_OK(dm_crypt_remove_remains("data1"));
	open_device(&volume);
	EXPECT_STATUS(dm_crypt_remove_remains("data1"), FAIL_NAME_TAKEN);
	EXPECT_TRUE(kernel.exists);
	die();
	kernel.is_open_by_others = true;
	EXPECT_OK(dm_crypt_remove_remains("data1"));
	EXPECT_TEXT(kernel.state.table.target, "error");
	unlink("/dev/dm-0");
}
