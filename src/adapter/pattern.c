/* SPDX-License-Identifier: MIT */
#include "adapter/pattern.h"

#include "base/library.h"
#include "base/limits.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* ---- the library ------------------------------------------------------------------- */

#define ROUTINES(X)                   \
    X(pcre2_code_free_8)              \
    X(pcre2_compile_8)                \
    X(pcre2_compile_context_create_8) \
    X(pcre2_compile_context_free_8)   \
    X(pcre2_match_8)                  \
    X(pcre2_match_context_create_8)   \
    X(pcre2_match_data_create_8)      \
    X(pcre2_match_data_free_8)        \
    X(pcre2_pattern_info_8)           \
    X(pcre2_set_depth_limit_8)        \
    X(pcre2_set_heap_limit_8)         \
    X(pcre2_set_match_limit_8)        \
    X(pcre2_set_newline_8)            \
    X(pcre2_set_parens_nest_limit_8)

static struct {
#define MEMBER(name) __typeof__(name) *name;
    ROUTINES(MEMBER)
} pcre2;

static lt_loading loading;
static pcre2_match_context_8 *bounds; /* of every match, for the process's life */

static void load(void)
{
#define ROW(name) { #name, &pcre2.name },
    static const lt_routine routines[] = { ROUTINES(ROW) };
    static const lt_library library = { "PCRE2", LORATOOL_PCRE2, LORATOOL_PCRE2_PATH,
        routines, sizeof routines / sizeof *routines };
    void *handle;
    loading.status = lt_library_open(&handle, &library, &loading.error);
    if (loading.status) return;
    bounds = pcre2.pcre2_match_context_create_8(NULL);
    if (!bounds) {
        loading.status = lt_error_set(&loading.error, LT_ERR_NOMEM, "out of memory");
        return;
    }
    pcre2.pcre2_set_match_limit_8(bounds, LT_MAX_PATTERN_STEPS);
    pcre2.pcre2_set_depth_limit_8(bounds, LT_MAX_PATTERN_STEPS);
    pcre2.pcre2_set_heap_limit_8(bounds, LT_MAX_PATTERN_HEAP);
}

/* ---- plain patterns ---------------------------------------------------------------- */

/* Literals, escaped punctuation and dots only: fills text and any. */
static bool read_plain(lt_pattern *p, const char *s)
{
    size_t dots = 0;
    if (*s == '^') {
        p->anchored = true;
        s++;
    }
    for (; *s; s++) {
        bool escaped = *s == '\\';
        if (escaped && !strchr(".-_/", *++s)) return false;
        if (!*s || (!escaped && strchr("^$*+?()[]{}|", *s))) return false;
        dots += p->any[p->size] = !escaped && *s == '.';
        p->text[p->size++] = *s;
    }
    p->text[p->size] = '\0';
    p->exact = p->anchored && !dots;
    return true;
}

static bool matches_plain(const lt_pattern *p, const char *path)
{
    const char *s = path + strlen(path);
    for (size_t i = p->size; i-- > 0;) {
        if (s-- == path) return false;
        if (!p->any[i] ? *s != p->text[i] : *s == '\n') return false;
        while (p->any[i] && s > path && (*s & 0xc0) == 0x80)
            s--; /* a dot stands for a character */
    }
    return s == path || (!p->anchored && s[-1] == '.');
}

/* ---- regular expressions ----------------------------------------------------------- */

static lt_status refuse(const char *python, const char *what, lt_error *err)
{
    return lt_error_set(err, LT_ERR_UNSUPPORTED,
        "pattern '%.100s' uses %s, which is not handled", python, what);
}

/* Behind a backslash: what means the same in both languages. */
static bool is_shared_escape(char c, bool in_brackets)
{
    if (!c) return false;
    if (strchr(in_brackets ? "dDwWsSnrtf" : "dDwWsSnrtfbBA", c)) return true;
    if (c >= '1' && c <= '9') return !in_brackets;
    return strchr(".^$*+?()[]{}|\\/-_#&~,;:'\"!%<=>@` ", c) != NULL;
}

static bool is_shared_group(const char *s) /* behind "(" */
{
    static const char *const openings[] = { "?:", "?=", "?!", "?<=", "?<!", "?P<",
        "?P=" };
    if (*s != '?' && *s != '*') return true;
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++)
        if (!strncmp(s, openings[i], strlen(openings[i]))) return true;
    return false;
}

/* PCRE2 would take more than Python, and some of it for something else. */
static lt_status check_syntax(const char *python, lt_error *err)
{
    bool brackets = false;
    for (const char *s = python; *s; s++) {
        if (*s == '\\') {
            /* A backslash at the end is refused at the NUL. */
            if (!is_shared_escape(*++s, brackets))
                return refuse(python, "an escape", err);
        } else if (brackets) {
            if (*s == '[' && s[1] && strchr(":.=", s[1]))
                return refuse(python, "a class of POSIX", err);
            brackets = *s != ']';
        } else if (*s == '[') {
            brackets = true;
            if (s[1] == '^') s++;
            if (s[1] == ']') s++;
        } else if (*s == '(' && !is_shared_group(s + 1)) {
            return refuse(python, "a special group", err);
        } else if (*s == '{' && s[1] == ',') {
            return refuse(python, "a brace", err);
        }
    }
    return LT_OK;
}

static lt_status explain(const char *python, int code, lt_error *err)
{
    switch (code) {
    case PCRE2_ERROR_HEAP_FAILED:
        return lt_error_set(err, LT_ERR_NOMEM, "out of memory for a pattern");
    case PCRE2_ERROR_PARENTHESES_NEST_TOO_DEEP:
        return lt_error_set(
            err, LT_ERR_LIMIT, "pattern '%.100s' is nested too deep", python);
    case PCRE2_ERROR_PATTERN_TOO_LARGE:
    case PCRE2_ERROR_QUANTIFIER_TOO_BIG:
    case PCRE2_ERROR_PATTERN_TOO_COMPLICATED:
        return lt_error_set(
            err, LT_ERR_LIMIT, "pattern '%.100s' repeats too much", python);
    default:
        return lt_error_set(
            err, LT_ERR_FORMAT, "pattern '%.100s' is no regular expression", python);
    }
}

static lt_status compile_text(
    lt_pattern *p, const char *text, const char *python, lt_error *err)
{
    const uint32_t options = PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP
        | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C;
    int code = PCRE2_ERROR_HEAP_FAILED;
    size_t at;
    pcre2_compile_context_8 *context = pcre2.pcre2_compile_context_create_8(NULL);
    if (context) {
        pcre2.pcre2_set_newline_8(context, PCRE2_NEWLINE_LF);
        pcre2.pcre2_set_parens_nest_limit_8(context, LT_MAX_PATTERN_DEPTH);
        p->code = pcre2.pcre2_compile_8(
            (PCRE2_SPTR8)text, PCRE2_ZERO_TERMINATED, options, &code, &at, context);
        pcre2.pcre2_compile_context_free_8(context);
    }
    if (!p->code) return explain(python, code, err);
    pcre2.pcre2_pattern_info_8(p->code, PCRE2_INFO_SIZE, &p->cost);
    return LT_OK;
}

static lt_status compile_regex(lt_pattern *p, const char *python, lt_error *err)
{
    char text[LT_MAX_PATTERN_SIZE + 16];
    lt_status st = check_syntax(python, err);
    if (!st) st = lt_loading_run(&loading, load, err);
    if (st) return st;
    snprintf(text, sizeof text, "(.*\\.)?(%s)$", python);
    return compile_text(p, text, python, err);
}

static lt_status matches_regex(
    const lt_pattern *p, const char *path, bool *matches, lt_error *err)
{
    pcre2_match_data_8 *data = pcre2.pcre2_match_data_create_8(1, NULL);
    int rc = data ? pcre2.pcre2_match_8(
                 p->code, (PCRE2_SPTR8)path, strlen(path), 0, 0, data, bounds)
                  : PCRE2_ERROR_NOMEMORY;
    if (data) pcre2.pcre2_match_data_free_8(data);
    *matches = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return LT_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return lt_error_set(err, LT_ERR_NOMEM, "out of memory for a pattern");
    return lt_error_set(err, LT_ERR_LIMIT,
        "a pattern takes over %u steps to match '%.200s'", LT_MAX_PATTERN_STEPS, path);
}

/* ---- both -------------------------------------------------------------------------- */

lt_status lt_pattern_compile(lt_pattern *p, const char *python, lt_error *err)
{
    *p = (lt_pattern){ 0 };
    size_t n = strlen(python);
    if (n > LT_MAX_PATTERN_SIZE)
        return lt_error_set(err, LT_ERR_LIMIT, "a pattern is over %d characters long",
            LT_MAX_PATTERN_SIZE);
    p->text = malloc(n + 1);
    p->any = malloc((n + 1) * sizeof *p->any);
    if (!p->text || !p->any) {
        lt_pattern_release(p);
        return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    }
    p->plain = read_plain(p, python);
    if (p->plain) return LT_OK;
    lt_pattern_release(p);
    return compile_regex(p, python, err);
}

lt_status lt_pattern_match(
    const lt_pattern *p, const char *path, bool *matches, lt_error *err)
{
    if (!p->plain) return matches_regex(p, path, matches, err);
    *matches = matches_plain(p, path);
    return LT_OK;
}

void lt_pattern_release(lt_pattern *p)
{
    free(p->text);
    free(p->any);
    if (p->code) pcre2.pcre2_code_free_8(p->code);
    *p = (lt_pattern){ 0 };
}
