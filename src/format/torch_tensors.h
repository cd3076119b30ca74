/* SPDX-License-Identifier: MIT */
/* What the torch formats share: storages, the tensors that are views of them, reading. */
#ifndef LT_FORMAT_TORCH_TENSORS_H
#define LT_FORMAT_TORCH_TENSORS_H

#include "format/archive.h"
#include "format/format.h"
#include "format/pickle.h"

/* A run of bytes that tensors are views of. */
typedef struct lt_storage {
    const char *key;
    unsigned item; /* bytes of an element, as first mentioned */
    uint64_t size; /* bytes that the pickle counts on */
    /* Set by the container, through lt_torch_place. */
    bool placed;
    uint64_t available; /* bytes that are there */
    uint64_t offset;    /* in the file; LT_NO_OFFSET when it is compressed */
    size_t entry;       /* of the archive, then */
    uint64_t order;     /* rises with the position in the file */
} lt_storage;

/* How a tensor lies in its storage. */
typedef struct lt_view {
    size_t storage;
    uint64_t first;                /* byte of element 0 in the storage */
    uint64_t end;                  /* byte behind the last element */
    uint64_t strides[LT_MAX_DIMS]; /* in elements */
    bool contiguous;
} lt_view;

/* What a persistent id stands for: a storage or a part of it, or (in tar files) a
 * tensor. */
typedef struct lt_referent {
    enum { LT_REFERS_NOTHING, LT_REFERS_STORAGE, LT_REFERS_TENSOR } kind;
    lt_dtype dtype;
    const char *unread; /* why it cannot be read, or NULL */
    size_t storage;
    uint64_t first, size; /* the part, in bytes */
    lt_tensor tensor;
    lt_view view;
} lt_referent;

typedef struct lt_found {
    lt_tensor tensor;
    lt_view view;
    bool is_copy; /* of an EMA copy of the model */
} lt_found;

/* lt_store.state of a torch file. Zero-initialise. */
typedef struct lt_torch {
    lt_store *store;
    lt_pickle pickle;
    lt_archive *archive; /* zip only */
    bool big_endian;
    lt_arena arena; /* keys, names until they are in the store */
    lt_storage *storages;
    size_t n_storages, storages_capacity;
    lt_map storage_by_key;
    lt_referent *referents; /* lt_persistent.found counts from 1 */
    size_t n_referents, referents_capacity;
    lt_map referent_by_key; /* tar: what was listed before the pickle */
    lt_found *found;        /* the model's tensors, until they are in the store */
    size_t n_found, found_capacity;
    lt_view *views; /* of the store's tensors */
    size_t *aliases;
} lt_torch;

/* A new state, put into the store. */
lt_status lt_torch_new(lt_torch **out, lt_store *store, lt_error *err) LT_MUST_USE;

/* Finds the storage of that key, or adds it; size is the least that it must have. */
lt_status lt_torch_storage(lt_torch *t, const char *key, unsigned item, uint64_t size,
    size_t *index, lt_error *err) LT_MUST_USE;
lt_status lt_torch_refer(
    lt_torch *t, const lt_referent *referent, size_t *index, lt_error *err) LT_MUST_USE;
void lt_torch_place(
    lt_storage *s, uint64_t available, uint64_t offset, size_t entry, uint64_t order);

/* The text of a key: a string or, in old files, an integer. NULL for others. */
const char *lt_torch_key(lt_torch *t, const lt_value *v, lt_error *err);
/* What a storage class holds. LT_ERR_FORMAT when the value is no global. */
lt_status lt_torch_class(const lt_value *class, lt_dtype *dtype, const char **unread,
    lt_error *err) LT_MUST_USE;

/* Gives the persistent ids that were read so far their meaning: tuples that start with
 * 'storage', or keys of what is in referent_by_key. */
lt_status lt_torch_resolve(lt_torch *t, lt_error *err) LT_MUST_USE;

/* Checks the shape that tensor has, with view's strides and its offset in elements,
 * against a part of a storage; completes both. */
lt_status lt_torch_lay(lt_tensor *tensor, lt_view *view, uint64_t offset,
    const lt_referent *part, lt_error *err) LT_MUST_USE;

/* Puts the found tensors into the store in the order of their data. All storages they
 * need must have been placed. */
lt_status lt_torch_finish(lt_torch *t, lt_error *err) LT_MUST_USE;

/* The functions of lt_format. */
lt_status lt_torch_read(const lt_store *store, const lt_tensor *tensor, uint64_t first,
    void *dst, size_t size, lt_error *err);
bool lt_torch_in_place(const lt_store *store, const lt_tensor *tensor);
size_t lt_torch_alias(const lt_store *store, size_t index);
void lt_torch_release(lt_store *store);

#endif
