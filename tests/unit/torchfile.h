/* SPDX-License-Identifier: MIT */
/* Small torch files built in code: pickles, zip archives, tar archives. */
#ifndef LT_TESTS_TORCHFILE_H
#define LT_TESTS_TORCHFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX 16384

typedef struct bytes {
    unsigned char p[BYTES_MAX];
    size_t n;
} bytes;

static inline void put(bytes *b, const void *p, size_t n)
{
    if (b->n + n > sizeof b->p) abort();
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void put_text(bytes *b, const char *s)
{
    put(b, s, strlen(s));
}

/* size bytes, little-endian; more than 8 are zeros. */
static inline void put_uint(bytes *b, uint64_t v, int size)
{
    for (int i = 0; i < size; i++) {
        unsigned char c = i < 8 ? (unsigned char)(v >> 8 * i) : 0;
        put(b, &c, 1);
    }
}

/* ---- pickles ----------------------------------------------------------------------- */

static inline void pickle_string(bytes *b, const char *s, size_t n)
{
    put(b, "X", 1);
    put_uint(b, n, 4);
    put(b, s, n);
}

static inline void pickle_int(bytes *b, int64_t v)
{
    put(b, "\x8a\x08", 2);
    put_uint(b, (uint64_t)v, 8);
}

static inline void pickle_global(bytes *b, const char *module, const char *name)
{
    put(b, "c", 1);
    put_text(b, module);
    put(b, "\n", 1);
    put_text(b, name);
    put(b, "\n", 1);
}

typedef struct made {
    const char *key, *class;
    int64_t numel, offset;
    int n_dims;
    int64_t shape[4], strides[4];
    int64_t part[2]; /* legacy: of the storage */
    bool legacy, has_part;
} made;

static inline void pickle_storage(bytes *b, const made *m)
{
    put(b, "(", 1);
    pickle_string(b, "storage", 7);
    pickle_global(b, "torch", m->class);
    pickle_string(b, m->key, strlen(m->key));
    pickle_string(b, "cpu", 3);
    pickle_int(b, m->numel);
    if (m->has_part) {
        pickle_string(b, "view", 4);
        pickle_int(b, m->part[0]);
        pickle_int(b, m->part[1]);
        put(b, "\x87", 1);
    } else if (m->legacy) {
        put(b, "N", 1);
    }
    put(b, "tQ", 2);
}

static inline void pickle_tensor(bytes *b, const made *m)
{
    pickle_global(b, "torch._utils", "_rebuild_tensor_v2");
    put(b, "(", 1);
    pickle_storage(b, m);
    pickle_int(b, m->offset);
    put(b, "(", 1);
    for (int i = 0; i < m->n_dims; i++)
        pickle_int(b, m->shape[i]);
    put(b, "t(", 2);
    for (int i = 0; i < m->n_dims; i++)
        pickle_int(b, m->strides[i]);
    put(b,
        "t\x89N"
        "tR",
        5);
}

/* Objects in a short notation: {key:value,...} [value,...] digits N (None) T (a tensor of
 * four floats in storage "0") S (a sparse one) P (a parameter that is T) O (an object of
 * an unknown class that holds T) "text". Returns what follows the value. */
static inline const char *pickle_object(bytes *b, const char *s)
{
    static const made tensor = { .key = "0",
        .class = "FloatStorage",
        .numel = 4,
        .n_dims = 1,
        .shape = { 4 },
        .strides = { 1 } };
    const char *end;
    switch (*s) {
    case '{':
        put(b, "}(", 2);
        for (s++; *s != '}'; s += *s == ',') {
            end = strchr(s, ':');
            pickle_string(b, s, (size_t)(end - s));
            s = pickle_object(b, end + 1);
        }
        put(b, "u", 1);
        return s + 1;
    case '[':
        put(b, "](", 2);
        for (s++; *s != ']'; s += *s == ',')
            s = pickle_object(b, s);
        put(b, "e", 1);
        return s + 1;
    case '"':
        end = strchr(s + 1, '"');
        pickle_string(b, s + 1, (size_t)(end - s - 1));
        return end + 1;
    case 'N': put(b, "N", 1); return s + 1;
    case 'T': pickle_tensor(b, &tensor); return s + 1;
    case 'S':
        pickle_global(b, "torch._utils", "_rebuild_sparse_tensor");
        put(b, ")R", 2);
        return s + 1;
    case 'P':
        pickle_global(b, "torch._utils", "_rebuild_parameter");
        put(b, "(", 1);
        pickle_tensor(b, &tensor);
        put(b, "\x88NtR", 4);
        return s + 1;
    case 'O':
        pickle_global(b, "some.module", "Thing");
        put(b, ")\x81}", 3);
        pickle_string(b, "inner", 5);
        pickle_tensor(b, &tensor);
        put(b, "sb", 2);
        return s + 1;
    default: pickle_int(b, strtoll(s, (char **)&end, 10)); return end;
    }
}

/* ---- zip archives ------------------------------------------------------------------ */

typedef struct zip_maker {
    bytes file, directory;
    unsigned count;
} zip_maker;

/* Entry fields that may lie; zero for those that do not. */
typedef struct zip_lies {
    bool deflated; /* as one block that is not compressed */
    bool locked;
    unsigned method; /* when not 0 */
    size_t size;     /* when not 0 */
    bool absent;     /* only the directory knows it; its header is that of the first */
    size_t padding;  /* of the local extra field */
} zip_lies;

static inline void zip_fields(
    bytes *b, unsigned method, bool locked, size_t packed, size_t size)
{
    put_uint(b, 20, 2);
    put_uint(b, locked, 2);
    put_uint(b, method, 2);
    put_uint(b, 0, 4); /* time */
    put_uint(b, 0, 4); /* a checksum that is wrong */
    put_uint(b, packed, 4);
    put_uint(b, size, 4);
}

static inline void zip_add(
    zip_maker *z, const char *name, const void *data, size_t size, const zip_lies *lies)
{
    static const zip_lies none;
    const zip_lies *l = lies ? lies : &none;
    bytes *f = &z->file, *d = &z->directory;
    size_t at = l->absent ? 0 : f->n, packed = size + (l->deflated ? 5 : 0);
    size_t told = l->size ? l->size : size, told_packed = l->size ? l->size : packed;
    unsigned method = l->method ? l->method : l->deflated ? 8 : 0;
    if (l->deflated && l->size) told_packed = packed;
    if (!l->absent) {
        put(f, "PK\3\4", 4);
        zip_fields(f, method, l->locked, told_packed, told);
        put_uint(f, strlen(name), 2);
        put_uint(f, l->padding, 2);
        put_text(f, name);
        for (size_t i = 0; i < l->padding; i++)
            put(f, "Z", 1);
        if (l->deflated) {
            put(f, "\1", 1);
            put_uint(f, size, 2);
            put_uint(f, ~size, 2);
        }
        put(f, data, size);
    }
    put(d, "PK\1\2\x14\0", 6);
    zip_fields(d, method, l->locked, told_packed, told);
    put_uint(d, strlen(name), 2);
    put_uint(d, 0, 12);
    put_uint(d, at, 4);
    put_text(d, name);
    z->count++;
}

static inline void zip_end(zip_maker *z)
{
    size_t at = z->file.n, size = z->directory.n;
    put(&z->file, z->directory.p, size);
    put(&z->file, "PK\5\6\0\0\0\0", 8);
    put_uint(&z->file, z->count, 2);
    put_uint(&z->file, z->count, 2);
    put_uint(&z->file, size, 4);
    put_uint(&z->file, at, 4);
    put_uint(&z->file, 0, 2);
}

/* ---- tar archives ------------------------------------------------------------------ */

static inline void tar_add(bytes *b, const char *name, const bytes *content)
{
    unsigned char record[512] = { 0 };
    unsigned sum = 0;
    memcpy(record, name, strlen(name));
    memcpy(record + 100, "0000644", 7);
    for (int i = 0; i < 11; i++)
        record[124 + i] = (unsigned char)('0' + (content->n >> 3 * (10 - i) & 7));
    memset(record + 148, ' ', 8);
    record[156] = '0';
    memcpy(record + 257, "ustar\00000", 8);
    for (size_t i = 0; i < sizeof record; i++)
        sum += record[i];
    for (int i = 0; i < 6; i++)
        record[148 + i] = (unsigned char)('0' + (sum >> 3 * (5 - i) & 7));
    record[154] = 0;
    put(b, record, sizeof record);
    put(b, content->p, content->n);
    memset(record, 0, sizeof record);
    put(b, record, (512 - content->n % 512) % 512);
}

#endif
