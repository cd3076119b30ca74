/* SPDX-License-Identifier: MIT */
/* Stored elements to floating point and back. Sources and targets need no alignment. */
#ifndef LT_TENSOR_CONVERT_H
#define LT_TENSOR_CONVERT_H

#include "loratool/tensor.h"

/* n elements of dtype (one whose info says computes) to float32. Exact, except that F64
 * is rounded to nearest even. */
void lt_load_f32(float *dst, const void *src, lt_dtype dtype, size_t n);

/* The same to double: always exact. */
void lt_load_f64(double *dst, const void *src, lt_dtype dtype, size_t n);

/* Float32 to dtype, one rounding to nearest, ties to even. Overflow gives infinity (F16,
 * BF16, F8_E5M2) or NaN (F8_E4M3, which has no infinity). */
void lt_store_f32(void *dst, const float *src, lt_dtype dtype, size_t n);

/* Double to dtype with one rounding: the way through float32 rounds to odd, which the
 * second rounding cannot tell from the exact value (Boldo & Melquiond, "When double
 * rounding is odd", 2005). */
void lt_store_f64(void *dst, const double *src, lt_dtype dtype, size_t n);

/* Index of the first element that is NaN or infinite, or n. */
size_t lt_find_nonfinite_f32(const float *p, size_t n);
size_t lt_find_nonfinite_f64(const double *p, size_t n);

#endif
