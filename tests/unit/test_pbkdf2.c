#include "crypto/pbkdf2.h"

#include <openssl/evp.h>
#include <string.h>

#include "tests/unit/test.h"

/* Of a literal, with the NULs inside it. */
#define BYTES(literal) (literal), sizeof(literal) - 1

/* RFC 6070 (SHA-1) but for its case of 2^24 iterations, and RFC 7914 section 11 (SHA-256). */
static const struct {
	enum hash_kind kind;
	const char *password;
	size_t password_size;
	const char *salt;
	size_t salt_size;
	uint32_t iterations;
	const char *output;
} vectors[] = {
	{HASH_SHA1, BYTES("password"), BYTES("salt"), 1,
	 "0c60c80f961f0e71f3a9b524af6012062fe037a6"},
	{HASH_SHA1, BYTES("password"), BYTES("salt"), 2,
	 "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"},
	{HASH_SHA1, BYTES("password"), BYTES("salt"), 4096,
	 "4b007901b765489abead49d926f721d065a429c1"},
	{HASH_SHA1, BYTES("passwordPASSWORDpassword"),
	 BYTES("saltSALTsaltSALTsaltSALTsaltSALTsalt"), 4096,
	 "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"},
	{HASH_SHA1, BYTES("pass\0word"), BYTES("sa\0lt"), 4096, "56fa6aa75548099dcc37d7f03425e0c3"},
	{HASH_SHA256, BYTES("passwd"), BYTES("salt"), 1,
	 "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
	 "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"},
	{HASH_SHA256, BYTES("Password"), BYTES("NaCl"), 80000,
	 "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
	 "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"},
};

TEST(the_vectors_of_rfc_6070_and_rfc_7914_come_out)
{
	for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
		uint8_t output[64], expected[64];
		size_t size = test_from_hex(expected, sizeof(expected), vectors[i].output);

		pbkdf2_derive(vectors[i].kind, output, size, vectors[i].password,
			      vectors[i].password_size, vectors[i].salt, vectors[i].salt_size,
			      vectors[i].iterations);
		EXPECT_BYTES(output, expected, size);
	}
}

TEST(every_hash_and_output_size_agrees_with_openssl)
{
	uint8_t password[150], salt[40];
	uint8_t output[151], expected[151];

	test_fill(password, sizeof(password), 1);
	test_fill(salt, sizeof(salt), 2);
	for (enum hash_kind kind = 0; kind < HASH_KINDS; kind++) {
		const EVP_MD *reference = EVP_get_digestbyname(hash_name(kind));

		for (size_t size = 1; size <= 150; size += 7) {
			/* The byte behind the output stays as it is. */
			memset(output, 0x5a, sizeof(output));
			memset(expected, 0x5a, sizeof(expected));
			PKCS5_PBKDF2_HMAC((const char *)password, (int)size, salt, (int)(size / 4),
					  (int)(size % 5 + 1), reference, (int)size, expected);
			pbkdf2_derive(kind, output, size, password, size, salt, size / 4,
				      (uint32_t)(size % 5 + 1));
			EXPECT_BYTES(output, expected, sizeof(output));
		}
	}
}

TEST(no_iterations_at_all_stop_the_program)
{
	uint8_t output[32];

	EXPECT_ABORT(pbkdf2_derive(HASH_SHA256, output, 32, "p", 1, "s", 1, 0));
}
