/* SPDX-License-Identifier: MIT */
#include "tensor/linalg.h"

#include "base/library.h"
#include "base/mem.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* LAPACK's Fortran entry points, LP64: every matrix is column-major, so a row-major
 * m x n operand is passed as its n x m transpose. */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda,
    double *w, double *work, const int *lwork, int *iwork, const int *liwork, int *info);
void ssyevd_(const char *jobz, const char *uplo, const int *n, float *a, const int *lda,
    float *w, float *work, const int *lwork, int *iwork, const int *liwork, int *info);
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau,
    double *work, const int *lwork, int *info);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda,
    const double *tau, double *work, const int *lwork, int *info);
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda,
    double *s, double *u, const int *ldu, double *vt, const int *ldvt, double *work,
    const int *lwork, int *iwork, int *info);
void dgesvd_(const char *jobu, const char *jobvt, const int *m, const int *n, double *a,
    const int *lda, double *s, double *u, const int *ldu, double *vt, const int *ldvt,
    double *work, const int *lwork, int *info);

/* Every routine that is used, by its name in the library. */
#define ROUTINES(X)             \
    X(openblas_get_corename)    \
    X(openblas_set_num_threads) \
    X(cblas_sgemm)              \
    X(cblas_dgemm)              \
    X(cblas_ssyrk)              \
    X(cblas_dsyrk)              \
    X(dsyevd_)                  \
    X(ssyevd_)                  \
    X(dpotrf_)                  \
    X(dgeqrf_)                  \
    X(dorgqr_)                  \
    X(dgesdd_)                  \
    X(dgesvd_)

static struct {
#define MEMBER(name) __typeof__(name) *name;
    ROUTINES(MEMBER)
} blas;

static lt_loading loading;

/* Small products are computed from where their operands lie. */
static bool in_place;

/* Sets name for the time in which the library is loaded; value NULL: leaves it alone. */
struct setting {
    const char *name, *value;
    char *before;
};

static void set_for_now(struct setting *s)
{
    const char *now = getenv(s->name);
    s->before = now ? strdup(now) : NULL;
    if (now && !s->before) s->value = NULL; /* it could not be restored */
    if (s->value) setenv(s->name, s->value, 1);
}

static void restore(struct setting *s)
{
    if (s->value && s->before)
        setenv(s->name, s->before, 1);
    else if (s->value)
        unsetenv(s->name);
    free(s->before);
}

/* One thread from the start: else the library makes a pool of its own, one thread a
 * processor. */
static lt_status open_library(void **handle, const char *core, lt_error *err)
{
#define ROW(name) { #name, &blas.name },
    static const lt_routine routines[] = { ROUTINES(ROW) };
    static const lt_library library = { "OpenBLAS", LORATOOL_OPENBLAS,
        LORATOOL_OPENBLAS_PATH, routines, sizeof routines / sizeof *routines };
    struct setting threads = { .name = "OPENBLAS_NUM_THREADS", .value = "1" };
    struct setting coretype = { .name = "OPENBLAS_CORETYPE", .value = core };
    set_for_now(&threads);
    set_for_now(&coretype);
    lt_status st = lt_library_open(handle, &library, err);
    restore(&coretype);
    restore(&threads);
    return st;
}

/* Releases older than the processor take it for a Prescott of 2004 and run at a quarter
 * of the speed. The core type to ask for then; NULL when the library found one that is
 * as good as the processor, or the user has chosen. */
static const char *better_core(void)
{
#if defined(__x86_64__)
    static const char *const old[] = { "Prescott", "Core2", "Penryn", "Dunnington",
        "Atom", "Nehalem", "Sandybridge", "Katmai", "Northwood", "Banias" };
    const char *core = blas.openblas_get_corename();
    bool outdated = false;
    for (size_t i = 0; core && i < sizeof old / sizeof *old; i++)
        outdated = outdated || !strcmp(core, old[i]);
    if (!outdated || getenv("OPENBLAS_CORETYPE")) return NULL;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
    return NULL;
}

/* OpenBLAS has such kernels for these cores alone; elsewhere pieces are copied one by
 * one. */
static bool multiplies_in_place(const char *core)
{
    static const char *const able[] = { "SkylakeX", "Cooperlake", "SapphireRapids" };
    for (size_t i = 0; core && i < sizeof able / sizeof *able; i++)
        if (!strcmp(core, able[i])) return true;
    return false;
}

/* The library chooses its kernels while it is loaded: to choose others it has to go and
 * come again, which takes a millisecond or two. Where it cannot go, because the host
 * program uses it too, it stays as it was. */
static void load(void)
{
    void *handle;
    loading.status = open_library(&handle, NULL, &loading.error);
    const char *core = loading.status ? NULL : better_core();
    if (core) {
        lt_library_close(handle);
        loading.status = open_library(&handle, core, &loading.error);
    }
    if (loading.status) return;
    blas.openblas_set_num_threads(1);
    in_place = multiplies_in_place(blas.openblas_get_corename());
}

lt_status lt_linalg_load(lt_error *err)
{
    return lt_loading_run(&loading, load, err);
}

static enum CBLAS_TRANSPOSE trans(bool t)
{
    return t ? CblasTrans : CblasNoTrans;
}

/* A product's m, n and k that OpenBLAS computes from where the operands lie (AVX-512
 * cores, up to a million multiplications); larger ones it copies into its own order
 * first, which for a long, thin product costs as much as the product. */
#define PIECE_WORK ((size_t)1000000)
#define PIECE_DEPTH ((size_t)128)
#define PIECE_SIDE ((size_t)64)
#define PIECE_GRAIN ((size_t)16)

/* One strip of k: c (m x n) += a b in pieces. */
static void multiply_strip(
    size_t m, size_t n, size_t k, float alpha, lt_matf a, lt_matf b, float beta, float *c)
{
    /* The side that is not cut when it is short leaves more to the other. */
    size_t area = PIECE_WORK / k;
    size_t rows = n <= PIECE_SIDE ? area / n : lt_min_size(m, PIECE_SIDE);
    size_t columns = n <= PIECE_SIDE ? n : area / rows / PIECE_GRAIN * PIECE_GRAIN;
    for (size_t i = 0; i < m; i += rows)
        for (size_t j = 0; j < n; j += columns)
            blas.cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans,
                (blasint)lt_min_size(rows, m - i), (blasint)lt_min_size(columns, n - j),
                (blasint)k, alpha, a.p + i * a.stride, (blasint)a.stride, b.p + j,
                (blasint)b.stride, beta, c + i * n + j, (blasint)n);
}

static void multiply_in_pieces(
    size_t m, size_t n, size_t k, float alpha, lt_matf a, lt_matf b, float beta, float *c)
{
    for (size_t i = 0; i < k; i += PIECE_DEPTH) {
        multiply_strip(
            m, n, lt_min_size(PIECE_DEPTH, k - i), alpha, a, b, i ? 1 : beta, c);
        a.p += PIECE_DEPTH;
        b.p += PIECE_DEPTH * b.stride;
    }
}

void lt_gemm_f32(
    size_t m, size_t n, size_t k, float alpha, lt_matf a, lt_matf b, float beta, float *c)
{
    if (!a.t && !b.t && m && n && k) {
        multiply_in_pieces(m, n, k, alpha, a, b, beta, c);
        return;
    }
    blas.cblas_sgemm(CblasRowMajor, trans(a.t), trans(b.t), (blasint)m, (blasint)n,
        (blasint)k, alpha, a.p, (blasint)a.stride, b.p, (blasint)b.stride, beta, c,
        (blasint)n);
}

void lt_gemm_f64(size_t m, size_t n, size_t k, double alpha, lt_matd a, lt_matd b,
    double beta, double *c)
{
    blas.cblas_dgemm(CblasRowMajor, trans(a.t), trans(b.t), (blasint)m, (blasint)n,
        (blasint)k, alpha, a.p, (blasint)a.stride, b.p, (blasint)b.stride, beta, c,
        (blasint)n);
}

/* Rows of c that are computed at once, from the diagonal on: as few as keep the kernels
 * busy, for a square of them on the diagonal is half wasted. */
#define PIECE_BAND ((size_t)16)

/* A strip of k, at most PIECE_DEPTH: the upper triangle of c (n x n) += a^T a, a being
 * k x n. */
static void square_strip_f64(
    size_t n, size_t k, const double *a, size_t stride, double *c)
{
    size_t width = PIECE_WORK / PIECE_DEPTH / PIECE_BAND;
    for (size_t i = 0; i < n; i += PIECE_BAND)
        for (size_t j = i; j < n; j += width)
            blas.cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans,
                (blasint)lt_min_size(PIECE_BAND, n - i),
                (blasint)lt_min_size(width, n - j), (blasint)k, 1.0, a + i,
                (blasint)stride, a + j, (blasint)stride, 1.0, c + i * n + j, (blasint)n);
}

static void square_strip_f32(
    size_t n, size_t k, const float *a, size_t stride, float beta, float *c)
{
    size_t width = PIECE_WORK / PIECE_DEPTH / PIECE_BAND;
    for (size_t i = 0; i < n; i += PIECE_BAND)
        for (size_t j = i; j < n; j += width)
            blas.cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans,
                (blasint)lt_min_size(PIECE_BAND, n - i),
                (blasint)lt_min_size(width, n - j), (blasint)k, 1.0F, a + i,
                (blasint)stride, a + j, (blasint)stride, beta, c + i * n + j, (blasint)n);
}

void lt_syrk_f32(size_t n, size_t k, lt_matf a, float *c)
{
    if (in_place && a.t) {
        for (size_t i = 0; i < k; i += PIECE_DEPTH)
            square_strip_f32(n, lt_min_size(PIECE_DEPTH, k - i), a.p + i * a.stride,
                a.stride, i ? 1 : 0, c);
        return;
    }
    blas.cblas_ssyrk(CblasRowMajor, CblasUpper, trans(a.t), (blasint)n, (blasint)k, 1.0F,
        a.p, (blasint)a.stride, 0.0F, c, (blasint)n);
}

void lt_syrk_f64(size_t n, size_t k, lt_matd a, double *c)
{
    if (in_place && a.t) {
        for (size_t i = 0; i < k; i += PIECE_DEPTH)
            square_strip_f64(
                n, lt_min_size(PIECE_DEPTH, k - i), a.p + i * a.stride, a.stride, c);
        return;
    }
    blas.cblas_dsyrk(CblasRowMajor, CblasUpper, trans(a.t), (blasint)n, (blasint)k, 1.0,
        a.p, (blasint)a.stride, 1.0, c, (blasint)n);
}

void lt_mirror_upper(size_t n, double *c)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            c[i * n + j] = c[j * n + i];
}

void lt_transpose(float *dst, const float *src, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            dst[j * rows + i] = src[i * columns + j];
}

static lt_status too_large(size_t n, lt_error *err)
{
    return lt_error_set(
        err, LT_ERR_LIMIT, "a side of %zu is over what LAPACK indexes", n);
}

/* LAPACK's iterations may go on for ever on infinity. */
static lt_status not_finite(lt_error *err)
{
    return lt_error_set(err, LT_ERR_NUMERIC,
        "the matrix to be decomposed is not finite: its values are too large");
}

static bool all_finite(const double *a, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite &= isfinite(a[i]) != 0;
    return finite;
}

static bool all_finite_f32(const float *a, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite &= isfinite(a[i]) != 0;
    return finite;
}

static lt_status check_converged(int info, lt_error *err)
{
    if (!info) return LT_OK;
    return lt_error_set(err, LT_ERR_NUMERIC, "the eigenvalue solver did not converge");
}

/* LAPACK counts work space in int: asked how much it needs, dsyevd answers with what an
 * overflow leaves of 1 + 6 n + 2 n^2. */
static bool eig_counts_fit(size_t n)
{
    return n <= INT_MAX / 8 && 1 + 6 * (uint64_t)n + 2 * (uint64_t)n * n <= INT_MAX;
}

lt_status lt_eig_sym(size_t n, double *a, double *w, lt_error *err)
{
    if (n == 0) return LT_OK;
    if (!eig_counts_fit(n)) return too_large(n, err);
    for (size_t i = 0; i < n; i++) /* the other triangle is not looked at */
        if (!all_finite(a + i * n, i + 1)) return not_finite(err);
    int in = (int)n, info = 0, lwork = -1, liwork = -1, isize = 0;
    double size = 0;
    blas.dsyevd_("V", "U", &in, a, &in, w, &size, &lwork, &isize, &liwork, &info);
    lwork = (int)size;
    liwork = isize;
    double *work = lt_alloc_work((uint64_t)lwork, sizeof *work, err);
    int *iwork = lt_alloc_work((uint64_t)liwork, sizeof *iwork, err);
    lt_status st = work && iwork ? LT_OK : LT_ERR_NOMEM;
    if (!st) blas.dsyevd_("V", "U", &in, a, &in, w, work, &lwork, iwork, &liwork, &info);
    lt_free(iwork);
    lt_free(work);
    return st ? st : check_converged(info, err);
}

/* The work space is what LAPACK's manual asks for at least: a float32 could not hold the
 * answer to the question. */
lt_status lt_eig_sym_f32(size_t n, float *a, float *w, lt_error *err)
{
    if (n == 0) return LT_OK;
    if (!eig_counts_fit(n)) return too_large(n, err);
    for (size_t i = 0; i < n; i++)
        if (!all_finite_f32(a + i * n, i + 1)) return not_finite(err);
    int in = (int)n, info = 0, lwork = 1 + 6 * in + 2 * in * in, liwork = 3 + 5 * in;
    float *work = lt_alloc_work((uint64_t)lwork, sizeof *work, err);
    int *iwork = lt_alloc_work((uint64_t)liwork, sizeof *iwork, err);
    lt_status st = work && iwork ? LT_OK : LT_ERR_NOMEM;
    if (!st) blas.ssyevd_("V", "U", &in, a, &in, w, work, &lwork, iwork, &liwork, &info);
    lt_free(iwork);
    lt_free(work);
    return st ? st : check_converged(info, err);
}

bool lt_cholesky(size_t n, double *a)
{
    if (n > INT_MAX / 64) return false;
    int in = (int)n, info = 0;
    blas.dpotrf_("U", &in, a, &in, &info); /* column-major upper: row-major lower */
    for (size_t i = 0; i < n; i++)
        memset(a + i * n + i + 1, 0, (n - i - 1) * sizeof *a);
    return !info;
}

lt_status lt_lq(size_t k, size_t n, double *a, double *l, lt_error *err)
{
    if (k == 0) return LT_OK;
    if (n > INT_MAX / 64) return too_large(n, err);
    int ik = (int)k, in = (int)n, info = 0, lwork = (int)k * 64;
    double *tau = lt_alloc_work(k, sizeof *tau, err);
    double *work = lt_alloc_work((uint64_t)lwork, sizeof *work, err);
    lt_status st = tau && work ? LT_OK : LT_ERR_NOMEM;
    if (!st) blas.dgeqrf_(&in, &ik, a, &in, tau, work, &lwork, &info);
    if (!st && !info && l) {
        memset(l, 0, k * k * sizeof *l);
        for (size_t i = 0; i < k; i++)
            memcpy(l + i * k, a + i * n, (i + 1) * sizeof *l);
    }
    if (!st && !info) blas.dorgqr_(&in, &ik, &ik, a, &in, tau, work, &lwork, &info);
    if (!st && info) st = lt_error_set(err, LT_ERR_INTERNAL, "QR failed: %d", info);
    lt_free(work);
    lt_free(tau);
    return st;
}

/* Column-major view: a^T (n x m) = vt^T s u^T, so LAPACK's U is our vt and its VT our u.
 */
static int run_gesdd(int m, int n, int p, double *a, double *u, double *s, double *vt,
    double *work, int lwork, int *iwork)
{
    int info = 0;
    blas.dgesdd_("S", &n, &m, a, &n, s, vt, &n, u, &p, work, &lwork, iwork, &info);
    return info;
}

static int run_gesvd(int m, int n, int p, double *a, double *u, double *s, double *vt,
    double *work, int lwork)
{
    int info = 0;
    blas.dgesvd_("S", "S", &n, &m, a, &n, s, vt, &n, u, &p, work, &lwork, &info);
    return info;
}

/* The same for dgesdd: 4 p^2 + 7 p by its manual, or blocks of up to 64 of both sides.
 * dgesvd needs less. */
static bool svd_counts_fit(size_t m, size_t n)
{
    uint64_t p = m < n ? m : n;
    if (m > INT_MAX / 64 || n > INT_MAX / 64) return false;
    return 4 * p * p + 7 * p + 64 * ((uint64_t)m + n) <= INT_MAX;
}

lt_status lt_svd(
    size_t m, size_t n, double *a, double *u, double *s, double *vt, lt_error *err)
{
    size_t p = m < n ? m : n;
    if (p == 0) return LT_OK;
    if (!svd_counts_fit(m, n)) return too_large(m > n ? m : n, err);
    if (!all_finite(a, m * n)) return not_finite(err);
    int im = (int)m, in = (int)n, ip = (int)p;
    double want_sdd = 0, want_svd = 0;
    run_gesdd(im, in, ip, a, u, s, vt, &want_sdd, -1, NULL);
    run_gesvd(im, in, ip, a, u, s, vt, &want_svd, -1);
    double want = want_sdd > want_svd ? want_sdd : want_svd;
    double *copy = lt_alloc_work((uint64_t)m * n, sizeof *copy, err);
    double *work = lt_alloc_work((uint64_t)want, sizeof *work, err);
    int *iwork = lt_alloc_work(8 * (uint64_t)p, sizeof *iwork, err);
    lt_status st = copy && work && iwork ? LT_OK : LT_ERR_NOMEM;
    int info = 0;
    if (!st) {
        memcpy(copy, a, m * n * sizeof *a);
        info = run_gesdd(im, in, ip, a, u, s, vt, work, (int)want, iwork);
        if (info) info = run_gesvd(im, in, ip, copy, u, s, vt, work, (int)want);
    }
    if (!st && info) st = lt_error_set(err, LT_ERR_NUMERIC, "the SVD did not converge");
    lt_free(iwork);
    lt_free(work);
    lt_free(copy);
    return st;
}
