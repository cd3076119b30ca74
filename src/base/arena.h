/* SPDX-License-Identifier: MIT */
/* Many small objects released together. Zero-initialise with { 0 }. */
#ifndef LT_BASE_ARENA_H
#define LT_BASE_ARENA_H

#include "loratool/error.h"

struct lt_arena_block;
typedef struct lt_arena {
    struct lt_arena_block *head;
    uint64_t size; /* bytes of all blocks */
} lt_arena;

/* Zeroed, 16-byte aligned memory that lives until lt_arena_release; NULL on failure. */
void *lt_arena_alloc(lt_arena *arena, uint64_t size, lt_error *err);
char *lt_arena_strdup(lt_arena *arena, const char *s, lt_error *err);
char *lt_arena_strndup(lt_arena *arena, const char *s, size_t n, lt_error *err);
/* One behind the other. */
char *lt_arena_join(lt_arena *arena, const char *left, const char *right, lt_error *err);
char *lt_arena_printf(lt_arena *arena, lt_error *err, const char *fmt, ...)
    LT_PRINTF(3, 4);
void lt_arena_release(lt_arena *arena);

#endif
