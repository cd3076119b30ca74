/* SPDX-License-Identifier: MIT */
#include "ops/extract.h"

#include "base/limits.h"
#include "base/pool.h"
#include "tensor/linalg.h"
#include "tensor/lowrank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Slots 0..7 belong to the SVD, 8..11 to the difference. */
enum slot { S_DELTA = 12, S_UP, S_DOWN, S_CAST };

struct factoring {
    lt_extract_run *run;
    lt_adapter_out *out;
    size_t done;
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

/* Factors of delta in consumers' orientation: up (out x r), down (r x in). A transposed
 * weight has delta^T in the file: its factors swap places and are transposed. */
static lt_status factor(const lt_extract_item *item, const float *delta, double energy,
    lt_split split, float *up, float *down, lt_scratch *scratch, lt_error *err)
{
    size_t out = (size_t)item->site->out, in = (size_t)item->site->in;
    size_t r = (size_t)item->rank;
    if (!item->site->transposed)
        return lt_lowrank(delta, out, in, r, energy, split, up, down, NULL, scratch, err);
    float *b = lt_alloc_work(in * r, sizeof *b, err);
    float *a = lt_alloc_work(r * out, sizeof *a, err);
    lt_status st = a && b ? LT_OK : LT_ERR_NOMEM;
    if (!st) st = lt_lowrank(delta, in, out, r, energy, split, b, a, NULL, scratch, err);
    if (!st) {
        lt_transpose(up, a, r, out);
        lt_transpose(down, b, in, r);
    }
    lt_free(a);
    lt_free(b);
    return st;
}

/* delta -= scale * up * down, in the file's orientation; returns what is left. */
static double subtract(const lt_site *s, size_t r, double scale, const float *up,
    const float *down, float *delta)
{
    size_t out = (size_t)s->out, in = (size_t)s->in;
    if (s->transposed)
        lt_gemm_f32(in, out, r, (float)-scale, (lt_matf){ down, in, true },
            (lt_matf){ up, r, true }, 1, delta);
    else
        lt_gemm_f32(out, in, r, (float)-scale, (lt_matf){ up, r, false },
            (lt_matf){ down, in, false }, 1, delta);
    return lt_energy_f32(delta, out * in);
}

static void multiply(float *p, size_t n, double by)
{
    if (by == 1) return;
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(p[i] * by);
}

static lt_status extract_one(void *ctx, size_t index, lt_worker *worker, lt_error *err)
{
    struct factoring *f = ctx;
    lt_extract_run *run = f->run;
    const lt_extract_item *item = &run->items[index];
    lt_extracted *result = &run->report->modules[index];
    lt_scratch *scratch = &run->scratch[lt_worker_index(worker)];
    size_t out = (size_t)item->site->out, in = (size_t)item->site->in;
    size_t r = (size_t)item->rank, longest = (out > in ? out : in) * r;
    float *delta =
        lt_scratch_get(scratch, S_DELTA, (uint64_t)out * in, sizeof *delta, err);
    float *up = lt_scratch_get(scratch, S_UP, (uint64_t)out * r, sizeof *up, err);
    float *down = lt_scratch_get(scratch, S_DOWN, (uint64_t)in * r, sizeof *down, err);
    void *cast = lt_scratch_get(scratch, S_CAST, longest, sizeof(float), err);
    if (!delta || !up || !down || !cast) return LT_ERR_NOMEM;
    lt_status st = lt_region_delta(&item->region, delta, scratch, err);
    if (st) return st;
    result->energy = lt_energy_f32(delta, out * in);
    lt_split split = run->options->split == LT_FACTORS_UP ? LT_SPLIT_UP : LT_SPLIT_SQRT;
    st = factor(item, delta, result->energy, split, up, down, scratch, err);
    if (st) return lt_error_where(err, "tensor '%s'", item->site->tensor->name);
    double scale = alpha_of(run, item) / (double)r;
    bool balanced = split == LT_SPLIT_SQRT;
    multiply(up, out * r, balanced ? 1 / sqrt(scale) : 1 / scale);
    multiply(down, in * r, balanced ? 1 / sqrt(scale) : 1);
    st = lt_adapter_out_put(f->out, item->out_index, up, down, err);
    if (st) return st;
    lt_round_to(up, out * r, run->dtype, cast);
    lt_round_to(down, in * r, run->dtype, cast);
    result->residual = subtract(item->site, r, scale, up, down, delta);
    return LT_OK;
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
    if (!st)
        st = lt_pool_run(&(lt_job){ .threads = run->threads,
                             .n_items = run->n_items,
                             .work = extract_one,
                             .done = extract_done,
                             .ctx = &f },
            err);
    if (st) return st;
    finish_report(run);
    st = check_fidelity(run, err);
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
    if (st) return st;
    lt_adapter_plan plan = { .path = run->options->output,
        .format = run->options->format,
        .dialect = run->dialect,
        .overwrite = run->options->overwrite,
        .family = lt_model_family(run->model) };
    st = lt_adapter_out_new(&out, &plan, err);
    if (!st) st = lt_extract_plan(run, err);
    if (!st) st = lt_linalg_load(err);
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
    lt_arena arena = { r->memory };
    lt_arena_release(&arena);
    lt_notes_release(&r->skipped);
    free(r->modules);
    *r = (lt_extract_report){ 0 };
}
