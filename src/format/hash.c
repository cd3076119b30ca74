/* SPDX-License-Identifier: MIT */
/* Hashes of files as they are, and sd-scripts' legacy hash, which is of a file that does
 * not exist: the same tensors behind a header with the ss_* metadata alone. */
#include "format/format.h"

#include "base/digest_file.h"
#include "base/mem.h"
#include "base/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes that short hashes have been made of since the first web interfaces. */
#define SLICE_FROM ((uint64_t)0x100000)
#define SLICE_TO ((uint64_t)0x110000)

/* ---- the legacy hash ----------------------------------------------------------------
 */

/* Reads from a data section. */
typedef lt_status (*read_fn)(
    const void *from, uint64_t at, void *dst, size_t size, lt_error *err);

/* The slice of the image "header, then data section", clipped to its end. */
static lt_status hash_slice(const char *header, size_t header_size, uint64_t data_size,
    read_fn read, const void *ctx, char hex[LT_HASH_SIZE], lt_error *err)
{
    uint64_t end = header_size + data_size, from = SLICE_FROM;
    uint64_t to = SLICE_TO < end ? SLICE_TO : end;
    lt_sha256 *h = NULL;
    char *buf = lt_alloc_work(SLICE_TO - SLICE_FROM, 1, err);
    lt_status st = buf ? lt_sha256_new(&h, err) : LT_ERR_NOMEM;
    if (!st && from < to && from < header_size) {
        uint64_t stop = to < header_size ? to : header_size;
        lt_sha256_update(h, header + from, (size_t)(stop - from));
        from = stop;
    }
    if (!st && from < to) {
        st = read(ctx, from - header_size, buf, (size_t)(to - from), err);
        if (!st) lt_sha256_update(h, buf, (size_t)(to - from));
    }
    if (!st) lt_sha256_hex(h, hex);
    lt_sha256_free(h);
    lt_free(buf);
    return st;
}

static lt_status hash_image(const lt_writer *w, const lt_volume *v, read_fn read,
    const void *ctx, char hex[LT_HASH_SIZE], lt_error *err)
{
    lt_metadata kept = { 0 };
    lt_volume stripped = *v;
    char *header = NULL;
    size_t size = 0;
    lt_status st = LT_OK;
    for (size_t i = 0; i < v->metadata->count && !st; i++) {
        const struct lt_metadata_entry *e = &v->metadata->entries[i];
        if (!strncmp(e->key, "ss_", 3))
            st = lt_metadata_set(&kept, e->key, e->value, err);
    }
    stripped.metadata = &kept;
    stripped.empty_metadata = true; /* as the reference writer does for none of them */
    if (!st) st = v->sink->make_header(w, &stripped, &header, &size, err);
    if (!st) st = hash_slice(header, size, v->data_size, read, ctx, hex, err);
    free(header);
    lt_metadata_release(&kept);
    return st;
}

static lt_status read_volume(
    const void *from, uint64_t at, void *dst, size_t size, lt_error *err)
{
    const lt_volume *v = from;
    return lt_outfile_read(v->data, v->data_at + at, dst, size, err);
}

lt_status lt_writer_legacy_hash(
    lt_writer *w, size_t file, char hex[LT_HASH_SIZE], lt_error *err)
{
    const lt_volume *v = &w->volumes[file];
    if (!v->sink->make_header)
        return lt_error_set(err, LT_ERR_INTERNAL, "no hash for this format");
    return hash_image(w, v, read_volume, v, hex, err);
}

/* ---- files --------------------------------------------------------------------------
 */

/* Where the data of a safetensors file is. */
struct section {
    const lt_source *source;
    uint64_t at;
};

static lt_status find_section(
    const lt_store *store, struct section *section, lt_error *err)
{
    unsigned char length[8];
    lt_status st = lt_source_read(store->source, 0, length, sizeof length, err);
    if (st) return st;
    *section = (struct section){ .source = store->source, .at = 8 };
    for (int i = 0; i < 8; i++)
        section->at += (uint64_t)length[i] << 8 * i;
    if (section->at <= lt_source_size(store->source)) return LT_OK;
    return lt_error_set(err, LT_ERR_IO, "the file was changed while it was read");
}

static lt_status read_section(
    const void *from, uint64_t at, void *dst, size_t size, lt_error *err)
{
    const struct section *s = from;
    return lt_source_read(s->source, s->at + at, dst, size, err);
}

/* As if a writer had laid the file out: its tensors, in their order. */
static lt_status legacy_of(const lt_store *store, const struct section *section,
    char hex[LT_HASH_SIZE], lt_error *err)
{
    size_t n = store->count;
    lt_tensor *tensors = lt_alloc_work(n, sizeof *tensors, err);
    size_t *layout = lt_alloc_work(n, sizeof *layout, err);
    lt_status st = tensors && layout ? LT_OK : LT_ERR_NOMEM;
    for (size_t i = 0; i < n && !st; i++) {
        tensors[i] = store->tensors[i];
        tensors[i].offset -= section->at;
        layout[i] = i;
    }
    lt_writer w = { .tensors = tensors, .count = n };
    lt_volume v = { .sink = &lt_sink_safetensors,
        .layout = layout,
        .count = n,
        .metadata = (lt_metadata *)&store->metadata,
        .data_size = lt_source_size(store->source) - section->at };
    if (!st) st = hash_image(&w, &v, read_section, section, hex, err);
    lt_free(tensors);
    lt_free(layout);
    return st;
}

enum range { WHOLE, SLICE, DATA };

static void name_short(lt_file_hashes *out, const lt_digest_range *ranges, bool has_data)
{
    const char *third = ranges[has_data ? DATA : WHOLE].hex;
    memcpy(out->sha256, ranges[WHOLE].hex, sizeof out->sha256);
    if (has_data) memcpy(out->data, ranges[DATA].hex, sizeof out->data);
    snprintf(out->autov1, sizeof out->autov1, "%.8s", ranges[SLICE].hex);
    snprintf(out->autov2, sizeof out->autov2, "%.10s", ranges[WHOLE].hex);
    snprintf(out->autov3, sizeof out->autov3, "%.12s", third);
}

static lt_status hash_file(const lt_store *store, lt_file_hashes *out, lt_error *err)
{
    bool has_data = store->format == &lt_format_safetensors;
    struct section section = { 0 };
    char legacy[LT_HASH_SIZE] = "";
    lt_status st = LT_OK;
    if (has_data) st = find_section(store, &section, err);
    if (!st && has_data) st = legacy_of(store, &section, legacy, err);
    lt_digest_range ranges[] = {
        [WHOLE] = { .from = 0, .to = UINT64_MAX },
        [SLICE] = { .from = SLICE_FROM, .to = SLICE_TO },
        [DATA] = { .from = section.at, .to = UINT64_MAX },
    };
    size_t n = has_data ? 3 : 2;
    if (!st) st = lt_digest_file(store->source, ranges, n, lt_cpu_count(), err);
    if (st) return st;
    name_short(out, ranges, has_data);
    snprintf(out->legacy, sizeof out->legacy, "%.8s", legacy);
    return LT_OK;
}

lt_status lt_store_hash(
    const lt_store *store, size_t file, lt_file_hashes *out, lt_error *err)
{
    const lt_store *part = store->n_parts ? store->parts[file].store : store;
    *out = (lt_file_hashes){ 0 };
    lt_status st = hash_file(part, out, err);
    return st ? lt_error_where(err, "%s", lt_store_path(part)) : LT_OK;
}
