/* SPDX-License-Identifier: MIT */
#include "base/cursor.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW 65536u

void lt_cursor_memory(
    lt_cursor *c, const void *data, size_t size, uint64_t base, lt_error *err)
{
    *c = (lt_cursor){
        .data = data, .have = size, .at = base, .end = base + size, .err = err
    };
}

void lt_cursor_file(
    lt_cursor *c, const lt_source *source, uint64_t offset, uint64_t size, lt_error *err)
{
    *c = (lt_cursor){ .source = source, .at = offset, .end = offset + size, .err = err };
}

void lt_cursor_release(lt_cursor *c)
{
    free(c->buffer);
    *c = (lt_cursor){ 0 };
}

uint64_t lt_cursor_position(const lt_cursor *c)
{
    return c->at + c->next;
}

uint64_t lt_cursor_left(const lt_cursor *c)
{
    return c->status ? 0 : c->end - lt_cursor_position(c);
}

/* Makes n bytes available from next on; there are that many. */
static lt_status fill(lt_cursor *c, size_t n)
{
    uint64_t left = lt_cursor_left(c);
    size_t want = n > WINDOW ? n : WINDOW;
    if (want > left) want = (size_t)left;
    lt_status st = lt_grow((void **)&c->buffer, &c->capacity, want, 1, c->err);
    if (st) return st;
    size_t kept = c->have - c->next;
    if (kept) memmove(c->buffer, c->buffer + c->next, kept);
    c->at += c->next;
    c->next = 0;
    c->have = want;
    c->data = c->buffer;
    return lt_source_read(c->source, c->at + kept, c->buffer + kept, want - kept, c->err);
}

static lt_status need(lt_cursor *c, size_t n)
{
    if (c->status || n <= c->have - c->next) return c->status;
    if (n > lt_cursor_left(c))
        c->status = lt_error_at(c->err, LT_ERR_FORMAT, c->end, "the data ends early");
    else
        c->status = fill(c, n);
    return c->status;
}

const unsigned char *lt_cursor_take(lt_cursor *c, size_t n)
{
    if (need(c, n)) return NULL;
    const unsigned char *p = n ? c->data + c->next : (const unsigned char *)"";
    c->next += n;
    return p;
}

/* How much a search that has seen so many bytes asks for next: more than those, and
 * doubling, so that a long line is not copied again and again. */
static size_t step(const lt_cursor *c, size_t seen)
{
    uint64_t left = lt_cursor_left(c);
    if (!seen || left <= seen) return seen + 1;
    return left < 2 * (uint64_t)seen ? (size_t)left : 2 * seen;
}

const unsigned char *lt_cursor_line(lt_cursor *c, size_t max, size_t *size)
{
    size_t seen = 0;
    while (!need(c, step(c, seen))) {
        const unsigned char *p = c->data + c->next, *hit;
        size_t have = c->have - c->next;
        hit = memchr(p + seen, '\n', have - seen);
        *size = hit ? (size_t)(hit - p) : have;
        if (*size > max) {
            c->status = lt_error_at(c->err, LT_ERR_LIMIT, lt_cursor_position(c),
                "a line is over %zu bytes", max);
            return NULL;
        }
        if (hit) return lt_cursor_take(c, *size + 1);
        seen = have;
    }
    return NULL;
}

uint64_t lt_cursor_uint(lt_cursor *c, unsigned n)
{
    const unsigned char *p = lt_cursor_take(c, n);
    uint64_t v = 0;
    for (unsigned i = n; p && i--;)
        v = v << 8 | p[i];
    return v;
}

void lt_cursor_skip(lt_cursor *c, uint64_t n)
{
    if (c->status) return;
    size_t have = c->have - c->next;
    if (n <= have) {
        c->next += (size_t)n;
    } else if (n > lt_cursor_left(c)) {
        c->status = lt_error_at(c->err, LT_ERR_FORMAT, c->end, "the data ends early");
    } else {
        c->at = lt_cursor_position(c) + n;
        c->next = c->have = 0;
    }
}
