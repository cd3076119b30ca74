/* SPDX-License-Identifier: MIT */
/* Adapter modules as addends that a tensor of the base is to get. */
#include "ops/merge.h"
#include "tensor/convert.h"

#include <stdlib.h>
#include <string.h>

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
    size_t n = (size_t)part->site->rows, size = (size_t)(t->size / t->count);
    void *raw = lt_alloc_work(n, size, err);
    if (!raw) return LT_ERR_NOMEM;
    lt_status st = lt_store_read(store, t, part->first * size, raw, n * size, err);
    if (!st) lt_load_f64(up, raw, t->dtype, n);
    lt_free(raw);
    if (!st && lt_find_nonfinite_f64(up, n) != n) {
        lt_error_set(err, LT_ERR_NUMERIC, "holds NaN or infinity");
        st = lt_store_blame(store, t, err);
    }
    return st;
}

static lt_status load_pair(const lt_merge_run *run, const lt_contribution *part,
    double *up, double *down, lt_error *err)
{
    const lt_module *m = part->module;
    const lt_adapter *a = run->adapters[part->input];
    if (part->bias) {
        down[0] = 1;
        return load_bias(run, part, up, err);
    }
    bool whole = part->site->out == m->out;
    if (whole && !part->spread) return lt_module_load(a, m, up, down, err);
    double *rows = lt_alloc_work(m->out * m->rank, sizeof *rows, err);
    lt_status st = rows ? lt_module_load(a, m, rows, down, err) : LT_ERR_NOMEM;
    if (!st && part->spread)
        spread_rows(run->options, m, rows, up);
    else if (!st)
        memcpy(up, rows + part->first * m->rank,
            (size_t)(part->site->out * m->rank) * sizeof *up);
    lt_free(rows);
    return st;
}

/* dst (columns x rows), in strips that a cache line of each row lasts for. */
static void transpose(double *dst, const double *src, size_t rows, size_t columns)
{
    for (size_t from = 0; from < columns; from += 8) {
        size_t to = columns - from < 8 ? columns : from + 8;
        for (size_t i = 0; i < rows; i++)
            for (size_t j = from; j < to; j++)
                dst[j * rows + i] = src[i * columns + j];
    }
}

/* On a transposed site the file's rows are the inputs: what is added is the product's
 * transpose. */
static lt_status load_transposed(
    const lt_merge_run *run, const lt_contribution *part, lt_addend *a, lt_error *err)
{
    double *up = lt_alloc_work(a->columns * a->rank, sizeof *up, err);
    double *down = lt_alloc_work(a->rank * a->rows, sizeof *down, err);
    lt_status st = up && down ? load_pair(run, part, up, down, err) : LT_ERR_NOMEM;
    if (!st) transpose(a->left, down, a->rank, a->rows);
    if (!st) transpose(a->right, up, a->columns, a->rank);
    lt_free(down);
    lt_free(up);
    return st;
}

static lt_status load_one(
    const lt_merge_run *run, const lt_contribution *part, lt_addend *a, lt_error *err)
{
    const lt_site *s = part->site;
    size_t rank = part->bias ? 1 : (size_t)part->module->rank;
    size_t out = (size_t)s->out, in = (size_t)s->in;
    lt_status st = s->transposed ? lt_addend_init(a, 0, in, out, rank, err)
                                 : lt_addend_init(a, (size_t)s->row0, out, in, rank, err);
    a->factor = part->factor;
    if (st) return st;
    return s->transposed ? load_transposed(run, part, a, err)
                         : load_pair(run, part, a->left, a->right, err);
}

lt_status lt_merge_load(const lt_merge_run *run, size_t t, lt_sum *sum, lt_error *err)
{
    size_t first = run->first_part[t];
    sum->count = run->first_part[t + 1] - first;
    sum->addends = calloc(sum->count + 1, sizeof *sum->addends);
    if (!sum->addends) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < sum->count; i++) {
        lt_status st = load_one(run, &run->parts[first + i], &sum->addends[i], err);
        if (st) return st;
    }
    return lt_sum_prepare(sum, err);
}

void lt_merge_unload(lt_sum *sum)
{
    for (size_t i = 0; sum->addends && i < sum->count; i++)
        lt_addend_release(&sum->addends[i]);
    free(sum->addends);
    sum->addends = NULL;
}
