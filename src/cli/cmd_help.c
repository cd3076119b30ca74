/* SPDX-License-Identifier: MIT */
#include "cli/commands.h"

#include <stdio.h>

static const lt_opt options[] = { { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } } };

static lt_status run(void *unused, int n_args, char **args, lt_error *err)
{
    (void)unused;
    if (n_args > 1) return lt_error_set(err, LT_ERR_ARG, "one command at a time");
    if (n_args == 0) {
        for (const lt_command *const *c = lt_commands; *c; c++)
            printf("%-10s %s\n", (*c)->name, (*c)->summary);
        return LT_OK;
    }
    const lt_command *c = lt_command_find(args[0]);
    if (!c) return lt_error_set(err, LT_ERR_ARG, "unknown command '%s'", args[0]);
    lt_options_help(c);
    return LT_OK;
}

const lt_command lt_cmd_help = {
    .name = "help",
    .summary = "Show what a command does and its options",
    .synopsis = "[COMMAND]",
    .options = options,
    .options_size = sizeof(lt_common),
    .run = run,
};
