/* SPDX-License-Identifier: MIT */
#include "tensor/panels.h"

#include <string.h>

/* Measured: from half to the whole of a megaelement products run at the same speed;
 * larger ones leave the cache between their two uses. */
#define PANEL_ELEMENTS ((size_t)3 << 18)
#define PANEL_GRAIN 16 /* widths are multiples: whole vectors */

void lt_panels_shape(lt_panels *p, size_t rows, size_t columns)
{
    p->rows = rows;
    p->columns = columns;
    p->wide = rows < columns;
    p->side = p->wide ? rows : columns;
    p->length = p->wide ? columns : rows;
    size_t at_most = PANEL_ELEMENTS / (p->side ? p->side : 1);
    if (at_most < PANEL_GRAIN) at_most = PANEL_GRAIN;
    size_t count = p->length / at_most + 1, width = p->length / count + 1;
    p->width = (width + PANEL_GRAIN - 1) / PANEL_GRAIN * PANEL_GRAIN;
    p->count = (p->length + p->width - 1) / p->width;
}

float *lt_panel(const lt_panels *p, size_t i, size_t *width)
{
    size_t left = p->length - i * p->width;
    *width = left < p->width ? left : p->width;
    return p->data + i * p->width * p->side;
}

float *lt_panels_at(const lt_panels *p, size_t first, size_t *run)
{
    if (!p->wide) {
        *run = p->rows * p->columns - first;
        return p->data + first;
    }
    size_t row = first / p->columns, column = first % p->columns, width;
    float *panel = lt_panel(p, column / p->width, &width);
    size_t within = column % p->width;
    *run = width - within;
    return panel + row * width + within;
}

void lt_panels_put(lt_panels *p, size_t first, const float *src, size_t n)
{
    for (size_t done = 0, run; done < n; done += run) {
        float *to = lt_panels_at(p, first + done, &run);
        if (run > n - done) run = n - done;
        memcpy(to, src + done, run * sizeof *src);
    }
}
