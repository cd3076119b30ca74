/* SPDX-License-Identifier: MIT */
#include "tensor/lowrank.h"

#include "tensor/linalg.h"
#include "tensor/lowrank_lanczos.h"

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
#define PATIENCE 3    /* looks without a gain after a block that led nowhere */
#define DENSE_SIDE 96 /* up to this side the whole eigenproblem is cheaper */
#define MAX_PARTS 16  /* of a pass */

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Measured for k = 64 on two spectra and sides of 320 to 23040: narrower blocks need
 * fewer directions, wider ones run faster. */
static size_t block_size(size_t k, size_t side)
{
    size_t b = (k / 4 + 7) / 8 * 8;
    return lt_min_size(side, max_size(b, 8));
}

/* ---- blocks -------------------------------------------------------------------------
 */

/* y -= (y x^T) x */
static void project_out(struct lt_lanczos *z)
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
static double measure_block(struct lt_lanczos *z)
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
static lt_status orthonormalise(struct lt_lanczos *z, double least, double *shortest)
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
static lt_status append(struct lt_lanczos *z, double least, double before)
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
static void extend_ritz(struct lt_lanczos *z)
{
    size_t from = z->count - z->last;
    for (size_t i = 0; i < z->last; i++)
        for (size_t j = 0; j < z->count; j++) {
            double v = z->small[i * z->count + j];
            z->h[(from + i) * z->capacity + j] = v;
            z->h[j * z->capacity + from + i] = v;
        }
}

static lt_status solve_ritz(struct lt_lanczos *z)
{
    for (size_t i = 0; i < z->count; i++)
        memcpy(z->w + i * z->count, z->h + i * z->capacity, z->count * sizeof *z->w);
    return lt_eig_sym(z->count, z->w, z->theta, z->err);
}

/* What the k leading directions leave. */
static double rest_of(const struct lt_lanczos *z)
{
    double captured = 0;
    for (size_t i = 0; i < lt_min_size(z->k, z->count); i++)
        captured += z->theta[z->count - 1 - i];
    double rest = z->job->energy - captured;
    return rest > 0 ? rest : 0;
}

/* Squared residual of the i-th leading direction; gram is that of y without its part in
 * x. */
static double residual_of(const struct lt_lanczos *z, size_t i)
{
    const double *w = z->w + (z->count - i) * z->count - z->last;
    double residual = 0;
    for (size_t r = 0; r < z->last; r++) {
        double inner = 0;
        for (size_t c = 0; c < z->last; c++)
            inner += z->gram[r * z->last + c] * w[c];
        residual += w[r] * inner;
    }
    return residual > 0 ? residual : 0;
}

/* What the next block can still add. */
static double still_to_come(const struct lt_lanczos *z)
{
    double sum = 0, lowest = z->theta[0];
    for (size_t i = 0; i < z->k; i++) {
        double residual = residual_of(z, i), gap = z->theta[z->count - 1 - i] - lowest;
        if (residual > 0) sum += gap > 0 ? residual / gap : HUGE_VAL;
    }
    return sum;
}

/* ---- the iteration ------------------------------------------------------------------
 */

enum state { GOING_ON, DONE, TOO_FINE, TOO_MANY };

/* The blocks after the next one matter where each adds nearly as much as the last. */
static bool settled(struct lt_lanczos *z, double rest)
{
    double now = still_to_come(z), ratio = FIRST_RATIO;
    if (z->to_come > 0) ratio = now / z->to_come;
    z->to_come = now;
    return ratio < 1 && now <= SETTLED * (1 - ratio) * (1 - ratio) * rest;
}

/* A block that led nowhere means that all directions are found which it has a part in:
 * not those of equal singular values beyond its size. Fresh ones tell. */
static enum state judge_in_doubt(struct lt_lanczos *z, double rest)
{
    bool gained = !z->doubt || rest < (1 - SETTLED) * z->rest;
    z->doubt = gained ? PATIENCE : z->doubt - 1;
    z->rest = rest;
    return z->doubt || z->count <= z->k ? GOING_ON : DONE;
}

static enum state judge(struct lt_lanczos *z, bool led_nowhere)
{
    double rest = rest_of(z), energy = z->job->energy;
    if (!z->exact && rest < FLOAT_LIMIT * energy) return TOO_FINE;
    if (z->count == z->side || rest <= ROUNDING * energy) return DONE;
    if (led_nowhere || z->doubt) return judge_in_doubt(z, rest);
    if (z->count <= z->k) return GOING_ON; /* all are wanted: nothing to compare with */
    return settled(z, rest) ? DONE : GOING_ON;
}

static lt_status get_memory(struct lt_lanczos *z)
{
    lt_scratch *s = z->job->scratch;
    uint64_t cap = z->capacity, side = z->side, length = z->length, block = z->block;
    uint64_t room = length > cap ? length : cap; /* of images, also of products of them */
    uint64_t floats =
        block * (side + 2 * room) + z->parts * (uint64_t)lt_lanczos_partial(z);
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
    z->xf = z->yf + z->parts * lt_lanczos_partial(z);
    z->zf = z->xf + block * side;
    z->gram = z->small + block * cap;
    z->turn = z->gram + block * block;
    return LT_OK;
}

/* A block from nothing, where the last one led nowhere. */
static lt_status start_afresh(struct lt_lanczos *z)
{
    lt_lanczos_random(z);
    double before = measure_block(z);
    project_out(z);
    measure_block(z);
    lt_status st = append(z, NO_LENGTH_DOUBLE * before, before);
    if (st || z->last) return st;
    return lt_error_set(z->err, LT_ERR_NUMERIC, "the iteration for the SVD broke down");
}

/* Before there are LOOK times k directions, only what falls off so steeply that they hold
 * nearly all is settled. */
static bool worth_a_look(const struct lt_lanczos *z)
{
    double held = 0;
    if (z->count < z->k && z->count < z->side) return false;
    if (z->count >= LOOK * (double)z->k || z->count == z->side) return true;
    for (size_t i = 0; i < z->count; i++)
        held += z->h[i * (z->capacity + 1)];
    return z->job->energy - held <= STEEP * z->job->energy;
}

/* One block: a pass, its part of h, a look at what has been found; then the next one. */
static lt_status advance(struct lt_lanczos *z, enum state *state)
{
    lt_status st = lt_lanczos_pass(z);
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

static lt_status iterate(struct lt_lanczos *z, enum state *state)
{
    lt_status st = get_memory(z);
    z->count = z->last = z->doubt = 0;
    z->to_come = z->loss = 0;
    *state = GOING_ON;
    if (!st) st = lt_lanczos_sketch(z);
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
static lt_status approximate(struct lt_lanczos *z)
{
    enum state state = GOING_ON;
    lt_status st = LT_OK;
    z->capacity = lt_min_size(z->side, 8 * z->k + 64);
    z->exact = z->job->energy < FLOAT_LEAST || z->job->energy > FLOAT_MOST;
    while (!st && state != DONE) {
        st = iterate(z, &state);
        if (state == TOO_FINE) z->exact = true;
        if (state == TOO_MANY) z->capacity = lt_min_size(z->side, 3 * z->capacity);
    }
    return st;
}

/* The whole eigenproblem: the basis is the identity. */
static lt_status solve_whole(struct lt_lanczos *z)
{
    size_t side = z->side, step = lt_lanczos_lift_rows(side), width;
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
            size_t n = lt_min_size(step, width - at), first = i * z->d->width + at;
            lt_lanczos_lift(z->d, i, at, n, strip);
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

static lt_status zero_factors(lt_lowrank_job *job)
{
    memset(job->b, 0, job->delta->rows * job->rank * sizeof *job->b);
    memset(job->a, 0, job->delta->columns * job->rank * sizeof *job->a);
    if (job->sigma) memset(job->sigma, 0, job->rank * sizeof *job->sigma);
    return LT_OK;
}

/* What lt_lowrank_distance starts from. The basis of the whole eigenproblem is of no use
 * to it. */
static void keep_basis(const struct lt_lanczos *z)
{
    lt_lowrank_job *job = z->job;
    double held = 0;
    for (size_t i = 0; i < z->count; i++)
        held += z->theta[i];
    job->basis = z->x;
    job->image = z->bf;
    job->left = held < z->job->energy ? z->job->energy - held : 0;
    for (size_t i = 0; i < lt_min_size(z->k, z->count) && z->bf; i++) {
        double theta = z->theta[z->count - 1 - i];
        if (theta > 0) job->leak = fmax(job->leak, residual_of(z, i) / theta);
    }
}

static bool solves_whole(size_t side, size_t k)
{
    return side <= DENSE_SIDE || 3 * k >= side;
}

lt_status lt_lowrank(lt_lowrank_job *job, lt_error *err)
{
    const lt_panels *d = job->delta;
    struct lt_lanczos z = { .job = job,
        .d = d,
        .k = job->rank,
        .side = d->side,
        .length = d->length,
        .block = block_size(job->rank, d->side),
        .parts = lt_min_size(d->count, MAX_PARTS),
        .err = err };
    if (z.k < 1 || z.k > z.side)
        return lt_error_set(
            err, LT_ERR_ARG, "rank %zu of a %zu x %zu matrix", z.k, d->rows, d->columns);
    job->tail = job->left = job->leak = 0;
    job->count = 0;
    job->basis = NULL;
    job->image = NULL;
    job->exact = true;
    if (!(job->energy > 0)) return zero_factors(job);
    lt_status st = solves_whole(z.side, z.k) ? solve_whole(&z) : approximate(&z);
    if (!st) st = lt_lanczos_factors(&z);
    job->count = z.count;
    job->exact = z.exact;
    if (st) return st;
    job->tail = rest_of(&z);
    keep_basis(&z);
    return LT_OK;
}

uint64_t lt_lowrank_need(size_t m, size_t n, size_t k)
{
    uint64_t side = lt_min_size(m, n), length = max_size(m, n);
    uint64_t block = block_size(k, side), basis = lt_min_size(side, 3 * k + block);
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
