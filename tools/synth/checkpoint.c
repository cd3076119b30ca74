/* SPDX-License-Identifier: MIT */
#include "synth.h"

#include "base/mem.h"
#include "base/pool.h"
#include "loratool/store.h"
#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <math.h>
#include <string.h>

#define TILE ((uint64_t)1 << 20) /* elements worked on at once */

/* The change of a matrix: this many directions with singular values i^-DECAY, and beside
 * them noise of this share of its norm. */
#define DIRECTIONS 96
#define DECAY 0.7
#define NOISE_SHARE 0.2

enum slot { S_RAW, S_TILE, S_LEFT, S_RIGHT };
enum purpose { P_BASE, P_NOISE, P_LEFT, P_RIGHT };

struct run {
    const synth_job *job;
    lt_writer *writer;
    lt_store *base; /* NULL for a base */
    lt_scratch *scratch;
};

/* What one tensor is worked on with. */
struct work {
    const synth_job *job;
    const lt_tensor *from, *to;
    size_t index; /* in the writer */
    uint64_t rows, columns, tile_rows;
    size_t rank;
    double deviation; /* of each element of the change */
    void *raw;
    float *tile, *left, *right;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static double mean_of(const lt_tensor *t)
{
    if (t->n_dims == 0) return log(100);                            /* logit_scale */
    return t->n_dims == 1 && ends_with(t->name, ".weight") ? 1 : 0; /* norms */
}

double synth_deviation(const lt_tensor *t)
{
    return t->n_dims < 2 ? 0.02 : 1 / sqrt((double)lt_tensor_columns(t));
}

static uint64_t min_count(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- a base --------------------------------------------------------------------------
 */

static lt_status put_positions(lt_writer *writer, size_t index, uint64_t n, lt_error *err)
{
    for (uint64_t i = 0; i < n; i++) {
        int64_t value = (int64_t)i;
        lt_status st =
            lt_writer_put(writer, index, i * sizeof value, &value, sizeof value, err);
        if (st) return st;
    }
    return LT_OK;
}

static lt_status make_base(void *ctx, size_t index, lt_worker *worker, lt_error *err)
{
    const struct run *run = ctx;
    const synth_noise *noise = run->job->noise;
    const lt_tensor *t = &run->job->layout->items[index];
    if (t->dtype == LT_I64) return put_positions(run->writer, index, t->count, err);
    uint64_t cap = min_count(t->count, TILE),
             stream = synth_noise_stream(noise, t->name, P_BASE);
    size_t element = lt_dtype_get(t->dtype)->bits / 8;
    void *raw =
        lt_scratch_get(&run->scratch[lt_worker_index(worker)], S_RAW, cap, element, err);
    float *tile = lt_scratch_get(
        &run->scratch[lt_worker_index(worker)], S_TILE, cap, sizeof *tile, err);
    lt_status st = raw && tile ? LT_OK : LT_ERR_NOMEM;
    for (uint64_t at = 0; at < t->count && !st; at += cap) {
        size_t n = (size_t)min_count(t->count - at, cap);
        synth_noise_fill(
            noise, stream, at, n, (float)mean_of(t), (float)synth_deviation(t), tile);
        lt_store_f32(raw, tile, t->dtype, n);
        st = lt_writer_put(run->writer, index, at * element, raw, n * element, err);
    }
    return st;
}

/* ---- a fine-tune ---------------------------------------------------------------------
 */

/* The right factor, rank x columns: row i has the norm of the i-th singular value, with
 * their squares adding up to 1. */
static void fill_right(struct work *w, const char *name)
{
    const synth_noise *noise = w->job->noise;
    uint64_t stream = synth_noise_stream(noise, name, P_RIGHT);
    double total = 0;
    for (size_t i = 1; i <= w->rank; i++)
        total += pow((double)i, -2 * DECAY);
    for (size_t i = 0; i < w->rank; i++) {
        double sigma = pow((double)i + 1, -DECAY) / sqrt(total);
        synth_noise_fill(noise, stream, i * w->columns, (size_t)w->columns, 0,
            (float)sigma, w->right + i * w->columns);
    }
}

/* tile += rows [row, row + n) of the change. */
static void add_change(const struct work *w, uint64_t row, uint64_t n)
{
    const synth_noise *noise = w->job->noise;
    const char *name = w->to->name;
    size_t columns = (size_t)w->columns;
    synth_noise_add(noise, synth_noise_stream(noise, name, P_NOISE), row * columns,
        (size_t)n * columns, (float)(w->deviation * (w->rank ? NOISE_SHARE : 1)),
        w->tile);
    if (!w->rank) return;
    synth_noise_fill(noise, synth_noise_stream(noise, name, P_LEFT), row * w->rank,
        (size_t)n * w->rank, 0, 1, w->left);
    double share = sqrt(1 - NOISE_SHARE * NOISE_SHARE);
    lt_gemm_f32((size_t)n, columns, w->rank, (float)(w->deviation * share),
        (lt_matf){ w->left, w->rank, false }, (lt_matf){ w->right, columns, false }, 1,
        w->tile);
}

static lt_status prepare(struct work *w, lt_scratch *scratch, lt_error *err)
{
    const lt_tensor *t = w->to;
    bool matrix = t->n_dims > 1;
    w->rows = matrix ? lt_tensor_rows(t) : 1;
    w->columns = matrix ? lt_tensor_columns(t) : t->count;
    w->tile_rows = min_count(w->rows, TILE / w->columns + 1);
    w->deviation = synth_is_frozen(t) ? 0 : w->job->strength * synth_deviation(t);
    if (matrix && w->deviation > 0)
        w->rank = (size_t)min_count(DIRECTIONS, min_count(w->rows, w->columns));
    uint64_t tile = w->tile_rows * w->columns;
    w->raw = lt_scratch_get(scratch, S_RAW, tile, sizeof(double), err);
    w->tile = lt_scratch_get(scratch, S_TILE, tile, sizeof *w->tile, err);
    w->left =
        lt_scratch_get(scratch, S_LEFT, w->tile_rows * w->rank, sizeof *w->left, err);
    w->right =
        lt_scratch_get(scratch, S_RIGHT, w->rank * w->columns, sizeof *w->right, err);
    if (!w->raw || !w->tile || !w->left || !w->right) return LT_ERR_NOMEM;
    if (w->rank) fill_right(w, t->name);
    return LT_OK;
}

static lt_status tune_rows(const struct run *run, const struct work *w, uint64_t row,
    uint64_t rows, lt_error *err)
{
    size_t n = (size_t)(rows * w->columns), first = (size_t)(row * w->columns);
    size_t from = lt_dtype_get(w->from->dtype)->bits / 8;
    size_t to = lt_dtype_get(w->to->dtype)->bits / 8;
    lt_status st = lt_store_read(run->base, w->from, first * from, w->raw, n * from, err);
    if (st) return st;
    lt_load_f32(w->tile, w->raw, w->from->dtype, n);
    if (w->deviation > 0) add_change(w, row, rows);
    lt_store_f32(w->raw, w->tile, w->to->dtype, n);
    return lt_writer_put(run->writer, w->index, first * to, w->raw, n * to, err);
}

static lt_status make_tuned(void *ctx, size_t index, lt_worker *worker, lt_error *err)
{
    const struct run *run = ctx;
    struct work w = {
        .job = run->job, .to = &run->job->layout->items[index], .index = index
    };
    w.from = lt_store_find(run->base, w.to->name);
    if (!lt_dtype_get(w.to->dtype)->computes)
        return lt_writer_copy(run->writer, index, run->base, w.from, err);
    lt_status st = prepare(&w, &run->scratch[lt_worker_index(worker)], err);
    for (uint64_t row = 0; row < w.rows && !st; row += w.tile_rows)
        st = tune_rows(run, &w, row, min_count(w.rows - row, w.tile_rows), err);
    return st;
}

/* The base must hold what the layout says; returns the dtype to write by *dtype. */
static lt_status match(
    const struct run *run, const lt_tensor *t, lt_dtype *dtype, lt_error *err)
{
    const lt_tensor *from = lt_store_find(run->base, t->name);
    lt_status st = LT_OK;
    if (!from || from->n_dims != t->n_dims
        || memcmp(from->shape, t->shape, t->n_dims * sizeof *t->shape)
        || lt_dtype_get(from->dtype)->computes != lt_dtype_get(t->dtype)->computes)
        st = lt_error_set(err, LT_ERR_MISMATCH, "lacks '%s' of the layout %s", t->name,
            run->job->layout->name);
    if (st) return lt_error_where(err, "%s", run->job->base);
    if (!run->job->has_dtype || !lt_dtype_get(t->dtype)->computes) *dtype = from->dtype;
    return LT_OK;
}

/* ---- both ----------------------------------------------------------------------------
 */

static lt_status plan(const struct run *run, lt_error *err)
{
    const synth_layout *l = run->job->layout;
    lt_status st = LT_OK;
    for (size_t i = 0; i < l->count && !st; i++) {
        lt_tensor *t = &l->items[i];
        if (run->base) st = match(run, t, &t->dtype, err);
        if (!st)
            st = lt_writer_add(
                run->writer, t->name, t->dtype, t->n_dims, t->shape, NULL, err);
    }
    if (!st) st = lt_metadata_set(lt_writer_metadata(run->writer), "format", "pt", err);
    return st ? st : lt_writer_begin(run->writer, LT_ORDER_REFERENCE, err);
}

static lt_status write_file(struct run *run, lt_work_fn make, lt_error *err)
{
    int threads = run->job->threads;
    run->scratch = lt_alloc((uint64_t)threads, sizeof *run->scratch, err);
    lt_status st = run->scratch ? LT_OK : LT_ERR_NOMEM;
    lt_output output = { .path = run->job->output, .overwrite = true };
    if (!st) st = lt_writer_new(&run->writer, &output, err);
    if (!st) st = plan(run, err);
    if (!st)
        st = lt_pool_run(&(lt_job){ .threads = threads,
                             .n_items = run->job->layout->count,
                             .work = make,
                             .ctx = run },
            err);
    if (!st) st = lt_writer_commit(run->writer, err);
    lt_writer_close(run->writer);
    for (int i = 0; run->scratch && i < threads; i++)
        lt_scratch_release(&run->scratch[i]);
    lt_free(run->scratch);
    return st;
}

lt_status synth_write_base(const synth_job *job, lt_error *err)
{
    struct run run = { .job = job };
    return write_file(&run, make_base, err);
}

lt_status synth_write_tuned(const synth_job *job, lt_error *err)
{
    struct run run = { .job = job };
    lt_status st = lt_store_open(&run.base, job->base, err);
    if (!st) st = write_file(&run, make_tuned, err);
    lt_store_close(run.base);
    return st;
}
