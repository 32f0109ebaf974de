/* A copy of all of a LUKS2 disk that stands before its data (both copies of the header, and the
 * keyslots) as a file, in the form of cryptsetup luksHeaderBackup: either program restores what the
 * other has saved. It opens the disk with every key that opened it on that day. */
#ifndef APP_VOLUME_HEADER_BACKUP_H
#define APP_VOLUME_HEADER_BACKUP_H

#include "app/volume/volume.h"

/* Saves the header of a loaded volume into a new file, readable by its owner only; the disk may be
 * in use. FAIL_HEADER_CHANGED if it is not what was loaded; the failures of policy (a copy made
 * during a re-encryption would be worth nothing), disk and file_create. FAIL_DISK_READ_ONLY if a
 * copy of the header is bad and cannot be repaired. */
MUST_CHECK enum status header_backup_save(const struct volume *volume, const char *path);

/* What is on the disk, as far as it can be read, and what was put there. */
/* The same into FOLDER/UUID.header, in the place of an older one there, for the day on which nobody
 * has made one. Keyslots that are not in use are left out, so that it takes little room. One that
 * is as new as the volume is left as it is. The folder is made if need be. */
MUST_CHECK enum status header_backup_keep(const struct volume *volume, const char *folder);

struct header_backup_result {
	bool had_header;          /* one that can be read */
	uint64_t old_sequence_id; /* of that */
	uint64_t new_sequence_id;
	char detail[256]; /* on failure: what does not fit */
};

/* Puts the copy back. Before anything is written:
 *   the copy must be whole, by its checksums, and what policy lets byok open on a disk of that size
 *   the disk must be writable, and used by nobody
 *   a header that is there must have the same uuid, sizes and data offset: FAIL_BACKUP_FOREIGN; it
 *     must not be newer (FAIL_BACKUP_OLDER), be one that byok cannot read (FAIL_METADATA_...), and
 *     the disk must hold nothing else (FAIL_DISK_HAS_...): these three unless `force`
 *
 * Keyslot areas that differ are written first, then the secondary, then the primary copy, each step
 * synced; with a sequence id above that of a newer header, so that what was written wins. Cut
 * anywhere, the same call completes it. */
MUST_CHECK enum status header_backup_restore(struct header_backup_result *result,
					     const char *disk_path, const char *path, bool force);

#endif
