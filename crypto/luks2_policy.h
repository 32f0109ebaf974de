/* What byok demands of a LUKS2 header before it lets any secret near it. A header is hostile input:
 * whoever can write to the disk could ask for no encryption, for an area outside the header, or for
 * a key derivation that never ends. */
#ifndef CRYPTO_LUKS2_POLICY_H
#define CRYPTO_LUKS2_POLICY_H

#include "crypto/luks2_metadata.h"

/* The most that a keyslot may ask for: beyond it is FAIL_KDF_COST. cryptsetup's own limits for what
 * it makes are 4 GiB and 4 threads; 2 s of PBKDF2 are below 20 million iterations on any CPU. */
#define LUKS2_POLICY_ITERATIONS_MAX 50000000u
#define LUKS2_POLICY_MEMORY_KIB_MAX (4u * 1024 * 1024)
#define LUKS2_POLICY_TIME_MAX 1000u
#define LUKS2_POLICY_CPUS_MAX 64u
#define LUKS2_POLICY_MEMORY_TIME_MAX (64ull * 1024 * 1024) /* KiB x passes: about a minute */

/* The one segment that byok serves. */
struct luks2_layout {
	uint32_t sector_size;
	uint64_t data_offset_bytes;
	uint64_t data_size_bytes; /* whole sectors; a rest at the end of the disk is not served */
	uint64_t first_unit;      /* iv_tweak */
	unsigned digest;          /* that the volume key must satisfy */
};

/* In this order: FAIL_REENCRYPTION or FAIL_REQUIREMENT; FAIL_CIPHER_NULL for the segment or a
 * keyslot area; FAIL_SEGMENT unless there is exactly one crypt segment, without integrity, with
 * sectors of 512 or 4096 bytes, behind the keyslots; FAIL_CIPHER unless it is aes-xts-plain64;
 * FAIL_SEGMENT_OUTSIDE if it ends past `disk_size`, or nothing is left for it; FAIL_KEYSLOT_LAYOUT
 * for an area that overlaps another or lies outside its place. What single keyslots ask for is
 * luks2_policy_check_keyslot's. */
MUST_CHECK enum status luks2_policy_check(struct luks2_layout *layout,
					  const struct luks2_header *header,
					  const struct luks2_metadata *metadata,
					  uint64_t disk_size);

/* FAIL_KEYSLOT_KIND for one that this build cannot open, FAIL_CIPHER for a key of other than 512
 * bits, FAIL_CIPHER_NULL, FAIL_KDF_COST. */
MUST_CHECK enum status luks2_policy_check_keyslot(const struct luks2_keyslot *keyslot);

#endif
