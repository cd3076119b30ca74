/* SPDX-License-Identifier: MIT */
/* What the globals mean that torch files name, and which ones are a danger to whoever
 * unpickles them. */
#ifndef LT_FORMAT_PICKLE_GLOBALS_H
#define LT_FORMAT_PICKLE_GLOBALS_H

#include "format/pickle.h"
#include "loratool/store.h"

typedef enum lt_meaning {
    LT_MEANS_NOTHING, /* not listed */
    LT_MEANS_DATA,    /* a value without tensors: numbers, devices, numpy arrays */
    LT_MEANS_MAP,     /* a kind of dict */
    LT_MEANS_SEQUENCE,
    LT_MEANS_PARAMETERS, /* a module that holds parameters and nothing else */
    LT_MEANS_TENSOR,     /* (storage, offset, size, stride) */
    LT_MEANS_TENSOR_V2,  /* (..., requires_grad, hooks[, metadata]) */
    LT_MEANS_TENSOR_V3,  /* (..., requires_grad, hooks, dtype[, metadata]) */
    LT_MEANS_PARAMETER,  /* (tensor, ...) */
    LT_MEANS_FROM_TYPE,  /* (function, type, its arguments, state) */
    LT_MEANS_STORAGE,    /* detail: lt_dtype */
    LT_MEANS_UNTYPED_STORAGE,
    LT_MEANS_QUANTISED_STORAGE, /* detail: the lt_dtype of the same size */
    LT_MEANS_DTYPE,             /* detail: lt_dtype */
    LT_MEANS_UNREAD_TENSOR,     /* detail: for lt_unread_text */
} lt_meaning;

/* detail (NULL allowed) is set for the meanings that have one. */
lt_meaning lt_global_meaning(const char *name, int *detail);
/* "a sparse tensor" */
const char *lt_unread_text(int detail);

/* name: "os.system"; its first module_size bytes name the module. */
lt_verdict lt_global_verdict(const char *name, size_t module_size);

/* For lt_pickle.on_global, with the lt_store as context: counts the mention there and
 * sets the value's meaning. */
lt_status lt_note_global(
    void *store, lt_value *global, size_t module_size, uint64_t at, lt_error *err);

#endif
