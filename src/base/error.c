/* SPDX-License-Identifier: MIT */
#include "loratool/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names out of files are quoted in messages, which stay one line. */
static void make_one_line(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
}

LT_PRINTF(5, 0)
static lt_status fill(
    lt_error *err, lt_status code, int sys, uint64_t offset, const char *fmt, va_list ap)
{
    if (!err) return code;
    err->code = code;
    err->sys = sys;
    err->offset = offset;
    err->where[0] = '\0';
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    make_one_line(err->msg);
    return code;
}

lt_status lt_error_set(lt_error *err, lt_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, 0, LT_NO_OFFSET, fmt, ap);
    va_end(ap);
    return code;
}

lt_status lt_error_at(
    lt_error *err, lt_status code, uint64_t offset, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, 0, offset, fmt, ap);
    va_end(ap);
    return code;
}

lt_status lt_error_sys(lt_error *err, int sys, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, LT_ERR_IO, sys, LT_NO_OFFSET, fmt, ap);
    va_end(ap);
    return LT_ERR_IO;
}

void lt_error_place(lt_error *err, uint64_t offset)
{
    if (!err || err->offset != LT_NO_OFFSET) return;
    if (err->code == LT_ERR_FORMAT || err->code == LT_ERR_UNSUPPORTED
        || err->code == LT_ERR_LIMIT)
        err->offset = offset;
}

lt_status lt_error_where(lt_error *err, const char *fmt, ...)
{
    if (!err) return LT_ERR_INTERNAL;
    char inner[sizeof err->where];
    memcpy(inner, err->where, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->where, sizeof err->where, fmt, ap);
    va_end(ap);
    make_one_line(err->where);
    size_t used = strlen(err->where);
    if (inner[0] && used < sizeof err->where - 3) {
        /* Truncation of a very long chain of names is harmless: the message stays. */
        size_t room = sizeof err->where - used - 3;
        memcpy(err->where + used, ": ", 2);
        size_t take = strlen(inner) < room ? strlen(inner) : room;
        memcpy(err->where + used + 2, inner, take);
        err->where[used + 2 + take] = '\0';
    }
    return err->code;
}

const char *lt_status_text(lt_status code)
{
    switch (code) {
    case LT_OK: return "ok";
    case LT_ERR_NOMEM: return "out of memory";
    case LT_ERR_IO: return "input/output error";
    case LT_ERR_FORMAT: return "bad file";
    case LT_ERR_UNSUPPORTED: return "not supported";
    case LT_ERR_LIMIT: return "over a limit";
    case LT_ERR_MISMATCH: return "inputs do not match";
    case LT_ERR_FIDELITY: return "fidelity not met";
    case LT_ERR_NUMERIC: return "numeric error";
    case LT_ERR_EXISTS: return "output exists";
    case LT_ERR_ARG: return "bad argument";
    case LT_ERR_INTERNAL: return "internal error";
    }
    return "unknown status";
}
