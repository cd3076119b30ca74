/* SPDX-License-Identifier: MIT */
#include "format/follow.h"

#include "base/abandon.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/outfolder.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)1 << 20)

bool lt_path_is_folder_output(const char *path)
{
    size_t n = strlen(path);
    return n && strcmp(path, "-") && (path[n - 1] == '/' || lt_is_folder(path));
}

/* The one file of an output that is no folder is opened at once, so that one that cannot
 * be made is told before the work. */
static lt_status open_single(lt_writer *w, lt_error *err)
{
    const lt_sink *sink = NULL;
    lt_status st = lt_layout_sink(&w->output, &sink, err);
    if (!st)
        st = lt_grow(
            (void **)&w->volumes, &w->volumes_capacity, 1, sizeof *w->volumes, err);
    if (st) return st;
    lt_volume *v = &w->volumes[0];
    *v = (lt_volume){ .sink = sink, .name = w->output.path, .metadata = &w->metadata };
    w->n_volumes = 1;
    return lt_outfile_open(&v->file, w->output.path, w->output.overwrite, err);
}

static lt_status copy_output(lt_writer *w, const lt_output *output, lt_error *err)
{
    lt_output *o = &w->output;
    *o = *output;
    o->path = lt_arena_strdup(&w->arena, output->path, err);
    o->format = NULL;
    if (output->format) o->format = lt_arena_strdup(&w->arena, output->format, err);
    const char *wrapper = output->wrapper ? output->wrapper : "";
    o->wrapper = lt_arena_strdup(&w->arena, wrapper, err);
    bool ok = o->path && o->wrapper && (o->format || !output->format);
    return ok ? LT_OK : LT_ERR_NOMEM;
}

lt_status lt_writer_new(lt_writer **out, const lt_output *output, lt_error *err)
{
    *out = NULL;
    lt_writer *w = calloc(1, sizeof *w);
    if (!w) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    lt_status st = copy_output(w, output, err);
    if (!st && output->max_shard_size && !output->folder)
        st = lt_error_set(
            err, LT_ERR_ARG, "shards need a folder as output: end its name in '/'");
    if (!st)
        st = output->folder
            ? lt_outfolder_open(&w->folder, output->path, output->overwrite, err)
            : open_single(w, err);
    if (st) {
        lt_writer_close(w);
        return st;
    }
    *out = w;
    return LT_OK;
}

static void close_files(lt_writer *w)
{
    for (size_t i = 0; i < w->n_volumes; i++) {
        lt_volume *v = &w->volumes[i];
        if (v->data != v->file) lt_outfile_close(v->data);
        lt_outfile_close(v->file);
        v->data = v->file = NULL;
    }
    for (size_t i = 0; i < w->n_extras; i++)
        lt_outfile_close(w->extras[i]);
    w->n_extras = 0;
}

void lt_writer_close(lt_writer *w)
{
    if (!w) return;
    lt_follower_stop(w->follower);
    close_files(w);
    for (size_t i = 0; i < w->n_volumes; i++) {
        lt_metadata *own = w->volumes[i].metadata;
        if (own != &w->metadata && own) lt_metadata_release(own);
    }
    free(w->extras);
    lt_outfolder_close(w->folder);
    lt_metadata_release(&w->metadata);
    lt_map_release(&w->by_name);
    lt_arena_release(&w->arena);
    free(w->volumes);
    free(w->tensors);
    free(w->alias_of);
    free(w);
}

lt_status lt_writer_add(lt_writer *w, const char *name, lt_dtype dtype, unsigned n_dims,
    const uint64_t *shape, size_t *index, lt_error *err)
{
    if (w->planned) return lt_error_set(err, LT_ERR_INTERNAL, "tensor added after plan");
    if (n_dims > LT_MAX_DIMS)
        return lt_error_set(err, LT_ERR_LIMIT, "too many dimensions");
    lt_tensor t = { .dtype = dtype, .n_dims = n_dims };
    for (unsigned i = 0; i < n_dims; i++)
        t.shape[i] = shape[i];
    lt_status st = lt_tensor_measure(&t, err);
    if (!st)
        st = lt_grow((void **)&w->tensors, &w->capacity, w->count + 1, sizeof t, err);
    if (!st)
        st = lt_grow((void **)&w->alias_of, &w->aliases_capacity, w->count + 1,
            sizeof *w->alias_of, err);
    if (st) return st;
    t.name = lt_arena_strdup(&w->arena, name, err);
    if (!t.name) return LT_ERR_NOMEM;
    size_t found;
    st = lt_map_put(&w->by_name, t.name, w->count, &found, err);
    if (st) return st;
    if (found != LT_MAP_NONE)
        return lt_error_set(err, LT_ERR_MISMATCH,
            "two modules would be written under the name '%s'", name);
    if (index) *index = w->count;
    w->alias_of[w->count] = w->count;
    w->tensors[w->count++] = t;
    return LT_OK;
}

void lt_writer_alias(lt_writer *w, size_t index, size_t of, bool *shared)
{
    /* In a folder the two may go into different files: they become copies. */
    *shared = !w->output.folder && w->volumes[0].sink->holds_aliases
        && w->tensors[index].dtype == w->tensors[of].dtype
        && w->tensors[index].size == w->tensors[of].size;
    if (*shared) w->alias_of[index] = w->alias_of[of];
}

lt_metadata *lt_writer_metadata(lt_writer *w)
{
    return &w->metadata;
}

bool lt_writer_holds_metadata(const lt_writer *w, size_t file)
{
    return w->volumes[file].sink->holds_metadata;
}

bool lt_writer_repeats(const lt_writer *w, const lt_metadata *metadata)
{
    for (size_t i = 0; i < w->n_volumes; i++)
        if (w->volumes[i].sink->holds_metadata && w->volumes[i].repeated == metadata)
            return true;
    return false;
}

size_t lt_writer_file_count(const lt_writer *w)
{
    return w->n_volumes;
}

lt_metadata *lt_writer_file_metadata(lt_writer *w, size_t file)
{
    return w->volumes[file].metadata;
}

static lt_status check_dtypes(const lt_writer *w, const lt_volume *v, lt_error *err)
{
    for (size_t i = 0; i < v->count; i++) {
        const lt_tensor *t = &w->tensors[v->layout[i]];
        if (v->sink->holds(t->dtype)) continue;
        lt_error_set(err, LT_ERR_UNSUPPORTED, "%s files cannot hold dtype %s",
            v->sink->id, lt_dtype_get(t->dtype)->name);
        lt_error_where(err, "tensor '%s'", t->name);
        return lt_error_where(err, "%s", v->name);
    }
    return LT_OK;
}

lt_status lt_writer_plan(lt_writer *w, lt_order order, lt_error *err)
{
    if (w->planned) return LT_OK;
    w->volume_of =
        lt_arena_alloc(&w->arena, (uint64_t)w->count * sizeof *w->volume_of, err);
    lt_status st = w->volume_of ? lt_layout_plan(w, order, err) : LT_ERR_NOMEM;
    for (size_t i = 0; i < w->n_volumes && !st; i++)
        st = check_dtypes(w, &w->volumes[i], err);
    w->planned = !st;
    return st;
}

/* Offsets of a volume's tensors in its data. */
static lt_status lay_out(lt_writer *w, lt_volume *v, lt_error *err)
{
    for (size_t i = 0; i < v->count; i++) {
        lt_tensor *t = &w->tensors[v->layout[i]];
        if (w->alias_of[v->layout[i]] != v->layout[i]) continue;
        t->offset = v->data_size;
        if (!lt_add_size(v->data_size, t->size, &v->data_size))
            return lt_error_set(err, LT_ERR_LIMIT, "the output's size overflows 64 bits");
    }
    w->put_wanted += v->data_size;
    return LT_OK;
}

static lt_status begin_volume(lt_writer *w, lt_volume *v, lt_error *err)
{
    char *header = NULL;
    size_t size = 0;
    lt_status st = lay_out(w, v, err);
    if (!st && w->folder) {
        const char *path = lt_outfolder_file(w->folder, v->name, err);
        st = path ? lt_outfile_open(&v->file, path, true, err) : LT_ERR_NOMEM;
    }
    if (st) return st;
    if (!v->sink->make_header) return lt_outfile_scratch(&v->data, v->file, err);
    v->data = v->file;
    st = v->sink->make_header(w, v, &header, &size, err);
    free(header);
    v->data_at = size;
    return st;
}

lt_status lt_writer_begin(lt_writer *w, lt_order order, lt_error *err)
{
    lt_status st = lt_writer_plan(w, order, err);
    for (size_t i = 0; i < w->n_volumes && !st; i++)
        st = begin_volume(w, &w->volumes[i], err);
    w->begun = !st;
    /* Without it the data is hashed when all of it is there. */
    if (!st && lt_follower_start(&w->follower, w, NULL)) w->follower = NULL;
    return st;
}

lt_status lt_writer_put(lt_writer *w, size_t index, uint64_t first, const void *src,
    size_t size, lt_error *err)
{
    const lt_tensor *t = &w->tensors[index];
    if (!w->begun || first > t->size || size > t->size - first)
        return lt_error_set(err, LT_ERR_INTERNAL, "write outside tensor '%s'", t->name);
    const lt_volume *v = &w->volumes[w->volume_of[index]];
    atomic_fetch_add(&w->put, size);
    lt_status st =
        lt_outfile_write(v->data, v->data_at + t->offset + first, src, size, err);
    if (!st) lt_follower_note(w->follower, index, first, size);
    return st;
}

/* Bytes that do not lie in a file as they are: through memory. */
static lt_status copy_by_reading(lt_writer *w, size_t index, const lt_store *store,
    const lt_tensor *tensor, lt_error *err)
{
    lt_status st = LT_OK;
    size_t chunk = tensor->size < 4 * CHUNK ? (size_t)tensor->size : 4 * CHUNK;
    char *buf = lt_alloc_work(chunk, 1, err);
    if (!buf) return LT_ERR_NOMEM;
    for (uint64_t at = 0; at < tensor->size && !st; at += chunk) {
        uint64_t left = tensor->size - at;
        size_t n = left < chunk ? (size_t)left : chunk;
        st = lt_store_read(store, tensor, at, buf, n, err);
        if (!st) st = lt_writer_put(w, index, at, buf, n, err);
    }
    lt_free(buf);
    return st;
}

lt_status lt_writer_copy(lt_writer *w, size_t index, const lt_store *store,
    const lt_tensor *tensor, lt_error *err)
{
    const lt_tensor *t = &w->tensors[index];
    const lt_volume *v = &w->volumes[w->volume_of[index]];
    int fd;
    uint64_t from;
    if (!w->begun || t->size != tensor->size)
        return lt_error_set(
            err, LT_ERR_INTERNAL, "tensor '%s' changes its size", t->name);
    if (!t->size) return LT_OK;
    if (!lt_store_in_place(store, tensor, &fd, &from))
        return copy_by_reading(w, index, store, tensor, err);
    atomic_fetch_add(&w->put, t->size);
    lt_status st =
        lt_outfile_copy(v->data, v->data_at + t->offset, fd, from, t->size, err);
    if (!st) lt_follower_note(w->follower, index, 0, t->size);
    return st ? lt_store_blame(store, tensor, err) : LT_OK;
}

lt_status lt_writer_add_extra(
    lt_writer *w, lt_outfile **file, uint64_t size, lt_error *err)
{
    lt_status st = lt_outfile_seal(*file, err);
    if (!st)
        st = lt_grow((void **)&w->extras, &w->extras_capacity, w->n_extras + 1,
            sizeof(lt_outfile *), err);
    if (st) return st;
    w->extras[w->n_extras++] = *file;
    *file = NULL;
    w->extra_size += size;
    return LT_OK;
}

lt_status lt_writer_copy_file(
    lt_writer *w, const char *name, const char *from, lt_error *err)
{
    lt_source *src = NULL;
    lt_outfile *file = NULL;
    const char *path = lt_outfolder_file(w->folder, name, err);
    lt_status st = path ? lt_source_open_found(&src, from, err) : LT_ERR_NOMEM;
    if (!st) st = lt_outfile_open(&file, path, true, err);
    if (!st)
        st = lt_outfile_copy(file, 0, lt_source_fd(src), 0, lt_source_size(src), err);
    if (!st) st = lt_source_unchanged(src, err);
    if (st && src) lt_error_where(err, "%s", from);
    if (!st) st = lt_writer_add_extra(w, &file, lt_source_size(src), err);
    lt_outfile_close(file);
    lt_source_close(src);
    return st;
}

lt_status lt_writer_put_text(
    lt_writer *w, const char *name, const char *text, lt_error *err)
{
    lt_outfile *file = NULL;
    size_t size = strlen(text);
    const char *path = lt_outfolder_file(w->folder, name, err);
    lt_status st = path ? lt_outfile_open(&file, path, true, err) : LT_ERR_NOMEM;
    if (!st) st = lt_outfile_write(file, 0, text, size, err);
    if (!st) st = lt_outfile_write(file, size, "\n", 1, err);
    if (!st) st = lt_writer_add_extra(w, &file, size + 1, err);
    lt_outfile_close(file);
    return st;
}

void lt_writer_expect_hash(lt_writer *w, size_t file)
{
    w->volumes[file].hash_expected = true;
}

lt_status lt_writer_hash(lt_writer *w, size_t file, char hex[LT_HASH_SIZE], lt_error *err)
{
    const lt_volume *v = &w->volumes[file];
    if (lt_follower_knows(w->follower, file))
        return lt_follower_hash(w->follower, file, hex, err);
    lt_sha256 *h = NULL;
    lt_status st = lt_sha256_new(&h, err);
    char *buf = lt_alloc_work(CHUNK, 1, err);
    if (!buf) st = LT_ERR_NOMEM;
    for (uint64_t at = 0; at < v->data_size && !st; at += CHUNK) {
        uint64_t left = v->data_size - at;
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        st = lt_outfile_read(v->data, v->data_at + at, buf, n, err);
        if (!st) lt_sha256_update(h, buf, n);
    }
    if (!st) lt_sha256_hex(h, hex);
    lt_free(buf);
    lt_sha256_free(h);
    return st;
}

static lt_status finish_volume(lt_writer *w, lt_volume *v, lt_error *err)
{
    char *header = NULL;
    size_t size = 0;
    if (!v->sink->make_header) return v->sink->assemble(w, v, err);
    lt_status st = v->sink->make_header(w, v, &header, &size, err);
    if (!st && size != v->data_at)
        st = lt_error_set(err, LT_ERR_INTERNAL, "the header changed its size");
    if (!st) st = lt_outfile_write(v->file, 0, header, size, err);
    free(header);
    v->file_size = v->data_at + v->data_size;
    return st;
}

/* All bytes are on the disk: there are only renames left. What was added beside the
 * tensors (a config, sidecars) goes first, indices last. */
static lt_status place_all(lt_writer *w, size_t early, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < early && !st; i++)
        st = lt_outfile_place(w->extras[i], err);
    for (size_t i = 0; i < w->n_volumes && !st; i++)
        st = lt_outfile_place(w->volumes[i].file, err);
    for (size_t i = early; i < w->n_extras && !st; i++)
        st = lt_outfile_place(w->extras[i], err);
    if (st) return st;
    for (size_t i = 0; i < w->n_volumes; i++)
        lt_outfile_settle(w->volumes[i].file);
    for (size_t i = 0; i < w->n_extras; i++)
        lt_outfile_settle(w->extras[i]);
    return LT_OK;
}

/* Files that belong together: all of them, or none. */
static lt_status commit_set(lt_writer *w, size_t early, lt_error *err)
{
    sigset_t before;
    lt_abandon_hold(&before);
    lt_status st = place_all(w, early, err);
    if (st) close_files(w); /* which puts back what was there */
    lt_abandon_release(&before);
    return st;
}

lt_status lt_writer_commit(lt_writer *w, lt_error *err)
{
    lt_status st = LT_OK;
    size_t early = w->n_extras;
    if (atomic_load(&w->put) != w->put_wanted)
        return lt_error_set(err, LT_ERR_INTERNAL, "%llu of %llu bytes were written",
            (unsigned long long)atomic_load(&w->put), (unsigned long long)w->put_wanted);
    lt_follower_stop(w->follower); /* files are closed below */
    w->follower = NULL;
    for (size_t i = 0; i < w->n_volumes && !st; i++)
        st = finish_volume(w, &w->volumes[i], err);
    for (size_t i = 0; i < w->n_volumes && !st; i++)
        st = lt_outfile_seal(w->volumes[i].file, err);
    if (!st && w->folder) st = lt_layout_write_indices(w, err);
    bool alone = w->n_volumes + w->n_extras == 1;
    if (!st)
        st = alone ? lt_outfile_commit(w->volumes[0].file, err)
                   : commit_set(w, early, err);
    return st || !w->folder ? st : lt_outfolder_commit(w->folder, err);
}

uint64_t lt_writer_size(const lt_writer *w)
{
    uint64_t size = w->extra_size;
    for (size_t i = 0; i < w->n_volumes; i++)
        size += w->volumes[i].file_size;
    return size;
}
