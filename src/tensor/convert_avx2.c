/* SPDX-License-Identifier: MIT */
/* AVX2 and F16C: eight floats at a time, the rest by the plain kernels. */
#include "tensor/convert_sets.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,f16c")))
#define INLINE AVX2 static inline

static bool supported(void)
{
    /* Clang knows no name for F16C. That the system saves the registers, AVX2 says. */
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d)
        && (c & bit_F16C);
}

/* ---- eight codes to eight floats -------------------------------------------------- */

INLINE __m128i bytes8(const unsigned char *p)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

INLINE __m256 get_half(const unsigned char *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE __m256 get_bfloat(const unsigned char *p)
{
    __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16));
}

INLINE __m256 get_e5m2(const unsigned char *p)
{
    return _mm256_cvtph_ps(_mm_unpacklo_epi8(_mm_setzero_si128(), bytes8(p)));
}

/* With its fields moved to a half's places an E4M3 is 2^8 times too small. */
INLINE __m256 get_e4m3(const unsigned char *p)
{
    __m128i code = _mm_cvtepu8_epi16(bytes8(p));
    __m128i rest = _mm_and_si128(code, _mm_set1_epi16(0x7f));
    __m128i sign = _mm_slli_epi16(_mm_xor_si128(code, rest), 8);
    __m128i nan = _mm_cmpeq_epi16(rest, _mm_set1_epi16(0x7f));
    __m128i half = _mm_blendv_epi8(_mm_slli_epi16(rest, 7), _mm_set1_epi16(0x7e00), nan);
    return _mm256_mul_ps(
        _mm256_cvtph_ps(_mm_or_si128(sign, half)), _mm256_set1_ps(256.0f));
}

#define LOADS(name, k, size)                                                             \
    AVX2 static void load_##name(float *dst, const unsigned char *src, size_t n)         \
    {                                                                                    \
        size_t i = 0;                                                                    \
        for (; i + 8 <= n; i += 8)                                                       \
            _mm256_storeu_ps(dst + i, get_##name(src + i * (size)));                     \
        lt_set_plain.load_f32[k](dst + i, src + i * (size), n - i);                      \
    }                                                                                    \
    AVX2 static void load_##name##_d(double *dst, const unsigned char *src, size_t n)    \
    {                                                                                    \
        size_t i = 0;                                                                    \
        for (; i + 8 <= n; i += 8) {                                                     \
            __m256 v = get_##name(src + i * (size));                                     \
            _mm256_storeu_pd(dst + i, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));       \
            _mm256_storeu_pd(dst + i + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))); \
        }                                                                                \
        lt_set_plain.load_f64[k](dst + i, src + i * (size), n - i);                      \
    }

LOADS(half, LT_HALF, 2)
LOADS(bfloat, LT_BFLOAT, 2)
LOADS(e5m2, LT_E5M2, 1)
LOADS(e4m3, LT_E4M3, 1)

/* ---- eight floats to eight codes -------------------------------------------------- */

INLINE __m256i choose(__m256i yes, __m256i no, __m256i mask)
{
    return _mm256_blendv_epi8(no, yes, mask);
}

/* Eight numbers below 2^16. */
INLINE __m128i narrow(__m256i v)
{
    __m256i packed = _mm256_packus_epi32(v, v);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xd8));
}

INLINE void put_half(unsigned char *p, __m256 v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, 0));
}

INLINE void put_bfloat(unsigned char *p, __m256 v)
{
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    __m256i code = choose(quiet, _mm256_srli_epi32(up, 16), nan);
    _mm_storeu_si128((__m128i *)(void *)p, narrow(code));
}

/* See float_to_e5m2: magic aligns subnormals, bias rebiases and rounds the others. */
struct small {
    float magic;
    int bias, shift, least, overflow, infinity;
};

INLINE void put_small(unsigned char *p, __m256 v, const struct small s)
{
    __m256i u = _mm256_castps_si256(v);
    __m256i a = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(u, 31), 7);
    __m256 magic = _mm256_set1_ps(s.magic);
    __m256i low = _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), magic));
    low = _mm256_sub_epi32(low, _mm256_castps_si256(magic));
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(a, s.shift), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(a, _mm256_set1_epi32(s.bias)), odd);
    r = _mm256_srli_epi32(r, s.shift);
    r = choose(low, r, _mm256_cmpgt_epi32(_mm256_set1_epi32(s.least), a));
    r = choose(_mm256_set1_epi32(s.infinity), r,
        _mm256_cmpgt_epi32(a, _mm256_set1_epi32(s.overflow - 1)));
    r = choose(
        _mm256_set1_epi32(0x7f), r, _mm256_cmpgt_epi32(a, _mm256_set1_epi32(0x7f800000)));
    __m128i codes = narrow(_mm256_or_si256(r, sign));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(codes, codes));
}

INLINE void put_e5m2(unsigned char *p, __m256 v)
{
    put_small(p, v,
        (struct small){ 128.0f, (int)0xc80fffffu, 21, 0x38800000, 0x47700000, 0x7c });
}

INLINE void put_e4m3(unsigned char *p, __m256 v)
{
    put_small(p, v,
        (struct small){ 16384.0f, (int)0xc407ffffu, 20, 0x3c800000, 0x43e80001, 0x7f });
}

/* ---- eight doubles to eight floats, rounded to odd -------------------------------- */

/* Of a double the 29 bits that float32 lacks become one, where the last kept bit is. That
 * is all of rounding to odd but for float32's subnormals and overflow, which of the four
 * targets only BF16 can tell from 0 and infinity. */
INLINE __m128 odd_normal(const double *p)
{
    __m256i u = _mm256_castpd_si256(_mm256_loadu_pd(p));
    __m256i mask = _mm256_set1_epi64x(0x1fffffff);
    __m256i lost = _mm256_add_epi64(_mm256_and_si256(u, mask), mask);
    __m256i kept = _mm256_andnot_si256(mask, _mm256_or_si256(u, lost));
    return _mm256_cvtpd_ps(_mm256_castsi256_pd(kept));
}

INLINE __m128i mask32(__m256d mask)
{
    __m256 m = _mm256_castpd_ps(mask);
    return _mm_castps_si128(_mm_shuffle_ps(
        _mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1), _MM_SHUFFLE(2, 0, 2, 0)));
}

INLINE __m128 odd_any(const double *p)
{
    __m256d d = _mm256_loadu_pd(p), sign = _mm256_set1_pd(-0.0);
    __m128 f = _mm256_cvtpd_ps(d);
    __m256d back = _mm256_cvtps_pd(f);
    __m256d away = _mm256_cmp_pd(
        _mm256_andnot_pd(sign, back), _mm256_andnot_pd(sign, d), _CMP_GT_OQ);
    __m128i lost = _mm_srli_epi32(mask32(_mm256_cmp_pd(back, d, _CMP_NEQ_UQ)), 31);
    __m128i u = _mm_add_epi32(_mm_castps_si128(f), mask32(away)); /* the mask is -1 */
    return _mm_castsi128_ps(_mm_or_si128(u, lost));
}

#define STORES(name, k, size, odd)                                                     \
    AVX2 static void store_##name(unsigned char *dst, const float *src, size_t n)      \
    {                                                                                  \
        size_t i = 0;                                                                  \
        for (; i + 8 <= n; i += 8)                                                     \
            put_##name(dst + i * (size), _mm256_loadu_ps(src + i));                    \
        lt_set_plain.store_f32[k](dst + i * (size), src + i, n - i);                   \
    }                                                                                  \
    AVX2 static void store_##name##_d(unsigned char *dst, const double *src, size_t n) \
    {                                                                                  \
        size_t i = 0;                                                                  \
        for (; i + 8 <= n; i += 8)                                                     \
            put_##name(                                                                \
                dst + i * (size), _mm256_set_m128(odd(src + i + 4), odd(src + i)));    \
        lt_set_plain.store_f64[k](dst + i * (size), src + i, n - i);                   \
    }

STORES(half, LT_HALF, 2, odd_normal)
STORES(bfloat, LT_BFLOAT, 2, odd_any)
STORES(e5m2, LT_E5M2, 1, odd_normal)
STORES(e4m3, LT_E4M3, 1, odd_normal)

/* ---- float32 and double ----------------------------------------------------------- */

AVX2 static void widen(double *dst, const unsigned char *src, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m128i raw = _mm_loadu_si128((const __m128i *)(const void *)(src + 4 * i));
        _mm256_storeu_pd(dst + i, _mm256_cvtps_pd(_mm_castsi128_ps(raw)));
    }
    lt_set_plain.load_f64[LT_WIDE](dst + i, src + 4 * i, n - i);
}

AVX2 static void shorten(unsigned char *dst, const double *src, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m128 v = _mm256_cvtpd_ps(_mm256_loadu_pd(src + i));
        _mm_storeu_si128((__m128i *)(void *)(dst + 4 * i), _mm_castps_si128(v));
    }
    lt_set_plain.store_f64[LT_WIDE](dst + 4 * i, src + i, n - i);
}

/* ---- loops over elements ---------------------------------------------------------- */

/* All bits of a lane: the exponent is full. */
INLINE __m256i nonfinite8(const float *p)
{
    __m256i full = _mm256_set1_epi32(0x7f800000);
    __m256i u = _mm256_castps_si256(_mm256_loadu_ps(p));
    return _mm256_cmpeq_epi32(_mm256_and_si256(u, full), full);
}

/* Whole vectors until one has a find; the plain kernel says where in it. */
AVX2 static size_t find_nonfinite_f32(const float *p, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i found = _mm256_or_si256(nonfinite8(p + i), nonfinite8(p + i + 8));
        if (!_mm256_testz_si256(found, found)) break;
    }
    return i + lt_set_plain.nonfinite_f32(p + i, n - i);
}

INLINE __m256d beyond4(const double *p, double limit)
{
    __m256d a = _mm256_andnot_pd(_mm256_set1_pd(-0.0), _mm256_loadu_pd(p));
    return _mm256_cmp_pd(a, _mm256_set1_pd(limit), _CMP_NLT_UQ);
}

AVX2 static size_t find_beyond_f64(const double *p, size_t n, double limit)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256d found = _mm256_or_pd(beyond4(p + i, limit), beyond4(p + i + 4, limit));
        if (_mm256_movemask_pd(found)) break;
    }
    return i + lt_set_plain.beyond_f64(p + i, n - i, limit);
}

AVX2 static size_t find_nonfinite_f64(const double *p, size_t n)
{
    return find_beyond_f64(p, n, __builtin_inf());
}

AVX2 static void subtract_f32(float *dst, const float *a, const float *b, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(
            dst + i, _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    lt_set_plain.subtract_f32(dst + i, a + i, b + i, n - i);
}

AVX2 static void subtract_f64(float *dst, const double *a, const double *b, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        _mm_storeu_ps(dst + i,
            _mm256_cvtpd_ps(
                _mm256_sub_pd(_mm256_loadu_pd(a + i), _mm256_loadu_pd(b + i))));
    lt_set_plain.subtract_f64(dst + i, a + i, b + i, n - i);
}

AVX2 static void add_scaled_f32(float *dst, float scale, const float *src, size_t n)
{
    __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 product = _mm256_mul_ps(s, _mm256_loadu_ps(src + i));
        _mm256_storeu_ps(dst + i, _mm256_add_ps(_mm256_loadu_ps(dst + i), product));
    }
    lt_set_plain.add_scaled_f32(dst + i, scale, src + i, n - i);
}

INLINE uint32_t marks32(const unsigned char *a, const unsigned char *b)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)a);
    __m256i y = _mm256_loadu_si256((const __m256i *)(const void *)b);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(x, y));
}

AVX2 static void mark_differences(
    uint64_t *marks, const unsigned char *a, const unsigned char *b, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        marks[i / 64] =
            marks32(a + i, b + i) | (uint64_t)marks32(a + i + 32, b + i + 32) << 32;
    lt_set_plain.mark_differences(marks + i / 64, a + i, b + i, n - i);
}

INLINE __m256d add_products(__m256d sum, const float *a, const float *b)
{
    __m256d x = _mm256_cvtps_pd(_mm_loadu_ps(a)), y = _mm256_cvtps_pd(_mm_loadu_ps(b));
    return _mm256_add_pd(sum, _mm256_mul_pd(x, y));
}

/* lt_dot_finish's tree from eight lanes on. */
INLINE double add_lanes(__m256d low, __m256d high)
{
    low = _mm256_add_pd(low, high);
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(low), _mm256_extractf128_pd(low, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

AVX2 static double dot_f32(const float *a, const float *b, size_t n)
{
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        s0 = add_products(s0, a + i, b + i);
        s1 = add_products(s1, a + i + 4, b + i + 4);
        s2 = add_products(s2, a + i + 8, b + i + 8);
        s3 = add_products(s3, a + i + 12, b + i + 12);
    }
    if (i == n) return add_lanes(_mm256_add_pd(s0, s2), _mm256_add_pd(s1, s3));
    double lane[LT_DOT_LANES];
    _mm256_storeu_pd(lane, s0);
    _mm256_storeu_pd(lane + 4, s1);
    _mm256_storeu_pd(lane + 8, s2);
    _mm256_storeu_pd(lane + 12, s3);
    return lt_dot_finish(lane, a, b, n, i);
}

AVX2 static void dots_f32(double *sums, const float *a, const float *b,
    const uint16_t *at, size_t count, size_t n)
{
    for (size_t i = 0; i < count; i++)
        sums[i] = dot_f32(a, b + at[i] * n, n);
}

AVX2 static bool bracket_f32(float *low, float *high, const float *a, const float *b,
    float scale, const float *slack, size_t n, float limit)
{
    __m256 sign = _mm256_set1_ps(-0.0f), unit = _mm256_set1_ps(0x1p-22f);
    __m256 times = _mm256_set1_ps(scale), top = _mm256_set1_ps(limit),
           bottom = _mm256_set1_ps(-limit);
    __m256 in = _mm256_cmp_ps(sign, sign, _CMP_EQ_OQ);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 x = _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        __m256 own = _mm256_mul_ps(_mm256_andnot_ps(sign, x), unit);
        __m256 e = _mm256_add_ps(_mm256_mul_ps(times, _mm256_loadu_ps(slack + i)), own);
        __m256 lo = _mm256_sub_ps(x, e), hi = _mm256_add_ps(x, e);
        _mm256_storeu_ps(low + i, lo);
        _mm256_storeu_ps(high + i, hi);
        in = _mm256_and_ps(in, _mm256_cmp_ps(lo, bottom, _CMP_GT_OQ));
        in = _mm256_and_ps(in, _mm256_cmp_ps(hi, top, _CMP_LT_OQ));
    }
    bool rest = lt_set_plain.bracket_f32(
        low + i, high + i, a + i, b + i, scale, slack + i, n - i, limit);
    return rest && _mm256_movemask_ps(in) == 0xff;
}

const lt_convert_set lt_set_avx2 = {
    .name = "avx2",
    .supported = supported,
    .load_f32 = { load_half, load_bfloat, load_e5m2, load_e4m3, NULL },
    .load_f64 = { load_half_d, load_bfloat_d, load_e5m2_d, load_e4m3_d, widen },
    .store_f32 = { store_half, store_bfloat, store_e5m2, store_e4m3, NULL },
    .store_f64 = { store_half_d, store_bfloat_d, store_e5m2_d, store_e4m3_d, shorten },
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

#else

const lt_convert_set lt_set_avx2 = { .name = "avx2" };

#endif
