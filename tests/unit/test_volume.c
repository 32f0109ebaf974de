/* A volume on a disk in memory: every damage, every moment of a power cut, every failing call. */
#include "app/volume/volume.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/bytes.h"
#include "tests/unit/fakes/fake_volume_disk.c"
#include "tests/unit/luks2_sample.h"
#include "tests/unit/test.h"

#define HEADER_SIZE 0x10000
#define CUT_SEEDS 12

static struct volume volume;
static uint8_t saved[FAKE_DISK_SIZE];

static const struct vault_token token = {
	.keyslot = 0,
	.current = {"https://a.vault.azure.net/keys/k/1", "RSA-OAEP-256", "d3JhcHBlZA"},
	.identity = "11111111-2222-3333-4444-555555555555",
	.created = "2026-01-02T03:04:05Z",
};

static const struct volume_keyslot_options keyslots[] = {
	{VOLUME_KEYSLOT_VAULT, "vault secret", 12, 10},
	{VOLUME_KEYSLOT_RECOVERY, "recovery", 8, 10},
};

static const struct volume_create_options create_options = {
	.disk_path = "disk",
	.name = "data1",
	.keyslots = keyslots,
	.keyslot_count = 2,
	.vault_token = &token,
};

static void make_volume(void)
{
	fake_disk_reset();
	EXPECT_OK(volume_create(&volume, &create_options));
	memcpy(saved, fake_disk.now, sizeof(saved));
}

static void restore(void)
{
	memcpy(fake_disk.now, saved, sizeof(saved));
	memcpy(fake_disk.safe, saved, sizeof(saved));
	memset(fake_disk.dirty, 0, sizeof(fake_disk.dirty));
	fake_disk_reboot();
}

static enum status unlock_with(struct secret *key, const char *passphrase)
{
	return volume_unlock(key, &volume, VOLUME_ANY_KEYSLOT, passphrase, strlen(passphrase));
}

static bool disk_is_as_saved(void)
{
	return memcmp(fake_disk.now, saved, sizeof(saved)) == 0;
}

TEST(a_new_volume_opens_with_each_of_its_passphrases)
{
	struct secret vault = {0}, recovery = {0}, other = {0};
	struct luks2_layout layout;
	struct vault_token found;
	unsigned keyslot;

	make_volume();
	EXPECT_TEXT(volume.header.label, "data1");
	EXPECT_EQUAL(volume.header.header_size, HEADER_SIZE);
	EXPECT_EQUAL(strlen(volume.header.uuid), 36);
	EXPECT_OK(volume_check_policy(&layout, &volume));
	EXPECT_EQUAL(layout.sector_size, 4096);
	EXPECT_EQUAL(layout.data_offset_bytes, VOLUME_DATA_OFFSET);
	EXPECT_EQUAL(layout.data_size_bytes, FAKE_DISK_SIZE - VOLUME_DATA_OFFSET);
	EXPECT_OK(unlock_with(&vault, "vault secret"));
	EXPECT_OK(unlock_with(&recovery, "recovery"));
	EXPECT_EQUAL(vault.size, 64);
	EXPECT_BYTES(vault.bytes, recovery.bytes, 64);
	EXPECT_STATUS(unlock_with(&other, "something else"), FAIL_WRONG_KEY);
	EXPECT_EQUAL(other.size, 0);
	EXPECT_STATUS(volume_unlock(&other, &volume, 1, "vault secret", 12), FAIL_WRONG_KEY);
	EXPECT_STATUS(volume_unlock(&other, &volume, 5, "vault secret", 12), FAIL_WRONG_KEY);
	EXPECT_OK(volume_unlock(&other, &volume, 0, "vault secret", 12));
	EXPECT_OK(volume_vault_token(&found, &volume));
	EXPECT_TEXT(found.current.kid, token.current.kid);
	EXPECT_TRUE(volume_recovery_keyslot(&keyslot, &volume));
	EXPECT_EQUAL(keyslot, 1);
	EXPECT_EQUAL(fake_disk.open_count, 0);
}

TEST(two_volumes_share_no_secret_and_no_salt)
{
	static struct volume first;

	make_volume();
	first = volume;
	make_volume();
	EXPECT_TRUE(strcmp(first.header.uuid, volume.header.uuid) != 0);
	EXPECT_TRUE(memcmp(first.metadata.keyslots[0].kdf.salt,
			   volume.metadata.keyslots[0].kdf.salt, 32) != 0);
	EXPECT_TRUE(memcmp(first.metadata.digests[0].value, volume.metadata.digests[0].value, 32) !=
		    0);
	EXPECT_TRUE(memcmp(fake_disk.now + 0x68, fake_disk.now + HEADER_SIZE + 0x68, 64) != 0);
}

TEST(create_leaves_nothing_of_what_was_there)
{
	fake_disk_reset();
	memset(fake_disk.now, 0x5a, FAKE_DISK_SIZE);
	EXPECT_OK(volume_create(&volume, &create_options));
	for (size_t at = 2 * HEADER_SIZE + 2 * LUKS2_AREA_SIZE; at < VOLUME_DATA_OFFSET; at++)
		if (fake_disk.now[at] != 0)
			EXPECT_EQUAL(at, 0);
	for (size_t at = FAKE_DISK_SIZE - 1024 * 1024; at < FAKE_DISK_SIZE; at++)
		if (fake_disk.now[at] != 0)
			EXPECT_EQUAL(at, 0);
}

static enum status create_with(struct volume_create_options options)
{
	enum status status = volume_create(&volume, &options);

	EXPECT_EQUAL(fake_disk.write_count, 0);
	return status;
}

TEST(create_refuses_before_it_writes)
{
	struct volume_create_options options = create_options;
	struct vault_token bad = token;

	fake_disk_reset();
	options.name = "a/b";
	EXPECT_STATUS(create_with(options), FAIL_NAME);
	options = create_options;
	options.sector_size = 1024;
	EXPECT_STATUS(create_with(options), FAIL_DISK_GEOMETRY);
	options.sector_size = 512;
	fake_disk.block_size = 4096;
	EXPECT_STATUS(create_with(options), FAIL_DISK_GEOMETRY);
	fake_disk.block_size = 512;
	fake_disk.size_bytes = VOLUME_DISK_SIZE_MIN - 1;
	EXPECT_STATUS(create_with(create_options), FAIL_DISK_TOO_SMALL);
	fake_disk.size_bytes = FAKE_DISK_SIZE;
	fake_disk.is_claimed = true;
	EXPECT_STATUS(create_with(create_options), FAIL_DISK_IN_USE);
	fake_disk.is_claimed = false;
	fake_disk.is_read_only = true;
	EXPECT_STATUS(create_with(create_options), FAIL_DISK_READ_ONLY);
	fake_disk.is_read_only = false;
	strcpy(bad.current.wrapped, "a quote: \"");
	options = create_options;
	options.vault_token = &bad;
	EXPECT_STATUS(create_with(options), FAIL_TOKEN);
}

TEST(sectors_of_512_bytes_are_made_when_asked_for)
{
	struct volume_create_options options = create_options;
	struct luks2_layout layout;

	fake_disk_reset();
	options.sector_size = 512;
	EXPECT_OK(volume_create(&volume, &options));
	EXPECT_OK(volume_check_policy(&layout, &volume));
	EXPECT_EQUAL(layout.sector_size, 512);
}

TEST(a_disk_that_is_no_multiple_of_4096_is_cleared_to_its_end)
{
	fake_disk_reset();
	fake_disk.size_bytes = FAKE_DISK_SIZE - 512;
	memset(fake_disk.now, 0x5a, FAKE_DISK_SIZE);
	EXPECT_OK(volume_create(&volume, &create_options));
	EXPECT_EQUAL(fake_disk.now[FAKE_DISK_SIZE - 513], 0);
	EXPECT_EQUAL(fake_disk.now[FAKE_DISK_SIZE - 512], 0x5a);
}

/* --- damage ------------------------------------------------------------------------------------
 */

static void expect_repaired(enum luks2_copy copy)
{
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_EQUAL(volume.copies[copy], VOLUME_COPY_REPAIRED);
	EXPECT_EQUAL(volume.copies[copy == LUKS2_PRIMARY ? LUKS2_SECONDARY : LUKS2_PRIMARY],
		     VOLUME_COPY_GOOD);
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_EQUAL(volume.copies[copy], VOLUME_COPY_GOOD);
}

TEST(a_damaged_copy_is_repaired_from_the_other_wherever_the_damage_is)
{
	static const size_t places[] = {0,     6,     8,     0x10,   0x18,   0x48,  0x68,
					0x100, 0x1c0, 0x300, 0x1000, 0x1005, 0xffff};
	struct secret key;

	make_volume();
	for (enum luks2_copy copy = LUKS2_PRIMARY; copy < LUKS2_COPIES; copy++)
		for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
			restore();
			fake_disk.now[copy * HEADER_SIZE + places[i]] ^= 0x10;
			expect_repaired(copy);
			EXPECT_OK(unlock_with(&key, "vault secret"));
		}
}

TEST(a_torn_first_header_falls_back_to_the_second)
{
	make_volume();
	for (size_t size = 512; size <= HEADER_SIZE; size += 512) {
		restore();
		test_fill(fake_disk.now, size, size);
		expect_repaired(LUKS2_PRIMARY);
	}
}

TEST(a_repair_gives_the_copy_a_salt_of_its_own)
{
	make_volume();
	memset(fake_disk.now, 0, 4096);
	expect_repaired(LUKS2_PRIMARY);
	EXPECT_TRUE(memcmp(fake_disk.now + 0x68, fake_disk.now + HEADER_SIZE + 0x68, 64) != 0);
	EXPECT_TRUE(memcmp(fake_disk.now + 0x68, saved + 0x68, 64) != 0);
}

/* Writes a copy that is right in itself, whatever it says. */
static void put_copy(enum luks2_copy copy, uint64_t sequence_id, const char *from, const char *to)
{
	static uint8_t bytes[HEADER_SIZE];
	struct luks2_header header = volume.header;
	uint8_t salt[LUKS2_HEADER_SALT_SIZE] = {1};
	char *place = strstr(volume.text.bytes, from);
	struct json_span span = {(uint32_t)(place - volume.text.bytes), (uint32_t)strlen(from)};
	static struct luks2_text text;

	EXPECT_TRUE(place != NULL);
	text = volume.text;
	EXPECT_TRUE(
		json_splice(text.bytes, sizeof(text.bytes), &text.length, span, to, strlen(to)));
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes + LUKS2_BINARY_SIZE, text.bytes, text.length);
	header.sequence_id = sequence_id;
	luks2_header_encode(bytes, &header, copy, salt);
	memcpy(fake_disk.now + copy * HEADER_SIZE, bytes, sizeof(bytes));
}

static void put_newer_copies(void)
{
	put_copy(LUKS2_PRIMARY, 7, "keys/k/1", "keys/k/7");
	put_copy(LUKS2_SECONDARY, 7, "keys/k/1", "keys/k/7");
}

TEST(a_repair_that_was_overtaken_keeps_what_overtook_it)
{
	struct vault_token found;

	make_volume();
	fake_disk.now[0x1010] ^= 1;
	fake_disk.before_change = put_newer_copies;
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_EQUAL(volume.header.sequence_id, 7);
	EXPECT_OK(volume_vault_token(&found, &volume));
	EXPECT_TEXT(found.current.kid, "https://a.vault.azure.net/keys/k/7");
}

TEST(two_damaged_copies_are_refused_and_left_alone)
{
	make_volume();
	fake_disk.now[0x1010] ^= 1;
	fake_disk.now[HEADER_SIZE + 0x1010] ^= 1;
	memcpy(saved, fake_disk.now, sizeof(saved));
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_DAMAGED);
	memset(fake_disk.now, 0, 4096);
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_DAMAGED);
	restore();
	memset(fake_disk.now + HEADER_SIZE, 0, 4096);
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_DAMAGED);
	memset(fake_disk.now, 0, 4096);
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_NOT_LUKS);
	restore();
	fake_disk.now[0x18 + 47] = 'x';
	memset(fake_disk.now + 0x18, 'x', 48);
	memset(fake_disk.now + HEADER_SIZE + 0x18, 'x', 48);
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_FIELDS);
}

TEST(an_unreadable_copy_does_not_hide_the_other)
{
	make_volume();
	fake_disk_arm(2, 0, 0); /* the first read */
	EXPECT_OK(volume_load_unrepaired(&volume, "disk"));
	EXPECT_EQUAL(volume.copies[LUKS2_PRIMARY], VOLUME_COPY_BAD);
	EXPECT_TRUE(disk_is_as_saved());
}

TEST(the_higher_sequence_id_wins_and_the_other_copy_follows)
{
	for (enum luks2_copy newer = LUKS2_PRIMARY; newer < LUKS2_COPIES; newer++) {
		struct vault_token found;

		make_volume();
		put_copy(newer, 2, "keys/k/1", "keys/k/2");
		EXPECT_OK(volume_load_unrepaired(&volume, "disk"));
		EXPECT_EQUAL(volume.copies[newer], VOLUME_COPY_GOOD);
		EXPECT_EQUAL(volume.copies[1 - newer], VOLUME_COPY_OLD);
		expect_repaired(newer == LUKS2_PRIMARY ? LUKS2_SECONDARY : LUKS2_PRIMARY);
		EXPECT_EQUAL(volume.header.sequence_id, 2);
		EXPECT_OK(volume_vault_token(&found, &volume));
		EXPECT_TEXT(found.current.kid, "https://a.vault.azure.net/keys/k/2");
	}
}

TEST(a_newer_copy_that_byok_cannot_read_is_not_overwritten)
{
	for (enum luks2_copy newer = LUKS2_PRIMARY; newer < LUKS2_COPIES; newer++) {
		make_volume();
		put_copy(newer, 2, "\"config\":", "\"configuration\":");
		memcpy(saved, fake_disk.now, sizeof(saved));
		EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_METADATA_SHAPE);
		EXPECT_TRUE(disk_is_as_saved());
	}
}

TEST(an_equally_old_copy_with_bad_metadata_is_repaired)
{
	make_volume();
	put_copy(LUKS2_PRIMARY, 1, "\"config\":", "\"config\"");
	expect_repaired(LUKS2_PRIMARY);
}

TEST(metadata_that_are_bad_in_both_copies_say_so)
{
	make_volume();
	put_copy(LUKS2_PRIMARY, 1, "\"config\":", "\"config\"");
	put_copy(LUKS2_SECONDARY, 1, "\"config\":", "\"config\"");
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_METADATA_SYNTAX);
	make_volume();
	put_copy(LUKS2_PRIMARY, 1, "\"json_size\":\"61440\"", "\"json_size\":\"61441\"");
	put_copy(LUKS2_SECONDARY, 1, "\"json_size\":\"61440\"", "\"json_size\":\"61441\"");
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_METADATA_SHAPE);
}

TEST(a_damaged_copy_beside_a_foreign_signature_is_neither_repaired_nor_served)
{
	make_volume();
	memset(fake_disk.now, 0, 4096);
	memcpy(fake_disk.now, "XFSB", 4);
	memcpy(saved, fake_disk.now, sizeof(saved));
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_AMBIGUOUS);
	EXPECT_TRUE(disk_is_as_saved());
	/* Beside two good copies it is nobody's business. */
	make_volume();
	memcpy(fake_disk.now + FAKE_DISK_SIZE - 512, "EFI PART", 8);
	EXPECT_OK(volume_load(&volume, "disk"));
}

TEST(a_read_only_disk_is_loaded_as_it_is)
{
	make_volume();
	fake_disk.now[0x1010] ^= 1;
	memcpy(saved, fake_disk.now, sizeof(saved));
	fake_disk.is_read_only = true;
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_TRUE(volume.is_read_only);
	EXPECT_EQUAL(volume.copies[LUKS2_PRIMARY], VOLUME_COPY_BAD);
	EXPECT_TRUE(disk_is_as_saved());
	EXPECT_STATUS(volume_commit(&volume), FAIL_DISK_READ_ONLY);
}

TEST(a_disk_that_ends_within_the_keyslots_is_truncated)
{
	static const uint64_t sizes[] = {
		6, 512, 4095, 4096, 0xffff, 2 * HEADER_SIZE, 0x30000, VOLUME_DATA_OFFSET - 1};
	struct luks2_layout layout;

	make_volume();
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		fake_disk.size_bytes = sizes[i];
		EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_TRUNCATED);
		EXPECT_TRUE(disk_is_as_saved());
	}
	fake_disk.size_bytes = VOLUME_DATA_OFFSET;
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_STATUS(volume_check_policy(&layout, &volume), FAIL_SEGMENT_OUTSIDE);
	fake_disk.size_bytes = 0;
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_NOT_LUKS);
}

TEST(luks1_is_told_from_luks2_even_over_an_old_secondary_header)
{
	make_volume();
	fake_disk.now[7] = 1;
	memcpy(saved, fake_disk.now, sizeof(saved));
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_LUKS_VERSION);
	EXPECT_TRUE(disk_is_as_saved());
	fake_disk.now[HEADER_SIZE] = 0;
	fake_disk.now[7] = 3;
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_LUKS_VERSION);
}

TEST(noise_is_not_luks)
{
	fake_disk_reset();
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_NOT_LUKS);
	test_fill(fake_disk.now, FAKE_DISK_SIZE, 3);
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_NOT_LUKS);
}

TEST(a_header_that_is_locked_for_long_is_a_failure_of_its_own)
{
	make_volume();
	fake_disk.is_locked = true;
	EXPECT_STATUS(volume_load(&volume, "disk"), FAIL_HEADER_LOCKED);
}

/* --- unlocking ---------------------------------------------------------------------------------
 */

TEST(policy_is_checked_before_any_passphrase_is_tried)
{
	struct secret key = {0};

	make_volume();
	put_copy(LUKS2_PRIMARY, 2, "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
		 "\"encryption\":\"cipher_null-ecb\",\"sector_size\"");
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_STATUS(unlock_with(&key, "vault secret"), FAIL_CIPHER_NULL);
	EXPECT_EQUAL(key.size, 0);
}

TEST(a_keyslot_that_cannot_be_tried_hides_no_other)
{
	struct secret key = {0};

	make_volume();
	put_copy(LUKS2_PRIMARY, 2, "\"iterations\":10,", "\"iterations\":4000000000,");
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_STATUS(volume_unlock(&key, &volume, 0, "vault secret", 12), FAIL_KDF_COST);
	EXPECT_OK(unlock_with(&key, "recovery"));
	EXPECT_STATUS(unlock_with(&key, "vault secret"), FAIL_WRONG_KEY);
}

TEST(only_keyslots_that_cannot_be_tried_give_their_cause)
{
	struct volume_create_options options = create_options;
	struct secret key = {0};

	fake_disk_reset();
	options.keyslot_count = 1;
	EXPECT_OK(volume_create(&volume, &options));
	put_copy(LUKS2_PRIMARY, 2, "\"iterations\":10,", "\"iterations\":4000000000,");
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_STATUS(unlock_with(&key, "vault secret"), FAIL_KDF_COST);
}

TEST(a_keyslot_of_priority_0_is_tried_only_by_number)
{
	struct secret key = {0};

	make_volume();
	put_copy(LUKS2_PRIMARY, 2, "\"0\":{\"type\":\"luks2\",",
		 "\"0\":{\"priority\":0,\"type\":\"luks2\",");
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_STATUS(unlock_with(&key, "vault secret"), FAIL_WRONG_KEY);
	EXPECT_OK(volume_unlock(&key, &volume, 0, "vault secret", 12));
}

TEST(a_changed_digest_makes_every_passphrase_wrong)
{
	struct secret key = {0};

	make_volume();
	volume.metadata.digests[0].value[0] ^= 1;
	EXPECT_STATUS(unlock_with(&key, "vault secret"), FAIL_WRONG_KEY);
	EXPECT_EQUAL(key.size, 0);
}

TEST(an_unreadable_keyslot_area_is_the_disks_failure)
{
	struct secret key = {0};

	make_volume();
	fake_disk_arm(2, 0, 0);
	EXPECT_STATUS(volume_unlock(&key, &volume, 0, "vault secret", 12), FAIL_DISK_IO);
}

/* Replaces the run of digits at `at` of the pristine text by `number`, in both copies. */
static void put_number(const struct luks2_text *pristine, size_t at, const char *number)
{
	char from[32] = "";
	size_t length = strspn(pristine->bytes + at, "0123456789");
	static struct luks2_text text;
	struct json_span span = {(uint32_t)at, (uint32_t)length};
	static uint8_t bytes[HEADER_SIZE];
	const struct luks2_header header = {.header_size = HEADER_SIZE, .sequence_id = 1};
	uint8_t salt[LUKS2_HEADER_SALT_SIZE] = {1};

	EXPECT_TRUE(length < sizeof(from));
	text = *pristine;
	EXPECT_TRUE(json_splice(text.bytes, sizeof(text.bytes), &text.length, span, number,
				strlen(number)));
	for (enum luks2_copy copy = LUKS2_PRIMARY; copy < LUKS2_COPIES; copy++) {
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes + LUKS2_BINARY_SIZE, text.bytes, text.length);
		luks2_header_encode(bytes, &header, copy, salt);
		memcpy(fake_disk.now + copy * HEADER_SIZE, bytes, sizeof(bytes));
	}
}

/* Every number in the metadata, replaced by each of those at which arithmetic goes wrong: refused,
 * or harmless, but never a CHECK, a read outside, or an area in a wrong place. */
TEST(no_number_in_the_metadata_does_harm)
{
	static const char *const numbers[] = {"0",
					      "1",
					      "31",
					      "32",
					      "511",
					      "4095",
					      "4096",
					      "131072",
					      "2147483648",
					      "4294967295",
					      "4294967296",
					      "9223372036854775808",
					      "18446744073709289472",
					      "18446744073709551104",
					      "18446744073709551615",
					      "18446744073709551616"};
	static struct luks2_text pristine;
	const struct volume_keyslot_options more = {VOLUME_KEYSLOT_VAULT, "more", 4, 10};
	unsigned opened_count = 0, refused_count = 0;

	make_volume();
	pristine = volume.text;
	for (size_t at = 0; at < pristine.length;) {
		size_t run = strspn(pristine.bytes + at, "0123456789");

		for (size_t i = 0; run > 0 && i < ARRAY_COUNT(numbers); i++) {
			struct secret key = {0};
			unsigned number;

			put_number(&pristine, at, numbers[i]);
			if (volume_load(&volume, "disk") != OK ||
			    unlock_with(&key, "vault secret") != OK) {
				refused_count++;
				continue;
			}
			opened_count++;
			(void)!volume_add_keyslot(&volume, &number, &more, &key);
			memcpy(fake_disk.now + 2 * HEADER_SIZE, saved + 2 * HEADER_SIZE,
			       3 * LUKS2_AREA_SIZE);
		}
		at += run > 0 ? run : 1;
	}
	EXPECT_TRUE(opened_count > 50);
	EXPECT_TRUE(refused_count > 200);
}

/* --- changes -----------------------------------------------------------------------------------
 */

static const struct volume_keyslot_options third = {VOLUME_KEYSLOT_PASSPHRASE, "third", 5, 10};

static void expect_open(const char *passphrase)
{
	struct secret key = {0};

	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_OK(unlock_with(&key, passphrase));
}

TEST(an_added_keyslot_opens_after_the_commit_and_not_before)
{
	struct secret key = {0};
	unsigned number;

	make_volume();
	EXPECT_OK(unlock_with(&key, "vault secret"));
	EXPECT_OK(volume_add_keyslot(&volume, &number, &third, &key));
	EXPECT_EQUAL(number, 2);
	EXPECT_OK(unlock_with(&key, "third"));
	EXPECT_BYTES(fake_disk.now, saved, 2 * HEADER_SIZE);
	EXPECT_OK(volume_commit(&volume));
	EXPECT_EQUAL(volume.header.sequence_id, 2);
	expect_open("third");
	expect_open("vault secret");
	EXPECT_EQUAL(volume.header.sequence_id, 2);
	EXPECT_EQUAL(volume.copies[LUKS2_PRIMARY], VOLUME_COPY_GOOD);
	EXPECT_EQUAL(volume.copies[LUKS2_SECONDARY], VOLUME_COPY_GOOD);
}

/* Both have found the same place free. */
TEST(of_two_keyslots_that_are_added_at_once_one_is_whole_and_the_other_absent)
{
	static struct volume other;
	struct secret key = {0};
	unsigned number;

	make_volume();
	EXPECT_OK(unlock_with(&key, "vault secret"));
	EXPECT_OK(volume_load(&other, "disk"));
	EXPECT_OK(volume_add_keyslot(&volume, &number, &third, &key));
	EXPECT_OK(volume_add_keyslot(&other, &number, &third, &key));
	EXPECT_STATUS(volume_commit(&volume), FAIL_HEADER_CHANGED);
	EXPECT_BYTES(fake_disk.now, saved, 2 * HEADER_SIZE);
	EXPECT_OK(volume_commit(&other));
	expect_open("third");
}

TEST(thirty_two_keyslots_fit_and_no_more)
{
	struct secret key = {0};
	unsigned number;

	make_volume();
	EXPECT_OK(unlock_with(&key, "vault secret"));
	for (unsigned i = 2; i < LUKS2_KEYSLOTS; i++)
		EXPECT_OK(volume_add_keyslot(&volume, &number, &third, &key));
	EXPECT_EQUAL(number, 31);
	EXPECT_STATUS(volume_add_keyslot(&volume, &number, &third, &key), FAIL_KEYSLOTS_FULL);
	EXPECT_OK(volume_commit(&volume));
	expect_open("third");
	expect_open("recovery");
}

TEST(a_keyslot_is_not_added_for_another_volumes_key)
{
	struct secret key = {.size = 64};
	unsigned number;

	make_volume();
	EXPECT_STATUS(volume_add_keyslot(&volume, &number, &third, &key), FAIL_DIGEST);
	EXPECT_TRUE(disk_is_as_saved());
}

TEST(a_removed_keyslot_opens_nothing_even_before_the_commit)
{
	struct secret key = {0};
	unsigned number;
	size_t area;

	make_volume();
	area = (size_t)volume.metadata.keyslots[1].area_offset;
	EXPECT_OK(volume_remove_keyslot(&volume, 1));
	EXPECT_BYTES(fake_disk.now, saved, 2 * HEADER_SIZE);
	EXPECT_FALSE(secret_equal(fake_disk.now + area, saved + area, 4096));
	EXPECT_BYTES(fake_disk.now + area + LUKS2_AREA_SIZE, saved + area + LUKS2_AREA_SIZE, 4096);
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_STATUS(unlock_with(&key, "recovery"), FAIL_WRONG_KEY);
	EXPECT_OK(volume_remove_keyslot(&volume, 1));
	EXPECT_OK(volume_commit(&volume));
	expect_open("vault secret");
	EXPECT_FALSE(volume_recovery_keyslot(&number, &volume));
	EXPECT_FALSE(volume.metadata.keyslots[1].exists);
	EXPECT_EQUAL(volume.metadata.digests[0].keyslots, 1);
	EXPECT_TRUE(volume.metadata.tokens[0].exists && !volume.metadata.tokens[1].exists);
	EXPECT_OK(unlock_with(&key, "vault secret"));
	EXPECT_OK(volume_add_keyslot(&volume, &number, &third, &key));
	EXPECT_EQUAL(number, 1);
	EXPECT_EQUAL(volume.metadata.keyslots[1].area_offset, area);
}

TEST(the_last_keyslot_cannot_be_removed)
{
	make_volume();
	EXPECT_OK(volume_remove_keyslot(&volume, 1));
	EXPECT_OK(volume_commit(&volume));
	memcpy(saved, fake_disk.now, sizeof(saved));
	EXPECT_STATUS(volume_remove_keyslot(&volume, 0), FAIL_KEYSLOT_LAST);
	EXPECT_TRUE(disk_is_as_saved());
}

TEST(a_keyslot_is_not_removed_from_a_header_that_somebody_changed)
{
	make_volume();
	fake_disk.before_change = put_newer_copies;
	EXPECT_STATUS(volume_remove_keyslot(&volume, 1), FAIL_HEADER_CHANGED);
	EXPECT_BYTES(fake_disk.now + 2 * HEADER_SIZE, saved + 2 * HEADER_SIZE, 2 * LUKS2_AREA_SIZE);
}

static void expect_token(const char *kid)
{
	struct vault_token found;

	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_OK(volume_vault_token(&found, &volume));
	EXPECT_TEXT(found.current.kid, kid);
}

static const char old_kid[] = "https://a.vault.azure.net/keys/k/1";
static const char new_kid[] = "https://b.vault.azure.net/keys/k/2";

static void rotated_token(struct vault_token *rotated)
{
	*rotated = token;
	rotated->previous = token.current;
	strcpy(rotated->current.kid, new_kid);
}

TEST(a_changed_token_is_committed_and_its_unknown_members_stay)
{
	struct vault_token rotated;

	make_volume();
	put_copy(LUKS2_PRIMARY, 2, "\"created\":", "\"later\":{\"x\":[1]},\"created\":");
	EXPECT_OK(volume_load(&volume, "disk"));
	rotated_token(&rotated);
	EXPECT_OK(volume_set_vault_token(&volume, &rotated));
	EXPECT_OK(volume_commit(&volume));
	expect_token(new_kid);
	EXPECT_TEXT_CONTAINS(volume.text.bytes, "\"later\":{\"x\":[1]},\"created\":");
	EXPECT_TEXT_CONTAINS(volume.text.bytes, ",\"previous\":{\"kid\":");
	EXPECT_OK(volume_set_vault_token(&volume, &token));
	EXPECT_OK(volume_commit(&volume));
	expect_token(old_kid);
	EXPECT_TRUE(strstr(volume.text.bytes, "previous") == NULL);
}

TEST(a_commit_over_somebody_elses_is_refused)
{
	static struct volume stale;
	struct vault_token rotated;
	struct secret key = {0};
	unsigned number;

	make_volume();
	stale = volume;
	rotated_token(&rotated);
	EXPECT_OK(unlock_with(&key, "vault secret"));
	EXPECT_OK(volume_set_vault_token(&volume, &rotated));
	EXPECT_OK(volume_commit(&volume));
	memcpy(saved, fake_disk.now, sizeof(saved));
	EXPECT_STATUS(volume_commit(&stale), FAIL_HEADER_CHANGED);
	EXPECT_STATUS(volume_add_keyslot(&stale, &number, &third, &key), FAIL_HEADER_CHANGED);
	stale.header.sequence_id = 2;
	stale.header.uuid[0] ^= 1;
	EXPECT_STATUS(volume_commit(&stale), FAIL_HEADER_CHANGED);
	EXPECT_TRUE(disk_is_as_saved());
}

/* --- power cuts and failing calls --------------------------------------------------------------
 */

typedef void change(void);

static void change_token(void)
{
	struct vault_token rotated;

	rotated_token(&rotated);
	if (volume_set_vault_token(&volume, &rotated) == OK)
		(void)!volume_commit(&volume);
}

static struct secret volume_key;

static void change_keyslots(void)
{
	unsigned number;

	if (volume_add_keyslot(&volume, &number, &third, &volume_key) == OK)
		(void)!volume_commit(&volume);
}

static void remove_keyslot(void)
{
	if (volume_remove_keyslot(&volume, 1) == OK)
		(void)!volume_commit(&volume);
}

/* `shows` answers whether the volume, as loaded, has the new state. */
struct transition {
	void (*change)(void);
	bool (*shows_new)(void);
	const char *opens_always;
};

static bool shows_new_token(void)
{
	struct vault_token found;

	EXPECT_OK(volume_vault_token(&found, &volume));
	if (strcmp(found.current.kid, new_kid) == 0)
		return true;
	EXPECT_TEXT(found.current.kid, old_kid);
	return false;
}

static bool shows_new_keyslot(void)
{
	struct secret key = {0};
	enum status status = unlock_with(&key, "third");

	if (status == OK)
		return true;
	EXPECT_STATUS(status, FAIL_WRONG_KEY);
	return false;
}

/* Once the area is overwritten, the metadata may still name a keyslot that opens nothing. */
static bool shows_no_recovery_key(void)
{
	struct secret key = {0};
	unsigned keyslot;

	if (volume_recovery_keyslot(&keyslot, &volume))
		return false;
	EXPECT_STATUS(unlock_with(&key, "recovery"), FAIL_WRONG_KEY);
	return true;
}

static const struct transition token_changes = {change_token, shows_new_token, "recovery"};
static const struct transition keyslot_added = {change_keyslots, shows_new_keyslot, "recovery"};
static const struct transition keyslot_removed = {remove_keyslot, shows_no_recovery_key,
						  "vault secret"};

static bool expect_old_or_new(const struct transition *transition)
{
	struct secret key = {0};
	bool is_new;

	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_OK(unlock_with(&key, transition->opens_always));
	EXPECT_BYTES(key.bytes, volume_key.bytes, 64);
	is_new = transition->shows_new();
	EXPECT_EQUAL(volume.header.sequence_id, is_new ? 2 : 1);
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_EQUAL(volume.copies[LUKS2_PRIMARY], VOLUME_COPY_GOOD);
	EXPECT_EQUAL(volume.copies[LUKS2_SECONDARY], VOLUME_COPY_GOOD);
	return is_new;
}

static void keep_for_cryptsetup(unsigned sample, const char *passphrase);

/* At every call, with every way in which what was not synced may arrive. */
static void cut_everywhere(const struct transition *transition)
{
	static struct volume before;
	unsigned old_count = 0, new_count = 0;

	make_volume();
	before = volume;
	EXPECT_OK(unlock_with(&volume_key, "vault secret"));
	for (unsigned cut = 1;; cut++) {
		for (uint64_t seed = 0; seed < CUT_SEEDS; seed++) {
			restore();
			volume = before;
			fake_disk_arm(0, cut, seed);
			transition->change();
			if (!fake_disk.is_off) {
				EXPECT_TRUE(cut >= 10 && old_count > 0 && new_count > 0);
				return;
			}
			fake_disk_reboot();
			if ((cut * CUT_SEEDS + seed) % 17 == 0)
				keep_for_cryptsetup(cut * CUT_SEEDS + (unsigned)seed,
						    transition->opens_always);
			if (expect_old_or_new(transition))
				new_count++;
			else
				old_count++;
		}
	}
}

TEST(a_power_cut_while_a_token_changes_leaves_the_old_one_or_the_new)
{
	cut_everywhere(&token_changes);
}

TEST(a_power_cut_while_a_keyslot_is_added_leaves_it_whole_or_absent)
{
	cut_everywhere(&keyslot_added);
}

TEST(a_power_cut_while_a_keyslot_is_removed_never_leaves_it_usable_afterwards)
{
	cut_everywhere(&keyslot_removed);
}

/* Of a commit that begins with only one good copy, that one must be written last. */
static void cut_everywhere_beside(enum luks2_copy bad)
{
	static struct volume before;
	struct vault_token rotated;
	unsigned first_write;

	make_volume();
	EXPECT_OK(unlock_with(&volume_key, "vault secret"));
	rotated_token(&rotated);
	EXPECT_OK(volume_set_vault_token(&volume, &rotated));
	before = volume;
	memset(saved + bad * HEADER_SIZE, 0xee, HEADER_SIZE);
	restore();
	EXPECT_OK(volume_commit(&volume));
	first_write = fake_disk.first_write;
	EXPECT_TRUE(first_write > 0);
	for (unsigned cut = first_write;; cut++) {
		for (uint64_t seed = 0; seed < CUT_SEEDS; seed++) {
			restore();
			volume = before;
			fake_disk_arm(0, cut, seed);
			(void)!volume_commit(&volume);
			if (!fake_disk.is_off)
				return;
			fake_disk_reboot();
			(void)expect_old_or_new(&token_changes);
		}
	}
}

TEST(a_power_cut_never_destroys_the_only_good_copy)
{
	cut_everywhere_beside(LUKS2_PRIMARY);
	cut_everywhere_beside(LUKS2_SECONDARY);
}

static void fail_everywhere(const struct transition *transition, enum status failure)
{
	static struct volume before;
	bool was_failed;

	make_volume();
	before = volume;
	EXPECT_OK(unlock_with(&volume_key, "vault secret"));
	for (unsigned call = 1;; call++) {
		restore();
		volume = before;
		fake_disk_arm(call, 0, 0);
		fake_disk.failure = failure;
		transition->change();
		EXPECT_EQUAL(fake_disk.open_count, 0);
		was_failed = fake_disk.call_count >= call;
		fake_disk_arm(0, 0, 0);
		if (!was_failed)
			break;
		(void)expect_old_or_new(transition);
	}
	EXPECT_TRUE(expect_old_or_new(transition));
}

TEST(any_failing_call_while_the_header_changes_leaves_old_or_new)
{
	fail_everywhere(&token_changes, FAIL_DISK_IO);
	fail_everywhere(&token_changes, FAIL_DISK_FULL);
	fail_everywhere(&keyslot_added, FAIL_DISK_IO);
	fail_everywhere(&keyslot_removed, FAIL_DISK_IO);
}

/* Nothing, or all of the new volume. */
static void expect_none_or_new(void)
{
	struct secret key = {0};
	enum status status = volume_load(&volume, "disk");

	if (status == FAIL_NOT_LUKS)
		return;
	EXPECT_OK(status);
	EXPECT_TEXT(volume.header.label, "data1");
	EXPECT_OK(unlock_with(&key, "vault secret"));
	EXPECT_OK(unlock_with(&key, "recovery"));
}

TEST(a_power_cut_while_a_volume_is_made_leaves_none_or_all_of_it)
{
	for (unsigned cut = 1;; cut++) {
		for (uint64_t seed = 0; seed < 6; seed++) {
			fake_disk_reset();
			fake_disk_arm(0, cut, seed);
			(void)!volume_create(&volume, &create_options);
			if (!fake_disk.is_off) {
				EXPECT_TRUE(cut > 15);
				return;
			}
			fake_disk_reboot();
			expect_none_or_new();
		}
	}
}

/* What provision does at the next boot: keeps the volume, or makes it on what still counts as
 * blank. */
static void expect_new_or_made(const struct volume_create_options *options)
{
	if (volume_load(&volume, "disk") == OK)
		return;
	EXPECT_OK(volume_create(&volume, options));
}

TEST(a_power_cut_on_a_blank_disk_leaves_it_blank_marked_or_a_volume)
{
	struct volume_create_options options = create_options;
	bool is_made = false;

	options.only_if_blank = true;
	for (unsigned cut = 1; !is_made; cut++) {
		for (uint64_t seed = 0; seed < CUT_SEEDS && !is_made; seed++) {
			fake_disk_reset();
			fake_disk_arm(0, cut, seed);
			is_made = volume_create(&volume, &options) == OK;
			fake_disk_reboot();
			expect_new_or_made(&options);
		}
	}
}

TEST(a_power_cut_while_a_marked_disk_is_made_anew_leaves_it_marked_or_a_volume)
{
	struct volume_create_options options = create_options;
	bool is_made = false;
	unsigned cut = 1;

	options.only_if_blank = true;
	do {
		fake_disk_reset();
		fake_disk_arm(0, cut++, 4);
		EXPECT_STATUS(volume_create(&volume, &options), FAIL_DISK_IO);
		fake_disk_reboot();
	} while (bytes_are_zero(fake_disk.now + 4096, VOLUME_DATA_OFFSET - 4096));
	EXPECT_TRUE(volume_create_was_cut(fake_disk.now));
	memcpy(saved, fake_disk.now, sizeof(saved));
	for (cut = 1; !is_made; cut++) {
		for (uint64_t seed = 0; seed < CUT_SEEDS && !is_made; seed++) {
			restore();
			fake_disk_arm(0, cut, seed);
			is_made = volume_create(&volume, &options) == OK;
			fake_disk_reboot();
			expect_new_or_made(&options);
		}
	}
}

TEST(a_disk_that_only_may_be_blank_is_looked_at_under_the_claim)
{
	static const size_t places[] = {0, 511, 512, 4096, 65535, 65536, VOLUME_DATA_OFFSET - 1};
	struct volume_create_options options = create_options;

	options.only_if_blank = true;
	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		fake_disk_reset();
		fake_disk.now[places[i]] = 1;
		EXPECT_STATUS(create_with(options), FAIL_DISK_NOT_BLANK);
	}
	fake_disk_reset();
	EXPECT_OK(volume_create(&volume, &options));
	fake_disk.write_count = 0;
	EXPECT_STATUS(create_with(options), FAIL_DISK_NOT_BLANK);
}

TEST(only_the_whole_mark_is_the_mark)
{
	static uint8_t sector[VOLUME_MARK_SIZE];

	fake_disk_reset();
	EXPECT_FALSE(volume_create_was_cut(fake_disk.now));
	for (unsigned cut = 1; !volume_create_was_cut(fake_disk.now); cut++) {
		fake_disk_reset();
		fake_disk_arm(0, cut, 1);
		EXPECT_STATUS(volume_create(&volume, &create_options), FAIL_DISK_IO);
		fake_disk_reboot();
	}
	for (size_t i = 0; i < sizeof(sector); i++) {
		memcpy(sector, fake_disk.now, sizeof(sector));
		sector[i] ^= 0x20;
		EXPECT_FALSE(volume_create_was_cut(sector));
	}
}

TEST(a_failing_call_while_a_volume_is_made_leaves_none_or_all_of_it)
{
	enum status status;

	for (unsigned call = 1;; call++) {
		fake_disk_reset();
		fake_disk_arm(call, 0, 0);
		status = volume_create(&volume, &create_options);
		EXPECT_EQUAL(fake_disk.open_count, 0);
		if (fake_disk.call_count < call)
			break;
		fake_disk_arm(0, 0, 0);
		expect_none_or_new();
	}
	EXPECT_OK(status);
}

TEST(a_power_cut_while_an_old_volume_is_overwritten_leaves_it_none_or_the_new)
{
	struct volume_create_options second = create_options;
	const struct volume_keyslot_options keyslot = {VOLUME_KEYSLOT_VAULT, "second", 6, 10};
	unsigned none_count = 0, old_count = 0, new_count = 0;

	make_volume();
	second.name = "data2";
	second.keyslots = &keyslot;
	second.keyslot_count = 1;
	for (unsigned cut = 1;; cut++) {
		for (uint64_t seed = 0; seed < 6; seed++) {
			struct secret key = {0};
			enum status status;

			restore();
			fake_disk_arm(0, cut, seed);
			(void)!volume_create(&volume, &second);
			if (!fake_disk.is_off) {
				EXPECT_TRUE(none_count > 0 && old_count > 0 && new_count > 0);
				return;
			}
			fake_disk_reboot();
			status = volume_load(&volume, "disk");
			if (status == FAIL_NOT_LUKS) {
				none_count++;
				continue;
			}
			EXPECT_OK(status);
			if (strcmp(volume.header.label, "data1") == 0) {
				old_count++;
				EXPECT_OK(unlock_with(&key, "vault secret"));
			} else {
				new_count++;
				EXPECT_OK(unlock_with(&key, "second"));
			}
		}
	}
}

/* Some of the disks that a cut left are shown to cryptsetup, which must open them too. */
static void keep_for_cryptsetup(unsigned sample, const char *passphrase)
{
	char path[256], command[512];
	FILE *file;

	if (access("/usr/sbin/cryptsetup", X_OK) != 0 && access("/sbin/cryptsetup", X_OK) != 0)
		return;
	snprintf(path, sizeof(path), "%s/cut-%u.img", test_folder(), sample);
	file = fopen(path, "wb");
	EXPECT_TRUE(file != NULL);
	EXPECT_EQUAL(fwrite(fake_disk.now, FAKE_DISK_SIZE, 1, file), 1);
	EXPECT_EQUAL(fclose(file), 0);
	snprintf(command, sizeof(command),
		 "printf '%s' | PATH=/usr/sbin:/sbin:$PATH cryptsetup open --test-passphrase "
		 "--key-file - %s >/dev/null 2>&1",
		 passphrase, path);
	EXPECT_EQUAL(system(command), 0);
	unlink(path);
}
