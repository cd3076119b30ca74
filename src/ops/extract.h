/* SPDX-License-Identifier: MIT */
/* extract in two steps: a plan (which modules, which ranks: cheap) and the factors. */
#ifndef LT_OPS_EXTRACT_H
#define LT_OPS_EXTRACT_H

#include "ops/difference.h"

typedef struct lt_extract_item {
    const lt_site *site;
    lt_region region;
    char *name; /* module name in the dialect, in the run's arena */
    uint64_t rank;
    size_t out_index; /* in the adapter being written */
} lt_extract_item;

typedef struct lt_extract_run {
    const lt_extract_options *options;
    lt_extract_report *report;
    lt_store *base, *tuned;
    lt_model *model;
    /* Set where the tuned model has another layout than the base. */
    lt_model *tuned_model;
    lt_alias_map *tuned_names;
    bool
        *tuned_used; /* of each tensor of tuned: a site of the base is compared with it */
    const lt_dialect *dialect;
    lt_dtype dtype;
    int threads;
    lt_filter filter;
    lt_arena arena;
    lt_extract_item *items; /* modules to write */
    size_t n_items, items_capacity;
    double skipped_energy;
    lt_scratch *scratch; /* one a thread */
} lt_extract_run;

/* Opens the inputs, decides dialect and dtype. */
lt_status lt_extract_open(lt_extract_run *run, lt_error *err) LT_MUST_USE;
/* Compares every tensor and makes the list of items. */
lt_status lt_extract_plan(lt_extract_run *run, lt_error *err) LT_MUST_USE;

#endif
