/* SPDX-License-Identifier: MIT */
/* Truncated products, both ways, against LAPACK's SVD of the product in double. */
#include "runner.h"

#include "tensor/linalg.h"
#include "tensor/lowrank_core.h"

#include <math.h>
#include <stdlib.h>

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state ^ state >> 29) * 0x1p-63;
}

enum kind { PLAIN, GRADED, LOPSIDED, FAR, STEEP, SHIFTED, LOW, TWINS, ZERO, ONE_ZERO };

/* How the t-th column of b and row of a come out of random ones. */
static void shape_factor(enum kind kind, size_t r, size_t t, double *b, double *a)
{
    *b = *a = 1;
    switch (kind) {
    case PLAIN:
    case SHIFTED:
    case TWINS: break;
    case GRADED: *a = 1 / (double)(1 + t); break;
    case LOPSIDED: *a = 1 / (*b = t % 2 ? 0x1p20 : 0x1p-20); break;
    case FAR: *a = 1 / (*b = 0x1p-110); break;
    case STEEP: *b = *a = pow(0.25, (double)t); break;
    case LOW: *b = t < r / 2 ? 1 : 0; break;
    case ZERO: *b = 0; break;
    case ONE_ZERO: *a = t ? 1 : 0; break;
    }
}

/* One case: the factors, their product and its singular values, all of it in double. */
struct example {
    size_t m, n, r, p; /* p: singular values */
    double scale;
    double *b, *a, *product, *sigma;
    float *bf, *af;
};

static void fill(struct example *e, enum kind kind)
{
    for (size_t t = 0; t < e->r; t++) {
        double fb, fa;
        shape_factor(kind, e->r, t, &fb, &fa);
        double shift = kind == SHIFTED ? 10 : 0; /* columns nearly parallel */
        for (size_t i = 0; i < e->m; i++)
            e->bf[i * e->r + t] = (float)(uniform() * fb + shift);
        for (size_t j = 0; j < e->n; j++)
            e->af[t * e->n + j] = kind == TWINS && t % 2
                ? e->af[(t - 1) * e->n + j]
                : (float)(uniform() * fa + shift);
    }
}

static void make(struct example *e, enum kind kind)
{
    size_t m = e->m, n = e->n, r = e->r, p = e->p = m < n ? m : n;
    e->b = lt_alloc(m * r, sizeof *e->b, NULL);
    e->a = lt_alloc(r * n, sizeof *e->a, NULL);
    e->bf = lt_alloc(m * r, sizeof *e->bf, NULL);
    e->af = lt_alloc(r * n, sizeof *e->af, NULL);
    e->product = lt_alloc(m * n, sizeof *e->product, NULL);
    e->sigma = lt_alloc(p, sizeof *e->sigma, NULL);
    fill(e, kind);
    for (size_t i = 0; i < m * r; i++)
        e->b[i] = e->bf[i] * e->scale;
    for (size_t i = 0; i < r * n; i++)
        e->a[i] = e->af[i];
    lt_gemm_f64(m, n, r, 1, (lt_matd){ e->b, r, false }, (lt_matd){ e->a, n, false }, 0,
        e->product);
    double *copy = lt_alloc(m * n, sizeof *copy, NULL);
    double *u = lt_alloc(m * p, sizeof *u, NULL), *vt = lt_alloc(p * n, sizeof *vt, NULL);
    memcpy(copy, e->product, m * n * sizeof *copy);
    CHECK(!lt_svd(m, n, copy, u, e->sigma, vt, NULL));
    lt_free(copy);
    lt_free(u);
    lt_free(vt);
}

static void drop(struct example *e)
{
    void *all[] = { e->b, e->a, e->bf, e->af, e->product, e->sigma };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lt_free(all[i]);
}

/* || product - times b a ||, element by element. */
static double distance(
    const struct example *e, const float *b, const float *a, size_t k, double times)
{
    double rest = 0;
    for (size_t i = 0; i < e->m; i++)
        for (size_t j = 0; j < e->n; j++) {
            double x = 0;
            for (size_t t = 0; t < k; t++)
                x += (double)b[i * k + t] * a[t * e->n + j];
            x = e->product[i * e->n + j] - times * x;
            rest += x * x;
        }
    return sqrt(rest);
}

static double tail(const struct example *e, size_t from)
{
    double sum = 0;
    for (size_t i = from; i < e->p; i++)
        sum += e->sigma[i] * e->sigma[i];
    return sqrt(sum);
}

static void check_careful(const struct example *e, size_t k)
{
    size_t m = e->m, n = e->n, r = e->r;
    double *b = lt_alloc(m * r, sizeof *b, NULL), *a = lt_alloc(r * n, sizeof *a, NULL);
    double *b1 = lt_alloc(m * k, sizeof *b, NULL), *a1 = lt_alloc(k * n, sizeof *a, NULL);
    double *sigma = lt_alloc(r, sizeof *sigma, NULL), far, energy, norm = tail(e, 0);
    float *bf = lt_alloc(m * k, sizeof *bf, NULL);
    float *af = lt_alloc(k * n, sizeof *af, NULL);
    lt_scratch scratch = { 0 };
    memcpy(b, e->b, m * r * sizeof *b);
    memcpy(a, e->a, r * n * sizeof *a);
    lt_core core = { b, a, m, n, r, k, bf, af, sigma };
    CHECK(!lt_lowrank_core(&core, LT_SPLIT_SQRT, &scratch, NULL));
    double error = distance(e, bf, af, k, 1);
    CHECK(error <= 1.001 * tail(e, k) + 1e-6 * norm);
    for (size_t i = 0; i < m * k; i++)
        b1[i] = bf[i];
    for (size_t i = 0; i < k * n; i++)
        a1[i] = af[i];
    CHECK(!lt_pair_distance(m, n, (lt_pair){ e->b, e->a, r }, (lt_pair){ b1, a1, k },
        &far, &energy, &scratch, NULL));
    CHECK(fabs(sqrt(far) - error) <= 1e-6 * norm);
    CHECK(fabs(sqrt(energy) - norm) <= 1e-6 * norm);
    lt_scratch_release(&scratch);
    void *all[] = { b, a, b1, a1, sigma, bf, af };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lt_free(all[i]);
}

/* Columns of b and rows of a share sigma as the split says. */
static void check_split(const struct example *e, const lt_truncation *t)
{
    for (size_t j = 0; j < t->k; j++) {
        double nb = 0, na = 0, s = e->sigma[j];
        for (size_t i = 0; i < e->m; i++)
            nb += (double)t->b[i * t->k + j] * t->b[i * t->k + j];
        for (size_t i = 0; i < e->n; i++)
            na += (double)t->a[j * e->n + i] * t->a[j * e->n + i];
        double want_b = t->split == LT_SPLIT_UP ? s * s : s;
        double want_a = t->split == LT_SPLIT_UP ? 1 : s;
        CHECK(fabs(nb / (t->b_times * t->b_times * want_b) - 1) < 1e-3);
        CHECK(fabs(na / (t->a_times * t->a_times * want_a) - 1) < 1e-3);
    }
}

/* From float32 Gram matrices, from double ones, or not by way of them. */
enum way { ROUGH, EXACT, NEITHER };

/* Eigenvalues: each by itself, or beside all of them. */
static void check_sigma(
    const struct example *e, const double *sigma, size_t k, enum way way)
{
    double norm = tail(e, 0);
    for (size_t j = 0; j < k; j++) {
        double off = fabs(sigma[j] * sigma[j] - e->sigma[j] * e->sigma[j]);
        CHECK(way == ROUGH ? off <= 1e-6 * norm * norm
                           : fabs(sigma[j] / e->sigma[j] - 1) < 1e-6);
    }
}

/* The fast way must know when it is good enough, and be good then. Returns which it was.
 */
static enum way check_fast(const struct example *e, size_t k, lt_split split, bool rough)
{
    float *bf = lt_alloc(e->m * k, sizeof *bf, NULL);
    float *af = lt_alloc(k * e->n, sizeof *af, NULL);
    double *sigma = lt_alloc(k, sizeof *sigma, NULL), norm = tail(e, 0), far = -1;
    lt_scratch scratch = { 0 };
    lt_grams g;
    bool sure = false, measured = false;
    lt_product p = { e->bf, e->af, e->m, e->n, e->r, e->scale };
    lt_truncation t = { k, split, 2, 0.25, bf, af, sigma };
    CHECK(!lt_grams_make(&g, &p, rough, &scratch, NULL));
    CHECK(!g.sure || fabs(sqrt(g.energy) / norm - 1) < 1e-6);
    CHECK(!lt_grams_truncate(&g, &p, &t, &sure, &scratch, NULL));
    enum way way = !sure ? NEITHER : g.floats ? ROUGH : EXACT;
    CHECK(rough || way != ROUGH);
    if (sure) {
        double error = distance(e, bf, af, k, 2);
        if (!CHECK(error <= 1.001 * tail(e, k) + 1e-6 * norm))
            printf("    %zux%zu rank %zu of %zu: %g, best %g of %g\n", e->m, e->n, k,
                e->r, error, tail(e, k), norm);
        check_sigma(e, sigma, k, way);
        check_split(e, &t);
        lt_product q = { bf, af, e->m, e->n, k, 2 };
        CHECK(!lt_grams_distance(&g, &p, &q, &far, &measured, &scratch, NULL));
        CHECK(!measured || fabs(sqrt(far) - error) <= 1e-3 * error);
        CHECK(measured || (way == EXACT && error < 1e-3 * norm));
    }
    lt_scratch_release(&scratch);
    lt_free(bf);
    lt_free(af);
    lt_free(sigma);
    return way;
}

/* Whether the fast way takes it on. */
enum expected { FAST, CAREFUL, EITHER };

static void check_one(size_t m, size_t n, size_t r, size_t k, enum kind kind,
    double scale, enum expected expected)
{
    struct example e = { .m = m, .n = n, .r = r, .scale = scale };
    make(&e, kind);
    check_careful(&e, k);
    bool fast = check_fast(&e, k, LT_SPLIT_SQRT, false) == EXACT;
    CHECK((check_fast(&e, k, LT_SPLIT_UP, false) == EXACT) == fast);
    /* The rough start may serve where doubles would, and else leads to them. */
    enum way way = check_fast(&e, k, LT_SPLIT_SQRT, true);
    CHECK(check_fast(&e, k, LT_SPLIT_UP, true) == way);
    CHECK((way != NEITHER) == fast);
    if (!CHECK(expected == EITHER || fast == (expected == FAST)))
        printf("    %zux%zu rank %zu of %zu, kind %d\n", m, n, k, r, (int)kind);
    drop(&e);
}

static void test_shapes(void)
{
    check_one(60, 40, 16, 4, GRADED, 1, FAST);
    check_one(40, 60, 16, 16, GRADED, 1, FAST);
    check_one(300, 700, 64, 20, PLAIN, 1, FAST); /* several strips */
    check_one(700, 300, 64, 20, GRADED, 1, FAST);
    check_one(12, 60, 16, 8, GRADED, 1, EITHER);   /* rank above one side */
    check_one(60, 12, 16, 12, GRADED, 1, CAREFUL); /* and above the other */
    check_one(1, 9, 3, 1, GRADED, 1, EITHER);
    check_one(2, 3, 200, 2, GRADED, 1, CAREFUL); /* far above both */
    check_one(50, 40, 1, 1, PLAIN, 1, FAST);
}

/* The careful way's memory follows the sides and the factors, not the rank's square. */
static void test_high_rank(void)
{
    enum { M = 3, N = 1024, R = 1024, K = 2 };
    struct example e = { .m = M, .n = N, .r = R, .scale = 1 };
    float b[M * K], a[K * N];
    double sigma[M];
    uint64_t memory = 0;
    lt_scratch scratch = { 0 };
    make(&e, PLAIN);
    lt_core core = { e.b, e.a, M, N, R, K, b, a, sigma };
    CHECK(!lt_lowrank_core(&core, LT_SPLIT_SQRT, &scratch, NULL));
    CHECK(distance(&e, b, a, K, 1) <= 1.001 * tail(&e, K));
    for (int i = 0; i < M; i++)
        CHECK(fabs(sigma[i] / e.sigma[i] - 1) < 1e-12);
    for (int i = 0; i < LT_SCRATCH_SLOTS; i++)
        memory += scratch.size[i];
    CHECK(memory < 1 << 20); /* one R x R matrix is 8 MiB */
    lt_scratch_release(&scratch);
    drop(&e);
    check_one(3, 900, 40, 2, PLAIN, 1, EITHER); /* between the sides */
    check_one(900, 3, 40, 3, GRADED, 1, EITHER);
    check_one(20, 30, 31, 7, STEEP, 1, EITHER);
    check_one(20, 30, 64, 20, LOPSIDED, 1, EITHER);
    check_one(20, 30, 64, 5, ZERO, 1, CAREFUL);
    check_one(20, 30, 64, 5, TWINS, 1, EITHER);
}

static void test_scales(void)
{
    static const double scales[] = { 0.5, -3, 1e-12, 1e12 };
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        check_one(60, 50, 16, 4, PLAIN, scales[i], FAST);
        check_one(60, 50, 16, 16, PLAIN, scales[i], FAST);
    }
    /* The same product, however its factors share the magnitudes. */
    check_one(60, 50, 16, 4, LOPSIDED, 1, FAST);
    check_one(60, 50, 16, 4, FAR, 1, FAST);
}

/* One large singular value and small ones: the Gram matrices lose four digits. */
static void test_shifted(void)
{
    for (size_t k = 1; k <= 16; k += 3)
        check_one(500, 300, 16, k, SHIFTED, 1, EITHER);
}

static void test_singular(void)
{
    check_one(60, 50, 16, 4, LOW, 1, FAST); /* half the rank is left to discard */
    check_one(60, 50, 16, 8, LOW, 1, CAREFUL);
    check_one(60, 50, 16, 12, LOW, 1, CAREFUL);
    check_one(60, 50, 16, 4, TWINS, 1, EITHER);
    check_one(60, 50, 16, 12, TWINS, 1, CAREFUL);
    check_one(60, 50, 16, 4, ONE_ZERO, 1, CAREFUL);
    check_one(60, 50, 16, 4, ZERO, 1, CAREFUL);
}

static void test_steep(void)
{
    for (size_t k = 1; k <= 16; k++)
        check_one(60, 50, 16, k, STEEP, 1, k < 3 ? FAST : k > 8 ? CAREFUL : EITHER);
}

static void check_way(size_t m, size_t n, size_t r, size_t k, enum kind kind,
    double scale, enum way expected)
{
    struct example e = { .m = m, .n = n, .r = r, .scale = scale };
    make(&e, kind);
    enum way way = check_fast(&e, k, LT_SPLIT_SQRT, true);
    if (!CHECK(way == expected))
        printf("    %zux%zu rank %zu of %zu, kind %d: way %d\n", m, n, k, r, (int)kind,
            (int)way);
    drop(&e);
}

/* Float32 sums serve flat spectra at any scale of the product, and are given up where
 * little is discarded or float32 cannot hold the sums. */
static void test_rough(void)
{
    check_way(300, 200, 32, 8, PLAIN, 1, ROUGH);
    check_way(130, 129, 17, 5, PLAIN, 1, ROUGH); /* runs and bands that are not full */
    check_way(260, 140, 130, 30, PLAIN, 1, ROUGH);
    check_way(300, 200, 32, 4, GRADED, 1, ROUGH);
    check_way(300, 200, 32, 8, PLAIN, 1e-30, ROUGH);
    check_way(300, 200, 32, 8, PLAIN, -1e30, ROUGH);
    check_way(300, 200, 32, 4, LOPSIDED, 1, ROUGH);
    check_way(300, 200, 32, 8, FAR, 1, EXACT);    /* squares vanish in float32 */
    check_way(300, 200, 16, 2, STEEP, 1, EXACT);  /* a tail of 1e-5 of the energy */
    check_way(300, 200, 32, 32, PLAIN, 1, EXACT); /* no tail */
    check_way(300, 200, 32, 31, GRADED, 1, EXACT);
    check_way(300, 200, 32, 16, LOW, 1, NEITHER);
    check_way(300, 200, 32, 8, ZERO, 1, NEITHER);
    check_way(300, 200, 32, 8, ONE_ZERO, 1, NEITHER);
}

/* b C and C^-1 a for a badly conditioned C: long columns and rows whose product is short.
 * The distance to another product is still right. */
static void test_cancelling(void)
{
    enum { M = 90, N = 80, R = 6 };
    double q[R * R], c[R * R], inverse[R * R], far, energy, wanted = 0;
    double *b = lt_alloc(M * R, sizeof *b, NULL), *a = lt_alloc(R * N, sizeof *a, NULL);
    double *bc = lt_alloc(M * R, sizeof *b, NULL), *ca = lt_alloc(R * N, sizeof *a, NULL);
    double *other = lt_alloc(M, sizeof *b, NULL), *one = lt_alloc(N, sizeof *a, NULL);
    lt_scratch scratch = { 0 };
    for (int i = 0; i < R * R; i++)
        q[i] = uniform();
    CHECK(!lt_lq(R, R, q, NULL, NULL));
    for (int i = 0; i < R * R; i++) {
        c[i] = inverse[i] = 0;
        for (int t = 0; t < R; t++) {
            c[i] += q[t * R + i / R] * pow(10, -1.3 * t) * q[t * R + i % R];
            inverse[i] += q[t * R + i / R] * pow(10, 1.3 * t) * q[t * R + i % R];
        }
    }
    for (int i = 0; i < M * R; i++)
        b[i] = uniform();
    for (int i = 0; i < R * N; i++)
        a[i] = uniform();
    for (int i = 0; i < M; i++)
        other[i] = uniform();
    for (int i = 0; i < N; i++)
        one[i] = uniform();
    lt_gemm_f64(M, R, R, 1, (lt_matd){ b, R, false }, (lt_matd){ c, R, false }, 0, bc);
    lt_gemm_f64(
        R, N, R, 1, (lt_matd){ inverse, R, false }, (lt_matd){ a, N, false }, 0, ca);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double x = -other[i] * one[j];
            for (int t = 0; t < R; t++)
                x += b[i * R + t] * a[t * N + j];
            wanted += x * x;
        }
    CHECK(!lt_pair_distance(M, N, (lt_pair){ bc, ca, R }, (lt_pair){ other, one, 1 },
        &far, &energy, &scratch, NULL));
    if (!CHECK(fabs(far - wanted) <= 1e-6 * wanted))
        printf("    %g, not %g\n", far, wanted);
    lt_scratch_release(&scratch);
    void *all[] = { b, a, bc, ca, other, one };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lt_free(all[i]);
}

/* Sides whose work space LAPACK cannot count are refused before anything is read: at
 * 40000 it asks for 1,360,000 numbers and writes 3,200,240,001. */
static void test_sides(void)
{
    double x = 1, u = 0, s = 0, vt = 0;
    float f = 1, w = 0;
    CHECK(lt_eig_sym(32767, &x, &s, NULL) == LT_ERR_LIMIT);
    CHECK(lt_eig_sym(40000, &x, &s, NULL) == LT_ERR_LIMIT);
    CHECK(lt_eig_sym(SIZE_MAX, &x, &s, NULL) == LT_ERR_LIMIT);
    CHECK(lt_eig_sym_f32(40000, &f, &w, NULL) == LT_ERR_LIMIT);
    CHECK(lt_svd(24000, 24000, &x, &u, &s, &vt, NULL) == LT_ERR_LIMIT);
    CHECK(lt_svd(40000, 50000, &x, &u, &s, &vt, NULL) == LT_ERR_LIMIT);
    CHECK(lt_svd(1, SIZE_MAX, &x, &u, &s, &vt, NULL) == LT_ERR_LIMIT);
    CHECK(!lt_eig_sym(1, &x, &s, NULL) && s == 1);
    CHECK(!lt_svd(1, 1, &x, &u, &s, &vt, NULL) && s == 1);
}

/* LAPACK's SVD goes on for ever on some matrices with infinity in them. */
static void test_not_finite(void)
{
    static const double bad[] = { INFINITY, -INFINITY, NAN };
    double u[9], s[3], vt[9], w[3];
    float wf[3];
    for (size_t at = 0; at < 9; at++)
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            double a[9] = { 2, 1, 0, 1, 2, 1, 0, 1, 2 }, b[9];
            float f[9];
            a[at] = bad[k];
            memcpy(b, a, sizeof b);
            for (size_t i = 0; i < 9; i++)
                f[i] = (float)a[i];
            bool read = at % 3 <= at / 3; /* the lower triangle */
            CHECK(lt_svd(3, 3, a, u, s, vt, NULL) == LT_ERR_NUMERIC);
            CHECK(lt_eig_sym(3, b, w, NULL) == (read ? LT_ERR_NUMERIC : LT_OK));
            CHECK(lt_eig_sym_f32(3, f, wf, NULL) == (read ? LT_ERR_NUMERIC : LT_OK));
        }
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_shapes), TEST(test_high_rank),
        TEST(test_scales), TEST(test_shifted), TEST(test_singular), TEST(test_steep),
        TEST(test_rough), TEST(test_cancelling), TEST(test_sides),
        TEST(test_not_finite) };
    return RUN_TESTS(tests);
}
