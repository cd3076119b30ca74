/* SPDX-License-Identifier: MIT */
/* Module patterns of PEFT configs. PEFT applies pattern P to path M when Python's
 * re.match("(.*\.)?(P)$", M) finds something (peft, get_pattern_key). */
#ifndef LT_ADAPTER_PATTERN_H
#define LT_ADAPTER_PATTERN_H

#include "loratool/error.h"

#include <stdbool.h>
#include <stdint.h>

/* What patterns are tried on. */
typedef struct lt_subject {
    const char *path;
    size_t size;
    bool ascii;
} lt_subject;
lt_subject lt_subject_of(const char *path);

typedef struct lt_pattern {
    /* Patterns of literals and dots, as configs list modules, need no regular expression:
     * text holds the bytes, any[i] tells that every character will do there. */
    bool plain, anchored; /* anchored: the pattern began with ^ */
    bool exact;           /* anchored, no dots: text is the only path that matches */
    char *text;
    bool *any;
    size_t size, dots; /* of text; how many of any are set */
    void *code;        /* PCRE2's, when not plain */
    size_t cost;       /* bytes of it */
} lt_pattern;

/* Python syntax. LT_ERR_UNSUPPORTED for constructs that PCRE2 does not have or reads in
 * another way, LT_ERR_LIMIT for patterns that are too long, too deep or too large when
 * compiled, LT_ERR_FORMAT for what is no expression. On failure *pattern is empty. */
lt_status lt_pattern_compile(
    lt_pattern *pattern, const char *python, lt_error *err) LT_MUST_USE;
/* LT_ERR_LIMIT when telling would take too many steps. *work grows by what it took at
 * most, in steps of some nanoseconds. */
lt_status lt_pattern_match(const lt_pattern *pattern, const lt_subject *subject,
    bool *matches, uint64_t *work, lt_error *err) LT_MUST_USE;
void lt_pattern_release(lt_pattern *pattern);

#endif
