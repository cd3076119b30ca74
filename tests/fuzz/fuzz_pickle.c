/* SPDX-License-Identifier: MIT */
/* The pickle machine: any number of pickles in a row, every value looked at. */
#include "fuzz.h"

#include "format/pickle.h"

#include <string.h>

static unsigned budget; /* of looks: values may be shared many times, and in cycles */

static void look(const lt_value *v, int depth);

static void look_at_call(const lt_call *call, int depth)
{
    const lt_value *parts[] = { call->callee, call->args, call->kwargs, call->state,
        call->items, call->pairs };
    FUZZ_CHECK(call->callee != NULL);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i]) look(parts[i], depth);
}

static void look(const lt_value *v, int depth)
{
    uint64_t number;
    if (depth > 200 || !budget || !budget--) return;
    FUZZ_CHECK(*lt_value_kind_text((lt_value_kind)v->kind));
    lt_value_uint(v, &number);
    lt_value_is(v, "storage");
    switch ((lt_value_kind)v->kind) {
    case LT_VALUE_STRING: FUZZ_CHECK(!v->text.data[v->text.size]); break;
    case LT_VALUE_BYTES:
    case LT_VALUE_BIG: FUZZ_CHECK(!memchr(v->text.data, 0, 0)); break;
    case LT_VALUE_TUPLE:
    case LT_VALUE_LIST:
    case LT_VALUE_SET:
    case LT_VALUE_DICT:
        FUZZ_CHECK(v->kind != LT_VALUE_DICT || v->list.count % 2 == 0);
        for (uint32_t i = 0; i < v->list.count; i++)
            look(v->list.items[i], depth + 1);
        break;
    case LT_VALUE_GLOBAL: FUZZ_CHECK(strchr(v->global.name, '.') != NULL); break;
    case LT_VALUE_CALL: look_at_call(v->call, depth + 1); break;
    case LT_VALUE_PERSISTENT: look(v->persistent->id, depth + 1); break;
    case LT_VALUE_NONE:
    case LT_VALUE_BOOL:
    case LT_VALUE_INT:
    case LT_VALUE_FLOAT: break;
    }
}

static lt_status on_global(
    void *ctx, lt_value *global, size_t module_size, uint64_t at, lt_error *err)
{
    (void)ctx;
    (void)at;
    (void)err;
    FUZZ_CHECK(global->global.name[module_size] == '.');
    return LT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_error err = LT_ERROR_INIT;
    lt_cursor cursor;
    lt_pickle pickle = { .on_global = on_global };
    lt_cursor_memory(&cursor, data, size, 0, &err);
    lt_status st = LT_OK;
    while (!st && lt_cursor_left(&cursor)) {
        lt_value *root = NULL;
        st = lt_pickle_read(&pickle, &cursor, &root, &err);
        if (!fuzz_judge(st, &err)) break;
        budget = 20000;
        look(root, 0);
    }
    lt_cursor_release(&cursor);
    lt_pickle_release(&pickle);
    return 0;
}
