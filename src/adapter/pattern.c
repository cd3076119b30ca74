/* SPDX-License-Identifier: MIT */
#include "adapter/pattern.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        p->any[p->size] = !escaped && *s == '.';
        p->text[p->size++] = *s;
    }
    return true;
}

static lt_status refuse(const char *python, const char *what, lt_error *err)
{
    return lt_error_set(err, LT_ERR_UNSUPPORTED,
        "pattern '%.100s' uses %s, which is not handled", python, what);
}

/* What \d and its like stand for, outside and inside brackets. */
static const char *class_of(char c, bool in_brackets)
{
    switch (c) {
    case 'd': return in_brackets ? "0-9" : "[0-9]";
    case 'w': return in_brackets ? "[:alnum:]_" : "[[:alnum:]_]";
    case 's': return in_brackets ? "[:space:]" : "[[:space:]]";
    default: return NULL;
    }
}

struct translation {
    const char *python, *in;
    char *out;
    int depth, repeats;
    bool brackets;
    lt_error *err;
};

static void emit(struct translation *t, const char *s)
{
    size_t n = strlen(s);
    memcpy(t->out, s, n);
    t->out += n;
}

static lt_status translate_escape(struct translation *t)
{
    char c = *++t->in;
    const char *cls = class_of(c, t->brackets);
    if (cls) {
        emit(t, cls);
        return LT_OK;
    }
    bool punctuation = c && strchr(".^$*+?()[]{}|\\/-_", c);
    if (!punctuation || (t->brackets && strchr("^]\\", c)))
        return refuse(t->python, "an escape", t->err);
    if (!t->brackets) *t->out++ = '\\';
    *t->out++ = c;
    return LT_OK;
}

/* {n}, {n,}, {n,m} with small numbers, at most once: POSIX compilers unroll them. */
static lt_status translate_repeat(struct translation *t)
{
    char *end;
    long n = strtol(t->in + 1, &end, 10), m = n;
    if (*end == ',') m = strtol(end + 1, &end, 10);
    if (*end != '}') return refuse(t->python, "a brace", t->err);
    if (++t->repeats > 1 || n < 0 || n > 64 || m > 64)
        return lt_error_set(
            t->err, LT_ERR_LIMIT, "pattern '%.100s' repeats too much", t->python);
    while (t->in < end)
        *t->out++ = *t->in++;
    *t->out++ = '}';
    return LT_OK;
}

static lt_status translate_one(struct translation *t)
{
    char c = *t->in;
    if (c == '\\') return translate_escape(t);
    if (t->brackets) {
        if (c == ']') t->brackets = false;
    } else if (c == '[') {
        t->brackets = true;
    } else if (c == '(') {
        if (++t->depth > LT_MAX_PATTERN_DEPTH)
            return lt_error_set(
                t->err, LT_ERR_LIMIT, "pattern '%.100s' is nested too deep", t->python);
        if (t->in[1] == '?' && t->in[2] != ':')
            return refuse(t->python, "a special group", t->err);
        if (t->in[1] == '?') t->in += 2;
    } else if (c == ')') {
        t->depth--;
    } else if (c == '{') {
        return translate_repeat(t);
    } else if (strchr("*+?", c) && t->in[1] && strchr("*+?", t->in[1])) {
        return refuse(t->python, "a lazy or double repeat", t->err);
    }
    *t->out++ = c;
    return LT_OK;
}

static lt_status compile_regex(lt_pattern *p, const char *python, lt_error *err)
{
    /* The longest translation of one character has 12. */
    char *posix = malloc(12 * strlen(python) + 16);
    if (!posix) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    struct translation t = { .python = python, .in = python, .out = posix, .err = err };
    lt_status st = LT_OK;
    emit(&t, "^(.*\\.)?(");
    /* A backslash at the end is refused at the NUL: nothing may be read behind it. */
    for (; !st && *t.in; t.in++)
        st = translate_one(&t);
    emit(&t, ")$");
    *t.out = '\0';
    if (!st && regcomp(&p->regex, posix, REG_EXTENDED | REG_NOSUB))
        st = lt_error_set(
            err, LT_ERR_FORMAT, "pattern '%.100s' is no regular expression", python);
    p->plain = st != LT_OK; /* only a compiled expression is there to be freed */
    free(posix);
    return st;
}

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
    p->plain = true; /* until it is found to need more */
    if (read_plain(p, python)) return LT_OK;
    lt_pattern_release(p);
    return compile_regex(p, python, err);
}

static bool same(const lt_pattern *p, const char *s)
{
    for (size_t i = 0; i < p->size; i++)
        if (!p->any[i] && s[i] != p->text[i]) return false;
    return true;
}

bool lt_pattern_matches(const lt_pattern *p, const char *path)
{
    if (!p->plain) return !regexec(&p->regex, path, 0, NULL, 0);
    size_t n = strlen(path);
    if (n < p->size) return false;
    const char *tail = path + n - p->size;
    if (tail != path && (p->anchored || tail[-1] != '.')) return false;
    return same(p, tail);
}

void lt_pattern_release(lt_pattern *p)
{
    free(p->text);
    free(p->any);
    if (!p->plain) regfree(&p->regex);
    *p = (lt_pattern){ .plain = true };
}
