/* SPDX-License-Identifier: MIT */
/* A tensor of a store into a writer, with another data type. */
#ifndef LT_OPS_CAST_H
#define LT_OPS_CAST_H

#include "ops/common.h"

/* The tensor as it is when dtype is its own, else each element rounded once. A finite
 * value that dtype cannot hold is LT_ERR_NUMERIC; infinity and NaN stay. Uses slots 0 and
 * 1 of scratch. */
lt_status lt_cast_copy(lt_writer *writer, size_t index, lt_dtype dtype,
    const lt_store *store, const lt_tensor *tensor, lt_scratch *scratch,
    lt_error *err) LT_MUST_USE;

#endif
