/* SPDX-License-Identifier: MIT */
/* merge in two steps: resolve every adapter module to a site (of the weights only those
 * are read that an adapter repeats), then
 * one work item a base tensor. */
#ifndef LT_OPS_MERGE_H
#define LT_OPS_MERGE_H

#include "ops/common.h"
#include "ops/merge_tile.h"

/* factor * up * down goes to the site's rows. A bias counts as a site of one column, to
 * which a vector (an up factor beside the number 1) is added. */
typedef struct lt_contribution {
    size_t input; /* adapter */
    const lt_module *module;
    const lt_site *site;
    uint64_t first; /* the module's row that goes to the site's first one */
    double factor;
    bool spread; /* up's row groups go to the blocks that enable_lora names */
    bool bias;   /* the module's LT_PART_UP_BIAS, not its factors */
} lt_contribution;

/* A tensor of an adapter that takes the place of the base's. */
typedef struct lt_replacement {
    const lt_store *store;
    const lt_tensor *tensor; /* NULL: none */
} lt_replacement;

typedef struct lt_merge_run {
    const lt_merge_options *options;
    lt_merge_report *report;
    lt_store *base;
    lt_model *model;
    lt_adapter **adapters;
    lt_contribution *parts; /* sorted by tensor, then by input */
    size_t n_parts, parts_capacity;
    size_t *first_part;           /* of each base tensor, count + 1 entries */
    lt_replacement *replacements; /* of each base tensor */
    bool alpha_used;
    lt_arena arena;
    bool cast;
    lt_dtype dtype;
    int threads;
} lt_merge_run;

/* Opens everything and fills parts, first_part and the report's lists. Unmatched modules
 * are LT_ERR_MISMATCH unless the options allow them. */
lt_status lt_merge_plan(lt_merge_run *run, lt_error *err) LT_MUST_USE;
/* Base tensor t is changed or replaced. */
bool lt_merge_touches(const lt_merge_run *run, size_t t);

/* The contributions to base tensor t as addends of sum, whose types and columns the
 * caller has set. lt_merge_unload whatever the outcome. */
lt_status lt_merge_load(
    const lt_merge_run *run, size_t t, lt_sum *sum, lt_error *err) LT_MUST_USE;
void lt_merge_unload(lt_sum *sum);

#endif
