/* SPDX-License-Identifier: MIT */
/* A weight plus products of factors, tile by tile, each element the sum of double
 * precision rounded once.
 *
 * For targets of 16 bits or less the products are computed in float32, a few terms after
 * the other. With that comes a bound of their error, and an element that rounds
 * differently at the two ends of the interval in which the exact sum must lie is computed
 * again in double. About one element in a hundred or less is, and what is stored is as if
 * all had been. */
#ifndef LT_OPS_MERGE_TILE_H
#define LT_OPS_MERGE_TILE_H

#include "base/mem.h"
#include "loratool/tensor.h"

/* factor * left (rows x rank) right (rank x columns) is added to the tensor's rows from
 * first. The rest is lt_sum_prepare's: the factors in float32, right transposed in
 * whichever type holds it, which take the place of the others where those are not needed
 * any more, and for each row of left and column of right its Euclidean norm, of left
 * times what the rounding errors come to. */
typedef struct lt_addend {
    size_t first, rows, columns, rank;
    double factor;
    double *left, *right;
    float *left32, *right32;
    double *across; /* columns x rank, one of the two */
    float *across32;
    float *left_bound, *right_bound;
} lt_addend;

/* Allocates left and right, to be filled in by the caller; factor is 1. */
lt_status lt_addend_init(lt_addend *a, size_t first, size_t rows, size_t columns,
    size_t rank, lt_error *err) LT_MUST_USE;
void lt_addend_release(lt_addend *a);

typedef struct lt_sum {
    lt_dtype from, to; /* of the weight and of the sum; both compute */
    size_t columns;
    lt_addend *addends;
    size_t count;
    bool single; /* by float32 */
} lt_sum;

/* Finds out whether float32 will do and prepares the addends for it. */
lt_status lt_sum_prepare(lt_sum *s, lt_error *err) LT_MUST_USE;

/* Rows that make a tile. */
size_t lt_sum_step(const lt_sum *s);

/* rows x columns elements of the weight, the tensor's rows from row, to out. A sum that
 * the type cannot hold is LT_ERR_NUMERIC and names the element. again (may be NULL)
 * counts elements that were computed again. Uses slot 2 of scratch. */
lt_status lt_sum_tile(const lt_sum *s, size_t row, size_t rows, const void *weight,
    void *out, lt_scratch *scratch, uint64_t *again, lt_error *err) LT_MUST_USE;

#endif
