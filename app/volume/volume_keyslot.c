#include "app/volume/volume_keyslot.h"

#include <stdio.h>
#include <string.h>

#include "crypto/luks2_metadata_edit.h"
#include "crypto/pbkdf2.h"
#include "platform/clock.h"
#include "platform/entropy.h"

#define PASSPHRASE_TIME_MS 2000
#define TRIAL_TIME_MS 100
/* However slow this machine is: an attacker's is not. */
#define PASSPHRASE_ITERATIONS_MIN 200000u

/* As many iterations as take PASSPHRASE_TIME_MS here; both output blocks count. */
static uint32_t measure_iterations(void)
{
	static const uint8_t nothing[LUKS2_SALT_SIZE];
	uint8_t output[LUKS2_AREA_KEY_SIZE];
	uint32_t iterations = 5000;
	uint64_t wanted, taken_ms;

	for (;;) {
		uint64_t start_ms = clock_now_ms();

		pbkdf2_derive(HASH_SHA256, output, sizeof(output), nothing, sizeof(nothing),
			      nothing, sizeof(nothing), iterations);
		taken_ms = clock_now_ms() - start_ms;
		if (taken_ms >= TRIAL_TIME_MS || iterations >= LUKS2_POLICY_ITERATIONS_MAX / 2)
			break;
		iterations *= 2;
	}
	wanted = (uint64_t)iterations * PASSPHRASE_TIME_MS / MAXIMUM(taken_ms, 1);
	wanted = MAXIMUM(wanted, PASSPHRASE_ITERATIONS_MIN);
	return (uint32_t)MINIMUM(wanted, LUKS2_POLICY_ITERATIONS_MAX);
}

static uint32_t iterations_for(const struct volume_keyslot_options *options)
{
	if (options->iterations != 0)
		return options->iterations;
	return options->purpose == VOLUME_KEYSLOT_PASSPHRASE ? measure_iterations()
							     : VOLUME_KEYSLOT_ITERATIONS_RANDOM;
}

enum status volume_keyslot_make(struct luks2_keyslot *keyslot_out, uint8_t *area,
				uint64_t area_offset, const struct volume_keyslot_options *options,
				const struct secret *volume_key)
{
	struct luks2_keyslot keyslot = {
		.exists = true,
		.kind = LUKS2_KEYSLOT_LUKS2,
		.key_size = LUKS2_VOLUME_KEY_SIZE,
		.priority = 1,
		.area_offset = area_offset,
		.area_size = LUKS2_AREA_SIZE,
		.area_cipher = LUKS2_CIPHER_AES_XTS_PLAIN64,
		.area_key_size = LUKS2_AREA_KEY_SIZE,
		.splitter_hash = HASH_SHA256,
		.kdf = {.kind = LUKS2_KDF_PBKDF2, .hash = HASH_SHA256},
	};

	keyslot.kdf.iterations = iterations_for(options);
	entropy_fill(keyslot.kdf.salt, sizeof(keyslot.kdf.salt));
	entropy_fill(area, LUKS2_AREA_SIZE);
	TRY(luks2_keyslot_seal(area, &keyslot, volume_key, options->passphrase,
			       options->passphrase_size));
	*keyslot_out = keyslot;
	return OK;
}

bool volume_keyslot_free_token(unsigned *number, const struct luks2_metadata *metadata)
{
	for (unsigned i = 0; i < LUKS2_TOKENS; i++)
		if (!metadata->tokens[i].exists) {
			*number = i;
			return true;
		}
	return false;
}

enum status volume_keyslot_mark_recovery(struct luks2_text *text, struct luks2_nodes *nodes,
					 const struct luks2_metadata *metadata, unsigned keyslot)
{
	char json[128];
	unsigned number;

	if (!volume_keyslot_free_token(&number, metadata))
		return FAIL_METADATA_FULL;
	snprintf(json, sizeof(json),
		 "{\"type\":\"" VOLUME_RECOVERY_TOKEN_TYPE "\",\"keyslots\":[\"%u\"]}", keyslot);
	return luks2_metadata_edit_put_token(text, nodes, number, json, strlen(json));
}
