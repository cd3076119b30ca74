/* SPDX-License-Identifier: MIT */
/* The truncated SVD against LAPACK's full one in double. */
#include "runner.h"

#include "tensor/linalg.h"
#include "tensor/lowrank.h"

#include <math.h>
#include <stdlib.h>

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state ^ state >> 29) * 0x1p-63;
}

/* Rows orthonormal: k x n. */
static double *random_basis(size_t k, size_t n)
{
    double *q = lt_alloc(k * n, sizeof *q, NULL);
    for (size_t i = 0; i < k * n; i++)
        q[i] = uniform();
    CHECK(!lt_lq(k, n, q, NULL, NULL));
    return q;
}

enum spectrum { DECAY, FLAT, STEEP, EXACT_LOW, ONE, STEPS, N_SPECTRA };

static double sigma_of(enum spectrum kind, size_t i)
{
    switch (kind) {
    case DECAY: return pow((double)i + 1, -0.7);
    case FLAT: return 1 + 1e-3 * cos((double)i);
    case STEEP: return pow(0.7, (double)i);
    case EXACT_LOW: return i < 5 ? 1.0 / (double)(i + 1) : 0;
    case ONE: return i ? 0 : 3;
    case STEPS: return i < 20 ? 1 : 0.5;
    case N_SPECTRA: break;
    }
    return 0;
}

static float *make_matrix(size_t m, size_t n, enum spectrum kind, double scale)
{
    size_t s = m < n ? m : n;
    double *u = random_basis(s, m), *v = random_basis(s, n);
    double *d = lt_alloc(m * n, sizeof *d, NULL);
    float *f = lt_alloc(m * n, sizeof *f, NULL);
    for (size_t i = 0; i < s; i++)
        for (size_t j = 0; j < n; j++)
            v[i * n + j] *= scale * sigma_of(kind, i);
    lt_gemm_f64(m, n, s, 1, (lt_matd){ u, m, true }, (lt_matd){ v, n, false }, 0, d);
    for (size_t i = 0; i < m * n; i++)
        f[i] = (float)d[i];
    lt_free(u);
    lt_free(v);
    lt_free(d);
    return f;
}

/* || f - b a ||, and the best that rank k allows, both in double. */
static void measure(const float *f, size_t m, size_t n, size_t k, const float *b,
    const float *a, double *error, double *best, double *norm)
{
    size_t s = m < n ? m : n;
    double *d = lt_alloc(m * n, sizeof *d, NULL), *u = lt_alloc(m * s, sizeof *u, NULL);
    double *vt = lt_alloc(s * n, sizeof *vt, NULL), *sv = lt_alloc(s, sizeof *sv, NULL);
    double rest = 0, tail = 0, all = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double x = d[i * n + j] = f[i * n + j];
            for (size_t t = 0; t < k; t++)
                x -= (double)b[i * k + t] * a[t * n + j];
            rest += x * x;
        }
    CHECK(!lt_svd(m, n, d, u, sv, vt, NULL));
    for (size_t i = 0; i < s; i++) {
        all += sv[i] * sv[i];
        if (i >= k) tail += sv[i] * sv[i];
    }
    *error = sqrt(rest);
    *best = sqrt(tail);
    *norm = sqrt(all);
    lt_free(d);
    lt_free(u);
    lt_free(vt);
    lt_free(sv);
}

static void check_one(size_t m, size_t n, size_t k, enum spectrum kind, double scale,
    lt_split split, double *worst)
{
    float *f = make_matrix(m, n, kind, scale);
    float *b = lt_alloc(m * k, sizeof *b, NULL), *a = lt_alloc(k * n, sizeof *a, NULL);
    lt_scratch scratch = { 0 };
    double error, best, norm, energy = lt_energy_f32(f, m * n);
    CHECK(!lt_lowrank(f, m, n, k, energy, split, b, a, NULL, &scratch, NULL));
    measure(f, m, n, k, b, a, &error, &best, &norm);
    bool ok = error <= 1.001 * best + 1e-6 * norm;
    if (!CHECK(ok))
        printf("    %zux%zu rank %zu spectrum %d: %g, best %g of %g\n", m, n, k, kind,
            error, best, norm);
    if (best > 1e-4 * norm && error / best > *worst) *worst = error / best;
    lt_scratch_release(&scratch);
    lt_free(f);
    lt_free(a);
    lt_free(b);
}

static void test_against_lapack(void)
{
    static const size_t shapes[][3] = { { 1, 1, 1 }, { 1, 40, 1 }, { 40, 1, 1 },
        { 7, 5, 5 }, { 64, 64, 8 }, { 64, 300, 16 }, { 300, 64, 16 }, { 200, 200, 16 },
        { 320, 240, 24 }, { 240, 640, 40 }, { 200, 200, 200 }, { 256, 180, 150 } };
    for (int kind = 0; kind < N_SPECTRA; kind++) {
        double worst = 0;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            check_one(shapes[i][0], shapes[i][1], shapes[i][2], (enum spectrum)kind, 1,
                i % 2 ? LT_SPLIT_UP : LT_SPLIT_SQRT, &worst);
        printf("    spectrum %d: worst error / optimum %.6f\n", kind, worst);
    }
}

static void test_scales(void)
{
    double worst = 0;
    check_one(200, 240, 16, DECAY, 1e-12, LT_SPLIT_SQRT, &worst);
    check_one(200, 240, 16, DECAY, 1e12, LT_SPLIT_SQRT, &worst);
}

static void test_zero(void)
{
    float f[12] = { 0 }, b[4], a[3];
    lt_scratch scratch = { 0 };
    memset(b, 0xff, sizeof b);
    memset(a, 0xff, sizeof a);
    CHECK(!lt_lowrank(f, 4, 3, 1, 0, LT_SPLIT_SQRT, b, a, NULL, &scratch, NULL));
    for (int i = 0; i < 4; i++)
        CHECK(b[i] == 0);
    CHECK(lt_lowrank(f, 4, 3, 4, 0, LT_SPLIT_SQRT, b, a, NULL, &scratch, NULL)
        == LT_ERR_ARG);
    lt_scratch_release(&scratch);
}

/* Balanced factors: equal norms of the columns of b and the rows of a. */
static void test_balance(void)
{
    size_t m = 50, n = 80, k = 6;
    float *f = make_matrix(m, n, DECAY, 1), b[50 * 6], a[6 * 80];
    double sigma[6];
    lt_scratch scratch = { 0 };
    double energy = lt_energy_f32(f, m * n);
    CHECK(!lt_lowrank(f, m, n, k, energy, LT_SPLIT_SQRT, b, a, sigma, &scratch, NULL));
    for (size_t t = 0; t < k; t++) {
        double nb = 0, na = 0;
        for (size_t i = 0; i < m; i++)
            nb += (double)b[i * k + t] * b[i * k + t];
        for (size_t j = 0; j < n; j++)
            na += (double)a[t * n + j] * a[t * n + j];
        CHECK(fabs(nb - sigma[t]) < 1e-5 && fabs(na - sigma[t]) < 1e-5);
        CHECK(fabs(sigma[t] - sigma_of(DECAY, t)) < 1e-5);
    }
    lt_scratch_release(&scratch);
    lt_free(f);
}

static void check_core(size_t m, size_t n, size_t r, size_t k)
{
    double *b = lt_alloc(m * r, sizeof *b, NULL), *a = lt_alloc(r * n, sizeof *a, NULL);
    double *b0 = lt_alloc(m * r, sizeof *b, NULL), *a0 = lt_alloc(r * n, sizeof *a, NULL);
    double *b1 = lt_alloc(m * k, sizeof *b, NULL), *a1 = lt_alloc(k * n, sizeof *a, NULL);
    float *bf = lt_alloc(m * k, sizeof *bf, NULL),
          *af = lt_alloc(k * n, sizeof *af, NULL);
    float *product = lt_alloc(m * n, sizeof *product, NULL);
    double sigma[256], error, best, norm, distance, energy;
    for (size_t i = 0; i < m * r; i++)
        b0[i] = b[i] = uniform();
    for (size_t i = 0; i < r * n; i++)
        a0[i] = a[i] = uniform() / (double)(1 + i / n);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double x = 0;
            for (size_t t = 0; t < r; t++)
                x += b[i * r + t] * a[t * n + j];
            product[i * n + j] = (float)x;
        }
    lt_scratch scratch = { 0 };
    lt_core core = { b, a, m, n, r, k, bf, af, sigma };
    CHECK(!lt_lowrank_core(&core, LT_SPLIT_SQRT, &scratch, NULL));
    measure(product, m, n, k, bf, af, &error, &best, &norm);
    CHECK(error <= 1.001 * best + 1e-6 * norm);
    for (size_t i = 0; i < m * k; i++)
        b1[i] = bf[i];
    for (size_t i = 0; i < k * n; i++)
        a1[i] = af[i];
    CHECK(!lt_pair_distance(m, n, (lt_pair){ b0, a0, r }, (lt_pair){ b1, a1, k },
        &distance, &energy, &scratch, NULL));
    CHECK(fabs(sqrt(distance) - error) < 1e-6 * norm
        && fabs(sqrt(energy) - norm) < 1e-6 * norm);
    lt_scratch_release(&scratch);
    double *all[] = { b, a, b0, a0, b1, a1 };
    for (int i = 0; i < 6; i++)
        lt_free(all[i]);
    lt_free(bf);
    lt_free(af);
    lt_free(product);
}

static void test_core(void)
{
    check_core(60, 40, 16, 4);
    check_core(40, 60, 16, 16);
    check_core(12, 60, 16, 8);  /* rank above one side */
    check_core(60, 12, 16, 12); /* and above the other */
    check_core(1, 9, 3, 1);
    check_core(2, 3, 200, 2); /* a rank far above both sides */
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_against_lapack), TEST(test_scales),
        TEST(test_zero), TEST(test_balance), TEST(test_core) };
    return RUN_TESTS(tests);
}
