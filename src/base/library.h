/* SPDX-License-Identifier: MIT */
/* Libraries that are loaded when they are first needed, so that commands which do without
 * them start without them. The only user of the dynamic linker. */
#ifndef LT_BASE_LIBRARY_H
#define LT_BASE_LIBRARY_H

#include "base/pool.h"

typedef struct lt_routine {
    const char *name;
    void *slot; /* the function pointer to set */
} lt_routine;

typedef struct lt_library {
    const char *title; /* for messages: "OpenBLAS" */
    const char *name;  /* as a linker would record it: "libopenblas.so.0" */
    const char *path;  /* where it was when this was built, tried next */
    const lt_routine *routines;
    size_t n_routines;
} lt_library;

/* Loads it and fills every slot. */
lt_status lt_library_open(
    void **handle, const lt_library *library, lt_error *err) LT_MUST_USE;
void lt_library_close(void *handle);

/* What became of it, kept for the process. Starts zeroed. */
typedef struct lt_loading {
    lt_once once;
    lt_status status;
    lt_error error;
} lt_loading;

/* The first call runs load, which fills in status and error; all give that result. */
lt_status lt_loading_run(
    lt_loading *loading, void (*load)(void), lt_error *err) LT_MUST_USE;

#endif
