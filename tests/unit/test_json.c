/* JSON that comes from disks and vaults: what is taken, what is refused, and what is kept. */
#include "platform/json.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/test.h"

#define NODES 64

static struct json_node nodes[NODES];
static struct json_document document;

static bool parses(const char *text)
{
	return json_parse(&document, nodes, NODES, text, strlen(text));
}

TEST(every_kind_of_valid_text_is_taken)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"0",
		"-0",
		"-1.5e+3",
		"1E2",
		"true",
		"false",
		"null",
		"\"\"",
		" [ ] \r\n\t",
		"{\"a\":[1,{\"b\":\"c\"}],\"d\":null}",
		"\"\\ud834\\udd1e\"",
		"\"\xc3\xa9\"",
		"\"\xf0\x9f\x94\x91\"",
		"{\"a\":{\"b\":{}},\"c\":[[],[]]}",
		"{\"a\\\"b\":1}",
		"[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
	};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		EXPECT_TRUE(parses(texts[i]));
}

TEST(every_kind_of_broken_text_is_refused)
{
	static const char *const texts[] = {
		"",
		" ",
		"{",
		"}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{,}",
		"{a:1}",
		"{1:2}",
		"{\"a\" 1}",
		"{\"a\":1 \"b\":2}",
		"[1,]",
		"[,1]",
		"[1 2]",
		"[",
		"]",
		"[}",
		"{]",
		"1 2",
		"01",
		"1.",
		".5",
		"+1",
		"-",
		"1e",
		"0x1",
		"nul",
		"True",
		"NaN",
		"'a'",
		"\"a",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\ud834\"",
		"\"\\ud834\\u0041\"",
		"\"\\udd1e\"",
		"\"\x01\"",
		"\"\n\"",
		"\"\xff\"",
		"\"\xc0\x80\"",
		"\"\xe0\x80\x80\"",
		"\"\xed\xa0\x80\"",
		"\"\xf4\x90\x80\x80\"",
		"\"\xc3\"",
		"/**/1",
		"[1]x",
		"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]",
	};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		EXPECT_FALSE(parses(texts[i]));
}

TEST(a_zero_byte_is_no_end_of_the_text)
{
	EXPECT_FALSE(json_parse(&document, nodes, NODES, "1\0", 2));
	EXPECT_FALSE(json_parse(&document, nodes, NODES, "\"\0\"", 3));
}

TEST(a_name_that_stands_twice_is_refused_also_in_disguise)
{
	EXPECT_FALSE(parses("{\"a\":1,\"b\":2,\"a\":3}"));
	EXPECT_FALSE(parses("{\"type\":1,\"\\u0074ype\":2}"));
	EXPECT_FALSE(parses("[{\"x\":{\"a\":1,\"a\":1}}]"));
	EXPECT_TRUE(parses("{\"a\":{\"a\":1},\"b\":{\"a\":1}}"));
}

TEST(a_text_of_more_values_than_there_are_nodes_is_refused)
{
	char text[2 * NODES + 2] = "[";

	for (int i = 0; i < NODES - 1; i++)
		strcat(text, i == 0 ? "1" : ",1");
	strcat(text, "]");
	EXPECT_TRUE(parses(text));
	text[strlen(text) - 1] = '\0';
	strcat(text, ",1]");
	EXPECT_FALSE(parses(text));
}

TEST(members_and_elements_are_found_and_absent_ones_are_none)
{
	char text[8];
	uint64_t number;
	bool flag;

	EXPECT_TRUE(
		parses("{\"a\":[10,{\"b\":\"c\\n\\u00e9\"},true],\"D\":\"18446744073709551615\"}"));
	EXPECT_EQUAL(json_count(&document, JSON_ROOT), 2);
	EXPECT_TRUE(json_u64(&document, json_element(&document, json_member(&document, 0, "a"), 0),
			     &number));
	EXPECT_EQUAL(number, 10);
	EXPECT_TRUE(json_bool(&document, json_element(&document, json_member(&document, 0, "a"), 2),
			      &flag));
	EXPECT_TRUE(flag);
	EXPECT_TRUE(json_string_copy(
		&document,
		json_member(&document, json_element(&document, json_member(&document, 0, "a"), 1),
			    "b"),
		text, sizeof(text)));
	EXPECT_TEXT(text, "c\n\xc3\xa9");
	EXPECT_EQUAL(json_member(&document, JSON_ROOT, "d"), JSON_NONE);
	EXPECT_TRUE(json_u64_string(&document, json_member_any_case(&document, JSON_ROOT, "d"),
				    &number));
	EXPECT_EQUAL(number, UINT64_MAX);
	EXPECT_EQUAL(json_element(&document, json_member(&document, 0, "a"), 3), JSON_NONE);
	EXPECT_EQUAL(json_member(&document, JSON_NONE, "a"), JSON_NONE);
	EXPECT_EQUAL(json_first(&document, JSON_NONE), JSON_NONE);
}

TEST(numbers_that_do_not_fit_or_are_written_oddly_are_no_numbers)
{
	static const char *const texts[] = {"[\"18446744073709551616\"]",
					    "[\"-1\"]",
					    "[\"+1\"]",
					    "[\"01\"]",
					    "[\"\"]",
					    "[\" 1\"]",
					    "[\"1e3\"]",
					    "[1]"};
	uint64_t number = 7;

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		EXPECT_TRUE(parses(texts[i]));
		EXPECT_FALSE(json_u64_string(&document, 1, &number));
	}
	EXPECT_TRUE(parses("[1.0, -1, 1e2, \"1\"]"));
	for (uint32_t i = 0; i < 4; i++)
		EXPECT_FALSE(json_u64(&document, json_element(&document, 0, i), &number));
	EXPECT_EQUAL(number, 7);
}

TEST(a_string_with_a_zero_or_too_long_is_not_copied)
{
	char text[4];

	EXPECT_TRUE(parses("[\"a\\u0000b\",\"abcd\",\"abc\"]"));
	EXPECT_FALSE(
		json_string_copy(&document, json_element(&document, 0, 0), text, sizeof(text)));
	EXPECT_FALSE(
		json_string_copy(&document, json_element(&document, 0, 1), text, sizeof(text)));
	EXPECT_TRUE(json_string_copy(&document, json_element(&document, 0, 2), text, sizeof(text)));
}

TEST(a_splice_changes_its_place_and_no_other_byte)
{
	char text[64] = "{\"a\": \"old\" ,\"b\":[1, 2]}";
	size_t length = strlen(text);
	struct json_span span;

	EXPECT_TRUE(parses(text));
	span = json_span(&document, json_member(&document, JSON_ROOT, "a"));
	EXPECT_TRUE(json_splice(text, sizeof(text), &length, span, "\"newer\"", 7));
	EXPECT_TEXT(text, "{\"a\": \"newer\" ,\"b\":[1, 2]}");
	EXPECT_EQUAL(length, strlen(text));
	EXPECT_FALSE(json_splice(text, length + 1, &length, (struct json_span){1, 0}, "x", 1));
	EXPECT_TEXT(text, "{\"a\": \"newer\" ,\"b\":[1, 2]}");
}

TEST(what_the_writer_writes_is_read_back)
{
	struct json_writer writer;
	char text[256], copy[32];

	json_writer_init(&writer, text, sizeof(text));
	json_begin_object(&writer, NULL);
	json_write_string(&writer, "s", "quote \" slash \\ tab \t");
	json_begin_array(&writer, "a");
	json_write_u64(&writer, NULL, 1);
	json_write_u64_string(&writer, NULL, 2);
	json_begin_object(&writer, NULL);
	json_end_object(&writer);
	json_end_array(&writer);
	json_write_bool(&writer, "b", false);
	json_write_null(&writer, "n");
	json_write_raw(&writer, "r", "[3]", 3);
	json_end_object(&writer);
	EXPECT_TRUE(json_writer_end(&writer));
	EXPECT_TEXT(text,
		    "{\"s\":\"quote \\\" slash \\\\ tab \\u0009\",\"a\":[1,\"2\",{}],\"b\":false,"
		    "\"n\":null,\"r\":[3]}");
	EXPECT_TRUE(parses(text));
	EXPECT_TRUE(
		json_string_copy(&document, json_member(&document, 0, "s"), copy, sizeof(copy)));
	EXPECT_TEXT(copy, "quote \" slash \\ tab \t");
}

TEST(a_writer_without_room_says_so_and_stays_within_its_memory)
{
	static const char whole[] = "{\"name\":\"value\"}";

	for (size_t capacity = 1; capacity <= sizeof(whole); capacity++) {
		struct json_writer writer;
		char *text = malloc(capacity);

		json_writer_init(&writer, text, capacity);
		json_begin_object(&writer, NULL);
		json_write_string(&writer, "name", "value");
		json_end_object(&writer);
		EXPECT_EQUAL(json_writer_end(&writer), capacity == sizeof(whole));
		free(text);
	}
}

/* Every change of one byte of a real text is either refused or gives nodes that lie within it: the
 * sanitizers and the asserts below would see the others. */
TEST(no_changed_byte_leads_outside_the_text)
{
	static const char original[] = "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"size\":\"64\","
				       "\"n\":[1,2.5,-3e1]}},\"t\":true}";
	char text[sizeof(original)];

	for (size_t i = 0; i < sizeof(original) - 1; i++)
		for (int byte = 0; byte < 256; byte++) {
			memcpy(text, original, sizeof(text));
			text[i] = (char)byte;
			if (!json_parse(&document, nodes, NODES, text, sizeof(text) - 1))
				continue;
			for (uint32_t n = 0; n < document.node_count; n++) {
				EXPECT_TRUE(nodes[n].start <= nodes[n].end);
				EXPECT_TRUE(nodes[n].end <= sizeof(text) - 1);
				EXPECT_TRUE(nodes[n].after > n &&
					    nodes[n].after <= document.node_count);
			}
		}
}
