/* SPDX-License-Identifier: MIT */
/* A machine for the language of Python's pickles, protocols 0 to 5. It builds values and
 * nothing else: a global stays a name, a call of one stays a call. Nothing in a pickle is
 * ever looked up or run. */
#ifndef LT_FORMAT_PICKLE_H
#define LT_FORMAT_PICKLE_H

#include "base/arena.h"
#include "base/cursor.h"

#include <stdbool.h>

typedef enum lt_value_kind {
    LT_VALUE_NONE,
    LT_VALUE_BOOL,
    LT_VALUE_INT,
    LT_VALUE_BIG, /* an integer over 64 bits: as it stands in the pickle */
    LT_VALUE_FLOAT,
    LT_VALUE_STRING, /* UTF-8 unless written by Python 2; NUL-terminated, may hold NULs */
    LT_VALUE_BYTES,
    LT_VALUE_TUPLE,
    LT_VALUE_LIST,
    LT_VALUE_SET,
    LT_VALUE_DICT,
    LT_VALUE_GLOBAL,
    LT_VALUE_CALL,
    LT_VALUE_PERSISTENT,
} lt_value_kind;

typedef struct lt_value lt_value;

/* callee(*args, **kwargs), and what was done to the result. NULL where there is none. */
typedef struct lt_call {
    lt_value *callee, *args, *kwargs;
    lt_value *state; /* what __setstate__ got; of several, a tuple */
    lt_value *items; /* a list: appended or added */
    lt_value *pairs; /* a dict: stored under keys */
} lt_call;

/* An object that lies outside of the pickle. */
typedef struct lt_persistent lt_persistent;
struct lt_persistent {
    lt_value *id;
    lt_persistent *next; /* the one made before */
    size_t found;        /* for whoever resolves it */
    uint64_t at;         /* of the operation, as lt_cursor_position */
};

/* Belongs to the lt_pickle that made it; values may be shared and may form cycles. */
struct lt_value {
    uint8_t kind;
    bool flag;     /* BOOL */
    uint32_t mark; /* for whoever walks the values: 0 at first */
    union {
        int64_t integer;
        double real;
        struct {
            const char *data;
            uint32_t size, hash;
        } text; /* STRING, BYTES, BIG */
        struct {
            lt_value **items; /* DICT: key, value, key, value, ... */
            uint32_t count, capacity;
            lt_value *next; /* DICT: the one made before */
        } list;             /* TUPLE, LIST, SET, DICT */
        struct {
            const char *name; /* "collections.OrderedDict" */
            int meaning;      /* set by on_global */
            int detail;
        } global;
        lt_persistent *persistent;
        lt_call *call;
    };
};

/* Called for each mention of a global, whose meaning and detail it may set. The first
 * module_size bytes of the name are the module's; the operation that mentions it is at
 * the cursor's position at. */
typedef lt_status (*lt_global_fn)(
    void *ctx, lt_value *global, size_t module_size, uint64_t at, lt_error *err);

typedef struct lt_pickle {
    lt_arena arena;
    uint64_t n_values;          /* of all pickles read so far */
    lt_value *dicts;            /* the last one made */
    lt_persistent *persistents; /* likewise */
    lt_value *none, *truth[2];
    lt_global_fn on_global; /* may be NULL */
    void *ctx;
} lt_pickle;

/* Zero-initialise, read any number of pickles. */
lt_status lt_pickle_read(
    lt_pickle *p, lt_cursor *c, lt_value **root, lt_error *err) LT_MUST_USE;
void lt_pickle_release(lt_pickle *p);

/* "integer", "dict", ...: with an article where one is needed for a sentence. */
const char *lt_value_kind_text(lt_value_kind kind);

/* The string is exactly that text. */
bool lt_value_is(const lt_value *v, const char *text);
/* An integer from 0 on; false when it is none. */
bool lt_value_uint(const lt_value *v, uint64_t *out);

#endif
