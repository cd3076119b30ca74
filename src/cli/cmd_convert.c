/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <string.h>

struct options {
    lt_common common;
    const char *output, *format, *dtype, *ema, *to, *consumer, *base, *family;
    uint64_t max_shard_size;
    bool all_tensors, salvage, allow_unmatched, force;
    int threads;
};

#define AT(field) offsetof(struct options, field)

static const lt_opt options[] = {
    { "output", 'o', OPT_OUTPUT, AT(output), "OUT", "file, folder (DIR/) or '-'",
        { "save-to", "out-path" } },
    { "format", 0, OPT_STRING, AT(format), "NAME", LT_HELP_FORMAT, { NULL } },
    { "to", 0, OPT_STRING, AT(to), "WHAT",
        "an adapter's dialect, or a model's layout: diffusers, single", { NULL } },
    { "for", 0, OPT_STRING, AT(consumer), "PROGRAM",
        "of an adapter: as a1111, comfyui, diffusers, ... load it", { NULL } },
    { "base", 0, OPT_STRING, AT(base), "FILE", "the model that the adapter is for",
        { "model-org", "sd-model", "base-model" } },
    { "family", 0, OPT_STRING, AT(family), "NAME",
        "without --base: the family of that model", { NULL } },
    { "allow-unmatched", 0, OPT_FLAG, AT(allow_unmatched), NULL,
        "leave out what has no place in the output", { NULL } },
    { "dtype", 0, OPT_STRING, AT(dtype), "TYPE",
        "keep, f32, f16 or bf16 for all weights [keep]", { "save-precision" } },
    { "ema", 0, OPT_STRING, AT(ema), "HOW",
        "averaged copies of weights: keep, drop or use [keep]", { NULL } },
    { "max-shard-size", 0, OPT_SIZE, AT(max_shard_size), "SIZE", LT_HELP_SHARDS,
        { "out-shard-size" } },
    { "all-tensors", 'a', OPT_FLAG, AT(all_tensors), NULL,
        "of a checkpoint everything, under full paths", { NULL } },
    { "salvage", 0, OPT_FLAG, AT(salvage), NULL,
        "also from a pickle that would run code elsewhere", { NULL } },
    { "threads", 'j', OPT_COUNT, AT(threads), "N", "worker threads [all cores]",
        { "num-threads" } },
    { "force", 'f', OPT_FLAG, AT(force), NULL, "overwrite the output", { "overwrite" } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

static cJSON *to_json(const lt_convert_report *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "from", r->from);
    cJSON_AddNumberToObject(o, "tensors", (double)r->tensors);
    cJSON_AddNumberToObject(o, "cast", (double)r->cast);
    cJSON_AddNumberToObject(o, "shared", (double)r->shared);
    cJSON_AddNumberToObject(o, "copies", (double)r->copies);
    cJSON_AddNumberToObject(o, "ema_dropped", (double)r->ema_dropped);
    cJSON_AddNumberToObject(o, "ema_used", (double)r->ema_used);
    cJSON_AddNumberToObject(o, "files", (double)r->files);
    cJSON_AddNumberToObject(o, "sidecars", (double)r->sidecars);
    lt_json_add_notes(o, "dropped", &r->dropped);
    lt_json_add_notes(o, "globals", &r->globals);
    lt_json_add_cost(o, &r->cost);
    return o;
}

static void print_text(FILE *to, const struct options *o, const lt_convert_report *r)
{
    fprintf(to, "%s: %zu tensors from %s", o->output, r->tensors, r->from);
    if (r->files > 1) fprintf(to, ", %zu files", r->files);
    if (r->sidecars) fprintf(to, " (%zu copied as they are)", r->sidecars);
    fputc('\n', to);
    if (r->cast) fprintf(to, "cast       %zu tensors\n", r->cast);
    if (r->shared)
        fprintf(to, "shared     %zu tensors are the memory of others\n", r->shared);
    if (r->copies)
        fprintf(to, "copies     %zu tensors that were the memory of others\n", r->copies);
    if (r->ema_dropped) fprintf(to, "EMA        %zu tensors left out\n", r->ema_dropped);
    if (r->ema_used)
        fprintf(to, "EMA        %zu weights replaced by their averages\n", r->ema_used);
    lt_print_notes(to, "globals   ", &r->globals, true);
    lt_print_notes(to, "dropped   ", &r->dropped, true);
    fputs("wrote      ", to);
    lt_print_cost(to, &r->cost);
}

static cJSON *respelled_json(const lt_respell_report *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "from", r->from);
    cJSON_AddStringToObject(o, "to", r->to);
    cJSON_AddStringToObject(o, "family", r->family);
    cJSON_AddNumberToObject(o, "modules_read", (double)r->modules_read);
    cJSON_AddNumberToObject(o, "modules_written", (double)r->modules_written);
    cJSON_AddNumberToObject(o, "modules_folded", (double)r->modules_folded);
    lt_json_add_notes(o, "assumed", &r->assumed);
    lt_json_add_notes(o, "unmatched", &r->unmatched);
    lt_json_add_notes(o, "dropped", &r->dropped);
    lt_json_add_cost(o, &r->cost);
    return o;
}

static void print_respelled(FILE *to, const struct options *o, const lt_respell_report *r)
{
    fprintf(to, "%s: %zu modules from %zu, %s keys from %s\n", o->output,
        r->modules_written, r->modules_read, r->to, r->from);
    if (r->modules_folded)
        fprintf(to, "folded     the scale of %zu modules into their factors\n",
            r->modules_folded);
    lt_print_notes(to, "assumed   ", &r->assumed, true);
    lt_print_notes(to, "unmatched ", &r->unmatched, true);
    lt_print_notes(to, "dropped   ", &r->dropped, true);
    fputs("wrote      ", to);
    lt_print_cost(to, &r->cost);
}

static cJSON *relaid_json(const lt_relayout_report *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "family", r->family);
    cJSON_AddNumberToObject(o, "tensors", (double)r->tensors);
    lt_json_add_notes(o, "unmatched", &r->unmatched);
    lt_json_add_notes(o, "dropped", &r->dropped);
    lt_json_add_notes(o, "missing", &r->missing);
    lt_json_add_cost(o, &r->cost);
    return o;
}

static void print_relaid(FILE *to, const struct options *o, const lt_relayout_report *r)
{
    fprintf(to, "%s: %zu tensors, %s\n", o->output, r->tensors,
        o->to && !strcmp(o->to, "single") ? "as published" : "as diffusers has them");
    lt_print_notes(to, "unmatched ", &r->unmatched, true);
    lt_print_notes(to, "dropped   ", &r->dropped, true);
    lt_print_notes(to, "missing   ", &r->missing, true);
    fputs("wrote      ", to);
    lt_print_cost(to, &r->cost);
}

/* Options that do not go with --to; model: the input is one. */
static lt_status check_respelling(const struct options *o, bool model, lt_error *err)
{
    const char *wrong = NULL;
    const char *asked = o->to ? "to" : "for";
    if (o->to && o->consumer)
        return lt_error_set(err, LT_ERR_ARG, "--to and --for exclude each other");
    if (o->base && o->family) wrong = "family";
    if (model && o->dtype) wrong = "dtype";
    if (o->ema) wrong = "ema";
    if (o->max_shard_size) wrong = "max-shard-size";
    if (o->all_tensors) wrong = "all-tensors";
    if (o->salvage) wrong = "salvage";
    if (o->threads) wrong = "threads";
    if (!wrong) return LT_OK;
    return lt_error_set(err, LT_ERR_ARG, "--%s does not go with --%s", wrong, asked);
}

static lt_status respell(
    const struct options *o, const char *input, lt_adapter *adapter, lt_error *err)
{
    lt_respell_options x = { .input = input,
        .adapter = adapter,
        .output = o->output,
        .base = o->base,
        .family = o->family,
        .to = o->to,
        .consumer = o->consumer,
        .format = o->format,
        .dtype = o->dtype,
        .allow_unmatched = o->allow_unmatched,
        .overwrite = o->force };
    lt_respell_report r;
    FILE *to = lt_report_stream(o->output);
    lt_status st = lt_respell(&x, &r, err);
    if (!st && o->common.json)
        st = lt_print_json(to, respelled_json(&r), err);
    else if (!st && !o->common.quiet)
        print_respelled(to, o, &r);
    lt_respell_report_release(&r);
    return st;
}

static lt_status relayout(
    const struct options *o, const char *input, lt_store *store, lt_error *err)
{
    lt_relayout_options x = { .input = input,
        .store = store,
        .output = o->output,
        .to = o->to,
        .format = o->format,
        .allow_unmatched = o->allow_unmatched,
        .overwrite = o->force };
    lt_relayout_report r;
    FILE *to = lt_report_stream(o->output);
    lt_status st = lt_relayout(&x, &r, err);
    if (!st && o->common.json)
        st = lt_print_json(to, relaid_json(&r), err);
    else if (!st && !o->common.quiet)
        print_relaid(to, o, &r);
    lt_relayout_report_release(&r);
    return st;
}

/* Without a base the input says whether it is an adapter or a model. */
static lt_status rewrite(const struct options *o, const char *input, lt_error *err)
{
    lt_info info = { 0 };
    lt_status st = check_respelling(o, false, err);
    if (!st && !o->base) st = lt_info_open(&info, input, err);
    bool model = info.role != LT_ROLE_ADAPTER && !o->base;
    if (!st && model && o->consumer)
        st = lt_error_set(err, LT_ERR_ARG, "--for is for adapters, and this is none");
    if (!st) st = check_respelling(o, model, err);
    lt_adapter *adapter = info.adapter;
    lt_store *store = info.owned_store;
    if (!st) {
        info.adapter = NULL;
        info.owned_store = NULL;
    }
    lt_info_release(&info);
    if (st) return st;
    return model ? relayout(o, input, store, err) : respell(o, input, adapter, err);
}

static lt_status parse_ema(const char *text, lt_ema *ema, lt_error *err)
{
    static const char *const words[] = { "keep", "drop", "use" };
    *ema = LT_EMA_KEEP;
    for (int i = 0; i < 3 && text; i++) {
        if (strcmp(words[i], text)) continue;
        *ema = (lt_ema)i;
        return LT_OK;
    }
    if (!text) return LT_OK;
    return lt_error_set(err, LT_ERR_ARG, "--ema takes keep, drop or use, not '%s'", text);
}

static lt_status run(void *filled, int n_args, char **args, lt_error *err)
{
    struct options *o = filled;
    lt_ema ema;
    if (n_args != 1 || !o->output)
        return lt_error_set(err, LT_ERR_ARG, "one input and -o are needed");
    if (o->to || o->consumer) return rewrite(o, args[0], err);
    if (o->base || o->family)
        return lt_error_set(err, LT_ERR_ARG, "--base and --family go with --to or --for");
    if (parse_ema(o->ema, &ema, err)) return LT_ERR_ARG;
    lt_convert_options x = { .input = args[0],
        .output = o->output,
        .format = o->format,
        .dtype = o->dtype,
        .ema = ema,
        .max_shard_size = o->max_shard_size,
        .everything = o->all_tensors,
        .salvage = o->salvage,
        .allow_unmatched = o->allow_unmatched,
        .overwrite = o->force,
        .threads = o->threads,
        .progress = lt_progress_meter(o->common.quiet) };
    lt_convert_report r;
    FILE *to = lt_report_stream(o->output);
    lt_status st = lt_convert(&x, &r, err);
    if (x.progress.tick) lt_progress_clear();
    if (!st && o->common.json)
        st = lt_print_json(to, to_json(&r), err);
    else if (!st && !o->common.quiet)
        print_text(to, o, &r);
    lt_convert_report_release(&r);
    return st;
}

static const char notes[] =
    "IN is a safetensors or torch file, a sharded model's index, a folder or '-'.\n";

const lt_command lt_cmd_convert = {
    .name = "convert",
    .summary = "Copy tensors into another container",
    .synopsis = "IN -o OUT [OPTION]...",
    .options = options,
    .options_size = sizeof(struct options),
    .notes = notes,
    .run = run,
};
