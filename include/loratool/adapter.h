/* SPDX-License-Identifier: MIT */
/* Adapter files: tensors grouped into modules, each of some kind. */
#ifndef LORATOOL_ADAPTER_H
#define LORATOOL_ADAPTER_H

#include "loratool/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What one tensor of a module is. Tensors of kinds that are recognised but not computed
 * with are LT_PART_OTHER: a module may have several. */
typedef enum lt_part {
    LT_PART_DOWN,      /* A: (r, in[, kernel]) */
    LT_PART_UP,        /* B: (out, r[, 1, 1]) */
    LT_PART_MID,       /* Tucker core (r, r, kernel) */
    LT_PART_ALPHA,     /* one element */
    LT_PART_SCALE,     /* one element that replaces alpha / r */
    LT_PART_MAGNITUDE, /* DoRA */
    LT_PART_UP_BIAS,   /* PEFT lora_B.bias */
    LT_PART_OTHER,     /* the last one */
} lt_part;

typedef struct lt_kind lt_kind;       /* a row of a table: static storage */
typedef struct lt_dialect lt_dialect; /* the same */

const char *lt_kind_id(const lt_kind *kind);    /* "lora", "dora", "loha", ... */
const char *lt_kind_title(const lt_kind *kind); /* "LoRA", "LyCORIS LoHa" */
bool lt_kind_has_factors(const lt_kind *kind);  /* lt_module_load works on it */
bool lt_kind_is_pair(const lt_kind *kind);      /* two dense factors and nothing else */
const char *lt_dialect_id(const lt_dialect *dialect); /* "kohya", "diffusers", "peft" */
lt_naming lt_dialect_naming(const lt_dialect *dialect);
bool lt_dialect_holds_alpha(const lt_dialect *dialect); /* as a tensor of each module */
/* A dialect that can be written, by id; NULL when there is none. */
const lt_dialect *lt_dialect_by_id(const char *id);
const lt_dialect *lt_dialect_of_naming(lt_naming naming);

/* A program that loads adapters, and what a file for it must be like. */
typedef struct lt_consumer {
    const char *id, *title;
    const char *dialect;     /* an id */
    const char *families[4]; /* ids of those it loads adapters of; none: of all */
    const char *without;     /* id of a component that it loads none into, or NULL */
    uint64_t least_rank;     /* smaller ones are read wrongly; 0: none are */
    bool only_standard;      /* with other modules it does not know a file */
    bool folder;             /* it loads folders */
} lt_consumer;
const lt_consumer *lt_consumer_by_id(const char *id); /* NULL when there is none */
bool lt_consumer_takes(const lt_consumer *consumer, const lt_family *family);

typedef struct lt_module {
    const char *name; /* as in the file, suffix removed */
    const lt_kind *kind;
    const lt_tensor *part[LT_PART_OTHER]; /* borrowed from the store, NULL when absent */
    const lt_tensor *const *others;       /* n_others tensors of part LT_PART_OTHER */
    size_t n_others;
    uint64_t rank, out, in; /* 0 for kinds without factors; in counts kernel elements */
    uint64_t groups; /* 1, or of a block-diagonal up factor (loralib's MergedLinear): the
                        blocks, each of rank / groups columns; out counts their rows */
    double alpha;    /* when has_alpha */
    double scale;    /* multiplier of up * down: alpha / r unless said otherwise */
    bool has_alpha;
} lt_module;

/* A convolution whose kernel has more than one element. */
bool lt_module_has_kernel(const lt_module *module);

typedef struct lt_adapter lt_adapter;

/* path is a file, a PEFT folder (adapter_config.json beside adapter_model.safetensors or
 * .bin), a folder with diffusers' pytorch_lora_weights.safetensors or .bin, or "-". A
 * file named adapter_model.* takes the adapter_config.json beside it. Reads headers and
 * one-element tensors only. LT_ERR_MISMATCH when the file holds no adapter.
 */
lt_status lt_adapter_open(lt_adapter **out, const char *path, lt_error *err) LT_MUST_USE;
/* *is: path is a folder with PEFT's config or diffusers' adapter file in it. LT_ERR_IO
 * when that cannot be told. */
lt_status lt_adapter_is_folder(const char *path, bool *is, lt_error *err) LT_MUST_USE;
/* *has: lt_adapter_open would read PEFT's config with the file that path stands for. */
lt_status lt_adapter_has_config(const char *path, bool *has, lt_error *err) LT_MUST_USE;
/* What of the config matters beside the factors: a scale other than 1, other tensors in
 * place of the base's, or a reason not to compute with it. False without a config. */
bool lt_adapter_needs_config(lt_adapter *adapter);
/* *keeps: output is a file beside the very config that is read with path. */
lt_status lt_adapter_keeps_config(
    const char *path, const char *output, bool *keeps, lt_error *err) LT_MUST_USE;
/* The same with path's tensor file, when *store is not NULL, open already; the adapter
 * takes it over on success. */
lt_status lt_adapter_open_with(
    lt_adapter **out, const char *path, lt_store **store, lt_error *err) LT_MUST_USE;
/* An adapter from an open store alone, without what stands beside it; the adapter
 * takes it over on success. */
lt_status lt_adapter_new(lt_adapter **out, lt_store **store, lt_error *err) LT_MUST_USE;
void lt_adapter_free(lt_adapter *adapter);

const char *lt_adapter_path(const lt_adapter *adapter); /* as given */
const lt_store *lt_adapter_store(const lt_adapter *adapter);
const lt_dialect *lt_adapter_dialect(const lt_adapter *adapter);
const lt_family *lt_adapter_family(const lt_adapter *adapter); /* best guess */
const char *lt_adapter_kind(const lt_adapter *adapter); /* a kind's id, or "mixed" */
size_t lt_adapter_module_count(const lt_adapter *adapter);
const lt_module *lt_adapter_module(const lt_adapter *adapter, size_t index);
/* Tensors that belong to no module. */
size_t lt_adapter_rest_count(const lt_adapter *adapter);
const lt_tensor *lt_adapter_rest(const lt_adapter *adapter, size_t index);
/* LT_ERR_UNSUPPORTED, with the reason, when the config says that the factors alone do not
 * tell what the model does. Such an adapter can be looked at, not computed with. */
lt_status lt_adapter_usable(const lt_adapter *adapter, lt_error *err) LT_MUST_USE;
/* True for loralib's modules, whose alpha stands nowhere in the file. */
bool lt_module_lacks_alpha(const lt_module *module);
/* True for PEFT's modules without their config, which would tell their alpha, and without
 * the metadata entry "lora_alpha": "rank", which is written where scales are in the
 * factors; their scale is taken to be 1. */
bool lt_adapter_lacks_config(const lt_adapter *adapter);
/* True when there are tensors of further kinds beside the module's own, which its alpha
 * scales too; differences (.diff_b, ...) are none of these. */
bool lt_module_shares_alpha(const lt_module *module);
/* *replaces: a tensor outside all modules stands in the place of the base's own: PEFT's
 * modules_to_save and trained biases. */
lt_status lt_adapter_replaces(lt_adapter *adapter, const lt_tensor *tensor,
    bool *replaces, lt_error *err) LT_MUST_USE;
/* The text of adapter_config.json, or NULL. */
const char *lt_adapter_config(const lt_adapter *adapter);

/* True when the store's tensor names are those of an adapter. */
bool lt_store_holds_adapter(const lt_store *store);

/* up (out x rank) and down (rank x in), exact in double, scale not applied; a Tucker core
 * is folded into down, grouped factors are spread out. The arrays are the caller's. */
lt_status lt_module_load(const lt_adapter *adapter, const lt_module *module, double *up,
    double *down, lt_error *err) LT_MUST_USE;

/* ---- writing ------------------------------------------------------------------------
 */

typedef struct lt_adapter_out lt_adapter_out;

typedef struct lt_adapter_plan {
    const char *path;   /* a file, "-", or a folder (trailing '/' or existing): PEFT */
    const char *format; /* "safetensors" or "torch"; NULL: by the file's extension */
    const lt_dialect *dialect;
    bool overwrite;
    const lt_family *family; /* for metadata */
    bool unsure;             /* the scale was a guess (lt_adapter_lacks_config) */
} lt_adapter_plan;

/* True when that output would be a PEFT folder: a folder, a name that ends in '/', or
 * adapter_model.* beside an adapter_config.json, which would contradict it otherwise. */
bool lt_adapter_path_is_folder(const char *path);

lt_status lt_adapter_out_new(
    lt_adapter_out **out, const lt_adapter_plan *plan, lt_error *err) LT_MUST_USE;
void lt_adapter_out_close(lt_adapter_out *out); /* without commit nothing appears */

/* One module to write, with factors up (out x rank) and down (rank x in). */
typedef struct lt_module_plan {
    const char *name; /* module name; the dialect's suffixes are added to it */
    /* Full tensor names instead, for a file that keeps its own spelling; alpha_name NULL:
     * no alpha tensor. Used when up_name is set. */
    const char *up_name, *down_name, *alpha_name;
    unsigned n_dims;             /* of the weight as consumers see it */
    uint64_t shape[LT_MAX_DIMS]; /* (out, in[, kernel]) */
    uint64_t rank;
    double alpha;
    lt_dtype dtype;      /* of the factors as stored */
    bool fan_in_fan_out; /* the base stores the weight (in, out) */
} lt_module_plan;

lt_status lt_adapter_out_add(lt_adapter_out *out, const lt_module_plan *plan,
    size_t *index, lt_error *err) LT_MUST_USE;
/* A tensor that is carried over as it is. */
lt_status lt_adapter_out_add_copy(lt_adapter_out *out, const lt_store *store,
    const lt_tensor *tensor, lt_error *err) LT_MUST_USE;
/* A whole module of an adapter, carried over as it is and described in the metadata. */
lt_status lt_adapter_out_add_module(lt_adapter_out *out, const lt_store *store,
    const lt_module *module, lt_error *err) LT_MUST_USE;
lt_metadata *lt_adapter_out_metadata(lt_adapter_out *out); /* until begin */
/* An adapter_config.json whose other fields the written one keeps. */
lt_status lt_adapter_out_template(
    lt_adapter_out *out, const char *config_text, lt_error *err) LT_MUST_USE;

lt_status lt_adapter_out_begin(lt_adapter_out *out, lt_error *err) LT_MUST_USE;
/* True when it is a PEFT folder, whose config keeps every module's alpha. */
bool lt_adapter_out_is_folder(const lt_adapter_out *out);
/* Stores the factors of module index; float32 in, cast to its dtype. Thread-safe.
 * LT_ERR_NUMERIC when a value overflows the dtype. */
lt_status lt_adapter_out_put(lt_adapter_out *out, size_t index, const float *up,
    const float *down, lt_error *err) LT_MUST_USE;
/* The same for count values of one of them, from value first on: every value once. */
lt_status lt_adapter_out_put_part(lt_adapter_out *out, size_t index, lt_part part,
    uint64_t first, const float *values, size_t count, lt_error *err) LT_MUST_USE;
/* Hashes, header, config, then the file or folder appears. */
lt_status lt_adapter_out_commit(lt_adapter_out *out, lt_error *err) LT_MUST_USE;
uint64_t lt_adapter_out_size(const lt_adapter_out *out); /* bytes, after commit */
const lt_writer *lt_adapter_out_writer(const lt_adapter_out *out); /* borrowed */

/* ---- hashes in metadata -------------------------------------------------------------
 */

typedef enum lt_verification {
    LT_HASH_WRONG,
    LT_HASH_RIGHT,
    LT_HASH_UNDECIDED, /* LyCORIS': of the tensors in an order that the file does not tell
                        */
} lt_verification;

/* A hash of the file that its metadata holds; borrowed from the metadata. */
typedef struct lt_claim {
    const char *key, *value;
    lt_verification verification;
} lt_claim;

#define LT_MAX_CLAIMS 3
/* Fills claims, at most LT_MAX_CLAIMS, and returns their number. */
size_t lt_claims_check(
    const lt_metadata *meta, const lt_file_hashes *hashes, lt_claim *claims);

#ifdef __cplusplus
}
#endif
#endif
