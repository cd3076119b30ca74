/* SPDX-License-Identifier: MIT */
/* AVX-512 (F, BW, DQ, VL): sixteen floats at a time, the rest by the plain kernels. */
#include "tensor/convert_sets.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")))
#define INLINE AVX512 static inline

static bool supported(void)
{
    return lt_set_avx2.supported() && __builtin_cpu_supports("avx512f")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl");
}

/* ---- sixteen codes to sixteen floats ---------------------------------------------- */

INLINE __m256i words16(const unsigned char *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

INLINE __m256i bytes16(const unsigned char *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE __m512 get_half(const unsigned char *p)
{
    return _mm512_cvtph_ps(words16(p));
}

INLINE __m512 get_bfloat(const unsigned char *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words16(p)), 16));
}

INLINE __m512 get_e5m2(const unsigned char *p)
{
    return _mm512_cvtph_ps(_mm256_slli_epi16(bytes16(p), 8));
}

/* With its fields moved to a half's places an E4M3 is 2^8 times too small. */
INLINE __m512 get_e4m3(const unsigned char *p)
{
    __m256i code = bytes16(p);
    __m256i rest = _mm256_and_si256(code, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(_mm256_xor_si256(code, rest), 8);
    __mmask16 nan = _mm256_cmpeq_epi16_mask(rest, _mm256_set1_epi16(0x7f));
    __m256i half = _mm256_slli_epi16(rest, 7);
    half = _mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(0x7e00));
    return _mm512_mul_ps(
        _mm512_cvtph_ps(_mm256_or_si256(sign, half)), _mm512_set1_ps(256.0f));
}

INLINE void put_doubles(double *dst, __m512 v)
{
    _mm512_storeu_pd(dst, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    _mm512_storeu_pd(dst + 8, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
}

#define LOADS(name, k, size)                                                            \
    AVX512 static void load_##name(float *dst, const unsigned char *src, size_t n)      \
    {                                                                                   \
        size_t i = 0;                                                                   \
        for (; i + 16 <= n; i += 16)                                                    \
            _mm512_storeu_ps(dst + i, get_##name(src + i * (size)));                    \
        lt_set_plain.load_f32[k](dst + i, src + i * (size), n - i);                     \
    }                                                                                   \
    AVX512 static void load_##name##_d(double *dst, const unsigned char *src, size_t n) \
    {                                                                                   \
        size_t i = 0;                                                                   \
        for (; i + 16 <= n; i += 16)                                                    \
            put_doubles(dst + i, get_##name(src + i * (size)));                         \
        lt_set_plain.load_f64[k](dst + i, src + i * (size), n - i);                     \
    }

LOADS(half, LT_HALF, 2)
LOADS(bfloat, LT_BFLOAT, 2)
LOADS(e5m2, LT_E5M2, 1)
LOADS(e4m3, LT_E4M3, 1)

/* ---- sixteen floats to sixteen codes ---------------------------------------------- */

INLINE void put_words(unsigned char *p, __m512i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(v));
}

INLINE void put_half(unsigned char *p, __m512 v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(v, 0));
}

INLINE void put_bfloat(unsigned char *p, __m512 v)
{
    __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i code = _mm512_srli_epi32(up, 16);
    put_words(p, _mm512_mask_or_epi32(code, nan, high, _mm512_set1_epi32(0x40)));
}

/* See float_to_e5m2: magic aligns subnormals, bias rebiases and rounds the others. */
struct small {
    float magic;
    int bias, least, overflow, infinity;
};

INLINE __m512i small_code(__m512i a, __m512i normal, const struct small s)
{
    __m512 magic = _mm512_set1_ps(s.magic);
    __m512i low = _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), magic));
    low = _mm512_sub_epi32(low, _mm512_castps_si512(magic));
    __mmask16 is_low = _mm512_cmplt_epi32_mask(a, _mm512_set1_epi32(s.least));
    __mmask16 is_over = _mm512_cmpge_epi32_mask(a, _mm512_set1_epi32(s.overflow));
    __mmask16 is_nan = _mm512_cmpgt_epi32_mask(a, _mm512_set1_epi32(0x7f800000));
    __m512i r = _mm512_mask_mov_epi32(normal, is_low, low);
    r = _mm512_mask_mov_epi32(r, is_over, _mm512_set1_epi32(s.infinity));
    return _mm512_mask_mov_epi32(r, is_nan, _mm512_set1_epi32(0x7f));
}

/* A macro for the shift, which must be a constant. */
#define PUT_SMALL(p, v, shift, ...)                                                  \
    do {                                                                             \
        const struct small s = { __VA_ARGS__ };                                      \
        __m512i u = _mm512_castps_si512(v);                                          \
        __m512i a = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff));              \
        __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(u, 31), 7);               \
        __m512i odd =                                                                \
            _mm512_and_si512(_mm512_srli_epi32(a, shift), _mm512_set1_epi32(1));     \
        __m512i up =                                                                 \
            _mm512_add_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(s.bias)), odd);   \
        __m512i r = small_code(a, _mm512_srli_epi32(up, shift), s);                  \
        _mm_storeu_si128(                                                            \
            (__m128i *)(void *)(p), _mm512_cvtepi32_epi8(_mm512_or_si512(r, sign))); \
    } while (0)

INLINE void put_e5m2(unsigned char *p, __m512 v)
{
    PUT_SMALL(p, v, 21, 128.0f, (int)0xc80fffffu, 0x38800000, 0x47700000, 0x7c);
}

INLINE void put_e4m3(unsigned char *p, __m512 v)
{
    PUT_SMALL(p, v, 20, 16384.0f, (int)0xc407ffffu, 0x3c800000, 0x43e80001, 0x7f);
}

/* Eight doubles rounded to odd: cut off, the last bit set where anything was lost. */
INLINE __m256 odd8(const double *p)
{
    __m512d d = _mm512_loadu_pd(p);
    __m256 cut = _mm512_cvt_roundpd_ps(d, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    __mmask8 lost = _mm512_cmp_pd_mask(_mm512_cvtps_pd(cut), d, _CMP_NEQ_UQ);
    __m256i u = _mm256_castps_si256(cut);
    return _mm256_castsi256_ps(_mm256_mask_or_epi32(u, lost, u, _mm256_set1_epi32(1)));
}

INLINE __m512 odd16(const double *p)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(odd8(p)), odd8(p + 8), 1);
}

#define STORES(name, k, size)                                                            \
    AVX512 static void store_##name(unsigned char *dst, const float *src, size_t n)      \
    {                                                                                    \
        size_t i = 0;                                                                    \
        for (; i + 16 <= n; i += 16)                                                     \
            put_##name(dst + i * (size), _mm512_loadu_ps(src + i));                      \
        lt_set_plain.store_f32[k](dst + i * (size), src + i, n - i);                     \
    }                                                                                    \
    AVX512 static void store_##name##_d(unsigned char *dst, const double *src, size_t n) \
    {                                                                                    \
        size_t i = 0;                                                                    \
        for (; i + 16 <= n; i += 16)                                                     \
            put_##name(dst + i * (size), odd16(src + i));                                \
        lt_set_plain.store_f64[k](dst + i * (size), src + i, n - i);                     \
    }

STORES(half, LT_HALF, 2)
STORES(bfloat, LT_BFLOAT, 2)
STORES(e5m2, LT_E5M2, 1)
STORES(e4m3, LT_E4M3, 1)

/* The sums of sixteen lanes: of the terms' first halves and of their second. */
struct lanes {
    __m512d low, high;
};

INLINE void add_lanes(
    struct lanes *s, __m512d low, __m512d high, __mmask16 mask, const float *b)
{
    __m256 y = _mm256_maskz_loadu_ps((__mmask8)mask, b);
    __m256 z = _mm256_maskz_loadu_ps((__mmask8)(mask >> 8), b + 8);
    s->low = _mm512_fmadd_pd(low, _mm512_cvtps_pd(y), s->low);
    s->high = _mm512_fmadd_pd(high, _mm512_cvtps_pd(z), s->high);
}

INLINE __m256d four_lanes(struct lanes s)
{
    __m512d sum = _mm512_add_pd(s.low, s.high);
    return _mm256_add_pd(_mm512_castpd512_pd256(sum), _mm512_extractf64x4_pd(sum, 1));
}

/* lt_dot_finish's tree, of two dots at once. */
INLINE __m128d two_sums(struct lanes s, struct lanes t)
{
    __m256d x = four_lanes(s), y = four_lanes(t);
    __m256d two = _mm256_add_pd(
        _mm256_permute2f128_pd(x, y, 0x20), _mm256_permute2f128_pd(x, y, 0x31));
    __m128d p = _mm256_castpd256_pd128(two), q = _mm256_extractf128_pd(two, 1);
    return _mm_add_pd(_mm_unpacklo_pd(p, q), _mm_unpackhi_pd(p, q));
}

/* The zeros beyond the end change no lane. */
INLINE __mmask16 part16(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffff);
}

INLINE void get_lanes(__m512d *low, __m512d *high, __mmask16 mask, const float *a)
{
    *low = _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)mask, a));
    *high = _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)(mask >> 8), a + 8));
}

INLINE struct lanes no_lanes(void)
{
    return (struct lanes){ _mm512_setzero_pd(), _mm512_setzero_pd() };
}

AVX512 static double dot_f32(const float *a, const float *b, size_t n)
{
    struct lanes s = no_lanes();
    __m512d low, high;
    for (size_t i = 0; i < n; i += 16) {
        get_lanes(&low, &high, part16(n - i), a + i);
        add_lanes(&s, low, high, part16(n - i), b + i);
    }
    return _mm_cvtsd_f64(two_sums(s, s));
}

INLINE void four_dots(double *sums, const float *a, const float *const b[4], size_t n)
{
    struct lanes s0 = no_lanes(), s1 = s0, s2 = s0, s3 = s0;
    __m512d low, high;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = part16(n - i);
        get_lanes(&low, &high, mask, a + i);
        add_lanes(&s0, low, high, mask, b[0] + i);
        add_lanes(&s1, low, high, mask, b[1] + i);
        add_lanes(&s2, low, high, mask, b[2] + i);
        add_lanes(&s3, low, high, mask, b[3] + i);
    }
    _mm_storeu_pd(sums, two_sums(s0, s1));
    _mm_storeu_pd(sums + 2, two_sums(s2, s3));
}

AVX512 static void dots_f32(double *sums, const float *a, const float *b,
    const uint16_t *at, size_t count, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float *const rows[] = { b + at[i] * n, b + at[i + 1] * n, b + at[i + 2] * n,
            b + at[i + 3] * n };
        four_dots(sums + i, a, rows, n);
    }
    for (; i < count; i++)
        sums[i] = dot_f32(a, b + at[i] * n, n);
}

AVX512 static bool bracket_f32(float *low, float *high, const float *a, const float *b,
    float scale, const float *slack, size_t n, float limit)
{
    __m512 unit = _mm512_set1_ps(0x1p-22f);
    __m512 times = _mm512_set1_ps(scale), top = _mm512_set1_ps(limit),
           bottom = _mm512_set1_ps(-limit);
    __mmask16 in = 0xffff;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 x = _mm512_add_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
        __m512 own = _mm512_mul_ps(_mm512_abs_ps(x), unit);
        __m512 e = _mm512_add_ps(_mm512_mul_ps(times, _mm512_loadu_ps(slack + i)), own);
        __m512 lo = _mm512_sub_ps(x, e), hi = _mm512_add_ps(x, e);
        _mm512_storeu_ps(low + i, lo);
        _mm512_storeu_ps(high + i, hi);
        in = _mm512_mask_cmp_ps_mask(in, lo, bottom, _CMP_GT_OQ);
        in = _mm512_mask_cmp_ps_mask(in, hi, top, _CMP_LT_OQ);
    }
    bool rest = lt_set_plain.bracket_f32(
        low + i, high + i, a + i, b + i, scale, slack + i, n - i, limit);
    return rest && in == 0xffff;
}

/* Loops that memory bounds are left to AVX2. */
const lt_convert_set lt_set_avx512 = {
    .name = "avx512",
    .supported = supported,
    .load_f32 = { load_half, load_bfloat, load_e5m2, load_e4m3, NULL },
    .load_f64 = { load_half_d, load_bfloat_d, load_e5m2_d, load_e4m3_d, NULL },
    .store_f32 = { store_half, store_bfloat, store_e5m2, store_e4m3, NULL },
    .store_f64 = { store_half_d, store_bfloat_d, store_e5m2_d, store_e4m3_d, NULL },
    .dot_f32 = dot_f32,
    .dots_f32 = dots_f32,
    .bracket_f32 = bracket_f32,
};

#else

const lt_convert_set lt_set_avx512 = { .name = "avx512" };

#endif
