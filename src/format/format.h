/* SPDX-License-Identifier: MIT */
/* What a container format implements: one reader file and, if it can be written, one
 * writer file, each with a row in the table of store.c or writer.c. */
#ifndef LT_FORMAT_FORMAT_H
#define LT_FORMAT_FORMAT_H

#include "base/arena.h"
#include "base/map.h"
#include "base/outfile.h"
#include "base/source.h"
#include "loratool/store.h"

/* ---- readers ----------------------------------------------------------------------- */

#define LT_PROBE_SIZE 512

typedef struct lt_format {
    const char *name;
    /* True when head (the file's first size bytes, at most LT_PROBE_SIZE) looks like it.
     */
    bool (*probe)(const unsigned char *head, size_t size, uint64_t file_size);
    /* Fills store's tensors (through lt_store_add) and metadata. */
    lt_status (*read_header)(lt_store *store, lt_error *err);
    /* Bytes of one tensor in row-major order. */
    lt_status (*read)(const lt_store *store, const lt_tensor *tensor, uint64_t first,
        void *dst, size_t size, lt_error *err);
} lt_format;

extern const lt_format lt_format_safetensors;

struct lt_store {
    const lt_format *format;
    lt_source *source;
    lt_arena arena; /* names */
    lt_tensor *tensors;
    size_t count, capacity;
    lt_map by_name;
    lt_metadata metadata;
};

/* Appends a tensor; its name is copied. A name that is there already is refused. */
lt_status lt_store_add(
    lt_store *store, const lt_tensor *tensor, lt_error *err) LT_MUST_USE;

/* ---- writers ----------------------------------------------------------------------- */

typedef struct lt_sink {
    const char *name;
    /* Header bytes for the laid-out tensors (offset = position in the data section) and
     * the metadata; malloc memory handed to the caller. Its size depends on the lengths
     * of the metadata values only, not on their content. */
    lt_status (*make_header)(
        const lt_writer *writer, char **header, size_t *size, lt_error *err);
} lt_sink;

extern const lt_sink lt_sink_safetensors;

struct lt_writer {
    const lt_sink *sink;
    lt_outfile *file;
    lt_arena arena;
    lt_tensor *tensors; /* as added */
    size_t *layout;     /* indices in the order of their data */
    size_t count, capacity, layout_capacity;
    lt_map by_name;
    lt_metadata metadata;
    uint64_t header_size, data_size;
    _Atomic uint64_t put;
    bool begun;
};

#endif
