/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <math.h>
#include <string.h>

struct options {
    lt_common common;
    const char *base, *tuned, *output, *dtype, *dialect, *split, *format;
    uint64_t rank, conv_rank;
    double alpha, min_diff, max_error;
    lt_list include, exclude;
    bool all_modules, force;
    int threads;
    uint64_t memory;
};

#define AT(field) offsetof(struct options, field)

static const lt_opt options[] = {
    { "base", 0, OPT_STRING, AT(base), "FILE", "the model before fine-tuning",
        { "model-org", "base-model" } },
    { "tuned", 0, OPT_STRING, AT(tuned), "FILE", "the model after it",
        { "model-tuned", "model" } },
    { "output", 'o', OPT_OUTPUT, AT(output), "OUT",
        "adapter file, '-', or folder (DIR/) for PEFT", { "save-to", "out-path" } },
    { "format", 0, OPT_STRING, AT(format), "NAME", LT_HELP_FORMAT, { NULL } },
    { "rank", 'r', OPT_RANK, AT(rank), "R", "rank of the factors [32]",
        { "dim", "max-rank", "network-dim", "linear-dim" } },
    { "conv-rank", 0, OPT_RANK, AT(conv_rank), "R",
        "rank of convolutions with a kernel [as --rank]", { "conv-dim" } },
    { "alpha", 0, OPT_NUMBER, AT(alpha), "A", "alpha to store [each module's rank]",
        { "network-alpha" } },
    { "dtype", 0, OPT_STRING, AT(dtype), "TYPE",
        "f16, bf16 or f32 [bf16 if TUNED is, else f16]", { "save-precision" } },
    { "dialect", 0, OPT_STRING, AT(dialect), "NAME",
        "auto, kohya, diffusers, peft, comfyui or bfl [auto]", { NULL } },
    { "include", 0, OPT_LIST, AT(include), "RE", "only modules that match (repeatable)",
        { "include-regex" } },
    { "exclude", 0, OPT_LIST, AT(exclude), "RE", "no modules that match (repeatable)",
        { "exclude-regex" } },
    { "all-modules", 0, OPT_FLAG, AT(all_modules), NULL,
        "also those that only some loaders name", { NULL } },
    { "min-diff", 0, OPT_NUMBER, AT(min_diff), "X",
        "a module is unchanged if no weight moved more [0]", { NULL } },
    { "max-error", 0, OPT_NUMBER, AT(max_error), "E",
        "write nothing and exit 4 if the error is above", { NULL } },
    { "split", 0, OPT_STRING, AT(split), "HOW",
        "singular values: sqrt on both factors, or up [sqrt]", { NULL } },
    { "threads", 'j', OPT_COUNT, AT(threads), "N", "worker threads [all cores]",
        { "num-threads" } },
    { "memory", 0, OPT_SIZE, AT(memory), "SIZE", LT_HELP_MEMORY, { "max-memory" } },
    { "force", 'f', OPT_FLAG, AT(force), NULL, "overwrite the output", { "overwrite" } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

/* Negative: not given. */
static const struct options defaults = { .rank = 32, .alpha = -1, .max_error = -1 };

static double relative(const lt_extracted *m)
{
    return lt_relative_error(m->residual, m->energy);
}

static cJSON *to_json(const lt_extract_report *r, bool verbose)
{
    cJSON *o = cJSON_CreateObject();
    lt_outcome outcome = { r->modules_written, r->modules_unchanged, &r->skipped,
        r->rank_min, r->rank_max, r->error, relative(r->worst), r->worst->name };
    lt_json_add_outcome(o, &outcome);
    cJSON_AddNumberToObject(o, "skipped_share", r->skipped_share);
    cJSON_AddStringToObject(o, "family", r->family);
    cJSON_AddStringToObject(o, "dialect", r->dialect);
    cJSON_AddStringToObject(o, "dtype", r->dtype);
    lt_json_add_cost(o, &r->cost);
    cJSON *modules = verbose ? cJSON_AddArrayToObject(o, "modules") : NULL;
    for (size_t i = 0; modules && i < r->modules_written; i++) {
        const lt_extracted *m = &r->modules[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", m->name);
        cJSON_AddStringToObject(item, "tensor", m->tensor);
        cJSON_AddNumberToObject(item, "rank", (double)m->rank);
        cJSON_AddNumberToObject(item, "norm", sqrt(m->energy));
        cJSON_AddNumberToObject(item, "error", relative(m));
        cJSON_AddNumberToObject(item, "seconds", m->seconds);
        lt_json_append(modules, item);
    }
    return o;
}

static void print_text(FILE *to, const struct options *o, const lt_extract_report *r)
{
    fprintf(to, "%s: %zu modules, ", o->output, r->modules_written);
    lt_print_ranks(to, r->rank_min, r->rank_max);
    fprintf(to, ", %s, %s keys (%s)\n", r->dtype, r->dialect, r->family);
    fprintf(to, "error      %.4g of the change in them; worst %.4g in ", r->error,
        relative(r->worst));
    lt_print_safe(to, r->worst->name);
    fprintf(to, "\nunchanged  %zu modules, %zu other tensors\n", r->modules_unchanged,
        r->rest_unchanged);
    if (r->skipped.count)
        fprintf(to, "left out   %.3g %% of the squared change\n", 100 * r->skipped_share);
    lt_print_notes(to, "not carried", &r->skipped, o->common.verbose);
    for (size_t i = 0; o->common.verbose && i < r->modules_written; i++) {
        const lt_extracted *m = &r->modules[i];
        fprintf(to, "    rank %-4llu norm %-10.4g error %.4g  ",
            (unsigned long long)m->rank, sqrt(m->energy), relative(m));
        lt_print_safe(to, m->name);
        fputc('\n', to);
    }
    fputs("wrote      ", to);
    lt_print_cost(to, &r->cost);
}

static lt_status run(void *filled, int n_args, char **args, lt_error *err)
{
    struct options *o = filled;
    if (n_args) return lt_error_set(err, LT_ERR_ARG, "unexpected operand '%s'", args[0]);
    if (!o->base || !o->tuned || !o->output)
        return lt_error_set(err, LT_ERR_ARG, "--base, --tuned and -o are needed");
    if (!strcmp(o->base, "-") && !strcmp(o->tuned, "-"))
        return lt_error_set(err, LT_ERR_ARG, "standard input can be read once");
    if (o->alpha == 0) return lt_error_set(err, LT_ERR_ARG, "--alpha must be above 0");
    lt_factor_split split;
    if (lt_parse_split(o->split, &split, err)) return LT_ERR_ARG;
    lt_extract_options x = { .base = o->base,
        .tuned = o->tuned,
        .output = o->output,
        .rank = o->rank,
        .conv_rank = o->conv_rank,
        .alpha = o->alpha > 0 ? o->alpha : 0,
        .dtype = o->dtype,
        .dialect = o->dialect,
        .format = o->format,
        .include = o->include.items,
        .exclude = o->exclude.items,
        .min_diff = o->min_diff,
        .max_error = o->max_error >= 0 ? &o->max_error : NULL,
        .all_modules = o->all_modules,
        .overwrite = o->force,
        .threads = o->threads,
        .memory = o->memory,
        .split = split,
        .progress = lt_progress_meter(o->common.quiet) };
    lt_extract_report r;
    FILE *to = lt_report_stream(o->output);
    lt_status st = lt_extract(&x, &r, err);
    if (x.progress.tick) lt_progress_clear();
    if (!st && o->common.json)
        st = lt_print_json(to, to_json(&r, o->common.verbose), err);
    else if (!st && !o->common.quiet)
        print_text(to, o, &r);
    if (st && o->common.verbose) lt_print_notes(stderr, "not carried", &r.skipped, true);
    lt_extract_report_release(&r);
    return st;
}

const lt_command lt_cmd_extract = {
    .name = "extract",
    .summary = "Make an adapter from the difference of two models",
    .synopsis = "--base FILE --tuned FILE -o OUT [OPTION]...",
    .options = options,
    .options_size = sizeof(struct options),
    .defaults = &defaults,
    .run = run,
};
