/* SPDX-License-Identifier: MIT */
/* The difference of a tensor, or of rows of it, between two stores, streamed in chunks.
 */
#ifndef LT_OPS_DIFFERENCE_H
#define LT_OPS_DIFFERENCE_H

#include "ops/common.h"

/* The same elements on both sides: count of them, starting at element first. */
typedef struct lt_region {
    const lt_store *base, *tuned;
    const lt_tensor *a, *b; /* of base and tuned: equal shapes */
    uint64_t first, count;
} lt_region;

/* *changed: some |difference| is above min_diff (or is NaN). Stops at the first one. Uses
 * slots 8..11 of scratch, as all here do. */
lt_status lt_region_changed(const lt_region *region, double min_diff, bool *changed,
    lt_scratch *scratch, lt_error *err) LT_MUST_USE;

/* Sum of squares of tuned - base. */
lt_status lt_region_energy(const lt_region *region, double *energy, lt_scratch *scratch,
    lt_error *err) LT_MUST_USE;

/* dst = tuned - base in float32. LT_ERR_NUMERIC, naming the tensor, when not finite. */
lt_status lt_region_delta(
    const lt_region *region, float *dst, lt_scratch *scratch, lt_error *err) LT_MUST_USE;

#endif
