/* Is this text JSON? Answers by RFC 8259 to the letter; jsmn, which finds the values, lets much
 * pass. */
#ifndef PLATFORM_JSON_TEXT_H
#define PLATFORM_JSON_TEXT_H

#include "platform/base.h"

/* True if the text is exactly one JSON value, valid UTF-8, not deeper than depth_max (at most 64).
 * Says nothing about names that stand twice. */
MUST_CHECK bool json_text_is_valid(const char *text, size_t length, unsigned depth_max);

#endif
