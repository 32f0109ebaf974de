/* The commands; each in its own file cmd_NAME.c. */
#ifndef APP_COMMANDS_COMMANDS_H
#define APP_COMMANDS_COMMANDS_H

#include "app/arguments.h"

enum status cmd_format(struct arguments *arguments);
enum status cmd_serve(struct arguments *arguments);
enum status cmd_status(struct arguments *arguments);
enum status cmd_check(struct arguments *arguments);
enum status cmd_dump(struct arguments *arguments);
enum status cmd_recover(struct arguments *arguments);
enum status cmd_recovery(struct arguments *arguments);
enum status cmd_rescue(struct arguments *arguments);
enum status cmd_rotate(struct arguments *arguments);
enum status cmd_adopt(struct arguments *arguments);
enum status cmd_backup(struct arguments *arguments);
enum status cmd_restore(struct arguments *arguments);
enum status cmd_provision(struct arguments *arguments);
enum status cmd_lock(struct arguments *arguments);
enum status cmd_selftest(struct arguments *arguments);
enum status cmd_bench(struct arguments *arguments);
enum status cmd_version(struct arguments *arguments);

#endif
