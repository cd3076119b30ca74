/* SPDX-License-Identifier: MIT */
#include "format/format.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Tried in this order; the first whose probe accepts is asked to read. */
static const lt_format *const formats[] = {
    &lt_format_torch_zip, &lt_format_torch_legacy, &lt_format_torch_tar,
    &lt_format_safetensors, /* last: it takes whatever could be a damaged one */
};

/* What people feed to a tensor tool by mistake, or that is not handled yet. */
static const char *name_other(const unsigned char *head, size_t size)
{
    static const struct {
        const char *magic;
        size_t offset, size;
        const char *name;
    } known[] = {
        { "GGUF", 0, 4, "a GGUF file" },
        { "\x89HDF", 0, 4, "an HDF5 file" },
        { "\x1f\x8b", 0, 2, "gzip-compressed" },
        { "version https://git-lfs", 0, 23, "a Git LFS pointer, not the file itself" },
        { "<!DOCTYPE", 0, 9, "an HTML page (a failed download?)" },
        { "<html", 0, 5, "an HTML page (a failed download?)" },
        { "PYTORCH1", 0, 8, "a torch file of a preview format that nothing reads" },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (size >= known[i].offset + known[i].size
            && !memcmp(head + known[i].offset, known[i].magic, known[i].size))
            return known[i].name;
    return NULL;
}

static lt_status pick_format(lt_store *store, lt_error *err)
{
    unsigned char head[LT_PROBE_SIZE] = { 0 };
    uint64_t file_size = lt_source_size(store->source);
    size_t size = file_size < sizeof head ? (size_t)file_size : sizeof head;
    lt_status st = lt_source_read(store->source, 0, head, size, err);
    if (st) return st;
    const char *other = name_other(head, size);
    for (size_t i = 0; i < sizeof formats / sizeof *formats && !other; i++) {
        if (!formats[i]->probe(head, size, file_size)) continue;
        store->format = formats[i];
        return LT_OK;
    }
    if (other)
        return lt_error_at(err, LT_ERR_UNSUPPORTED, 0,
            "this is %s; safetensors and torch files are read", other);
    if (file_size == 0) return lt_error_at(err, LT_ERR_FORMAT, 0, "the file is empty");
    return lt_error_at(err, LT_ERR_FORMAT, 0, "not a tensor file that loratool knows");
}

static lt_status open_file(
    lt_store **out, const char *path, lt_reading reading, bool named, lt_error *err)
{
    *out = NULL;
    lt_store *store = calloc(1, sizeof *store);
    if (!store) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    store->reading = reading;
    lt_status st = named ? lt_source_open(&store->source, path, err)
                         : lt_source_open_found(&store->source, path, err);
    if (st) {
        lt_store_close(store);
        return st;
    }
    st = pick_format(store, err);
    if (!st) st = store->format->read_header(store, err);
    if (st) {
        lt_error_where(err, "%s", lt_source_path(store->source));
        lt_store_close(store);
        return st;
    }
    *out = store;
    return LT_OK;
}

lt_status lt_store_open_part(
    lt_store **out, const char *path, lt_reading reading, lt_error *err)
{
    return open_file(out, path, reading, false, err);
}

lt_status lt_store_open_as(
    lt_store **out, const char *path, lt_reading reading, lt_error *err)
{
    lt_path_kind kind = LT_PATH_FILE;
    *out = NULL;
    lt_status st = strcmp(path, "-") ? lt_path_look(path, &kind, err) : LT_OK;
    if (st) return st;
    if (kind == LT_PATH_FOLDER) return lt_folder_open(out, path, reading, err);
    if (lt_is_index_name(path)) return lt_index_open(out, path, reading, err);
    return open_file(out, path, reading, true, err);
}

lt_status lt_store_open(lt_store **out, const char *path, lt_error *err)
{
    return lt_store_open_as(out, path, LT_READ_MODEL, err);
}

void lt_store_close(lt_store *store)
{
    if (!store) return;
    if (store->format && store->format->release) store->format->release(store);
    lt_source_close(store->source);
    lt_metadata_release(&store->metadata);
    lt_map_release(&store->by_name);
    lt_map_release(&store->global_by_name);
    lt_arena_release(&store->arena);
    lt_free(store->text);
    free(store->tensors);
    free(store->globals);
    free(store->asides);
    free(store);
}

lt_status lt_store_unchanged(const lt_store *store, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < store->n_parts && !st; i++)
        st = lt_store_unchanged(store->parts[i].store, err);
    if (st || !store->source) return st;
    st = lt_source_unchanged(store->source, err);
    return st ? lt_error_where(err, "%s", lt_source_path(store->source)) : LT_OK;
}

lt_status lt_store_reserve(lt_store *store, size_t n, lt_error *err)
{
    if (n > lt_limit(LT_LIMIT_TENSORS)) n = lt_limit(LT_LIMIT_TENSORS);
    lt_status st = lt_grow(
        (void **)&store->tensors, &store->capacity, n, sizeof *store->tensors, err);
    return st ? st : lt_map_reserve(&store->by_name, n, err);
}

static lt_status check_room(const lt_store *store, const char *name, lt_error *err)
{
    if (store->count >= lt_limit(LT_LIMIT_TENSORS))
        return lt_error_set(
            err, LT_ERR_LIMIT, "over %llu tensors", lt_limit(LT_LIMIT_TENSORS));
    if (strlen(name) > lt_limit(LT_LIMIT_NAME_SIZE))
        return lt_error_set(err, LT_ERR_LIMIT, "a tensor name is over %llu bytes",
            lt_limit(LT_LIMIT_NAME_SIZE));
    return LT_OK;
}

lt_status lt_store_adopt(lt_store *store, const lt_tensor *tensor, lt_error *err)
{
    size_t found;
    lt_status st = check_room(store, tensor->name, err);
    if (!st)
        st = lt_grow((void **)&store->tensors, &store->capacity, store->count + 1,
            sizeof *store->tensors, err);
    if (!st) st = lt_map_put(&store->by_name, tensor->name, store->count, &found, err);
    if (st) return st;
    if (found != LT_MAP_NONE)
        return lt_error_set(err, LT_ERR_FORMAT, "the name stands twice");
    store->tensors[store->count++] = *tensor;
    return LT_OK;
}

lt_status lt_store_add(lt_store *store, const lt_tensor *tensor, lt_error *err)
{
    lt_tensor copy = *tensor;
    lt_status st = check_room(store, tensor->name, err);
    if (st) return st;
    copy.name = lt_arena_strdup(&store->arena, tensor->name, err);
    return copy.name ? lt_store_adopt(store, &copy, err) : LT_ERR_NOMEM;
}

static void count_mention(lt_global *g, lt_verdict verdict, uint64_t at)
{
    g->count++;
    if (verdict != LT_DANGEROUS || g->verdict == LT_DANGEROUS) return;
    g->verdict = verdict;
    g->offset = at;
}

lt_status lt_store_add_global(
    lt_store *store, const char *name, lt_verdict verdict, uint64_t at, lt_error *err)
{
    size_t known = lt_map_get(&store->global_by_name, name);
    if (known != LT_MAP_NONE) {
        count_mention(&store->globals[known], verdict, at);
        return LT_OK;
    }
    if (store->n_globals >= lt_limit(LT_LIMIT_GLOBALS))
        return lt_error_at(err, LT_ERR_LIMIT, at, "over %llu different globals",
            lt_limit(LT_LIMIT_GLOBALS));
    lt_status st = lt_grow((void **)&store->globals, &store->globals_capacity,
        store->n_globals + 1, sizeof *store->globals, err);
    char *copy = st ? NULL : lt_arena_strdup(&store->arena, name, err);
    if (!copy) return LT_ERR_NOMEM;
    store->globals[store->n_globals] = (lt_global){ copy, verdict, 1, at };
    return lt_map_put(&store->global_by_name, copy, store->n_globals++, NULL, err);
}

lt_status lt_store_add_aside(lt_store *store, const lt_aside *aside, lt_error *err)
{
    if (store->n_asides >= lt_limit(LT_LIMIT_TENSORS))
        return lt_error_set(
            err, LT_ERR_LIMIT, "over %llu other values", lt_limit(LT_LIMIT_TENSORS));
    lt_status st = lt_grow((void **)&store->asides, &store->asides_capacity,
        store->n_asides + 1, sizeof *store->asides, err);
    if (st) return st;
    lt_aside copy = *aside;
    copy.path = lt_arena_strdup(&store->arena, aside->path, err);
    copy.what = lt_arena_strdup(&store->arena, aside->what, err);
    if (!copy.path || !copy.what) return LT_ERR_NOMEM;
    store->asides[store->n_asides++] = copy;
    return LT_OK;
}

const char *lt_store_path(const lt_store *store)
{
    return store->source ? lt_source_path(store->source) : store->path;
}

const char *lt_store_container(const lt_store *store)
{
    const char *name = store->n_parts ? NULL : store->format->name;
    for (size_t i = 0; i < store->n_parts; i++) {
        const char *of_part = store->parts[i].store->format->name;
        if (name && strcmp(name, of_part)) return "mixed";
        name = of_part;
    }
    return name;
}

uint64_t lt_store_file_size(const lt_store *store)
{
    uint64_t size = store->source ? lt_source_size(store->source) : 0;
    for (size_t i = 0; i < store->n_parts; i++)
        size += lt_source_size(store->parts[i].store->source);
    return size;
}

size_t lt_store_count(const lt_store *store)
{
    return store->count;
}

const lt_tensor *lt_store_at(const lt_store *store, size_t index)
{
    return &store->tensors[index];
}

const lt_tensor *lt_store_find(const lt_store *store, const char *name)
{
    size_t i = lt_map_get(&store->by_name, name);
    return i == LT_MAP_NONE ? NULL : &store->tensors[i];
}

size_t lt_store_index(const lt_store *store, const lt_tensor *tensor)
{
    return (size_t)(tensor - store->tensors);
}

const lt_metadata *lt_store_metadata(const lt_store *store)
{
    return &store->metadata;
}

size_t lt_store_alias(const lt_store *store, size_t index)
{
    return store->format->alias ? store->format->alias(store, index) : index;
}

lt_status lt_store_read(const lt_store *store, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err)
{
    if (first > tensor->size || size > tensor->size - first)
        return lt_error_set(err, LT_ERR_INTERNAL, "read past the end of a tensor");
    lt_status st = store->format->read(store, tensor, first, dst, size, err);
    return st ? lt_store_blame(store, tensor, err) : LT_OK;
}

bool lt_store_in_place(
    const lt_store *store, const lt_tensor *tensor, int *fd, uint64_t *offset)
{
    if (store->n_parts) {
        const lt_home *home = &store->homes[lt_store_index(store, tensor)];
        const lt_store *part = store->parts[home->part].store;
        return lt_store_in_place(part, lt_store_at(part, home->tensor), fd, offset);
    }
    if (store->format->in_place && !store->format->in_place(store, tensor)) return false;
    *fd = lt_source_fd(store->source);
    *offset = tensor->offset;
    return true;
}

lt_status lt_store_blame(const lt_store *store, const lt_tensor *tensor, lt_error *err)
{
    const char *path = lt_store_path(store);
    if (store->n_parts)
        path = lt_store_path(store->parts[lt_store_file_of(store, tensor)].store);
    return lt_error_where(err, "%s: tensor '%s'", path, tensor->name);
}

const char *lt_store_folder(const lt_store *store)
{
    return store->n_parts && *store->folder ? store->folder : NULL;
}

size_t lt_store_file_count(const lt_store *store)
{
    return store->n_parts ? store->n_parts : 1;
}

const char *lt_store_file(const lt_store *store, size_t file)
{
    return store->n_parts ? store->parts[file].file : lt_store_path(store);
}

size_t lt_store_file_of(const lt_store *store, const lt_tensor *tensor)
{
    return store->n_parts ? store->homes[lt_store_index(store, tensor)].part : 0;
}

const lt_metadata *lt_store_file_metadata(const lt_store *store, size_t file)
{
    return store->n_parts ? &store->parts[file].store->metadata : &store->metadata;
}

const char *lt_verdict_text(lt_verdict verdict)
{
    return verdict == LT_PLAIN  ? "plain"
        : verdict == LT_UNKNOWN ? "unknown"
                                : "dangerous";
}

size_t lt_store_global_count(const lt_store *store)
{
    return store->n_globals;
}

const lt_global *lt_store_global(const lt_store *store, size_t index)
{
    return &store->globals[index];
}

size_t lt_store_aside_count(const lt_store *store)
{
    return store->n_asides;
}

const lt_aside *lt_store_aside(const lt_store *store, size_t index)
{
    return &store->asides[index];
}

const char *lt_store_wrapper(const lt_store *store)
{
    return store->wrapper ? store->wrapper : "";
}

/* The first dangerous global, in the file of a set that names it. */
static lt_status refuse_danger(const lt_store *store, const char *advice, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < store->n_parts && !st; i++)
        st = refuse_danger(store->parts[i].store, advice, err);
    for (size_t i = 0; i < store->n_globals && !st; i++) {
        const lt_global *g = &store->globals[i];
        if (g->verdict != LT_DANGEROUS) continue;
        lt_error_at(err, LT_ERR_FORMAT, g->offset,
            "the pickle in it names '%s': unpickling it would run code%s", g->name,
            advice);
        lt_error_where(err, "%s", lt_store_path(store));
        st = LT_ERR_FORMAT;
    }
    return st;
}

lt_status lt_store_harmless(const lt_store *store, lt_error *err)
{
    return refuse_danger(store, "", err);
}

lt_status lt_store_usable(const lt_store *store, bool salvage, lt_error *err)
{
    static const char advice[] = "; 'convert --salvage' takes the tensors out of it";
    lt_status st = salvage ? LT_OK : refuse_danger(store, advice, err);
    if (st) return st;
    for (size_t i = 0; i < store->n_asides; i++) {
        if (!store->asides[i].unread) continue;
        lt_error_set(err, LT_ERR_UNSUPPORTED, "'%s' is not read: %s",
            store->asides[i].path, store->asides[i].what);
        return lt_error_where(err, "%s", lt_store_path(store));
    }
    return LT_OK;
}
