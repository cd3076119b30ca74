/* SPDX-License-Identifier: MIT */
/* What torch.save wrote before torch 1.6, and still writes when it is told to: pickles in
 * a row, then the storages,
 *
 *   pickle   the integer 0x1950a86a20f9469cfc6c
 *   pickle   the integer 1001, the version
 *   pickle   a dict that tells about the writer's machine
 *   pickle   the object; its storages are persistent ids that hold a key
 *   pickle   a list of keys
 *   for each of them, in that order:
 *     8 bytes   count of elements
 *     bytes     the elements, one after the other
 *
 * Numbers and elements are little-endian: writers on other machines turn them round. */
#include "format/torch_object.h"

#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

static const unsigned char magic[10] = { 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8,
    0x50, 0x19 };
static const char magic_text[] = "119547037146038801333356";

/* Takes every pickle from protocol 2 on, so that one that is not torch's can be named;
 * only a safetensors file begins with as small a number. */
static bool probe(const unsigned char *head, size_t size, uint64_t file_size)
{
    (void)file_size;
    if (size > sizeof magic_text && head[0] == 'L')
        return !memcmp(head + 1, magic_text, sizeof magic_text - 1);
    return size > 9 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5
        && lt_little_u64(head) > LT_MAX_HEADER_SIZE;
}

static bool is_magic(const lt_value *v)
{
    if (v->kind != LT_VALUE_BIG) return false;
    if (v->text.size == sizeof magic && !memcmp(v->text.data, magic, sizeof magic))
        return true;
    return v->text.size == sizeof magic_text - 1
        && !memcmp(v->text.data, magic_text, v->text.size);
}

/* What is no torch file may be made to look like one to whoever unpickles it first and
 * compares then. */
static lt_status refuse_other(const lt_store *store, lt_error *err)
{
    for (size_t i = 0; i < store->n_globals; i++)
        if (store->globals[i].verdict == LT_DANGEROUS)
            return lt_error_at(err, LT_ERR_FORMAT, store->globals[i].offset,
                "this is a pickle that torch did not save tensors with, and it names "
                "'%.200s': unpickling it would run code",
                store->globals[i].name);
    return lt_error_at(err, LT_ERR_UNSUPPORTED, 0,
        "this is a pickle, but not one that torch saved tensors with");
}

static lt_status read_preamble(lt_torch *t, lt_cursor *c, lt_error *err)
{
    lt_value *v;
    uint64_t version, at;
    lt_status st = lt_pickle_read(&t->pickle, c, &v, err);
    if (st) return st;
    if (!is_magic(v)) return refuse_other(t->store, err);
    at = lt_cursor_position(c);
    st = lt_pickle_read(&t->pickle, c, &v, err);
    if (st) return st;
    if (!lt_value_uint(v, &version) || version != 1001)
        return lt_error_at(
            err, LT_ERR_UNSUPPORTED, at, "a torch file of another version than 1001");
    return lt_pickle_read(&t->pickle, c, &v, err);
}

/* The count and the elements of one storage, at the cursor. */
static lt_status read_storage(
    lt_torch *t, lt_cursor *c, size_t order, const lt_value *key_value, lt_error *err)
{
    const char *key = lt_torch_key(t, key_value, err);
    if (!key) return LT_ERR_FORMAT;
    uint64_t at = lt_cursor_position(c), count = lt_cursor_uint(c, 8), size;
    if (c->status) return lt_error_where(err, "storage '%.100s'", key);
    size_t index = lt_map_get(&t->storage_by_key, key);
    if (index == LT_MAP_NONE) {
        lt_error_at(err, LT_ERR_FORMAT, at, "the object does not mention it");
        return lt_error_where(err, "storage '%.100s'", key);
    }
    lt_storage *s = &t->storages[index];
    lt_status st = LT_OK;
    if (s->placed)
        st = lt_error_at(err, LT_ERR_FORMAT, at, "it stands twice");
    else if (!lt_mul_size(count, s->item, &size) || size != s->size)
        st = lt_error_at(err, LT_ERR_FORMAT, at,
            "it has %llu elements of %u bytes, but the object counts on %llu bytes",
            (unsigned long long)count, s->item, (unsigned long long)s->size);
    if (!st) lt_cursor_skip(c, size);
    if (st || c->status) return lt_error_where(err, "storage '%.100s'", key);
    lt_torch_place(s, size, at + 8, 0, order);
    return LT_OK;
}

static lt_status read_storages(lt_torch *t, lt_cursor *c, lt_error *err)
{
    lt_value *keys;
    uint64_t at = lt_cursor_position(c);
    lt_status st = lt_pickle_read(&t->pickle, c, &keys, err);
    if (st) return st;
    if (keys->kind != LT_VALUE_LIST)
        return lt_error_at(err, LT_ERR_FORMAT, at, "the list of storages is %s",
            lt_value_kind_text((lt_value_kind)keys->kind));
    for (uint32_t i = 0; i < keys->list.count && !st; i++)
        st = read_storage(t, c, i, keys->list.items[i], err);
    if (st) lt_error_place(err, at);
    return st;
}

static lt_status read_header(lt_store *store, lt_error *err)
{
    lt_torch *t;
    lt_cursor c;
    lt_value *root;
    lt_status st = lt_torch_new(&t, store, err);
    if (st) return st;
    lt_cursor_file(&c, store->source, 0, lt_source_size(store->source), err);
    st = read_preamble(t, &c, err);
    if (!st) st = lt_pickle_read(&t->pickle, &c, &root, err);
    if (!st) st = lt_torch_resolve(t, err);
    if (!st) st = read_storages(t, &c, err);
    lt_cursor_release(&c);
    if (!st) st = lt_torch_collect(t, root, err);
    return st ? st : lt_torch_finish(t, err);
}

const lt_format lt_format_torch_legacy = { "torch legacy", probe, read_header,
    lt_torch_read, lt_torch_in_place, lt_torch_alias, lt_torch_release };
