/* SPDX-License-Identifier: MIT */
/* W' = W + sum_i weight_i * scale_i * up_i * down_i, the sum in double, one rounding to
 * the tensor's own type. Touched tensors are worked on in row tiles; the rest is copied.
 */
#include "ops/merge.h"

#include "adapter/hashes.h"
#include "base/pool.h"
#include "ops/cast.h"
#include "ops/sidecars.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TILE_ELEMENTS ((uint64_t)1 << 18)

struct merging {
    lt_merge_run *run;
    lt_writer *writer;
    lt_scratch *scratch;
    bool *shared; /* of each tensor: the same memory as another in the output too */
    size_t done;
};

/* Factors of one contribution, its factor multiplied into up. */
struct factors {
    const lt_contribution *part;
    double *up, *down;
};

enum slot { S_RAW, S_TILE };

static lt_dtype target_dtype(const lt_merge_run *run, const lt_tensor *t)
{
    return run->cast && lt_dtype_get(t->dtype)->computes ? run->dtype : t->dtype;
}

static void release_factors(struct factors *f, size_t n)
{
    for (size_t i = 0; f && i < n; i++) {
        lt_free(f[i].up);
        lt_free(f[i].down);
    }
    free(f);
}

/* up's row groups (rows x rank each) to the blocks that are enabled; zeros elsewhere. */
static void spread_rows(
    const lt_merge_options *o, const lt_module *m, const double *from, double *up)
{
    size_t block = (size_t)(m->out / m->groups * m->rank);
    memset(up, 0, block * o->n_enable_lora * sizeof *up);
    for (size_t i = 0; i < o->n_enable_lora; i++) {
        if (!o->enable_lora[i]) continue;
        memcpy(up + i * block, from, block * sizeof *up);
        from += block;
    }
}

/* A bias' change as a pair: the vector and the number 1. */
static lt_status load_bias(
    const lt_merge_run *run, const lt_contribution *part, double *up, lt_error *err)
{
    const lt_store *store = lt_adapter_store(run->adapters[part->input]);
    const lt_tensor *t = part->module->part[LT_PART_UP_BIAS];
    void *raw = lt_alloc_work(t->size, 1, err);
    if (!raw) return LT_ERR_NOMEM;
    lt_status st = lt_store_read(store, t, 0, raw, (size_t)t->size, err);
    if (!st) lt_load_f64(up, raw, t->dtype, (size_t)t->count);
    lt_free(raw);
    if (!st && lt_find_nonfinite_f64(up, (size_t)t->count) != t->count) {
        lt_error_set(err, LT_ERR_NUMERIC, "holds NaN or infinity");
        st = lt_store_blame(store, t, err);
    }
    return st;
}

static uint64_t rank_of(const lt_contribution *part)
{
    return part->bias ? 1 : part->module->rank;
}

static lt_status load_one(const lt_merge_run *run, struct factors *f, lt_error *err)
{
    const lt_contribution *part = f->part;
    const lt_module *m = part->module;
    uint64_t out = part->site->out, rank = rank_of(part);
    f->up = lt_alloc_work(out * rank, sizeof *f->up, err);
    f->down = lt_alloc_work(rank * part->site->in, sizeof *f->down, err);
    if (!f->up || !f->down) return LT_ERR_NOMEM;
    const lt_adapter *a = run->adapters[part->input];
    lt_status st = LT_OK;
    if (part->bias) {
        f->down[0] = 1;
        st = load_bias(run, part, f->up, err);
    } else if (part->spread) {
        double *rows = lt_alloc_work(m->out * rank, sizeof *rows, err);
        st = rows ? lt_module_load(a, m, rows, f->down, err) : LT_ERR_NOMEM;
        if (!st) spread_rows(run->options, m, rows, f->up);
        lt_free(rows);
    } else {
        st = lt_module_load(a, m, f->up, f->down, err);
    }
    for (uint64_t k = 0; k < out * rank && !st; k++)
        f->up[k] *= part->factor;
    return st;
}

static lt_status load_factors(
    const lt_merge_run *run, size_t t, struct factors **out, size_t *count, lt_error *err)
{
    size_t first = run->first_part[t], n = run->first_part[t + 1] - first;
    *count = n;
    *out = calloc(n + 1, sizeof **out);
    if (!*out) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        (*out)[i].part = &run->parts[first + i];
        lt_status st = load_one(run, &(*out)[i], err);
        if (st) return st;
    }
    return LT_OK;
}

/* tile (rows x columns, file rows from row) += the part of f that lies in it. */
static void add_contribution(
    const struct factors *f, uint64_t row, uint64_t rows, uint64_t columns, double *tile)
{
    const lt_site *s = f->part->site;
    size_t r = (size_t)rank_of(f->part);
    if (s->transposed) {
        /* file rows are the inputs: tile = down[:, row..]^T up^T */
        lt_gemm_f64((size_t)rows, (size_t)columns, r, 1,
            (lt_matd){ f->down + row, (size_t)s->in, true }, (lt_matd){ f->up, r, true },
            1, tile);
        return;
    }
    uint64_t from = row > s->row0 ? row : s->row0;
    uint64_t to = row + rows < s->row0 + s->rows ? row + rows : s->row0 + s->rows;
    if (from >= to) return;
    lt_gemm_f64((size_t)(to - from), (size_t)columns, r, 1,
        (lt_matd){ f->up + (from - s->row0) * r, r, false },
        (lt_matd){ f->down, (size_t)s->in, false }, 1, tile + (from - row) * columns);
}

/* Index of the first value that dtype cannot hold, or n. */
static size_t find_overflow(const double *p, size_t n, lt_dtype dtype)
{
    double limit = lt_dtype_get(dtype)->overflow;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(p[i]) < limit)) return i;
    return n;
}

static lt_status write_tile(const struct merging *g, size_t t, uint64_t first,
    const double *tile, size_t n, void *raw, lt_error *err)
{
    const lt_tensor *from = lt_store_at(g->run->base, t);
    lt_dtype dtype = target_dtype(g->run, from);
    size_t bad = find_overflow(tile, n, dtype);
    if (bad < n) {
        lt_error_set(err, LT_ERR_NUMERIC,
            "element %llu would be %g, which %s cannot hold",
            (unsigned long long)(first + bad), tile[bad], lt_dtype_get(dtype)->name);
        return lt_store_blame(g->run->base, from, err);
    }
    size_t size = lt_dtype_get(dtype)->bits / 8;
    lt_store_f64(raw, tile, dtype, n);
    return lt_writer_put(g->writer, t, first * size, raw, n * size, err);
}

static lt_status compute_tensor(const struct merging *g, size_t t,
    const struct factors *f, size_t n_factors, lt_scratch *scratch, lt_error *err)
{
    const lt_tensor *from = lt_store_at(g->run->base, t);
    uint64_t rows = lt_tensor_rows(from), columns = lt_tensor_columns(from);
    uint64_t step = columns ? TILE_ELEMENTS / columns + 1 : 1;
    if (step > rows) step = rows;
    size_t size = lt_dtype_get(from->dtype)->bits / 8;
    double *tile = lt_scratch_get(scratch, S_TILE, step * columns, sizeof *tile, err);
    void *raw = lt_scratch_get(scratch, S_RAW, step * columns, 8, err);
    if (!tile || !raw) return LT_ERR_NOMEM;
    for (uint64_t row = 0; row < rows && columns; row += step) {
        uint64_t now = rows - row < step ? rows - row : step;
        uint64_t first = row * columns;
        size_t n = (size_t)(now * columns);
        lt_status st =
            lt_store_read(g->run->base, from, first * size, raw, n * size, err);
        if (st) return st;
        lt_load_f64(tile, raw, from->dtype, n);
        for (size_t i = 0; i < n_factors; i++)
            add_contribution(&f[i], row, now, columns, tile);
        st = write_tile(g, t, first, tile, n, raw, err);
        if (st) return st;
    }
    return LT_OK;
}

static lt_status merge_tensor(void *ctx, size_t t, lt_worker *worker, lt_error *err)
{
    struct merging *g = ctx;
    const lt_tensor *from = lt_store_at(g->run->base, t);
    if (g->shared[t]) return LT_OK;
    const lt_replacement *own = &g->run->replacements[t];
    lt_scratch *scratch = &g->scratch[lt_worker_index(worker)];
    lt_dtype dtype = target_dtype(g->run, from);
    if (own->tensor)
        return lt_cast_copy(g->writer, t, dtype, own->store, own->tensor, scratch, err);
    if (!lt_merge_touches(g->run, t))
        return lt_cast_copy(g->writer, t, dtype, g->run->base, from, scratch, err);
    struct factors *f = NULL;
    size_t n = 0;
    lt_status st = load_factors(g->run, t, &f, &n, err);
    if (!st) st = compute_tensor(g, t, f, n, scratch, err);
    release_factors(f, n);
    return st;
}

static void merge_done(void *ctx, size_t t)
{
    struct merging *g = ctx;
    const lt_progress *p = &g->run->options->progress;
    g->done++;
    if (p->tick)
        p->tick(p->ctx, g->done, lt_store_count(g->run->base),
            lt_store_at(g->run->base, t)->name);
}

/* A tied weight stays tied where the format can hold that and neither twin changes. */
static void declare_twin(struct merging *g, size_t t)
{
    size_t twin = lt_store_alias(g->run->base, t);
    if (twin == t || lt_merge_touches(g->run, t) || lt_merge_touches(g->run, twin))
        return;
    lt_writer_alias(g->writer, t, twin, &g->shared[t]);
}

static lt_status declare(struct merging *g, lt_error *err)
{
    lt_merge_run *run = g->run;
    lt_writer *w = g->writer;
    bool plain = !strcmp(lt_store_container(run->base), "safetensors");
    lt_order order = plain ? LT_ORDER_GIVEN : LT_ORDER_REFERENCE;
    lt_metadata *meta = lt_writer_metadata(w);
    lt_status st = lt_metadata_copy(meta, lt_store_metadata(run->base), err);
    /* transformers refuses safetensors files that do not say so. */
    if (!st && !plain) st = lt_metadata_set(meta, "format", "pt", err);
    for (size_t i = 0; i < lt_store_count(run->base) && !st; i++) {
        const lt_tensor *t = lt_store_at(run->base, i);
        st = lt_writer_add(
            w, t->name, target_dtype(run, t), t->n_dims, t->shape, NULL, err);
        if (!st) declare_twin(g, i);
    }
    if (!st) st = lt_writer_plan(w, order, err);
    if (!st) st = lt_hashes_reserve_all(w, err);
    return st ? st : lt_writer_begin(w, order, err);
}

static void count_tensors(lt_merge_run *run)
{
    lt_merge_report *r = run->report;
    for (size_t t = 0; t < lt_store_count(run->base); t++) {
        const lt_tensor *from = lt_store_at(run->base, t);
        if (lt_merge_touches(run, t))
            r->tensors_changed++;
        else if (target_dtype(run, from) != from->dtype)
            r->tensors_cast++;
        else
            r->tensors_passed_through++;
    }
}

static lt_status open_output(struct merging *g, lt_error *err)
{
    const lt_merge_options *o = g->run->options;
    lt_output output = { .path = o->output,
        .format = o->format,
        .overwrite = o->overwrite,
        .folder = lt_path_is_folder_output(o->output),
        .wrapper = lt_store_wrapper(g->run->base),
        .like = g->run->base,
        .max_shard_size = o->max_shard_size };
    return lt_writer_new(&g->writer, &output, err);
}

static lt_status fill_output(struct merging *g, lt_error *err)
{
    lt_merge_run *run = g->run;
    lt_merge_report *r = run->report;
    size_t n = lt_store_count(run->base);
    lt_status st = open_output(g, err);
    if (!st) st = declare(g, err);
    if (!st) st = lt_notes_add_asides(&r->dropped, run->base, err);
    if (!st) st = lt_notes_add_metadata(&r->dropped, g->writer, run->base, err);
    if (!st)
        st = lt_pool_run(&(lt_job){ .threads = run->threads,
                             .n_items = n,
                             .work = merge_tensor,
                             .done = merge_done,
                             .ctx = g },
            err);
    if (!st) st = lt_hashes_fill(g->writer, err);
    if (!st)
        st = lt_sidecars_copy(
            g->writer, run->base, run->options->output, &r->sidecars, &r->dropped, err);
    if (!st) st = lt_writer_commit(g->writer, err);
    if (st) return st;
    r->files = lt_writer_file_count(g->writer) + r->sidecars;
    r->cost.bytes = lt_writer_size(g->writer);
    return LT_OK;
}

static lt_status write_model(lt_merge_run *run, lt_error *err)
{
    struct merging g = { .run = run };
    run->threads = lt_thread_count(run->options->threads);
    g.scratch = lt_alloc((uint64_t)run->threads, sizeof *g.scratch, err);
    g.shared = lt_alloc(lt_store_count(run->base), sizeof *g.shared, err);
    lt_status st = g.scratch && g.shared ? lt_linalg_load(err) : LT_ERR_NOMEM;
    if (!st) st = fill_output(&g, err);
    lt_writer_close(g.writer);
    for (int i = 0; g.scratch && i < run->threads; i++)
        lt_scratch_release(&g.scratch[i]);
    lt_free(g.scratch);
    lt_free(g.shared);
    return st;
}

lt_status lt_merge(
    const lt_merge_options *options, lt_merge_report *report, lt_error *err)
{
    double started = lt_now();
    *report = (lt_merge_report){ 0 };
    lt_merge_run run = { .options = options, .report = report };
    lt_status st = lt_merge_plan(&run, err);
    if (!st) count_tensors(&run);
    if (!st && !options->dry_run) st = write_model(&run, err);
    for (size_t i = 0; run.adapters && i < options->n_inputs; i++)
        lt_adapter_free(run.adapters[i]);
    free(run.adapters);
    free(run.parts);
    lt_free(run.first_part);
    lt_free(run.replacements);
    lt_model_free(run.model);
    lt_store_close(run.base);
    report->memory = run.arena.head;
    lt_cost_finish(&report->cost, started);
    return st;
}

void lt_merge_report_release(lt_merge_report *r)
{
    lt_arena arena = { r->memory };
    lt_arena_release(&arena);
    lt_notes_release(&r->unmatched);
    lt_notes_release(&r->redundant);
    lt_notes_release(&r->dropped);
    free(r->applied);
    *r = (lt_merge_report){ 0 };
}
