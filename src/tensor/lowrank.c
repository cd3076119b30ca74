/* SPDX-License-Identifier: MIT */
#include "tensor/lowrank.h"

#include "tensor/convert.h"
#include "tensor/linalg.h"

#include <math.h>
#include <string.h>

enum slot { S_BASIS, S_IMAGE, S_RITZ, S_VECTORS, S_VALUES, S_BLOCK, S_FLOATS, S_SMALL };

/* Constants of the method, see lowrank.h. */
#define SETTLED 4e-4
#define FIRST_RATIO 0.3 /* between what two blocks add, at the first look */
#define FLOAT_LIMIT 1e-5
/* Energies whose square float32 holds, with room for directions that are short. */
#define FLOAT_LEAST 1e-25
#define FLOAT_MOST 1e35
#define ROUNDING 1e-14 /* below this part of the energy there is nothing to find */
/* Directions of a block shorter than this part of the largest are rounding. */
#define NO_LENGTH_FLOAT 1e-6
#define NO_LENGTH_DOUBLE 1e-14
/* How far from orthogonal the basis may get, and what one step adds. */
#define LOSS_LIMIT 1e-8
#define LOSS_STEP 1e-15
#define LOOK 2
#define STEEP 1e-3
#define PATIENCE 3             /* looks without a gain after a block that led nowhere */
#define DENSE_SIDE 96          /* up to this side the whole eigenproblem is cheaper */
#define MAX_PARTS 16           /* of a pass */
#define LIFT ((size_t)1 << 16) /* elements of D lifted to double at once */
#define STRIP 1024             /* of the long side, for the last products */

struct lanczos {
    lt_lowrank_job *job;
    const lt_panels *d;
    size_t k, side, length;
    size_t block;    /* rows of a full block */
    size_t capacity; /* rows of x and b */
    size_t count;    /* K: rows of x and b so far */
    size_t last;     /* of them in the last block */
    size_t found;    /* rows of y */
    bool exact;      /* double products */
    unsigned doubt;  /* looks to come before the end may be believed */
    double rest;     /* at the last look in doubt */
    double loss;     /* how far x is from orthogonal, at most */
    double to_come;  /* what a further block was to add, at the last look; 0: none yet */
    double *x;       /* capacity x side: orthonormal rows */
    float *bf;       /* capacity x length: x D */
    double *b;       /* the same where products are exact; the other one is NULL */
    double *h;       /* capacity x capacity: x D D^T x^T, rows and columns up to count */
    double *w;       /* count x count: eigenvectors of h, one a row, ascending */
    double *theta;   /* count: eigenvalues */
    double *y;       /* block x side: the next block, then its orthogonal part */
    double *small;   /* block x capacity: y x^T */
    double *gram;    /* block x block: of y */
    double *turn;    /* block x block, then block values */
    float *xf, *zf, *yf;
    size_t parts;
    lt_error *err;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Measured for k = 64 on two spectra and sides of 320 to 23040: narrower blocks need
 * fewer directions, wider ones run faster. */
static size_t block_size(size_t k, size_t side)
{
    size_t b = (k / 4 + 7) / 8 * 8;
    return min_size(side, max_size(b, 8));
}

/* splitmix64 (Steele, Lea & Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- one pass over D: B_j = X_j D and Y = B_j D^T -----------------------------------
 */

/* Panels of a part: consecutive ones. */
static void part_range(const struct lanczos *z, size_t part, size_t *from, size_t *to)
{
    *from = z->d->count * part / z->parts;
    *to = z->d->count * (part + 1) / z->parts;
}

/* Both products in the order in which the panel lies, which is the fast one: of a wide
 * panel the first gives image = X D and the second Y^T += D image^T, of a tall one the
 * first gives image^T = D X^T and the second Y += image D. xf is X or X^T, y Y^T or Y. */
static void float_panel(struct lanczos *z, size_t i, float *y, float beta)
{
    size_t width, rows = z->last, side = z->side, first = i * z->d->width;
    const float *panel = lt_panel(z->d, i, &width);
    float *image = z->zf + 2 * z->block * first, *turned = image + rows * width;
    if (z->d->wide) {
        lt_matf d = { panel, width, false };
        lt_gemm_f32(rows, width, side, 1, (lt_matf){ z->xf, side, false }, d, 0, image);
        lt_transpose(turned, image, rows, width);
        lt_gemm_f32(side, rows, width, 1, d, (lt_matf){ turned, rows, false }, beta, y);
    } else {
        lt_matf d = { panel, side, false };
        lt_gemm_f32(width, rows, side, 1, d, (lt_matf){ z->xf, rows, false }, 0, turned);
        lt_transpose(image, turned, width, rows);
        lt_gemm_f32(rows, side, width, 1, (lt_matf){ image, width, false }, d, beta, y);
    }
    float *b = z->bf + (z->count - rows) * z->length + first;
    for (size_t r = 0; r < rows; r++)
        memcpy(b + r * z->length, image + r * width, width * sizeof *b);
}

/* D's panel in strips of the long side (tall) or of the short side's rows (wide). */
static void exact_strip(
    struct lanczos *z, size_t first, size_t width, const double *d, double *y)
{
    size_t rows = z->last, side = z->side;
    const double *x = z->x + (z->count - rows) * side;
    double *b = z->b + (z->count - rows) * z->length + first;
    double *image = y + z->block * side;
    lt_matd m = { d, side, true };
    lt_gemm_f64(rows, width, side, 1, (lt_matd){ x, side, false }, m, 0, image);
    m.t = false;
    lt_gemm_f64(rows, side, width, 1, (lt_matd){ image, width, false }, m, 1, y);
    for (size_t r = 0; r < rows; r++)
        memcpy(b + r * z->length, image + r * width, width * sizeof *b);
}

/* The elements of panel columns [from, from + n), as n x side in double. */
static void lift(const lt_panels *p, size_t i, size_t from, size_t n, double *dst)
{
    size_t width;
    const float *panel = lt_panel(p, i, &width);
    if (!p->wide) {
        lt_load_f64(dst, panel + from * p->side, LT_F32, n * p->side);
        return;
    }
    for (size_t s = 0; s < p->side; s++)
        for (size_t l = 0; l < n; l++)
            dst[l * p->side + s] = panel[s * width + from + l];
}

static size_t lift_rows(size_t side)
{
    return LIFT / side + 1;
}

static lt_status exact_part(struct lanczos *z, size_t part, double *y, lt_error *err)
{
    size_t from, to, step = lift_rows(z->side), width;
    double *strip = lt_alloc_work(step * z->side, sizeof *strip, err);
    if (!strip) return LT_ERR_NOMEM;
    part_range(z, part, &from, &to);
    memset(y, 0, z->block * z->side * sizeof *y);
    for (size_t i = from; i < to; i++) {
        lt_panel(z->d, i, &width);
        for (size_t at = 0; at < width; at += step) {
            size_t n = min_size(step, width - at);
            lift(z->d, i, at, n, strip);
            exact_strip(z, i * z->d->width + at, n, strip, y);
        }
    }
    lt_free(strip);
    return LT_OK;
}

/* Of one part's partial sum in yf: rows of the block, and in double the image of a
 * strip behind it. */
static size_t partial_size(const struct lanczos *z)
{
    size_t n = z->block * z->side;
    return z->exact ? 2 * (n + z->block * lift_rows(z->side)) : n;
}

static lt_status pass_part(void *ctx, size_t part, lt_error *err)
{
    struct lanczos *z = ctx;
    size_t from, to;
    float *y = z->yf + part * partial_size(z);
    if (z->exact) return exact_part(z, part, (double *)(void *)y, err);
    part_range(z, part, &from, &to);
    for (size_t i = from; i < to; i++)
        float_panel(z, i, y, i == from ? 0 : 1);
    return LT_OK;
}

static void add_partial(struct lanczos *z, size_t part)
{
    const float *y = z->yf + part * partial_size(z);
    size_t rows = z->last, side = z->side;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < side && z->d->wide; j++)
            z->y[i * side + j] += (double)y[j * rows + i];
    for (size_t i = 0; i < rows * side && !z->d->wide; i++)
        z->y[i] += (double)y[i];
}

static void add_exact_partial(struct lanczos *z, size_t part)
{
    const double *y = (const double *)(const void *)(z->yf + part * partial_size(z));
    for (size_t i = 0; i < z->last * z->side; i++)
        z->y[i] += y[i];
}

static void lay_out_block(struct lanczos *z)
{
    const double *x = z->x + (z->count - z->last) * z->side;
    for (size_t i = 0; i < z->last; i++)
        for (size_t j = 0; j < z->side && !z->d->wide; j++)
            z->xf[j * z->last + i] = (float)x[i * z->side + j];
    if (z->d->wide) lt_store_f64(z->xf, x, LT_F32, z->last * z->side);
}

static lt_status pass(struct lanczos *z)
{
    lay_out_block(z);
    lt_status st = lt_worker_share(z->job->worker, z->parts, pass_part, z, z->err);
    if (st) return st;
    memset(z->y, 0, z->last * z->side * sizeof *z->y);
    for (size_t part = 0; part < z->parts; part++)
        (z->exact ? add_exact_partial : add_partial)(z, part);
    z->found = z->last;
    return LT_OK;
}

/* ---- blocks -------------------------------------------------------------------------
 */

/* Row l mod block of y gets column l of D, with a random sign. */
static void sketch_tall(struct lanczos *z, size_t i, const float *sign)
{
    size_t width, side = z->side, first = i * z->d->width;
    const float *panel = lt_panel(z->d, i, &width);
    for (size_t l = 0; l < width; l++) {
        float *row = z->xf + (first + l) % z->block * side, s = sign[first + l];
        for (size_t j = 0; j < side; j++)
            row[j] += s * panel[l * side + j];
    }
}

static void sketch_wide(struct lanczos *z, size_t i, const float *sign)
{
    size_t width, first = i * z->d->width, block = z->block;
    const float *panel = lt_panel(z->d, i, &width);
    float *sums = z->zf; /* of one row, block of them */
    for (size_t j = 0; j < z->side; j++, panel += width) {
        memset(sums, 0, block * sizeof *sums);
        for (size_t l = 0; l < width; l += block) {
            size_t n = min_size(block, width - l);
            for (size_t c = 0; c < n; c++)
                sums[c] += sign[first + l + c] * panel[l + c];
        }
        for (size_t c = 0; c < block; c++)
            z->xf[(first + c) % block * z->side + j] += sums[c];
    }
}

static lt_status sketch(struct lanczos *z)
{
    uint64_t state = 0x6c6f7261746f6f6cu;
    float *sign = lt_alloc_work(z->length, sizeof *sign, z->err);
    if (!sign) return LT_ERR_NOMEM;
    for (size_t l = 0; l < z->length; l++)
        sign[l] = next_random(&state) >> 63 ? 1.0f : -1.0f;
    memset(z->xf, 0, z->block * z->side * sizeof *z->xf);
    for (size_t i = 0; i < z->d->count; i++)
        (z->d->wide ? sketch_wide : sketch_tall)(z, i, sign);
    lt_free(sign);
    lt_load_f64(z->y, z->xf, LT_F32, z->block * z->side);
    z->found = z->block;
    return LT_OK;
}

/* Uniform in [-1, 1). */
static void random_block(struct lanczos *z)
{
    uint64_t state = 0x6c6f7261u + z->count;
    z->found = min_size(z->block, z->side - z->count);
    for (size_t i = 0; i < z->found * z->side; i++)
        z->y[i] = (double)(int64_t)next_random(&state) * 0x1p-63;
}

/* y -= (y x^T) x */
static void project_out(struct lanczos *z)
{
    if (!z->count) return;
    size_t side = z->side;
    lt_matd x = { z->x, side, false }, y = { z->y, side, false };
    x.t = true;
    lt_gemm_f64(z->found, z->count, side, 1, y, x, 0, z->small);
    x.t = false;
    lt_gemm_f64(
        z->found, side, z->count, -1, (lt_matd){ z->small, z->count, false }, x, 1, z->y);
}

/* Fills gram; gives its trace. */
static double measure_block(struct lanczos *z)
{
    size_t n = z->found;
    memset(z->gram, 0, n * n * sizeof *z->gram);
    lt_syrk_f64(n, z->side, (lt_matd){ z->y, z->side, false }, z->gram);
    lt_mirror_upper(n, z->gram);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += z->gram[i * n + i];
    return sum;
}

/* y becomes orthonormal rows; directions shorter than least (a square) fall away. The
 * shortest that stays is in *shortest. gram is that of y and is destroyed. */
static lt_status orthonormalise(struct lanczos *z, double least, double *shortest)
{
    size_t n = z->found, kept = 0;
    double *values = z->turn + z->block * z->block, *out = z->x + z->count * z->side;
    lt_status st = lt_eig_sym(n, z->gram, values, z->err);
    if (st) return st;
    for (size_t i = n; i-- > 0 && values[i] > least && z->count + kept < z->capacity;) {
        *shortest = values[i];
        for (size_t j = 0; j < n; j++)
            z->turn[kept * n + j] = z->gram[i * n + j] / sqrt(values[i]);
        kept++;
    }
    /* Through the room behind x's rows, where the block goes anyway. */
    z->found = kept;
    if (!kept) return LT_OK;
    lt_gemm_f64(kept, z->side, n, 1, (lt_matd){ z->turn, n, false },
        (lt_matd){ z->y, z->side, false }, 0, out);
    memcpy(z->y, out, kept * z->side * sizeof *out);
    return LT_OK;
}

/* Appends y, whose part in x is taken out already and whose Gram matrix is in gram;
 * before is the trace it had with that part. */
static lt_status append(struct lanczos *z, double least, double before)
{
    double shortest = 0;
    lt_status st = orthonormalise(z, least, &shortest);
    /* What is left of a long block holds the errors that were made on all of it. */
    double loss = z->found ? (z->loss + LOSS_STEP) * sqrt(before / shortest) : 0;
    if (!st && loss > LOSS_LIMIT) {
        project_out(z);
        measure_block(z);
        st = orthonormalise(z, 0.25, &shortest);
        loss = z->loss + LOSS_STEP;
    }
    if (loss > z->loss) z->loss = loss;
    z->last = z->found;
    z->count += z->found;
    return st;
}

/* ---- Rayleigh-Ritz ------------------------------------------------------------------
 */

/* The rows of h that belong to the last block: y x^T, which taking x's part out of y has
 * left in small. */
static void extend_ritz(struct lanczos *z)
{
    size_t from = z->count - z->last;
    for (size_t i = 0; i < z->last; i++)
        for (size_t j = 0; j < z->count; j++) {
            double v = z->small[i * z->count + j];
            z->h[(from + i) * z->capacity + j] = v;
            z->h[j * z->capacity + from + i] = v;
        }
}

static lt_status solve_ritz(struct lanczos *z)
{
    for (size_t i = 0; i < z->count; i++)
        memcpy(z->w + i * z->count, z->h + i * z->capacity, z->count * sizeof *z->w);
    return lt_eig_sym(z->count, z->w, z->theta, z->err);
}

/* What the k leading directions leave. */
static double rest_of(const struct lanczos *z)
{
    double captured = 0;
    for (size_t i = 0; i < min_size(z->k, z->count); i++)
        captured += z->theta[z->count - 1 - i];
    double rest = z->job->energy - captured;
    return rest > 0 ? rest : 0;
}

/* What the next block can still add; gram is that of y without its part in x. */
static double still_to_come(const struct lanczos *z)
{
    double sum = 0, lowest = z->theta[0];
    for (size_t i = 0; i < z->k; i++) {
        const double *w = z->w + (z->count - i) * z->count - z->last;
        double residual = 0, gap = z->theta[z->count - 1 - i] - lowest;
        for (size_t r = 0; r < z->last; r++) {
            double inner = 0;
            for (size_t c = 0; c < z->last; c++)
                inner += z->gram[r * z->last + c] * w[c];
            residual += w[r] * inner;
        }
        if (residual > 0) sum += gap > 0 ? residual / gap : HUGE_VAL;
    }
    return sum;
}

/* ---- the iteration ------------------------------------------------------------------
 */

enum state { GOING_ON, DONE, TOO_FINE, TOO_MANY };

/* The blocks after the next one matter where each adds nearly as much as the last. */
static bool settled(struct lanczos *z, double rest)
{
    double now = still_to_come(z), ratio = FIRST_RATIO;
    if (z->to_come > 0) ratio = now / z->to_come;
    z->to_come = now;
    return ratio < 1 && now <= SETTLED * (1 - ratio) * (1 - ratio) * rest;
}

/* A block that led nowhere means that all directions are found which it has a part in:
 * not those of equal singular values beyond its size. Fresh ones tell. */
static enum state judge_in_doubt(struct lanczos *z, double rest)
{
    bool gained = !z->doubt || rest < (1 - SETTLED) * z->rest;
    z->doubt = gained ? PATIENCE : z->doubt - 1;
    z->rest = rest;
    return z->doubt || z->count <= z->k ? GOING_ON : DONE;
}

static enum state judge(struct lanczos *z, bool led_nowhere)
{
    double rest = rest_of(z), energy = z->job->energy;
    if (!z->exact && rest < FLOAT_LIMIT * energy) return TOO_FINE;
    if (z->count == z->side || rest <= ROUNDING * energy) return DONE;
    if (led_nowhere || z->doubt) return judge_in_doubt(z, rest);
    if (z->count <= z->k) return GOING_ON; /* all are wanted: nothing to compare with */
    return settled(z, rest) ? DONE : GOING_ON;
}

static lt_status get_memory(struct lanczos *z)
{
    lt_scratch *s = z->job->scratch;
    uint64_t cap = z->capacity, side = z->side, length = z->length, block = z->block;
    uint64_t room = length > cap ? length : cap; /* of images, also of products of them */
    uint64_t floats = block * (side + 2 * room) + z->parts * (uint64_t)partial_size(z);
    uint64_t small = block * (cap + 2 * block + 1);
    z->x = lt_scratch_get(s, S_BASIS, cap * side, sizeof *z->x, z->err);
    void *images = lt_scratch_get(
        s, S_IMAGE, cap * length, z->exact ? sizeof *z->b : sizeof *z->bf, z->err);
    z->b = z->exact ? images : NULL;
    z->bf = z->exact ? NULL : images;
    z->h = lt_scratch_get(s, S_RITZ, cap * cap, sizeof *z->h, z->err);
    z->w = lt_scratch_get(s, S_VECTORS, cap * cap, sizeof *z->w, z->err);
    z->theta = lt_scratch_get(s, S_VALUES, cap, sizeof *z->theta, z->err);
    z->y = lt_scratch_get(s, S_BLOCK, block * side, sizeof *z->y, z->err);
    z->yf = lt_scratch_get(s, S_FLOATS, floats, sizeof *z->yf, z->err);
    z->small = lt_scratch_get(s, S_SMALL, small, sizeof *z->small, z->err);
    bool ok = z->x && images && z->h && z->w && z->theta && z->y && z->yf && z->small;
    if (!ok) return LT_ERR_NOMEM;
    z->xf = z->yf + z->parts * partial_size(z);
    z->zf = z->xf + block * side;
    z->gram = z->small + block * cap;
    z->turn = z->gram + block * block;
    return LT_OK;
}

/* A block from nothing, where the last one led nowhere. */
static lt_status start_afresh(struct lanczos *z)
{
    random_block(z);
    double before = measure_block(z);
    project_out(z);
    measure_block(z);
    lt_status st = append(z, NO_LENGTH_DOUBLE * before, before);
    if (st || z->last) return st;
    return lt_error_set(z->err, LT_ERR_NUMERIC, "the iteration for the SVD broke down");
}

/* Before there are LOOK times k directions, only what falls off so steeply that they hold
 * nearly all is settled. */
static bool worth_a_look(const struct lanczos *z)
{
    double held = 0;
    if (z->count < z->k && z->count < z->side) return false;
    if (z->count >= LOOK * (double)z->k || z->count == z->side) return true;
    for (size_t i = 0; i < z->count; i++)
        held += z->h[i * (z->capacity + 1)];
    return z->job->energy - held <= STEEP * z->job->energy;
}

/* One block: a pass, its part of h, a look at what has been found; then the next one. */
static lt_status advance(struct lanczos *z, enum state *state)
{
    lt_status st = pass(z);
    if (st) return st;
    double before = measure_block(z);
    project_out(z);
    extend_ritz(z);
    double after = measure_block(z);
    double part = z->exact ? NO_LENGTH_DOUBLE : NO_LENGTH_FLOAT;
    bool led_nowhere = after <= part * part * before;
    if (worth_a_look(z) || led_nowhere) {
        st = solve_ritz(z);
        if (!st) *state = judge(z, led_nowhere);
    }
    if (st || *state != GOING_ON) return st;
    if (z->count == z->capacity) {
        *state = TOO_MANY;
        return LT_OK;
    }
    if (!led_nowhere) st = append(z, part * part * before, before);
    return !st && (led_nowhere || !z->last) ? start_afresh(z) : st;
}

static lt_status iterate(struct lanczos *z, enum state *state)
{
    lt_status st = get_memory(z);
    z->count = z->last = z->doubt = 0;
    z->to_come = z->loss = 0;
    *state = GOING_ON;
    if (!st) st = sketch(z);
    if (st) return st;
    double all = measure_block(z);
    double part = NO_LENGTH_FLOAT;
    bool usable = all > 0 && isfinite(all);
    st = usable ? append(z, part * part * all, all) : start_afresh(z);
    while (!st && *state == GOING_ON)
        st = advance(z, state);
    return st;
}

/* The float32 iteration, then as far as that does not do, a more careful or larger one.
 */
static lt_status approximate(struct lanczos *z)
{
    enum state state = GOING_ON;
    lt_status st = LT_OK;
    z->capacity = min_size(z->side, 8 * z->k + 64);
    z->exact = z->job->energy < FLOAT_LEAST || z->job->energy > FLOAT_MOST;
    while (!st && state != DONE) {
        st = iterate(z, &state);
        if (state == TOO_FINE) z->exact = true;
        if (state == TOO_MANY) z->capacity = min_size(z->side, 3 * z->capacity);
    }
    return st;
}

/* The whole eigenproblem: the basis is the identity. */
static lt_status solve_whole(struct lanczos *z)
{
    size_t side = z->side, step = lift_rows(side), width;
    z->capacity = side;
    z->block = z->parts = 1; /* of no use here */
    z->exact = true;
    lt_status st = get_memory(z);
    double *strip = lt_alloc_work(step * side, sizeof *strip, z->err);
    if (st || !strip) {
        lt_free(strip);
        return LT_ERR_NOMEM;
    }
    for (size_t i = 0; i < z->d->count; i++) {
        lt_panel(z->d, i, &width);
        for (size_t at = 0; at < width; at += step) {
            size_t n = min_size(step, width - at), first = i * z->d->width + at;
            lift(z->d, i, at, n, strip);
            for (size_t r = 0; r < side; r++)
                for (size_t l = 0; l < n; l++)
                    z->b[r * z->length + first + l] = strip[l * side + r];
        }
    }
    lt_free(strip);
    memset(z->x, 0, side * side * sizeof *z->x);
    for (size_t r = 0; r < side; r++)
        z->x[r * side + r] = 1;
    z->count = side;
    memset(z->h, 0, side * side * sizeof *z->h);
    lt_syrk_f64(side, z->length, (lt_matd){ z->b, z->length, false }, z->h);
    lt_mirror_upper(side, z->h);
    return solve_ritz(z);
}

/* ---- factors ------------------------------------------------------------------------
 */

/* rotation (k x count) times rows (count x length), into one of the factors. */
struct rotating {
    const struct lanczos *z;
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
    size_t k = r->z->k, first = part * STRIP, n = min_size(STRIP, r->length - first);
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
static double sigma_of(const struct lanczos *z, size_t i)
{
    if (i >= z->count) return 0;
    double square = z->theta[z->count - 1 - i], top = z->theta[z->count - 1];
    return square > 1e-17 * top ? sqrt(square) : 0;
}

static lt_status rotate(struct rotating *r, double power, lt_error *err)
{
    const struct lanczos *z = r->z;
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
static lt_status make_factors(struct lanczos *z)
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

static lt_status zero_factors(lt_lowrank_job *job)
{
    memset(job->b, 0, job->delta->rows * job->rank * sizeof *job->b);
    memset(job->a, 0, job->delta->columns * job->rank * sizeof *job->a);
    if (job->sigma) memset(job->sigma, 0, job->rank * sizeof *job->sigma);
    return LT_OK;
}

static bool solves_whole(size_t side, size_t k)
{
    return side <= DENSE_SIDE || 3 * k >= side;
}

lt_status lt_lowrank(lt_lowrank_job *job, lt_error *err)
{
    const lt_panels *d = job->delta;
    struct lanczos z = { .job = job,
        .d = d,
        .k = job->rank,
        .side = d->side,
        .length = d->length,
        .block = block_size(job->rank, d->side),
        .parts = min_size(d->count, MAX_PARTS),
        .err = err };
    if (z.k < 1 || z.k > z.side)
        return lt_error_set(
            err, LT_ERR_ARG, "rank %zu of a %zu x %zu matrix", z.k, d->rows, d->columns);
    job->tail = 0;
    job->basis = 0;
    job->exact = true;
    if (!(job->energy > 0)) return zero_factors(job);
    lt_status st = solves_whole(z.side, z.k) ? solve_whole(&z) : approximate(&z);
    if (!st) st = make_factors(&z);
    job->tail = st ? 0 : rest_of(&z);
    job->basis = z.count;
    job->exact = z.exact;
    return st;
}

uint64_t lt_lowrank_need(size_t m, size_t n, size_t k)
{
    uint64_t side = min_size(m, n), length = max_size(m, n);
    uint64_t block = block_size(k, side), basis = min_size(side, 3 * k + block);
    uint64_t image = 4 * length;
    if (solves_whole(side, k)) {
        basis = side;
        block = 1;
        image = 8 * length;
    }
    return basis * (8 * side + image + 16 * basis)
        + 4 * block * (side + 2 * length + MAX_PARTS * side)
        + 8 * block * (side + basis + 2 * block);
}
