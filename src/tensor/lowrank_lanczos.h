/* SPDX-License-Identifier: MIT */
/* The state of the low-rank engine, for the three files that it lies in: lowrank.c
 * decides and iterates, lowrank_pass.c reads D, lowrank_factors.c makes the result. The
 * method and the letters are explained in lowrank.h. */
#ifndef LT_TENSOR_LOWRANK_LANCZOS_H
#define LT_TENSOR_LOWRANK_LANCZOS_H

#include "tensor/lowrank.h"

#include <stdbool.h>

struct lt_lanczos {
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

/* The last block's rows of b, and y = those times D^T. */
lt_status lt_lanczos_pass(struct lt_lanczos *z) LT_MUST_USE;
/* Floats of one part's partial sum in yf. */
size_t lt_lanczos_partial(const struct lt_lanczos *z);

/* y = a sparse random combination of D's columns, and y = random numbers that depend on
 * count only. */
lt_status lt_lanczos_sketch(struct lt_lanczos *z) LT_MUST_USE;
void lt_lanczos_random(struct lt_lanczos *z);

/* Positions [from, from + n) along panel i's length, as n x side in double; and how many
 * of them are lifted at a time. */
void lt_lanczos_lift(const lt_panels *p, size_t i, size_t from, size_t n, double *dst);
size_t lt_lanczos_lift_rows(size_t side);

/* The job's b, a and sigma from x, b, w and theta. */
lt_status lt_lanczos_factors(struct lt_lanczos *z) LT_MUST_USE;

#endif
