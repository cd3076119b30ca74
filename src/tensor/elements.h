/* SPDX-License-Identifier: MIT */
/* Plain loops over n elements that the low-rank engine's parts share. */
#ifndef LT_TENSOR_ELEMENTS_H
#define LT_TENSOR_ELEMENTS_H

#include <stddef.h>

/* Summed in order. */
static inline double lt_dot_f64(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static inline void lt_widen(double *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = src[i];
}

static inline void lt_narrow(float *dst, const double *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)src[i];
}

#endif
