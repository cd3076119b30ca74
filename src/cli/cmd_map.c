/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <stdlib.h>

struct options {
    lt_common common;
    const char *base;
    bool allow_unmatched;
};

#define AT(field) offsetof(struct options, field)

static const lt_opt options[] = {
    { "base", 0, OPT_STRING, AT(base), "FILE", "the model the modules are looked up in",
        { "model-org", "sd-model", "base-model" } },
    { "allow-unmatched", 0, OPT_FLAG, AT(allow_unmatched), NULL,
        "exit 0 although something finds no place", { NULL } },
    { NULL, 0, OPT_FLAG, 0, NULL, NULL, { NULL } },
};

static const char notes[] =
    "A line is a module, the rows of the base's tensor that it changes, the shape of "
    "the\n"
    "change, rank and alpha. What fits nothing, on either side, is listed last.\n";

/* module -> tensor[rows] SHAPE rank R alpha A */
static void print_place(FILE *to, const lt_applied *a)
{
    lt_print_safe(to, a->module);
    if (a->rows != a->out && a->first + a->rows <= a->out)
        fprintf(to, "[%llu:%llu]", (unsigned long long)a->first,
            (unsigned long long)(a->first + a->rows));
    fputs(" -> ", to);
    lt_print_safe(to, a->tensor);
    fprintf(to, "[%llu:%llu] %llux%llu rank %llu alpha %g\n", (unsigned long long)a->row0,
        (unsigned long long)(a->row0 + a->rows), (unsigned long long)a->out,
        (unsigned long long)a->in, (unsigned long long)a->rank, a->alpha);
}

static void print_list(const char *title, const lt_notes *list)
{
    for (size_t i = 0; i < list->count; i++) {
        printf("%s ", title);
        lt_print_safe(stdout, list->items[i].name);
        fputs(": ", stdout);
        lt_print_safe(stdout, list->items[i].reason);
        putchar('\n');
    }
}

static void print_text(const lt_merge_report *r)
{
    for (size_t i = 0; i < r->n_applied; i++)
        print_place(stdout, &r->applied[i]);
    print_list("assumed", &r->assumed);
    print_list("unmatched", &r->unmatched);
    print_list("redundant", &r->redundant);
    if (r->tensors_replaced)
        printf("replaced  %zu tensors of the base by the adapter's own\n",
            r->tensors_replaced);
    for (size_t i = 0; i < r->untouched.count; i++) {
        fputs("untouched ", stdout);
        lt_print_safe(stdout, r->untouched.items[i].name);
        putchar('\n');
    }
}

static cJSON *place_json(const lt_applied *a)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "module", a->module);
    cJSON_AddStringToObject(o, "tensor", a->tensor);
    cJSON_AddNumberToObject(o, "first_row", (double)a->row0);
    cJSON_AddNumberToObject(o, "rows", (double)a->rows);
    cJSON_AddNumberToObject(o, "from_row", (double)a->first);
    cJSON_AddNumberToObject(o, "out", (double)a->out);
    cJSON_AddNumberToObject(o, "in", (double)a->in);
    cJSON_AddNumberToObject(o, "rank", (double)a->rank);
    cJSON_AddNumberToObject(o, "alpha", a->alpha);
    return o;
}

static cJSON *to_json(const lt_merge_report *r)
{
    cJSON *o = cJSON_CreateObject();
    if (r->base_family) cJSON_AddStringToObject(o, "family", r->base_family);
    cJSON_AddNumberToObject(o, "modules", (double)r->modules_applied);
    cJSON *list = cJSON_AddArrayToObject(o, "map");
    for (size_t i = 0; list && i < r->n_applied; i++)
        lt_json_append(list, place_json(&r->applied[i]));
    lt_json_add_notes(o, "unmatched", &r->unmatched);
    lt_json_add_notes(o, "assumed", &r->assumed);
    lt_json_add_notes(o, "redundant", &r->redundant);
    cJSON_AddNumberToObject(o, "tensors_replaced", (double)r->tensors_replaced);
    lt_json_add_notes(o, "untouched", &r->untouched);
    return o;
}

static lt_status run(void *filled, int n_args, char **args, lt_error *err)
{
    struct options *o = filled;
    if (!o->base) return lt_error_set(err, LT_ERR_ARG, "--base is needed");
    if (n_args != 1) return lt_error_set(err, LT_ERR_ARG, "one adapter is needed");
    lt_merge_input input = { args[0], 1 };
    lt_merge_options x = {
        .base = o->base, .inputs = &input, .n_inputs = 1, .dry_run = true, .explain = true
    };
    lt_merge_report r;
    lt_status st = lt_merge(&x, &r, err);
    if (!st && o->common.json)
        st = lt_print_json(stdout, to_json(&r), err);
    else if (!st && !o->common.quiet)
        print_text(&r);
    if (!st && r.unmatched.count && !o->allow_unmatched)
        st = lt_error_set(err, LT_ERR_MISMATCH,
            "%zu of the adapter's modules or tensors do not fit the base; %s",
            r.unmatched.count, r.cause);
    lt_merge_report_release(&r);
    return st;
}

const lt_command lt_cmd_map = {
    .name = "map",
    .summary = "Show which weights an adapter changes",
    .synopsis = "ADAPTER --base FILE [OPTION]...",
    .options = options,
    .options_size = sizeof(struct options),
    .notes = notes,
    .run = run,
};
