/* SPDX-License-Identifier: MIT */
#include "cli/options.h"

#include "base/limits.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_LONG 128
#define FIRST_CODE 1000

const lt_opt lt_common_options[] = {
    { "json", 0, OPT_FLAG, offsetof(lt_common, json), NULL, "report as one JSON object",
        { NULL } },
    { "verbose", 'v', OPT_FLAG, offsetof(lt_common, verbose), NULL, "report every module",
        { NULL } },
    { "quiet", 'q', OPT_FLAG, offsetof(lt_common, quiet), NULL,
        "no progress and no report in text", { NULL } },
    { "limit", 0, OPT_LIST, offsetof(lt_common, limits), "LIMIT",
        "NAME=N, a ceiling on what a file may ask: see loratool(1)", { NULL } },
    { "no-sandbox", 0, OPT_FLAG, offsetof(lt_common, no_sandbox), NULL,
        "do not give up programs, the network and other folders", { NULL } },
    { "help", 'h', OPT_FLAG, offsetof(lt_common, help), NULL, "show this help",
        { NULL } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

/* The command's options and the common ones, in the form getopt_long takes. */
struct table {
    struct option longs[MAX_LONG];
    const lt_opt *rows[MAX_LONG]; /* by code - FIRST_CODE */
    char shorts[2 * MAX_LONG + 2];
    int n_longs, n_rows, n_shorts;
};

static void add_long(struct table *t, const char *name, const lt_opt *row, int code)
{
    if (t->n_longs + 1 >= MAX_LONG) return;
    t->longs[t->n_longs++] = (struct option){ name,
        row->type == OPT_FLAG ? no_argument : required_argument, NULL, code };
}

static void add_rows(struct table *t, const lt_opt *rows)
{
    for (const lt_opt *r = rows; r->name && t->n_rows < MAX_LONG; r++) {
        int code = FIRST_CODE + t->n_rows;
        t->rows[t->n_rows++] = r;
        add_long(t, r->name, r, code);
        for (int i = 0; i < 5 && r->aliases[i]; i++)
            add_long(t, r->aliases[i], r, code);
        if (!r->letter) continue;
        t->shorts[t->n_shorts++] = r->letter;
        if (r->type != OPT_FLAG) t->shorts[t->n_shorts++] = ':';
    }
}

static const lt_opt *row_of(const struct table *t, int code)
{
    if (code >= FIRST_CODE) return t->rows[code - FIRST_CODE];
    for (int i = 0; i < t->n_rows; i++)
        if (t->rows[i]->letter == code) return t->rows[i];
    return NULL;
}

static lt_status bad_value(
    const lt_opt *o, const char *text, const char *want, lt_error *err)
{
    return lt_error_set(err, LT_ERR_ARG, "--%s takes %s, not '%s'", o->name, want, text);
}

static lt_status store_integer(
    const lt_opt *o, const char *text, long max, char *dst, lt_error *err)
{
    char *end, want[64];
    errno = 0;
    long v = strtol(text, &end, 10);
    snprintf(want, sizeof want, "a whole number from 1 to %ld", max);
    if (errno || *end || end == text || v < 1 || v > max)
        return bad_value(o, text, want, err);
    if (o->type == OPT_RANK)
        *(uint64_t *)dst = (uint64_t)v;
    else
        *(int *)dst = (int)v;
    return LT_OK;
}

static lt_status store_number(const lt_opt *o, const char *text, char *dst, lt_error *err)
{
    char *end;
    double v = strtod(text, &end);
    if (*end || end == text || !isfinite(v) || v < 0)
        return bad_value(o, text, "a number that is not negative", err);
    memcpy(dst, &v, sizeof v);
    return LT_OK;
}

/* "5GB" in bytes; a plain number needs no unit. */
static bool read_size(const char *text, uint64_t *size)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = { { "", 1 }, { "B", 1 }, { "KB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 },
        { "TB", 1e12 }, { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 },
        { "TiB", 0x1p40 } };
    char *end;
    double v = strtod(text, &end);
    bool number = end != text && isfinite(v) && v > 0;
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < sizeof units / sizeof *units && number; i++) {
        double bytes = v * units[i].bytes;
        if (strcasecmp(end, units[i].unit) || bytes < 1 || bytes > 0x1p62) continue;
        *size = (uint64_t)bytes;
        return true;
    }
    return false;
}

static lt_status store_size(const lt_opt *o, const char *text, char *dst, lt_error *err)
{
    if (read_size(text, (uint64_t *)dst)) return LT_OK;
    return bad_value(o, text, "a size like 5GB or 500MiB", err);
}

static lt_status store_value(
    const lt_opt *o, const char *text, void *options, lt_error *err)
{
    char *dst = (char *)options + o->offset;
    lt_list *list = (lt_list *)dst;
    switch (o->type) {
    case OPT_FLAG: *(bool *)dst = true; return LT_OK;
    case OPT_STRING:
    case OPT_OUTPUT: *(const char **)dst = text; return LT_OK;
    case OPT_RANK: return store_integer(o, text, LT_MAX_RANK, dst, err);
    case OPT_COUNT: return store_integer(o, text, LT_MAX_THREADS, dst, err);
    case OPT_NUMBER: return store_number(o, text, dst, err);
    case OPT_SIZE: return store_size(o, text, dst, err);
    case OPT_LIST:
        if (list->count == LT_LIST_MAX)
            return lt_error_set(
                err, LT_ERR_ARG, "--%s is given over %d times", o->name, LT_LIST_MAX);
        list->items[list->count++] = text;
        return LT_OK;
    }
    return lt_error_set(err, LT_ERR_INTERNAL, "unknown option type");
}

/* --save_to=x → --save-to=x; values and operands are left alone. */
static void unify_underscores(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (strncmp(argv[i], "--", 2)) continue;
        for (char *p = argv[i] + 2; *p && *p != '='; p++)
            if (*p == '_') *p = '-';
    }
}

lt_status lt_options_parse(const lt_command *command, int argc, char **argv,
    void *options, int *first, lt_error *err)
{
    struct table t = { .shorts = ":", .n_shorts = 1 };
    add_rows(&t, command->options);
    add_rows(&t, lt_common_options);
    unify_underscores(argc, argv);
    opterr = 0;
    optind = 0; /* GNU: start afresh */
    for (int code; (code = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1;) {
        const char *at = argv[optind - 1];
        if (code == ':')
            return lt_error_set(err, LT_ERR_ARG, "option '%s' needs a value", at);
        const lt_opt *row = code == '?' ? NULL : row_of(&t, code);
        if (!row && optopt && optopt < FIRST_CODE)
            return lt_error_set(err, LT_ERR_ARG, "unknown option '-%c'", optopt);
        if (!row) return lt_error_set(err, LT_ERR_ARG, "unknown option '%s'", at);
        lt_status st = store_value(row, optarg, options, err);
        if (st) return st;
    }
    *first = optind;
    return LT_OK;
}

const char *lt_options_output(const lt_command *command, const void *options)
{
    for (const lt_opt *o = command->options; o->name; o++)
        if (o->type == OPT_OUTPUT)
            return *(const char *const *)((const char *)options + o->offset);
    return NULL;
}

static lt_status set_limit(const char *text, lt_error *err)
{
    char name[64];
    uint64_t value;
    const char *equals = strchr(text, '=');
    if (!equals || equals - text >= (ptrdiff_t)sizeof name
        || !read_size(equals + 1, &value))
        return lt_error_set(err, LT_ERR_ARG,
            "--limit takes NAME=N, such as tensors=1000 or pickle-size=1GiB, not '%s'",
            text);
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    return lt_limit_set(name, value, err);
}

lt_status lt_apply_limits(const lt_list *limits, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < limits->count && !st; i++)
        st = set_limit(limits->items[i], err);
    return st;
}

lt_status lt_parse_split(const char *text, lt_factor_split *split, lt_error *err)
{
    *split = LT_FACTORS_BALANCED;
    if (!text || !strcmp(text, "sqrt")) return LT_OK;
    *split = LT_FACTORS_UP;
    if (!strcmp(text, "up")) return LT_OK;
    return lt_error_set(err, LT_ERR_ARG, "--split takes sqrt or up, not '%s'", text);
}

static void print_rows(const lt_opt *rows)
{
    for (const lt_opt *r = rows; r->name; r++) {
        char left[64], letter[8] = "    ";
        if (r->letter) snprintf(letter, sizeof letter, "-%c, ", r->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, r->name, r->value ? " " : "",
            r->value ? r->value : "");
        printf("  %-28s %s\n", left, r->help);
    }
}

void lt_options_help(const lt_command *command)
{
    printf("usage: loratool %s %s\n\n%s.\n\n", command->name, command->synopsis,
        command->summary);
    print_rows(command->options);
    print_rows(lt_common_options);
    if (command->notes) printf("\n%s", command->notes);
}
