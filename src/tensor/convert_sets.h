/* SPDX-License-Identifier: MIT */
/* The kernels of convert.h, one set an instruction set. Every set gives the same bits as
 * lt_set_plain, NaN included; a member that is NULL is taken from the next set below. */
#ifndef LT_TENSOR_CONVERT_SETS_H
#define LT_TENSOR_CONVERT_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* LT_WIDE is the other one of float32 and double. */
typedef enum lt_small {
    LT_HALF,
    LT_BFLOAT,
    LT_E5M2,
    LT_E4M3,
    LT_WIDE,
    LT_SMALL_COUNT
} lt_small;

typedef struct lt_convert_set {
    const char *name;
    bool (*supported)(void); /* true implies it for every set below */
    void (*load_f32[LT_SMALL_COUNT])(float *dst, const unsigned char *src, size_t n);
    void (*load_f64[LT_SMALL_COUNT])(double *dst, const unsigned char *src, size_t n);
    void (*store_f32[LT_SMALL_COUNT])(unsigned char *dst, const float *src, size_t n);
    void (*store_f64[LT_SMALL_COUNT])(unsigned char *dst, const double *src, size_t n);
    size_t (*nonfinite_f32)(const float *p, size_t n);
    size_t (*nonfinite_f64)(const double *p, size_t n);
    size_t (*beyond_f64)(const double *p, size_t n, double limit);
    void (*subtract_f32)(float *dst, const float *a, const float *b, size_t n);
    void (*subtract_f64)(float *dst, const double *a, const double *b, size_t n);
    void (*add_scaled_f32)(float *dst, float scale, const float *src, size_t n);
    void (*mark_differences)(
        uint64_t *marks, const unsigned char *a, const unsigned char *b, size_t n);
    double (*dot_f32)(const float *a, const float *b, size_t n);
    void (*dots_f32)(double *sums, const float *a, const float *b, const uint16_t *at,
        size_t count, size_t n);
    bool (*bracket_f32)(float *low, float *high, const float *a, const float *b,
        float scale, const float *slack, size_t n, float limit);
} lt_convert_set;

/* How dot_f32 adds up: lane j has the terms j, j + 16, ... in their order. */
enum { LT_DOT_LANES = 16 };
double lt_dot_finish(
    double lane[LT_DOT_LANES], const float *a, const float *b, size_t n, size_t done);

/* Ascending. A set of another processor family has only its name and is not supported. */
extern const lt_convert_set lt_set_plain, lt_set_avx2, lt_set_avx512, lt_set_neon;

/* For tests: the sets this machine runs, and which one to use from now on. Not for use
 * beside running conversions. */
size_t lt_convert_count(void);
const char *lt_convert_use(size_t index); /* returns its name */

#endif
