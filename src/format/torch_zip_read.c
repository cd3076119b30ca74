/* SPDX-License-Identifier: MIT */
/* What torch.save has written since torch 1.6: a zip archive with one folder,
 *
 *   NAME/data.pkl    the object; its storages are persistent ids that hold a key
 *   NAME/data/KEY    a storage's bytes
 *   NAME/byteorder   "little" or "big"; little when it is missing
 *
 * and a few entries that say nothing about tensors. TorchScript programs look alike, but
 * have constants.pkl too. */
#include "format/torch_object.h"

#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

static bool probe(const unsigned char *head, size_t size, uint64_t file_size)
{
    (void)file_size;
    return size >= 4
        && (!memcmp(head, "PK\3\4", 4) || !memcmp(head, "PK\5\6", 4)); /* or empty */
}

/* name is FOLDER/last or last, and the folder's path is n bytes with its slash. */
static bool ends_with(const char *name, const char *last, size_t *n)
{
    size_t size = strlen(name), tail = strlen(last);
    if (size < tail || strcmp(name + size - tail, last)) return false;
    *n = size - tail;
    return !*n || name[*n - 1] == '/';
}

/* The one entry of that name, in whatever folder. */
static lt_status find_sole(
    const lt_archive *a, const char *last, size_t *index, lt_error *err)
{
    size_t n;
    *index = LT_MAP_NONE;
    for (size_t i = 0; i < lt_archive_count(a); i++) {
        if (!ends_with(lt_archive_entry(a, i)->name, last, &n)) continue;
        if (*index != LT_MAP_NONE)
            return lt_error_at(err, LT_ERR_FORMAT, lt_archive_entry(a, i)->offset,
                "the archive holds more than one %s: '%.200s' and '%.200s'", last,
                lt_archive_entry(a, *index)->name, lt_archive_entry(a, i)->name);
        *index = i;
    }
    return LT_OK;
}

/* prefix + last */
static size_t find_beside(
    lt_torch *t, const char *prefix, const char *folder, const char *last, lt_error *err)
{
    char *name = lt_arena_printf(&t->arena, err, "%s%s%s", prefix, folder, last);
    return name ? lt_archive_find(t->archive, name) : LT_MAP_NONE;
}

static lt_status find_pickle(lt_torch *t, size_t *entry, char **prefix, lt_error *err)
{
    size_t n = 0;
    lt_status st = find_sole(t->archive, "data.pkl", entry, err);
    if (st) return st;
    if (*entry == LT_MAP_NONE)
        return lt_error_set(err, LT_ERR_UNSUPPORTED,
            "this is a zip archive without data.pkl: nothing that torch saved");
    const char *name = lt_archive_entry(t->archive, *entry)->name;
    ends_with(name, "data.pkl", &n);
    *prefix = lt_arena_strndup(&t->arena, name, n, err);
    if (!*prefix) return LT_ERR_NOMEM;
    if (find_beside(t, *prefix, "", "constants.pkl", err) != LT_MAP_NONE)
        return lt_error_set(
            err, LT_ERR_UNSUPPORTED, "this is a TorchScript program, not saved tensors");
    return LT_OK;
}

/* Positions in a deflated entry are those in what it unpacks to; where it begins is all
 * that there is in the file. */
static void blame_pickle(const lt_entry *entry, lt_error *err)
{
    if (entry->stored || !err || err->offset == LT_NO_OFFSET) {
        lt_error_where(err, "%s", entry->name);
        return;
    }
    unsigned long long at = err->offset;
    err->offset = entry->offset;
    lt_error_where(err, "%s, byte %llu of what it unpacks to", entry->name, at);
}

/* The pickle at the cursor, which is released, and what its persistent ids mean. */
static lt_status read_values(
    lt_torch *t, const lt_entry *entry, lt_cursor *c, lt_value **root, lt_error *err)
{
    lt_status st = lt_pickle_read(&t->pickle, c, root, err);
    if (!st) st = lt_torch_resolve(t, err);
    lt_cursor_release(c);
    if (st) blame_pickle(entry, err);
    return st;
}

static lt_status read_packed_pickle(
    lt_torch *t, size_t index, lt_value **root, lt_error *err)
{
    const lt_entry *entry = lt_archive_entry(t->archive, index);
    lt_cursor c;
    void *bytes = lt_alloc_work(entry->size, 1, err);
    if (!bytes) return LT_ERR_NOMEM;
    lt_status st = lt_archive_read(t->archive, index, 0, bytes, (size_t)entry->size, err);
    if (!st) {
        lt_cursor_memory(&c, bytes, (size_t)entry->size, 0, err);
        st = read_values(t, entry, &c, root, err);
    }
    for (size_t i = 0; i < t->store->n_globals; i++)
        t->store->globals[i].offset = entry->offset;
    lt_free(bytes);
    return st;
}

static lt_status read_pickle(lt_torch *t, size_t index, lt_value **root, lt_error *err)
{
    const lt_entry *entry = lt_archive_entry(t->archive, index);
    if (entry->size > lt_limit(LT_LIMIT_PICKLE_SIZE))
        return lt_error_at(err, LT_ERR_LIMIT, entry->offset,
            "the pickle '%.200s' is over %llu bytes", entry->name,
            lt_limit(LT_LIMIT_PICKLE_SIZE));
    if (!entry->size)
        return lt_error_set(err, LT_ERR_FORMAT, "'%.200s' is empty", entry->name);
    if (!entry->stored) return read_packed_pickle(t, index, root, err);
    lt_cursor c;
    lt_cursor_file(&c, t->store->source, entry->offset, entry->size, err);
    return read_values(t, entry, &c, root, err);
}

static lt_status read_byteorder(lt_torch *t, const char *prefix, lt_error *err)
{
    size_t index = find_beside(t, prefix, "", "byteorder", err);
    char text[16] = { 0 };
    if (index == LT_MAP_NONE) return LT_OK;
    const lt_entry *entry = lt_archive_entry(t->archive, index);
    uint64_t size = entry->size;
    if (size >= sizeof text) size = sizeof text - 1;
    lt_status st = lt_archive_read(t->archive, index, 0, text, (size_t)size, err);
    if (st) return st;
    text[strcspn(text, "\r\n ")] = 0;
    t->big_endian = !strcmp(text, "big");
    if (t->big_endian || !strcmp(text, "little")) return LT_OK;
    return lt_error_at(err, LT_ERR_FORMAT, entry->offset,
        "'%.200s' is neither little nor big", entry->name);
}

/* A storage without entry is refused later, if a tensor that is read needs it. */
static lt_status place_storages(lt_torch *t, const char *prefix, lt_error *err)
{
    for (size_t i = 0; i < t->n_storages; i++) {
        lt_storage *s = &t->storages[i];
        char *name = lt_arena_printf(&t->arena, err, "%sdata/%s", prefix, s->key);
        if (!name) return LT_ERR_NOMEM;
        size_t index = lt_archive_find(t->archive, name);
        if (index == LT_MAP_NONE) continue;
        const lt_entry *entry = lt_archive_entry(t->archive, index);
        lt_torch_place(s, entry->size, entry->stored ? entry->offset : LT_NO_OFFSET,
            index, entry->offset);
    }
    return LT_OK;
}

static lt_status read_header(lt_store *store, lt_error *err)
{
    lt_torch *t;
    size_t index;
    char *prefix = NULL;
    lt_value *root;
    lt_status st = lt_torch_new(&t, store, err);
    if (!st) st = lt_archive_open(&t->archive, store->source, err);
    if (!st) st = find_pickle(t, &index, &prefix, err);
    if (!st) st = read_byteorder(t, prefix, err);
    if (!st) st = read_pickle(t, index, &root, err);
    if (!st) st = lt_torch_collect(t, root, err);
    if (!st) st = place_storages(t, prefix, err);
    return st ? st : lt_torch_finish(t, err);
}

const lt_format lt_format_torch_zip = { "torch zip", probe, read_header, lt_torch_read,
    lt_torch_in_place, lt_torch_alias, lt_torch_release };
