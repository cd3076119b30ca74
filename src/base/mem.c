/* SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((uint64_t)2 << 20)

bool lt_mul_size(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool lt_add_size(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

void *lt_alloc_work(uint64_t n, size_t item_size, lt_error *err)
{
    uint64_t size, rounded;
    if (!lt_mul_size(n, item_size, &size) || !lt_add_size(size, 63, &rounded)
        || rounded > SIZE_MAX / 2) {
        lt_error_set(err, LT_ERR_NOMEM, "out of memory: %llu items of %zu bytes",
            (unsigned long long)n, item_size);
        return NULL;
    }
    rounded &= ~(uint64_t)63;
    bool large = rounded >= 4 * HUGE_PAGE;
    if (large) rounded = (rounded + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    void *p = aligned_alloc(large ? HUGE_PAGE : 64, rounded ? (size_t)rounded : 64);
    if (!p) {
        lt_error_set(
            err, LT_ERR_NOMEM, "out of memory: %llu bytes", (unsigned long long)rounded);
    }
#ifdef MADV_HUGEPAGE
    /* Fewer page faults; where the system has none to give, nothing is lost. */
    if (p && large) madvise(p, (size_t)rounded, MADV_HUGEPAGE);
#endif
    return p;
}

void *lt_alloc(uint64_t n, size_t item_size, lt_error *err)
{
    void *p = lt_alloc_work(n, item_size, err);
    if (p) memset(p, 0, (size_t)n * item_size);
    return p;
}

void lt_free(void *p)
{
    free(p);
}

lt_status lt_grow(void **p, size_t *capacity, size_t n, size_t item_size, lt_error *err)
{
    if (n <= *capacity) return LT_OK;
    size_t want = *capacity ? *capacity : 16;
    while (want < n) {
        if (want > SIZE_MAX / 2) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
        want *= 2;
    }
    uint64_t size;
    void *q = NULL;
    if (lt_mul_size(want, item_size, &size) && size <= SIZE_MAX / 2)
        q = realloc(*p, (size_t)size);
    if (!q) {
        return lt_error_set(
            err, LT_ERR_NOMEM, "out of memory: %zu items of %zu bytes", want, item_size);
    }
    *p = q;
    *capacity = want;
    return LT_OK;
}

void *lt_scratch_get(
    lt_scratch *scratch, int slot, uint64_t n, size_t item_size, lt_error *err)
{
    uint64_t size;
    if (!lt_mul_size(n, item_size, &size)) {
        lt_error_set(err, LT_ERR_NOMEM, "out of memory: size overflow");
        return NULL;
    }
    if (scratch->slot[slot] && size <= scratch->size[slot]) return scratch->slot[slot];
    lt_free(scratch->slot[slot]);
    scratch->slot[slot] = lt_alloc_work(size, 1, err);
    scratch->size[slot] = scratch->slot[slot] ? size : 0;
    return scratch->slot[slot];
}

void lt_scratch_release(lt_scratch *scratch)
{
    for (int i = 0; i < LT_SCRATCH_SLOTS; i++)
        lt_free(scratch->slot[i]);
    *scratch = (lt_scratch){ 0 };
}

void lt_scratch_trim(lt_scratch *scratch, uint64_t keep)
{
    uint64_t size = 0;
    for (int i = 0; i < LT_SCRATCH_SLOTS; i++)
        size += scratch->size[i];
    if (size > keep) lt_scratch_release(scratch);
}

char *lt_strdup(const char *s, lt_error *err)
{
    char *copy = strdup(s);
    if (!copy) lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    return copy;
}
