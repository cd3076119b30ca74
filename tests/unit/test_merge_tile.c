/* SPDX-License-Identifier: MIT */
/* A weight plus products: every element the exact sum rounded once, also where float32
 * does not tell which way to round, and whichever kernels compute it. */
#include "runner.h"

#include "ops/merge_tile.h"
#include "tensor/convert.h"
#include "tensor/convert_sets.h"
#include "tensor/linalg.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { ROWS = 77, COLUMNS = 1100, RANK = 37, COUNT = ROWS * COLUMNS };

static lt_sum sum;
static lt_addend addends[2];
static double weight[COUNT];
static unsigned char stored[8 * COUNT], merged[8 * COUNT], want[8 * COUNT];
static uint64_t state;

static double draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)(int64_t)(z ^ z >> 31) * 0x1p-63;
}

/* Factors that F16 holds, unless exact is false. */
static void fill(double *p, size_t n, double scale, bool exact)
{
    unsigned char raw[2];
    for (size_t i = 0; i < n; i++) {
        p[i] = scale * draw();
        if (!exact) continue;
        lt_store_f64(raw, p + i, LT_F16, 1);
        lt_load_f64(p + i, raw, LT_F16, 1);
    }
}

static void add_addend(size_t first, size_t rows, size_t rank, double factor, bool exact)
{
    lt_addend *p = &addends[sum.count++];
    CHECK(!lt_addend_init(p, first, rows, sum.columns, rank, NULL));
    p->factor = factor;
    fill(p->left, rows * rank, 0.1, exact);
    fill(p->right, sum.columns * rank, 0.1, exact);
}

static void begin(lt_dtype from, lt_dtype to, double scale)
{
    state = 1;
    sum = (lt_sum){ .from = from, .to = to, .columns = COLUMNS, .addends = addends };
    fill(weight, COUNT, scale, false);
    lt_store_f64(stored, weight, from, COUNT);
    lt_load_f64(weight, stored, from, COUNT);
}

static void end(void)
{
    for (size_t i = 0; i < sum.count; i++)
        lt_addend_release(&addends[i]);
}

/* The exact sums, before lt_sum_prepare drops the factors in double. */
static void expect(void)
{
    static double exact[COUNT];
    for (size_t at = 0; at < COUNT; at++) {
        size_t row = at / COLUMNS, column = at % COLUMNS;
        long double x = weight[at];
        for (size_t i = 0; i < sum.count; i++) {
            const lt_addend *p = &addends[i];
            long double change = 0;
            if (row < p->first || row >= p->first + p->rows) continue;
            for (size_t k = 0; k < p->rank; k++)
                change += (long double)p->left[(row - p->first) * p->rank + k]
                    * p->right[k * COLUMNS + column];
            x += p->factor * change;
        }
        exact[at] = (double)x;
    }
    lt_store_f64(want, exact, sum.to, COUNT);
}

/* All rows in steps of that many; elements computed again. */
static uint64_t run(size_t step)
{
    lt_scratch scratch = { 0 };
    lt_error err = { 0 };
    uint64_t again = 0;
    size_t in = lt_dtype_get(sum.from)->bits / 8, out = lt_dtype_get(sum.to)->bits / 8;
    memset(merged, 0xee, sizeof merged);
    for (size_t row = 0; row < ROWS; row += step) {
        size_t rows = ROWS - row < step ? ROWS - row : step, at = row * COLUMNS;
        CHECK(!lt_sum_tile(&sum, row, rows, stored + at * in, merged + at * out, &scratch,
            &again, &err));
    }
    lt_scratch_release(&scratch);
    return again;
}

static bool as_wanted(void)
{
    return !memcmp(merged, want, (size_t)COUNT * lt_dtype_get(sum.to)->bits / 8);
}

/* What float32 alone would store in place of want. */
static size_t wrong_in_single(void)
{
    static float delta[COUNT];
    static double x[COUNT];
    const lt_addend *p = addends;
    size_t size = lt_dtype_get(sum.to)->bits / 8, wrong = 0;
    lt_gemm_f32(ROWS, COLUMNS, RANK, (float)p->factor,
        (lt_matf){ p->left32, RANK, false }, (lt_matf){ p->right32, COLUMNS, false }, 0,
        delta);
    for (size_t i = 0; i < COUNT; i++)
        x[i] = weight[i] + delta[i];
    lt_store_f64(merged, x, sum.to, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        wrong += memcmp(merged + i * size, want + i * size, size) != 0;
    return wrong;
}

static void check_types(lt_dtype from, lt_dtype to, bool exact)
{
    begin(from, to, 1);
    add_addend(0, ROWS, RANK, 0.7, exact);
    expect();
    CHECK(!lt_sum_prepare(&sum, NULL));
    CHECK(sum.single && exact == !addends[0].left);
    for (size_t i = 0; i < lt_convert_count(); i++) {
        lt_convert_use(i);
        uint64_t again = run(ROWS);
        CHECK(as_wanted());
        CHECK((again > 0 || to == LT_F8_E4M3 || to == LT_F8_E5M2) && again < COUNT / 50);
    }
    run(10);
    CHECK(as_wanted());
    if (from == LT_F16 && to == LT_F16)
        CHECK(wrong_in_single() > 0); /* the second look is needed */
    end();
}

static void test_types(void)
{
    static const lt_dtype small[] = { LT_F16, LT_BF16, LT_F8_E4M3, LT_F8_E5M2 };
    for (size_t i = 0; i < 4; i++) {
        check_types(small[i], small[i], true);
        check_types(small[i], small[i], false);
        check_types(LT_F32, small[i], true);
        check_types(LT_F8_E5M2, small[i], true);
    }
}

/* Sums a hair beside a tie, which in float32 are that tie. */
static void test_beside_ties(void)
{
    sum = (lt_sum){ .from = LT_F16, .to = LT_F16, .columns = 2, .addends = addends };
    lt_addend *p = addends;
    CHECK(!lt_addend_init(p, 0, 2, 2, 2, NULL));
    sum.count = 1;
    const double left[] = { 1, 0x1p-13, 1, -0x1p-13 }, right[] = { 1, 1, 0x1p-13, 0 };
    memcpy(p->left, left, sizeof left);
    memcpy(p->right, right, sizeof right);
    const double base[] = { 2048, 2048, 2050, 2050 };
    /* 2049 and a bit, 2049; 2051 less a bit, 2051; F16 holds the even ones */
    const double expected[] = { 2050, 2048, 2050, 2052 };
    double got[4];
    uint16_t raw[4], out[4];
    uint64_t again = 0;
    lt_scratch scratch = { 0 };
    lt_store_f64(raw, base, LT_F16, 4);
    CHECK(!lt_sum_prepare(&sum, NULL) && sum.single);
    CHECK(!lt_sum_tile(&sum, 0, 2, raw, out, &scratch, &again, NULL));
    lt_load_f64(got, out, LT_F16, 4);
    CHECK(again == 4 && !memcmp(got, expected, sizeof got));
    lt_scratch_release(&scratch);
    lt_addend_release(p);
}

/* Rows with no product, one and two; the same in double throughout. */
static void test_several(void)
{
    begin(LT_F16, LT_F16, 1);
    add_addend(5, 40, RANK, 0.3, true);
    add_addend(30, 42, 8, -2, false);
    expect();
    run(ROWS); /* not prepared: in double */
    CHECK(as_wanted() && !sum.single);
    CHECK(!lt_sum_prepare(&sum, NULL) && sum.single);
    CHECK(run(ROWS) > 0);
    CHECK(as_wanted());
    run(4);
    CHECK(as_wanted());
    end();
}

/* Rows that no addend reaches stay as they are, -0 included. */
static void test_rows_left_alone(void)
{
    uint16_t *weights = (uint16_t *)(void *)stored, *sums = (uint16_t *)(void *)merged;
    begin(LT_F16, LT_F16, 1);
    add_addend(5, 10, RANK, 0.3, true);
    for (size_t i = 0; i < COUNT; i += 3)
        weights[i] = 0x8000;
    CHECK(!lt_sum_prepare(&sum, NULL) && sum.single);
    run(ROWS);
    size_t row = COUNT / ROWS;
    CHECK(!memcmp(sums, weights, 2 * 5 * row));
    CHECK(memcmp(sums + 5 * row, weights + 5 * row, 2 * 10 * row) != 0);
    CHECK(!memcmp(sums + 15 * row, weights + 15 * row, 2 * (COUNT - 15 * row)));
    end();
}

static void test_nothing_to_add(void)
{
    begin(LT_F16, LT_F16, 1);
    add_addend(0, ROWS, RANK, 1, true);
    memset(addends[0].left, 0, (size_t)ROWS * RANK * sizeof *addends[0].left);
    CHECK(!lt_sum_prepare(&sum, NULL));
    CHECK(run(ROWS) == 0);
    CHECK(!memcmp(merged, stored, 2 * COUNT));
    end();
}

/* Factors and norms that float32 is not trusted with, and ones at its edge. */
static void test_extremes(void)
{
    static const struct {
        double factor, left, right;
        bool single;
    } cases[] = { { 1, 1e-30, 1e30, false }, { 1e-30, 1, 1e30, false },
        { 1e30, 1e-30, 1, false }, { 1, 1e-300, 1, true }, { 1, 1e-17, 1e17, true },
        { 1, 1e-20, 1e-19, true }, { 1, 1e-46, 1e16, true }, { 0, 1, 1, true },
        { 0x1p-20, 1, 1e3, true } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(LT_BF16, LT_BF16, 1);
        add_addend(0, ROWS, RANK, cases[i].factor, false);
        for (size_t k = 0; k < (size_t)ROWS * RANK; k++)
            addends[0].left[k] *= cases[i].left;
        for (size_t k = 0; k < (size_t)COLUMNS * RANK; k++)
            addends[0].right[k] *= cases[i].right;
        for (size_t k = 0; k < COUNT; k += 3)
            stored[2 * k] = stored[2 * k + 1] = 0; /* the sum is the product */
        lt_load_f64(weight, stored, LT_BF16, COUNT);
        expect();
        CHECK(!lt_sum_prepare(&sum, NULL) && sum.single == cases[i].single);
        run(ROWS);
        CHECK(as_wanted());
        end();
    }
}

/* A row near the type's end is computed in double; beyond it is an error. */
static void check_overflow(double value, const char *message)
{
    lt_scratch scratch = { 0 };
    lt_error err = { 0 };
    begin(LT_F16, LT_F16, 1);
    add_addend(0, ROWS, RANK, 1, true);
    weight[3 * COLUMNS + 1050] = value;
    lt_store_f64(stored, weight, LT_F16, COUNT);
    for (size_t k = 0; k < RANK; k++) {
        addends[0].left[3 * RANK + k] = k == 0;
        addends[0].right[k * COLUMNS + 1050] = k == 0 ? 15.75 : 0;
    }
    expect();
    CHECK(!lt_sum_prepare(&sum, NULL) && sum.single);
    lt_status st = lt_sum_tile(&sum, 0, ROWS, stored, merged, &scratch, NULL, &err);
    CHECK(st == (message ? LT_ERR_NUMERIC : LT_OK));
    if (message)
        CHECK(strstr(err.msg, message) != NULL);
    else
        CHECK(as_wanted());
    lt_scratch_release(&scratch);
    end();
}

static void test_overflow(void)
{
    check_overflow(65472, NULL); /* 65487.75 is 65472 */
    check_overflow(65504, NULL); /* 65519.75: just below where infinity begins */
    check_overflow((double)INFINITY, "element 4350 would be inf, which F16 cannot hold");
    check_overflow((double)NAN, "element 4350 would be nan");
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_types), TEST(test_beside_ties),
        TEST(test_several), TEST(test_rows_left_alone), TEST(test_nothing_to_add),
        TEST(test_extremes), TEST(test_overflow) };
    return RUN_TESTS(tests);
}
