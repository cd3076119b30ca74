/* SPDX-License-Identifier: MIT */
/* A tensor of a store into a writer, with another data type. */
#ifndef LT_OPS_CAST_H
#define LT_OPS_CAST_H

#include "ops/common.h"

/* What a cast to dtype makes of the tensor: nothing of what is no number that is computed
 * with, and nothing of a scale (alpha, that of fp8 weights), which would become another
 * one. */
lt_dtype lt_cast_dtype(const lt_tensor *tensor, lt_dtype dtype);

/* LT_ERR_UNSUPPORTED, naming it, for fp8 numbers that a scale beside them belongs to:
 * they are not the weight, so that neither a sum nor a cast of them alone means anything.
 */
lt_status lt_refuse_scaled(
    const lt_store *store, const lt_tensor *tensor, lt_error *err) LT_MUST_USE;

/* The tensor as it is when dtype is its own, else each element rounded once. A finite
 * value that dtype cannot hold is LT_ERR_NUMERIC; infinity and NaN stay. Uses slots 0 and
 * 1 of scratch. */
lt_status lt_cast_copy(lt_writer *writer, size_t index, lt_dtype dtype,
    const lt_store *store, const lt_tensor *tensor, lt_scratch *scratch,
    lt_error *err) LT_MUST_USE;

#endif
