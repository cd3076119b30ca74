/* SPDX-License-Identifier: MIT */
/* What torch.save has written since torch 1.6: a zip archive with one folder,
 *
 *   NAME/data.pkl    the object; its storages are persistent ids that hold a key
 *   NAME/data/KEY    a storage's bytes
 *   NAME/byteorder   "little" or "big"; little when it is missing
 *
 * and a few entries that say nothing about tensors. What else there is torch does not
 * read, but somebody put it there: it is listed, and other pickles are looked at as well,
 * for a scanner does that too. TorchScript programs look alike, but have constants.pkl
 * too. */
#include "format/torch_object.h"

#include "base/limits.h"
#include "base/mem.h"
#include "format/pickle_globals.h"

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

static lt_status read_packed_pickle(
    lt_torch *t, size_t index, lt_pickle *pickle, lt_value **root, lt_error *err)
{
    const lt_entry *entry = lt_archive_entry(t->archive, index);
    size_t known = t->store->n_globals;
    lt_cursor c;
    void *bytes = lt_alloc_work(entry->size, 1, err);
    if (!bytes) return LT_ERR_NOMEM;
    lt_status st = lt_archive_read(t->archive, index, 0, bytes, (size_t)entry->size, err);
    if (!st) {
        lt_cursor_memory(&c, bytes, (size_t)entry->size, 0, err);
        st = lt_pickle_read(pickle, &c, root, err);
        lt_cursor_release(&c);
    }
    for (size_t i = known; i < t->store->n_globals; i++)
        t->store->globals[i].offset = entry->offset;
    lt_free(bytes);
    return st;
}

static lt_status read_pickle(
    lt_torch *t, size_t index, lt_pickle *pickle, lt_value **root, lt_error *err)
{
    const lt_entry *entry = lt_archive_entry(t->archive, index);
    if (entry->size > lt_limit(LT_LIMIT_PICKLE_SIZE))
        return lt_error_at(err, LT_ERR_LIMIT, entry->offset,
            "the pickle '%.200s' is over %llu bytes", entry->name,
            lt_limit(LT_LIMIT_PICKLE_SIZE));
    if (!entry->size)
        return lt_error_set(err, LT_ERR_FORMAT, "'%.200s' is empty", entry->name);
    lt_cursor c;
    lt_status st = LT_OK;
    if (entry->stored) {
        lt_cursor_file(&c, t->store->source, entry->offset, entry->size, err);
        st = lt_pickle_read(pickle, &c, root, err);
        lt_cursor_release(&c);
    } else {
        st = read_packed_pickle(t, index, pickle, root, err);
    }
    if (st) blame_pickle(entry, err);
    return st;
}

/* The object, and what its persistent ids mean. */
static lt_status read_object(lt_torch *t, size_t index, lt_value **root, lt_error *err)
{
    lt_status st = read_pickle(t, index, &t->pickle, root, err);
    if (st) return st;
    st = lt_torch_resolve(t, err);
    if (st) blame_pickle(lt_archive_entry(t->archive, index), err);
    return st;
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

/* A storage without entry is refused later, if a tensor that is read needs it. used: of
 * each entry, set for those of storages. */
static lt_status place_storages(
    lt_torch *t, const char *prefix, bool *used, lt_error *err)
{
    for (size_t i = 0; i < t->n_storages; i++) {
        lt_storage *s = &t->storages[i];
        char *name = lt_arena_printf(&t->arena, err, "%sdata/%s", prefix, s->key);
        if (!name) return LT_ERR_NOMEM;
        size_t index = lt_archive_find(t->archive, name);
        if (index == LT_MAP_NONE) continue;
        used[index] = true;
        const lt_entry *entry = lt_archive_entry(t->archive, index);
        lt_torch_place(s, entry->size, entry->stored ? entry->offset : LT_NO_OFFSET,
            index, entry->offset);
    }
    return LT_OK;
}

static bool is_of_torch(const char *name, const char *prefix)
{
    static const char *const known[] = { "data.pkl", "byteorder", "version",
        ".format_version", ".storage_alignment", ".data/serialization_id" };
    size_t n = strlen(prefix), size = strlen(name);
    if (size && name[size - 1] == '/') return true; /* a folder */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(name, prefix, n) && !strcmp(name + n, known[i])) return true;
    return false;
}

static bool is_storage(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    return !strncmp(name, prefix, n) && !strncmp(name + n, "data/", 5);
}

static bool is_pickle(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".pkl") || !strcmp(dot, ".pickle"));
}

/* Its globals become the store's; what they were for is nobody's concern. */
static lt_status look_into(lt_torch *t, size_t index, bool *whole, lt_error *err)
{
    lt_value *root;
    lt_pickle pickle = { .on_global = lt_note_global, .ctx = t->store };
    lt_status st = read_pickle(t, index, &pickle, &root, err);
    lt_pickle_release(&pickle);
    *whole = !st;
    /* The globals before a fault have been seen. */
    return st == LT_ERR_FORMAT || st == LT_ERR_UNSUPPORTED ? LT_OK : st;
}

static lt_status note_others(
    lt_torch *t, const char *prefix, const bool *used, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_archive_count(t->archive) && !st; i++) {
        const lt_entry *entry = lt_archive_entry(t->archive, i);
        if (used[i] || is_of_torch(entry->name, prefix)) continue;
        bool pickle = is_pickle(entry->name), whole = true;
        if (pickle) st = look_into(t, i, &whole, err);
        const char *what = is_storage(entry->name, prefix) ? "a storage of no tensor"
            : !pickle ? "an entry that torch does not read"
            : whole   ? "a pickle that torch does not read"
                      : "a broken pickle that torch does not read";
        lt_aside aside = { entry->name, what, entry->size, false };
        if (!st) st = lt_store_add_aside(t->store, &aside, err);
    }
    return st;
}

static lt_status read_header(lt_store *store, lt_error *err)
{
    lt_torch *t;
    size_t index;
    char *prefix = NULL;
    bool *used = NULL;
    lt_value *root;
    lt_status st = lt_torch_new(&t, store, err);
    if (!st) st = lt_archive_open(&t->archive, store->source, err);
    if (!st) st = find_pickle(t, &index, &prefix, err);
    if (!st) st = read_byteorder(t, prefix, err);
    if (!st) st = read_object(t, index, &root, err);
    if (!st) st = lt_torch_collect(t, root, err);
    if (!st) used = lt_alloc(lt_archive_count(t->archive), sizeof *used, err);
    if (!st && !used) st = LT_ERR_NOMEM;
    if (!st) st = place_storages(t, prefix, used, err);
    if (!st) st = note_others(t, prefix, used, err);
    lt_free(used);
    return st ? st : lt_torch_finish(t, err);
}

const lt_format lt_format_torch_zip = { "torch zip", probe, read_header, lt_torch_read,
    lt_torch_in_place, lt_torch_alias, lt_torch_release };
