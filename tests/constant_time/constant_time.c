/* Proves that no secret decides a branch or an address. Memcheck tracks every bit that is marked as
 * undefined, and reports each branch and address that depends on one: so keys and data are marked,
 * and no report may come. Run by tests/constant_time/run for each compiler, because a mask in C may
 * be a branch in the machine code.
 *
 * Not covered: recovery_key_normalise, whose branches on separators memcheck cannot tell from
 * others, and what valgrind cannot run (VAES): for that see same_steps.c.
 */
#include <stdio.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "crypto/aes_xts_implementation.h"
#include "crypto/antiforensic.h"
#include "crypto/base64.h"
#include "crypto/pbkdf2.h"
#include "crypto/recovery_key.h"
#include "platform/secret.h"

enum { EXIT_OK, EXIT_LEAK, EXIT_NO_VALGRIND };

static unsigned leaks;

static void secret_bytes(void *bytes, size_t size)
{
	memset(bytes, 0x5a, size);
	(void)VALGRIND_MAKE_MEM_UNDEFINED(bytes, size);
}

/* What `check` made memcheck report must lie between these. */
static void expect_reports(const char *name, void (*check)(void), unsigned least, unsigned most)
{
	unsigned before = VALGRIND_COUNT_ERRORS;
	unsigned reports;

	check();
	reports = VALGRIND_COUNT_ERRORS - before;
	printf("%s %s: %u reports\n", reports >= least && reports <= most ? "passed " : "FAILED ",
	       name, reports);
	if (reports < least || reports > most)
		leaks++;
}

static volatile unsigned sink;

static void branch_on_a_secret(void)
{
	uint8_t secret[1];

	secret_bytes(secret, 1);
	if (secret[0] > 7)
		sink++;
}

static void look_up_a_secret(void)
{
	static volatile uint8_t table[256];
	uint8_t secret[1];

	secret_bytes(secret, 1);
	sink += table[secret[0]];
}

static void compare_secrets(void)
{
	uint8_t a[64], b[64];
	bool equal;

	secret_bytes(a, sizeof(a));
	secret_bytes(b, sizeof(b));
	equal = secret_equal(a, b, sizeof(a));
	(void)VALGRIND_MAKE_MEM_DEFINED(&equal, sizeof(equal));
	sink += equal;
}

/* Keys are expanded below aes_xts_key_init, which must tell equal halves. */
static void cipher(enum aes_xts_implementation implementation, aes_xts_expand *expand)
{
	static struct aes_xts_key key;
	static uint8_t sectors[9 * 512];
	uint8_t bytes[AES_XTS_KEY_SIZE];
	struct sector_run run = {1, sectors, sectors, sizeof(sectors)};

	secret_bytes(bytes, sizeof(bytes));
	secret_bytes(sectors, sizeof(sectors));
	expand(&key, bytes);
	key.sector_size = 512;
	key.implementation = implementation;
	aes_xts_encrypt(&key, &run, 1);
	aes_xts_decrypt(&key, &run, 1);
}

static void portable_cipher(void)
{
	cipher(AES_XTS_PORTABLE, aes_xts_portable_expand);
}

static void aesni_cipher(void)
{
	cipher(AES_XTS_AESNI, aes_xts_aesni_expand);
}

static void key_derivation(void)
{
	for (enum hash_kind kind = 0; kind < HASH_KINDS; kind++) {
		uint8_t password[200], output[96];

		secret_bytes(password, sizeof(password));
		pbkdf2_derive(kind, output, sizeof(output), password, sizeof(password), "salt", 4,
			      3);
		pbkdf2_derive(kind, output, sizeof(output), password, 44, "salt", 4, 3);
	}
}

static void splitter(void)
{
	static uint8_t stripes[ANTIFORENSIC_SIZE(40)];
	uint8_t key[40];

	secret_bytes(key, sizeof(key));
	secret_bytes(stripes, sizeof(stripes));
	antiforensic_split(HASH_SHA256, stripes, key, sizeof(key));
	antiforensic_merge(HASH_SHA256, key, stripes, sizeof(key));
}

static void base64_writing(void)
{
	uint8_t bytes[32];
	char text[BASE64_TEXT_SIZE(32)];

	secret_bytes(bytes, sizeof(bytes));
	base64_encode(text, bytes, sizeof(bytes), BASE64_STANDARD);
	base64_encode(text, bytes, sizeof(bytes), BASE64_URL);
}

/* The padding is no secret, the verdict is none. */
static void base64_reading(void)
{
	uint8_t bytes[32];
	size_t size;
	char text[44];

	secret_bytes(text, 42);
	text[42] = '=';
	text[43] = '=';
	sink += base64_decode(bytes, &size, sizeof(bytes), text, sizeof(text), BASE64_STANDARD);
}

static void recovery_key_writing(void)
{
	uint8_t key[RECOVERY_KEY_SIZE];
	struct secret text;

	secret_bytes(key, sizeof(key));
	recovery_key_encode(&text, key);
}

int main(void)
{
	if (!RUNNING_ON_VALGRIND) {
		fprintf(stderr, "constant_time: run this under valgrind\n");
		return EXIT_NO_VALGRIND;
	}
	expect_reports("a branch on a secret is noticed", branch_on_a_secret, 1, UINT32_MAX);
	expect_reports("an address from a secret is noticed", look_up_a_secret, 1, UINT32_MAX);
	expect_reports("comparing secrets", compare_secrets, 0, 0);
	expect_reports("the portable cipher", portable_cipher, 0, 0);
	if (aes_xts_implementation_available(AES_XTS_AESNI))
		expect_reports("the AES-NI cipher", aesni_cipher, 0, 0);
	expect_reports("hashes, HMAC and PBKDF2", key_derivation, 0, 0);
	expect_reports("the anti-forensic splitter", splitter, 0, 0);
	expect_reports("writing base64", base64_writing, 0, 0);
	expect_reports("reading base64, but for the one verdict", base64_reading, 0, 1);
	expect_reports("writing a recovery key", recovery_key_writing, 0, 0);
	return leaks == 0 ? EXIT_OK : EXIT_LEAK;
}
