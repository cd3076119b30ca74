/* SPDX-License-Identifier: MIT */
/* torch's zip format, as torch.save writes a dict of contiguous tensors on the CPU and as
 * torch.load(weights_only=True) reads it:
 *
 *   archive/data.pkl             the dict, protocol 2; each tensor a call of
 *                                torch._utils._rebuild_tensor_v2, its bytes a persistent
 *                                id ('storage', type, key, 'cpu', elements)
 *   archive/.format_version      1
 *   archive/.storage_alignment   64
 *   archive/byteorder            little
 *   archive/data/KEY             the bytes of storage KEY
 *   archive/version              3
 *
 * Tensors that are the same memory name the same storage. */
#include "format/format.h"

#include "base/mem.h"
#include "format/archive_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#define MAX_MEMOS 64

enum opcode {
    PROTO = 0x80,
    STOP = '.',
    MARK = '(',
    TUPLE = 't',
    EMPTY_TUPLE = ')',
    EMPTY_DICT = '}',
    SETITEMS = 'u',
    GLOBAL = 'c',
    REDUCE = 'R',
    BINPERSID = 'Q',
    BINUNICODE = 'X',
    BININT = 'J',
    BININT1 = 'K',
    BININT2 = 'M',
    LONG1 = 0x8a,
    NEWFALSE = 0x89,
    BINPUT = 'q',
    BINGET = 'h',
};

struct pickler {
    char *p;
    size_t size, capacity;
    const char *memos[MAX_MEMOS]; /* texts and globals that were put, by their slot */
    unsigned n_memos;
    lt_status st;
    lt_error *err;
};

static void put(struct pickler *k, const void *bytes, size_t size)
{
    if (!k->st) k->st = lt_grow((void **)&k->p, &k->capacity, k->size + size, 1, k->err);
    if (k->st) return;
    memcpy(k->p + k->size, bytes, size);
    k->size += size;
}

static void put_byte(struct pickler *k, unsigned byte)
{
    unsigned char b = (unsigned char)byte;
    put(k, &b, 1);
}

static void put_little(struct pickler *k, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        put_byte(k, (unsigned)(value >> 8 * i & 0xff));
}

static void put_integer(struct pickler *k, uint64_t v)
{
    static const struct {
        enum opcode op;
        int bytes;
        uint64_t limit;
    } forms[] = { { BININT1, 1, 0x100 }, { BININT2, 2, 0x10000 },
        { BININT, 4, 0x80000000 } };
    for (int i = 0; i < 3; i++) {
        if (v >= forms[i].limit) continue;
        put_byte(k, forms[i].op);
        put_little(k, v, forms[i].bytes);
        return;
    }
    put_byte(k, LONG1);
    put_byte(k, 9); /* the ninth byte keeps it positive */
    put_little(k, v, 8);
    put_byte(k, 0);
}

static void put_text(struct pickler *k, const char *text)
{
    put_byte(k, BINUNICODE);
    put_little(k, strlen(text), 4);
    put(k, text, strlen(text));
}

/* True when text was put before and is taken from the memo now. Otherwise the caller puts
 * it and keeps it. */
static bool recall(struct pickler *k, const char *text)
{
    for (unsigned i = 0; i < k->n_memos; i++) {
        if (strcmp(k->memos[i], text)) continue;
        put_byte(k, BINGET);
        put_byte(k, i);
        return true;
    }
    return false;
}

static void keep(struct pickler *k, const char *text)
{
    if (k->n_memos == MAX_MEMOS) return;
    put_byte(k, BINPUT);
    put_byte(k, k->n_memos);
    k->memos[k->n_memos++] = text;
}

static void put_word(struct pickler *k, const char *text)
{
    if (recall(k, text)) return;
    put_text(k, text);
    keep(k, text);
}

/* name: "module\nname\n", static */
static void put_global(struct pickler *k, const char *name)
{
    if (recall(k, name)) return;
    put_byte(k, GLOBAL);
    put(k, name, strlen(name));
    keep(k, name);
}

/* How torch names the type: an old one by its storage class; a new one by an untyped
 * storage and the type itself. */
static const struct type {
    lt_dtype dtype;
    const char *storage, *itself;
} types[] = {
    { LT_BOOL, "torch\nBoolStorage\n", NULL },
    { LT_U8, "torch\nByteStorage\n", NULL },
    { LT_I8, "torch\nCharStorage\n", NULL },
    { LT_I16, "torch\nShortStorage\n", NULL },
    { LT_I32, "torch\nIntStorage\n", NULL },
    { LT_I64, "torch\nLongStorage\n", NULL },
    { LT_F16, "torch\nHalfStorage\n", NULL },
    { LT_BF16, "torch\nBFloat16Storage\n", NULL },
    { LT_F32, "torch\nFloatStorage\n", NULL },
    { LT_F64, "torch\nDoubleStorage\n", NULL },
    { LT_C64, "torch\nComplexFloatStorage\n", NULL },
    { LT_C128, "torch\nComplexDoubleStorage\n", NULL },
    { LT_C32, NULL, "torch\ncomplex32\n" },
    { LT_U16, NULL, "torch\nuint16\n" },
    { LT_U32, NULL, "torch\nuint32\n" },
    { LT_U64, NULL, "torch\nuint64\n" },
    { LT_F8_E5M2, NULL, "torch\nfloat8_e5m2\n" },
    { LT_F8_E4M3, NULL, "torch\nfloat8_e4m3fn\n" },
    { LT_F8_E8M0, NULL, "torch\nfloat8_e8m0fnu\n" },
    { LT_F8_E4M3FNUZ, NULL, "torch\nfloat8_e4m3fnuz\n" },
    { LT_F8_E5M2FNUZ, NULL, "torch\nfloat8_e5m2fnuz\n" },
};

static const struct type *type_of(lt_dtype dtype)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype) return &types[i];
    return NULL;
}

static bool holds(lt_dtype dtype)
{
    return type_of(dtype) != NULL;
}

static void put_tuple(struct pickler *k, const uint64_t *v, unsigned n)
{
    if (!n) {
        put_byte(k, EMPTY_TUPLE);
        return;
    }
    put_byte(k, MARK);
    for (unsigned i = 0; i < n; i++)
        put_integer(k, v[i]);
    put_byte(k, TUPLE);
}

static void put_storage(
    struct pickler *k, const struct type *type, const lt_tensor *t, size_t key)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", key);
    put_byte(k, MARK);
    put_word(k, "storage");
    put_global(k, type->storage ? type->storage : "torch.storage\nUntypedStorage\n");
    put_text(k, text);
    put_word(k, "cpu");
    put_integer(k, type->storage ? t->count : t->size);
    put_byte(k, TUPLE);
    put_byte(k, BINPERSID);
}

static void put_tensor(struct pickler *k, const lt_tensor *t, size_t key)
{
    const struct type *type = type_of(t->dtype);
    if (!type) { /* holds() was not asked */
        k->st = lt_error_set(k->err, LT_ERR_INTERNAL, "torch has no such type");
        return;
    }
    uint64_t strides[LT_MAX_DIMS], step = 1;
    for (unsigned i = t->n_dims; i-- > 0;) {
        uint64_t next = 0;
        if (t->shape[i] > INT64_MAX && !k->st)
            k->st = lt_error_set(
                k->err, LT_ERR_MISMATCH, "'%s' is longer than torch can say", t->name);
        strides[i] = step;
        /* Of a tensor without elements any strides will do. */
        if (lt_mul_size(step, t->shape[i] ? t->shape[i] : 1, &next) && next <= INT64_MAX)
            step = next;
    }
    put_global(k,
        type->storage ? "torch._utils\n_rebuild_tensor_v2\n"
                      : "torch._utils\n_rebuild_tensor_v3\n");
    put_byte(k, MARK);
    put_storage(k, type, t, key);
    put_integer(k, 0);
    put_tuple(k, t->shape, t->n_dims);
    put_tuple(k, strides, t->n_dims);
    put_byte(k, NEWFALSE);
    put_global(k, "collections\nOrderedDict\n");
    put_byte(k, EMPTY_TUPLE);
    put_byte(k, REDUCE);
    if (!type->storage) put_global(k, type->itself);
    put_byte(k, TUPLE);
    put_byte(k, REDUCE);
}

/* The wrapper's dicts from the outside in; their names are cut out of it. Returns how
 * many were opened. */
static unsigned open_wrapper(struct pickler *k, const char *wrapper)
{
    unsigned depth = 0;
    for (const char *p = wrapper; *p; depth++) {
        size_t n = strcspn(p, ".");
        put_byte(k, EMPTY_DICT);
        put_byte(k, MARK);
        put_byte(k, BINUNICODE);
        put_little(k, n, 4);
        put(k, p, n);
        p += n + (p[n] == '.');
    }
    return depth;
}

/* keys: the storage of each tensor of the writer. */
static void pickle_tensors(
    struct pickler *k, const lt_writer *w, const lt_volume *v, const size_t *keys)
{
    put_byte(k, PROTO);
    put_byte(k, 2);
    unsigned depth = open_wrapper(k, w->output.wrapper);
    put_byte(k, EMPTY_DICT);
    put_byte(k, MARK);
    for (size_t i = 0; i < v->count; i++) {
        const lt_tensor *t = &w->tensors[v->layout[i]];
        put_text(k, t->name + v->prefix_size);
        put_tensor(k, t, keys[w->alias_of[v->layout[i]]]);
    }
    put_byte(k, SETITEMS);
    while (depth--)
        put_byte(k, SETITEMS);
    put_byte(k, STOP);
}

/* The archive's entries in torch's order; data.pkl's bytes are k's. */
static lt_status list_entries(const lt_writer *w, lt_volume *v, const struct pickler *k,
    lt_entry *entries, size_t *count, lt_arena *arena, lt_error *err)
{
    lt_entry *e = entries;
    size_t key = 0;
    *e++ = (lt_entry){ .name = "archive/data.pkl", .bytes = k->p, .size = k->size };
    *e++ = (lt_entry){ .name = "archive/.format_version", .bytes = "1", .size = 1 };
    *e++ = (lt_entry){ .name = "archive/.storage_alignment", .bytes = "64", .size = 2 };
    *e++ = (lt_entry){ .name = "archive/byteorder", .bytes = "little", .size = 6 };
    for (size_t i = 0; i < v->count; i++) {
        size_t index = v->layout[i];
        if (w->alias_of[index] != index) continue;
        char *name = lt_arena_printf(arena, err, "archive/data/%zu", key++);
        if (!name) return LT_ERR_NOMEM;
        *e++ = (lt_entry){ .name = name,
            .data = v->data,
            .offset = w->tensors[index].offset,
            .size = w->tensors[index].size };
    }
    *e++ = (lt_entry){ .name = "archive/version", .bytes = "3\n", .size = 2 };
    *count = (size_t)(e - entries);
    return LT_OK;
}

static lt_status assemble(const lt_writer *w, lt_volume *v, lt_error *err)
{
    struct pickler k = { .err = err };
    lt_arena arena = { 0 };
    size_t key = 0, count = 0;
    size_t *keys = lt_alloc(w->count, sizeof *keys, err);
    lt_entry *entries = lt_alloc(v->count + 8, sizeof *entries, err);
    lt_status st = keys && entries ? LT_OK : LT_ERR_NOMEM;
    for (size_t i = 0; i < v->count && !st; i++)
        if (w->alias_of[v->layout[i]] == v->layout[i]) keys[v->layout[i]] = key++;
    if (!st) pickle_tensors(&k, w, v, keys);
    if (!st) st = k.st;
    if (!st) st = list_entries(w, v, &k, entries, &count, &arena, err);
    if (!st)
        st = lt_archive_write(v->file, entries, count, ALIGNMENT, &v->file_size, err);
    lt_arena_release(&arena);
    lt_free(entries);
    lt_free(keys);
    free(k.p);
    return st;
}

const lt_sink lt_sink_torch = { .id = "torch",
    .extensions = { "bin", "pt", "pth", "ckpt", NULL },
    .holds_aliases = true,
    .holds = holds,
    .assemble = assemble };
