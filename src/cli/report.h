/* SPDX-License-Identifier: MIT */
/* Printing of reports. Text is made safe for terminals: control characters, marks that turn
 * the direction of writing, and bytes that are no UTF-8 are shown as '?'. */
#ifndef LT_CLI_REPORT_H
#define LT_CLI_REPORT_H

#include "base/json.h"
#include "cli/options.h"

#include <stdio.h>

/* Where the report goes: stderr when the data goes to stdout. */
FILE *lt_report_stream(const char *output);

void lt_print_safe(FILE *to, const char *text);
/* "loratool COMMAND: where: message (at byte N)" on stderr; command may be NULL. */
void lt_print_error(const char *command, const lt_error *err);
/* "1.7 GB" */
const char *lt_size_text(uint64_t bytes, char dst[32]);

/* From here on allocations for JSON are watched; called once. */
void lt_json_watch(void);
/* Prints object as one line and frees it. LT_ERR_NOMEM when a part of it is missing. */
lt_status lt_print_json(FILE *to, cJSON *object, lt_error *err);
/* [{"name": ..., "reason": ...}] under key. */
void lt_json_add_notes(cJSON *object, const char *key, const lt_notes *notes);
/* What extract and resize have in common. */
typedef struct lt_outcome {
    size_t written, unchanged;
    const lt_notes *skipped;
    uint64_t rank_min, rank_max;
    double error, worst_error;
    const char *worst; /* module name */
} lt_outcome;
void lt_json_add_outcome(cJSON *object, const lt_outcome *x);
/* "rank 4" or "rank 2 to 8" */
void lt_print_ranks(FILE *to, uint64_t min, uint64_t max);
void lt_json_add_cost(cJSON *object, const lt_cost *cost);
/* "12.3 MB in 0.4 s, peak memory 40 MB" */
void lt_print_cost(FILE *to, const lt_cost *cost);
/* Counts by reason, or with all every name. */
void lt_print_notes(FILE *to, const char *title, const lt_notes *notes, bool all);

/* Draws on stderr when that is a terminal and quiet is false; otherwise does nothing. */
lt_progress lt_progress_meter(bool quiet);
void lt_progress_clear(void);

#endif
