/* A rotation on a disk in memory, by a vault in memory: the power goes at every call of the disk,
 * any call fails, and the vault goes at every question. */
#include "app/volume/rotation.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/fakes/fake_volume_disk.c"
#include "tests/unit/test.h"

#define CUT_SEEDS 6
#define OLD "11111111111111111111111111111111"
#define NEW "22222222222222222222222222222222"
#define KEY "https://bank.vault.azure.net/keys/k"

static struct volume volume;
static uint8_t saved[FAKE_DISK_SIZE];
static struct config config;
static struct agent_session session;
static struct vault_slot slot;

/* The vault wraps by writing the secret and the version in hexadecimal. */
static struct {
	const char *newest;
	unsigned question_count;
	unsigned gone_at; /* from this question on; 0: never */
	bool lies;        /* the newest version unwraps to something else */
} vault;

static const char *version_of(const char *kid)
{
	size_t length = strlen(kid);

	CHECK(length > 32);
	return kid + length - 32;
}

static enum status answer_wrap(struct message_agent_answer *answer,
			       const struct message_agent_request *request)
{
	strcpy(answer->kid, request->key_url);
	for (size_t i = 0; i < sizeof(request->secret); i++)
		snprintf(answer->wrapped + 2 * i, 3, "%02x", request->secret[i]);
	strcat(answer->wrapped, version_of(request->key_url));
	return OK;
}

static enum status answer_unwrap(struct message_agent_answer *answer,
				 const struct message_agent_request *request)
{
	char secret[65];

	snprintf(secret, sizeof(secret), "%.64s", request->wrapped);
	if (strcmp(request->wrapped + 64, version_of(request->key_url)) != 0)
		return FAIL_VAULT_REQUEST;
	EXPECT_EQUAL(test_from_hex(answer->secret, sizeof(answer->secret), secret), 32);
	answer->secret_size = 32;
	if (vault.lies && strcmp(version_of(request->key_url), vault.newest) == 0)
		answer->secret[0] ^= 1;
	return OK;
}

/* In the place of app/vault/agent_session.c's: this is linked first. */
enum status agent_session_ask(struct agent_session *asked, struct message_agent_answer *answer,
			      struct message_agent_request *request)
{
	(void)asked;
	*answer = (struct message_agent_answer){.enabled = 1, .key_bits = 2048};
	if (++vault.question_count >= vault.gone_at && vault.gone_at != 0)
		return FAIL_VAULT_UNREACHABLE;
	switch ((enum agent_operation)request->operation) {
	case AGENT_GET_KEY:
		snprintf(answer->kid, sizeof(answer->kid), KEY "/%s", vault.newest);
		return OK;
	case AGENT_WRAP: return answer_wrap(answer, request);
	case AGENT_UNWRAP: return answer_unwrap(answer, request);
	case AGENT_TOKEN:
	case AGENT_USER_DATA:
	case AGENT_OPERATIONS: break;
	}
	return FAIL_MESSAGE;
}

static void make_disk(void)
{
	struct message_agent_answer answer = {0};
	struct message_agent_request request = {0};
	struct volume_keyslot_options keyslot = {VOLUME_KEYSLOT_VAULT, NULL, 0, 10};
	struct vault_token token;

	memset(&vault, 0, sizeof(vault));
	vault.newest = OLD;
	vault_slot_make(&slot);
	memcpy(request.secret, slot.secret.bytes, 32);
	strcpy(request.key_url, KEY "/" OLD);
	EXPECT_OK(answer_wrap(&answer, &request));
	EXPECT_OK(vault_slot_token(&token, answer.kid, answer.wrapped, "client"));
	keyslot.passphrase = slot.passphrase.bytes;
	keyslot.passphrase_size = slot.passphrase.size;
	fake_disk_reset();
	EXPECT_OK(volume_create(&volume, &(struct volume_create_options){.disk_path = "disk",
									 .name = "data1",
									 .keyslots = &keyslot,
									 .keyslot_count = 1,
									 .vault_token = &token}));
	memcpy(saved, fake_disk.now, sizeof(saved));
	vault.newest = NEW;
}

static void restore(void)
{
	memcpy(fake_disk.now, saved, sizeof(saved));
	memcpy(fake_disk.safe, saved, sizeof(saved));
	memset(fake_disk.dirty, 0, sizeof(fake_disk.dirty));
	fake_disk_reboot();
	vault.gone_at = 0;
	vault.question_count = 0;
}

static bool disk_is_as_saved(void)
{
	return memcmp(fake_disk.now, saved, sizeof(saved)) == 0;
}

static enum status rotate(void)
{
	struct rotation rotation;

	TRY(rotation_prepare(&rotation, &session, &config, "disk", ""));
	TRY(rotation_commit(&rotation));
	return rotation_finish(&rotation, &session, &config);
}

/* By what its token names, with nothing but that key; returns whether that is the new one. */
static bool expect_opens(void)
{
	struct vault_slot found = {0};
	struct vault_token token;

	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_OK(volume_vault_token(&token, &volume));
	EXPECT_OK(vault_slot_prove(&found, &session, &token.current, "", &volume, token.keyslot));
	EXPECT_BYTES(found.secret.bytes, slot.secret.bytes, 32);
	return strcmp(version_of(token.current.kid), NEW) == 0;
}

static void expect_complete(void)
{
	struct vault_token token;

	EXPECT_OK(rotate());
	EXPECT_TRUE(expect_opens());
	EXPECT_OK(volume_vault_token(&token, &volume));
	EXPECT_TEXT(token.previous.kid, "");
	EXPECT_EQUAL(fake_disk.open_count, 0);
}

TEST(the_old_wrapping_stays_until_the_new_one_was_seen_to_open_the_disk)
{
	struct rotation rotation;
	struct vault_token token;

	make_disk();
	EXPECT_OK(rotation_prepare(&rotation, &session, &config, "disk", ""));
	EXPECT_TRUE(disk_is_as_saved());
	EXPECT_OK(rotation_commit(&rotation));
	EXPECT_TRUE(expect_opens());
	EXPECT_OK(volume_vault_token(&token, &volume));
	EXPECT_TEXT(token.previous.kid, KEY "/" OLD);
	vault.lies = true;
	EXPECT_STATUS(rotation_finish(&rotation, &session, &config), FAIL_WRAPPED_MISMATCH);
	EXPECT_OK(volume_load(&volume, "disk"));
	EXPECT_OK(volume_vault_token(&token, &volume));
	EXPECT_TEXT(token.previous.kid, KEY "/" OLD);
	/* And opens the disk as long as the new one does not. */
	EXPECT_OK(vault_slot_open(&slot, &session, &config, &volume));
	EXPECT_TEXT(slot.proved.kid, KEY "/" OLD);
	vault.lies = false;
	expect_complete();
}

TEST(a_key_that_does_not_give_back_what_it_wrapped_is_not_moved_to)
{
	make_disk();
	vault.lies = true;
	EXPECT_STATUS(rotate(), FAIL_KEY_MISMATCH);
	EXPECT_TRUE(disk_is_as_saved());
}

TEST(a_power_cut_at_any_call_of_a_rotation_leaves_a_disk_that_opens_and_can_go_on)
{
	unsigned old_count = 0, new_count = 0;

	make_disk();
	for (unsigned cut = 1;; cut++)
		for (uint64_t seed = 0; seed < CUT_SEEDS; seed++) {
			restore();
			fake_disk_arm(0, cut, seed);
			(void)!rotate();
			if (!fake_disk.is_off) {
				EXPECT_TRUE(old_count > 0 && new_count > 0);
				return;
			}
			fake_disk_reboot();
			if (expect_opens())
				new_count++;
			else
				old_count++;
			expect_complete();
		}
}

TEST(any_failing_call_of_a_rotation_leaves_a_disk_that_opens_and_can_go_on)
{
	bool was_failed = true;

	make_disk();
	for (unsigned call = 1; was_failed; call++) {
		restore();
		fake_disk_arm(call, 0, 0);
		(void)!rotate();
		was_failed = fake_disk.call_count >= call;
		fake_disk_arm(0, 0, 0);
		(void)expect_opens();
		expect_complete();
	}
}

TEST(the_vault_may_go_at_any_question)
{
	enum status status = FAIL_VAULT_UNREACHABLE;
	unsigned question;

	make_disk();
	for (question = 1; status != OK; question++) {
		restore();
		vault.gone_at = question;
		status = rotate();
		EXPECT_TRUE(status == OK || status == FAIL_VAULT_UNREACHABLE);
		vault.gone_at = 0;
		(void)expect_opens();
		expect_complete();
	}
	EXPECT_TRUE(question > 5);
}

TEST(a_disk_that_was_rotated_by_somebody_else_is_left_to_them)
{
	struct rotation first, second;

	make_disk();
	EXPECT_OK(rotation_prepare(&first, &session, &config, "disk", ""));
	EXPECT_OK(rotation_prepare(&second, &session, &config, "disk", ""));
	EXPECT_OK(rotation_commit(&second));
	memcpy(saved, fake_disk.now, sizeof(saved));
	EXPECT_STATUS(rotation_commit(&first), FAIL_HEADER_CHANGED);
	EXPECT_TRUE(disk_is_as_saved());
	EXPECT_OK(rotation_finish(&second, &session, &config));
	EXPECT_TRUE(expect_opens());
}
