/* SPDX-License-Identifier: MIT */
/* The difference of a tensor, or of rows of it, between two stores, streamed in chunks.
 */
#ifndef LT_OPS_DIFFERENCE_H
#define LT_OPS_DIFFERENCE_H

#include "ops/common.h"
#include "tensor/panels.h"

/* Elements [first, first + count) of a tensor. */
typedef struct lt_stretch {
    const lt_tensor *tensor;
    uint64_t first, count;
} lt_stretch;

/* The same elements on both sides: count of them, starting at element first. Where the
 * tuned model has another layout, they are its stretches, one after the other. */
typedef struct lt_region {
    const lt_store *base, *tuned;
    const lt_tensor *a, *b; /* of base and tuned: equal shapes; or b is of the first of */
    uint64_t first, count;
    lt_stretch stretches[LT_MAX_PIECES]; /* of one data type */
    size_t n_stretches;                  /* 0: b itself */
} lt_region;

/* *changed: some |difference| is above min_diff (or is NaN). Stops at the first one. Uses
 * slots 8..11 of scratch. */
lt_status lt_region_changed(const lt_region *region, double min_diff, bool *changed,
    lt_scratch *scratch, lt_error *err) LT_MUST_USE;

/* Sum of squares of tuned - base, in float32 as lt_region_delta has it. Uses slots 8..12.
 */
lt_status lt_region_energy(const lt_region *region, double *energy, lt_scratch *scratch,
    lt_error *err) LT_MUST_USE;

/* A region's difference is made in this many parts, which may run side by side. */
size_t lt_region_parts(const lt_region *region);

/* One part of delta = tuned - base in float32, rounded once, and its sum of squares.
 * delta has the region's shape. LT_ERR_NUMERIC, naming the tensor, when not finite. */
lt_status lt_region_delta(const lt_region *region, size_t part, lt_panels *delta,
    double *energy, lt_error *err) LT_MUST_USE;

#endif
