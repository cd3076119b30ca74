/* SPDX-License-Identifier: MIT */
/* Status codes and the error record that every fallible call fills in. */
#ifndef LORATOOL_ERROR_H
#define LORATOOL_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define LT_MUST_USE __attribute__((warn_unused_result))
#else
#define LT_PRINTF(fmt, args)
#define LT_MUST_USE
#endif

typedef enum lt_status {
    LT_OK = 0,
    LT_ERR_NOMEM,       /* an allocation failed */
    LT_ERR_IO,          /* the system refused a read, write, open or rename; see sys */
    LT_ERR_FORMAT,      /* the bytes contradict the file format */
    LT_ERR_UNSUPPORTED, /* valid, but this version does not handle it */
    LT_ERR_LIMIT,       /* over one of the ceilings in src/base/limits.h */
    LT_ERR_MISMATCH,    /* inputs do not fit each other: unmatched keys, shapes */
    LT_ERR_FIDELITY,    /* the result misses the fidelity that was asked for */
    LT_ERR_NUMERIC,     /* NaN, infinity, overflow of the output type, no convergence */
    LT_ERR_EXISTS,      /* the output exists and overwriting was not allowed */
    LT_ERR_ARG,         /* the caller asked for something impossible */
    LT_ERR_INTERNAL,    /* a bug in loratool */
} lt_status;

#define LT_NO_OFFSET UINT64_MAX

/* Owned by the caller, may be NULL wherever a function takes one. The deepest layer
 * sets code, msg, sys and offset once; layers above may add to where (file, tensor),
 * never replace the cause. */
typedef struct lt_error {
    lt_status code;
    int sys;         /* errno, or 0 */
    uint64_t offset; /* byte position in the file, or LT_NO_OFFSET */
    char where[512]; /* outermost first: "model.safetensors: tensor 'x'" */
    char msg[1024];  /* one line, lower case, no full stop; in both, control characters
                        out of a file are shown as '?' */
} lt_error;

#define LT_ERROR_INIT                  \
    {                                  \
        LT_OK, 0, LT_NO_OFFSET, { 0 }, \
        {                              \
            0                          \
        }                              \
    }

/* Fills *err (when not NULL) and returns code, so that a check is one line. */
lt_status lt_error_set(lt_error *err, lt_status code, const char *fmt, ...)
    LT_PRINTF(3, 4);

/* The same with the byte position in the file at which the fault lies. */
lt_status lt_error_at(
    lt_error *err, lt_status code, uint64_t offset, const char *fmt, ...) LT_PRINTF(4, 5);

/* The same with errno's value. */
lt_status lt_error_sys(lt_error *err, int sys, const char *fmt, ...) LT_PRINTF(3, 4);

/* Sets the byte position, when no layer below knew one and the fault lies in the file's
 * bytes: not in memory that ran out or a call that failed. */
void lt_error_place(lt_error *err, uint64_t offset);

/* Puts "text: " in front of err->where; the code is left alone and returned. */
lt_status lt_error_where(lt_error *err, const char *fmt, ...) LT_PRINTF(2, 3);

/* "out of memory", "bad file", ...: a few words for each code. Static storage. */
const char *lt_status_text(lt_status code);

#ifdef __cplusplus
}
#endif
#endif
