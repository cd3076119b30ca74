/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct options {
    lt_common common;
    const char *base, *output, *dtype, *format, *enable_lora;
    double alpha;
    uint64_t max_shard_size;
    bool allow_unmatched, dry_run, untie, force;
    int threads;
    uint64_t memory;
};

#define AT(field) offsetof(struct options, field)

static const lt_opt options[] = {
    { "base", 0, OPT_STRING, AT(base), "FILE", "the model to merge into",
        { "model-org", "sd-model", "base-model" } },
    { "output", 'o', OPT_OUTPUT, AT(output), "OUT",
        "the merged model: file, folder (DIR/) or '-'", { "save-to", "out-path" } },
    { "format", 0, OPT_STRING, AT(format), "NAME", LT_HELP_FORMAT, { NULL } },
    { "max-shard-size", 0, OPT_SIZE, AT(max_shard_size), "SIZE", LT_HELP_SHARDS,
        { "out-shard-size" } },
    { "dtype", 0, OPT_STRING, AT(dtype), "TYPE",
        "keep, f32, f16 or bf16 for all weights [keep]", { "save-precision" } },
    { "allow-unmatched", 0, OPT_FLAG, AT(allow_unmatched), NULL,
        "merge what fits although something does not", { NULL } },
    { "alpha", 0, OPT_NUMBER, AT(alpha), "A",
        "alpha of adapters that hold none, as loralib's", { "lora-alpha" } },
    { "enable-lora", 0, OPT_STRING, AT(enable_lora), "LIST",
        "blocks of fused weights that loralib changes: 1,0,1", { NULL } },
    { "untie", 0, OPT_FLAG, AT(untie), NULL,
        "change a weight although its tied twin stays", { NULL } },
    { "dry-run", 'n', OPT_FLAG, AT(dry_run), NULL, "print the plan, write nothing",
        { NULL } },
    { "threads", 'j', OPT_COUNT, AT(threads), "N", "worker threads [all cores]",
        { "num-threads" } },
    { "memory", 0, OPT_SIZE, AT(memory), "SIZE", LT_HELP_MEMORY, { "max-memory" } },
    { "force", 'f', OPT_FLAG, AT(force), NULL, "overwrite the output", { "overwrite" } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

static const char notes[] =
    "LORA is an adapter file, a PEFT folder or '-'; ':WEIGHT' multiplies it and may\n"
    "be negative (un-merge). A file whose name ends like a weight is found as it is.\n";

/* LORA[:WEIGHT]; arg is cut at the colon. */
static lt_status parse_input(char *arg, lt_merge_input *in, lt_error *err)
{
    char *colon = strrchr(arg, ':'), *end;
    *in = (lt_merge_input){ arg, 1 };
    if (!colon || colon == arg || !access(arg, F_OK)) return LT_OK;
    double v = strtod(colon + 1, &end);
    if (end == colon + 1 || *end) return LT_OK; /* a colon that belongs to the name */
    if (!isfinite(v))
        return lt_error_set(err, LT_ERR_ARG, "the weight in '%s' is not finite", arg);
    *colon = '\0';
    in->weight = v;
    return LT_OK;
}

static cJSON *to_json(const lt_merge_report *r, bool plan)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "modules_applied", (double)r->modules_applied);
    lt_json_add_notes(o, "unmatched", &r->unmatched);
    lt_json_add_notes(o, "assumed", &r->assumed);
    lt_json_add_notes(o, "redundant", &r->redundant);
    cJSON_AddNumberToObject(o, "tensors_changed", (double)r->tensors_changed);
    cJSON_AddNumberToObject(o, "tensors_replaced", (double)r->tensors_replaced);
    cJSON_AddNumberToObject(o, "tensors_cast", (double)r->tensors_cast);
    cJSON_AddNumberToObject(
        o, "tensors_passed_through", (double)r->tensors_passed_through);
    cJSON_AddNumberToObject(o, "files", (double)r->files);
    cJSON_AddNumberToObject(o, "sidecars", (double)r->sidecars);
    lt_json_add_notes(o, "dropped", &r->dropped);
    if (r->base_family) cJSON_AddStringToObject(o, "family", r->base_family);
    lt_json_add_cost(o, &r->cost);
    cJSON *list = plan ? cJSON_AddArrayToObject(o, "plan") : NULL;
    for (size_t i = 0; list && i < r->n_applied; i++) {
        const lt_applied *a = &r->applied[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "adapter", a->input);
        cJSON_AddStringToObject(item, "module", a->module);
        cJSON_AddStringToObject(item, "tensor", a->tensor);
        cJSON_AddNumberToObject(item, "first_row", (double)a->row0);
        cJSON_AddNumberToObject(item, "rows", (double)a->rows);
        cJSON_AddNumberToObject(item, "from_row", (double)a->first);
        cJSON_AddNumberToObject(item, "rank", (double)a->rank);
        cJSON_AddNumberToObject(item, "alpha", a->alpha);
        cJSON_AddNumberToObject(item, "factor", a->factor);
        lt_json_append(list, item);
    }
    return o;
}

static void print_plan(FILE *to, const lt_merge_report *r)
{
    for (size_t i = 0; i < r->n_applied; i++) {
        const lt_applied *a = &r->applied[i];
        lt_print_safe(to, a->module);
        fputs(" -> ", to);
        lt_print_safe(to, a->tensor);
        fprintf(to, "[%llu:%llu] (%llu x %llu) rank %llu alpha %g factor %g\n",
            (unsigned long long)a->row0, (unsigned long long)(a->row0 + a->rows),
            (unsigned long long)a->out, (unsigned long long)a->in,
            (unsigned long long)a->rank, a->alpha, a->factor);
    }
}

static void print_text(FILE *to, const struct options *o, const lt_merge_report *r)
{
    if (o->dry_run || o->common.verbose) print_plan(to, r);
    fprintf(to, "%s: %zu modules applied to %zu tensors, %zu tensors passed through%s\n",
        o->dry_run ? "plan" : o->output, r->modules_applied, r->tensors_changed,
        r->tensors_passed_through, r->tensors_cast ? "" : " byte for byte");
    if (r->tensors_replaced)
        fprintf(to, "replaced   %zu tensors by the adapter's own\n", r->tensors_replaced);
    if (r->tensors_cast) fprintf(to, "cast       %zu tensors\n", r->tensors_cast);
    lt_print_notes(to, "unmatched ", &r->unmatched, true);
    lt_print_notes(to, "assumed   ", &r->assumed, true);
    lt_print_notes(to, "redundant ", &r->redundant, true);
    bool few = r->dropped.count <= 10;
    lt_print_notes(to, "dropped   ", &r->dropped, few || o->common.verbose);
    if (o->dry_run) return;
    if (r->files > 1)
        fprintf(to, "files      %zu (%zu of them copied beside the weights)\n", r->files,
            r->sidecars);
    fputs("wrote      ", to);
    lt_print_cost(to, &r->cost);
}

/* What did not fit, at most ten lines, on a failed run. */
static void print_misfits(const lt_merge_report *r)
{
    const size_t most = 8;
    for (size_t i = 0; i < r->unmatched.count && i < most; i++) {
        fputs("  ", stderr);
        lt_print_safe(stderr, r->unmatched.items[i].name);
        fputs(": ", stderr);
        lt_print_safe(stderr, r->unmatched.items[i].reason);
        fputc('\n', stderr);
    }
    if (r->unmatched.count > most)
        fprintf(stderr, "  and %zu more\n", r->unmatched.count - most);
}

#define MOST_BLOCKS 32

/* "1,0,1" or "True,False,True" */
static lt_status parse_blocks(
    const char *text, bool blocks[MOST_BLOCKS], size_t *count, lt_error *err)
{
    for (const char *p = text; p && *count < MOST_BLOCKS;) {
        size_t n = strcspn(p, ", ");
        bool on = (n == 1 && *p == '1') || (n == 4 && !strncasecmp(p, "true", 4));
        bool off = (n == 1 && *p == '0') || (n == 5 && !strncasecmp(p, "false", 5));
        if (!on && !off) break;
        blocks[(*count)++] = on;
        p += n;
        if (!*p) return LT_OK;
        p += strspn(p, ", ");
    }
    return lt_error_set(
        err, LT_ERR_ARG, "--enable-lora takes a list like 1,0,1, not '%s'", text);
}

static lt_status merge(struct options *o, lt_merge_input *inputs, size_t n, lt_error *err)
{
    bool blocks[MOST_BLOCKS];
    size_t n_blocks = 0;
    if (o->enable_lora && parse_blocks(o->enable_lora, blocks, &n_blocks, err))
        return LT_ERR_ARG;
    lt_merge_options x = { .base = o->base,
        .output = o->output,
        .inputs = inputs,
        .n_inputs = n,
        .dtype = o->dtype,
        .format = o->format,
        .max_shard_size = o->max_shard_size,
        .alpha = o->alpha,
        .enable_lora = n_blocks ? blocks : NULL,
        .n_enable_lora = n_blocks,
        .untie = o->untie,
        .allow_unmatched = o->allow_unmatched,
        .dry_run = o->dry_run,
        .overwrite = o->force,
        .threads = o->threads,
        .memory = o->memory,
        .progress = lt_progress_meter(o->common.quiet) };
    lt_merge_report r;
    FILE *to = lt_report_stream(o->output);
    lt_status st = lt_merge(&x, &r, err);
    if (x.progress.tick) lt_progress_clear();
    if (!st && o->common.json)
        st = lt_print_json(to, to_json(&r, o->dry_run || o->common.verbose), err);
    else if (!st && !o->common.quiet)
        print_text(to, o, &r);
    if (st == LT_ERR_MISMATCH) print_misfits(&r);
    lt_merge_report_release(&r);
    return st;
}

static lt_status run(void *filled, int n_args, char **args, lt_error *err)
{
    struct options *o = filled;
    if (!o->base || (!o->output && !o->dry_run))
        return lt_error_set(err, LT_ERR_ARG, "--base and -o are needed");
    if (!n_args) return lt_error_set(err, LT_ERR_ARG, "no adapter is given");
    lt_merge_input *inputs = calloc((size_t)n_args, sizeof *inputs);
    if (!inputs) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    lt_status st = LT_OK;
    int piped = !strcmp(o->base, "-");
    for (int i = 0; i < n_args && !st; i++) {
        st = parse_input(args[i], &inputs[i], err);
        piped += !strcmp(inputs[i].path, "-");
    }
    if (!st && piped > 1)
        st = lt_error_set(err, LT_ERR_ARG, "standard input can be read once");
    if (!st) st = merge(o, inputs, (size_t)n_args, err);
    free(inputs);
    return st;
}

const lt_command lt_cmd_merge = {
    .name = "merge",
    .summary = "Bake adapters into a base model",
    .synopsis = "--base FILE LORA[:WEIGHT]... -o OUT [OPTION]...",
    .options = options,
    .options_size = sizeof(struct options),
    .notes = notes,
    .run = run,
};
