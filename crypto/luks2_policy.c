#include "crypto/luks2_policy.h"

#include "crypto/luks2_keyslot.h"
#include "generated/config.h"
#include "platform/bytes.h"

static enum status check_requirements(const struct luks2_metadata *metadata)
{
	switch (metadata->requirement) {
	case LUKS2_REQUIREMENT_NONE: return OK;
	case LUKS2_REQUIREMENT_REENCRYPTION: return FAIL_REENCRYPTION;
	case LUKS2_REQUIREMENT_UNKNOWN:
	default: return FAIL_REQUIREMENT;
	}
}

static enum status check_no_null_cipher(const struct luks2_metadata *metadata)
{
	for (unsigned i = 0; i < LUKS2_SEGMENTS; i++)
		if (metadata->segments[i].exists &&
		    metadata->segments[i].cipher == LUKS2_CIPHER_NULL)
			return FAIL_CIPHER_NULL;
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++)
		if (metadata->keyslots[i].exists &&
		    metadata->keyslots[i].area_cipher == LUKS2_CIPHER_NULL)
			return FAIL_CIPHER_NULL;
	return OK;
}

/* Where the keyslot areas end; false if the sizes do not fit into 64 bits. */
static bool keyslots_end(uint64_t *end, const struct luks2_header *header,
			 const struct luks2_metadata *metadata)
{
	return bytes_add(end, 2 * header->header_size, metadata->keyslots_size);
}

static enum status check_segment(struct luks2_layout *layout, const struct luks2_header *header,
				 const struct luks2_metadata *metadata)
{
	const struct luks2_segment *segment = &metadata->segments[0];
	unsigned digest_count = 0;
	uint64_t areas_end;

	if (metadata->segments[1].exists || !segment->is_crypt || segment->has_integrity ||
	    segment->is_backup || (segment->sector_size != 512 && segment->sector_size != 4096))
		return FAIL_SEGMENT;
	if (!keyslots_end(&areas_end, header, metadata) || segment->offset < areas_end)
		return FAIL_SEGMENT;
	for (unsigned i = 0; i < LUKS2_DIGESTS; i++) {
		if ((metadata->digests[i].segments & 1) == 0)
			continue;
		digest_count++;
		layout->digest = i;
	}
	if (digest_count != 1 || !metadata->digests[layout->digest].is_pbkdf2)
		return FAIL_SEGMENT;
	layout->sector_size = segment->sector_size;
	layout->data_offset_bytes = segment->offset;
	layout->data_size_bytes = segment->size;
	layout->first_unit = segment->iv_tweak;
	return OK;
}

/* The key's size stands at the keyslots only. */
static enum status check_cipher(const struct luks2_layout *layout,
				const struct luks2_metadata *metadata)
{
	if (metadata->segments[0].cipher != LUKS2_CIPHER_AES_XTS_PLAIN64)
		return FAIL_CIPHER;
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		const struct luks2_keyslot *keyslot = &metadata->keyslots[i];

		if ((metadata->digests[layout->digest].keyslots >> i & 1) != 0 &&
		    keyslot->kind == LUKS2_KEYSLOT_LUKS2 &&
		    keyslot->key_size != LUKS2_VOLUME_KEY_SIZE)
			return FAIL_CIPHER;
	}
	return OK;
}

static enum status check_extent(struct luks2_layout *layout, bool is_dynamic, uint64_t disk_size)
{
	uint64_t end;

	if (layout->data_offset_bytes >= disk_size)
		return FAIL_SEGMENT_OUTSIDE;
	if (is_dynamic)
		layout->data_size_bytes = (disk_size - layout->data_offset_bytes) /
					  layout->sector_size * layout->sector_size;
	if (layout->data_size_bytes == 0 ||
	    !bytes_add(&end, layout->data_offset_bytes, layout->data_size_bytes) || end > disk_size)
		return FAIL_SEGMENT_OUTSIDE;
	return OK;
}

static bool areas_overlap(const struct luks2_keyslot *a, const struct luks2_keyslot *b)
{
	return a->area_offset < b->area_offset + b->area_size &&
	       b->area_offset < a->area_offset + a->area_size;
}

static enum status check_areas(const struct luks2_header *header,
			       const struct luks2_metadata *metadata)
{
	const struct luks2_keyslot *keyslots = metadata->keyslots;
	uint64_t begin = 2 * header->header_size;
	uint64_t end, area_end;

	if (!keyslots_end(&end, header, metadata))
		return FAIL_KEYSLOT_LAYOUT;
	for (unsigned i = 0; i < LUKS2_KEYSLOTS; i++) {
		if (!keyslots[i].exists)
			continue;
		if (keyslots[i].area_offset < begin || keyslots[i].area_size == 0 ||
		    !bytes_add(&area_end, keyslots[i].area_offset, keyslots[i].area_size) ||
		    area_end > end)
			return FAIL_KEYSLOT_LAYOUT;
		if (keyslots[i].kind == LUKS2_KEYSLOT_LUKS2 &&
		    keyslots[i].key_size == LUKS2_VOLUME_KEY_SIZE &&
		    keyslots[i].area_size < LUKS2_AREA_SIZE)
			return FAIL_KEYSLOT_LAYOUT;
		for (unsigned k = 0; k < i; k++)
			if (keyslots[k].exists && areas_overlap(&keyslots[i], &keyslots[k]))
				return FAIL_KEYSLOT_LAYOUT;
	}
	return OK;
}

enum status luks2_policy_check(struct luks2_layout *layout, const struct luks2_header *header,
			       const struct luks2_metadata *metadata, uint64_t disk_size)
{
	struct luks2_layout found = {0};

	TRY(check_requirements(metadata));
	TRY(check_no_null_cipher(metadata));
	TRY(check_segment(&found, header, metadata));
	TRY(check_cipher(&found, metadata));
	TRY(check_extent(&found, metadata->segments[0].is_dynamic, disk_size));
	TRY(check_areas(header, metadata));
	if (metadata->digests[found.digest].iterations > LUKS2_POLICY_ITERATIONS_MAX)
		return FAIL_KDF_COST;
	*layout = found;
	return OK;
}

static enum status check_argon2(const struct luks2_kdf *kdf)
{
	if (!CONFIG_ARGON2ID)
		return FAIL_KEYSLOT_KIND;
	if (kdf->memory_kib > LUKS2_POLICY_MEMORY_KIB_MAX || kdf->time > LUKS2_POLICY_TIME_MAX ||
	    kdf->cpus > LUKS2_POLICY_CPUS_MAX ||
	    (uint64_t)kdf->memory_kib * kdf->time > LUKS2_POLICY_MEMORY_TIME_MAX)
		return FAIL_KDF_COST;
	return OK;
}

enum status luks2_policy_check_keyslot(const struct luks2_keyslot *keyslot)
{
	if (!keyslot->exists || keyslot->kind != LUKS2_KEYSLOT_LUKS2)
		return FAIL_KEYSLOT_KIND;
	if (keyslot->area_cipher == LUKS2_CIPHER_NULL)
		return FAIL_CIPHER_NULL;
	if (keyslot->key_size != LUKS2_VOLUME_KEY_SIZE)
		return FAIL_CIPHER;
	if (keyslot->area_cipher != LUKS2_CIPHER_AES_XTS_PLAIN64 ||
	    keyslot->area_key_size != LUKS2_AREA_KEY_SIZE)
		return FAIL_KEYSLOT_KIND;
	switch (keyslot->kdf.kind) {
	case LUKS2_KDF_PBKDF2:
		return keyslot->kdf.iterations > LUKS2_POLICY_ITERATIONS_MAX ? FAIL_KDF_COST : OK;
	case LUKS2_KDF_ARGON2I:
	case LUKS2_KDF_ARGON2ID: return check_argon2(&keyslot->kdf);
	case LUKS2_KDF_OTHER:
	default: return FAIL_KEYSLOT_KIND;
	}
}
