#include "tests/unit/luks2_sample.h"

#include <string.h>

#include "tests/unit/test.h"

const char luks2_sample_json[] =
	"{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":64,\"af\":{\"type\":\"luks1\","
	"\"stripes\":4000,\"hash\":\"sha512\"},\"area\":{\"type\":\"raw\",\"offset\":\"32768"
	"\",\"size\":\"258048\",\"encryption\":\"aes-xts-plain64\",\"key_size\":64},\"kdf\":{"
	"\"type\":\"pbkdf2\",\"hash\":\"sha512\",\"iterations\":1000,\"salt\":\"a97eCCSJxfLwm"
	"cknyIhdbaLKoPXm0jRwoLCw4+BC5tA=\"}},\"1\":{\"type\":\"luks2\",\"key_size\":64,\"af\""
	":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha256\"},\"area\":{\"type\":\"raw"
	"\",\"offset\":\"290816\",\"size\":\"258048\",\"encryption\":\"aes-xts-plain64\",\"ke"
	"y_size\":64},\"kdf\":{\"type\":\"argon2id\",\"time\":4,\"memory\":32768,\"cpus\":1,"
	"\"salt\":\"N/iEI5GJ0nr11Zuh/xDRxfFHjNlxJF0azTdYjHrVxHI=\"},\"priority\":2}},\"tokens"
	"\":{\"0\":{\"type\":\"somebody-else\",\"keyslots\":[\"1\"],\"deep\":{\"list\":[1,2.5"
	"e3,null,true,\"\303\251/\"],\"name\":\"\303\274n\303\257\"},\"url\":\"https://exampl"
	"e.org/a/b\"}},\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\",\"size"
	"\":\"dynamic\",\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\",\"sector_size\""
	":4096}},\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[\"0\",\"1\"],\"segment"
	"s\":[\"0\"],\"hash\":\"sha512\",\"iterations\":1000,\"salt\":\"VLv0WAMTKxdwQyFWGgLGd"
	"S/+ACCTIZhI13it27gORZg=\",\"digest\":\"8DkkWESR4oCQMBAbRytWCztTRCUqYia9QZW3UAtniscb8"
	"LfEpKebjQ556J3DmkqSDE4AnMTpe8V4N/tR2lyk0A==\"}},\"config\":{\"json_size\":\"12288\","
	"\"keyslots_size\":\"16744448\"}}";

const char luks2_sample_volume_key[] =
	"e15c9a97b8de038e7df4f354a74614bf7d1e425f6c14566cf3b0a97dce666b08"
	"ddac28aad3e9c54c1b045155a8e855d0a331e60dd203f702bf46e2b2c00ac926";

/* The 512 bytes of the binary header that are not zero. */
static const char binary_header[] =
	"4c554b53babe000200000000000040000000000000000006766563746f722d6c6162656c00000000"
	"00000000000000000000000000000000000000000000000000000000000000007368613235360000"
	"00000000000000000000000000000000000000000000000034f3f861fbd6bd560783181015120c93"
	"dcb78b779d8433adf660f6075fb783c5088f4ec9155bc50cb8d20546c609b61fa5b855e7509b6126"
	"263a176ac898993530313233343536372d383961622d346364652d386630312d3233343536373839"
	"6162636400000000766563746f722d73756273797374656d00000000000000000000000000000000"
	"00000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"00000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"00000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"00000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"00000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"00000000000000003f05ebf6dd7057273ba39238eadef5c6633a5c3253095e1be5864d9076700279"
	"0000000000000000000000000000000000000000000000000000000000000000";

void luks2_sample_copy(uint8_t copy[static LUKS2_SAMPLE_SIZE])
{
	memset(copy, 0, LUKS2_SAMPLE_SIZE);
	EXPECT_EQUAL(test_from_hex(copy, 512, binary_header), 512);
	memcpy(copy + LUKS2_BINARY_SIZE, luks2_sample_json, strlen(luks2_sample_json));
}

void luks2_sample_text(struct luks2_text *text)
{
	text->length = strlen(luks2_sample_json);
	memcpy(text->bytes, luks2_sample_json, text->length + 1);
}

void luks2_sample_text_with(struct luks2_text *text, const char *from, const char *to)
{
	const char *place = strstr(luks2_sample_json, from);
	const struct json_span span = {
		.offset = (uint32_t)(place != NULL ? place - luks2_sample_json : 0),
		.length = (uint32_t)strlen(from),
	};

	EXPECT_TEXT_CONTAINS(luks2_sample_json, from);
	luks2_sample_text(text);
	EXPECT_TRUE(
		json_splice(text->bytes, sizeof(text->bytes), &text->length, span, to, strlen(to)));
}
