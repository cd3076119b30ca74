/* SPDX-License-Identifier: MIT */
#include "cli/commands.h"

#include <string.h>

extern const lt_command lt_cmd_extract, lt_cmd_merge, lt_cmd_resize, lt_cmd_convert,
    lt_cmd_map, lt_cmd_info, lt_cmd_help;

const lt_command *const lt_commands[] = {
    &lt_cmd_extract,
    &lt_cmd_merge,
    &lt_cmd_resize,
    &lt_cmd_convert,
    &lt_cmd_map,
    &lt_cmd_info,
    &lt_cmd_help,
    NULL,
};

const lt_command *lt_command_find(const char *name)
{
    for (const lt_command *const *c = lt_commands; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}
