/* What a command prints with --json. There is one per process: its text is too large for a stack,
 * and what is static is locked in every process. */
#ifndef APP_JSON_OUTPUT_H
#define APP_JSON_OUTPUT_H

#include "platform/json.h"

/* Empty; kept. */
struct json_writer *json_output_begin(void);

/* All brackets must be closed. The text, kept until the next begin. */
const char *json_output_end(void);

#endif
