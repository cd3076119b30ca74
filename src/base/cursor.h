/* SPDX-License-Identifier: MIT */
/* A bounded reader that goes forward over memory or over a part of a file. The first
 * failure sticks: what is taken afterwards is refused too, so that a caller may take
 * several things and look once. */
#ifndef LT_BASE_CURSOR_H
#define LT_BASE_CURSOR_H

#include "base/source.h"

typedef struct lt_cursor {
    const lt_source *source;   /* NULL: everything is in memory */
    const unsigned char *data; /* what is at hand */
    size_t have, next;         /* bytes of it; the one to be taken next */
    uint64_t at;               /* position of data[0] */
    uint64_t end;              /* position behind the last byte there is */
    unsigned char *buffer;     /* for a file: data points here */
    size_t capacity;
    lt_status status;
    lt_error *err;
} lt_cursor;

/* Over size bytes that stay the caller's. Positions in errors count from base. */
void lt_cursor_memory(
    lt_cursor *c, const void *data, size_t size, uint64_t base, lt_error *err);
/* Over bytes [offset, offset + size) of a file, which must lie inside it. */
void lt_cursor_file(
    lt_cursor *c, const lt_source *source, uint64_t offset, uint64_t size, lt_error *err);
void lt_cursor_release(lt_cursor *c);

uint64_t lt_cursor_position(const lt_cursor *c); /* of the next byte */
uint64_t lt_cursor_left(const lt_cursor *c);

/* The next n bytes, good until something else is taken; NULL when there are not that
 * many (LT_ERR_FORMAT) or on another failure. */
const unsigned char *lt_cursor_take(lt_cursor *c, size_t n);
/* The bytes up to a line feed, which is taken too; over max bytes is LT_ERR_LIMIT. */
const unsigned char *lt_cursor_line(lt_cursor *c, size_t max, size_t *size);
/* n bytes (1 to 8) as an unsigned little-endian number; 0 on failure. */
uint64_t lt_cursor_uint(lt_cursor *c, unsigned n);
void lt_cursor_skip(lt_cursor *c, uint64_t n);

/* Eight bytes, the lowest first. */
static inline uint64_t lt_little_u64(const unsigned char bytes[8])
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | bytes[i];
    return v;
}

#endif
