#include "app/vault/error_code.h"

#include <string.h>

static bool is_word(const char *text)
{
	static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789_";

	return text[strspn(text, characters)] == '\0';
}

void error_code_copy(char code[static ERROR_CODE_SIZE], const struct json_document *document,
		     uint32_t node)
{
	if (!json_string_copy(document, node, code, ERROR_CODE_SIZE) || !is_word(code))
		code[0] = '\0';
}

void error_code_parse(struct json_document *document, struct json_node *nodes, size_t node_max,
		      const char *body, size_t body_size)
{
	static const char nothing[] = "{}";

	if (!json_parse(document, nodes, node_max, body, body_size))
		CHECK(json_parse(document, nodes, node_max, nothing, strlen(nothing)));
}
