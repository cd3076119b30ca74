/* SPDX-License-Identifier: MIT */
#include "ops/extract.h"

#include "base/limits.h"
#include "base/pool.h"
#include "model/family.h"
#include "ops/cast.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A base tensor without sites, or one site: something whose change is looked at. */
struct look {
    const lt_site *site;
    lt_region region;
    const char *reason; /* why it will not be carried; NULL: it will */
    bool changed;
    double energy; /* when it is not carried */
};

struct looks {
    lt_extract_run *run;
    struct look *items;
    size_t count, capacity;
};

static lt_status choose_dialect(lt_extract_run *run, lt_error *err)
{
    const char *asked = run->options->dialect;
    bool folder = lt_adapter_path_is_folder(run->options->output);
    if (asked && strcmp(asked, "auto")) {
        run->dialect = lt_dialect_by_id(asked);
        if (!run->dialect)
            return lt_error_set(err, LT_ERR_ARG,
                "unknown dialect '%s' (auto, kohya, diffusers, peft, comfyui or bfl)",
                asked);
    } else {
        lt_naming naming = lt_family_naming(lt_model_family(run->model));
        run->dialect = lt_dialect_of_naming(folder ? LT_NAMING_PEFT : naming);
    }
    bool peft_folder = folder && lt_dialect_naming(run->dialect) == LT_NAMING_PEFT;
    if (run->options->alpha != 0 && !lt_dialect_holds_alpha(run->dialect) && !peft_folder)
        return lt_error_set(err, LT_ERR_ARG,
            "a %s file holds no alpha: leave --alpha out, write kohya, or a PEFT folder",
            lt_dialect_id(run->dialect));
    return LT_OK;
}

static lt_status choose_dtype(lt_extract_run *run, lt_error *err)
{
    bool has;
    lt_status st = lt_parse_dtype(run->options->dtype, &has, &run->dtype, err);
    if (st || has) return st;
    uint64_t bf16 = 0, all = 0;
    for (size_t i = 0; i < lt_store_count(run->tuned); i++) {
        const lt_tensor *t = lt_store_at(run->tuned, i);
        if (!lt_dtype_get(t->dtype)->is_float) continue;
        all += t->count;
        if (t->dtype == LT_BF16) bf16 += t->count;
    }
    run->dtype = 2 * bf16 > all ? LT_BF16 : LT_F16;
    return LT_OK;
}

static bool same_shape(const lt_tensor *a, const lt_tensor *b)
{
    return a->n_dims == b->n_dims
        && !memcmp(a->shape, b->shape, a->n_dims * sizeof *a->shape);
}

/* Why a site whose weight changed is left out, or NULL. */
static const char *site_reason(const lt_extract_run *run, const lt_site *s)
{
    char name[768];
    lt_naming naming = lt_dialect_naming(run->dialect);
    lt_site_name(s, naming, name, sizeof name);
    if (!*name) return "the dialect has no name for this part of the model";
    if (s->out > LT_MAX_SIDE || s->in > LT_MAX_SIDE) return "a side is over the ceiling";
    if (!lt_filter_passes(&run->filter, s->tensor->name, name)) return "filtered out";
    if (naming == LT_NAMING_KOHYA && !s->standard && !run->options->all_modules)
        return "outside the modules kohya-style loaders name (--all-modules adds it)";
    return NULL;
}

static lt_status add_look(struct looks *l, const struct look *item, lt_error *err)
{
    lt_status st =
        lt_grow((void **)&l->items, &l->capacity, l->count + 1, sizeof *l->items, err);
    if (!st) l->items[l->count++] = *item;
    return st;
}

static lt_status add_whole(
    struct looks *l, const lt_tensor *a, const lt_tensor *b, lt_error *err)
{
    lt_extract_run *run = l->run;
    lt_rest rest = lt_model_rest(run->model, a);
    /* A site whose tuned side has a type that is not computed with ends here too. */
    if (rest == LT_REST_NONE) rest = LT_REST_DTYPE;
    struct look item = { .reason = lt_rest_text(rest),
        .region = {
            .base = run->base, .tuned = run->tuned, .a = a, .b = b, .count = a->count } };
    return add_look(l, &item, err);
}

static lt_status add_tensor(struct looks *l, const lt_tensor *a, lt_error *err)
{
    lt_extract_run *run = l->run;
    const lt_tensor *b = lt_store_find(run->tuned, a->name);
    if (!b && run->tuned_names && lt_model_rest(run->model, a) == LT_REST_NONE)
        return LT_OK; /* sites, too */
    if (!b && run->tuned_names)
        return lt_notes_add(&run->report->skipped, a->name, 0, err,
            "%s: not compared, the models' layouts differ",
            lt_rest_text(lt_model_rest(run->model, a)));
    if (!b)
        return lt_notes_add(&run->report->skipped, a->name, 0, err, "only in the base");
    if (!same_shape(a, b)) {
        char from[160], to[160];
        lt_tensor_shape_text(a, from, sizeof from);
        lt_tensor_shape_text(b, to, sizeof to);
        return lt_notes_add(&run->report->skipped, a->name, 0, err,
            "shape changes from %s to %s", from, to);
    }
    bool computes = lt_dtype_get(a->dtype)->computes && lt_dtype_get(b->dtype)->computes;
    if (lt_model_rest(run->model, a) == LT_REST_NONE && computes)
        return LT_OK; /* sites */
    return add_whole(l, a, b, err);
}

/* Of a fused weight either the whole or its parts are looked at: what the dialect names.
 */
static bool serves(const lt_extract_run *run, const lt_site *s)
{
    return lt_site_serves(s, lt_dialect_naming(run->dialect));
}

/* Why a site that the dialect does not name is not carried by another one either. */
static const char *unserved_reason(const lt_extract_run *run, const lt_site *s)
{
    const lt_site *end = lt_model_site(run->model, 0) + lt_model_site_count(run->model);
    if (s->component->is_public && s->parts > 1)
        return "the dialect names the fused module, which this file keeps apart "
               "(--dialect diffusers)";
    bool has_parts = s + 1 < end && s[1].tensor == s->tensor;
    return *s->path || has_parts ? NULL : "the dialect has no name for it";
}

/* The site's name in the naming whose rows stand like those of the base. */
static void stored_name(const lt_site *s, char *name, size_t size)
{
    for (int naming = 0; naming < LT_NAMING_COUNT; naming++) {
        if (lt_site_swaps(s, (lt_naming)naming)) continue;
        lt_site_name(s, (lt_naming)naming, name, size);
        if (*name) return;
    }
}

/* Where the tuned model keeps the site's elements; nothing when it does not, or not in
 * order. */
static lt_match find_in_tuned(const lt_extract_run *run, const lt_site *s)
{
    char name[768] = "";
    stored_name(s, name, sizeof name);
    lt_match match = lt_alias_find(run->tuned_names, name);
    bool fits = match.n_pieces && match.out == s->out && match.in == s->in;
    for (size_t i = 0; i < match.n_pieces && fits; i++) {
        const lt_site *t = match.pieces[i].site;
        fits = t->transposed == s->transposed && (!s->transposed || match.n_pieces == 1)
            && t->tensor->dtype == match.pieces[0].site->tensor->dtype
            && lt_dtype_get(t->tensor->dtype)->computes;
    }
    return fits ? match : (lt_match){ 0 };
}

/* A site whose elements have other names in the tuned model. */
static lt_status add_site_across(struct looks *l, const lt_site *s, lt_error *err)
{
    lt_extract_run *run = l->run;
    lt_match match = find_in_tuned(run, s);
    if (!match.n_pieces)
        return lt_notes_add(&run->report->skipped, s->tensor->name, 0, err,
            "the tuned model has no tensor for it, or in another form");
    uint64_t columns = lt_tensor_columns(s->tensor);
    struct look item = { .site = s,
        .reason = serves(run, s) ? site_reason(run, s) : unserved_reason(run, s),
        .region = { .base = run->base,
            .tuned = run->tuned,
            .a = s->tensor,
            .b = match.pieces[0].site->tensor,
            .first = s->row0 * columns,
            .count = s->rows * columns,
            .n_stretches = match.n_pieces } };
    for (size_t i = 0; i < match.n_pieces; i++) {
        const lt_site *t = match.pieces[i].site;
        item.region.stretches[i] =
            (lt_stretch){ t->tensor, t->row0 * columns, t->rows * columns };
        run->tuned_used[lt_store_index(run->tuned, t->tensor)] = true;
    }
    return add_look(l, &item, err);
}

static lt_status add_site(struct looks *l, const lt_site *s, lt_error *err)
{
    lt_extract_run *run = l->run;
    const lt_tensor *b = lt_store_find(run->tuned, s->tensor->name);
    bool looked_at = serves(run, s) || unserved_reason(run, s);
    if (!b && run->tuned_names && looked_at) return add_site_across(l, s, err);
    if (!b || !same_shape(s->tensor, b) || !lt_dtype_get(b->dtype)->computes)
        return LT_OK;
    const char *reason = serves(run, s) ? site_reason(run, s) : unserved_reason(run, s);
    if (!serves(run, s) && !reason) return LT_OK;
    uint64_t columns = lt_tensor_columns(s->tensor);
    struct look item = { .site = s,
        .reason = reason,
        .region = { .base = run->base,
            .tuned = run->tuned,
            .a = s->tensor,
            .b = b,
            .first = s->row0 * columns,
            .count = s->rows * columns } };
    return add_look(l, &item, err);
}

static lt_status compare_bytes(const lt_region *r, bool *changed, lt_error *err)
{
    char buf[2][65536];
    *changed = r->a->dtype != r->b->dtype;
    for (uint64_t at = 0; at < r->a->size && !*changed; at += sizeof buf[0]) {
        uint64_t left = r->a->size - at;
        size_t n = left < sizeof buf[0] ? (size_t)left : sizeof buf[0];
        lt_status st = lt_store_read(r->base, r->a, at, buf[0], n, err);
        if (!st) st = lt_store_read(r->tuned, r->b, at, buf[1], n, err);
        if (st) return st;
        *changed = memcmp(buf[0], buf[1], n) != 0;
    }
    return LT_OK;
}

static lt_status look_at(void *ctx, size_t index, lt_worker *worker, lt_error *err)
{
    struct looks *l = ctx;
    struct look *item = &l->items[index];
    lt_scratch *scratch = &l->run->scratch[lt_worker_index(worker)];
    const lt_region *r = &item->region;
    if (!lt_dtype_get(r->a->dtype)->computes || !lt_dtype_get(r->b->dtype)->computes)
        return compare_bytes(r, &item->changed, err);
    lt_status st =
        lt_region_changed(r, l->run->options->min_diff, &item->changed, scratch, err);
    if (st || !item->changed) return st;
    /* The numbers of scaled fp8 are no weights: neither factors nor an energy come of
     * them. */
    lt_error scaled = LT_ERROR_INIT;
    st = lt_refuse_scaled(r->base, r->a, &scaled);
    if (!st) st = lt_refuse_scaled(r->tuned, r->b, &scaled);
    if (!st)
        return item->reason ? lt_region_energy(r, &item->energy, scratch, err) : LT_OK;
    if (item->reason && st == LT_ERR_UNSUPPORTED) return LT_OK;
    if (err) *err = scaled;
    return st;
}

static uint64_t rank_for(const lt_extract_run *run, const lt_site *s)
{
    bool kernel =
        s->tensor->n_dims > 2 && s->tensor->shape[1] < lt_tensor_columns(s->tensor);
    uint64_t rank = run->options->rank;
    if (kernel && run->options->conv_rank) rank = run->options->conv_rank;
    if (rank > s->out) rank = s->out;
    return rank > s->in ? s->in : rank;
}

static lt_status add_item(lt_extract_run *run, const struct look *look, lt_error *err)
{
    char name[768];
    lt_status st = lt_grow((void **)&run->items, &run->items_capacity, run->n_items + 1,
        sizeof *run->items, err);
    if (st) return st;
    lt_site_name(look->site, lt_dialect_naming(run->dialect), name, sizeof name);
    lt_extract_item item = { .site = look->site,
        .region = look->region,
        .rank = rank_for(run, look->site),
        .name = lt_arena_strdup(&run->arena, name, err) };
    if (!item.name) return LT_ERR_NOMEM;
    run->items[run->n_items++] = item;
    return LT_OK;
}

static lt_status sort_out(lt_extract_run *run, const struct look *item, lt_error *err)
{
    const char *tensor = item->region.a->name;
    if (!item->changed) {
        if (item->site)
            run->report->modules_unchanged++;
        else
            run->report->rest_unchanged++;
        return LT_OK;
    }
    if (!item->reason) return add_item(run, item, err);
    bool finite = isfinite(item->energy);
    if (finite) run->skipped_energy += item->energy;
    bool part = item->site && item->site->rows < lt_tensor_rows(item->site->tensor);
    char name[768];
    snprintf(
        name, sizeof name, part ? "%s (%s)" : "%s", tensor, part ? item->site->path : "");
    return lt_notes_add(
        &run->report->skipped, name, item->energy, err, "%s", item->reason);
}

static lt_status note_tuned_only(lt_extract_run *run, size_t *common, lt_error *err)
{
    lt_status st = LT_OK;
    *common = 0;
    for (size_t i = 0; i < lt_store_count(run->tuned) && !st; i++) {
        const char *name = lt_store_at(run->tuned, i)->name;
        bool used = run->tuned_used && run->tuned_used[i];
        lt_rest rest = run->tuned_model
            ? lt_model_rest(run->tuned_model, lt_store_at(run->tuned, i))
            : LT_REST_NONE;
        if (used || lt_store_find(run->base, name))
            (*common)++;
        else if (rest != LT_REST_NONE)
            st = lt_notes_add(&run->report->skipped, name, 0, err,
                "%s: not compared, the models' layouts differ", lt_rest_text(rest));
        else
            st = lt_notes_add(
                &run->report->skipped, name, 0, err, "only in the tuned model");
    }
    return st;
}

static lt_status nothing_in_common(const lt_extract_run *run, lt_error *err)
{
    lt_model *tuned = NULL;
    char cause[200] = "";
    if (!lt_model_new(&tuned, run->tuned, NULL)) {
        snprintf(cause, sizeof cause, ": the base is %s, the tuned model is %s",
            lt_family_title(lt_model_family(run->model)),
            lt_family_title(lt_model_family(tuned)));
    }
    lt_model_free(tuned);
    return lt_error_set(err, LT_ERR_MISMATCH,
        "base and tuned model have no tensor of the same name and shape%s", cause);
}

/* Models of one family in two layouts, or under other prefixes, are compared by the names
 * of their modules. */
static lt_status look_across(lt_extract_run *run, lt_error *err)
{
    size_t sites = lt_model_site_count(run->model), found = 0;
    for (size_t i = 0; i < sites; i++)
        found +=
            lt_store_find(run->tuned, lt_model_site(run->model, i)->tensor->name) != NULL;
    if (found == sites) return LT_OK;
    lt_status st = lt_model_new(&run->tuned_model, run->tuned, err);
    if (st) return st;
    const lt_family *base = lt_model_family(run->model);
    const lt_family *tuned = lt_model_family(run->tuned_model);
    bool related = !strcmp(lt_family_id(base), lt_family_id(tuned))
        && strcmp(lt_family_id(base), "unknown") != 0;
    /* One layout, of which a file may lack something, or two. */
    bool one = base == tuned && 2 * found >= sites;
    if (!related || one) {
        lt_model_free(run->tuned_model);
        run->tuned_model = NULL;
        return LT_OK;
    }
    run->tuned_used = lt_alloc(lt_store_count(run->tuned), sizeof(bool), err);
    if (!run->tuned_used) return LT_ERR_NOMEM;
    return lt_alias_map_new(&run->tuned_names, run->tuned_model, err);
}

static lt_status gather(struct looks *l, lt_error *err)
{
    lt_extract_run *run = l->run;
    size_t common = 0;
    lt_status st = look_across(run, err);
    for (size_t i = 0; i < lt_store_count(run->base) && !st; i++)
        st = add_tensor(l, lt_store_at(run->base, i), err);
    for (size_t i = 0; i < lt_model_site_count(run->model) && !st; i++)
        st = add_site(l, lt_model_site(run->model, i), err);
    if (!st) st = note_tuned_only(run, &common, err);
    if (!st && (!common || !l->count)) st = nothing_in_common(run, err);
    return st;
}

lt_status lt_extract_open(lt_extract_run *run, lt_error *err)
{
    const lt_extract_options *o = run->options;
    run->threads = lt_thread_count(o->threads);
    run->scratch = lt_alloc((uint64_t)run->threads, sizeof *run->scratch, err);
    if (!run->scratch) return LT_ERR_NOMEM;
    lt_status st = lt_filter_compile(&run->filter, o->include, o->exclude, err);
    if (!st) st = lt_store_open(&run->base, o->base, err);
    if (!st) st = lt_store_open(&run->tuned, o->tuned, err);
    if (!st) st = lt_store_usable(run->base, false, err);
    if (!st) st = lt_store_usable(run->tuned, false, err);
    if (!st
        && (lt_store_holds_adapter(run->base) || lt_store_holds_adapter(run->tuned))) {
        const lt_store *s = lt_store_holds_adapter(run->base) ? run->base : run->tuned;
        lt_error_set(err, LT_ERR_MISMATCH, "is an adapter; extract takes two models");
        st = lt_error_where(err, "%s", lt_store_path(s));
    }
    if (!st) st = lt_model_new(&run->model, run->base, err);
    if (!st) st = choose_dialect(run, err);
    return st ? st : choose_dtype(run, err);
}

lt_status lt_extract_plan(lt_extract_run *run, lt_error *err)
{
    struct looks l = { .run = run };
    lt_status st = gather(&l, err);
    if (!st)
        st = lt_pool_run(
            &(lt_job){
                .threads = run->threads, .n_items = l.count, .work = look_at, .ctx = &l },
            err);
    for (size_t i = 0; i < l.count && !st; i++)
        st = sort_out(run, &l.items[i], err);
    if (!st && !run->n_items)
        st = lt_error_set(err, LT_ERR_MISMATCH,
            run->report->skipped.count
                ? "no module differs that a low-rank adapter could carry (-v lists the "
                  "rest)"
                : run->options->min_diff > 0
                ? "no weight moved more than --min-diff: there is nothing to extract"
                : "base and tuned model are equal: there is nothing to extract");
    free(l.items);
    return st;
}
