/* SPDX-License-Identifier: MIT */
/* Module patterns of PEFT configs. PEFT applies pattern P to path M when M matches
 * (.*\.)?(P) as a whole, by Python's rules. */
#ifndef LT_ADAPTER_PATTERN_H
#define LT_ADAPTER_PATTERN_H

#include "loratool/error.h"

#include <regex.h>
#include <stdbool.h>

typedef struct lt_pattern {
    /* Patterns of literals and dots, as configs list modules, need no regular expression:
     * text holds one byte a character, any[i] tells that it matches every character. */
    bool plain, anchored; /* anchored: the pattern began with ^ */
    char *text;
    bool *any;
    size_t size;
    regex_t regex; /* when not plain */
} lt_pattern;

/* Python syntax. LT_ERR_UNSUPPORTED for constructs that POSIX expressions lack (look
 * around, lazy or named parts, back references), LT_ERR_LIMIT for patterns that are too
 * long, too deep or repeat too much to be compiled safely. */
lt_status lt_pattern_compile(
    lt_pattern *pattern, const char *python, lt_error *err) LT_MUST_USE;
bool lt_pattern_matches(const lt_pattern *pattern, const char *path);
void lt_pattern_release(lt_pattern *pattern);

#endif
