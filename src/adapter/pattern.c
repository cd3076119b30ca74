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
/* What a match may take, for the process's life: nearly all are content with the first.
 */
static const uint32_t tiers[] = { 20, 200, 2000, LT_MAX_PATTERN_STEPS };
#define N_TIERS (sizeof tiers / sizeof *tiers)
static pcre2_match_context_8 *bounds[N_TIERS];

static void load(void)
{
#define ROW(name) { #name, &pcre2.name },
    static const lt_routine routines[] = { ROUTINES(ROW) };
    static const lt_library library = { "PCRE2", LORATOOL_PCRE2, LORATOOL_PCRE2_PATH,
        routines, sizeof routines / sizeof *routines };
    void *handle;
    loading.status = lt_library_open(&handle, &library, &loading.error);
    if (loading.status) return;
    for (size_t i = 0; i < N_TIERS; i++) {
        bounds[i] = pcre2.pcre2_match_context_create_8(NULL);
        if (!bounds[i]) {
            loading.status = lt_error_set(&loading.error, LT_ERR_NOMEM, "out of memory");
            return;
        }
        pcre2.pcre2_set_match_limit_8(bounds[i], tiers[i]);
        pcre2.pcre2_set_depth_limit_8(bounds[i], tiers[i]);
        pcre2.pcre2_set_heap_limit_8(bounds[i], LT_MAX_PATTERN_HEAP);
    }
}

/* ---- plain patterns ---------------------------------------------------------------- */

/* Literals, escaped punctuation and dots only: fills text and any. */
static bool read_plain(lt_pattern *p, const char *s)
{
    if (*s == '^') {
        p->anchored = true;
        s++;
    }
    for (; *s; s++) {
        bool escaped = *s == '\\';
        if (escaped && !strchr(".-_/", *++s)) return false;
        if (!*s || (!escaped && strchr("^$*+?()[]{}|", *s))) return false;
        p->dots += p->any[p->size] = !escaped && *s == '.';
        p->text[p->size++] = *s;
    }
    p->text[p->size] = '\0';
    p->exact = p->anchored && !p->dots;
    return true;
}

/* Nothing of the path is before at, or a module that the pattern need not name. */
static bool begins_at(const lt_pattern *p, const char *path, const char *at)
{
    return at == path || (!p->anchored && at[-1] == '.');
}

/* Where every character is a byte, the place is known before anything is compared. */
static bool matches_bytes(const lt_pattern *p, const lt_subject *on, uint64_t *work)
{
    if (p->size > on->size) return false;
    const char *s = on->path + on->size - p->size;
    if (!begins_at(p, on->path, s)) return false;
    *work += p->size / 16;
    if (!p->dots) return !memcmp(s, p->text, p->size);
    for (size_t i = 0; i < p->size; i++)
        if (!p->any[i] ? s[i] != p->text[i] : s[i] == '\n') return false;
    return true;
}

static bool matches_plain(const lt_pattern *p, const lt_subject *on, uint64_t *work)
{
    const char *path = on->path, *s = path + on->size;
    ++*work;
    if (on->ascii || !p->dots) return matches_bytes(p, on, work);
    *work += p->size / 4;
    for (size_t i = p->size; i-- > 0;) {
        if (s-- == path) return false;
        if (!p->any[i] ? *s != p->text[i] : *s == '\n') return false;
        while (p->any[i] && s > path && (*s & 0xc0) == 0x80)
            s--; /* a dot stands for a character */
    }
    return begins_at(p, path, s);
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

static bool is_too_long(int rc)
{
    return rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT;
}

static lt_status matches_regex(const lt_pattern *p, const lt_subject *on, bool *matches,
    uint64_t *work, lt_error *err)
{
    const char *path = on->path;
    pcre2_match_data_8 *data = pcre2.pcre2_match_data_create_8(1, NULL);
    int rc = data ? PCRE2_ERROR_MATCHLIMIT : PCRE2_ERROR_NOMEMORY;
    for (size_t i = 0; i < N_TIERS && is_too_long(rc); i++) {
        /* A step takes some ten nanoseconds, and may look at all of a long path. */
        *work += tiers[i] * (8 + on->size / 32);
        rc = pcre2.pcre2_match_8(
            p->code, (PCRE2_SPTR8)path, on->size, 0, 0, data, bounds[i]);
    }
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

lt_subject lt_subject_of(const char *path)
{
    lt_subject s = { .path = path, .ascii = true };
    for (; path[s.size]; s.size++)
        s.ascii = s.ascii && !(path[s.size] & 0x80);
    return s;
}

lt_status lt_pattern_match(const lt_pattern *p, const lt_subject *subject, bool *matches,
    uint64_t *work, lt_error *err)
{
    if (!p->plain) return matches_regex(p, subject, matches, work, err);
    *matches = matches_plain(p, subject, work);
    return LT_OK;
}

void lt_pattern_release(lt_pattern *p)
{
    free(p->text);
    free(p->any);
    if (p->code) pcre2.pcre2_code_free_8(p->code);
    *p = (lt_pattern){ 0 };
}
