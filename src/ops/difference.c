/* SPDX-License-Identifier: MIT */
#include "ops/difference.h"

#include "tensor/convert.h"

#include <math.h>
#include <string.h>

#define CHUNK ((uint64_t)1 << 16) /* elements */

enum slot { S_RAW_A = 8, S_RAW_B, S_A, S_B };

struct chunk {
    uint64_t count; /* elements */
    bool equal;     /* the bytes are the same: nothing else is filled in */
    double *a, *b;  /* both sides */
};

static uint64_t element_size(const lt_tensor *t)
{
    return lt_dtype_get(t->dtype)->bits / 8;
}

static lt_status read_side(const lt_store *store, const lt_tensor *t, uint64_t first,
    uint64_t count, void *raw, lt_error *err)
{
    uint64_t size = element_size(t);
    return lt_store_read(store, t, first * size, raw, (size_t)(count * size), err);
}

static lt_status load_chunk(
    const lt_region *r, uint64_t at, struct chunk *c, lt_scratch *scratch, lt_error *err)
{
    uint64_t n = r->count - at < CHUNK ? r->count - at : CHUNK;
    uint64_t cap = r->count < CHUNK ? r->count : CHUNK;
    void *ra = lt_scratch_get(scratch, S_RAW_A, cap * element_size(r->a), 1, err);
    void *rb = lt_scratch_get(scratch, S_RAW_B, cap * element_size(r->b), 1, err);
    c->a = lt_scratch_get(scratch, S_A, cap, sizeof *c->a, err);
    c->b = lt_scratch_get(scratch, S_B, cap, sizeof *c->b, err);
    if (!ra || !rb || !c->a || !c->b) return LT_ERR_NOMEM;
    c->count = n;
    lt_status st = read_side(r->base, r->a, r->first + at, n, ra, err);
    if (!st) st = read_side(r->tuned, r->b, r->first + at, n, rb, err);
    if (st) return st;
    c->equal = r->a->dtype == r->b->dtype && !memcmp(ra, rb, n * element_size(r->a));
    if (c->equal) return LT_OK;
    lt_load_f64(c->a, ra, r->a->dtype, (size_t)n);
    lt_load_f64(c->b, rb, r->b->dtype, (size_t)n);
    return LT_OK;
}

lt_status lt_region_changed(const lt_region *r, double min_diff, bool *changed,
    lt_scratch *scratch, lt_error *err)
{
    *changed = false;
    for (uint64_t at = 0; at < r->count; at += CHUNK) {
        struct chunk c;
        lt_status st = load_chunk(r, at, &c, scratch, err);
        if (st) return st;
        for (uint64_t i = 0; i < c.count && !c.equal; i++) {
            if (fabs(c.b[i] - c.a[i]) <= min_diff) continue; /* false for NaN: a change */
            *changed = true;
            return LT_OK;
        }
    }
    return LT_OK;
}

lt_status lt_region_energy(
    const lt_region *r, double *energy, lt_scratch *scratch, lt_error *err)
{
    *energy = 0;
    for (uint64_t at = 0; at < r->count; at += CHUNK) {
        struct chunk c;
        lt_status st = load_chunk(r, at, &c, scratch, err);
        if (st) return st;
        for (uint64_t i = 0; i < c.count && !c.equal; i++) {
            double d = c.b[i] - c.a[i];
            *energy += d * d;
        }
    }
    return LT_OK;
}

static lt_status blame_side(
    const lt_region *r, const struct chunk *c, uint64_t at, size_t bad, lt_error *err)
{
    bool in_base = !isfinite(c->a[bad]), in_tuned = !isfinite(c->b[bad]);
    lt_error_set(err, LT_ERR_NUMERIC,
        in_base || in_tuned ? "element %llu is NaN or infinite"
                            : "element %llu differs by more than float32 can hold",
        (unsigned long long)(r->first + at + bad));
    return lt_store_blame(in_base ? r->base : r->tuned, in_base ? r->a : r->b, err);
}

lt_status lt_region_delta(
    const lt_region *r, float *dst, lt_scratch *scratch, lt_error *err)
{
    for (uint64_t at = 0; at < r->count; at += CHUNK) {
        struct chunk c;
        lt_status st = load_chunk(r, at, &c, scratch, err);
        if (st) return st;
        if (c.equal) {
            memset(dst + at, 0, (size_t)c.count * sizeof *dst);
            continue;
        }
        /* The difference in double, one rounding to float32. */
        for (uint64_t i = 0; i < c.count; i++)
            dst[at + i] = (float)(c.b[i] - c.a[i]);
        size_t bad = lt_find_nonfinite_f32(dst + at, (size_t)c.count);
        if (bad < c.count) return blame_side(r, &c, at, bad, err);
    }
    return LT_OK;
}
