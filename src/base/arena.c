/* SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lt_arena_block {
    struct lt_arena_block *next;
    size_t used, size; /* bytes of data */
    _Alignas(16) unsigned char data[];
};

#define BLOCK_SIZE 65536u

void *lt_arena_alloc(lt_arena *arena, uint64_t size, lt_error *err)
{
    uint64_t need;
    if (!lt_add_size(size, 15, &need) || need > SIZE_MAX / 4) {
        lt_error_set(
            err, LT_ERR_NOMEM, "out of memory: %llu bytes", (unsigned long long)size);
        return NULL;
    }
    need &= ~(uint64_t)15;
    struct lt_arena_block *block = arena->head;
    if (!block || block->size - block->used < need) {
        size_t data = need > BLOCK_SIZE ? (size_t)need : BLOCK_SIZE;
        block = malloc(sizeof *block + data);
        if (!block) {
            lt_error_set(err, LT_ERR_NOMEM, "out of memory: %zu bytes", data);
            return NULL;
        }
        block->used = 0;
        block->size = data;
        arena->size += data;
        block->next = arena->head;
        arena->head = block;
    }
    void *p = block->data + block->used;
    block->used += (size_t)need;
    memset(p, 0, (size_t)need);
    return p;
}

char *lt_arena_strndup(lt_arena *arena, const char *s, size_t n, lt_error *err)
{
    char *copy = lt_arena_alloc(arena, (uint64_t)n + 1, err);
    if (copy) memcpy(copy, s, n);
    return copy;
}

char *lt_arena_strdup(lt_arena *arena, const char *s, lt_error *err)
{
    return lt_arena_strndup(arena, s, strlen(s), err);
}

char *lt_arena_join(lt_arena *a, const char *left, const char *right, lt_error *err)
{
    size_t n = strlen(left), m = strlen(right);
    char *s = lt_arena_alloc(a, (uint64_t)n + m + 1, err);
    if (!s) return NULL;
    memcpy(s, left, n);
    memcpy(s + n, right, m + 1);
    return s;
}

char *lt_arena_printf(lt_arena *arena, lt_error *err, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *s = n < 0 ? NULL : lt_arena_alloc(arena, (uint64_t)n + 1, err);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return s;
}

void lt_arena_release(lt_arena *arena)
{
    for (struct lt_arena_block *b = arena->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *arena = (lt_arena){ 0 };
}
