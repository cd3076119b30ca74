/* SPDX-License-Identifier: MIT */
#include "ops/extract.h"

#include "base/limits.h"
#include "base/pool.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"
#include "tensor/lowrank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Slots 0..7 belong to the SVD, 8..11 to the comparison. */
enum slot { S_DELTA = 12, S_UP, S_DOWN, S_CAST };

#define MAX_PARTS 64 /* of what is summed part by part */

struct factoring {
    lt_extract_run *run;
    lt_adapter_out *out;
    uint64_t keep; /* bytes of work memory that a thread keeps */
    size_t done;
};

/* What one module is worked on with. */
struct work {
    const lt_extract_item *item;
    lt_worker *worker;
    lt_panels delta; /* in the file's orientation */
    lt_lowrank_job job;
    float *up, *down;
    void *cast;
    double sums[MAX_PARTS];
    double scale; /* of up * down, once it is taken off delta */
};

static double cost_of(const lt_extract_item *item)
{
    double m = (double)item->site->out, n = (double)item->site->in;
    return m * n * (m < n ? m : n);
}

static int by_cost(const void *a, const void *b)
{
    const lt_extract_item *x = a, *y = b;
    double cx = cost_of(x), cy = cost_of(y);
    if (cx != cy) return cx > cy ? -1 : 1;
    return strcmp(x->name, y->name);
}

static double alpha_of(const lt_extract_run *run, const lt_extract_item *item)
{
    /* As it is stored: what is measured is what consumers compute. */
    return run->options->alpha != 0 ? (double)(float)run->options->alpha
                                    : (double)item->rank;
}

static lt_status get_work(
    struct work *w, const lt_extract_item *item, lt_scratch *s, lt_error *err)
{
    size_t out = (size_t)item->site->out, in = (size_t)item->site->in;
    size_t r = (size_t)item->rank, longest = (out > in ? out : in) * r;
    bool turned = item->site->transposed;
    w->item = item;
    lt_panels_shape(&w->delta, turned ? in : out, turned ? out : in);
    w->delta.data = lt_scratch_get(s, S_DELTA, (uint64_t)out * in, sizeof(float), err);
    w->up = lt_scratch_get(s, S_UP, (uint64_t)out * r, sizeof(float), err);
    w->down = lt_scratch_get(s, S_DOWN, (uint64_t)in * r, sizeof(float), err);
    w->cast = lt_scratch_get(s, S_CAST, longest, sizeof(float), err);
    return w->delta.data && w->up && w->down && w->cast ? LT_OK : LT_ERR_NOMEM;
}

/* Bytes that an item's work takes. */
static uint64_t need(void *ctx, size_t index)
{
    const struct factoring *f = ctx;
    const lt_extract_item *item = &f->run->items[index];
    uint64_t out = item->site->out, in = item->site->in, r = item->rank;
    uint64_t factors = (out + in + (out > in ? out : in)) * r;
    return 4 * (out * in + factors) + lt_lowrank_need((size_t)out, (size_t)in, (size_t)r);
}

static double add_up(const struct work *w, size_t parts)
{
    double sum = 0;
    for (size_t i = 0; i < parts; i++)
        sum += w->sums[i];
    return sum;
}

static lt_status make_part(void *ctx, size_t part, lt_error *err)
{
    struct work *w = ctx;
    return lt_region_delta(&w->item->region, part, &w->delta, &w->sums[part], err);
}

static lt_status make_delta(struct work *w, double *energy, lt_error *err)
{
    size_t parts = lt_region_parts(&w->item->region);
    lt_status st = lt_worker_share(w->worker, parts, make_part, w, err);
    *energy = add_up(w, parts);
    return st;
}

/* Factors of delta in consumers' orientation: up (out x r), down (r x in). A transposed
 * weight has delta^T in the file: its factors swap places and are transposed. */
static lt_status factor(
    struct work *w, double energy, lt_split split, lt_scratch *scratch, lt_error *err)
{
    size_t rows = w->delta.rows, columns = w->delta.columns, r = (size_t)w->item->rank;
    lt_lowrank_job *job = &w->job;
    *job = (lt_lowrank_job){ .delta = &w->delta,
        .rank = r,
        .energy = energy,
        .split = split,
        .b = w->up,
        .a = w->down,
        .scratch = scratch,
        .worker = w->worker };
    if (!w->item->site->transposed) return lt_lowrank(job, err);
    job->b = lt_alloc_work(rows * r, sizeof *job->b, err);
    job->a = lt_alloc_work(r * columns, sizeof *job->a, err);
    lt_status st = job->b && job->a ? lt_lowrank(job, err) : LT_ERR_NOMEM;
    if (!st) {
        lt_transpose(w->up, job->a, r, columns);
        lt_transpose(w->down, job->b, rows, r);
    }
    lt_free(job->a);
    lt_free(job->b);
    return st;
}

/* One panel of delta -= scale * up * down, in the file's orientation; and what is left.
 */
static double subtract_panel(const struct work *w, size_t i)
{
    const lt_site *s = w->item->site;
    const lt_panels *d = &w->delta;
    size_t r = (size_t)w->item->rank, in = (size_t)s->in, first = i * d->width, width;
    float *panel = lt_panel(d, i, &width);
    lt_matf b = { w->up, r, false }, a = { w->down, in, false };
    if (s->transposed) {
        b = (lt_matf){ w->down, in, true };
        a = (lt_matf){ w->up, r, true };
    }
    if (d->wide)
        a.p += a.t ? first * a.stride : first;
    else
        b.p += b.t ? first : first * b.stride;
    size_t rows = d->wide ? d->side : width, columns = d->wide ? width : d->side;
    lt_gemm_f32(rows, columns, r, (float)-w->scale, b, a, 1, panel);
    return lt_dot_f32(panel, panel, rows * columns);
}

/* The panels of one part: each part sums its own, in order. */
static lt_status subtract_part(void *ctx, size_t part, lt_error *err)
{
    struct work *w = ctx;
    (void)err;
    w->sums[part] = 0;
    for (size_t i = part; i < w->delta.count; i += MAX_PARTS)
        w->sums[part] += subtract_panel(w, i);
    return LT_OK;
}

/* What the stored factors leave of delta: from the basis where that tells, else by taking
 * them off. */
static lt_status measure(struct work *w, lt_dtype dtype, double *residual, lt_error *err)
{
    bool sure = false;
    lt_status st = LT_OK;
    if (!w->item->site->transposed)
        st = lt_lowrank_distance(&w->job, w->scale, dtype, residual, &sure, err);
    if (st || sure) return st;
    size_t parts = w->delta.count < MAX_PARTS ? w->delta.count : MAX_PARTS;
    st = lt_worker_share(w->worker, parts, subtract_part, w, err);
    *residual = add_up(w, parts);
    return st;
}

static void multiply(float *p, size_t n, double by)
{
    if (by == 1) return;
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(p[i] * by);
}

/* The two halves of a factor's rows change places. */
static void swap_halves(float *up, size_t rows, size_t rank)
{
    size_t half = rows / 2 * rank;
    for (size_t i = 0; i < half; i++) {
        float x = up[i];
        up[i] = up[half + i];
        up[half + i] = x;
    }
}

/* Factors with alpha / rank taken out, written, and then as they were stored. */
static lt_status store(struct factoring *f, struct work *w, lt_split split, lt_error *err)
{
    const lt_extract_item *item = w->item;
    size_t r = (size_t)item->rank, n_up = (size_t)item->site->out * r;
    size_t n_down = (size_t)item->site->in * r;
    bool balanced = split == LT_SPLIT_SQRT;
    w->scale = alpha_of(f->run, item) / (double)r;
    multiply(w->up, n_up, balanced ? 1 / sqrt(w->scale) : 1 / w->scale);
    multiply(w->down, n_down, balanced ? 1 / sqrt(w->scale) : 1);
    bool swaps = lt_site_swaps(item->site, lt_dialect_naming(f->run->dialect));
    if (swaps) swap_halves(w->up, (size_t)item->site->out, r);
    lt_status st = lt_adapter_out_put(f->out, item->out_index, w->up, w->down, err);
    /* Of others it is the output that is at fault. */
    if (st == LT_ERR_NUMERIC)
        return lt_error_where(err, "%s", lt_store_path(f->run->tuned));
    if (st) return st;
    if (swaps) swap_halves(w->up, (size_t)item->site->out, r);
    lt_round_to(w->up, n_up, f->run->dtype, w->cast);
    lt_round_to(w->down, n_down, f->run->dtype, w->cast);
    return LT_OK;
}

/* By the base's name of it, in the file that makes the difference. */
static lt_status blame_change(
    const lt_extract_run *run, const lt_extract_item *item, lt_error *err)
{
    return lt_error_where(
        err, "%s: tensor '%s'", lt_store_path(run->tuned), item->site->tensor->name);
}

static lt_status extract_one(void *ctx, size_t index, lt_worker *worker, lt_error *err)
{
    struct factoring *f = ctx;
    const lt_extract_item *item = &f->run->items[index];
    lt_extracted *result = &f->run->report->modules[index];
    lt_scratch *scratch = &f->run->scratch[lt_worker_index(worker)];
    lt_factor_split wanted = f->run->options->split;
    lt_split split = wanted == LT_FACTORS_UP ? LT_SPLIT_UP : LT_SPLIT_SQRT;
    struct work w = { .worker = worker };
    double started = lt_now();
    lt_status st = get_work(&w, item, scratch, err);
    if (!st) st = make_delta(&w, &result->energy, err);
    if (st) return st;
    st = factor(&w, result->energy, split, scratch, err);
    if (st) return blame_change(f->run, item, err);
    st = store(f, &w, split, err);
    if (!st) st = measure(&w, f->run->dtype, &result->residual, err);
    if (!st && !isfinite(result->residual)) {
        lt_error_set(err, LT_ERR_NUMERIC,
            "the change is so large that the product of its factors overflows F32");
        return blame_change(f->run, item, err);
    }
    result->seconds = lt_now() - started;
    lt_scratch_trim(scratch, f->keep);
    return st;
}

static void extract_done(void *ctx, size_t index)
{
    struct factoring *f = ctx;
    const lt_progress *p = &f->run->options->progress;
    f->done++;
    if (p->tick) p->tick(p->ctx, f->done, f->run->n_items, f->run->items[index].name);
}

/* The weight's shape as consumers see it. */
static unsigned consumer_shape(const lt_site *s, uint64_t shape[LT_MAX_DIMS])
{
    const lt_tensor *t = s->tensor;
    shape[0] = s->out;
    if (s->transposed) {
        shape[1] = s->in;
        return 2;
    }
    for (unsigned i = 1; i < t->n_dims; i++)
        shape[i] = t->shape[i];
    return t->n_dims;
}

static lt_status declare_modules(lt_extract_run *run, lt_adapter_out *out, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < run->n_items && !st; i++) {
        lt_extract_item *item = &run->items[i];
        lt_module_plan plan = { .name = item->name,
            .rank = item->rank,
            .alpha = alpha_of(run, item),
            .dtype = run->dtype,
            .fan_in_fan_out = item->site->transposed };
        plan.n_dims = consumer_shape(item->site, plan.shape);
        st = lt_adapter_out_add(out, &plan, &item->out_index, err);
    }
    return st ? st : lt_adapter_out_begin(out, err);
}

static int by_tensor(const void *a, const void *b)
{
    const lt_extracted *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static lt_status prepare_report(lt_extract_run *run, lt_error *err)
{
    lt_extract_report *r = run->report;
    r->modules = calloc(run->n_items, sizeof *r->modules);
    if (!r->modules) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < run->n_items; i++) {
        const lt_extract_item *item = &run->items[i];
        r->modules[i] = (lt_extracted){ .name = item->name,
            .rank = item->rank,
            .tensor = lt_arena_strdup(&run->arena, item->site->tensor->name, err) };
        if (!r->modules[i].tensor) return LT_ERR_NOMEM;
    }
    return LT_OK;
}

static void finish_report(lt_extract_run *run)
{
    lt_extract_report *r = run->report;
    double energy = 0, residual = 0;
    r->modules_written = run->n_items;
    qsort(r->modules, run->n_items, sizeof *r->modules, by_tensor);
    for (size_t i = 0; i < run->n_items; i++) {
        const lt_extracted *m = &r->modules[i];
        energy += m->energy;
        residual += m->residual;
        if (!r->rank_min || m->rank < r->rank_min) r->rank_min = m->rank;
        if (m->rank > r->rank_max) r->rank_max = m->rank;
        if (!r->worst
            || lt_relative_error(m->residual, m->energy)
                > lt_relative_error(r->worst->residual, r->worst->energy))
            r->worst = m;
    }
    r->error = lt_relative_error(residual, energy);
    double total = energy + run->skipped_energy;
    r->skipped_share = total > 0 ? run->skipped_energy / total : 0;
    r->family = lt_family_id(lt_model_family(run->model));
    r->dialect = lt_dialect_id(run->dialect);
    r->dtype = lt_dtype_get(run->dtype)->name;
}

static lt_status check_options(const lt_extract_options *o, lt_error *err)
{
    if (o->rank < 1 || o->rank > LT_MAX_RANK || o->conv_rank > LT_MAX_RANK)
        return lt_error_set(err, LT_ERR_ARG, "the rank must be 1 to %d", LT_MAX_RANK);
    if (lt_check_alpha(o->alpha, err)) return LT_ERR_ARG;
    if (!(o->min_diff >= 0)) return lt_error_set(err, LT_ERR_ARG, "min-diff is negative");
    return LT_OK;
}

static lt_status check_fidelity(const lt_extract_run *run, lt_error *err)
{
    const double *limit = run->options->max_error;
    if (!limit || run->report->error <= *limit) return LT_OK;
    return lt_error_set(err, LT_ERR_FIDELITY,
        "the error %.4g is above the %.4g asked for: a higher rank is needed",
        run->report->error, *limit);
}

static lt_status write_adapter(lt_extract_run *run, lt_adapter_out *out, lt_error *err)
{
    struct factoring f = { .run = run, .out = out };
    qsort(run->items, run->n_items, sizeof *run->items, by_cost);
    lt_status st = prepare_report(run, err);
    if (!st) st = declare_modules(run, out, err);
    lt_job job = { .threads = run->threads,
        .memory = run->options->memory,
        .n_items = run->n_items,
        .work = extract_one,
        .need = need,
        .done = extract_done,
        .ctx = &f };
    f.keep = lt_job_keep(&job);
    if (!st) st = lt_pool_run(&job, err);
    if (st) return st;
    finish_report(run);
    st = check_fidelity(run, err);
    if (!st) st = lt_store_unchanged(run->base, err);
    if (!st) st = lt_store_unchanged(run->tuned, err);
    if (!st) st = lt_adapter_out_commit(out, err);
    if (!st) run->report->cost.bytes = lt_adapter_out_size(out);
    return st;
}

/* The output is opened before the long part, so that one that cannot be made is told at
 * once. */
static lt_status run_all(lt_extract_run *run, lt_error *err)
{
    lt_adapter_out *out = NULL;
    lt_status st = check_options(run->options, err);
    if (!st) st = lt_extract_open(run, err);
    /* Before there is a file to leave behind: what it loads ends the process when it gets
     * no memory. */
    if (!st) st = lt_linalg_load(err);
    if (st) return st;
    lt_adapter_plan plan = { .path = run->options->output,
        .format = run->options->format,
        .dialect = run->dialect,
        .overwrite = run->options->overwrite,
        .family = lt_model_family(run->model) };
    st = lt_adapter_out_new(&out, &plan, err);
    if (!st) st = lt_extract_plan(run, err);
    if (!st) st = write_adapter(run, out, err);
    lt_adapter_out_close(out);
    return st;
}

static void release_run(lt_extract_run *run)
{
    for (int i = 0; run->scratch && i < run->threads; i++)
        lt_scratch_release(&run->scratch[i]);
    lt_free(run->scratch);
    lt_filter_release(&run->filter);
    lt_alias_map_free(run->tuned_names);
    lt_model_free(run->tuned_model);
    lt_free(run->tuned_used);
    lt_model_free(run->model);
    lt_store_close(run->tuned);
    lt_store_close(run->base);
    free(run->items);
}

lt_status lt_extract(
    const lt_extract_options *options, lt_extract_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_extract_report){ 0 };
    lt_extract_run run = { .options = options, .report = report };
    lt_status st = run_all(&run, err);
    release_run(&run);
    report->memory = run.arena.head;
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_extract_report_release(lt_extract_report *r)
{
    lt_arena arena = { .head = r->memory };
    lt_arena_release(&arena);
    lt_notes_release(&r->skipped);
    free(r->modules);
    *r = (lt_extract_report){ 0 };
}
