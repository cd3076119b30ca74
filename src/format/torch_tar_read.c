/* SPDX-License-Identifier: MIT */
/* What torch.save wrote before torch 0.2: a tar archive of three members,
 *
 *   storages   pickle: count; for each: pickle (key, location, class), then 8 bytes
 *              count of elements and the elements; pickle: list of parts of storages
 *              (key, key of the whole, offset, size), in elements
 *   tensors    pickle: count; for each: pickle (key, storage's key, class), then 4 bytes
 *              dimensions, 4 bytes of nothing, 8 bytes for each size, 8 for each stride,
 *              8 bytes offset, in elements
 *   pickle     the object; persistent ids are the keys of tensors and storages */
#include "format/torch_object.h"

#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

#define RECORD 512u

struct member {
    uint64_t offset, size;
    bool there;
};

struct reader {
    lt_torch *t;
    lt_cursor c;
    uint64_t at; /* of the pickle that was read last, in the file */
    lt_error *err;
};

static bool probe(const unsigned char *head, size_t size, uint64_t file_size)
{
    (void)file_size;
    return size >= 262 && !memcmp(head + 257, "ustar", 5);
}

/* ---- tar --------------------------------------------------------------------------- */

/* Octal digits, spaces around them; or, with the first bit set, a big-endian number. */
static bool read_number(const unsigned char *p, size_t n, uint64_t *out)
{
    size_t i = 0;
    *out = 0;
    if (p[0] & 0x80) {
        for (i = 0; i < n; i++) {
            if (*out >> 55) return false;
            *out = *out << 8 | (i ? p[i] : p[i] & 0x7f);
        }
        return true;
    }
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        *out = *out << 3 | (uint64_t)(p[i] - '0');
    return i == n || p[i] == ' ' || !p[i];
}

/* The sum of the record's bytes, with spaces in the place of the sum itself. */
static bool sum_fits(const unsigned char *record)
{
    uint64_t sum, expected = 0;
    for (size_t i = 0; i < RECORD; i++)
        expected += i >= 148 && i < 156 ? ' ' : record[i];
    return read_number(record + 148, 8, &sum) && sum == expected;
}

static bool is_empty(const unsigned char *record)
{
    for (size_t i = 0; i < RECORD; i++)
        if (record[i]) return false;
    return true;
}

static void note_member(
    const unsigned char *record, uint64_t at, uint64_t size, struct member members[3])
{
    static const char *const names[3] = { "storages", "tensors", "pickle" };
    char name[101];
    memcpy(name, record, 100);
    name[100] = 0;
    const char *plain = strncmp(name, "./", 2) ? name : name + 2;
    bool regular = record[156] == '0' || !record[156];
    for (int i = 0; i < 3 && regular; i++)
        if (!strcmp(plain, names[i]))
            members[i] = (struct member){ at + RECORD, size, true };
}

static lt_status find_members(
    const lt_source *source, struct member members[3], lt_error *err)
{
    unsigned char record[RECORD];
    uint64_t file_size = lt_source_size(source), size;
    for (uint64_t at = 0; file_size - at >= RECORD;) {
        lt_status st = lt_source_read(source, at, record, RECORD, err);
        if (st) return st;
        if (is_empty(record)) break;
        if (!sum_fits(record) || !read_number(record + 124, 12, &size))
            return lt_error_at(err, LT_ERR_FORMAT, at, "tar: a damaged header");
        if (size > file_size - at - RECORD)
            return lt_error_at(err, LT_ERR_FORMAT, at,
                "tar: a member goes past the end of the file: it is truncated");
        note_member(record, at, size, members);
        uint64_t padded = (size + RECORD - 1) / RECORD * RECORD;
        if (padded > file_size - at - RECORD) break;
        at += RECORD + padded;
    }
    if (members[0].there && members[1].there && members[2].there) return LT_OK;
    return lt_error_set(err, LT_ERR_UNSUPPORTED,
        "this is a tar archive, but not one that torch saved tensors in");
}

/* ---- members ----------------------------------------------------------------------- */

static void begin(struct reader *r, const struct member *m)
{
    lt_cursor_file(&r->c, r->t->store->source, m->offset, m->size, r->err);
}

static lt_status read_pickle(struct reader *r, lt_value **v)
{
    r->at = lt_cursor_position(&r->c);
    return lt_pickle_read(&r->t->pickle, &r->c, v, r->err);
}

static lt_status read_count(struct reader *r, uint64_t *count)
{
    lt_value *v;
    lt_status st = read_pickle(r, &v);
    if (st) return st;
    if (!lt_value_uint(v, count))
        return lt_error_set(r->err, LT_ERR_FORMAT, "a count is no integer");
    return LT_OK;
}

/* A tuple (or list) of n. */
static lt_status read_tuple(struct reader *r, uint32_t n, lt_value ***items)
{
    lt_value *v;
    lt_status st = read_pickle(r, &v);
    if (st) return st;
    if ((v->kind != LT_VALUE_TUPLE && v->kind != LT_VALUE_LIST) || v->list.count != n)
        return lt_error_set(r->err, LT_ERR_FORMAT, "a description is damaged");
    *items = v->list.items;
    return LT_OK;
}

/* Makes the referent known by its key. */
static lt_status list_referent(
    struct reader *r, const lt_value *key_value, const lt_referent *referent)
{
    size_t index, found;
    const char *key = lt_torch_key(r->t, key_value, r->err);
    if (!key) return LT_ERR_FORMAT;
    lt_status st = lt_torch_refer(r->t, referent, &index, r->err);
    if (!st) st = lt_map_put(&r->t->referent_by_key, key, index, &found, r->err);
    if (!st && found != LT_MAP_NONE)
        st = lt_error_set(r->err, LT_ERR_FORMAT, "the key '%.100s' stands twice", key);
    return st;
}

static lt_status find_storage(
    struct reader *r, const lt_value *key_value, const lt_referent **out)
{
    const char *key = lt_torch_key(r->t, key_value, r->err);
    if (!key) return LT_ERR_FORMAT;
    size_t index = lt_map_get(&r->t->referent_by_key, key);
    if (index == LT_MAP_NONE || r->t->referents[index].kind != LT_REFERS_STORAGE)
        return lt_error_set(r->err, LT_ERR_FORMAT, "no storage '%.100s'", key);
    *out = &r->t->referents[index];
    return LT_OK;
}

static lt_status read_storage(struct reader *r, size_t order)
{
    lt_value **v = NULL;
    lt_referent part = { .kind = LT_REFERS_STORAGE };
    lt_status st = read_tuple(r, 3, &v);
    if (!v) return st;
    if (!st) st = lt_torch_class(v[2], &part.dtype, &part.unread, r->err);
    const char *key = st ? NULL : lt_torch_key(r->t, v[0], r->err);
    if (!key) return st ? st : LT_ERR_FORMAT;
    unsigned item = lt_dtype_get(part.dtype)->bits / 8;
    uint64_t at = lt_cursor_position(&r->c), count = lt_cursor_uint(&r->c, 8);
    if (r->c.status) return r->c.status;
    if (!lt_mul_size(count, item, &part.size))
        return lt_error_at(r->err, LT_ERR_FORMAT, at, "a storage's size overflows");
    lt_cursor_skip(&r->c, part.size);
    if (r->c.status) return r->c.status;
    st = lt_torch_storage(r->t, key, item, part.size, &part.storage, r->err);
    if (st) return st;
    lt_torch_place(&r->t->storages[part.storage], part.size, at + 8, 0, order);
    return list_referent(r, v[0], &part);
}

/* (key, key of the whole, offset, size) */
static lt_status read_part(struct reader *r, const lt_value *v)
{
    const lt_referent *whole = NULL;
    uint64_t offset = 0, size = 0, end = 0;
    if ((v->kind != LT_VALUE_TUPLE && v->kind != LT_VALUE_LIST) || v->list.count != 4)
        return lt_error_set(r->err, LT_ERR_FORMAT, "a storage's view is damaged");
    lt_value **items = v->list.items;
    lt_status st = find_storage(r, items[1], &whole);
    if (!whole) return st;
    lt_referent part = *whole;
    unsigned item = lt_dtype_get(part.dtype)->bits / 8;
    if (!lt_value_uint(items[2], &offset) || !lt_value_uint(items[3], &size)
        || !lt_mul_size(offset, item, &offset) || !lt_mul_size(size, item, &size)
        || !lt_add_size(offset, size, &end) || end > part.size)
        return lt_error_set(
            r->err, LT_ERR_FORMAT, "a storage's view goes past the end of the storage");
    part.first += offset;
    part.size = size;
    return list_referent(r, items[0], &part);
}

static lt_status read_storages(struct reader *r)
{
    uint64_t count = 0;
    lt_value *views;
    lt_status st = read_count(r, &count);
    for (uint64_t i = 0; i < count && !st; i++)
        st = read_storage(r, (size_t)i);
    if (!st) st = read_pickle(r, &views);
    if (st) return st;
    if (views->kind != LT_VALUE_LIST)
        return lt_error_set(r->err, LT_ERR_FORMAT, "the list of views is %s",
            lt_value_kind_text((lt_value_kind)views->kind));
    for (uint32_t i = 0; i < views->list.count && !st; i++)
        st = read_part(r, views->list.items[i]);
    return st;
}

static lt_status read_layout(struct reader *r, lt_referent *made, uint64_t *offset)
{
    lt_tensor *t = &made->tensor;
    uint64_t at = lt_cursor_position(&r->c), n = lt_cursor_uint(&r->c, 4);
    lt_cursor_skip(&r->c, 4);
    if (!r->c.status && n > LT_MAX_DIMS)
        return lt_error_at(r->err, LT_ERR_LIMIT, at, "more dimensions than are handled");
    t->n_dims = r->c.status ? 0 : (unsigned)n;
    for (unsigned i = 0; i < t->n_dims; i++)
        t->shape[i] = lt_cursor_uint(&r->c, 8);
    for (unsigned i = 0; i < t->n_dims; i++)
        made->view.strides[i] = lt_cursor_uint(&r->c, 8);
    *offset = lt_cursor_uint(&r->c, 8);
    if (r->c.status) return r->c.status;
    bool negative = *offset >> 63;
    for (unsigned i = 0; i < t->n_dims; i++)
        negative |= t->shape[i] >> 63 || made->view.strides[i] >> 63;
    return negative ? lt_error_at(r->err, LT_ERR_FORMAT, at, "a negative size") : LT_OK;
}

static lt_status read_tensor(struct reader *r)
{
    lt_value **v = NULL;
    const lt_referent *whole = NULL;
    uint64_t offset = 0;
    lt_referent made = { .kind = LT_REFERS_TENSOR };
    lt_status st = read_tuple(r, 3, &v);
    if (!v) return st;
    if (!st) st = find_storage(r, v[1], &whole);
    if (!st) st = read_layout(r, &made, &offset);
    if (st || !whole) return st;
    made.unread = whole->unread;
    made.dtype = made.tensor.dtype = whole->dtype;
    if (!made.unread) st = lt_torch_lay(&made.tensor, &made.view, offset, whole, r->err);
    return st ? st : list_referent(r, v[0], &made);
}

static lt_status read_tensors(struct reader *r)
{
    uint64_t count = 0;
    lt_status st = read_count(r, &count);
    for (uint64_t i = 0; i < count && !st; i++)
        st = read_tensor(r);
    return st;
}

static lt_status read_object(struct reader *r)
{
    lt_value *root;
    lt_status st = read_pickle(r, &root);
    if (!st) st = lt_torch_resolve(r->t, r->err);
    return st ? st : lt_torch_collect(r->t, root, r->err);
}

static lt_status read_header(lt_store *store, lt_error *err)
{
    static lt_status (*const readers[3])(
        struct reader * r) = { read_storages, read_tensors, read_object };
    static const char *const names[3] = { "storages", "tensors", "pickle" };
    struct member members[3] = { 0 };
    struct reader r = { .err = err };
    lt_status st = lt_torch_new(&r.t, store, err);
    if (!st) st = find_members(store->source, members, err);
    for (int i = 0; i < 3 && !st; i++) {
        begin(&r, &members[i]);
        st = readers[i](&r);
        lt_cursor_release(&r.c);
        if (st) lt_error_place(err, r.at);
        if (st) return lt_error_where(err, "%s", names[i]);
    }
    return st ? st : lt_torch_finish(r.t, err);
}

const lt_format lt_format_torch_tar = { "torch tar", probe, read_header, lt_torch_read,
    lt_torch_in_place, lt_torch_alias, lt_torch_release };
