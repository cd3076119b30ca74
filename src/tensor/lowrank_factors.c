/* SPDX-License-Identifier: MIT */
/* From basis and eigenvectors to factors. */
#include "tensor/convert.h"
#include "tensor/linalg.h"
#include "tensor/lowrank_lanczos.h"

#include <math.h>
#include <string.h>

#define STRIP 1024 /* of the long side, for the last products */

/* rotation (k x count) times rows (count x length), into one of the factors. */
struct rotating {
    const struct lt_lanczos *z;
    const double *rows; /* or, where they are float32, */
    const float *rows_f;
    double *rotation;
    float *rotation_f;
    size_t length;
    bool columns; /* the factor is length x k, not k x length */
    float *out;
};

/* Columns [first, first + n) of rows: strip is n x k or k x n. */
static void rotate_f64(const struct rotating *r, size_t first, size_t n, double *strip)
{
    size_t k = r->z->k, count = r->z->count;
    lt_matd rows = { r->rows + first, r->length, r->columns };
    lt_matd rotation = { r->rotation, count, r->columns };
    if (r->columns)
        lt_gemm_f64(n, k, count, 1, rows, rotation, 0, strip);
    else
        lt_gemm_f64(k, n, count, 1, rotation, rows, 0, strip);
}

static void rotate_f32(const struct rotating *r, size_t first, size_t n, float *strip)
{
    size_t k = r->z->k, count = r->z->count;
    lt_matf rows = { r->rows_f + first, r->length, r->columns };
    lt_matf rotation = { r->rotation_f, count, r->columns };
    if (r->columns)
        lt_gemm_f32(n, k, count, 1, rows, rotation, 0, strip);
    else
        lt_gemm_f32(k, n, count, 1, rotation, rows, 0, strip);
}

static lt_status rotate_strip(void *ctx, size_t part, lt_error *err)
{
    const struct rotating *r = ctx;
    size_t k = r->z->k, first = part * STRIP, n = lt_min_size(STRIP, r->length - first);
    double *wide = lt_alloc_work(n * k, sizeof *wide, err);
    float *strip = lt_alloc_work(n * k, sizeof *strip, err);
    bool ok = wide && strip;
    if (ok && r->rows) {
        rotate_f64(r, first, n, wide);
        lt_store_f64(strip, wide, LT_F32, n * k);
    } else if (ok) {
        rotate_f32(r, first, n, strip);
    }
    if (ok && r->columns) memcpy(r->out + first * k, strip, n * k * sizeof *strip);
    for (size_t i = 0; i < k && ok && !r->columns; i++)
        memcpy(r->out + i * r->length + first, strip + i * n, n * sizeof *strip);
    lt_free(strip);
    lt_free(wide);
    return ok ? LT_OK : LT_ERR_NOMEM;
}

/* Singular value i; those below the rounding of their squares are 0. */
static double sigma_of(const struct lt_lanczos *z, size_t i)
{
    if (i >= z->count) return 0;
    double square = z->theta[z->count - 1 - i], top = z->theta[z->count - 1];
    return square > 1e-17 * top ? sqrt(square) : 0;
}

static lt_status rotate(struct rotating *r, double power, lt_error *err)
{
    const struct lt_lanczos *z = r->z;
    for (size_t i = 0; i < z->k; i++) {
        double sigma = sigma_of(z, i), by = sigma > 0 ? pow(sigma, power) : 0;
        double *row = r->rotation + i * z->count;
        for (size_t j = 0; j < z->count; j++)
            row[j] = by > 0 ? by * z->w[(z->count - 1 - i) * z->count + j] : 0;
    }
    lt_store_f64(r->rotation_f, r->rotation, LT_F32, z->k * z->count);
    size_t strips = (r->length + STRIP - 1) / STRIP;
    return lt_worker_share(z->job->worker, strips, rotate_strip, r, err);
}

/* D ~ x^T w^T w b: sigma^power goes to x's side, sigma^-power to b's, whose rotated rows
 * have length sigma already. */
lt_status lt_lanczos_factors(struct lt_lanczos *z)
{
    lt_lowrank_job *job = z->job;
    bool wide = z->d->wide;
    double power = job->split == LT_SPLIT_SQRT ? 0.5 : wide ? 1 : 0;
    struct rotating r = { .z = z, .rows = z->x, .length = z->side, .columns = wide };
    r.rotation = lt_alloc_work(z->k * z->count, sizeof *r.rotation, z->err);
    r.rotation_f = lt_alloc_work(z->k * z->count, sizeof *r.rotation_f, z->err);
    r.out = wide ? job->b : job->a;
    lt_status st = LT_ERR_NOMEM;
    if (r.rotation && r.rotation_f) st = rotate(&r, power, z->err);
    r.rows = z->b;
    r.rows_f = z->bf;
    r.length = z->length;
    r.columns = !wide;
    r.out = wide ? job->a : job->b;
    if (!st) st = rotate(&r, -power, z->err);
    lt_free(r.rotation_f);
    lt_free(r.rotation);
    for (size_t i = 0; i < z->k && job->sigma; i++)
        job->sigma[i] = sigma_of(z, i);
    return st;
}
