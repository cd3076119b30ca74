/* SPDX-License-Identifier: MIT */
/* NEON, which every 64-bit ARM has: eight floats at a time, the rest by the plain
 * kernels. Its FCVTXN rounds doubles to odd. */
#include "tensor/convert_sets.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <stdint.h>

static bool supported(void)
{
    return true;
}

/* ---- eight codes to eight floats -------------------------------------------------- */

typedef struct eight {
    float32x4_t a, b;
} eight;

static inline uint16x8_t words8(const unsigned char *p)
{
    return vreinterpretq_u16_u8(vld1q_u8(p));
}

static inline eight from_halves(uint16x8_t u)
{
    float16x8_t h = vreinterpretq_f16_u16(u);
    return (eight){ vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h) };
}

static inline eight get_half(const unsigned char *p)
{
    return from_halves(words8(p));
}

static inline eight get_bfloat(const unsigned char *p)
{
    uint16x8_t u = words8(p);
    return (eight){ vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(u), 16)),
        vreinterpretq_f32_u32(vshll_high_n_u16(u, 16)) };
}

static inline eight get_e5m2(const unsigned char *p)
{
    return from_halves(vshll_n_u8(vld1_u8(p), 8));
}

/* With its fields moved to a half's places an E4M3 is 2^8 times too small. */
static inline eight get_e4m3(const unsigned char *p)
{
    uint16x8_t code = vmovl_u8(vld1_u8(p)), low7 = vdupq_n_u16(0x7f);
    uint16x8_t rest = vandq_u16(code, low7);
    uint16x8_t sign = vshlq_n_u16(veorq_u16(code, rest), 8);
    uint16x8_t half =
        vbslq_u16(vceqq_u16(rest, low7), vdupq_n_u16(0x7e00), vshlq_n_u16(rest, 7));
    eight v = from_halves(vorrq_u16(sign, half));
    return (eight){ vmulq_n_f32(v.a, 256.0f), vmulq_n_f32(v.b, 256.0f) };
}

static inline void put_doubles(double *dst, float32x4_t v)
{
    vst1q_f64(dst, vcvt_f64_f32(vget_low_f32(v)));
    vst1q_f64(dst + 2, vcvt_high_f64_f32(v));
}

#define LOADS(name, k, size)                                                     \
    static void load_##name(float *dst, const unsigned char *src, size_t n)      \
    {                                                                            \
        size_t i = 0;                                                            \
        for (; i + 8 <= n; i += 8) {                                             \
            eight v = get_##name(src + i * (size));                              \
            vst1q_f32(dst + i, v.a);                                             \
            vst1q_f32(dst + i + 4, v.b);                                         \
        }                                                                        \
        lt_set_plain.load_f32[k](dst + i, src + i * (size), n - i);              \
    }                                                                            \
    static void load_##name##_d(double *dst, const unsigned char *src, size_t n) \
    {                                                                            \
        size_t i = 0;                                                            \
        for (; i + 8 <= n; i += 8) {                                             \
            eight v = get_##name(src + i * (size));                              \
            put_doubles(dst + i, v.a);                                           \
            put_doubles(dst + i + 4, v.b);                                       \
        }                                                                        \
        lt_set_plain.load_f64[k](dst + i, src + i * (size), n - i);              \
    }

LOADS(half, LT_HALF, 2)
LOADS(bfloat, LT_BFLOAT, 2)
LOADS(e5m2, LT_E5M2, 1)
LOADS(e4m3, LT_E4M3, 1)

/* ---- eight floats to eight codes -------------------------------------------------- */

static inline void put_half(unsigned char *p, eight v)
{
    float16x8_t h = vcvt_high_f16_f32(vcvt_f16_f32(v.a), v.b);
    vst1q_u8(p, vreinterpretq_u8_f16(h));
}

static inline uint32x4_t bfloat_code(float32x4_t v)
{
    uint32x4_t u = vreinterpretq_u32_f32(v), high = vshrq_n_u32(u, 16);
    uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    uint32x4_t up = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd);
    uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    return vbslq_u32(vceqq_f32(v, v), vshrq_n_u32(up, 16), quiet);
}

static inline void put_bfloat(unsigned char *p, eight v)
{
    uint16x8_t codes =
        vcombine_u16(vmovn_u32(bfloat_code(v.a)), vmovn_u32(bfloat_code(v.b)));
    vst1q_u8(p, vreinterpretq_u8_u16(codes));
}

/* See float_to_e5m2: magic aligns subnormals, bias rebiases and rounds the others. */
struct small {
    float magic;
    uint32_t bias;
    int shift;
    uint32_t least, overflow, infinity;
};

static inline uint16x4_t small_code(float32x4_t v, const struct small s)
{
    uint32x4_t u = vreinterpretq_u32_f32(v);
    uint32x4_t a = vandq_u32(u, vdupq_n_u32(0x7fffffff));
    uint32x4_t sign = vshlq_n_u32(vshrq_n_u32(u, 31), 7);
    float32x4_t magic = vdupq_n_f32(s.magic);
    uint32x4_t low =
        vsubq_u32(vreinterpretq_u32_f32(vaddq_f32(vreinterpretq_f32_u32(a), magic)),
            vreinterpretq_u32_f32(magic));
    int32x4_t down = vdupq_n_s32(-s.shift);
    uint32x4_t odd = vandq_u32(vshlq_u32(a, down), vdupq_n_u32(1));
    uint32x4_t r = vshlq_u32(vaddq_u32(vaddq_u32(a, vdupq_n_u32(s.bias)), odd), down);
    r = vbslq_u32(vcltq_u32(a, vdupq_n_u32(s.least)), low, r);
    r = vbslq_u32(vcgeq_u32(a, vdupq_n_u32(s.overflow)), vdupq_n_u32(s.infinity), r);
    r = vbslq_u32(vcgtq_u32(a, vdupq_n_u32(0x7f800000)), vdupq_n_u32(0x7f), r);
    return vmovn_u32(vorrq_u32(r, sign));
}

static inline void put_small(unsigned char *p, eight v, const struct small s)
{
    vst1_u8(p, vmovn_u16(vcombine_u16(small_code(v.a, s), small_code(v.b, s))));
}

static inline void put_e5m2(unsigned char *p, eight v)
{
    put_small(
        p, v, (struct small){ 128.0f, 0xc80fffffu, 21, 0x38800000, 0x47700000, 0x7c });
}

static inline void put_e4m3(unsigned char *p, eight v)
{
    put_small(
        p, v, (struct small){ 16384.0f, 0xc407ffffu, 20, 0x3c800000, 0x43e80001, 0x7f });
}

static inline float32x4_t odd4(const double *p)
{
    return vcvtx_high_f32_f64(vcvtx_f32_f64(vld1q_f64(p)), vld1q_f64(p + 2));
}

#define STORES(name, k, size)                                                          \
    static void store_##name(unsigned char *dst, const float *src, size_t n)           \
    {                                                                                  \
        size_t i = 0;                                                                  \
        for (; i + 8 <= n; i += 8)                                                     \
            put_##name(dst + i * (size),                                               \
                (eight){ vld1q_f32(src + i), vld1q_f32(src + i + 4) });                \
        lt_set_plain.store_f32[k](dst + i * (size), src + i, n - i);                   \
    }                                                                                  \
    static void store_##name##_d(unsigned char *dst, const double *src, size_t n)      \
    {                                                                                  \
        size_t i = 0;                                                                  \
        for (; i + 8 <= n; i += 8)                                                     \
            put_##name(dst + i * (size), (eight){ odd4(src + i), odd4(src + i + 4) }); \
        lt_set_plain.store_f64[k](dst + i * (size), src + i, n - i);                   \
    }

STORES(half, LT_HALF, 2)
STORES(bfloat, LT_BFLOAT, 2)
STORES(e5m2, LT_E5M2, 1)
STORES(e4m3, LT_E4M3, 1)

/* ---- loops over elements ---------------------------------------------------------- */

/* Whole vectors until one has a find; the plain kernel says where in it. */
static size_t find_nonfinite_f32(const float *p, size_t n)
{
    float32x4_t top = vdupq_n_f32(__builtin_inff());
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint32x4_t finite = vandq_u32(
            vcaltq_f32(vld1q_f32(p + i), top), vcaltq_f32(vld1q_f32(p + i + 4), top));
        if (vminvq_u32(finite) == 0) break;
    }
    return i + lt_set_plain.nonfinite_f32(p + i, n - i);
}

static size_t find_beyond_f64(const double *p, size_t n, double limit)
{
    float64x2_t top = vdupq_n_f64(limit);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64x2_t below = vandq_u64(
            vcaltq_f64(vld1q_f64(p + i), top), vcaltq_f64(vld1q_f64(p + i + 2), top));
        if (vminvq_u32(vreinterpretq_u32_u64(below)) == 0) break;
    }
    return i + lt_set_plain.beyond_f64(p + i, n - i, limit);
}

static size_t find_nonfinite_f64(const double *p, size_t n)
{
    return find_beyond_f64(p, n, __builtin_inf());
}

/* The other loops the compiler turns into NEON by itself. */
const lt_convert_set lt_set_neon = {
    .name = "neon",
    .supported = supported,
    .load_f32 = { load_half, load_bfloat, load_e5m2, load_e4m3, NULL },
    .load_f64 = { load_half_d, load_bfloat_d, load_e5m2_d, load_e4m3_d, NULL },
    .store_f32 = { store_half, store_bfloat, store_e5m2, store_e4m3, NULL },
    .store_f64 = { store_half_d, store_bfloat_d, store_e5m2_d, store_e4m3_d, NULL },
    .nonfinite_f32 = find_nonfinite_f32,
    .nonfinite_f64 = find_nonfinite_f64,
    .beyond_f64 = find_beyond_f64,
};

#else

const lt_convert_set lt_set_neon = { .name = "neon" };

#endif
