#include "crypto/selftest.h"

#include <string.h>

#include "crypto/aes_xts.h"
#include "crypto/antiforensic.h"
#include "crypto/base64.h"
#include "crypto/hash.h"
#include "crypto/pbkdf2.h"
#include "platform/secret.h"

/* Expected values: FIPS 180-4 for "abc"; RFC 7914 section 11 for PBKDF2; RFC 4648 section 10 for
 * base64. Those of the cipher and the splitter were computed with other programs (OpenSSL, Python).
 */

enum { CIPHER_SIZE = 9 * 512, SPLIT_KEY_SIZE = 8 };

/* Bytes without a short period. */
static void fill_pattern(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(7 * i + (i >> 8));
}

/* Nine sectors, so that a batch of eight and a lone one are done, across the border of 32-bit
 * numbers; or one large sector. The whole ciphertext is compared through its hash. */
static bool cipher_passes(enum aes_xts_implementation implementation, size_t sector_size)
{
	static const uint8_t expected_512[32] = {
		0x5b, 0x8b, 0xf7, 0x4d, 0xb8, 0x05, 0x85, 0x14, 0x24, 0xe1, 0x99,
		0xeb, 0x85, 0x93, 0xe5, 0xc1, 0x17, 0xa5, 0xb6, 0x07, 0x77, 0x90,
		0x86, 0xc2, 0x76, 0x43, 0xb0, 0x65, 0x53, 0x45, 0x02, 0x3c,
	};
	static const uint8_t expected_4096[32] = {
		0xd9, 0x05, 0xc4, 0xc5, 0x81, 0xc5, 0xf0, 0x5c, 0xb2, 0x9a, 0xef,
		0xf1, 0x3c, 0xc5, 0x29, 0x6f, 0x0f, 0x76, 0x8a, 0x4a, 0x47, 0x6f,
		0x57, 0xb3, 0x00, 0x1e, 0x12, 0x99, 0x8b, 0x29, 0x8e, 0xed,
	};
	const uint8_t *expected = sector_size == 512 ? expected_512 : expected_4096;
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t plaintext[CIPHER_SIZE], text[CIPHER_SIZE];
	uint8_t digest[HASH_SIZE_MAX];
	struct aes_xts_key key;
	struct sector_run run = {
		.first_unit = 0xfffffffc,
		.source = plaintext,
		.target = text,
		.size = CIPHER_SIZE / sector_size * sector_size,
	};

	for (size_t i = 0; i < sizeof(key_bytes); i++)
		key_bytes[i] = (uint8_t)i;
	fill_pattern(plaintext, sizeof(plaintext));
	if (aes_xts_key_init_for(&key, implementation, key_bytes, sector_size) != OK)
		return false;
	aes_xts_encrypt(&key, &run, 1);
	hash_digest(HASH_SHA256, digest, text, run.size);
	if (!secret_equal(digest, expected, sizeof(expected_512)))
		return false;
	run.source = text;
	aes_xts_decrypt(&key, &run, 1);
	return secret_equal(text, plaintext, run.size);
}

static bool hash_passes(enum hash_kind kind, const uint8_t *expected)
{
	uint8_t digest[HASH_SIZE_MAX];

	hash_digest(kind, digest, "abc", 3);
	return secret_equal(digest, expected, hash_size(kind));
}

static bool sha1_passes(void)
{
	static const uint8_t expected[] = {
		0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e,
		0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d,
	};

	return hash_passes(HASH_SHA1, expected);
}

static bool sha256_passes(void)
{
	static const uint8_t expected[] = {
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
		0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
		0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
	};

	return hash_passes(HASH_SHA256, expected);
}

static bool sha512_passes(void)
{
	static const uint8_t expected[] = {
		0xdd, 0xaf, 0x35, 0xa1, 0x93, 0x61, 0x7a, 0xba, 0xcc, 0x41, 0x73, 0x49, 0xae,
		0x20, 0x41, 0x31, 0x12, 0xe6, 0xfa, 0x4e, 0x89, 0xa9, 0x7e, 0xa2, 0x0a, 0x9e,
		0xee, 0xe6, 0x4b, 0x55, 0xd3, 0x9a, 0x21, 0x92, 0x99, 0x2a, 0x27, 0x4f, 0xc1,
		0xa8, 0x36, 0xba, 0x3c, 0x23, 0xa3, 0xfe, 0xeb, 0xbd, 0x45, 0x4d, 0x44, 0x23,
		0x64, 0x3c, 0xe8, 0x0e, 0x2a, 0x9a, 0xc9, 0x4f, 0xa5, 0x4c, 0xa4, 0x9f,
	};

	return hash_passes(HASH_SHA512, expected);
}

static bool pbkdf2_passes(void)
{
	static const uint8_t expected[] = {
		0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f, 0xec, 0x16, 0x91, 0xc2, 0x25,
		0x44, 0xb6, 0x05, 0xf9, 0x41, 0x85, 0x21, 0x6d, 0xde, 0x04, 0x65, 0xe6, 0x8b,
		0x9d, 0x57, 0xc2, 0x0d, 0xac, 0xbc, 0x49, 0xca, 0x9c, 0xcc, 0xf1, 0x79, 0xb6,
		0x45, 0x99, 0x16, 0x64, 0xb3, 0x9d, 0x77, 0xef, 0x31, 0x7c, 0x71, 0xb8, 0x45,
		0xb1, 0xe3, 0x0b, 0xd5, 0x09, 0x11, 0x20, 0x41, 0xd3, 0xa1, 0x97, 0x83,
	};
	uint8_t output[sizeof(expected)];

	pbkdf2_derive(HASH_SHA256, output, sizeof(output), "passwd", 6, "salt", 4, 1);
	return secret_equal(output, expected, sizeof(expected));
}

static bool base64_passes(void)
{
	char text[BASE64_TEXT_SIZE(6)];
	uint8_t bytes[6];
	size_t size;

	return base64_encode(text, "fooba", 5, BASE64_STANDARD) == 8 &&
	       strcmp(text, "Zm9vYmE=") == 0 &&
	       base64_decode(bytes, &size, sizeof(bytes), text, 8, BASE64_STANDARD) && size == 5 &&
	       secret_equal(bytes, "fooba", 5);
}

static bool antiforensic_passes(void)
{
	static const uint8_t expected[SPLIT_KEY_SIZE] = {0x02, 0xb8, 0x0e, 0x16,
							 0xb6, 0x4e, 0xf2, 0x90};
	uint8_t stripes[ANTIFORENSIC_SIZE(SPLIT_KEY_SIZE)];
	uint8_t key[SPLIT_KEY_SIZE];

	fill_pattern(stripes, sizeof(stripes));
	antiforensic_merge(HASH_SHA256, key, stripes, sizeof(key));
	if (!secret_equal(key, expected, sizeof(key)))
		return false;
	antiforensic_split(HASH_SHA256, stripes, expected, sizeof(key));
	antiforensic_merge(HASH_SHA256, key, stripes, sizeof(key));
	return secret_equal(key, expected, sizeof(key));
}

static const struct {
	const char *name;
	const char *implementation;
	bool (*passes)(void);
	bool at_start; /* takes microseconds */
} tests[] = {
	{"sha1", "bearssl", sha1_passes, true},
	{"sha256", "bearssl", sha256_passes, true},
	{"sha512", "bearssl", sha512_passes, true},
	{"pbkdf2", "bearssl", pbkdf2_passes, true},
	{"base64", "byok", base64_passes, true},
	{"antiforensic", "byok", antiforensic_passes, false},
};

enum status selftest_run(void)
{
	enum aes_xts_implementation best = aes_xts_implementation_best();

	for (size_t i = 0; i < ARRAY_COUNT(tests); i++)
		if (tests[i].at_start && !tests[i].passes())
			return FAIL_SELFTEST;
	return cipher_passes(best, 512) && cipher_passes(best, 4096) ? OK : FAIL_SELFTEST;
}

enum status selftest_run_all(selftest_report *report, void *context)
{
	bool all_passed = true;

	for (size_t i = 0; i < ARRAY_COUNT(tests); i++) {
		bool passed = tests[i].passes();

		report(context, tests[i].name, tests[i].implementation, passed);
		all_passed = all_passed && passed;
	}
	for (enum aes_xts_implementation i = 0; i < AES_XTS_IMPLEMENTATIONS; i++) {
		bool passed_512, passed_4096;

		if (!aes_xts_implementation_available(i))
			continue;
		passed_512 = cipher_passes(i, 512);
		passed_4096 = cipher_passes(i, 4096);
		report(context, "aes-xts-512", aes_xts_implementation_name(i), passed_512);
		report(context, "aes-xts-4096", aes_xts_implementation_name(i), passed_4096);
		all_passed = all_passed && passed_512 && passed_4096;
	}
	return all_passed ? OK : FAIL_SELFTEST;
}
