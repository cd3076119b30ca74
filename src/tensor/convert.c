/* SPDX-License-Identifier: MIT */
/* Formats: IEEE 754 binary16/32/64; bfloat16 = the upper half of binary32; F8_E5M2 and
 * F8_E4M3 as in Micikevicius et al., "FP8 formats for deep learning" (2022): E5M2 like a
 * short binary16, E4M3 without infinities (S.1111.111 is NaN). */
#include "tensor/convert.h"

#include "tensor/convert_sets.h"

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#ifndef __BYTE_ORDER__
#error "the compiler does not say its byte order"
#elif __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "loratool reads little-endian files in place and needs a little-endian machine"
#endif

static float float_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t bits_from_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* The conversions below are straight-line code with selections, so that compilers turn
 * the loops over them into vector code. a is the magnitude's bits, sign the sign's. */
static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    /* Place the fields so that one product with 2^112 rebiases normals and subnormals. */
    uint32_t u = bits_from_float(float_from_bits(rest << 13) * 0x1p112f);
    uint32_t special = rest >= 0x7c00u ? 0x7f800000u : 0;
    special |= rest > 0x7c00u ? 0x400000u : 0; /* quiet, as processors do it */
    return float_from_bits(sign | u | special);
}

static inline uint16_t float_to_half(float f)
{
    uint32_t u = bits_from_float(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    /* Subnormal: adding 0.5 lets the FPU align and round to units of 2^-24. */
    uint32_t small = bits_from_float(float_from_bits(a) + 0.5f) - 0x3f000000u;
    /* Normal: rebias by -112, round to nearest even. */
    uint32_t normal = (a + 0xc8000fffu + (a >> 13 & 1u)) >> 13;
    uint32_t r = a < 0x38800000u ? small : normal;
    r = a >= 0x477ff000u ? 0x7c00u : r; /* rounds to infinity */
    r = a > 0x7f800000u ? 0x7e00u | (a >> 13 & 0x1ffu) : r;
    return (uint16_t)(sign | r);
}

static inline float bf16_to_float(uint16_t h)
{
    return float_from_bits((uint32_t)h << 16);
}

static inline uint16_t float_to_bf16(float f)
{
    uint32_t u = bits_from_float(f);
    uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : rounded);
}

static inline float e5m2_to_float(uint8_t b)
{
    return half_to_float((uint16_t)((uint16_t)b << 8));
}

static inline uint8_t float_to_e5m2(float f)
{
    uint32_t u = bits_from_float(f), sign = u >> 24 & 0x80u, a = u & 0x7fffffffu;
    uint32_t small = bits_from_float(float_from_bits(a) + 128.0f) - 0x43000000u;
    uint32_t normal = (a + 0xc80fffffu + (a >> 21 & 1u)) >> 21;
    uint32_t r = a < 0x38800000u ? small : normal; /* small: units of 2^-16 */
    r = a >= 0x47700000u ? 0x7cu : r;              /* halfway to 2^16 and above */
    r = a > 0x7f800000u ? 0x7fu : r;
    return (uint8_t)(sign | r);
}

static inline float e4m3_to_float(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80u) << 24, rest = b & 0x7fu;
    uint32_t u = bits_from_float(float_from_bits(rest << 20) * 0x1p120f);
    return float_from_bits(sign | (rest == 0x7fu ? 0x7fc00000u : u));
}

static inline uint8_t float_to_e4m3(float f)
{
    uint32_t u = bits_from_float(f), sign = u >> 24 & 0x80u, a = u & 0x7fffffffu;
    uint32_t small = bits_from_float(float_from_bits(a) + 16384.0f) - 0x46800000u;
    uint32_t normal = (a + 0xc407ffffu + (a >> 20 & 1u)) >> 20;
    uint32_t r = a < 0x3c800000u ? small : normal; /* small: units of 2^-9 */
    r = a > 0x43e80000u ? 0x7fu : r;               /* above 464: no infinity, NaN */
    return (uint8_t)(sign | r);
}

/* Truncation towards zero with the last bit set when anything was lost. An overflow
 * becomes the largest finite number, whose last bit is set. */
static inline float double_to_float_odd(double d)
{
    float f = (float)d;
    uint32_t u = bits_from_float(f);
    uint32_t away = fabs((double)f) > fabs(d), lost = (double)f != d;
    return float_from_bits((u - away) | lost);
}

#define LOAD(name, out_t, in_t, expr)                                \
    static void name(out_t *dst, const unsigned char *src, size_t n) \
    {                                                                \
        for (size_t i = 0; i < n; i++) {                             \
            in_t x;                                                  \
            memcpy(&x, src + i * sizeof x, sizeof x);                \
            dst[i] = (out_t)(expr);                                  \
        }                                                            \
    }

LOAD(load_f16, float, uint16_t, half_to_float(x))
LOAD(load_bf16, float, uint16_t, bf16_to_float(x))
LOAD(load_e5m2, float, uint8_t, e5m2_to_float(x))
LOAD(load_e4m3, float, uint8_t, e4m3_to_float(x))
LOAD(load_f64, float, double, x)
LOAD(load_f16_d, double, uint16_t, half_to_float(x))
LOAD(load_bf16_d, double, uint16_t, bf16_to_float(x))
LOAD(load_e5m2_d, double, uint8_t, e5m2_to_float(x))
LOAD(load_e4m3_d, double, uint8_t, e4m3_to_float(x))
LOAD(load_f32_d, double, float, x)

#define STORE(name, in_t, out_t, expr)                              \
    static void name(unsigned char *dst, const in_t *src, size_t n) \
    {                                                               \
        for (size_t i = 0; i < n; i++) {                            \
            in_t x = src[i];                                        \
            out_t y = (out_t)(expr);                                \
            memcpy(dst + i * sizeof y, &y, sizeof y);               \
        }                                                           \
    }

STORE(store_f16, float, uint16_t, float_to_half(x))
STORE(store_bf16, float, uint16_t, float_to_bf16(x))
STORE(store_e5m2, float, uint8_t, float_to_e5m2(x))
STORE(store_e4m3, float, uint8_t, float_to_e4m3(x))
STORE(store_f64, float, double, x)
STORE(store_f16_d, double, uint16_t, float_to_half(double_to_float_odd(x)))
STORE(store_bf16_d, double, uint16_t, float_to_bf16(double_to_float_odd(x)))
STORE(store_e5m2_d, double, uint8_t, float_to_e5m2(double_to_float_odd(x)))
STORE(store_e4m3_d, double, uint8_t, float_to_e4m3(double_to_float_odd(x)))
STORE(store_f32_d, double, float, x)

static size_t find_nonfinite_f32(const float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(p[i])) return i;
    return n;
}

static size_t find_nonfinite_f64(const double *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(p[i])) return i;
    return n;
}

static size_t find_beyond_f64(const double *p, size_t n, double limit)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(p[i]) < limit)) return i;
    return n;
}

static void subtract_f32(float *dst, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = a[i] - b[i];
}

static void subtract_f64(float *dst, const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)(a[i] - b[i]);
}

static void add_scaled_f32(float *dst, float scale, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float product = scale * src[i]; /* a statement of its own: never contracted */
        dst[i] += product;
    }
}

double lt_dot_finish(
    double lane[LT_DOT_LANES], const float *a, const float *b, size_t n, size_t done)
{
    for (size_t j = 0; done + j < n; j++)
        lane[j] += (double)a[done + j] * b[done + j];
    for (size_t half = LT_DOT_LANES / 2; half; half /= 2)
        for (size_t j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

/* A contracted sum would be the same one: the products are exact. */
static double dot_f32(const float *a, const float *b, size_t n)
{
    double lane[LT_DOT_LANES] = { 0 };
    size_t i = 0;
    for (; i + LT_DOT_LANES <= n; i += LT_DOT_LANES)
        for (size_t j = 0; j < LT_DOT_LANES; j++)
            lane[j] += (double)a[i + j] * b[i + j];
    return lt_dot_finish(lane, a, b, n, i);
}

static void dots_f32(double *sums, const float *a, const float *b, const uint16_t *at,
    size_t count, size_t n)
{
    for (size_t i = 0; i < count; i++)
        sums[i] = dot_f32(a, b + at[i] * n, n);
}

/* Three roundings, of a + b and of the two ends, each off by at most 2^-24 of its
 * result: 2^-22 of the sum covers them. Of the slack's own the caller takes care. */
static bool bracket_f32(float *low, float *high, const float *a, const float *b,
    float scale, const float *slack, size_t n, float limit)
{
    unsigned inside = 1;
    for (size_t i = 0; i < n; i++) {
        float x = a[i] + b[i], own = fabsf(x) * 0x1p-22f, wide = scale * slack[i];
        float e = wide + own;
        low[i] = x - e;
        high[i] = x + e;
        inside &= (unsigned)(low[i] > -limit) & (unsigned)(high[i] < limit);
    }
    return inside;
}

static void mark_differences(
    uint64_t *marks, const unsigned char *a, const unsigned char *b, size_t n)
{
    for (size_t from = 0; from < n; from += 64) {
        size_t count = n - from < 64 ? n - from : 64;
        uint64_t mark = 0;
        for (size_t i = 0; i < count; i++)
            mark |= (uint64_t)(a[from + i] != b[from + i]) << i;
        marks[from / 64] = mark;
    }
}

static bool always(void)
{
    return true;
}

const lt_convert_set lt_set_plain = {
    .name = "plain",
    .supported = always,
    .load_f32 = { load_f16, load_bf16, load_e5m2, load_e4m3, load_f64 },
    .load_f64 = { load_f16_d, load_bf16_d, load_e5m2_d, load_e4m3_d, load_f32_d },
    .store_f32 = { store_f16, store_bf16, store_e5m2, store_e4m3, store_f64 },
    .store_f64 = { store_f16_d, store_bf16_d, store_e5m2_d, store_e4m3_d, store_f32_d },
    .nonfinite_f32 = find_nonfinite_f32,
    .nonfinite_f64 = find_nonfinite_f64,
    .beyond_f64 = find_beyond_f64,
    .subtract_f32 = subtract_f32,
    .subtract_f64 = subtract_f64,
    .add_scaled_f32 = add_scaled_f32,
    .mark_differences = mark_differences,
    .dot_f32 = dot_f32,
    .dots_f32 = dots_f32,
    .bracket_f32 = bracket_f32,
};

/* ---- the choice ------------------------------------------------------------------- */

/* Ascending: the last one that is supported is used. */
static const lt_convert_set *const sets[] = { &lt_set_plain, &lt_set_neon, &lt_set_avx2,
    &lt_set_avx512 };

#define N_SETS (sizeof sets / sizeof *sets)

/* Index in sets plus 1. Threads that find it 0 all come to the same choice. */
static atomic_size_t chosen;

static bool runs(size_t index)
{
    return sets[index]->supported && sets[index]->supported();
}

static const lt_convert_set *const *best(void)
{
    size_t at = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!at) {
        for (at = N_SETS; !runs(at - 1); at--)
            ;
        atomic_store_explicit(&chosen, at, memory_order_relaxed);
    }
    return &sets[at - 1];
}

size_t lt_convert_count(void)
{
    size_t count = 0;
    for (size_t i = 0; i < N_SETS; i++)
        count += runs(i);
    return count;
}

const char *lt_convert_use(size_t index)
{
    size_t at = 0;
    for (; !runs(at) || index--; at++)
        ;
    atomic_store_explicit(&chosen, at + 1, memory_order_relaxed);
    return sets[at]->name;
}

/* Declares set: the best one that has the member. */
#define WITH(member)                           \
    const lt_convert_set *const *set = best(); \
    while (!(*set)->member)                    \
        set--;

/* Position of dtype in a set's lists; those that do not compute have none. */
static bool position(lt_dtype dtype, lt_small *k)
{
    switch (dtype) {
    case LT_F16: *k = LT_HALF; return true;
    case LT_BF16: *k = LT_BFLOAT; return true;
    case LT_F8_E5M2: *k = LT_E5M2; return true;
    case LT_F8_E4M3: *k = LT_E4M3; return true;
    case LT_F32:
    case LT_F64: *k = LT_WIDE; return true;
    default: return false;
    }
}

void lt_load_f32(float *dst, const void *src, lt_dtype dtype, size_t n)
{
    lt_small k;
    if (dtype == LT_F32) {
        memcpy(dst, src, n * sizeof *dst);
    } else if (position(dtype, &k)) {
        WITH(load_f32[k])
        (*set)->load_f32[k](dst, src, n);
    } else {
        memset(dst, 0xff, n * sizeof *dst); /* NaN: callers check computes */
    }
}

void lt_load_f64(double *dst, const void *src, lt_dtype dtype, size_t n)
{
    lt_small k;
    if (dtype == LT_F64) {
        memcpy(dst, src, n * sizeof *dst);
    } else if (position(dtype, &k)) {
        WITH(load_f64[k])
        (*set)->load_f64[k](dst, src, n);
    } else {
        memset(dst, 0xff, n * sizeof *dst);
    }
}

void lt_store_f32(void *dst, const float *src, lt_dtype dtype, size_t n)
{
    lt_small k;
    if (dtype == LT_F32) {
        memcpy(dst, src, n * sizeof *src);
    } else if (position(dtype, &k)) { /* callers check computes */
        WITH(store_f32[k])
        (*set)->store_f32[k](dst, src, n);
    }
}

void lt_store_f64(void *dst, const double *src, lt_dtype dtype, size_t n)
{
    lt_small k;
    if (dtype == LT_F64) {
        memcpy(dst, src, n * sizeof *src);
    } else if (position(dtype, &k)) {
        WITH(store_f64[k])
        (*set)->store_f64[k](dst, src, n);
    }
}

size_t lt_find_nonfinite_f32(const float *p, size_t n)
{
    WITH(nonfinite_f32)
    return (*set)->nonfinite_f32(p, n);
}

size_t lt_find_nonfinite_f64(const double *p, size_t n)
{
    WITH(nonfinite_f64)
    return (*set)->nonfinite_f64(p, n);
}

size_t lt_find_beyond_f64(const double *p, size_t n, double limit)
{
    WITH(beyond_f64)
    return (*set)->beyond_f64(p, n, limit);
}

void lt_subtract_f32(float *dst, const float *a, const float *b, size_t n)
{
    WITH(subtract_f32)
    (*set)->subtract_f32(dst, a, b, n);
}

void lt_subtract_f64(float *dst, const double *a, const double *b, size_t n)
{
    WITH(subtract_f64)
    (*set)->subtract_f64(dst, a, b, n);
}

void lt_add_scaled_f32(float *dst, float scale, const float *src, size_t n)
{
    WITH(add_scaled_f32)
    (*set)->add_scaled_f32(dst, scale, src, n);
}

double lt_dot_f32(const float *a, const float *b, size_t n)
{
    WITH(dot_f32)
    return (*set)->dot_f32(a, b, n);
}

void lt_dots_f32(double *sums, const float *a, const float *b, const uint16_t *at,
    size_t count, size_t n)
{
    WITH(dots_f32)
    (*set)->dots_f32(sums, a, b, at, count, n);
}

bool lt_bracket_f32(float *low, float *high, const float *a, const float *b, float scale,
    const float *slack, size_t n, float limit)
{
    WITH(bracket_f32)
    return (*set)->bracket_f32(low, high, a, b, scale, slack, n, limit);
}

void lt_mark_differences(uint64_t *marks, const void *a, const void *b, size_t n)
{
    WITH(mark_differences)
    (*set)->mark_differences(marks, a, b, n);
}
