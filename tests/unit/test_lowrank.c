/* SPDX-License-Identifier: MIT */
/* The truncated SVD against LAPACK's full one in double. */
#include "runner.h"

#include "tensor/convert.h"
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

/* A job on f, whose elements are put into panels in uneven runs. */
struct setup {
    lt_panels panels;
    lt_scratch scratch;
    lt_lowrank_job job;
};

static void set_up(struct setup *s, const float *f, size_t m, size_t n, size_t k)
{
    *s = (struct setup){ 0 };
    lt_panels_shape(&s->panels, m, n);
    s->panels.data = lt_alloc(m * n, sizeof(float), NULL);
    for (size_t at = 0, run; at < m * n; at += run) {
        run = m * n - at < 997 ? m * n - at : 997;
        lt_panels_put(&s->panels, at, f + at, run);
    }
    s->job = (lt_lowrank_job){ .delta = &s->panels,
        .rank = k,
        .energy = lt_dot_f32(f, f, m * n),
        .b = lt_alloc(m * k, sizeof(float), NULL),
        .a = lt_alloc(k * n, sizeof(float), NULL),
        .sigma = lt_alloc(k, sizeof(double), NULL),
        .scratch = &s->scratch };
}

static void tear_down(struct setup *s)
{
    lt_free(s->panels.data);
    lt_free(s->job.b);
    lt_free(s->job.a);
    lt_free(s->job.sigma);
    lt_scratch_release(&s->scratch);
}

/* The same for the leading j of the k columns of b and rows of a. */
static void check_nested(
    const struct setup *s, const float *f, size_t m, size_t n, size_t j)
{
    size_t k = s->job.rank;
    float *b = lt_alloc(m * j, sizeof *b, NULL);
    double error, best, norm;
    for (size_t i = 0; i < m; i++)
        memcpy(b + i * j, s->job.b + i * k, j * sizeof *b);
    measure(f, m, n, j, b, s->job.a, &error, &best, &norm);
    CHECK(error <= 1.001 * best + 1e-6 * norm);
    lt_free(b);
}

static void check_matrix(float *f, size_t m, size_t n, size_t k, lt_split split,
    const char *what, double *worst)
{
    struct setup s;
    double error, best, norm;
    set_up(&s, f, m, n, k);
    s.job.split = split;
    CHECK(!lt_lowrank(&s.job, NULL));
    measure(f, m, n, k, s.job.b, s.job.a, &error, &best, &norm);
    bool ok = error <= 1.001 * best + 3e-7 * norm;
    bool certified = fabs(s.job.tail - error * error)
        <= 2e-3 * error * error + (s.job.exact ? 1e-12 : 2e-7) * norm * norm;
    if (!CHECK(ok) || !CHECK(certified))
        printf("    %zux%zu rank %zu %s: %g, certified %g, best %g of %g (%zu, %s)\n", m,
            n, k, what, error, sqrt(s.job.tail), best, norm, s.job.count,
            s.job.exact ? "exact" : "float");
    if (best > 1e-4 * norm && error / best > *worst) *worst = error / best;
    if (k >= 8) check_nested(&s, f, m, n, k / 2);
    tear_down(&s);
}

static void check_one(size_t m, size_t n, size_t k, enum spectrum kind, double scale,
    lt_split split, double *worst)
{
    char what[32];
    snprintf(what, sizeof what, "spectrum %d", (int)kind);
    float *f = make_matrix(m, n, kind, scale);
    check_matrix(f, m, n, k, split, what, worst);
    lt_free(f);
}

static void test_against_lapack(void)
{
    static const size_t shapes[][3] = { { 1, 1, 1 }, { 1, 40, 1 }, { 40, 1, 1 },
        { 7, 5, 5 }, { 64, 64, 8 }, { 64, 300, 16 }, { 300, 64, 16 }, { 200, 200, 16 },
        { 320, 240, 24 }, { 240, 640, 40 }, { 200, 200, 200 }, { 256, 180, 150 },
        { 130, 6500, 20 }, { 6500, 130, 20 }, { 400, 400, 96 }, { 100, 100, 1 } };
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
    static const double scales[] = { 1e-30, 1e-18, 1e-12, 1e12, 1e17, 1e30 };
    double worst = 0;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        for (int kind = 0; kind < N_SPECTRA; kind++)
            check_one(
                200, 240, 16, (enum spectrum)kind, scales[i], LT_SPLIT_SQRT, &worst);
}

/* Structures that random starts may meet badly. */
static void test_structures(void)
{
    enum { M = 300, N = 420, K = 24 };
    double worst = 0;
    float *f = lt_alloc((size_t)M * N, sizeof *f, NULL);
    for (size_t i = 0; i < M; i++)
        f[i * N + i] = 2;
    check_matrix(f, M, N, K, LT_SPLIT_SQRT, "identity", &worst);
    memset(f, 0, sizeof *f * M * N);
    for (size_t j = 0; j < N; j++)
        f[7 * N + j] = f[200 * N + j] = (float)uniform();
    check_matrix(f, M, N, K, LT_SPLIT_SQRT, "two equal rows", &worst);
    f[0] = 1e-3f;
    f[5 * N + 9] = -1e-5f;
    check_matrix(f, M, N, K, LT_SPLIT_UP, "four rows", &worst);
    memset(f, 0, sizeof *f * M * N);
    f[150 * N + 100] = 3;
    check_matrix(f, M, N, K, LT_SPLIT_UP, "one element", &worst);
    for (size_t i = 0; i < (size_t)M * N; i++)
        f[i] = i % 3 ? 0 : (float)uniform();
    for (size_t i = 0; i < M; i += 2)
        memset(f + i * N, 0, N * sizeof *f);
    check_matrix(f, M, N, K, LT_SPLIT_UP, "noise with zero rows", &worst);
    for (size_t i = 0; i < (size_t)M * N; i++)
        f[i] = 1;
    check_matrix(f, M, N, K, LT_SPLIT_UP, "all equal", &worst);
    lt_free(f);
}

/* Low rank in float32 but for rounding needs double products; a decay does not. */
static void test_precision(void)
{
    size_t m = 260, n = 300, k = 16;
    struct setup s;
    float *f = make_matrix(m, n, EXACT_LOW, 1);
    set_up(&s, f, m, n, k);
    CHECK(!lt_lowrank(&s.job, NULL));
    CHECK(s.job.exact && s.job.count < m);
    CHECK(s.job.sigma[4] > 0.199 && s.job.sigma[5] < 1e-6);
    tear_down(&s);
    lt_free(f);
    f = make_matrix(m, n, DECAY, 1);
    set_up(&s, f, m, n, k);
    CHECK(!lt_lowrank(&s.job, NULL));
    CHECK(!s.job.exact && s.job.count < m);
    tear_down(&s);
    lt_free(f);
}

static void test_zero(void)
{
    float f[12] = { 0 };
    struct setup s;
    set_up(&s, f, 4, 3, 1);
    memset(s.job.b, 0xff, 4 * sizeof *s.job.b);
    CHECK(!lt_lowrank(&s.job, NULL));
    for (int i = 0; i < 4; i++)
        CHECK(s.job.b[i] == 0);
    s.job.rank = 4;
    CHECK(lt_lowrank(&s.job, NULL) == LT_ERR_ARG);
    tear_down(&s);
}

/* Balanced factors: equal norms of the columns of b and the rows of a. */
static void test_balance(void)
{
    size_t m = 120, n = 180, k = 6;
    float *f = make_matrix(m, n, DECAY, 1);
    struct setup s;
    set_up(&s, f, m, n, k);
    CHECK(!lt_lowrank(&s.job, NULL));
    for (size_t t = 0; t < k; t++) {
        double nb = 0, na = 0, sigma = s.job.sigma[t];
        for (size_t i = 0; i < m; i++)
            nb += (double)s.job.b[i * k + t] * s.job.b[i * k + t];
        for (size_t j = 0; j < n; j++)
            na += (double)s.job.a[t * n + j] * s.job.a[t * n + j];
        CHECK(fabs(nb - sigma) < 1e-5 && fabs(na - sigma) < 1e-5);
        CHECK(fabs(sigma - sigma_of(DECAY, t)) < 1e-3);
    }
    tear_down(&s);
    lt_free(f);
}

static void round_to(float *p, size_t n, lt_dtype dtype)
{
    double *room = lt_alloc(n, sizeof *room, NULL);
    lt_store_f32(room, p, dtype, n);
    lt_load_f32(p, room, dtype, n);
    lt_free(room);
}

/* What the basis says of stored factors is what going over the matrix says. Gives whether
 * the basis said anything. */
static bool check_distance(size_t m, size_t n, size_t k, enum spectrum kind,
    lt_split split, lt_dtype dtype, double *worst)
{
    struct setup s;
    bool sure;
    double squared, error, best, norm, scale = 4;
    float *f = make_matrix(m, n, kind, 0.02);
    set_up(&s, f, m, n, k);
    s.job.split = split;
    CHECK(!lt_lowrank(&s.job, NULL));
    for (size_t i = 0; i < m * k; i++)
        s.job.b[i] /= (float)scale;
    round_to(s.job.b, m * k, dtype);
    round_to(s.job.a, k * n, dtype);
    CHECK(!lt_lowrank_distance(&s.job, scale, dtype, &squared, &sure, NULL));
    for (size_t i = 0; i < m * k; i++)
        s.job.b[i] *= (float)scale;
    measure(f, m, n, k, s.job.b, s.job.a, &error, &best, &norm);
    if (sure) {
        double off = fabs(squared - error * error) / (error * error);
        if (!CHECK(off <= 1e-3))
            printf("    %zux%zu spectrum %d: off by %g\n", m, n, (int)kind, off);
        if (off > *worst) *worst = off;
    }
    tear_down(&s);
    lt_free(f);
    return sure;
}

static void test_distance(void)
{
    static const size_t shapes[][2] = { { 300, 2900 }, { 2900, 300 }, { 400, 400 } };
    static const lt_dtype dtypes[] = { LT_F32, LT_F16, LT_BF16 };
    size_t sure = 0, runs = 0;
    double worst = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++)
            for (int kind = 0; kind < N_SPECTRA; kind++, runs++)
                sure +=
                    check_distance(shapes[i][0], shapes[i][1], 12, (enum spectrum)kind,
                        t % 2 ? LT_SPLIT_UP : LT_SPLIT_SQRT, dtypes[t], &worst);
    printf("    sure in %zu of %zu runs, worst %.2g\n", sure, runs, worst);
    /* Those that fall off slowly or not at all; never those that leave nothing. */
    CHECK(sure >= 18 && sure <= 27);
    bool low = false;
    low |= check_distance(300, 2900, 12, EXACT_LOW, LT_SPLIT_SQRT, LT_F16, &worst);
    low |= check_distance(300, 2900, 12, STEEP, LT_SPLIT_SQRT, LT_F16, &worst);
    low |= check_distance(60, 80, 12, DECAY, LT_SPLIT_SQRT, LT_F16, &worst);
    CHECK(!low);
}

static lt_status run_job(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    lt_lowrank_job *job = ctx;
    (void)item;
    job->worker = worker;
    return lt_lowrank(job, err);
}

/* Many panels, helped by 0 to 3 threads: the same bytes. */
static void test_helpers(void)
{
    static const size_t shapes[][2] = { { 150, 30000 }, { 30000, 150 } };
    for (int i = 0; i < 4; i++) {
        size_t m = shapes[i % 2][0], n = shapes[i % 2][1], k = 12;
        float *f = make_matrix(m, n, i < 2 ? DECAY : EXACT_LOW, 1);
        struct setup one, many;
        set_up(&one, f, m, n, k);
        CHECK(one.panels.count > 4);
        CHECK(!lt_lowrank(&one.job, NULL));
        for (int threads = 2; threads <= 4; threads++) {
            set_up(&many, f, m, n, k);
            lt_job job = {
                .threads = threads, .n_items = 1, .work = run_job, .ctx = &many.job
            };
            CHECK(!lt_pool_run(&job, NULL));
            CHECK(!memcmp(one.job.b, many.job.b, m * k * sizeof(float)));
            CHECK(!memcmp(one.job.a, many.job.a, n * k * sizeof(float)));
            CHECK(one.job.tail == many.job.tail && one.job.exact == (i >= 2));
            tear_down(&many);
        }
        tear_down(&one);
        lt_free(f);
    }
}

/* Every element goes to one place, and comes back from it. */
static void test_panels(void)
{
    static const size_t shapes[][2] = { { 3, 5 }, { 5, 3 }, { 200, 20000 },
        { 20000, 200 }, { 1, 1 }, { 1, 2000000 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t m = shapes[i][0], n = shapes[i][1], wrong = 0;
        float *f = lt_alloc(m * n, sizeof *f, NULL);
        struct setup s;
        for (size_t j = 0; j < m * n; j++)
            f[j] = (float)uniform();
        set_up(&s, f, m, n, 1);
        size_t covered = 0, width;
        for (size_t j = 0; j < s.panels.count; j++) {
            lt_panel(&s.panels, j, &width);
            covered += width * s.panels.side;
        }
        for (size_t j = 0, run; j < m * n; j += run) {
            const float *at = lt_panels_at(&s.panels, j, &run);
            wrong += memcmp(at, f + j, run * sizeof *f) != 0;
        }
        CHECK(wrong == 0 && covered == m * n);
        tear_down(&s);
        lt_free(f);
    }
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_panels), TEST(test_against_lapack),
        TEST(test_scales), TEST(test_structures), TEST(test_precision), TEST(test_zero),
        TEST(test_balance), TEST(test_distance), TEST(test_helpers) };
    CHECK(!lt_linalg_load(NULL));
    return RUN_TESTS(tests);
}
