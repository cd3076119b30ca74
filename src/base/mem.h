/* SPDX-License-Identifier: MIT */
/* Allocation with checked sizes. All sizes are in bytes unless named otherwise. */
#ifndef LT_BASE_MEM_H
#define LT_BASE_MEM_H

#include "loratool/error.h"

#include <stdbool.h>

/* *out = a * b or a + b; false when the result does not fit. */
bool lt_mul_size(uint64_t a, uint64_t b, uint64_t *out);
bool lt_add_size(uint64_t a, uint64_t b, uint64_t *out);

static inline size_t lt_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Zeroed array of n items, 64-byte aligned. NULL with *err set when it cannot be had
 * or n * item_size overflows. n == 0 gives a valid pointer. Release with lt_free. */
void *lt_alloc(uint64_t n, size_t item_size, lt_error *err);

/* The same without zeroing, for work memory that is always written before it is read. */
void *lt_alloc_work(uint64_t n, size_t item_size, lt_error *err);

void lt_free(void *p);

/* Grows *p (plain malloc memory, release with free) so that it holds at least n items;
 * *capacity counts items. The new part is not initialised. */
lt_status lt_grow(
    void **p, size_t *capacity, size_t n, size_t item_size, lt_error *err) LT_MUST_USE;

/* Work memory that one thread reuses from item to item: numbered slots that only grow.
 * Zero-initialise with { 0 }. */
#define LT_SCRATCH_SLOTS 16
typedef struct lt_scratch {
    void *slot[LT_SCRATCH_SLOTS];
    uint64_t size[LT_SCRATCH_SLOTS];
} lt_scratch;

/* At least n items in that slot; the content is not defined. NULL on failure. The
 * pointer is good until the same slot is asked for more. */
void *lt_scratch_get(
    lt_scratch *scratch, int slot, uint64_t n, size_t item_size, lt_error *err);
void lt_scratch_release(lt_scratch *scratch);

/* Gives all of it back when it holds more than keep bytes. */
void lt_scratch_trim(lt_scratch *scratch, uint64_t keep);

char *lt_strdup(const char *s, lt_error *err); /* release with free */

#endif
