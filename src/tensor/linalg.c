/* SPDX-License-Identifier: MIT */
#include "tensor/linalg.h"

#include "base/mem.h"

#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* LAPACK's Fortran entry points, LP64: every matrix is column-major, so a row-major
 * m x n operand is passed as its n x m transpose. */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda,
    double *w, double *work, const int *lwork, int *iwork, const int *liwork, int *info);
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

void lt_linalg_init(void)
{
    openblas_set_num_threads(1);
}

#if defined(__x86_64__)
/* 2: AVX-512, 1: AVX2 and FMA, 0: older. */
static int processor_level(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
}

const char *lt_linalg_better_core(void)
{
    static const char *const old[] = { "Prescott", "Core2", "Penryn", "Dunnington",
        "Atom", "Nehalem", "Sandybridge", "Katmai", "Northwood", "Banias" };
    const char *core = openblas_get_corename();
    if (getenv("OPENBLAS_CORETYPE") || !core) return NULL;
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        if (!strcmp(core, old[i])) {
            int level = processor_level();
            return level == 2 ? "SkylakeX" : level == 1 ? "Haswell" : NULL;
        }
    return NULL;
}
#else
const char *lt_linalg_better_core(void)
{
    return NULL;
}
#endif

static enum CBLAS_TRANSPOSE trans(bool t)
{
    return t ? CblasTrans : CblasNoTrans;
}

void lt_gemm_f32(
    size_t m, size_t n, size_t k, float alpha, lt_matf a, lt_matf b, float beta, float *c)
{
    cblas_sgemm(CblasRowMajor, trans(a.t), trans(b.t), (blasint)m, (blasint)n, (blasint)k,
        alpha, a.p, (blasint)a.stride, b.p, (blasint)b.stride, beta, c, (blasint)n);
}

void lt_gemm_f64(size_t m, size_t n, size_t k, double alpha, lt_matd a, lt_matd b,
    double beta, double *c)
{
    cblas_dgemm(CblasRowMajor, trans(a.t), trans(b.t), (blasint)m, (blasint)n, (blasint)k,
        alpha, a.p, (blasint)a.stride, b.p, (blasint)b.stride, beta, c, (blasint)n);
}

void lt_syrk_f64(size_t n, size_t k, lt_matd a, double *c)
{
    cblas_dsyrk(CblasRowMajor, CblasUpper, trans(a.t), (blasint)n, (blasint)k, 1.0, a.p,
        (blasint)a.stride, 1.0, c, (blasint)n);
}

void lt_mirror_upper(size_t n, double *c)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            c[i * n + j] = c[j * n + i];
}

static lt_status too_large(size_t n, lt_error *err)
{
    return lt_error_set(
        err, LT_ERR_LIMIT, "a side of %zu is over what LAPACK indexes", n);
}

lt_status lt_eig_sym(size_t n, double *a, double *w, lt_error *err)
{
    if (n == 0) return LT_OK;
    if (n > INT_MAX / 8) return too_large(n, err);
    int in = (int)n, info = 0, lwork = -1, liwork = -1, isize = 0;
    double size = 0;
    dsyevd_("V", "U", &in, a, &in, w, &size, &lwork, &isize, &liwork, &info);
    if (size >= INT_MAX) return too_large(n, err);
    lwork = (int)size;
    liwork = isize;
    double *work = lt_alloc_work((uint64_t)lwork, sizeof *work, err);
    int *iwork = lt_alloc_work((uint64_t)liwork, sizeof *iwork, err);
    lt_status st = work && iwork ? LT_OK : LT_ERR_NOMEM;
    if (!st) dsyevd_("V", "U", &in, a, &in, w, work, &lwork, iwork, &liwork, &info);
    lt_free(iwork);
    lt_free(work);
    if (!st && info)
        st = lt_error_set(err, LT_ERR_NUMERIC, "the eigenvalue solver did not converge");
    return st;
}

lt_status lt_lq(size_t k, size_t n, double *a, double *l, lt_error *err)
{
    if (k == 0) return LT_OK;
    if (n > INT_MAX / 64) return too_large(n, err);
    int ik = (int)k, in = (int)n, info = 0, lwork = (int)k * 64;
    double *tau = lt_alloc_work(k, sizeof *tau, err);
    double *work = lt_alloc_work((uint64_t)lwork, sizeof *work, err);
    lt_status st = tau && work ? LT_OK : LT_ERR_NOMEM;
    if (!st) dgeqrf_(&in, &ik, a, &in, tau, work, &lwork, &info);
    if (!st && !info && l) {
        memset(l, 0, k * k * sizeof *l);
        for (size_t i = 0; i < k; i++)
            memcpy(l + i * k, a + i * n, (i + 1) * sizeof *l);
    }
    if (!st && !info) dorgqr_(&in, &ik, &ik, a, &in, tau, work, &lwork, &info);
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
    dgesdd_("S", &n, &m, a, &n, s, vt, &n, u, &p, work, &lwork, iwork, &info);
    return info;
}

static int run_gesvd(int m, int n, int p, double *a, double *u, double *s, double *vt,
    double *work, int lwork)
{
    int info = 0;
    dgesvd_("S", "S", &n, &m, a, &n, s, vt, &n, u, &p, work, &lwork, &info);
    return info;
}

lt_status lt_svd(
    size_t m, size_t n, double *a, double *u, double *s, double *vt, lt_error *err)
{
    size_t p = m < n ? m : n;
    if (p == 0) return LT_OK;
    if (m > INT_MAX / 64 || n > INT_MAX / 64) return too_large(m > n ? m : n, err);
    int im = (int)m, in = (int)n, ip = (int)p;
    double want_sdd = 0, want_svd = 0;
    run_gesdd(im, in, ip, a, u, s, vt, &want_sdd, -1, NULL);
    run_gesvd(im, in, ip, a, u, s, vt, &want_svd, -1);
    double want = want_sdd > want_svd ? want_sdd : want_svd;
    if (want >= INT_MAX) return too_large(p, err);
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

double lt_energy_f32(const float *p, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n;) {
        /* Eight independent sums: a fixed order that vectorises. */
        double part[8] = { 0 };
        size_t end = n - i > 8192 ? i + 8192 : n;
        for (; i + 8 <= end; i += 8)
            for (int j = 0; j < 8; j++)
                part[j] += (double)p[i + j] * p[i + j];
        for (; i < end; i++)
            part[0] += (double)p[i] * p[i];
        for (int j = 0; j < 8; j++)
            total += part[j];
    }
    return total;
}
