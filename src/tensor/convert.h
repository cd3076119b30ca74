/* SPDX-License-Identifier: MIT */
/* Stored elements to floating point and back, and the few loops over elements that must
 * keep up with memory. Sources and targets need no alignment. The kernels are chosen once
 * for the processor at hand; all of them give the same bits. */
#ifndef LT_TENSOR_CONVERT_H
#define LT_TENSOR_CONVERT_H

#include "loratool/tensor.h"

#include <stdint.h>

/* n elements of dtype (one whose info says computes) to float32. Exact, except that F64
 * is rounded to nearest even. NaN stays NaN with its sign and its payload's upper bits;
 * it comes out quiet, but for BF16, which is only shifted. */
void lt_load_f32(float *dst, const void *src, lt_dtype dtype, size_t n);

/* The same to double: always exact. NaN always comes out quiet. */
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

/* Index of the first element whose magnitude is not below limit (NaN is not), or n. */
size_t lt_find_beyond_f64(const double *p, size_t n, double limit);

/* dst = a - b. On float32 the exact difference rounded once; on double a difference in
 * double, rounded to float32. dst may be a or b. */
void lt_subtract_f32(float *dst, const float *a, const float *b, size_t n);
void lt_subtract_f64(float *dst, const double *a, const double *b, size_t n);

/* dst += scale * src, two roundings. */
void lt_add_scaled_f32(float *dst, float scale, const float *src, size_t n);

/* Sum of a[i] * b[i]: the products exact, added in double in a fixed order. */
double lt_dot_f32(const float *a, const float *b, size_t n);

/* sums[i] = lt_dot_f32(a, row at[i] of b, n) for count rows of n elements. */
void lt_dots_f32(double *sums, const float *a, const float *b, const uint16_t *at,
    size_t count, size_t n);

/* Numbers below and above every real number that differs from a + b by no more than
 * scale * slack, which is not below 0 and has 2^-20 of itself to spare. Returns whether
 * every magnitude is below limit (false when there is a NaN). */
bool lt_bracket_f32(float *low, float *high, const float *a, const float *b, float scale,
    const float *slack, size_t n, float limit);

/* Bit i % 64 of marks[i / 64] says whether byte i of n differs; the last one is filled up
 * with zeros. */
void lt_mark_differences(uint64_t *marks, const void *a, const void *b, size_t n);

#endif
