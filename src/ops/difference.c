/* SPDX-License-Identifier: MIT */
#include "ops/difference.h"

#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <math.h>
#include <string.h>

#define CHUNK ((uint64_t)1 << 16) /* elements */
#define MAX_PARTS 16

enum slot { S_RAW_A = 8, S_RAW_B, S_A, S_B, S_DELTA };

struct chunk {
    uint64_t count; /* elements */
    bool equal;     /* the bytes are the same */
    void *raw_a, *raw_b;
    double *a, *b; /* both sides, once loaded and when not equal */
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

/* The stretch that holds element at of the region, which becomes its place there. */
static const lt_stretch *stretch_at(const lt_region *r, uint64_t *at)
{
    const lt_stretch *s = r->stretches;
    while (*at >= s->count)
        *at -= s++->count;
    *at += s->first;
    return s;
}

static lt_status read_tuned(
    const lt_region *r, uint64_t at, uint64_t count, char *raw, lt_error *err)
{
    uint64_t size = element_size(r->b);
    lt_status st = LT_OK;
    if (!r->n_stretches) return read_side(r->tuned, r->b, r->first + at, count, raw, err);
    while (count && !st) {
        uint64_t from = at;
        const lt_stretch *s = stretch_at(r, &from);
        uint64_t n = s->first + s->count - from;
        if (n > count) n = count;
        st = read_side(r->tuned, s->tensor, from, n, raw, err);
        raw += n * size;
        at += n;
        count -= n;
    }
    return st;
}

static uint64_t chunk_room(const lt_region *r)
{
    return r->count < CHUNK ? r->count : CHUNK;
}

static lt_status read_chunk(
    const lt_region *r, uint64_t at, struct chunk *c, lt_scratch *scratch, lt_error *err)
{
    uint64_t room = chunk_room(r);
    c->count = r->count - at < CHUNK ? r->count - at : CHUNK;
    c->raw_a = lt_scratch_get(scratch, S_RAW_A, room * element_size(r->a), 1, err);
    c->raw_b = lt_scratch_get(scratch, S_RAW_B, room * element_size(r->b), 1, err);
    if (!c->raw_a || !c->raw_b) return LT_ERR_NOMEM;
    lt_status st = read_side(r->base, r->a, r->first + at, c->count, c->raw_a, err);
    if (!st) st = read_tuned(r, at, c->count, c->raw_b, err);
    if (st) return st;
    c->equal = r->a->dtype == r->b->dtype
        && !memcmp(c->raw_a, c->raw_b, c->count * element_size(r->a));
    return LT_OK;
}

/* Both sides in double. */
static lt_status load_sides(
    const lt_region *r, struct chunk *c, lt_scratch *scratch, lt_error *err)
{
    c->a = lt_scratch_get(scratch, S_A, chunk_room(r), sizeof *c->a, err);
    c->b = lt_scratch_get(scratch, S_B, chunk_room(r), sizeof *c->b, err);
    if (!c->a || !c->b) return LT_ERR_NOMEM;
    lt_load_f64(c->a, c->raw_a, r->a->dtype, (size_t)c->count);
    lt_load_f64(c->b, c->raw_b, r->b->dtype, (size_t)c->count);
    return LT_OK;
}

static lt_status load_chunk(
    const lt_region *r, uint64_t at, struct chunk *c, lt_scratch *scratch, lt_error *err)
{
    lt_status st = read_chunk(r, at, c, scratch, err);
    return st || c->equal ? st : load_sides(r, c, scratch, err);
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

/* Tuned - base with one rounding: float32 holds both sides exactly, or double does. */
static lt_status subtract_sides(
    const lt_region *r, struct chunk *c, float *d, lt_scratch *scratch, lt_error *err)
{
    size_t n = (size_t)c->count;
    if (r->a->dtype == LT_F64 || r->b->dtype == LT_F64) {
        lt_status st = load_sides(r, c, scratch, err);
        if (!st) lt_subtract_f64(d, c->b, c->a, n);
        return st;
    }
    float *base = lt_scratch_get(scratch, S_A, chunk_room(r), sizeof *base, err);
    if (!base) return LT_ERR_NOMEM;
    lt_load_f32(base, c->raw_a, r->a->dtype, n);
    lt_load_f32(d, c->raw_b, r->b->dtype, n);
    lt_subtract_f32(d, d, base, n);
    return LT_OK;
}

lt_status lt_region_energy(
    const lt_region *r, double *energy, lt_scratch *scratch, lt_error *err)
{
    *energy = 0;
    float *d = lt_scratch_get(scratch, S_DELTA, chunk_room(r), sizeof *d, err);
    if (!d) return LT_ERR_NOMEM;
    for (uint64_t at = 0; at < r->count; at += CHUNK) {
        struct chunk c;
        lt_status st = read_chunk(r, at, &c, scratch, err);
        if (st) return st;
        if (c.equal) continue;
        st = subtract_sides(r, &c, d, scratch, err);
        if (st) return st;
        *energy += lt_dot_f32(d, d, (size_t)c.count);
    }
    return LT_OK;
}

static lt_status blame_side(
    const lt_region *r, const struct chunk *c, uint64_t at, size_t bad, lt_error *err)
{
    bool in_base = !isfinite(c->a[bad]), in_tuned = !isfinite(c->b[bad]);
    uint64_t element = at + bad;
    const lt_tensor *tuned = r->b;
    if (!in_base && r->n_stretches)
        tuned = stretch_at(r, &element)->tensor;
    else
        element += r->first;
    lt_error_set(err, LT_ERR_NUMERIC,
        in_base || in_tuned ? "element %llu is NaN or infinite"
                            : "element %llu differs by more than float32 can hold",
        (unsigned long long)element);
    return lt_store_blame(in_base ? r->base : r->tuned, in_base ? r->a : tuned, err);
}

/* Where a part of the region's elements starts. */
static uint64_t part_start(const lt_region *r, size_t part)
{
    uint64_t chunks = (r->count + CHUNK - 1) / CHUNK;
    uint64_t at = chunks * part / lt_region_parts(r) * CHUNK;
    return at < r->count ? at : r->count;
}

size_t lt_region_parts(const lt_region *r)
{
    uint64_t parts = r->count / (4 * CHUNK);
    return parts < 1 ? 1 : parts > MAX_PARTS ? MAX_PARTS : (size_t)parts;
}

static lt_status delta_chunk(const lt_region *r, uint64_t at, lt_panels *delta, float *d,
    double *energy, lt_scratch *scratch, lt_error *err)
{
    struct chunk c;
    lt_status st = read_chunk(r, at, &c, scratch, err);
    if (!st && !c.equal) st = subtract_sides(r, &c, d, scratch, err);
    if (st) return st;
    size_t n = (size_t)c.count;
    if (c.equal) memset(d, 0, n * sizeof *d);
    *energy += lt_dot_f32(d, d, n);
    lt_panels_put(delta, (size_t)at, d, n);
    if (isfinite(*energy)) return LT_OK;
    st = load_sides(r, &c, scratch, err);
    return st ? st : blame_side(r, &c, at, lt_find_nonfinite_f32(d, n), err);
}

lt_status lt_region_delta(
    const lt_region *r, size_t part, lt_panels *delta, double *energy, lt_error *err)
{
    lt_scratch scratch = { 0 };
    *energy = 0;
    float *d = lt_scratch_get(&scratch, S_DELTA, chunk_room(r), sizeof *d, err);
    lt_status st = d ? LT_OK : LT_ERR_NOMEM;
    uint64_t end = part_start(r, part + 1);
    for (uint64_t at = part_start(r, part); at < end && !st; at += CHUNK)
        st = delta_chunk(r, at, delta, d, energy, &scratch, err);
    lt_scratch_release(&scratch);
    return st;
}
