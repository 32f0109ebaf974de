/* A LUKS2 volume on a disk or image: load, create, unlock, change, commit. The one place that knows
 * in which order a header is written; design §5. Not for the data behind the header, nor for the
 * vault.
 *
 * In every function a path names a block device or a regular file, and no descriptor outlives the
 * call. Working memory is mapped for the call and unmapped after it.
 *
 * Order of writes, each step ended by an fsync:
 *   create   1. zeros over the binary headers of a LUKS2 volume that may be there
 *            2. zeros over everything before the data but the first 4 KiB, and over the disk's last
 *               MiB     3. a mark over those 4 KiB: whatever was there is now gone for every tool
 *            4. keyslot areas     5. secondary copy     6. primary copy, over the mark
 *            Cut before 1 is whole, an old volume still opens, or there is none; cut before 5 is
 *            whole, there is none, and a disk that was blank is blank still or bears the mark;
 *            behind that, there is all of the new one.
 *   commit   1. new keyslot areas, which no copy names yet
 *            2. the copy that is not good or older, else the primary     3. the other copy
 *            At every instant at least one copy is good, and has either the old state or the new.
 *            (a removed keyslot: 1. its area is overwritten; then the copies, as above)
 *   repair   the bad copy alone, from the good one, with a salt of its own
 */
#ifndef APP_VOLUME_VOLUME_H
#define APP_VOLUME_VOLUME_H

#include "app/vault/vault_token.h"
#include "crypto/luks2_keyslot.h"
#include "crypto/luks2_policy.h"
#include "platform/log.h"

#define VOLUME_PATH_SIZE 256
#define VOLUME_NAME_SIZE 33 /* the LUKS2 label, as volume_name_check lets it be; with the NUL */
#define VOLUME_RECOVERY_TOKEN_TYPE "byok-recovery"
#define VOLUME_ANY_KEYSLOT (-1)
#define VOLUME_DATA_OFFSET (16u * 1024 * 1024)
#define VOLUME_DISK_SIZE_MIN (VOLUME_DATA_OFFSET + 1024 * 1024)

enum volume_copy_state {
	VOLUME_COPY_GOOD,
	VOLUME_COPY_OLD, /* good, but the other one is newer */
	VOLUME_COPY_BAD,
	VOLUME_COPY_REPAIRED, /* was old or bad, and is good since volume_load */
};

/* Plain data, about 80 KiB; holds no descriptor and no secret, and may be copied. */
struct volume {
	char disk_path[VOLUME_PATH_SIZE];
	uint64_t disk_size_bytes;
	bool is_read_only; /* the disk can only be read: nothing was repaired */
	enum volume_copy_state copies[LUKS2_COPIES];
	struct luks2_header header; /* its label is the volume's NAME, for disks that byok made */
	struct luks2_text text;     /* the truth; `metadata` is what it says */
	struct luks2_metadata metadata;
	uint64_t area_marks[LUKS2_KEYSLOTS]; /* of areas that are written and not committed; or 0 */
};

/* Reads both copies under a shared lock, checks them, takes the newer, and repairs the other, if it
 * is bad or old, under the exclusive lock (on a read-only disk it stays as it is). A failed repair
 * is logged and does not fail the load. `volume` is undefined after a failure:
 *
 *   FAIL_DISK_ABSENT, FAIL_DISK_KIND, FAIL_DISK_IO, FAIL_NOT_ROOT, FAIL_HEADER_LOCKED
 *   FAIL_NOT_LUKS, FAIL_LUKS_VERSION, FAIL_HEADER_TRUNCATED (the disk ends within the keyslots)
 *   FAIL_HEADER_DAMAGED, FAIL_HEADER_FIELDS, FAIL_METADATA_...: of both copies, or of the newer one
 *   if its checksum is right, since then somebody means what byok cannot read
 *   FAIL_HEADER_AMBIGUOUS: a copy is bad, and the disk shows another signature beside LUKS
 */
MUST_CHECK enum status volume_load(struct volume *volume, const char *disk_path);

/* The same without any repair, for reports: what is bad or old is only told. */
MUST_CHECK enum status volume_load_unrepaired(struct volume *volume, const char *disk_path);

/* Before any unlock, and before a worker is started. See luks2_policy_check. */
MUST_CHECK enum status volume_check_policy(struct luks2_layout *layout,
					   const struct volume *volume);

/* FAIL_NO_VAULT_TOKEN, FAIL_TOKEN. */
MUST_CHECK enum status volume_vault_token(struct vault_token *token, const struct volume *volume);

/* True and its number if a token of byok's marks a keyslot as that of the recovery key. */
MUST_CHECK bool volume_recovery_keyslot(unsigned *keyslot, const struct volume *volume);

/* Tries one keyslot, or with VOLUME_ANY_KEYSLOT all that have a priority above 0, preferred ones
 * first. Checks the policy first, and the volume key against the digest last. FAIL_WRONG_KEY if the
 * passphrase opens none; else the policy's failures, or the first other failure of a keyslot if
 * none could be tried (FAIL_KEYSLOT_KIND, FAIL_KDF_COST, FAIL_DISK_IO ...). */
MUST_CHECK enum status volume_unlock(struct secret *volume_key, const struct volume *volume,
				     int keyslot, const void *passphrase, size_t passphrase_size);

enum volume_keyslot_purpose {
	VOLUME_KEYSLOT_VAULT,      /* full entropy: 1000 iterations of PBKDF2 */
	VOLUME_KEYSLOT_RECOVERY,   /* the same, and marked by a token of type "byok-recovery" */
	VOLUME_KEYSLOT_PASSPHRASE, /* may be weak: PBKDF2 for about two seconds of this machine */
};

struct volume_keyslot_options {
	enum volume_keyslot_purpose purpose;
	const void *passphrase;
	size_t passphrase_size;
	uint32_t iterations; /* 0: as the purpose says */
};

struct volume_create_options {
	const char *disk_path;
	const char *name;                              /* checked by volume_name_check */
	uint32_t sector_size;                          /* 512 or 4096; 0: 4096 */
	const struct volume_keyslot_options *keyslots; /* keyslot 0, 1, ... */
	size_t keyslot_count;                          /* 1 to LUKS2_KEYSLOTS */
	const struct vault_token *vault_token;         /* NULL: none */
	bool only_if_blank; /* FAIL_DISK_NOT_BLANK if there is anything before the data */
};

/* Makes the volume with a random volume key, and loads it. What was on the disk is gone, so the
 * caller has asked disk_probe (and, with --force, nobody else). A block device is claimed
 * exclusively. FAIL_NAME, FAIL_DISK_GEOMETRY, FAIL_DISK_TOO_SMALL, FAIL_DISK_NOT_BLANK,
 * FAIL_KEYSLOTS_FULL, FAIL_METADATA_FULL and the failures of the disk; nothing is written unless
 * all that can be known before is fine. */
MUST_CHECK enum status volume_create(struct volume *volume,
				     const struct volume_create_options *options);

/* Whether a disk that begins so bears the mark of a volume_create that was cut short: all that
 * stands before VOLUME_DATA_OFFSET is then byok's own, and of no use to anybody. */
#define VOLUME_MARK_SIZE 512
MUST_CHECK bool volume_create_was_cut(const uint8_t first_sector[static VOLUME_MARK_SIZE]);

/* The changes: each edits only `volume`'s text in memory, and is on the disk after volume_commit.
 * volume_add_keyslot writes the area, which no header names yet, into free space at once, under the
 * lock and with commit's comparison, so that commit is the same for all; FAIL_KEYSLOTS_FULL if
 * there is no number or space left. */
MUST_CHECK enum status volume_add_keyslot(struct volume *volume, unsigned *number,
					  const struct volume_keyslot_options *options,
					  const struct secret *volume_key);

/* The other way. The area is overwritten at once, under the lock and with commit's comparison, so
 * that the keyslot opens nothing any more whatever becomes of the commit, which takes it out of the
 * metadata; so do tokens of byok's own that marked it. FAIL_KEYSLOT_LAST, and nothing written, if
 * no other keyslot of the volume would be left. */
MUST_CHECK enum status volume_remove_keyslot(struct volume *volume, unsigned number);

/* Brings the byok token to what `token` says, or adds it; members that byok does not know stay. */
MUST_CHECK enum status volume_set_vault_token(struct volume *volume,
					      const struct vault_token *token);

/* Writes both copies with the next sequence id. FAIL_HEADER_CHANGED, and nothing written, if the
 * disk has another sequence id or uuid than was loaded; FAIL_DISK_READ_ONLY, and what volume_load
 * fails with. After any failure load again: the disk may have the old state or the new one. */
MUST_CHECK enum status volume_commit(struct volume *volume);

struct volume_found {
	char disk_path[VOLUME_PATH_SIZE];
	char name[LUKS2_LABEL_SIZE];
	char uuid[LUKS2_UUID_SIZE];
};

/* Block devices (whole disks, partitions, LVM, md) that carry a byok token, in the order of their
 * names, without repairing anything. Devices that are held by another one, that byok or NBD serves
 * or that lie on such a one (their reads may wait for byok), and those of no size are not touched;
 * what cannot be read is passed over, with a line of that priority. Returns how many there are,
 * which may be more than found_max. `may_read`, unless NULL, is asked before each one. */
typedef bool volume_may_read(void *context, const char *disk_path);
size_t volume_find_all(struct volume_found *found, size_t found_max, enum log_priority priority,
		       volume_may_read *may_read, void *context);

#endif
