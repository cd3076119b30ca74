/* SPDX-License-Identifier: MIT */
#ifndef LT_CLI_COMMANDS_H
#define LT_CLI_COMMANDS_H

#include "cli/options.h"

/* The only list of subcommands: dispatch, help and the manual check read it. */
extern const lt_command *const lt_commands[]; /* NULL ends */

const lt_command *lt_command_find(const char *name); /* NULL when unknown */

#endif
