/* A strict, bounded, read-only view of JSON text, and a bounded writer. Pure: no memory of its own.
 *
 * The text stays where it is and is never changed by reading, so that whatever is not understood
 * can be kept byte for byte: a change is a splice of the text, followed by a new parse.
 */
#ifndef PLATFORM_JSON_H
#define PLATFORM_JSON_H

#include "platform/base.h"

#define JSON_DEPTH_MAX 16

enum json_type {
	JSON_OBJECT,
	JSON_ARRAY,
	JSON_STRING,
	JSON_NUMBER,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL
};

/* A place in the text: a value, or the name of an object's member (then its value is the next
 * node). */
struct json_node {
	enum json_type type;
	uint32_t start; /* byte offset; of a string: behind its opening quote */
	uint32_t end;   /* byte offset behind it; of a string: of its closing quote */
	uint32_t count; /* members or elements */
	uint32_t after; /* index of the first node that is not inside this one */
};

struct json_document {
	const char *text;
	uint32_t length;
	const struct json_node *nodes;
	uint32_t node_count;
};

/* Every finder takes and returns this for "not there", so that finders can be nested unchecked. */
#define JSON_NONE UINT32_MAX
#define JSON_ROOT 0u

/* True if `text` is one JSON value by RFC 8259 (white space around it allowed): valid UTF-8, no
 * member named twice in one object, at most JSON_DEPTH_MAX deep and node_max nodes. The document
 * keeps `nodes` and `text`. */
MUST_CHECK bool json_parse(struct json_document *document, struct json_node *nodes, size_t node_max,
			   const char *text, size_t length);

bool json_is(const struct json_document *document, uint32_t node, enum json_type type);
uint32_t json_count(const struct json_document *document, uint32_t node); /* 0 for JSON_NONE */

/* The value of that member; also when names in the text are written in another case, if asked. */
uint32_t json_member(const struct json_document *document, uint32_t object, const char *name);
uint32_t json_member_any_case(const struct json_document *document, uint32_t object,
			      const char *name);
uint32_t json_element(const struct json_document *document, uint32_t array, uint32_t index);

/* Walks an object's member names (the value stands at name + 1) or an array's elements:
 *   for (n = json_first(d, c); n != JSON_NONE; n = json_next(d, c, n)) */
uint32_t json_first(const struct json_document *document, uint32_t container);
uint32_t json_next(const struct json_document *document, uint32_t container, uint32_t node);

/* Each is false if the node is JSON_NONE or of another type, or the value does not fit. */
MUST_CHECK bool json_string_copy(const struct json_document *document, uint32_t node, char *target,
				 size_t target_size); /* unescaped, ends with NUL, holds no other */
MUST_CHECK bool json_string_equals(const struct json_document *document, uint32_t node,
				   const char *text);
MUST_CHECK bool json_u64(const struct json_document *document, uint32_t node, uint64_t *value);
/* "123", as LUKS2 writes 64-bit numbers: decimal digits only, no sign, no leading zero. */
MUST_CHECK bool json_u64_string(const struct json_document *document, uint32_t node,
				uint64_t *value);
MUST_CHECK bool json_bool(const struct json_document *document, uint32_t node, bool *value);

/* The bytes of the value as they stand in the text, quotes and brackets included. */
struct json_span {
	uint32_t offset;
	uint32_t length;
};

struct json_span json_span(const struct json_document *document, uint32_t node);

/* Replaces span.length bytes at span.offset by `insert`; the text ends with a NUL, which capacity
 * counts. False, and nothing changed, if it does not fit. Documents parsed from it are void. */
MUST_CHECK bool json_splice(char *text, size_t capacity, size_t *length, struct json_span span,
			    const char *insert, size_t insert_length);

/* Writes compact JSON. `name` is NULL inside arrays and at the root. What does not fit is not
 * written, and json_writer_end tells. */
struct json_writer {
	char *text;
	size_t capacity; /* with the NUL behind the text */
	size_t length;
	bool overflowed;
	bool needs_comma;
};

void json_writer_init(struct json_writer *writer, char *text, size_t capacity);
void json_begin_object(struct json_writer *writer, const char *name);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer, const char *name);
void json_end_array(struct json_writer *writer);
void json_write_string(struct json_writer *writer, const char *name, const char *value);
void json_write_u64(struct json_writer *writer, const char *name, uint64_t value);
void json_write_u64_string(struct json_writer *writer, const char *name, uint64_t value);
void json_write_bool(struct json_writer *writer, const char *name, bool value);
void json_write_null(struct json_writer *writer, const char *name);
void json_write_raw(struct json_writer *writer, const char *name, const char *text, size_t length);
MUST_CHECK bool json_writer_end(struct json_writer *writer); /* false if something did not fit */

#endif
