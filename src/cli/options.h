/* SPDX-License-Identifier: MIT */
/* Options as tables, parsed with getopt_long. "_" and "-" are the same in long names. */
#ifndef LT_CLI_OPTIONS_H
#define LT_CLI_OPTIONS_H

#include "loratool/loratool.h"

typedef enum lt_opt_type {
    OPT_FLAG,   /* bool */
    OPT_STRING, /* const char * */
    OPT_OUTPUT, /* const char *: the one file or folder that the command writes */
    OPT_RANK,   /* uint64_t, 1 to LT_MAX_RANK */
    OPT_COUNT,  /* int, 1 to LT_MAX_THREADS */
    OPT_NUMBER, /* double, finite, not negative */
    OPT_SIZE,   /* uint64_t bytes: "5GB", "500MiB" */
    OPT_LIST,   /* lt_list: may be given several times */
} lt_opt_type;

#define LT_LIST_MAX 64
typedef struct lt_list {
    const char *items[LT_LIST_MAX + 1]; /* NULL-terminated */
    size_t count;
} lt_list;

typedef struct lt_opt {
    const char *name; /* long form without dashes; NULL ends a table */
    char letter;      /* short form or 0 */
    lt_opt_type type;
    size_t offset;          /* of the field in the command's option struct */
    const char *value;      /* what stands for the value in help: "FILE" */
    const char *help;       /* one line */
    const char *aliases[5]; /* other long names, NULL ends */
} lt_opt;

/* What every command has. The first member of every option struct. */
typedef struct lt_common {
    bool help, json, quiet, verbose, no_sandbox;
    lt_list limits;
} lt_common;

typedef struct lt_command lt_command;
struct lt_command {
    const char *name, *summary, *synopsis;
    const lt_opt *options;
    size_t options_size;  /* of the option struct */
    const void *defaults; /* an option struct, or NULL for zeros */
    const char *notes;    /* more help text, or NULL */
    /* options is the filled struct; args are the operands. */
    lt_status (*run)(void *options, int n_args, char **args, lt_error *err);
};

/* Common options, appended to every table. */
extern const lt_opt lt_common_options[];

/* Fills *options; *first gets the index of the first operand in argv (permuted). */
lt_status lt_options_parse(const lt_command *command, int argc, char **argv,
    void *options, int *first, lt_error *err);

/* What the command will write: the value of its OPT_OUTPUT, or NULL. */
const char *lt_options_output(const lt_command *command, const void *options);

/* Sets the ceilings that --limit NAME=N was given. */
lt_status lt_apply_limits(const lt_list *limits, lt_error *err);

/* The lines of help and of option tables that several commands share. */
#define LT_HELP_FORMAT "safetensors or torch [by OUT's extension]"
#define LT_HELP_MEMORY \
    "ceiling of work memory (500MB, 1GiB) [some beyond the largest layer]"
#define LT_HELP_SHARDS "files of at most that many bytes of tensors (5GB, 500MiB)"

/* The value of --split: "sqrt" (or NULL) or "up". */
lt_status lt_parse_split(const char *text, lt_factor_split *split, lt_error *err);

/* argv is NULL-terminated; prints the usage text of a command. */
void lt_options_help(const lt_command *command);

#endif
