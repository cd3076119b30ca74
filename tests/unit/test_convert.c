/* SPDX-License-Identifier: MIT */
/* Conversions against an independent definition: the nearest representable value, found
 * by search among all values of the format, ties to the even code. */
#include "runner.h"

#include "tensor/convert.h"

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

static void test_all_codes(void)
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
static void test_rounding(void)
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

static void test_overflow(void)
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

static void test_arrays(void)
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

int main(void)
{
    static const unit_test tests[] = { TEST(test_all_codes), TEST(test_rounding),
        TEST(test_overflow), TEST(test_arrays) };
    return RUN_TESTS(tests);
}
