#include "crypto/hash.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "tests/unit/test.h"

static enum hash_kind kind_of(const char *name)
{
	enum hash_kind kind = HASH_KINDS;

	EXPECT_TRUE(hash_from_name(&kind, name, strlen(name)));
	return kind;
}

/* The examples that NIST publishes with FIPS 180-4. */
static const struct {
	const char *hash;
	const char *message;
	const char *digest;
} fips_180_examples[] = {
	{"sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
	{"sha1", "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
	{"sha1", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
	{"sha224", "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
	{"sha224", "", "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"},
	{"sha224", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "75388b16512776cc5dba5da1fd890150b0c6455cb4f58b1952522525"},
	{"sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"sha256", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{"sha384", "abc",
	 "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
	 "8086072ba1e7cc2358baeca134c825a7"},
	{"sha384", "",
	 "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da"
	 "274edebfe76f65fbd51ad2f14898b95b"},
	{"sha384",
	 "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
	 "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	 "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712"
	 "fcc7c71a557e2db966c3e9fa91746039"},
	{"sha512", "abc",
	 "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
	 "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
	{"sha512", "",
	 "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
	 "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"},
	{"sha512",
	 "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
	 "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	 "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
	 "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
};

TEST(the_examples_of_fips_180_come_out)
{
	for (size_t i = 0; i < ARRAY_COUNT(fips_180_examples); i++) {
		const char *message = fips_180_examples[i].message;
		enum hash_kind kind = kind_of(fips_180_examples[i].hash);
		uint8_t digest[HASH_SIZE_MAX], expected[HASH_SIZE_MAX];
		size_t size =
			test_from_hex(expected, sizeof(expected), fips_180_examples[i].digest);

		EXPECT_EQUAL(hash_size(kind), size);
		hash_digest(kind, digest, message, strlen(message));
		EXPECT_BYTES(digest, expected, size);
	}
}

TEST(every_length_in_any_pieces_agrees_with_openssl)
{
	uint8_t message[300];
	uint8_t digest[HASH_SIZE_MAX], expected[HASH_SIZE_MAX];

	test_fill(message, sizeof(message), 1);
	for (enum hash_kind kind = 0; kind < HASH_KINDS; kind++) {
		const EVP_MD *reference = EVP_get_digestbyname(hash_name(kind));

		EXPECT_TRUE(reference != NULL);
		for (size_t size = 0; size <= sizeof(message); size++) {
			size_t cut = size * 7 / 11;
			struct hash_state state;

			EVP_Digest(message, size, expected, NULL, reference, NULL);
			hash_init(&state, kind);
			hash_update(&state, message, cut);
			hash_update(&state, message + cut, size - cut);
			hash_finish(&state, digest);
			EXPECT_BYTES(digest, expected, hash_size(kind));
		}
	}
}

/* RFC 4231 section 4; case 5 is of a truncated result, which nobody here needs. */
static const struct {
	int number;
	const char *hash;
	const char *digest;
} rfc_4231_cases[] = {
	{1, "sha224", "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22"},
	{1, "sha256", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	{1, "sha384",
	 "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
	 "faea9ea9076ede7f4af152e8b2fa9cb6"},
	{1, "sha512",
	 "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
	 "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"},
	{2, "sha224", "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"},
	{2, "sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
	{2, "sha384",
	 "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
	 "8e2240ca5e69e2c78b3239ecfab21649"},
	{2, "sha512",
	 "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
	 "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
	{3, "sha224", "7fb3cb3588c6c1f6ffa9694d7d6ad2649365b0c1f65d69d1ec8333ea"},
	{3, "sha256", "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
	{3, "sha384",
	 "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b"
	 "2a5ab39dc13814b94e3ab6e101a34f27"},
	{3, "sha512",
	 "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
	 "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"},
	{4, "sha224", "6c11506874013cac6a2abc1bb382627cec6a90d86efc012de7afec5a"},
	{4, "sha256", "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
	{4, "sha384",
	 "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e"
	 "6801dd23c4a7d679ccf8a386c674cffb"},
	{4, "sha512",
	 "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db"
	 "a91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd"},
	{6, "sha224", "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e"},
	{6, "sha256", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	{6, "sha384",
	 "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
	 "0c2ef6ab4030fe8296248df163f44952"},
	{6, "sha512",
	 "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
	 "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
	{7, "sha224", "3a854166ac5d9f023f54d517d0b39dbd946770db9c2b95c9f6f565d1"},
	{7, "sha256", "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	{7, "sha384",
	 "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5"
	 "a678cc31e799176d3860e6110c46523e"},
	{7, "sha512",
	 "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
	 "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"},
};

struct message {
	uint8_t bytes[160];
	size_t size;
};

static struct message repeated(uint8_t byte, size_t size)
{
	struct message message = {.size = size};

	memset(message.bytes, byte, size);
	return message;
}

static struct message text(const char *text)
{
	struct message message = {.size = strlen(text)};

	memcpy(message.bytes, text, message.size);
	return message;
}

static void rfc_4231_case(int number, struct message *key, struct message *data)
{
	switch (number) {
	case 1:
		*key = repeated(0x0b, 20);
		*data = text("Hi There");
		break;
	case 2:
		*key = text("Jefe");
		*data = text("what do ya want for nothing?");
		break;
	case 3:
		*key = repeated(0xaa, 20);
		*data = repeated(0xdd, 50);
		break;
	case 4:
		key->size = 25;
		for (size_t i = 0; i < 25; i++)
			key->bytes[i] = (uint8_t)(i + 1);
		*data = repeated(0xcd, 50);
		break;
	case 6:
		*key = repeated(0xaa, 131);
		*data = text("Test Using Larger Than Block-Size Key - Hash Key First");
		break;
	default:
		*key = repeated(0xaa, 131);
		*data = text("This is a test using a larger than block-size key and a larger than "
			     "block-size data. The key needs to be hashed before being used by the "
			     "HMAC algorithm.");
	}
}

TEST(the_hmac_cases_of_rfc_4231_come_out)
{
	for (size_t i = 0; i < ARRAY_COUNT(rfc_4231_cases); i++) {
		enum hash_kind kind = kind_of(rfc_4231_cases[i].hash);
		struct message key = {0}, data = {0};
		struct hash_hmac_key hmac_key;
		struct hash_hmac hmac;
		uint8_t digest[HASH_SIZE_MAX], expected[HASH_SIZE_MAX];
		size_t size = test_from_hex(expected, sizeof(expected), rfc_4231_cases[i].digest);

		rfc_4231_case(rfc_4231_cases[i].number, &key, &data);
		EXPECT_EQUAL(hash_size(kind), size);
		hash_hmac_key_init(&hmac_key, kind, key.bytes, key.size);
		hash_hmac_init(&hmac, &hmac_key);
		hash_hmac_update(&hmac, data.bytes, data.size);
		hash_hmac_finish(&hmac, digest);
		EXPECT_BYTES(digest, expected, size);
	}
}

TEST(one_hmac_key_serves_many_messages_in_pieces)
{
	uint8_t key_bytes[100], message[200];
	uint8_t digest[HASH_SIZE_MAX], expected[HASH_SIZE_MAX];

	test_fill(key_bytes, sizeof(key_bytes), 2);
	test_fill(message, sizeof(message), 3);
	for (enum hash_kind kind = 0; kind < HASH_KINDS; kind++) {
		const EVP_MD *reference = EVP_get_digestbyname(hash_name(kind));
		struct hash_hmac_key key;

		hash_hmac_key_init(&key, kind, key_bytes, sizeof(key_bytes));
		for (size_t size = 0; size <= sizeof(message); size += 5) {
			struct hash_hmac hmac;

			HMAC(reference, key_bytes, sizeof(key_bytes), message, size, expected,
			     NULL);
			hash_hmac_init(&hmac, &key);
			hash_hmac_update(&hmac, message, size / 3);
			hash_hmac_update(&hmac, message + size / 3, size - size / 3);
			hash_hmac_finish(&hmac, digest);
			EXPECT_BYTES(digest, expected, hash_size(kind));
		}
	}
}

TEST(finished_states_and_wiped_keys_hold_nothing)
{
	static const uint8_t zero[sizeof(struct hash_hmac)];
	struct hash_state state;
	struct hash_hmac_key key;
	struct hash_hmac hmac;
	uint8_t digest[HASH_SIZE_MAX];

	hash_init(&state, HASH_SHA512);
	hash_update(&state, "secret", 6);
	hash_finish(&state, digest);
	EXPECT_BYTES(&state, zero, sizeof(state));
	hash_hmac_key_init(&key, HASH_SHA512, "secret", 6);
	hash_hmac_init(&hmac, &key);
	hash_hmac_finish(&hmac, digest);
	hash_hmac_key_wipe(&key);
	EXPECT_BYTES(&hmac, zero, sizeof(hmac));
	EXPECT_BYTES(&key, zero, sizeof(key));
}

TEST(only_exact_names_name_a_hash)
{
	static const char *const unknown[] = {"",          "sha",      "sha2", "SHA256",
					      "sha-256",   "sha2566",  "md5",  "sha3-256",
					      "whirlpool", "ripemd160"};
	enum hash_kind kind;

	for (size_t i = 0; i < ARRAY_COUNT(unknown); i++)
		EXPECT_FALSE(hash_from_name(&kind, unknown[i], strlen(unknown[i])));
	EXPECT_FALSE(hash_from_name(&kind, "sha256", 5));
	EXPECT_TRUE(hash_from_name(&kind, "sha256,", 6));
	EXPECT_EQUAL(kind, HASH_SHA256);
	for (enum hash_kind i = 0; i < HASH_KINDS; i++)
		EXPECT_EQUAL(kind_of(hash_name(i)), i);
}
