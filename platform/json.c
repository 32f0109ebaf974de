#include "platform/json.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define JSMN_STATIC
#include <jsmn.h>

#include "platform/json_text.h"

/* jsmn writes its tokens into the rear of the caller's node memory, from where they are turned into
 * nodes front to back: node i ends before token i + 1 begins, since a token is smaller than a node
 * by what the rear part is shifted. (The project is built with -fno-strict-aliasing for this.) */
_Static_assert(sizeof(jsmntok_t) < sizeof(struct json_node), "tokens must fit behind the nodes");

static enum json_type type_of_token(const char *text, const jsmntok_t *token)
{
	switch (token->type) {
	case JSMN_OBJECT: return JSON_OBJECT;
	case JSMN_ARRAY: return JSON_ARRAY;
	case JSMN_STRING: return JSON_STRING;
	case JSMN_PRIMITIVE:
	case JSMN_UNDEFINED:
	default: break;
	}
	switch (text[token->start]) {
	case 't': return JSON_TRUE;
	case 'f': return JSON_FALSE;
	case 'n': return JSON_NULL;
	default: return JSON_NUMBER;
	}
}

/* Tokens stand in the order of their start, and whatever starts before a container's end is in it.
 */
static void find_ends_of_containers(struct json_node *nodes, uint32_t count)
{
	uint32_t open[JSON_DEPTH_MAX];
	uint32_t depth = 0;

	for (uint32_t i = 0; i < count; i++) {
		while (depth > 0 && nodes[i].start >= nodes[open[depth - 1]].end)
			nodes[open[--depth]].after = i;
		nodes[i].after = i + 1;
		if (nodes[i].type == JSON_OBJECT || nodes[i].type == JSON_ARRAY) {
			CHECK(depth < JSON_DEPTH_MAX);
			open[depth++] = i;
		}
	}
	while (depth > 0)
		nodes[open[--depth]].after = count;
}

static bool same_name(const struct json_document *document, uint32_t a, uint32_t b)
{
	const struct json_node *left = &document->nodes[a];
	const struct json_node *right = &document->nodes[b];

	return left->end - left->start == right->end - right->start &&
	       memcmp(document->text + left->start, document->text + right->start,
		      left->end - left->start) == 0;
}

static uint32_t hex_value(const char digits[static 4])
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		uint32_t c = (uint8_t)digits[i];

		value = value << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value;
}

/* "\u0074ype" is "type" to a reader that unescapes names, and another member to one that does not.
 * Letters, digits and punctuation need no such escape, and are refused in one. */
static bool name_is_plain(const struct json_document *document, uint32_t name)
{
	const char *next = document->text + document->nodes[name].start;
	const char *end = document->text + document->nodes[name].end;

	for (; next < end; next++) {
		uint32_t point;

		if (*next != '\\')
			continue;
		if (*++next != 'u')
			continue;
		point = hex_value(next + 1);
		if (point >= 0x20 && point < 0x7f)
			return false;
	}
	return true;
}

static bool names_are_unique(const struct json_document *document, uint32_t object)
{
	for (uint32_t a = json_first(document, object); a != JSON_NONE;
	     a = json_next(document, object, a)) {
		if (!name_is_plain(document, a))
			return false;
		for (uint32_t b = json_first(document, object); b != a;
		     b = json_next(document, object, b))
			if (same_name(document, a, b))
				return false;
	}
	return true;
}

bool json_parse(struct json_document *document, struct json_node *nodes, size_t node_max,
		const char *text, size_t length)
{
	jsmn_parser parser;
	jsmntok_t *tokens;
	int count;

	CHECK(node_max > 0 && node_max < JSON_NONE);
	if (length > INT32_MAX || !json_text_is_valid(text, length, JSON_DEPTH_MAX))
		return false;
	tokens = (jsmntok_t *)(void *)((uint8_t *)nodes +
				       node_max * (sizeof(*nodes) - sizeof(*tokens)));
	jsmn_init(&parser);
	count = jsmn_parse(&parser, text, length, tokens, (unsigned)MINIMUM(node_max, UINT32_MAX));
	if (count <= 0)
		return false;
	for (uint32_t i = 0; i < (uint32_t)count; i++) {
		jsmntok_t token;

		memcpy(&token, &tokens[i], sizeof(token));
		nodes[i] = (struct json_node){
			.type = type_of_token(text, &token),
			.start = (uint32_t)token.start,
			.end = (uint32_t)token.end,
			.count = (uint32_t)token.size,
		};
	}
	find_ends_of_containers(nodes, (uint32_t)count);
	*document = (struct json_document){text, (uint32_t)length, nodes, (uint32_t)count};
	for (uint32_t i = 0; i < document->node_count; i++)
		if (nodes[i].type == JSON_OBJECT && !names_are_unique(document, i))
			return false;
	return true;
}

bool json_is(const struct json_document *document, uint32_t node, enum json_type type)
{
	return node < document->node_count && document->nodes[node].type == type;
}

static bool is_container(const struct json_document *document, uint32_t node)
{
	return json_is(document, node, JSON_OBJECT) || json_is(document, node, JSON_ARRAY);
}

uint32_t json_count(const struct json_document *document, uint32_t node)
{
	return is_container(document, node) ? document->nodes[node].count : 0;
}

uint32_t json_first(const struct json_document *document, uint32_t container)
{
	return json_count(document, container) > 0 ? container + 1 : JSON_NONE;
}

uint32_t json_next(const struct json_document *document, uint32_t container, uint32_t node)
{
	uint32_t value = json_is(document, container, JSON_OBJECT) ? node + 1 : node;
	uint32_t next = document->nodes[value].after;

	return next < document->nodes[container].after ? next : JSON_NONE;
}

static uint32_t find_member(const struct json_document *document, uint32_t object, const char *name,
			    bool any_case)
{
	size_t length = strlen(name);

	if (!json_is(document, object, JSON_OBJECT))
		return JSON_NONE;
	for (uint32_t n = json_first(document, object); n != JSON_NONE;
	     n = json_next(document, object, n)) {
		const struct json_node *node = &document->nodes[n];
		const char *written = document->text + node->start;

		if (node->end - node->start == length &&
		    (any_case ? strncasecmp(written, name, length)
			      : strncmp(written, name, length)) == 0)
			return n + 1;
	}
	return JSON_NONE;
}

uint32_t json_member(const struct json_document *document, uint32_t object, const char *name)
{
	return find_member(document, object, name, false);
}

uint32_t json_member_any_case(const struct json_document *document, uint32_t object,
			      const char *name)
{
	return find_member(document, object, name, true);
}

uint32_t json_element(const struct json_document *document, uint32_t array, uint32_t index)
{
	uint32_t node;

	if (!json_is(document, array, JSON_ARRAY) || index >= json_count(document, array))
		return JSON_NONE;
	node = json_first(document, array);
	while (index-- > 0)
		node = json_next(document, array, node);
	return node;
}

static size_t encode_utf8(char target[static 4], uint32_t point)
{
	static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t size = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;

	if (size == 1) {
		target[0] = (char)point;
		return 1;
	}
	for (size_t i = size - 1; i > 0; i--) {
		target[i] = (char)(0x80 | (point & 0x3f));
		point >>= 6;
	}
	target[0] = (char)(lead[size] | point);
	return size;
}

/* Decodes the escape behind the backslash at *next; the text is known to be valid. */
static size_t unescape(char target[static 4], const char **next)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	char c = *(*next)++;
	uint32_t point;
	const char *found;

	if (c != 'u') {
		found = strchr(from, c);
		target[0] = found != NULL ? to[found - from] : c;
		return 1;
	}
	point = hex_value(*next);
	*next += 4;
	if (point >= 0xd800 && point <= 0xdbff) {
		point = 0x10000 + ((point - 0xd800) << 10) + (hex_value(*next + 2) - 0xdc00);
		*next += 6;
	}
	return encode_utf8(target, point);
}

bool json_string_copy(const struct json_document *document, uint32_t node, char *target,
		      size_t target_size)
{
	const char *next, *end;
	size_t used = 0;

	if (!json_is(document, node, JSON_STRING))
		return false;
	next = document->text + document->nodes[node].start;
	end = document->text + document->nodes[node].end;
	while (next < end) {
		char piece[4] = {*next};
		size_t size = 1;

		if (*next++ == '\\')
			size = unescape(piece, &next);
		if (piece[0] == '\0' || used + size >= target_size)
			return false;
		memcpy(target + used, piece, size);
		used += size;
	}
	if (used >= target_size)
		return false;
	target[used] = '\0';
	return true;
}

bool json_string_equals(const struct json_document *document, uint32_t node, const char *text)
{
	size_t length = strlen(text);

	/* As written: what we compare with never needs an escape. */
	return json_is(document, node, JSON_STRING) &&
	       document->nodes[node].end - document->nodes[node].start == length &&
	       memcmp(document->text + document->nodes[node].start, text, length) == 0;
}

static bool decimal(const struct json_document *document, uint32_t node, uint64_t *value)
{
	const char *next = document->text + document->nodes[node].start;
	const char *end = document->text + document->nodes[node].end;
	uint64_t sum = 0;

	if (next == end || (*next == '0' && end - next > 1))
		return false;
	for (; next < end; next++) {
		if (*next < '0' || *next > '9' || __builtin_mul_overflow(sum, 10u, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)(*next - '0'), &sum))
			return false;
	}
	*value = sum;
	return true;
}

bool json_u64(const struct json_document *document, uint32_t node, uint64_t *value)
{
	return json_is(document, node, JSON_NUMBER) && decimal(document, node, value);
}

bool json_u64_string(const struct json_document *document, uint32_t node, uint64_t *value)
{
	return json_is(document, node, JSON_STRING) && decimal(document, node, value);
}

bool json_bool(const struct json_document *document, uint32_t node, bool *value)
{
	if (!json_is(document, node, JSON_TRUE) && !json_is(document, node, JSON_FALSE))
		return false;
	*value = json_is(document, node, JSON_TRUE);
	return true;
}

struct json_span json_span(const struct json_document *document, uint32_t node)
{
	uint32_t quote = json_is(document, node, JSON_STRING) ? 1 : 0;

	CHECK(node < document->node_count);
	return (struct json_span){
		.offset = document->nodes[node].start - quote,
		.length = document->nodes[node].end - document->nodes[node].start + 2 * quote,
	};
}

bool json_splice(char *text, size_t capacity, size_t *length, struct json_span span,
		 const char *insert, size_t insert_length)
{
	size_t rest = *length - span.length;
	size_t behind = (size_t)span.offset + span.length;

	CHECK(behind <= *length);
	if (insert_length >= capacity || rest >= capacity - insert_length)
		return false;
	memmove(text + span.offset + insert_length, text + behind, *length - behind);
	memcpy(text + span.offset, insert, insert_length);
	*length = rest + insert_length;
	text[*length] = '\0';
	return true;
}

void json_writer_init(struct json_writer *writer, char *text, size_t capacity)
{
	*writer = (struct json_writer){.text = text, .capacity = capacity};
}

static void put(struct json_writer *writer, const char *text, size_t length)
{
	if (writer->overflowed || length >= writer->capacity - writer->length) {
		writer->overflowed = true;
		return;
	}
	memcpy(writer->text + writer->length, text, length);
	writer->length += length;
	writer->text[writer->length] = '\0';
}

static void put_quoted(struct json_writer *writer, const char *text)
{
	put(writer, "\"", 1);
	for (; *text != '\0'; text++) {
		char escape[8];

		if (*text == '"' || *text == '\\') {
			put(writer, "\\", 1);
			put(writer, text, 1);
		} else if ((uint8_t)*text < 0x20) {
			snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)(uint8_t)*text);
			put(writer, escape, 6);
		} else {
			put(writer, text, 1);
		}
	}
	put(writer, "\"", 1);
}

static void put_name(struct json_writer *writer, const char *name)
{
	if (writer->needs_comma)
		put(writer, ",", 1);
	writer->needs_comma = true;
	if (name == NULL)
		return;
	put_quoted(writer, name);
	put(writer, ":", 1);
}

static void put_begin(struct json_writer *writer, const char *name, const char *bracket)
{
	put_name(writer, name);
	put(writer, bracket, 1);
	writer->needs_comma = false;
}

static void put_end(struct json_writer *writer, const char *bracket)
{
	put(writer, bracket, 1);
	writer->needs_comma = true;
}

void json_begin_object(struct json_writer *writer, const char *name)
{
	put_begin(writer, name, "{");
}

void json_end_object(struct json_writer *writer)
{
	put_end(writer, "}");
}

void json_begin_array(struct json_writer *writer, const char *name)
{
	put_begin(writer, name, "[");
}

void json_end_array(struct json_writer *writer)
{
	put_end(writer, "]");
}

void json_write_string(struct json_writer *writer, const char *name, const char *value)
{
	put_name(writer, name);
	put_quoted(writer, value);
}

void json_write_u64(struct json_writer *writer, const char *name, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
	json_write_raw(writer, name, digits, strlen(digits));
}

void json_write_u64_string(struct json_writer *writer, const char *name, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
	json_write_string(writer, name, digits);
}

void json_write_bool(struct json_writer *writer, const char *name, bool value)
{
	json_write_raw(writer, name, value ? "true" : "false", value ? 4 : 5);
}

void json_write_null(struct json_writer *writer, const char *name)
{
	json_write_raw(writer, name, "null", 4);
}

void json_write_raw(struct json_writer *writer, const char *name, const char *text, size_t length)
{
	put_name(writer, name);
	put(writer, text, length);
}

bool json_writer_end(struct json_writer *writer)
{
	return !writer->overflowed;
}
