/* SPDX-License-Identifier: MIT */
#include "tensor/lowrank_core.h"

#include "tensor/elements.h"
#include "tensor/linalg.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Slots of scratch; the careful way uses 0..6 for its own. */
enum slot { S_GRAM_B, S_GRAM_A, S_STRIP, S_L, S_W, S_H, S_VALUES, S_TURN };

/* Of a factor lifted to double: half an L2. */
#define STRIP_ELEMENTS ((size_t)1 << 16)

/* dst (columns x rows) = src^T, the rows of src stride apart. */
static void transpose(
    float *dst, const float *src, size_t stride, size_t rows, size_t columns)
{
    for (size_t from = 0; from < columns; from += 16) {
        size_t to = lt_min_size(columns, from + 16);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = from; j < to; j++)
                dst[j * rows + i] = src[i * stride + j];
    }
}

/* Columns of b and rows of a that are multiplied in float32 before a double takes their
 * sum: as many as make the doubles' share of the work small. */
#define RUN ((size_t)128)

/* Both factors are walked in strips that fit the cache: rows of b, columns of a. */
static size_t strip_length(size_t r, size_t length)
{
    return lt_min_size(length, STRIP_ELEMENTS / r + 8);
}

static double *get_strip(
    size_t r, const lt_product *p, lt_scratch *scratch, lt_error *err)
{
    size_t longest = p->m > p->n ? p->m : p->n;
    return lt_scratch_get(scratch, S_STRIP, r * strip_length(r, longest), 8, err);
}

/* Columns at..at + now of a (r x n). */
static void widen_columns(
    double *dst, const float *a, size_t r, size_t n, size_t at, size_t now)
{
    for (size_t i = 0; i < r; i++)
        lt_widen(dst + i * now, a + i * n + at, now);
}

static void gram_b(const lt_product *p, double *strip, double *g)
{
    size_t r = p->r, step = strip_length(r, p->m);
    memset(g, 0, r * r * sizeof *g);
    for (size_t at = 0; at < p->m; at += step) {
        size_t now = lt_min_size(step, p->m - at);
        lt_widen(strip, p->b + at * r, now * r);
        lt_syrk_f64(r, now, (lt_matd){ strip, r, true }, g);
    }
    lt_mirror_upper(r, g);
}

/* Columns at..at + now of a, as rows. */
static void widen_turned(
    double *dst, const float *a, size_t r, size_t n, size_t at, size_t now)
{
    for (size_t from = 0; from < now; from += 16) {
        size_t to = lt_min_size(now, from + 16);
        for (size_t i = 0; i < r; i++)
            for (size_t j = from; j < to; j++)
                dst[j * r + i] = a[i * n + at + j];
    }
}

static void gram_a(const lt_product *p, double *strip, double *g)
{
    size_t r = p->r, step = strip_length(r, p->n);
    memset(g, 0, r * r * sizeof *g);
    for (size_t at = 0; at < p->n; at += step) {
        size_t now = lt_min_size(step, p->n - at);
        widen_turned(strip, p->a, r, p->n, at, now);
        lt_syrk_f64(r, now, (lt_matd){ strip, r, true }, g);
    }
    lt_mirror_upper(r, g);
}

/* The upper triangle of g += that of part. */
static void add_upper(double *g, const float *part, size_t r)
{
    for (size_t i = 0; i < r; i++)
        for (size_t j = i; j < r; j++)
            g[i * r + j] += part[i * r + j];
}

static void gram_b_floats(const lt_product *p, float *part, double *g)
{
    size_t r = p->r;
    memset(g, 0, r * r * sizeof *g);
    for (size_t at = 0; at < p->m; at += RUN) {
        size_t now = lt_min_size(RUN, p->m - at);
        lt_syrk_f32(r, now, (lt_matf){ p->b + at * r, r, true }, part);
        add_upper(g, part, r);
    }
    lt_mirror_upper(r, g);
}

static void gram_a_floats(const lt_product *p, float *turned, float *part, double *g)
{
    size_t r = p->r;
    memset(g, 0, r * r * sizeof *g);
    for (size_t at = 0; at < p->n; at += RUN) {
        size_t now = lt_min_size(RUN, p->n - at);
        transpose(turned, p->a + at, p->n, r, now);
        lt_syrk_f32(r, now, (lt_matf){ turned, r, true }, part);
        add_upper(g, part, r);
    }
    lt_mirror_upper(r, g);
}

/* Of a sum in float32, relative to the norms it is made of: the header's e. */
static double rough_unit(size_t r)
{
    return 0x1p-23 * sqrt((double)(r > RUN ? r : RUN));
}

/* What follows from the matrices, the header's E among it. */
static void judge(lt_grams *g, const lt_product *p)
{
    size_t r = p->r;
    double square = p->scale * p->scale, s = 0, apart = 0;
    for (size_t i = 0; i < r; i++) {
        double x = g->b[i * r + i] * g->a[i * r + i];
        s += sqrt(x);
        apart += x;
    }
    g->energy = square * lt_dot_f64(g->b, g->a, r * r);
    g->reach = square * s * s;
    g->sure = g->energy > 1e-8 * g->reach && isfinite(g->reach);
    g->doubt = g->floats ? rough_unit(r) * (square * apart + g->energy)
                         : DBL_EPSILON * sqrt((double)(p->m + p->n + r)) * g->reach;
}

static lt_status make_doubles(
    lt_grams *g, const lt_product *p, lt_scratch *scratch, lt_error *err)
{
    double *strip = get_strip(p->r, p, scratch, err);
    if (!strip) return LT_ERR_NOMEM;
    gram_b(p, strip, g->b);
    gram_a(p, strip, g->a);
    g->floats = false;
    judge(g, p);
    return LT_OK;
}

/* Norms of columns of b and rows of a whose products neither overflow nor vanish. */
static bool norms_fit_floats(const double *gram, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(gram[i * n + i] >= 0x1p-80 && gram[i * n + i] <= 0x1p80)) return false;
    return true;
}

static lt_status make_floats(
    lt_grams *g, const lt_product *p, lt_scratch *scratch, lt_error *err)
{
    size_t r = p->r;
    float *turned = lt_scratch_get(scratch, S_STRIP, RUN * r, sizeof *turned, err);
    float *part = lt_scratch_get(scratch, S_W, r * r, sizeof *part, err);
    if (!turned || !part) return LT_ERR_NOMEM;
    gram_b_floats(p, part, g->b);
    gram_a_floats(p, turned, part, g->a);
    g->floats = true;
    judge(g, p);
    g->sure = g->sure && norms_fit_floats(g->b, r) && norms_fit_floats(g->a, r);
    return LT_OK;
}

lt_status lt_grams_make(
    lt_grams *g, const lt_product *p, bool rough, lt_scratch *scratch, lt_error *err)
{
    size_t r = p->r;
    *g = (lt_grams){ .b = lt_scratch_get(scratch, S_GRAM_B, r * r, sizeof *g->b, err),
        .a = lt_scratch_get(scratch, S_GRAM_A, r * r, sizeof *g->a, err) };
    if (!g->b || !g->a) return LT_ERR_NOMEM;
    lt_status st = rough ? make_floats(g, p, scratch, err) : LT_OK;
    return st || g->sure ? st : make_doubles(g, p, scratch, err);
}

/* From here on r x r (or k x r) matrices in double. */
struct core {
    double *l, *w;           /* Ga = l l^T; w = Gb l */
    double *h;               /* l^T Gb l */
    double *v;               /* its k leading eigenvectors as rows, and their */
    double *values;          /* eigenvalues, descending; room for r */
    double *turn_b, *turn_a; /* new b = b turn_b^T, new a = turn_a a */
    double kept;             /* energy */
    double residual;         /* | H v - v values |, where it matters */
};

static lt_status get_core(
    struct core *c, size_t r, size_t k, lt_scratch *scratch, lt_error *err)
{
    c->l = lt_scratch_get(scratch, S_L, r * r, sizeof *c->l, err);
    c->w = lt_scratch_get(scratch, S_W, r * r, sizeof *c->w, err);
    c->h = lt_scratch_get(scratch, S_H, r * r, sizeof *c->h, err);
    c->values = lt_scratch_get(scratch, S_VALUES, r, sizeof *c->values, err);
    c->turn_b = lt_scratch_get(scratch, S_TURN, 3 * k * r, sizeof *c->turn_b, err);
    c->turn_a = c->turn_b ? c->turn_b + k * r : NULL;
    c->v = c->turn_b ? c->turn_a + k * r : NULL;
    bool ok = c->l && c->w && c->h && c->values && c->turn_b;
    return ok ? LT_OK : LT_ERR_NOMEM;
}

static lt_status eig_doubles(struct core *c, size_t r, size_t k, lt_error *err)
{
    lt_status st = lt_eig_sym(r, c->h, c->values, err);
    if (st) return st;
    for (size_t j = 0; j < k; j++)
        memcpy(c->v + j * r, c->h + (r - 1 - j) * r, r * sizeof *c->v);
    for (size_t j = 0; j < r / 2; j++) {
        double least = c->values[j];
        c->values[j] = c->values[r - 1 - j];
        c->values[r - 1 - j] = least;
    }
    return LT_OK;
}

/* Eigenvectors from float32, which is half the work; as eigenvalues their Rayleigh
 * quotients in double, whose errors are the squares of the vectors'. */
static lt_status eig_floats(
    struct core *c, size_t r, size_t k, lt_scratch *scratch, lt_error *err)
{
    float *h = lt_scratch_get(scratch, S_STRIP, r * r + r, sizeof *h, err);
    if (!h) return LT_ERR_NOMEM;
    double trace = 0;
    for (size_t i = 0; i < r; i++)
        trace += c->h[i * r + i];
    for (size_t i = 0; i < r * r; i++)
        h[i] = (float)(c->h[i] / trace);
    lt_status st = lt_eig_sym_f32(r, h, h + r * r, err);
    if (st) return st;
    for (size_t j = 0; j < k; j++)
        lt_widen(c->v + j * r, h + (r - 1 - j) * r, r);
    double *image = c->turn_a, rest = 0;
    lt_gemm_f64(
        k, r, r, 1, (lt_matd){ c->v, r, false }, (lt_matd){ c->h, r, false }, 0, image);
    for (size_t j = 0; j < k; j++) {
        double *v = c->v + j * r, *hv = image + j * r, square = lt_dot_f64(v, v, r);
        c->values[j] = lt_dot_f64(v, hv, r) / square;
        for (size_t i = 0; i < r; i++) {
            double x = hv[i] - c->values[j] * v[i];
            rest += x * x;
            v[i] /= sqrt(square);
        }
    }
    c->residual = sqrt(rest);
    return LT_OK;
}

/* The k leading eigenpairs of the core, and turn_b without its factors; *sure is false
 * when Ga is singular. */
static lt_status solve(struct core *c, const lt_grams *g, size_t r, size_t k, bool *sure,
    lt_scratch *scratch, lt_error *err)
{
    memcpy(c->l, g->a, r * r * sizeof *c->l);
    *sure = lt_cholesky(r, c->l);
    if (!*sure) return LT_OK;
    lt_matd gb = { g->b, r, false }, l = { c->l, r, false }, w = { c->w, r, false };
    lt_gemm_f64(r, r, r, 1, gb, l, 0, c->w);
    l.t = true;
    lt_gemm_f64(r, r, r, 1, l, w, 0, c->h);
    lt_status st =
        g->floats ? eig_floats(c, r, k, scratch, err) : eig_doubles(c, r, k, err);
    if (st) return st;
    lt_matd v = { c->v, r, false };
    l.t = true;
    lt_gemm_f64(k, r, r, 1, v, l, 0, c->turn_b);
    return LT_OK;
}

/* What of the discarded energy may have been taken for kept and the reverse: the header's
 * F, the last pair's own error and that of the eigenvectors. */
static double mixed(
    const struct core *c, const lt_grams *g, const lt_product *p, size_t k)
{
    size_t r = p->r;
    double square = p->scale * p->scale, all = 0, kept = 0, last = 0;
    for (size_t i = 0; i < r; i++)
        all += g->b[i * r + i] * g->a[i * r + i];
    for (size_t j = 0; j < k; j++) {
        const double *y = c->turn_b + j * r;
        last = 0;
        for (size_t i = 0; i < r; i++)
            last += g->b[i * r + i] * y[i] * y[i];
        kept += last;
    }
    double left = fmax(all - kept, 0) * square + fmax(g->energy - c->kept, 0);
    double f = sqrt((kept * square + c->kept) * left);
    return rough_unit(r) * (f + last * square) + sqrt(2) * square * c->residual;
}

/* The float32 form of the two conditions, and that the distance will be exact enough. */
static bool resolved_roughly(
    const struct core *c, const lt_grams *g, const lt_product *p, size_t k, double least)
{
    double e = g->doubt, tail = g->energy - c->kept;
    return e <= 5e-4 * tail && 2 * sqrt((double)k) * mixed(c, g, p, k) <= 1e-3 * tail
        && e * e <= 1e-4 * tail * least;
}

/* The two conditions of the header's comment. */
static bool resolved(
    const struct core *c, const lt_grams *g, const lt_product *p, size_t k, double least)
{
    double e = g->doubt, root = sqrt((double)k), tail = g->energy - c->kept;
    bool whole = k == p->r; /* nothing is discarded */
    if (!(least > 0)) return false;
    if (g->floats) return resolved_roughly(c, g, p, k, least);
    return (whole || 2 * root * e <= 1e-3 * tail)
        && root * e <= 1e-7 * sqrt(least * g->energy);
}

/* The leading eigenvectors turned into what multiplies b and a. */
static void make_turns(const struct core *c, const lt_product *p, const lt_truncation *t)
{
    size_t r = p->r, k = t->k;
    lt_matd rows = { c->v, r, false };
    lt_gemm_f64(k, r, r, 1, rows, (lt_matd){ c->w, r, true }, 0, c->turn_a);
    for (size_t j = 0; j < k; j++) {
        double sigma = t->sigma[j],
               share = t->split == LT_SPLIT_SQRT ? sqrt(sigma) : sigma;
        double fb = p->scale / sigma * share * t->b_times;
        double fa = p->scale * p->scale / sigma / share * t->a_times;
        for (size_t i = 0; i < r; i++) {
            c->turn_b[j * r + i] *= fb;
            c->turn_a[j * r + i] *= fa;
        }
    }
}

/* The largest is far from float32's ends, and so is all that counts beside it. */
static bool fits_floats(const double *x, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(x[i]));
    return largest > 0x1p-64 && largest < 0x1p64;
}

/* Float32 products are good enough when their roundings, at most sqrt(k) 2^-24 S, vanish
 * beside what is discarded. */
static bool floats_do(
    const struct core *c, const lt_grams *g, const lt_product *p, size_t k)
{
    double tail = g->energy - c->kept, e = sqrt((double)k * g->reach) * 0x1p-24;
    return tail > 0 && e <= 1e-2 * sqrt(tail) && fits_floats(c->turn_b, k * p->r)
        && fits_floats(c->turn_a, k * p->r);
}

static void turn_floats(const struct core *c, const lt_product *p, const lt_truncation *t)
{
    size_t r = p->r, k = t->k;
    /* Over the eigenvectors, which have served their turn. */
    /* cppcheck-suppress invalidPointerCast */
    float *turn_b = (float *)c->v, *turn_a = turn_b + k * r;
    lt_narrow(turn_a, c->turn_b, k * r);
    transpose(turn_b, turn_a, r, k, r);
    lt_narrow(turn_a, c->turn_a, k * r);
    lt_gemm_f32(p->m, k, r, 1, (lt_matf){ p->b, r, false }, (lt_matf){ turn_b, k, false },
        0, t->b);
    lt_gemm_f32(k, p->n, r, 1, (lt_matf){ turn_a, r, false },
        (lt_matf){ p->a, p->n, false }, 0, t->a);
}

/* The same in double, strip by strip. */
static lt_status turn_doubles(const struct core *c, const lt_product *p,
    const lt_truncation *t, lt_scratch *scratch, lt_error *err)
{
    size_t r = p->r, k = t->k, longest = p->m > p->n ? p->m : p->n;
    size_t step = strip_length(r, longest);
    double *strip = lt_scratch_get(scratch, S_STRIP, (r + k) * step, sizeof *strip, err);
    if (!strip) return LT_ERR_NOMEM;
    double *out = strip + r * step;
    lt_matd turn_b = { c->turn_b, r, true }, turn_a = { c->turn_a, r, false };
    for (size_t at = 0; at < p->m; at += step) {
        size_t now = lt_min_size(step, p->m - at);
        lt_widen(strip, p->b + at * r, now * r);
        lt_gemm_f64(now, k, r, 1, (lt_matd){ strip, r, false }, turn_b, 0, out);
        lt_narrow(t->b + at * k, out, now * k);
    }
    for (size_t at = 0; at < p->n; at += step) {
        size_t now = lt_min_size(step, p->n - at);
        widen_columns(strip, p->a, r, p->n, at, now);
        lt_gemm_f64(k, now, r, 1, turn_a, (lt_matd){ strip, now, false }, 0, out);
        for (size_t j = 0; j < k; j++)
            lt_narrow(t->a + j * p->n + at, out + j * now, now);
    }
    return LT_OK;
}

/* The core from the Gram matrices as they are; *sure: they are good enough. */
static lt_status attempt(struct core *c, const lt_grams *g, const lt_product *p, size_t k,
    bool *sure, lt_scratch *scratch, lt_error *err)
{
    *sure = g->sure;
    lt_status st = *sure ? solve(c, g, p->r, k, sure, scratch, err) : LT_OK;
    if (st || !*sure) return st;
    double square = p->scale * p->scale;
    c->kept = 0;
    for (size_t j = 0; j < k; j++)
        c->kept += square * c->values[j];
    *sure = resolved(c, g, p, k, square * c->values[k - 1]);
    return LT_OK;
}

lt_status lt_grams_truncate(lt_grams *g, const lt_product *p, const lt_truncation *t,
    bool *sure, lt_scratch *scratch, lt_error *err)
{
    size_t r = p->r, k = t->k;
    struct core c = { 0 };
    *sure = false;
    lt_status st = get_core(&c, r, k, scratch, err);
    if (!st) st = attempt(&c, g, p, k, sure, scratch, err);
    if (!st && !*sure && g->floats) {
        st = make_doubles(g, p, scratch, err);
        if (!st) st = attempt(&c, g, p, k, sure, scratch, err);
    }
    if (st || !*sure) return st;
    for (size_t j = 0; j < k; j++)
        t->sigma[j] = fabs(p->scale) * sqrt(c.values[j]);
    make_turns(&c, p, t);
    if (!floats_do(&c, g, p, k)) return turn_doubles(&c, p, t, scratch, err);
    turn_floats(&c, p, t);
    return LT_OK;
}

/* x (k x (r + k)) = q_b^T [p_b q_b] */
static void cross_b(const lt_product *p, const lt_product *q, double *strip, double *x)
{
    size_t r = p->r, k = q->r, all = r + k, step = strip_length(all, p->m);
    for (size_t at = 0; at < p->m; at += step) {
        size_t now = lt_min_size(step, p->m - at);
        for (size_t i = 0; i < now; i++) {
            lt_widen(strip + i * all, p->b + (at + i) * r, r);
            lt_widen(strip + i * all + r, q->b + (at + i) * k, k);
        }
        lt_gemm_f64(k, all, now, 1, (lt_matd){ strip + r, all, true },
            (lt_matd){ strip, all, false }, at ? 1 : 0, x);
    }
}

/* x (k x (r + k)) = q_a [p_a; q_a]^T */
static void cross_a(const lt_product *p, const lt_product *q, double *strip, double *x)
{
    size_t r = p->r, k = q->r, all = r + k, step = strip_length(all, p->n);
    for (size_t at = 0; at < p->n; at += step) {
        size_t now = lt_min_size(step, p->n - at);
        widen_columns(strip, p->a, r, p->n, at, now);
        widen_columns(strip + r * now, q->a, k, p->n, at, now);
        lt_gemm_f64(k, all, now, 1, (lt_matd){ strip + r * now, now, false },
            (lt_matd){ strip, now, true }, at ? 1 : 0, x);
    }
}

/* Inner products that the distance is made of: p with q and q with itself, both without
 * their scales, and what roundings may have done to the sum. */
struct inner {
    double both, own, doubt;
};

static void sum_doubles(const lt_grams *g, const lt_product *p, const lt_product *q,
    double *strip, double *x, double *y, struct inner *in)
{
    size_t r = p->r, k = q->r, all = r + k;
    cross_b(p, q, strip, x);
    cross_a(p, q, strip, y);
    *in = (struct inner){ .doubt = g->doubt };
    for (size_t j = 0; j < k; j++) {
        in->both += lt_dot_f64(x + j * all, y + j * all, r);
        in->own += lt_dot_f64(x + j * all + r, y + j * all + r, k);
    }
}

/* The trace of x (rows x columns) times y (columns x rows). */
static double trace_floats(const float *x, const float *y, size_t rows, size_t columns)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            sum += (double)x[i * columns + j] * y[j * rows + i];
    return sum;
}

/* The same in float32: faster, and enough where much was discarded. turned takes either
 * new factor transposed. */
static void sum_floats(const lt_grams *g, const lt_product *p, const lt_product *q,
    float *x, float *turned, struct inner *in)
{
    size_t m = p->m, n = p->n, r = p->r, k = q->r;
    float *y = x + k * r, *own_b = y + k * r, *own_a = own_b + k * k;
    lt_matf pb = { p->b, r, false }, qb = { q->b, k, false };
    lt_matf pa = { p->a, n, false }, qa = { q->a, n, false };
    transpose(turned, q->b, k, m, k);
    lt_gemm_f32(k, r, m, 1, (lt_matf){ turned, m, false }, pb, 0, x);
    lt_gemm_f32(k, k, m, 1, (lt_matf){ turned, m, false }, qb, 0, own_b);
    transpose(turned, q->a, n, k, n);
    lt_gemm_f32(r, k, n, 1, pa, (lt_matf){ turned, k, false }, 0, y);
    lt_gemm_f32(k, k, n, 1, qa, (lt_matf){ turned, k, false }, 0, own_a);
    *in = (struct inner){ .both = trace_floats(x, y, k, r),
        .own = trace_floats(own_b, own_a, k, k) };
    /* Every element of x is off by 2^-24 sqrt(m) of the norms it is made of, at random.
     */
    double old = 0, new = 0;
    for (size_t t = 0; t < r; t++)
        old += g->b[t * r + t] * g->a[t * r + t];
    for (size_t j = 0; j < k; j++)
        new += (double)own_b[j * k + j] * own_a[j * k + j];
    old *= p->scale * p->scale;
    new *= q->scale * q->scale;
    in->doubt = 0x1p-24 * sqrt((double)(m + n)) * (2 * sqrt(old * new) + new);
}

/* Half a unit in the fourth digit of the error is the most that reports show. */
static bool settle(const lt_grams *g, const lt_product *p, const lt_product *q,
    const struct inner *in, double *distance)
{
    *distance =
        g->energy - 2 * p->scale * q->scale * in->both + q->scale * q->scale * in->own;
    return in->doubt + g->doubt <= 1e-3 * *distance;
}

lt_status lt_grams_distance(const lt_grams *g, const lt_product *p, const lt_product *q,
    double *distance, bool *sure, lt_scratch *scratch, lt_error *err)
{
    size_t r = p->r, k = q->r, all = r + k;
    struct inner in;
    *sure = false;
    if (norms_fit_floats(g->b, r) && norms_fit_floats(g->a, r)) {
        size_t longest = p->m > p->n ? p->m : p->n;
        float *x = lt_scratch_get(scratch, S_L, 2 * k * all, sizeof *x, err);
        float *turned = lt_scratch_get(scratch, S_STRIP, k * longest, sizeof *x, err);
        if (!x || !turned) return LT_ERR_NOMEM;
        sum_floats(g, p, q, x, turned, &in);
        *sure = settle(g, p, q, &in, distance);
    }
    if (*sure) return LT_OK;
    double *strip = get_strip(all, p, scratch, err);
    double *x = lt_scratch_get(scratch, S_L, k * all, sizeof *x, err);
    double *y = lt_scratch_get(scratch, S_W, k * all, sizeof *y, err);
    if (!strip || !x || !y) return LT_ERR_NOMEM;
    sum_doubles(g, p, q, strip, x, y, &in);
    *sure = settle(g, p, q, &in, distance);
    return LT_OK;
}
