/* SPDX-License-Identifier: MIT */
#include "ops/common.h"

#include "base/limits.h"
#include "base/pool.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"
#include "tensor/lowrank_core.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Slots 0..7 belong to the low-rank engine. */
enum slot { S_UP = 8, S_DOWN, S_WORK_UP, S_WORK_DOWN, S_UP_F, S_DOWN_F, S_SIGMA, S_CAST };

struct item {
    const lt_module *module;
    uint64_t rank;
    lt_dtype dtype;
    double alpha, scale; /* as consumers will compute it: alpha / rank */
    size_t out_index;
    bool adds_alpha; /* the file has no alpha tensor for it, but one was asked for */
    bool copied;     /* nothing changes: its tensors are carried over */
};

struct resizing {
    const lt_resize_options *options;
    lt_resize_report *report;
    lt_adapter *adapter;
    lt_adapter_out *out;
    struct item *items; /* one a module with factors */
    size_t n_items, done;
    bool cast;
    lt_dtype dtype;
    int threads;
    lt_scratch *scratch;
    uint64_t keep; /* bytes of work memory that a thread keeps */
    lt_arena arena;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool fits_float(double x)
{
    return x == 0 || (fabs(x) <= FLT_MAX && (float)x != 0);
}

/* Both are float32 for whoever reads the output, and the factors are divided by them. */
static lt_status check_scale(
    const struct resizing *z, const struct item *item, lt_error *err)
{
    const lt_module *m = item->module;
    bool scale = !fits_float(m->scale);
    if (!scale && fits_float(item->alpha)) return LT_OK;
    lt_error_set(err, LT_ERR_NUMERIC, "%s of %g is beyond what F32 holds",
        scale ? "its scale (alpha / rank)" : "its alpha", scale ? m->scale : item->alpha);
    return lt_error_where(err, "%s: module '%s'", lt_adapter_path(z->adapter), m->name);
}

static lt_status plan_item(
    struct resizing *z, struct item *item, const lt_module *m, lt_error *err)
{
    const lt_resize_options *o = z->options;
    bool shared = lt_module_shares_alpha(m);
    item->adds_alpha = o->alpha > 0 && !m->part[LT_PART_ALPHA] && !shared
        && lt_dialect_holds_alpha(lt_adapter_dialect(z->adapter));
    bool keeps_alpha =
        m->part[LT_PART_ALPHA] || item->adds_alpha || lt_adapter_out_is_folder(z->out);
    uint64_t rank = lt_module_has_kernel(m) && o->conv_rank ? o->conv_rank : o->rank;
    item->module = m;
    item->rank = min_u64(min_u64(rank, m->rank), min_u64(m->out, m->in));
    item->dtype = z->cast ? z->dtype : m->part[LT_PART_UP]->dtype;
    item->alpha = keeps_alpha ? m->scale * (double)item->rank : (double)item->rank;
    if (keeps_alpha && o->alpha > 0) item->alpha = o->alpha;
    if (shared && m->part[LT_PART_ALPHA]) item->alpha = m->alpha;
    /* Alpha 0 or negative cannot be divided out of the factors: they take it all. */
    if (!(item->alpha > 0)) item->alpha = (double)item->rank;
    if (check_scale(z, item, err)) return LT_ERR_NUMERIC;
    item->alpha = (double)(float)item->alpha; /* as it is stored */
    item->scale = item->alpha / (double)item->rank;
    bool same_dtype = item->dtype == m->part[LT_PART_UP]->dtype
        && item->dtype == m->part[LT_PART_DOWN]->dtype;
    bool same_scale = lt_adapter_out_is_folder(z->out) ? item->scale == m->scale
        : !keeps_alpha                                 ? m->scale == 1
                                                       : item->scale == m->scale;
    item->copied =
        item->rank == m->rank && same_dtype && same_scale && !m->part[LT_PART_SCALE];
    return LT_OK;
}

static lt_status declare_item(struct resizing *z, struct item *item, lt_error *err)
{
    const lt_module *m = item->module;
    const lt_tensor *down = m->part[LT_PART_DOWN], *mid = m->part[LT_PART_MID];
    const lt_tensor *alpha = m->part[LT_PART_ALPHA];
    char *added = NULL;
    if (item->adds_alpha) {
        added = lt_arena_printf(&z->arena, err, "%s.alpha", m->name);
        if (!added) return LT_ERR_NOMEM;
    }
    lt_module_plan plan = { .name = m->name,
        .up_name = m->part[LT_PART_UP]->name,
        .down_name = down->name,
        .alpha_name = alpha ? alpha->name : added,
        .rank = item->rank,
        .alpha = item->alpha,
        .dtype = item->dtype,
        .n_dims = down->n_dims };
    plan.shape[0] = m->out;
    for (unsigned i = 1; i < down->n_dims; i++)
        plan.shape[i] = mid && i >= 2 ? mid->shape[i] : down->shape[i];
    return lt_adapter_out_add(z->out, &plan, &item->out_index, err);
}

/* Others are carried over whole; so is a pair whose scale also holds for tensors beside
 * it and could not stay. */
static bool is_resized(const lt_module *m)
{
    if (!lt_kind_is_pair(m->kind)) return false;
    if (!lt_module_shares_alpha(m)) return true;
    return !m->part[LT_PART_SCALE] && (!m->part[LT_PART_ALPHA] || m->alpha > 0);
}

/* A module that is carried over must mean the same in the new file. */
static lt_status check_carried(
    const struct resizing *z, const lt_module *m, lt_error *err)
{
    bool folder = lt_adapter_out_is_folder(z->out);
    const char *why = NULL;
    if (folder && !m->rank) why = "a PEFT config does not describe this kind";
    if (!folder && m->scale != 1 && !m->part[LT_PART_ALPHA] && !m->part[LT_PART_SCALE])
        why = "its scale stands in a config, which a single file has no place for";
    if (!why) return LT_OK;
    lt_error_set(err, LT_ERR_UNSUPPORTED, "%s cannot be carried over: %s",
        lt_kind_title(m->kind), why);
    return lt_error_where(err, "%s: module '%s'", lt_adapter_path(z->adapter), m->name);
}

static lt_status carry_module(struct resizing *z, const lt_module *m, lt_error *err)
{
    lt_status st = check_carried(z, m, err);
    if (!st)
        st = lt_notes_add(&z->report->skipped, m->name, 0, err,
            "%s: carried over as it is", lt_kind_title(m->kind));
    if (st) return st;
    return lt_adapter_out_add_module(z->out, lt_adapter_store(z->adapter), m, err);
}

/* What stands beside the factors goes with them. */
static lt_status carry_others(struct resizing *z, const struct item *item, lt_error *err)
{
    const lt_store *store = lt_adapter_store(z->adapter);
    const lt_module *m = item->module;
    lt_status st = LT_OK;
    for (size_t i = 0; i < m->n_others && !st; i++) {
        st = lt_notes_add(&z->report->skipped, m->others[i]->name, 0, err,
            "stands beside a pair of factors: carried over as it is");
        if (!st && !item->copied)
            st = lt_adapter_out_add_copy(z->out, store, m->others[i], err);
    }
    return st;
}

static lt_status declare_pair(
    struct resizing *z, struct item *item, const lt_module *m, lt_error *err)
{
    lt_status st = plan_item(z, item, m, err);
    if (st) return st;
    const lt_store *store = lt_adapter_store(z->adapter);
    st = item->copied ? lt_adapter_out_add_module(z->out, store, m, err)
                      : declare_item(z, item, err);
    return st ? st : carry_others(z, item, err);
}

static lt_status declare(struct resizing *z, lt_error *err)
{
    const lt_adapter *a = z->adapter;
    size_t n = lt_adapter_module_count(a);
    const lt_store *store = lt_adapter_store(a);
    z->items = calloc(n + 1, sizeof *z->items);
    if (!z->items) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    lt_status st = LT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        const lt_module *m = lt_adapter_module(a, i);
        st = is_resized(m) ? declare_pair(z, &z->items[z->n_items++], m, err)
                           : carry_module(z, m, err);
    }
    for (size_t i = 0; i < lt_adapter_rest_count(a) && !st; i++) {
        const lt_tensor *t = lt_adapter_rest(a, i);
        st = lt_notes_add(&z->report->skipped, t->name, 0, err,
            "belongs to no module: carried over as it is");
        if (!st) st = lt_adapter_out_add_copy(z->out, store, t, err);
    }
    if (!st)
        st = lt_metadata_copy(
            lt_adapter_out_metadata(z->out), lt_store_metadata(store), err);
    if (!st) st = lt_notes_add_asides(&z->report->dropped, store, err);
    if (!st)
        st = lt_notes_add_metadata(
            &z->report->dropped, lt_adapter_out_writer(z->out), store, err);
    /* diffusers' ranks and alphas: the factors now hold the scale themselves. */
    lt_metadata_remove(lt_adapter_out_metadata(z->out), "lora_adapter_metadata");
    return st ? st : lt_adapter_out_begin(z->out, err);
}

static void scale_floats(float *p, size_t n, double by)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(p[i] * by);
}

static void widen(double *dst, const float *src, size_t n, double by)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = src[i] * by;
}

static double sum_squares(const double *p, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i] * p[i];
    return sum;
}

/* One module on its way. */
struct job {
    struct resizing *z;
    const struct item *item;
    const lt_module *m;
    lt_resized *result;
    size_t out, in, r, k;
    lt_split split;
    double up_times, down_times; /* what divides the new scale out of the factors */
    float *up, *down;            /* the new factors: out x k and k x in */
    double *sigma;               /* r values */
    void *cast;
    lt_scratch *scratch;
    lt_error *err;
};

static lt_status start_job(struct job *j)
{
    size_t longest = j->out > j->in ? j->out : j->in;
    j->up = lt_scratch_get(j->scratch, S_UP_F, j->out * j->k, sizeof *j->up, j->err);
    j->down = lt_scratch_get(j->scratch, S_DOWN_F, j->k * j->in, sizeof *j->up, j->err);
    j->sigma = lt_scratch_get(j->scratch, S_SIGMA, j->r, sizeof *j->sigma, j->err);
    j->cast = lt_scratch_get(j->scratch, S_CAST, longest * j->k, sizeof(double), j->err);
    bool balanced = j->split == LT_SPLIT_SQRT;
    j->up_times = balanced ? 1 / sqrt(j->item->scale) : 1 / j->item->scale;
    j->down_times = balanced ? 1 / sqrt(j->item->scale) : 1;
    return j->up && j->down && j->sigma && j->cast ? LT_OK : LT_ERR_NOMEM;
}

static const char *input_of(const struct job *j)
{
    return lt_adapter_path(j->z->adapter);
}

static lt_status blame(const struct job *j)
{
    return lt_error_where(j->err, "%s: module '%s'", input_of(j), j->m->name);
}

/* Writes the new factors; up and down become what was stored. */
static lt_status put(struct job *j)
{
    lt_status st =
        lt_adapter_out_put(j->z->out, j->item->out_index, j->up, j->down, j->err);
    /* Of others it is the output that is at fault. */
    if (st == LT_ERR_NUMERIC) return lt_error_where(j->err, "%s", input_of(j));
    if (st) return st;
    lt_round_to(j->up, j->out * j->k, j->item->dtype, j->cast);
    lt_round_to(j->down, j->k * j->in, j->item->dtype, j->cast);
    return LT_OK;
}

/* ---- the careful way: in double, by QR and SVD ---------------------------------------
 */

/* The old factors in double, scale applied, and room for as much beside them. */
struct doubles {
    double *up, *down, *work_up, *work_down;
};

static lt_status load_doubles(struct job *j, struct doubles *d)
{
    size_t up_count = j->out * j->r, down_count = j->r * j->in;
    d->up = lt_scratch_get(j->scratch, S_UP, up_count, sizeof *d->up, j->err);
    d->down = lt_scratch_get(j->scratch, S_DOWN, down_count, sizeof *d->up, j->err);
    d->work_up = lt_scratch_get(j->scratch, S_WORK_UP, up_count, sizeof *d->up, j->err);
    d->work_down =
        lt_scratch_get(j->scratch, S_WORK_DOWN, down_count, sizeof *d->up, j->err);
    if (!d->up || !d->down || !d->work_up || !d->work_down) return LT_ERR_NOMEM;
    lt_status st = lt_module_load(j->z->adapter, j->m, d->up, d->down, j->err);
    for (size_t i = 0; i < up_count && !st; i++)
        d->up[i] *= j->m->scale;
    return st;
}

/* How far what was stored lies from the old factors, whose own norm is known already. */
static lt_status measure_carefully(struct job *j, const struct doubles *d)
{
    double energy;
    widen(d->work_up, j->up, j->out * j->k, j->item->scale);
    widen(d->work_down, j->down, j->k * j->in, 1);
    return lt_pair_distance(j->out, j->in, (lt_pair){ d->up, d->down, j->r },
        (lt_pair){ d->work_up, d->work_down, j->k }, &j->result->residual, &energy,
        j->scratch, j->err);
}

static lt_status resize_carefully(struct job *j)
{
    struct doubles d;
    lt_status st = load_doubles(j, &d);
    if (st) return st;
    memcpy(d.work_up, d.up, j->out * j->r * sizeof *d.up);
    memcpy(d.work_down, d.down, j->r * j->in * sizeof *d.down);
    lt_core core = { d.work_up, d.work_down, j->out, j->in, j->r, j->k, j->up, j->down,
        j->sigma };
    st = lt_lowrank_core(&core, j->split, j->scratch, j->err);
    if (st) return blame(j);
    size_t spectrum = (size_t)min_u64(j->r, min_u64(j->out, j->in));
    double all = sum_squares(j->sigma, spectrum);
    j->result->retained = all > 0 ? sum_squares(j->sigma, j->k) / all : 1;
    j->result->energy = all;
    if (j->item->copied) return LT_OK;
    scale_floats(j->up, j->out * j->k, j->up_times);
    scale_floats(j->down, j->k * j->in, j->down_times);
    st = put(j);
    return st ? st : measure_carefully(j, &d);
}

/* ---- the fast way: from float32 factors and their Gram matrices ----------------------
 */

/* The factors as they are stored, where float32 holds them exactly; Gram matrices, where
 * they are not larger than those. */
static bool fast_way_fits(const lt_module *m)
{
    if (m->rank > min_u64(m->out, m->in)) return false;
    return !m->part[LT_PART_MID] && m->groups <= 1 && m->part[LT_PART_UP]->dtype != LT_F64
        && m->part[LT_PART_DOWN]->dtype != LT_F64;
}

static lt_status load_floats(struct job *j, lt_part part, enum slot slot, float **out)
{
    const lt_store *store = lt_adapter_store(j->z->adapter);
    const lt_tensor *t = j->m->part[part];
    size_t n = (size_t)t->count;
    float *p = lt_scratch_get(j->scratch, slot, n, sizeof *p, j->err);
    void *raw = lt_scratch_get(j->scratch, S_WORK_UP, t->size, 1, j->err);
    if (!p || !raw) return LT_ERR_NOMEM;
    lt_status st = lt_store_read(store, t, 0, raw, (size_t)t->size, j->err);
    if (st) return st;
    lt_load_f32(p, raw, t->dtype, n);
    *out = p;
    return LT_OK;
}

/* Where nothing is discarded they would not do, and small modules are quick either way.
 */
static bool rough_sums_pay(const struct job *j)
{
    return j->k < j->r && (j->out + j->in) * j->r * j->r >= (size_t)1 << 24;
}

/* *sure is false when the module needs the careful way after all; so it does when there
 * is a NaN or an infinity, which the Gram matrices show and that way finds and tells. */
static lt_status resize_fast(struct job *j, bool *sure)
{
    float *up = NULL, *down = NULL;
    lt_grams grams = { 0 };
    lt_resized *result = j->result;
    *sure = false;
    lt_status st = load_floats(j, LT_PART_UP, S_UP, &up);
    if (!st) st = load_floats(j, LT_PART_DOWN, S_DOWN, &down);
    lt_product old = { up, down, j->out, j->in, j->r, j->m->scale };
    if (!st) st = lt_grams_make(&grams, &old, rough_sums_pay(j), j->scratch, j->err);
    if (st || !grams.sure) return st;
    result->energy = grams.energy;
    result->retained = 1;
    *sure = true;
    if (j->item->copied) return LT_OK; /* its rank is not above a side: all is kept */
    lt_truncation t = { j->k, j->split, j->up_times, j->down_times, j->up, j->down,
        j->sigma };
    st = lt_grams_truncate(&grams, &old, &t, sure, j->scratch, j->err);
    if (st) return blame(j);
    if (!*sure) return LT_OK;
    result->energy = grams.energy; /* which may have been summed again */
    if (j->k < j->r) result->retained = sum_squares(j->sigma, j->k) / grams.energy;
    st = put(j);
    if (st) return st;
    lt_product new = { j->up, j->down, j->out, j->in, j->k, j->item->scale };
    bool exact = false;
    struct doubles d;
    st = lt_grams_distance(
        &grams, &old, &new, &result->residual, &exact, j->scratch, j->err);
    if (st || exact) return st;
    st = load_doubles(j, &d);
    return st ? st : measure_carefully(j, &d);
}

static lt_status resize_one(void *ctx, size_t index, lt_worker *worker, lt_error *err)
{
    struct resizing *z = ctx;
    const struct item *item = &z->items[index];
    const lt_module *m = item->module;
    struct job j = { .z = z,
        .item = item,
        .m = m,
        .result = &z->report->modules[index],
        .out = (size_t)m->out,
        .in = (size_t)m->in,
        .r = (size_t)m->rank,
        .k = (size_t)item->rank,
        .split = z->options->split == LT_FACTORS_UP ? LT_SPLIT_UP : LT_SPLIT_SQRT,
        .scratch = &z->scratch[lt_worker_index(worker)],
        .err = err };
    bool done = false;
    lt_status st = start_job(&j);
    if (!st && fast_way_fits(m)) st = resize_fast(&j, &done);
    if (!st && !done) st = resize_carefully(&j);
    lt_scratch_trim(j.scratch, z->keep);
    return st;
}

/* The careful way's: both factors in double, twice; old and new ones for their distance;
 * the new ones as they are stored; r x r matrices, or the product and its SVD. */
static uint64_t need(void *ctx, size_t index)
{
    const struct resizing *z = ctx;
    const lt_module *m = z->items[index].module;
    uint64_t r = m->rank, k = z->items[index].rank;
    uint64_t core = r > min_u64(m->out, m->in) ? 64 * m->out * m->in : 48 * r * r;
    return 8 * (m->out + m->in) * (3 * r + 3 * k) + core;
}

static void resize_done(void *ctx, size_t index)
{
    struct resizing *z = ctx;
    const lt_progress *p = &z->options->progress;
    z->done++;
    if (p->tick) p->tick(p->ctx, z->done, z->n_items, z->items[index].module->name);
}

static lt_status prepare_report(struct resizing *z, lt_error *err)
{
    lt_resize_report *r = z->report;
    r->modules = calloc(z->n_items + 1, sizeof *r->modules);
    if (!r->modules) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < z->n_items; i++) {
        lt_resized *m = &r->modules[i];
        m->name = lt_arena_strdup(&z->arena, z->items[i].module->name, err);
        if (!m->name) return LT_ERR_NOMEM;
        m->rank_before = z->items[i].module->rank;
        m->rank = z->items[i].rank;
    }
    return LT_OK;
}

static double relative(const lt_resized *m)
{
    return lt_relative_error(m->residual, m->energy);
}

static void finish_report(struct resizing *z)
{
    lt_resize_report *r = z->report;
    double energy = 0, residual = 0, retained = 0;
    for (size_t i = 0; i < z->n_items; i++) {
        const lt_resized *m = &r->modules[i];
        energy += m->energy;
        residual += m->residual;
        retained += m->retained * m->energy;
        if (z->items[i].copied)
            r->modules_unchanged++;
        else
            r->modules_written++;
        if (!r->rank_min || m->rank < r->rank_min) r->rank_min = m->rank;
        if (m->rank > r->rank_max) r->rank_max = m->rank;
        if (!r->worst || relative(m) > relative(r->worst)) r->worst = m;
    }
    r->error = lt_relative_error(residual, energy);
    r->retained = energy > 0 ? retained / energy : 1;
}

static lt_status open_output(struct resizing *z, lt_error *err)
{
    const lt_resize_options *o = z->options;
    const char *config = lt_adapter_config(z->adapter);
    lt_adapter_plan plan = { .path = o->output,
        .format = o->format,
        .overwrite = o->overwrite,
        .dialect = lt_adapter_dialect(z->adapter),
        .unsure = lt_adapter_lacks_config(z->adapter),
        .family = lt_adapter_family(z->adapter) };
    lt_status st = lt_adapter_out_new(&z->out, &plan, err);
    if (!st && config && lt_adapter_out_is_folder(z->out))
        st = lt_adapter_out_template(z->out, config, err);
    bool no_alpha = !lt_dialect_holds_alpha(plan.dialect)
        && !(z->out && lt_adapter_out_is_folder(z->out));
    if (!st && o->alpha > 0 && no_alpha)
        st = lt_error_set(err, LT_ERR_ARG,
            "a %s file holds no alpha: leave --alpha out or write a PEFT folder",
            lt_dialect_id(plan.dialect));
    return st;
}

static lt_status run_all(struct resizing *z, lt_error *err)
{
    const lt_resize_options *o = z->options;
    z->threads = lt_thread_count(o->threads);
    z->scratch = lt_alloc((uint64_t)z->threads, sizeof *z->scratch, err);
    lt_status st = z->scratch ? LT_OK : LT_ERR_NOMEM;
    if (!st) st = lt_adapter_open(&z->adapter, o->input, err);
    if (!st) st = lt_adapter_usable(z->adapter, err);
    /* Before the output, which may start a thread that hashes it. */
    if (!st) st = lt_linalg_load(err);
    if (!st) st = open_output(z, err);
    if (!st) st = declare(z, err);
    if (!st) st = prepare_report(z, err);
    lt_job job = { .threads = z->threads,
        .memory = o->memory,
        .n_items = z->n_items,
        .work = resize_one,
        .need = need,
        .done = resize_done,
        .ctx = z };
    z->keep = lt_job_keep(&job);
    if (!st) st = lt_pool_run(&job, err);
    if (!st) finish_report(z);
    if (!st && o->max_error && !(z->report->error <= *o->max_error))
        st = lt_error_set(err, LT_ERR_FIDELITY,
            "the error %.4g is above the %.4g asked for: a higher rank is needed",
            z->report->error, *o->max_error);
    if (!st) st = lt_store_unchanged(lt_adapter_store(z->adapter), err);
    if (!st) st = lt_adapter_out_commit(z->out, err);
    if (!st) z->report->cost.bytes = lt_adapter_out_size(z->out);
    return st;
}

static lt_status check_options(struct resizing *z, lt_error *err)
{
    const lt_resize_options *o = z->options;
    if (o->rank < 1 || o->rank > LT_MAX_RANK || o->conv_rank > LT_MAX_RANK)
        return lt_error_set(err, LT_ERR_ARG, "the rank must be 1 to %d", LT_MAX_RANK);
    if (lt_check_alpha(o->alpha, err)) return LT_ERR_ARG;
    return lt_parse_dtype(o->dtype, &z->cast, &z->dtype, err);
}

lt_status lt_resize(
    const lt_resize_options *options, lt_resize_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_resize_report){ 0 };
    struct resizing z = { .options = options, .report = report };
    lt_status st = check_options(&z, err);
    if (!st) st = run_all(&z, err);
    for (int i = 0; z.scratch && i < z.threads; i++)
        lt_scratch_release(&z.scratch[i]);
    lt_free(z.scratch);
    lt_adapter_out_close(z.out);
    lt_adapter_free(z.adapter);
    free(z.items);
    report->memory = z.arena.head;
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_resize_report_release(lt_resize_report *r)
{
    lt_arena arena = { .head = r->memory };
    lt_arena_release(&arena);
    lt_notes_release(&r->skipped);
    lt_notes_release(&r->dropped);
    free(r->modules);
    *r = (lt_resize_report){ 0 };
}
