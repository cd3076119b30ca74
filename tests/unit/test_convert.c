/* SPDX-License-Identifier: MIT */
/* Conversions against an independent definition: the nearest representable value, found
 * by search among all values of the format, ties to the even code; then every set of
 * kernels that this machine runs against the plain one, bit for bit. */
#include "runner.h"

#include "tensor/convert.h"
#include "tensor/convert_sets.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* Value of a code of a small float, from the format's definition. */
static double decode(unsigned code, int exp_bits, int man_bits, bool has_inf)
{
    int bias = (1 << (exp_bits - 1)) - 1;
    unsigned man = code & ((1u << man_bits) - 1),
             exp = code >> man_bits & ((1u << exp_bits) - 1);
    double sign = code >> (exp_bits + man_bits) & 1 ? -1 : 1;
    unsigned top = (1u << exp_bits) - 1;
    if (has_inf && exp == top) return man ? (double)NAN : sign * (double)INFINITY;
    if (!has_inf && exp == top && man == (1u << man_bits) - 1) return (double)NAN;
    if (exp == 0) return sign * ldexp((double)man, 1 - bias - man_bits);
    return sign * ldexp(1 + ldexp((double)man, -man_bits), (int)exp - bias);
}

static const struct format {
    lt_dtype dtype;
    int exp_bits, man_bits;
    bool has_inf;
} formats[] = {
    { LT_F16, 5, 10, true },
    { LT_BF16, 8, 7, true },
    { LT_F8_E5M2, 5, 2, true },
    { LT_F8_E4M3, 4, 3, false },
};

#define N_FORMATS (sizeof formats / sizeof *formats)

static unsigned code_count(const struct format *f)
{
    return 1u << (1 + f->exp_bits + f->man_bits);
}

static unsigned store_one(const struct format *f, double v, bool from_double)
{
    unsigned char raw[8] = { 0 };
    float single = (float)v;
    if (from_double)
        lt_store_f64(raw, &v, f->dtype, 1);
    else
        lt_store_f32(raw, &single, f->dtype, 1);
    return f->exp_bits + f->man_bits == 15 ? raw[0] | (unsigned)raw[1] << 8 : raw[0];
}

/* Runs a test with each set of kernels. */
static void with_each_set(void (*test)(void))
{
    for (size_t i = 0; i < lt_convert_count(); i++) {
        lt_convert_use(i);
        test();
    }
}

static void check_all_codes(void)
{
    for (size_t k = 0; k < N_FORMATS; k++) {
        const struct format *f = &formats[k];
        size_t wrong = 0;
        for (unsigned code = 0; code < code_count(f); code++) {
            unsigned char raw[2] = { (unsigned char)code, (unsigned char)(code >> 8) };
            float single;
            double wide, want = decode(code, f->exp_bits, f->man_bits, f->has_inf);
            lt_load_f32(&single, raw, f->dtype, 1);
            lt_load_f64(&wide, raw, f->dtype, 1);
            bool nan = isnan(want);
            wrong +=
                nan ? !isnan(single) || !isnan(wide) : single != want || wide != want;
            if (nan)
                wrong += !isnan(decode(
                    store_one(f, want, false), f->exp_bits, f->man_bits, f->has_inf));
            else
                wrong +=
                    store_one(f, want, false) != code || store_one(f, want, true) != code;
        }
        CHECK(wrong == 0);
    }
}

/* Between neighbours a < b: the midpoint goes to the even code, the rest to the nearer.
 */
static void check_rounding(void)
{
    for (size_t k = 0; k < N_FORMATS; k++) {
        const struct format *f = &formats[k];
        unsigned half = code_count(f) / 2;
        size_t wrong = 0, tried = 0;
        for (unsigned code = 0; code + 1 < half; code++) {
            double a = decode(code, f->exp_bits, f->man_bits, f->has_inf);
            double b = decode(code + 1, f->exp_bits, f->man_bits, f->has_inf);
            if (!isfinite(a) || !isfinite(b)) continue;
            double mid = a + (b - a) / 2;
            unsigned even = code & 1 ? code + 1 : code;
            /* One unit of double beside the midpoint: only a single rounding sees it. */
            wrong += store_one(f, mid, true) != even;
            wrong += store_one(f, nextafter(mid, 0), true) != code;
            wrong += store_one(f, nextafter(mid, INFINITY), true) != code + 1;
            wrong += store_one(f, -nextafter(mid, INFINITY), true) != (code + 1) + half;
            if ((double)(float)mid == mid) {
                wrong += store_one(f, mid, false) != even;
                wrong += store_one(f, (double)nextafterf((float)mid, 0), false) != code;
                wrong += store_one(f, (double)nextafterf((float)mid, INFINITY), false)
                    != code + 1;
            }
            tried++;
        }
        CHECK(tried > half / 2);
        CHECK(wrong == 0);
    }
}

static void check_overflow(void)
{
    CHECK(store_one(&formats[0], 65519.999, true) == 0x7bff);
    CHECK(store_one(&formats[0], 65520, true) == 0x7c00);
    CHECK(store_one(&formats[0], 1e300, true) == 0x7c00);
    CHECK(store_one(&formats[0], -INFINITY, false) == 0xfc00);
    CHECK(store_one(&formats[1], 3.4e38, true) == 0x7f80);
    CHECK(store_one(&formats[1], 1e300, true) == 0x7f80);
    CHECK(store_one(&formats[2], 61439, true) == 0x7b);
    CHECK(store_one(&formats[2], 61440, true) == 0x7c);
    CHECK(store_one(&formats[3], 464, true) == 0x7e);
    CHECK(store_one(&formats[3], 464.0001, true) == 0x7f);
    CHECK(store_one(&formats[3], INFINITY, true) == 0x7f);
    CHECK(store_one(&formats[0], 1e-300, true) == 0
        && store_one(&formats[0], -1e-300, true) == 0x8000);
}

static void check_arrays(void)
{
    enum { N = 1027 };
    static float in[N], out[N];
    static unsigned char raw[8 * N];
    for (int i = 0; i < N; i++)
        in[i] = (float)(i - 500) * 0.37f;
    const lt_dtype types[] = { LT_F32, LT_F64 };
    for (int k = 0; k < 2; k++) {
        memset(out, 0, sizeof out);
        lt_store_f32(raw, in, types[k], N);
        lt_load_f32(out, raw, types[k], N);
        CHECK(!memcmp(in, out, sizeof in));
    }
    /* Unaligned source and target. */
    lt_store_f32(raw + 1, in, LT_F16, N);
    lt_load_f32(out, raw + 1, LT_F16, N);
    size_t wrong = 0;
    for (int i = 0; i < N; i++)
        wrong += fabs((double)out[i] - in[i]) > fabs((double)in[i]) * 0x1p-11;
    CHECK(wrong == 0);
    in[1000] = NAN;
    CHECK(
        lt_find_nonfinite_f32(in, N) == 1000 && lt_find_nonfinite_f32(in, 1000) == 1000);
}

/* ---- every set against the plain one ---------------------------------------------- */

static const lt_dtype stored[] = { LT_F16, LT_BF16, LT_F8_E5M2, LT_F8_E4M3, LT_F32,
    LT_F64 };
#define N_STORED (sizeof stored / sizeof *stored)

/* Guard bytes behind an output show what writes too far. */
enum { BLOCK = 4096, GUARD = 16 };

static struct {
    _Alignas(8) unsigned char want[8 * BLOCK + GUARD], got[8 * BLOCK + GUARD + 1];
} out;

static void clear_out(void)
{
    memset(out.want, 0x5a, sizeof out.want);
    memset(out.got, 0x5a, sizeof out.got);
}

/* got lies shift bytes further than malloc would align. */
static bool same_out(size_t shift)
{
    return !memcmp(out.want, out.got + shift, sizeof out.want);
}

/* Stores src with set 0 and with set i, which is another. */
static bool same_stores(size_t i, const void *src, bool from_double, size_t n)
{
    bool same = true;
    for (size_t k = 0; k < N_STORED; k++) {
        clear_out();
        for (size_t set = 0; set <= i; set += i) {
            void *dst = set ? out.got : out.want;
            lt_convert_use(set);
            if (from_double)
                lt_store_f64(dst, src, stored[k], n);
            else
                lt_store_f32(dst, src, stored[k], n);
        }
        same = same && same_out(0);
    }
    return same;
}

static bool same_loads(size_t i, const void *src, lt_dtype dtype, size_t n)
{
    bool same = true;
    for (int wide = 0; wide < 2; wide++) {
        clear_out();
        for (size_t set = 0; set <= i; set += i) {
            void *dst = set ? out.got : out.want;
            lt_convert_use(set);
            if (wide)
                lt_load_f64(dst, src, dtype, n);
            else
                lt_load_f32(dst, src, dtype, n);
        }
        same = same && same_out(0);
    }
    return same;
}

static uint64_t next_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Whether there is something to compare with the plain kernels: a processor may have no
 * instruction set that they were written for (x86-64 without AVX2). */
static bool has_others(void)
{
    size_t count = lt_convert_count();
    CHECK(count >= 1);
    if (count == 1) printf("    this processor has the plain kernels only\n");
    return count > 1;
}

static void test_loads_agree(void)
{
    if (!has_others()) return;
    static unsigned char codes[2 * 65536];
    for (unsigned i = 0; i < 65536; i++) {
        codes[2 * i] = (unsigned char)i;
        codes[2 * i + 1] = (unsigned char)(i >> 8);
    }
    for (size_t i = 1; i < lt_convert_count(); i++)
        for (size_t k = 0; k < N_STORED; k++) {
            size_t size = lt_dtype_get(stored[k])->bits / 8, wrong = 0;
            for (size_t at = 0; at + BLOCK * size <= sizeof codes; at += BLOCK * size)
                wrong += !same_loads(i, codes + at, stored[k], BLOCK);
            CHECK(wrong == 0);
        }
}

static void check_floats(const float *values)
{
    for (size_t i = 1; i < lt_convert_count(); i++)
        CHECK(same_stores(i, values, false, BLOCK));
}

static void check_doubles(const double *values)
{
    for (size_t i = 1; i < lt_convert_count(); i++)
        CHECK(same_stores(i, values, true, BLOCK));
}

/* Every tie of every format, and what lies one and two units beside it. */
static void test_ties_agree(void)
{
    if (!has_others()) return;
    static float narrow[BLOCK];
    static double wide[BLOCK];
    size_t n = 0;
    for (size_t k = 0; k < N_FORMATS; k++) {
        const struct format *f = &formats[k];
        for (unsigned code = 0; code < code_count(f) / 2; code++) {
            double a = decode(code, f->exp_bits, f->man_bits, f->has_inf);
            double b = decode(code + 1, f->exp_bits, f->man_bits, f->has_inf);
            /* Past the end: the tie to what would be the next number. */
            if (!isfinite(b))
                b = a + (a - decode(code - 1, f->exp_bits, f->man_bits, f->has_inf));
            double mid = a + (b - a) / 2;
            float single = (float)mid;
            for (int step = -2; step <= 2; step++, n++) {
                double d = mid;
                float s = single;
                for (int j = 0; j < abs(step); j++) {
                    d = nextafter(d, step * (double)INFINITY);
                    s = nextafterf(s, (float)step * INFINITY);
                }
                wide[n % BLOCK] = code & 1 ? d : -d;
                narrow[n % BLOCK] = code & 1 ? s : -s;
                if (n % BLOCK != BLOCK - 1) continue;
                check_floats(narrow);
                check_doubles(wide);
            }
        }
    }
    check_floats(narrow);
    check_doubles(wide);
}

/* Bits of any kind, and doubles whose exponents the small formats have. */
static void test_random_agree(void)
{
    if (!has_others()) return;
    static uint64_t bits[BLOCK];
    static unsigned char raw[8 * BLOCK];
    uint64_t state = 1;
    for (int round = 0; round < 400; round++) {
        for (int i = 0; i < BLOCK; i++) {
            bits[i] = next_bits(&state);
            uint64_t exponent = 1023 - 155 + (bits[i] >> 52) % 310;
            if (round & 1) bits[i] = (bits[i] & ~(0x7ffull << 52)) | exponent << 52;
            if (round & 2 && i & 1) bits[i] &= 0xfffffffff0000000u; /* ties */
        }
        memcpy(raw, bits, sizeof raw);
        check_doubles((const double *)(const void *)bits);
        check_floats((const float *)(const void *)bits);
        for (size_t i = 1; i < lt_convert_count(); i++)
            CHECK(same_loads(i, raw, LT_F32, BLOCK) && same_loads(i, raw, LT_F64, BLOCK));
    }
}

/* Lengths and places that no vector fits; nothing is written beyond the end. */
static void check_placement(size_t i, size_t n, size_t shift)
{
    static double values[96];
    static unsigned char raw[8 * 96 + 1];
    for (size_t j = 0; j < 96; j++)
        values[j] = ((double)j - 30.3) * 0.7;
    for (size_t k = 0; k < N_STORED; k++) {
        clear_out();
        lt_convert_use(0);
        lt_store_f64(out.want, values + shift, stored[k], n);
        lt_convert_use(i);
        lt_store_f64(out.got + shift, values + shift, stored[k], n);
        CHECK(same_out(shift));
        memcpy(raw + shift, out.want, 8 * 96);
        CHECK(same_loads(i, raw + shift, stored[k], n));
    }
}

static void test_placements_agree(void)
{
    if (!has_others()) return;
    for (size_t i = 1; i < lt_convert_count(); i++)
        for (size_t n = 0; n <= 70; n++)
            for (size_t shift = 0; shift < 2; shift++)
                check_placement(i, n, shift);
}

/* ---- loops over elements ---------------------------------------------------------- */

static void check_finds(void)
{
    static const double odd[] = { NAN, INFINITY, -INFINITY, 65520, -65520 };
    for (size_t n = 0; n <= 70; n++)
        for (size_t at = 0; at < n; at++)
            for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
                float single[70] = { 0 };
                double wide[70] = { 0 };
                wide[n - 1] = (double)NAN;
                wide[at] = odd[k];
                single[at] = (float)odd[k];
                size_t want = isfinite(odd[k]) ? n : at;
                CHECK(lt_find_nonfinite_f32(single, n) == want);
                if (isfinite(odd[k]) && at < n - 1) want = n - 1;
                CHECK(lt_find_nonfinite_f64(wide, n) == want);
                CHECK(lt_find_beyond_f64(wide, n, 65520) == at);
            }
    double least = nextafter(65520, 0), top[1] = { DBL_MAX };
    CHECK(lt_find_beyond_f64(&least, 1, 65520) == 1);
    CHECK(lt_find_beyond_f64(top, 1, (double)INFINITY) == 1);
}

static void check_dots(const float *a, const float *b)
{
    static const uint16_t at[] = { 3, 0, 7, 1, 11, 2, 4 };
    double sums[7];
    for (size_t count = 0; count <= 7; count++)
        for (size_t n = 0; n < 70; n++) {
            lt_dots_f32(sums, a, b, at, count, n);
            for (size_t i = 0; i < count; i++) {
                double one = lt_dot_f32(a, b + at[i] * n, n);
                CHECK(sums[i] == one || (isnan(sums[i]) && isnan(one)));
            }
        }
}

/* a - b, a + scale * b and the bracket of a + b, by every set on the same numbers. */
static void check_sums(const float *a, const float *b, const double *c, const double *d)
{
    static float want[5][BLOCK], got[5][BLOCK], slack[BLOCK];
    for (size_t i = 0; i < lt_convert_count(); i++) {
        lt_convert_use(i);
        float(*to)[BLOCK] = i ? got : want;
        for (int j = 0; j < BLOCK; j++)
            slack[j] = fabsf(b[j]) * 0x1p-12f;
        memcpy(to[0], a, sizeof to[0]);
        lt_add_scaled_f32(to[0], 0.3f, b, BLOCK - 3);
        lt_subtract_f32(to[1], a, b, BLOCK - 3);
        lt_subtract_f64(to[2], c, d, BLOCK - 3);
        bool inside = lt_bracket_f32(to[3], to[4], a, b, 0.7f, slack, BLOCK - 3, 1e9f);
        size_t beyond = 0;
        for (int j = 0; j < BLOCK - 3; j++)
            beyond += !(fabsf(to[3][j]) < 1e9f && fabsf(to[4][j]) < 1e9f);
        CHECK(inside == !beyond);
        for (int n = 0; n < 70; n++)
            to[4][n] = (float)lt_dot_f32(a + n, b, (size_t)n);
        check_dots(a, b);
        double whole = lt_dot_f32(a, b, BLOCK - 5);
        memcpy(to[3], &whole, sizeof whole);
        if (i) CHECK(!memcmp(want, got, sizeof want));
    }
}

static void test_sums_agree(void)
{
    static float a[BLOCK], b[BLOCK];
    static double c[BLOCK], d[BLOCK];
    uint64_t state = 2;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < BLOCK; i++) {
            a[i] = ldexpf(
                (float)(int32_t)next_bits(&state), (int)(next_bits(&state) % 40) - 60);
            b[i] = ldexpf(
                (float)(int32_t)next_bits(&state), (int)(next_bits(&state) % 40) - 60);
            c[i] = (double)(int64_t)next_bits(&state);
            d[i] = (double)(int64_t)next_bits(&state);
        }
        check_sums(a, b, c, d);
        a[round * 100] = round & 1 ? 2e9f : -2e9f;
        if (round == 5) b[77] = NAN;
        check_sums(a, b, c, d);
    }
}

/* The bracket holds a + b and a + b +- slack. */
static void check_bracket(void)
{
    uint64_t state = 3;
    size_t wrong = 0;
    for (int i = 0; i < 100000; i++) {
        float a =
            ldexpf((float)(int32_t)next_bits(&state), (int)(next_bits(&state) % 60) - 90);
        float b =
            ldexpf((float)(int32_t)next_bits(&state), (int)(next_bits(&state) % 60) - 90);
        float e = i % 3 ? fabsf(b) * 0x1p-18f : 0, low, high;
        wrong += !lt_bracket_f32(&low, &high, &a, &b, 0.5f, &e, 1, INFINITY);
        double x = (double)a + b, off = 0.5 * (double)e * (1 - 0x1p-20);
        wrong += !(low <= x - off && high >= x + off);
    }
    CHECK(wrong == 0);
}

/* ---- all 2^32 floats, only when asked for: LORATOOL_EXHAUSTIVE=1 ------------------ */

static void test_every_float(void)
{
    static uint32_t bits[BLOCK];
    for (size_t i = 1; i < lt_convert_count(); i++) {
        size_t wrong = 0;
        for (uint64_t at = 0; at < (uint64_t)1 << 32; at += BLOCK) {
            for (size_t j = 0; j < BLOCK; j++)
                bits[j] = (uint32_t)(at + j);
            wrong += !same_stores(i, bits, false, BLOCK);
        }
        printf(
            "    %s: %zu of 2^32 / %d blocks differ\n", lt_convert_use(i), wrong, BLOCK);
        CHECK(wrong == 0);
    }
}

static void check_marks(void)
{
    enum { N = 200 };
    unsigned char a[N] = { 0 }, b[N] = { 0 };
    size_t wrong = 0;
    for (size_t i = 0; i < N; i++)
        b[i] = (unsigned char)(i % 7 == 3 || i % 64 == 63) << i % 8;
    for (size_t n = 0; n <= N; n++) {
        uint64_t marks[N / 64 + 2] = { 1, 1, 1, 1, 1 };
        lt_mark_differences(marks, a, b, n);
        for (size_t i = 0; i < (n + 63) / 64 * 64; i++)
            wrong += (marks[i / 64] >> i % 64 & 1) != (i < n && a[i] != b[i]);
        wrong += marks[(n + 63) / 64] != 1;
    }
    CHECK(wrong == 0);
}

static void test_marks(void)
{
    with_each_set(check_marks);
}

static void test_all_codes(void)
{
    with_each_set(check_all_codes);
}

static void test_rounding(void)
{
    with_each_set(check_rounding);
}

static void test_overflow(void)
{
    with_each_set(check_overflow);
}

static void test_arrays(void)
{
    with_each_set(check_arrays);
}

static void test_finds(void)
{
    with_each_set(check_finds);
}

static void test_bracket(void)
{
    with_each_set(check_bracket);
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_all_codes), TEST(test_rounding),
        TEST(test_overflow), TEST(test_arrays), TEST(test_loads_agree),
        TEST(test_ties_agree), TEST(test_random_agree), TEST(test_placements_agree),
        TEST(test_finds), TEST(test_sums_agree), TEST(test_bracket), TEST(test_marks),
        TEST(test_every_float) };
    size_t count = sizeof tests / sizeof *tests;
    return unit_run(tests, getenv("LORATOOL_EXHAUSTIVE") ? count : count - 1);
}
