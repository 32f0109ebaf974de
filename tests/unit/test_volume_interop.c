/* Volumes on real image files, which byok and cryptsetup change in turn. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/volume/volume.h"
#include "app/volume/volume_disk.h"
#include "tests/unit/test.h"

static struct volume volume;
static struct secret volume_key;
static char disk[256];

/* Standard output and error of the last command. */
static char output[65536];

static int run(const char *format, ...) PRINTF_LIKE(1, 2);

static int run(const char *format, ...)
{
	char command[2048], whole[2200];
	va_list arguments;
	size_t length;
	FILE *pipe;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	snprintf(whole, sizeof(whole), "export PATH=$PATH:/usr/sbin:/sbin; { %s; } 2>&1", command);
	pipe = popen(whole, "r");
	EXPECT_TRUE(pipe != NULL);
	length = fread(output, 1, sizeof(output) - 1, pipe);
	output[length] = '\0';
	return pclose(pipe);
}

static void need_cryptsetup(void)
{
	if (run("cryptsetup --version") != 0)
		SKIP("cryptsetup is not installed");
}

static void new_disk(const char *name)
{
	int fd;

	need_cryptsetup();
	snprintf(disk, sizeof(disk), "%s/%s.img", test_folder(), name);
	unlink(disk);
	fd = creat(disk, 0600);
	EXPECT_TRUE(fd >= 0);
	EXPECT_EQUAL(ftruncate(fd, 32 * 1024 * 1024), 0);
	close(fd);
}

static void new_disk_of_cryptsetup(const char *name, const char *options)
{
	new_disk(name);
	EXPECT_EQUAL(run("printf first | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 "
			 "--pbkdf-force-iterations 1000 %s %s -",
			 options, disk),
		     0);
}

static void new_disk_of_byok(const char *name, uint32_t sector_size)
{
	static const struct volume_keyslot_options keyslots[] = {
		{VOLUME_KEYSLOT_PASSPHRASE, "first", 5, 1000},
		{VOLUME_KEYSLOT_RECOVERY, "recovery", 8, 0},
	};
	static const struct vault_token token = {
		.current = {"https://a.vault.azure.net/keys/k/1", "RSA-OAEP-256", "d3JhcHBlZA"},
		.identity = "11111111-2222-3333-4444-555555555555",
		.created = "2026-01-02T03:04:05Z",
	};
	const struct volume_create_options options = {
		.disk_path = disk,
		.name = "data1",
		.sector_size = sector_size,
		.keyslots = keyslots,
		.keyslot_count = 2,
		.vault_token = &token,
	};

	new_disk(name);
	EXPECT_OK(volume_create(&volume, &options));
}

static void expect_byok_opens(const char *passphrase)
{
	EXPECT_OK(volume_load(&volume, disk));
	EXPECT_OK(volume_unlock(&volume_key, &volume, VOLUME_ANY_KEYSLOT, passphrase,
				strlen(passphrase)));
}

static void expect_cryptsetup_opens(const char *passphrase)
{
	if (run("printf %s | cryptsetup open --test-passphrase --key-file - %s", passphrase,
		disk) != 0)
		EXPECT_TEXT(output, "");
}

/* Both must see the very same volume key. */
static void expect_same_volume_key(const char *passphrase)
{
	EXPECT_EQUAL(run("rm -f %s.vk; printf %s | cryptsetup luksDump -q --dump-volume-key "
			 "--volume-key-file %s.vk --key-file - %s >/dev/null",
			 disk, passphrase, disk, disk),
		     0);
	EXPECT_EQUAL(run("cat %s.vk", disk), 0);
	EXPECT_EQUAL(volume_key.size, LUKS2_VOLUME_KEY_SIZE);
	EXPECT_BYTES(output, volume_key.bytes, LUKS2_VOLUME_KEY_SIZE);
}

TEST(cryptsetup_opens_what_byok_makes)
{
	for (uint32_t sector_size = 512; sector_size <= 4096; sector_size += 4096 - 512) {
		new_disk_of_byok("byok", sector_size);
		expect_cryptsetup_opens("first");
		expect_cryptsetup_opens("recovery");
		expect_byok_opens("recovery");
		expect_same_volume_key("first");
		EXPECT_EQUAL(run("cryptsetup luksDump %s", disk), 0);
		EXPECT_TEXT_CONTAINS(output, "Label:         \tdata1");
		EXPECT_TEXT_CONTAINS(output, sector_size == 512 ? "sector: 512" : "sector: 4096");
		EXPECT_TEXT_CONTAINS(output, "0: byok-akv");
		EXPECT_TEXT_CONTAINS(output, "1: byok-recovery");
	}
}

TEST(cryptsetup_finds_nothing_to_repair_in_what_byok_makes)
{
	struct stat before, after;

	new_disk_of_byok("byok", 4096);
	EXPECT_EQUAL(stat(disk, &before), 0);
	EXPECT_EQUAL(run("cryptsetup repair -q %s", disk), 0);
	EXPECT_EQUAL(run("cryptsetup luksDump --debug %s", disk), 0);
	EXPECT_TRUE(strstr(output, "requires recovery") == NULL);
	EXPECT_TRUE(strstr(output, "checksum error") == NULL);
	EXPECT_EQUAL(stat(disk, &after), 0);
	EXPECT_EQUAL(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

TEST(byok_opens_what_cryptsetup_makes_with_every_hash_sector_and_header_size)
{
	static const char *const options[] = {
		"--hash sha1 --sector-size 512",
		"--hash sha224 --sector-size 4096",
		"--hash sha256 --sector-size 512 --label x --subsystem y",
		"--hash sha384 --luks2-metadata-size 32k",
		"--hash sha512 --luks2-metadata-size 64k --sector-size 4096",
		"--luks2-metadata-size 1m",
		"--luks2-metadata-size 4m",
		"--luks2-keyslots-size 1m",
		"--offset 40960",
	};

	for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
		new_disk_of_cryptsetup("theirs", options[i]);
		expect_byok_opens("first");
		expect_same_volume_key("first");
	}
}

TEST(byok_opens_both_kinds_of_argon2)
{
	static const char *const kinds[] = {"argon2i", "argon2id"};

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		new_disk("argon2");
		EXPECT_EQUAL(
			run("printf first | cryptsetup luksFormat -q --type luks2 --pbkdf %s "
			    "--pbkdf-force-iterations 4 --pbkdf-memory 32768 --pbkdf-parallel %zu "
			    "%s -",
			    kinds[i], 1 + i, disk),
			0);
		expect_byok_opens("first");
		expect_same_volume_key("first");
	}
}

/* cryptsetup's tests of concurrent keyslots, tokens and areas, in small: both write in turn. */
TEST(keyslots_are_added_by_both_in_turn)
{
	const struct volume_keyslot_options third = {VOLUME_KEYSLOT_PASSPHRASE, "third", 5, 1000};
	unsigned number;

	new_disk_of_cryptsetup("turns", "");
	EXPECT_EQUAL(
		run("printf second > %s.key; printf first | cryptsetup luksAddKey -q --pbkdf "
		    "argon2id --pbkdf-force-iterations 4 --pbkdf-memory 32768 --pbkdf-parallel 1 "
		    "--key-file - %s %s.key",
		    disk, disk, disk),
		0);
	expect_byok_opens("second");
	EXPECT_OK(volume_add_keyslot(&volume, &number, &third, &volume_key));
	EXPECT_EQUAL(number, 2);
	EXPECT_OK(volume_commit(&volume));
	expect_cryptsetup_opens("third");
	EXPECT_EQUAL(run("cryptsetup luksKillSlot -q %s 0", disk), 0);
	EXPECT_EQUAL(run("printf fourth > %s.key; printf third | cryptsetup luksAddKey -q --pbkdf "
			 "pbkdf2 --pbkdf-force-iterations 1000 --key-file - %s %s.key",
			 disk, disk, disk),
		     0);
	expect_byok_opens("fourth");
	expect_byok_opens("third");
	expect_byok_opens("second");
	expect_same_volume_key("fourth");
	EXPECT_STATUS(volume_unlock(&volume_key, &volume, VOLUME_ANY_KEYSLOT, "first", 5),
		      FAIL_WRONG_KEY);
}

TEST(tokens_flags_labels_and_priorities_of_others_survive_byoks_changes)
{
	static const char token[] = "{\"type\":\"somebody-else\",\"keyslots\":[\"0\"],"
				    "\"deep\":{\"list\":[1,2.5,null]},\"url\":\"https://a/b\"}";
	const struct volume_keyslot_options more = {VOLUME_KEYSLOT_RECOVERY, "more", 4, 1000};
	struct vault_token ours = {
		.current = {"https://a.vault.azure.net/keys/k/1", "RSA-OAEP-256", "d3JhcHBlZA"}};
	char before[4096];
	unsigned number;

	new_disk_of_cryptsetup("kept", "--label theirs --subsystem also-theirs");
	EXPECT_EQUAL(run("echo '%s' | cryptsetup token import --token-id 5 %s", token, disk), 0);
	EXPECT_EQUAL(run("cryptsetup config --priority prefer --key-slot 0 %s", disk), 0);
	EXPECT_EQUAL(run("cryptsetup token export --token-id 5 %s", disk), 0);
	memcpy(before, output, sizeof(before));
	before[sizeof(before) - 1] = '\0';
	expect_byok_opens("first");
	EXPECT_OK(volume_add_keyslot(&volume, &number, &more, &volume_key));
	ours.keyslot = number;
	EXPECT_OK(volume_set_vault_token(&volume, &ours));
	EXPECT_OK(volume_commit(&volume));
	EXPECT_EQUAL(run("cryptsetup token export --token-id 5 %s", disk), 0);
	EXPECT_TEXT(output, before);
	EXPECT_EQUAL(run("cryptsetup luksDump %s", disk), 0);
	EXPECT_TEXT_CONTAINS(output, "Label:         \ttheirs");
	EXPECT_TEXT_CONTAINS(output, "Subsystem:     \talso-theirs");
	EXPECT_TEXT_CONTAINS(output, "Priority:   preferred");
	EXPECT_TEXT_CONTAINS(output, "1: byok-akv");
	EXPECT_TEXT_CONTAINS(output, "5: somebody-else");
	expect_cryptsetup_opens("more");
}

TEST(byoks_token_survives_cryptsetups_changes)
{
	struct vault_token found;

	new_disk_of_byok("survives", 4096);
	EXPECT_EQUAL(
		run("printf another > %s.key; printf recovery | cryptsetup luksAddKey -q --pbkdf "
		    "pbkdf2 --pbkdf-force-iterations 1000 --key-file - %s %s.key",
		    disk, disk, disk),
		0);
	EXPECT_EQUAL(run("cryptsetup config --label renamed %s", disk), 0);
	EXPECT_EQUAL(
		run("echo '{\"type\":\"x\",\"keyslots\":[]}' | cryptsetup token import %s", disk),
		0);
	expect_byok_opens("another");
	EXPECT_OK(volume_vault_token(&found, &volume));
	EXPECT_TEXT(found.current.kid, "https://a.vault.azure.net/keys/k/1");
	EXPECT_TEXT(volume.header.label, "renamed");
}

/* Whoever was overtaken says so, and changes nothing. */
TEST(both_may_change_the_header_at_the_same_time)
{
	struct vault_token token = {
		.current = {"https://a.vault.azure.net/keys/k/1", "RSA-OAEP-256", "d3JhcHBlZA"}};
	unsigned committed_count = 0;
	char done[300];

	new_disk_of_byok("race", 4096);
	snprintf(done, sizeof(done), "%s.done", disk);
	unlink(done);
	EXPECT_EQUAL(run("(for i in $(seq 40); do cryptsetup config --label label-$i %s; done; "
			 "touch %s) >%s.log 2>&1 &\n:",
			 disk, done, disk),
		     0);
	/* A slow machine may lose each time while the other is at it; nobody is left out for ever.
	 */
	for (unsigned i = 0; (access(done, F_OK) != 0 || committed_count == 0) && i < 5000; i++) {
		enum status status;

		snprintf(token.current.kid, sizeof(token.current.kid), "https://a/keys/k/%u", i);
		EXPECT_OK(volume_load(&volume, disk));
		EXPECT_EQUAL(volume.copies[LUKS2_PRIMARY], VOLUME_COPY_GOOD);
		EXPECT_EQUAL(volume.copies[LUKS2_SECONDARY], VOLUME_COPY_GOOD);
		EXPECT_OK(volume_set_vault_token(&volume, &token));
		status = volume_commit(&volume);
		if (status != FAIL_HEADER_CHANGED)
			EXPECT_OK(status);
		committed_count += status == OK;
		usleep(10000);
	}
	EXPECT_EQUAL(access(done, F_OK), 0);
	EXPECT_NOT_EQUAL(run("grep -v 'Detected attempt for concurrent' %s.log", disk), 0);
	EXPECT_TRUE(committed_count > 0);
	expect_byok_opens("recovery");
	expect_cryptsetup_opens("first");
	EXPECT_EQUAL(run("cryptsetup luksDump %s", disk), 0);
	EXPECT_TEXT_CONTAINS(output, "Label:         \tlabel-");
}

/* --- the lock ----------------------------------------------------------------------------------
 */

TEST(the_header_of_an_image_is_locked_as_cryptsetup_does)
{
	struct volume_disk held;
	int fd;

	new_disk_of_byok("locked", 4096);
	EXPECT_OK(volume_disk_open(&held, disk, VOLUME_DISK_READ));
	EXPECT_EQUAL(run("flock --shared --nonblock %s true", disk), 0);
	EXPECT_NOT_EQUAL(run("flock --exclusive --nonblock %s true", disk), 0);
	volume_disk_close(&held);
	EXPECT_OK(volume_disk_open(&held, disk, VOLUME_DISK_CHANGE));
	EXPECT_NOT_EQUAL(run("flock --shared --nonblock %s true", disk), 0);
	volume_disk_close(&held);
	EXPECT_EQUAL(run("flock --exclusive --nonblock %s true", disk), 0);
	fd = open(disk, O_RDONLY | O_CLOEXEC);
	EXPECT_EQUAL(flock(fd, LOCK_EX), 0);
	EXPECT_STATUS(volume_load(&volume, disk), FAIL_HEADER_LOCKED);
	close(fd);
	EXPECT_OK(volume_load(&volume, disk));
}

/* Those of a test that failed are detached at the end, too. */
static char attached[8][64];
static size_t attached_count;

static void detach_all(void)
{
	for (; attached_count > 0; attached_count--)
		(void)run("losetup -d %s", attached[attached_count - 1]);
}

static void attach(char device[static 64], const char *options)
{
	static bool is_registered;

	if (!is_registered)
		is_registered = atexit(detach_all) == 0;
	EXPECT_TRUE(attached_count < ARRAY_COUNT(attached));
	if (run("losetup --find --show %s %s", options, disk) != 0)
		SKIP("there are no loop devices here");
	output[strcspn(output, "\n")] = '\0';
	EXPECT_TRUE(strlen(output) < 64);
	memcpy(device, output, 64);
	memcpy(attached[attached_count++], output, 64);
}

TEST(the_header_of_a_block_device_is_locked_as_cryptsetup_does)
{
	struct volume_disk held;
	struct stat information;
	char device[64], lock[128];

	new_disk_of_byok("device", 4096);
	attach(device, "");
	EXPECT_EQUAL(stat(device, &information), 0);
	snprintf(lock, sizeof(lock), "/run/cryptsetup/L_7:%u",
		 (unsigned)(information.st_rdev & 0xff));
	EXPECT_OK(volume_disk_open(&held, device, VOLUME_DISK_CHANGE));
	EXPECT_EQUAL(stat(lock, &information), 0);
	EXPECT_NOT_EQUAL(run("flock --shared --nonblock %s true", lock), 0);
	/* cryptsetup waits for it. */
	EXPECT_NOT_EQUAL(
		run("printf first | timeout 1 cryptsetup open --test-passphrase --key-file - "
		    "%s",
		    device),
		0);
	volume_disk_close(&held);
	EXPECT_EQUAL(
		run("printf first | timeout 20 cryptsetup open --test-passphrase --key-file - %s",
		    device),
		0);
	/* cryptsetup has removed the lock file; byok makes it again. */
	EXPECT_OK(volume_load(&volume, device));
	detach_all();
}

TEST(a_block_device_with_its_read_only_switch_on_is_loaded_only)
{
	char device[64];

	new_disk_of_byok("read-only", 4096);
	EXPECT_EQUAL(run("printf damage | dd of=%s bs=1 seek=5000 conv=notrunc", disk), 0);
	attach(device, "--read-only");
	EXPECT_OK(volume_load(&volume, device));
	EXPECT_TRUE(volume.is_read_only);
	EXPECT_EQUAL(volume.copies[LUKS2_PRIMARY], VOLUME_COPY_BAD);
	EXPECT_STATUS(volume_commit(&volume), FAIL_DISK_READ_ONLY);
	detach_all();
}

TEST(a_file_that_is_used_as_a_loop_device_is_not_formatted)
{
	static const struct volume_keyslot_options keyslot = {VOLUME_KEYSLOT_PASSPHRASE, "x", 1,
							      1000};
	const struct volume_create_options options = {
		.disk_path = disk, .name = "data1", .keyslots = &keyslot, .keyslot_count = 1};
	char device[64];

	new_disk_of_byok("in-use", 4096);
	attach(device, "");
	EXPECT_STATUS(volume_create(&volume, &options), FAIL_DISK_IN_USE);
	detach_all();
	expect_byok_opens("first");
}

TEST(a_volume_on_a_block_device_is_found_and_others_are_not)
{
	static struct volume_found found[64];
	char device[64], other[64];
	size_t count, seen = 0;

	new_disk_of_cryptsetup("other", "");
	attach(other, "");
	new_disk_of_byok("found", 4096);
	attach(device, "");
	count = volume_find_all(found, ARRAY_COUNT(found), LOG_PRIORITY_WARNING, NULL, NULL);
	EXPECT_TRUE(count >= 1 && count <= ARRAY_COUNT(found));
	for (size_t i = 0; i < count; i++) {
		EXPECT_TRUE(strcmp(found[i].disk_path, other) != 0);
		if (strcmp(found[i].disk_path, device) != 0)
			continue;
		seen++;
		EXPECT_TEXT(found[i].name, "data1");
		EXPECT_TEXT(found[i].uuid, volume.header.uuid);
	}
	EXPECT_EQUAL(seen, 1);
	EXPECT_EQUAL(volume_find_all(found, 0, LOG_PRIORITY_DEBUG, NULL, NULL), count);
	detach_all();
}
