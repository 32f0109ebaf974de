/* A header is restored from a file onto a disk in memory, and the power goes, or a call fails, at
 * any point of it. */
#include "app/volume/header_backup.h"

#include <stdlib.h>
#include <string.h>

#include "app/volume/disk_probe.h"
#include "tests/unit/fakes/fake_volume_disk.c"
#include "tests/unit/test.h"

#define CUT_SEEDS 6
#define BACKUP_SIZE VOLUME_DATA_OFFSET

static struct volume volume;
static struct secret volume_key;
static uint8_t saved[FAKE_DISK_SIZE];
static uint8_t backup[BACKUP_SIZE];

/* Nobody uses the disk in memory, and what it holds is looked at below. */
enum status disk_probe(struct disk_probe *probe, const char *disk_path)
{
	(void)disk_path;
	*probe = (struct disk_probe){0};
	return OK;
}

enum status disk_probe_may_overwrite(const struct disk_probe *probe, bool force)
{
	(void)probe;
	(void)force;
	return OK;
}

void disk_probe_describe(const struct disk_probe *probe, char *text, size_t size)
{
	(void)probe;
	(void)size;
	text[0] = '\0';
}

static void save(void)
{
	memcpy(saved, fake_disk.now, sizeof(saved));
}

static void bring_back(void)
{
	memcpy(fake_disk.now, saved, sizeof(saved));
	memcpy(fake_disk.safe, saved, sizeof(saved));
	memset(fake_disk.dirty, 0, sizeof(fake_disk.dirty));
	fake_disk_reboot();
}

static bool opens_by(const char *passphrase)
{
	SECRET_SCOPE struct secret found = {0};

	return volume_load(&volume, "disk") == OK &&
	       volume_unlock(&found, &volume, VOLUME_ANY_KEYSLOT, passphrase, strlen(passphrase)) ==
		       OK &&
	       secret_equal(found.bytes, volume_key.bytes, volume_key.size);
}

static void add_key(const char *passphrase)
{
	const struct volume_keyslot_options options = {VOLUME_KEYSLOT_PASSPHRASE, passphrase,
						       strlen(passphrase), 10};
	unsigned number;

	EXPECT_OK(volume_add_keyslot(&volume, &number, &options, &volume_key));
	EXPECT_OK(volume_commit(&volume));
}

/* The backup knows "vault" and "early"; the disk of today "vault" and "late", where "early" was. */
static void make_disk_and_backup(void)
{
	const struct volume_keyslot_options vault = {VOLUME_KEYSLOT_VAULT, "vault", 5, 10};

	fake_disk_reset();
	fake_disk.reads_are_free = true;
	EXPECT_OK(volume_create(&volume, &(struct volume_create_options){.disk_path = "disk",
									 .name = "data1",
									 .keyslots = &vault,
									 .keyslot_count = 1}));
	EXPECT_OK(volume_unlock(&volume_key, &volume, 0, "vault", 5));
	add_key("early");
	memcpy(backup, fake_disk.now, sizeof(backup));
	fake_disk.file = backup;
	fake_disk.file_size_bytes = sizeof(backup);
	EXPECT_OK(volume_remove_keyslot(&volume, 1));
	EXPECT_OK(volume_commit(&volume));
	add_key("late");
	EXPECT_FALSE(opens_by("early"));
	save();
}

static enum status restore(void)
{
	struct header_backup_result result;

	return header_backup_restore(&result, "disk", "file", true);
}

static void expect_complete(void)
{
	EXPECT_OK(restore());
	EXPECT_TRUE(opens_by("vault"));
	EXPECT_TRUE(opens_by("early"));
	EXPECT_FALSE(opens_by("late"));
	EXPECT_EQUAL(fake_disk.open_count, 0);
}

TEST(a_power_cut_at_any_write_over_a_whole_header_leaves_a_disk_that_opens)
{
	make_disk_and_backup();
	for (unsigned cut = 1;; cut++)
		for (uint64_t seed = 0; seed < CUT_SEEDS; seed++) {
			bring_back();
			fake_disk_arm(0, cut, seed);
			(void)!restore();
			if (!fake_disk.is_off) {
				EXPECT_TRUE(cut > 5);
				fake_disk_arm(0, 0, 0);
				expect_complete();
				return;
			}
			fake_disk_reboot();
			EXPECT_TRUE(opens_by("vault"));
			expect_complete();
		}
}

TEST(a_power_cut_at_any_write_over_a_damaged_header_can_be_followed_by_another_try)
{
	make_disk_and_backup();
	memset(saved + 5000, 0xa5, 100);
	memset(saved + 65536 + 5000, 0xa5, 100);
	bring_back();
	EXPECT_FALSE(opens_by("vault"));
	for (unsigned cut = 1;; cut++)
		for (uint64_t seed = 0; seed < CUT_SEEDS; seed++) {
			bring_back();
			fake_disk_arm(0, cut, seed);
			(void)!restore();
			if (!fake_disk.is_off) {
				fake_disk_arm(0, 0, 0);
				expect_complete();
				return;
			}
			fake_disk_reboot();
			expect_complete();
		}
}

TEST(any_failing_call_of_a_restoration_can_be_followed_by_another_try)
{
	bool was_failed = true;

	make_disk_and_backup();
	for (unsigned call = 1; was_failed; call++) {
		bring_back();
		fake_disk_arm(call, 0, 0);
		(void)!restore();
		was_failed = fake_disk.call_count >= call;
		fake_disk_arm(0, 0, 0);
		EXPECT_TRUE(opens_by("vault"));
		expect_complete();
	}
}
