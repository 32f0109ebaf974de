/* The error code in an answer from outside, fit to be shown and logged. Pure. */
#ifndef APP_VAULT_ERROR_CODE_H
#define APP_VAULT_ERROR_CODE_H

#include "platform/json.h"

/* Shorter than the base64 of a slot secret or token: none of them can pass as a code. */
#define ERROR_CODE_SIZE 41

/* Copies the string at `node` if it is one word of letters, digits and '_', else the empty text. */
void error_code_copy(char code[static ERROR_CODE_SIZE], const struct json_document *document,
		     uint32_t node);

/* Parses `body`; if it is not JSON, gives an empty object instead, which has no member. */
void error_code_parse(struct json_document *document, struct json_node *nodes, size_t node_max,
		      const char *body, size_t body_size);

#endif
