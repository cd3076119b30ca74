/* SPDX-License-Identifier: MIT */
/* Reading a strided view of a storage as if it were contiguous. */
#ifndef LT_FORMAT_TORCH_GATHER_H
#define LT_FORMAT_TORCH_GATHER_H

#include "loratool/tensor.h"

/* Bytes [at, at + size) of the storage. */
typedef lt_status (*lt_fetch_fn)(
    void *ctx, uint64_t at, void *dst, size_t size, lt_error *err);

typedef struct lt_strided {
    unsigned n_dims;
    unsigned item;           /* bytes of an element */
    const uint64_t *shape;   /* no size is 0 */
    const uint64_t *strides; /* in elements, >= 0; every element is in the storage */
    uint64_t first;          /* byte of element 0 in the storage */
    uint64_t end;            /* byte behind the last element */
} lt_strided;

/* True when elements follow each other in row-major order. */
bool lt_is_contiguous(unsigned n_dims, const uint64_t *shape, const uint64_t *strides);

/* Bytes [first, first + size) of the view in row-major order. Work memory stays below a
 * megabyte whatever the view. */
lt_status lt_gather(const lt_strided *view, uint64_t first, void *dst, size_t size,
    lt_fetch_fn fetch, void *ctx, lt_error *err) LT_MUST_USE;

#endif
