/* SPDX-License-Identifier: MIT */
/* Tensor containers: reading what a file holds, writing a new one. */
#ifndef LORATOOL_STORE_H
#define LORATOOL_STORE_H

#include "loratool/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- metadata ---------------------------------------------------------------------- */

/* String pairs in file order. Zero-initialise; owned by whoever declared it. */
typedef struct lt_metadata {
    struct lt_metadata_entry {
        char *key, *value;
    } * entries;
    size_t count, capacity;
} lt_metadata;

const char *lt_metadata_get(const lt_metadata *meta, const char *key); /* or NULL */
/* Adds, or replaces the value of, key. Bytes of value that are no UTF-8 become U+FFFD. */
lt_status lt_metadata_set(
    lt_metadata *meta, const char *key, const char *value, lt_error *err) LT_MUST_USE;
void lt_metadata_remove(lt_metadata *meta, const char *key);
lt_status lt_metadata_copy(
    lt_metadata *dst, const lt_metadata *src, lt_error *err) LT_MUST_USE;
void lt_metadata_release(lt_metadata *meta);

/* ---- reading ----------------------------------------------------------------------- */

typedef struct lt_store lt_store;

/* Which tensors a torch checkpoint is opened for. */
typedef enum lt_reading {
    LT_READ_MODEL, /* the model's: wrappers ("state_dict") are taken off the names, what
                      belongs to the training (optimizer states) is set aside */
    LT_READ_EVERYTHING, /* all, under their full dotted paths */
} lt_reading;

/* Opens path ("-": standard input): a file of tensors, whose format is told by content,
 * never by name; the *.index.json of a sharded model; or a folder that holds a model
 * (shards, a pipeline of diffusers), which is read as one. Reads headers only.
 * LT_ERR_FORMAT names the file, the tensor and the byte position at fault. */
lt_status lt_store_open(lt_store **out, const char *path, lt_error *err) LT_MUST_USE;
lt_status lt_store_open_as(
    lt_store **out, const char *path, lt_reading reading, lt_error *err) LT_MUST_USE;
void lt_store_close(lt_store *store); /* NULL allowed */

/* A store of names and shapes without data, empty at first; reading a tensor of it fails.
 * Strings are copied. */
lt_status lt_store_hollow(lt_store **out, const char *title, lt_error *err) LT_MUST_USE;
lt_status lt_store_hollow_add(lt_store *store, const char *name, lt_dtype dtype,
    const uint64_t *shape, unsigned n_dims, lt_error *err) LT_MUST_USE;

/* LT_ERR_IO when a file of the store is not what it was when it was opened: shorter,
 * longer, or written since. What was read from it may then be of two versions. */
lt_status lt_store_unchanged(const lt_store *store, lt_error *err) LT_MUST_USE;

const char *lt_store_path(const lt_store *store);
/* "safetensors", "torch zip", "torch legacy", "torch tar"; of a model in several files
 * that of its files, or "mixed". */
const char *lt_store_container(const lt_store *store);
uint64_t lt_store_file_size(const lt_store *store); /* of all its files */

/* Tensors in the order of their data in the file, or of their files. Borrowed; live as
 * long as the store. */
size_t lt_store_count(const lt_store *store);
const lt_tensor *lt_store_at(const lt_store *store, size_t index);
const lt_tensor *lt_store_find(const lt_store *store, const char *name); /* or NULL */
size_t lt_store_index(const lt_store *store, const lt_tensor *tensor);
const lt_metadata *lt_store_metadata(const lt_store *store);

/* The index of the first tensor that is the same memory (same elements of the same
 * storage), or index itself. */
size_t lt_store_alias(const lt_store *store, size_t index);

/* Bytes [first, first + size) of a tensor in row-major order, little-endian, into dst.
 * Thread-safe. */
lt_status lt_store_read(const lt_store *store, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err) LT_MUST_USE;

/* Prefixes *err with the file and the tensor; returns err's code. */
lt_status lt_store_blame(const lt_store *store, const lt_tensor *tensor, lt_error *err);

/* The files behind a store: one, unless the model is sharded or a folder. Paths are
 * relative to its folder; of a single file, its own path. */
const char *lt_store_folder(const lt_store *store); /* ends in '/'; NULL: no folder */
size_t lt_store_file_count(const lt_store *store);
const char *lt_store_file(const lt_store *store, size_t file);
size_t lt_store_file_of(const lt_store *store, const lt_tensor *tensor);
const lt_metadata *lt_store_file_metadata(const lt_store *store, size_t file);

#define LT_HASH_SIZE 65 /* of a SHA-256: 64 lower-case hex digits and NUL */

/* What a file is known by. Forms that only safetensors files have are "" for others. */
typedef struct lt_file_hashes {
    char sha256[LT_HASH_SIZE]; /* of the whole file */
    char data[LT_HASH_SIZE];   /* safetensors: of all bytes behind the header */
    char legacy[9];            /* safetensors: sshs_legacy_hash, see below */
    char autov1[9];            /* of bytes [0x100000, 0x110000) */
    char autov2[11];           /* the first digits of sha256 */
    char autov3[13];           /* the first digits of data, else of sha256 */
} lt_file_hashes;

/* Reads the whole file once, on as many cores as there are hashes to compute. LT_ERR_IO
 * when it was changed since the store was opened. */
lt_status lt_store_hash(
    const lt_store *store, size_t file, lt_file_hashes *out, lt_error *err) LT_MUST_USE;

/* ---- what a file holds besides its tensors ----------------------------------------- */

/* What a global that a pickle names means for whoever unpickles it. */
typedef enum lt_verdict {
    LT_PLAIN,     /* data: tensors, storages, containers, numbers */
    LT_UNKNOWN,   /* some class or function; loratool leaves it alone */
    LT_DANGEROUS, /* runs code, reads files or opens connections: os.system, eval, ... */
} lt_verdict;

const char *lt_verdict_text(lt_verdict verdict); /* "plain", "unknown", "dangerous" */

typedef struct lt_global {
    const char *name; /* "os.system" */
    lt_verdict verdict;
    size_t count;    /* times the file names it */
    uint64_t offset; /* of the first time, or the first that is dangerous, in the file */
} lt_global;

/* Something that is no tensor of the model. */
typedef struct lt_aside {
    const char *path; /* dotted: "optimizer_states" */
    const char *what; /* "list of 1, 688 tensors", "integer 12" */
    uint64_t bytes;   /* of the tensors in it */
    bool unread;      /* a tensor of the model of a kind that is not read (quantised) */
} lt_aside;

size_t lt_store_global_count(const lt_store *store);
const lt_global *lt_store_global(const lt_store *store, size_t index);
size_t lt_store_aside_count(const lt_store *store);
const lt_aside *lt_store_aside(const lt_store *store, size_t index);
/* The dotted path that was taken off the tensors' names ("state_dict"), or "". */
const char *lt_store_wrapper(const lt_store *store);

/* LT_ERR_FORMAT when unpickling the file, or one of the set, would run code. */
lt_status lt_store_harmless(const lt_store *store, lt_error *err) LT_MUST_USE;

/* LT_OK when the tensors are all there is to the model and the file is harmless.
 * LT_ERR_FORMAT when unpickling it would run code, unless salvage; LT_ERR_UNSUPPORTED
 * when a tensor of the model is of a kind that is not read. */
lt_status lt_store_usable(const lt_store *store, bool salvage, lt_error *err) LT_MUST_USE;

/* ---- writing ----------------------------------------------------------------------- */

typedef struct lt_writer lt_writer;

/* The order in which tensors are laid out. */
typedef enum lt_order {
    LT_ORDER_GIVEN,     /* as added */
    LT_ORDER_REFERENCE, /* as safetensors' writer does: dtype descending, then name */
} lt_order;

/* The folder of a pipeline's component: tensors whose names begin with prefix ("unet.")
 * go, without it, into files called stem in the folder of that name ("unet/"); with the
 * prefix "" into the output's own folder. */
#define LT_MAX_OUTPUT_FOLDERS 16
typedef struct lt_output_folder {
    const char *prefix, *stem;
} lt_output_folder;

/* Where tensors go and in which form. Strings are copied; like is borrowed until commit.
 */
typedef struct lt_output {
    const char *path;   /* a file, "-" for standard output, or a folder */
    const char *format; /* "safetensors" or "torch"; NULL: by the file's extension, in a
                           folder as like */
    bool overwrite;
    bool folder;          /* path is one */
    const char *wrapper;  /* torch: the dotted path of the dict that holds the tensors
                             ("state_dict"), NULL or "" for none */
    const lt_store *like; /* in a folder: the model whose files are repeated: names,
                             shards, components, metadata; NULL: one file, or */
    const lt_output_folder *folders; /* in a folder: the components of a new pipeline */
    size_t n_folders;
    uint64_t max_shard_size; /* in a folder: bytes of tensors a file; 0: like's shards */
} lt_output;

/* True for a folder that exists and for names that end in '/'. */
bool lt_path_is_folder_output(const char *path);

/* Plan first (add, set metadata), then begin, then put bytes from any thread, then
 * commit: the file or folder appears whole or not at all. */
lt_status lt_writer_new(
    lt_writer **out, const lt_output *output, lt_error *err) LT_MUST_USE;
void lt_writer_close(lt_writer *writer); /* without commit: removes temporary files */

/* Returns the tensor's index by *index (NULL allowed). Name and shape are copied. */
lt_status lt_writer_add(lt_writer *writer, const char *name, lt_dtype dtype,
    unsigned n_dims, const uint64_t *shape, size_t *index, lt_error *err) LT_MUST_USE;

/* Tensor index is the same memory as the earlier tensor of. *shared tells whether the
 * format can hold that: then index must not be put; otherwise it is a copy that has to
 * be.
 */
void lt_writer_alias(lt_writer *writer, size_t index, size_t of, bool *shared);

/* Of the one file; may be changed until begin; values (not keys or lengths) until commit.
 * In a folder every file has like's, see lt_writer_file_metadata. */
lt_metadata *lt_writer_metadata(lt_writer *writer);

/* Decides which tensor goes into which file; no tensor can be added afterwards. Called by
 * begin unless it was before. */
lt_status lt_writer_plan(lt_writer *writer, lt_order order, lt_error *err) LT_MUST_USE;
size_t lt_writer_file_count(const lt_writer *writer);
lt_metadata *lt_writer_file_metadata(lt_writer *writer, size_t file);
/* That metadata, of one of like's files, is what a file of the output got. */
bool lt_writer_repeats(const lt_writer *writer, const lt_metadata *metadata);
/* False for formats that have no place for it: it is then left out. */
bool lt_writer_holds_metadata(const lt_writer *writer, size_t file);

/* Fixes the layout. */
lt_status lt_writer_begin(lt_writer *writer, lt_order order, lt_error *err) LT_MUST_USE;

/* Bytes [first, first + size) of tensor index. Every byte must be put exactly once. */
lt_status lt_writer_put(lt_writer *writer, size_t index, uint64_t first, const void *src,
    size_t size, lt_error *err) LT_MUST_USE;

/* The whole of tensor index from a tensor of equal size in a store. */
lt_status lt_writer_copy(lt_writer *writer, size_t index, const lt_store *store,
    const lt_tensor *tensor, lt_error *err) LT_MUST_USE;

/* A file of a folder output that holds no tensors, copied from a path; it appears with
 * the others. */
lt_status lt_writer_copy_file(
    lt_writer *writer, const char *name, const char *from, lt_error *err) LT_MUST_USE;

/* A text file of a folder output; a line feed is added. */
lt_status lt_writer_put_text(
    lt_writer *writer, const char *name, const char *text, lt_error *err) LT_MUST_USE;

/* Before begin: the hash of that file will be asked for. If it is large, it is computed
 * while the data is put. */
void lt_writer_expect_hash(lt_writer *writer, size_t file);

/* SHA-256 of a file's data section as put so far. */
lt_status lt_writer_hash(
    lt_writer *writer, size_t file, char hex[LT_HASH_SIZE], lt_error *err) LT_MUST_USE;

/* sd-scripts' sshs_legacy_hash: SHA-256 of bytes [0x100000, 0x110000) of the file as it
 * would be with the ss_* metadata entries alone; callers keep the first 8 digits. */
lt_status lt_writer_legacy_hash(
    lt_writer *writer, size_t file, char hex[LT_HASH_SIZE], lt_error *err) LT_MUST_USE;

/* LT_ERR_INTERNAL when bytes are missing. Writes headers last. */
lt_status lt_writer_commit(lt_writer *writer, lt_error *err) LT_MUST_USE;

uint64_t lt_writer_size(const lt_writer *writer); /* of all its files, after commit */

#ifdef __cplusplus
}
#endif
#endif
