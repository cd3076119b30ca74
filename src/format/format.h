/* SPDX-License-Identifier: MIT */
/* What a container format implements: one reader file and, if it can be written, one
 * writer file, each with a row in the table of store.c or writer.c. */
#ifndef LT_FORMAT_FORMAT_H
#define LT_FORMAT_FORMAT_H

#include "base/arena.h"
#include "base/map.h"
#include "base/outfile.h"
#include "base/source.h"
#include "format/extra.h"
#include "loratool/store.h"

/* ---- readers ----------------------------------------------------------------------- */

#define LT_PROBE_SIZE 512

typedef struct lt_format {
    const char *name;
    /* True when head (the file's first size bytes, at most LT_PROBE_SIZE) looks like it.
     */
    bool (*probe)(const unsigned char *head, size_t size, uint64_t file_size);
    /* Fills store's tensors (through lt_store_add), metadata and what it holds besides.
     */
    lt_status (*read_header)(lt_store *store, lt_error *err);
    /* Bytes of one tensor in row-major order. */
    lt_status (*read)(const lt_store *store, const lt_tensor *tensor, uint64_t first,
        void *dst, size_t size, lt_error *err);
    /* False when the tensor's bytes do not lie in the file at tensor->offset as they are
     * (strided, compressed, of the other byte order). NULL: they always do. */
    bool (*in_place)(const lt_store *store, const lt_tensor *tensor);
    size_t (*alias)(const lt_store *store, size_t index); /* NULL: there are none */
    void (*release)(lt_store *store); /* of store->state; NULL: there is none */
} lt_format;

extern const lt_format lt_format_safetensors;
extern const lt_format lt_format_torch_zip;
extern const lt_format lt_format_torch_legacy;
extern const lt_format lt_format_torch_tar;

/* One file of a model that lies in several. */
typedef struct lt_part {
    lt_store *store;
    const char *file; /* relative to the folder of the whole */
    size_t group;
} lt_part;

/* The files of one component: shards of one model. */
typedef struct lt_group {
    const char *prefix;  /* of its tensors' names: "unet.", or "" */
    const char *folder;  /* "unet/", or "" */
    const char *stem;    /* "diffusion_pytorch_model" */
    const char *variant; /* "fp16", or "" */
    const char *index;   /* the index's file name, or NULL when it is one file */
} lt_group;

/* Where a tensor of a set is. */
typedef struct lt_home {
    size_t part, tensor;
} lt_home;

struct lt_store {
    const lt_format *format;
    lt_source *source; /* NULL for a model of several files */
    lt_reading reading;
    lt_arena arena; /* names, texts */
    char *text;     /* a header that names point into, or NULL */
    lt_tensor *tensors;
    size_t count, capacity;
    lt_map by_name;
    lt_metadata metadata;
    lt_global *globals;
    size_t n_globals, globals_capacity;
    lt_map global_by_name;
    lt_aside *asides;
    size_t n_asides, asides_capacity;
    const char *wrapper; /* in arena, or NULL */
    void *state;         /* the format's own */
    /* A set of files (set.c). */
    const char *path; /* as it was given, in arena */
    const char
        *folder; /* what file names start from: "" or ending in a slash; in arena */
    lt_part *parts;
    size_t n_parts, parts_capacity;
    lt_group *groups;
    size_t n_groups, groups_capacity;
    lt_home *homes; /* of each tensor */
    size_t homes_capacity;
};

/* Opens one file of a set: it was found in a folder or by an index
 * (lt_source_open_found). */
lt_status lt_store_open_part(
    lt_store **out, const char *path, lt_reading reading, lt_error *err) LT_MUST_USE;

/* The descriptor and position where the tensor's bytes lie as they are; false when they
 * have to be read through lt_store_read. */
bool lt_store_in_place(
    const lt_store *store, const lt_tensor *tensor, int *fd, uint64_t *offset);

/* Appends a tensor; its name is copied. A name that is there already is refused. */
lt_status lt_store_add(
    lt_store *store, const lt_tensor *tensor, lt_error *err) LT_MUST_USE;

/* The same; the name lives as long as the store. */
lt_status lt_store_adopt(
    lt_store *store, const lt_tensor *tensor, lt_error *err) LT_MUST_USE;
/* Room for n tensors, so that adding them moves nothing. */
lt_status lt_store_reserve(lt_store *store, size_t n, lt_error *err) LT_MUST_USE;

/* Counts one mention of a global, at that byte of the file; of several verdicts on it
 * danger stands. name is copied. */
lt_status lt_store_add_global(lt_store *store, const char *name, lt_verdict verdict,
    uint64_t at, lt_error *err) LT_MUST_USE;
/* path and what are copied. */
lt_status lt_store_add_aside(
    lt_store *store, const lt_aside *aside, lt_error *err) LT_MUST_USE;

/* ---- sets of files ----------------------------------------------------------------- */

extern const lt_format lt_format_set;

/* A set without files; folder ("" or ending in a slash) is what file names start from. */
lt_status lt_set_new(lt_store **out, const char *path, const char *folder,
    lt_reading reading, lt_error *err) LT_MUST_USE;
/* Strings are copied. */
lt_status lt_set_add_group(
    lt_store *set, const lt_group *group, lt_error *err) LT_MUST_USE;
/* Opens group.folder + name as the next part of the last group. only: NULL, or a test
 * that a tensor of the file must pass to be taken. */
lt_status lt_set_add_file(lt_store *set, const char *name,
    bool (*only)(void *ctx, const char *tensor), void *ctx, lt_error *err) LT_MUST_USE;

/* Adds the shards that an index lists to the set's last group (shards.c). */
lt_status lt_set_add_shards(
    lt_store *set, const char *index_name, lt_error *err) LT_MUST_USE;

/* The model in a folder, or that of an index file (folder.c). */
lt_status lt_folder_open(
    lt_store **out, const char *path, lt_reading reading, lt_error *err) LT_MUST_USE;
lt_status lt_index_open(
    lt_store **out, const char *path, lt_reading reading, lt_error *err) LT_MUST_USE;
bool lt_is_index_name(const char *path); /* model.safetensors.index.json */

/* ---- writers ----------------------------------------------------------------------- */

/* One file that is being written. */
typedef struct lt_volume {
    const struct lt_sink *sink;
    const char *name;     /* relative to the folder; of a single file, its path */
    lt_outfile *file;     /* what will appear */
    lt_outfile *data;     /* holds the tensors: file, or a scratch file beside it */
    const size_t *layout; /* indices of its tensors in the order of their data */
    size_t count;
    size_t prefix_size; /* what the tensors' names have in front in the whole model */
    size_t group;       /* of like */
    const char *index;  /* name of the index that lists it, relative, or NULL */
    lt_metadata *metadata;
    const lt_metadata *repeated; /* that of like's file which it began as, or NULL */
    uint64_t data_at;            /* of the first tensor's data in data */
    uint64_t data_size;
    uint64_t file_size; /* after commit */
    bool hash_expected;
    bool empty_metadata; /* {} is written, not left out */
} lt_volume;

typedef struct lt_sink {
    const char *id;
    const char *extensions[6]; /* NULL ends; the first is written in folders */
    bool holds_metadata, holds_aliases;
    bool (*holds)(lt_dtype dtype);
    /* The tensors' data lies in the file itself, behind a header: malloc memory handed to
     * the caller. Its size depends on the lengths of the metadata values only, not on
     * their content. */
    lt_status (*make_header)(const lt_writer *writer, const lt_volume *volume,
        char **header, size_t *size, lt_error *err);
    /* Or (make_header NULL) it is put into a scratch file, from which this makes the
     * file.
     */
    lt_status (*assemble)(const lt_writer *writer, lt_volume *volume, lt_error *err);
} lt_sink;

extern const lt_sink lt_sink_safetensors, lt_sink_torch;

struct lt_writer {
    lt_output output;
    struct lt_outfolder *folder;
    lt_arena arena;
    lt_tensor *tensors; /* as added; offset: in its volume's data */
    size_t count, capacity;
    size_t *alias_of;  /* of each tensor; itself when it has data of its own */
    size_t *volume_of; /* after plan */
    size_t *part_of;   /* of each tensor: its file in output.like */
    size_t aliases_capacity;
    lt_map by_name;
    lt_metadata metadata; /* of a single file */
    lt_volume *volumes;
    size_t n_volumes, volumes_capacity;
    lt_outfile **extras; /* indices and files that are copied, sealed */
    size_t n_extras, extras_capacity;
    _Atomic uint64_t put;
    uint64_t put_wanted, extra_size;
    struct lt_follower *follower; /* NULL when there is nothing to follow */
    bool planned, begun;
};

/* Divides the tensors into volumes (layout.c). */
lt_status lt_layout_plan(lt_writer *writer, lt_order order, lt_error *err) LT_MUST_USE;
/* Makes the indices of divided groups, as extras. */
lt_status lt_layout_write_indices(lt_writer *writer, lt_error *err) LT_MUST_USE;
/* The sink of a single file. */
lt_status lt_layout_sink(
    const lt_output *output, const lt_sink **sink, lt_error *err) LT_MUST_USE;

#endif
