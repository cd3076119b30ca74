/* SPDX-License-Identifier: MIT */
/* Formats: IEEE 754 binary16/32/64; bfloat16 = the upper half of binary32; F8_E5M2 and
 * F8_E4M3 as in Micikevicius et al., "FP8 formats for deep learning" (2022): E5M2 like a
 * short binary16, E4M3 without infinities (S.1111.111 is NaN). */
#include "tensor/convert.h"

#include <math.h>
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

void lt_load_f32(float *dst, const void *src, lt_dtype dtype, size_t n)
{
    switch (dtype) {
    case LT_F32: memcpy(dst, src, n * sizeof *dst); break;
    case LT_F16: load_f16(dst, src, n); break;
    case LT_BF16: load_bf16(dst, src, n); break;
    case LT_F8_E5M2: load_e5m2(dst, src, n); break;
    case LT_F8_E4M3: load_e4m3(dst, src, n); break;
    case LT_F64: load_f64(dst, src, n); break;
    default: memset(dst, 0xff, n * sizeof *dst); break; /* NaN: callers check computes */
    }
}

void lt_load_f64(double *dst, const void *src, lt_dtype dtype, size_t n)
{
    switch (dtype) {
    case LT_F32: load_f32_d(dst, src, n); break;
    case LT_F16: load_f16_d(dst, src, n); break;
    case LT_BF16: load_bf16_d(dst, src, n); break;
    case LT_F8_E5M2: load_e5m2_d(dst, src, n); break;
    case LT_F8_E4M3: load_e4m3_d(dst, src, n); break;
    case LT_F64: memcpy(dst, src, n * sizeof *dst); break;
    default: memset(dst, 0xff, n * sizeof *dst); break;
    }
}

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

void lt_store_f32(void *dst, const float *src, lt_dtype dtype, size_t n)
{
    switch (dtype) {
    case LT_F32: memcpy(dst, src, n * sizeof *src); break;
    case LT_F16: store_f16(dst, src, n); break;
    case LT_BF16: store_bf16(dst, src, n); break;
    case LT_F8_E5M2: store_e5m2(dst, src, n); break;
    case LT_F8_E4M3: store_e4m3(dst, src, n); break;
    case LT_F64: store_f64(dst, src, n); break;
    default: break; /* callers check computes */
    }
}

void lt_store_f64(void *dst, const double *src, lt_dtype dtype, size_t n)
{
    switch (dtype) {
    case LT_F32: store_f32_d(dst, src, n); break;
    case LT_F16: store_f16_d(dst, src, n); break;
    case LT_BF16: store_bf16_d(dst, src, n); break;
    case LT_F8_E5M2: store_e5m2_d(dst, src, n); break;
    case LT_F8_E4M3: store_e4m3_d(dst, src, n); break;
    case LT_F64: memcpy(dst, src, n * sizeof *src); break;
    default: break;
    }
}

size_t lt_find_nonfinite_f32(const float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(p[i])) return i;
    return n;
}

size_t lt_find_nonfinite_f64(const double *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(p[i])) return i;
    return n;
}
