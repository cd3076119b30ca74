/* SPDX-License-Identifier: MIT */
#include "format/pickle_machine.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

const char *lt_value_kind_text(lt_value_kind kind)
{
    static const char *const texts[] = {
        [LT_VALUE_NONE] = "None",
        [LT_VALUE_BOOL] = "a boolean",
        [LT_VALUE_INT] = "an integer",
        [LT_VALUE_BIG] = "a large integer",
        [LT_VALUE_FLOAT] = "a number",
        [LT_VALUE_STRING] = "a string",
        [LT_VALUE_BYTES] = "bytes",
        [LT_VALUE_TUPLE] = "a tuple",
        [LT_VALUE_LIST] = "a list",
        [LT_VALUE_SET] = "a set",
        [LT_VALUE_DICT] = "a dict",
        [LT_VALUE_GLOBAL] = "a global",
        [LT_VALUE_CALL] = "an object",
        [LT_VALUE_PERSISTENT] = "a persistent object",
    };
    return texts[kind];
}

bool lt_value_is(const lt_value *v, const char *text)
{
    return v->kind == LT_VALUE_STRING && v->text.size == strlen(text)
        && !memcmp(v->text.data, text, v->text.size);
}

bool lt_value_uint(const lt_value *v, uint64_t *out)
{
    if (v->kind != LT_VALUE_INT || v->integer < 0) return false;
    *out = (uint64_t)v->integer;
    return true;
}

/* ---- keys -------------------------------------------------------------------------- */

/* A dict's key such that equal keys sort together; kind, a and b are equal for equal
 * ones. Python's 1, 1.0 and True are one key. Objects are compared by identity. */
struct key {
    int kind;
    uint64_t a, b;
    uint32_t index; /* of the pair */
    const lt_value *value;
};

static struct key make_key(const lt_value *v, uint32_t index)
{
    struct key k = { v->kind, 0, 0, index, v };
    if (v->kind == LT_VALUE_BOOL || v->kind == LT_VALUE_INT) {
        k.kind = LT_VALUE_INT;
        k.a = v->kind == LT_VALUE_INT ? (uint64_t)v->integer : v->flag;
    } else if (v->kind == LT_VALUE_FLOAT) {
        bool whole =
            v->real >= -9e15 && v->real <= 9e15 && v->real == (double)(int64_t)v->real;
        if (whole) k.kind = LT_VALUE_INT;
        if (whole)
            k.a = (uint64_t)(int64_t)v->real;
        else
            memcpy(&k.a, &v->real, sizeof k.a);
    } else if (v->kind == LT_VALUE_STRING || v->kind == LT_VALUE_BYTES) {
        k.a = v->text.size;
        k.b = v->text.hash;
    } else if (v->kind != LT_VALUE_NONE) {
        k.a = (uint64_t)(uintptr_t)v;
    }
    return k;
}

static int compare_keys(const struct key *x, const struct key *y)
{
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int order = compare_keys(x, y);
    if (order) return order;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool equal_keys(const struct key *x, const struct key *y)
{
    if (compare_keys(x, y)) return false;
    if (x->value == y->value) return true;
    if (x->kind != LT_VALUE_STRING && x->kind != LT_VALUE_BYTES) return true;
    return !memcmp(x->value->text.data, y->value->text.data, (size_t)x->a);
}

/* As in Python, a later pair of the same key changes the value of the first. */
lt_status lt_pickle_make_unique(lt_value *dict, lt_error *err)
{
    uint32_t n = dict->list.count / 2, kept = 0;
    lt_value **items = dict->list.items;
    if (n < 2) return LT_OK;
    struct key *keys = lt_alloc_work(n, sizeof *keys, err);
    if (!keys) return LT_ERR_NOMEM;
    for (uint32_t i = 0; i < n; i++)
        keys[i] = make_key(items[2 * i], i);
    qsort(keys, n, sizeof *keys, by_key);
    for (uint32_t i = 1, first = 0; i < n; i++) {
        if (!equal_keys(&keys[first], &keys[i])) {
            first = i;
            continue;
        }
        items[2 * keys[first].index + 1] = items[2 * keys[i].index + 1];
        items[2 * keys[i].index] = NULL;
    }
    lt_free(keys);
    for (uint32_t i = 0; i < n; i++) {
        if (!items[2 * i]) continue;
        items[2 * kept] = items[2 * i];
        items[2 * kept++ + 1] = items[2 * i + 1];
    }
    dict->list.count = 2 * kept;
    return LT_OK;
}
