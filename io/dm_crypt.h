/* A decrypted volume as a device of the kernel's own dm-crypt: byok hands over the key and the
 * place, and moves no byte itself. The device goes on when this process ends without
 * dm_crypt_close, and a later dm_crypt_open takes it over.
 *
 * The device is named byok-NAME, with the uuid that cryptsetup's convention wants, so that tools
 * which know dm-crypt see what it is.
 */
#ifndef IO_DM_CRYPT_H
#define IO_DM_CRYPT_H

#include "io/device_mapper.h"

#define DM_CRYPT_KEY_SIZE 64
#define DM_CRYPT_UUID_SIZE 37 /* of the volume, as LUKS2 writes it, with its NUL */

struct dm_crypt_volume {
	const char *name; /* of the volume; up to 64 bytes */
	const char *uuid; /* of the volume */
	dev_t disk;
	uint64_t data_offset_bytes;
	uint64_t size_bytes;
	uint64_t first_unit;
	uint32_t sector_size;
	bool is_read_only;
	bool allows_discard;
};

struct dm_crypt {
	int control_fd; /* -1: not open */
	char name[DEVICE_MAPPER_NAME_SIZE];
	char path[32]; /* "/dev/dm-3" */
	uint64_t size_sectors;
	bool is_read_only;
};

/* Whether this kernel has the target; it loads the module for that. FAIL_DM_CRYPT_ABSENT,
 * FAIL_NOT_ROOT, FAIL_DM_CRYPT. */
MUST_CHECK enum status dm_crypt_probe(void);

/* The kernel claims the disk, so that nobody else may have. Before lockdown: it needs the keyring,
 * and makes the device's node where neither udev nor devtmpfs has. A device that is still there
 * from a process that died is taken over if it is the very same.
 * FAIL_DISK_IN_USE if the disk is claimed, or another process of byok looks after the device;
 * FAIL_DEVICE_IN_USE if what is left of it after a forced stop is still open; FAIL_DM_CRYPT
 * (logged) for all else that the kernel refuses; the failures of dm_crypt_probe. */
MUST_CHECK enum status dm_crypt_open(struct dm_crypt *device, const struct dm_crypt_volume *volume,
				     const uint8_t key[static DM_CRYPT_KEY_SIZE]);

/* Ends the device, and the kernel's copy of the key with it. Where it is still open after a moment
 * its users get errors from now on, and it goes when they do. Harmless if not open. */
MUST_CHECK enum status dm_crypt_close(struct dm_crypt *device);

/* The same for the device that a process which died left of the volume of that name, if it did.
 * FAIL_NAME_TAKEN if the process lives. */
MUST_CHECK enum status dm_crypt_remove_remains(const char *volume_name);

/* Whether anybody has it open; who only looks at it for a moment does not count. */
bool dm_crypt_is_in_use(const struct dm_crypt *device);

/* The table that the volume is served by, as the kernel shows it too. */
void dm_crypt_table(struct device_mapper_table *table, const struct dm_crypt_volume *volume);

#endif
