/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <math.h>
#include <string.h>

struct options {
    lt_common common;
    const char *input, *output, *dtype, *split, *format;
    uint64_t rank, conv_rank;
    double alpha, max_error;
    bool force;
    int threads;
    uint64_t memory;
};

#define AT(field) offsetof(struct options, field)

static const lt_opt options[] = {
    { "output", 'o', OPT_OUTPUT, AT(output), "OUT",
        "adapter file, '-', or folder (DIR/) for PEFT", { "save-to", "out-path" } },
    { "format", 0, OPT_STRING, AT(format), "NAME", LT_HELP_FORMAT, { NULL } },
    { "rank", 'r', OPT_RANK, AT(rank), "R", "the new rank", { "new-rank", "dim" } },
    { "conv-rank", 0, OPT_RANK, AT(conv_rank), "R",
        "rank of convolutions with a kernel [as --rank]",
        { "new-conv-rank", "conv-dim" } },
    { "alpha", 0, OPT_NUMBER, AT(alpha), "A",
        "alpha to store [each module's scale is kept]", { "network-alpha" } },
    { "dtype", 0, OPT_STRING, AT(dtype), "TYPE", "keep, f32, f16 or bf16 [keep]",
        { "save-precision" } },
    { "max-error", 0, OPT_NUMBER, AT(max_error), "E",
        "write nothing and exit 4 if the error is above", { NULL } },
    { "split", 0, OPT_STRING, AT(split), "HOW",
        "singular values: sqrt on both factors, or up [sqrt]", { NULL } },
    { "input", 'i', OPT_STRING, AT(input), "FILE", "the adapter, instead of an operand",
        { "model" } },
    { "threads", 'j', OPT_COUNT, AT(threads), "N", "worker threads [all cores]",
        { "num-threads" } },
    { "memory", 0, OPT_SIZE, AT(memory), "SIZE", LT_HELP_MEMORY, { "max-memory" } },
    { "force", 'f', OPT_FLAG, AT(force), NULL, "overwrite the output", { "overwrite" } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

/* Negative: not given. */
static const struct options defaults = { .alpha = -1, .max_error = -1 };

static double relative(const lt_resized *m)
{
    return lt_relative_error(m->residual, m->energy);
}

static cJSON *to_json(const lt_resize_report *r, bool verbose)
{
    cJSON *o = cJSON_CreateObject();
    lt_outcome outcome = { r->modules_written, r->modules_unchanged, &r->skipped,
        r->rank_min, r->rank_max, r->error, r->worst ? relative(r->worst) : 0,
        r->worst ? r->worst->name : "" };
    lt_json_add_outcome(o, &outcome);
    cJSON_AddNumberToObject(o, "retained", r->retained);
    lt_json_add_notes(o, "dropped", &r->dropped);
    lt_json_add_cost(o, &r->cost);
    size_t n = verbose ? r->modules_written + r->modules_unchanged : 0;
    cJSON *modules = verbose ? cJSON_AddArrayToObject(o, "modules") : NULL;
    for (size_t i = 0; i < n; i++) {
        const lt_resized *m = &r->modules[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", m->name);
        cJSON_AddNumberToObject(item, "rank_before", (double)m->rank_before);
        cJSON_AddNumberToObject(item, "rank", (double)m->rank);
        cJSON_AddNumberToObject(item, "norm", sqrt(m->energy));
        cJSON_AddNumberToObject(item, "retained", m->retained);
        cJSON_AddNumberToObject(item, "error", relative(m));
        lt_json_append(modules, item);
    }
    return o;
}

static void print_text(FILE *to, const struct options *o, const lt_resize_report *r)
{
    fprintf(to, "%s: %zu modules resized, %zu kept, ", o->output, r->modules_written,
        r->modules_unchanged);
    lt_print_ranks(to, r->rank_min, r->rank_max);
    fputc('\n', to);
    fprintf(to, "retained   %.4f of the energy, error %.4g", r->retained, r->error);
    if (r->worst) {
        fprintf(to, "; worst %.4g in ", relative(r->worst));
        lt_print_safe(to, r->worst->name);
    }
    fputc('\n', to);
    lt_print_notes(to, "carried over", &r->skipped, o->common.verbose);
    lt_print_notes(to, "dropped   ", &r->dropped, true);
    size_t n = o->common.verbose ? r->modules_written + r->modules_unchanged : 0;
    for (size_t i = 0; i < n; i++) {
        const lt_resized *m = &r->modules[i];
        fprintf(to, "    rank %llu -> %llu retained %.4f error %.4g  ",
            (unsigned long long)m->rank_before, (unsigned long long)m->rank, m->retained,
            relative(m));
        lt_print_safe(to, m->name);
        fputc('\n', to);
    }
    fputs("wrote      ", to);
    lt_print_cost(to, &r->cost);
}

static lt_status run(void *filled, int n_args, char **args, lt_error *err)
{
    struct options *o = filled;
    if (n_args > 1 || (n_args && o->input))
        return lt_error_set(err, LT_ERR_ARG, "one adapter at a time");
    if (n_args) o->input = args[0];
    if (!o->input || !o->output || !o->rank)
        return lt_error_set(err, LT_ERR_ARG, "an adapter, --rank and -o are needed");
    if (o->alpha == 0) return lt_error_set(err, LT_ERR_ARG, "--alpha must be above 0");
    lt_factor_split split;
    if (lt_parse_split(o->split, &split, err)) return LT_ERR_ARG;
    lt_resize_options x = { .input = o->input,
        .output = o->output,
        .rank = o->rank,
        .conv_rank = o->conv_rank,
        .alpha = o->alpha > 0 ? o->alpha : 0,
        .dtype = o->dtype,
        .format = o->format,
        .max_error = o->max_error >= 0 ? &o->max_error : NULL,
        .overwrite = o->force,
        .threads = o->threads,
        .memory = o->memory,
        .split = split,
        .progress = lt_progress_meter(o->common.quiet) };
    lt_resize_report r;
    FILE *to = lt_report_stream(o->output);
    lt_status st = lt_resize(&x, &r, err);
    if (x.progress.tick) lt_progress_clear();
    if (!st && o->common.json)
        st = lt_print_json(to, to_json(&r, o->common.verbose), err);
    else if (!st && !o->common.quiet)
        print_text(to, o, &r);
    lt_resize_report_release(&r);
    return st;
}

const lt_command lt_cmd_resize = {
    .name = "resize",
    .summary = "Change the rank of an adapter",
    .synopsis = "LORA -o OUT --rank R [OPTION]...",
    .options = options,
    .options_size = sizeof(struct options),
    .defaults = &defaults,
    .run = run,
};
