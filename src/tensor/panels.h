/* SPDX-License-Identifier: MIT */
/* A float32 matrix cut along its long side into panels that lie in memory one after the
 * other: an algorithm that uses each panel twice while it is in the cache reads the
 * matrix once, and panels can be worked on by different threads.
 *
 * The cut depends on the shape only. */
#ifndef LT_TENSOR_PANELS_H
#define LT_TENSOR_PANELS_H

#include "base/mem.h"

typedef struct lt_panels {
    size_t rows, columns;
    size_t side, length; /* the shorter and the longer of the two */
    bool wide;           /* length are the columns */
    size_t width;        /* of a panel along length; the last may be narrower */
    size_t count;
    float *data; /* rows * columns; panel i is row-major, (width x columns) of a tall
                    matrix and (rows x width) of a wide one, and starts at element
                    i * width * side */
} lt_panels;

/* Decides the cut; data is left alone. */
void lt_panels_shape(lt_panels *p, size_t rows, size_t columns);

/* Panel i and how much of length it covers. */
float *lt_panel(const lt_panels *p, size_t i, size_t *width);

/* n elements of the row-major matrix from element first on, into their places. */
void lt_panels_put(lt_panels *p, size_t first, const float *src, size_t n);

/* Where element first of the row-major matrix lies, and how many of those that follow
 * it lie side by side with it. */
float *lt_panels_at(const lt_panels *p, size_t first, size_t *run);

#endif
