#include "crypto/base64.h"

#include <openssl/evp.h>
#include <string.h>

#include "tests/unit/test.h"

/* RFC 4648 section 10 */
static const struct {
	const char *bytes;
	const char *text;
} vectors[] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
};

TEST(the_vectors_of_rfc_4648_come_out)
{
	for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
		char text[BASE64_TEXT_SIZE(6)];
		uint8_t bytes[6];
		size_t size = 99;
		size_t length = strlen(vectors[i].text);

		EXPECT_EQUAL(base64_encode(text, vectors[i].bytes, strlen(vectors[i].bytes),
					   BASE64_STANDARD),
			     length);
		EXPECT_TEXT(text, vectors[i].text);
		EXPECT_TRUE(
			base64_decode(bytes, &size, sizeof(bytes), text, length, BASE64_STANDARD));
		EXPECT_EQUAL(size, strlen(vectors[i].bytes));
		EXPECT_BYTES(bytes, vectors[i].bytes, size);
	}
}

TEST(the_url_form_is_written_without_padding_and_read_with_or_without)
{
	for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
		char text[BASE64_TEXT_SIZE(6)];
		uint8_t bytes[6];
		size_t size;
		size_t length = strcspn(vectors[i].text, "=");

		EXPECT_EQUAL(
			base64_encode(text, vectors[i].bytes, strlen(vectors[i].bytes), BASE64_URL),
			length);
		EXPECT_EQUAL(strlen(text), length);
		EXPECT_BYTES(text, vectors[i].text, length);
		EXPECT_TRUE(base64_decode(bytes, &size, sizeof(bytes), text, length, BASE64_URL));
		EXPECT_EQUAL(size, strlen(vectors[i].bytes));
		EXPECT_TRUE(base64_decode(bytes, &size, sizeof(bytes), vectors[i].text,
					  strlen(vectors[i].text), BASE64_URL));
		EXPECT_EQUAL(size, strlen(vectors[i].bytes));
		EXPECT_BYTES(bytes, vectors[i].bytes, size);
	}
}

TEST(each_form_has_its_own_last_two_characters)
{
	static const uint8_t bytes[] = {0xfb, 0xff, 0xbf};
	char text[BASE64_TEXT_SIZE(3)];
	uint8_t decoded[3];
	size_t size;

	base64_encode(text, bytes, 3, BASE64_STANDARD);
	EXPECT_TEXT(text, "+/+/");
	EXPECT_FALSE(base64_decode(decoded, &size, 3, text, 4, BASE64_URL));
	base64_encode(text, bytes, 3, BASE64_URL);
	EXPECT_TEXT(text, "-_-_");
	EXPECT_FALSE(base64_decode(decoded, &size, 3, text, 4, BASE64_STANDARD));
	EXPECT_TRUE(base64_decode(decoded, &size, 3, text, 4, BASE64_URL));
	EXPECT_BYTES(decoded, bytes, 3);
}

TEST(every_size_agrees_with_openssl)
{
	uint8_t bytes[200], decoded[200];
	char text[BASE64_TEXT_SIZE(200)], expected[BASE64_TEXT_SIZE(200)];

	test_fill(bytes, sizeof(bytes), 1);
	for (size_t size = 0; size <= sizeof(bytes); size++) {
		size_t length = base64_encode(text, bytes, size, BASE64_STANDARD);
		size_t decoded_size;

		EXPECT_EQUAL(EVP_EncodeBlock((unsigned char *)expected, bytes, (int)size), length);
		EXPECT_TEXT(text, expected);
		EXPECT_TRUE(
			base64_decode(decoded, &decoded_size, size, text, length, BASE64_STANDARD));
		EXPECT_EQUAL(decoded_size, size);
		EXPECT_BYTES(decoded, bytes, size);
	}
}

TEST(malformed_texts_are_refused)
{
	static const char *const malformed[] = {
		"Z",      "Zg",     "Zg=",  "Zm8",      "Zg===", "Z===",   "====",
		"=",      "==",     "A=B=", "Zg==Zg==", "Zm=8",  " Zm9v",  "Zm9v ",
		"Zm\n9v", "Zm9v\n", "Zm9*", "Zm9\x80",  "Zm9v=", "Zm9v==", "Zm9v====",
		"Zm9vYg", "Zm9,",   "Zm9:", "Zm9@",     "Zm9[",  "Zm9`",   "Zm9{",
	};
	uint8_t bytes[16];
	size_t size = 77;

	for (size_t i = 0; i < ARRAY_COUNT(malformed); i++)
		EXPECT_FALSE(base64_decode(bytes, &size, sizeof(bytes), malformed[i],
					   strlen(malformed[i]), BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, sizeof(bytes), "Zm9\0", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, sizeof(bytes), "Zg=", 3, BASE64_URL));
	EXPECT_FALSE(base64_decode(bytes, &size, sizeof(bytes), "Z", 1, BASE64_URL));
	EXPECT_FALSE(base64_decode(bytes, &size, sizeof(bytes), "Zm9vZ", 5, BASE64_URL));
	EXPECT_EQUAL(size, 77);
}

TEST(bits_left_over_must_be_zero)
{
	uint8_t bytes[4];
	size_t size;

	EXPECT_TRUE(base64_decode(bytes, &size, 4, "Zg==", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, 4, "Zh==", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, 4, "Zo", 2, BASE64_URL));
	EXPECT_TRUE(base64_decode(bytes, &size, 4, "Zm8=", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, 4, "Zm9=", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, 4, "Zm-", 3, BASE64_URL));
}

TEST(exactly_the_64_characters_of_a_form_are_known)
{
	unsigned known[2] = {0, 0};

	for (int character = 0; character < 256; character++) {
		char text[4] = {'A', 'A', 'A', (char)character};
		uint8_t bytes[3];
		size_t size;

		if (character == '=')
			continue;
		known[0] += base64_decode(bytes, &size, 3, text, 4, BASE64_STANDARD);
		known[1] += base64_decode(bytes, &size, 3, text, 4, BASE64_URL);
	}
	EXPECT_EQUAL(known[0], 64);
	EXPECT_EQUAL(known[1], 64);
}

TEST(more_bytes_than_there_is_room_for_are_refused)
{
	uint8_t bytes[3] = {0};
	size_t size;

	EXPECT_FALSE(base64_decode(bytes, &size, 2, "Zm9v", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, 1, "Zm8=", 4, BASE64_STANDARD));
	EXPECT_FALSE(base64_decode(bytes, &size, 0, "Zg==", 4, BASE64_STANDARD));
	EXPECT_EQUAL(bytes[2], 0);
	EXPECT_TRUE(base64_decode(bytes, &size, 2, "Zm8=", 4, BASE64_STANDARD));
	EXPECT_EQUAL(size, 2);
}
