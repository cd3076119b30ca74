/* SPDX-License-Identifier: MIT */
/* The operations: options in, a report as data out. Nothing here prints. Every operation
 * writes its output whole or not at all. Reports are released by their own function,
 * also after a failure (they then hold what was found so far). */
#ifndef LORATOOL_OPS_H
#define LORATOOL_OPS_H

#include "loratool/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called from one thread at a time, after each item. */
typedef struct lt_progress {
    void (*tick)(void *ctx, size_t done, size_t total, const char *name);
    void *ctx;
} lt_progress;

/* What every operation reports. */
typedef struct lt_cost {
    uint64_t bytes;             /* of the output */
    double seconds;             /* wall time */
    uint64_t peak_memory_bytes; /* of the process so far */
} lt_cost;

/* A name and why; both owned by the report. */
typedef struct lt_note {
    char *name, *reason;
    double energy; /* squared change that is left out; 0 where it has no meaning */
} lt_note;

typedef struct lt_notes {
    lt_note *items;
    size_t count, capacity;
} lt_notes;

/* sqrt(residual / energy): || delta - result || / || delta ||; 0 for a zero delta. */
double lt_relative_error(double residual, double energy);

/* ---- extract ------------------------------------------------------------------------
 */

typedef enum lt_factor_split {
    LT_FACTORS_BALANCED, /* sqrt of the singular values on both factors */
    LT_FACTORS_UP,       /* all on the up factor */
} lt_factor_split;

typedef struct lt_extract_options {
    const char *base, *tuned; /* files */
    const char *output;       /* file, "-", or folder for a PEFT adapter */
    uint64_t rank, conv_rank; /* conv_rank 0: as rank; for kernels larger than 1 */
    double alpha;             /* 0: each module's rank, so that the scale is 1 */
    const char *dtype;        /* NULL: bf16 when tuned is mostly bf16, else f16 */
    const char *dialect;      /* NULL or "auto": what the family's tools expect */
    const char *format;       /* NULL: by the output's extension */
    const char *const *include, *const *exclude; /* NULL-terminated extended regular
                                  expressions on tensor and module names; NULL: none */
    double min_diff; /* a module whose largest |difference| is not above is unchanged */
    const double
        *max_error; /* NULL: none; above it nothing is written, LT_ERR_FIDELITY */
    lt_factor_split split;
    bool all_modules; /* also those that kohya-style loaders have no name for */
    bool overwrite;
    int threads;     /* 0: all cores */
    uint64_t memory; /* bytes of work memory not to go above where there is a choice; 0:
                        a few hundred MB beyond what the largest layer takes */
    lt_progress progress;
} lt_extract_options;

typedef struct lt_extracted {
    const char *tensor; /* borrowed from the report's arena */
    const char *name;   /* module name as written */
    uint64_t rank;
    double energy;   /* || delta ||^2 */
    double residual; /* || delta - scale * up * down ||^2, factors as stored */
    double seconds;  /* that it took */
} lt_extracted;

typedef struct lt_extract_report {
    lt_extracted *modules;
    size_t modules_written, modules_unchanged;
    lt_notes skipped;      /* changed, but not carried by the adapter */
    size_t rest_unchanged; /* tensors that are no modules and did not change */
    uint64_t rank_min, rank_max;
    double error; /* over the written modules: sqrt(sum residual / sum energy) */
    const lt_extracted *worst;
    double skipped_share; /* of the total squared change */
    const char *family, *dialect, *dtype;
    lt_cost cost;
    void *memory; /* internal */
} lt_extract_report;

lt_status lt_extract(const lt_extract_options *options, lt_extract_report *report,
    lt_error *err) LT_MUST_USE;
void lt_extract_report_release(lt_extract_report *report);

/* ---- merge --------------------------------------------------------------------------
 */

typedef struct lt_merge_input {
    const char *path;
    double weight; /* multiplies the adapter's own scale; negative un-merges */
} lt_merge_input;

typedef struct lt_merge_options {
    const char *base, *output; /* output NULL with dry_run */
    const lt_merge_input *inputs;
    size_t n_inputs;
    const char *dtype;  /* NULL or "keep": each tensor's own */
    const char *format; /* NULL: by the output's extension, in a folder as the base */
    uint64_t max_shard_size; /* 0: as the base */
    bool allow_unmatched, dry_run, overwrite;
    bool explain; /* with dry_run: list what can be said, although nothing fits */
    double alpha; /* of adapters whose file holds none (loralib); 0: not given */
    const bool *enable_lora; /* loralib: which of the equal blocks of rows of a fused
                                weight a MergedLinear changes; NULL: not given */
    size_t n_enable_lora;
    bool untie; /* a weight may change whose twin (the same memory) does not */
    int threads;
    uint64_t memory; /* as in extract */
    lt_progress progress;
} lt_merge_options;

/* One adapter module, or rows of its product from first on, and where they go. */
typedef struct lt_applied {
    const char *input, *module, *tensor; /* borrowed from the report */
    uint64_t row0, rows;                 /* of the tensor */
    uint64_t first;                      /* of the product's out rows */
    uint64_t out, in, rank;
    double alpha, factor; /* factor = weight * scale */
} lt_applied;

typedef struct lt_merge_report {
    lt_applied *applied;
    size_t n_applied; /* as many as modules, or more: some go to several tensors */
    size_t modules_applied;
    lt_notes unmatched;      /* adapter modules and tensors that found no place */
    lt_notes untouched;      /* explained: weights that the adapters' dialect names and no
                                module changes, each with that name */
    lt_notes assumed;        /* adapters that lack their config, and what goes for it */
    lt_notes redundant;      /* adapter tensors that only repeat the base's own */
    size_t tensors_replaced; /* by the adapter's own (PEFT's modules_to_save) */
    size_t tensors_changed, tensors_cast, tensors_passed_through;
    size_t files, sidecars; /* written; of them copied beside the weights */
    lt_notes dropped;       /* what the base holds and the output does not */
    const char *base_family;
    char cause[320]; /* the likely reason for what did not match, or "" */
    lt_cost cost;
    void *memory;
} lt_merge_report;

lt_status lt_merge(
    const lt_merge_options *options, lt_merge_report *report, lt_error *err) LT_MUST_USE;
void lt_merge_report_release(lt_merge_report *report);

/* ---- resize -------------------------------------------------------------------------
 */

typedef struct lt_resize_options {
    const char *input, *output;
    uint64_t rank, conv_rank; /* conv_rank 0: as rank */
    double alpha;             /* 0: keep each module's scale */
    const char *dtype;        /* NULL or "keep": each module's own */
    const char *format;       /* NULL: by the output's extension */
    const double *max_error;  /* as in extract */
    lt_factor_split split;
    bool overwrite;
    int threads;
    uint64_t memory; /* as in extract */
    lt_progress progress;
} lt_resize_options;

typedef struct lt_resized {
    const char *name;
    uint64_t rank_before, rank;
    double energy;   /* || scale * up * down ||^2 before */
    double retained; /* part of it that the new rank can hold, 0..1 */
    double residual; /* || before - after ||^2, after as stored */
} lt_resized;

typedef struct lt_resize_report {
    lt_resized *modules;
    size_t modules_written, modules_unchanged; /* unchanged: rank was not above */
    lt_notes skipped; /* carried over as they are: other kinds, other tensors */
    lt_notes dropped; /* what the input holds and the output does not */
    uint64_t rank_min, rank_max;
    double error, retained;
    const lt_resized *worst;
    lt_cost cost;
    void *memory;
} lt_resize_report;

lt_status lt_resize(const lt_resize_options *options, lt_resize_report *report,
    lt_error *err) LT_MUST_USE;
void lt_resize_report_release(lt_resize_report *report);

/* ---- convert ------------------------------------------------------------------------
 */

typedef enum lt_ema {
    LT_EMA_KEEP, /* copies of the weights that are running averages stay as they are */
    LT_EMA_DROP, /* they are left out */
    LT_EMA_USE,  /* they take the place of the weights */
} lt_ema;

typedef struct lt_convert_options {
    const char *input, *output; /* files, folders, "-" */
    const char *format;         /* NULL: by the output's extension */
    const char *dtype;          /* NULL or "keep": each tensor's own */
    lt_ema ema;
    uint64_t max_shard_size; /* 0: as in the input */
    bool everything;         /* LT_READ_EVERYTHING */
    bool salvage;            /* also from a pickle that would run code */
    bool allow_unmatched;    /* leave a PEFT config out that matters */
    bool overwrite;
    int threads;
    lt_progress progress;
} lt_convert_options;

typedef struct lt_convert_report {
    const char *from;     /* container of the input */
    size_t tensors, cast; /* written; of them with another dtype */
    size_t shared;        /* written as the same memory as another one */
    size_t copies;        /* the same memory as another one, but written as a copy */
    size_t ema_dropped, ema_used;
    size_t files, sidecars; /* written; of them copied beside the weights */
    lt_notes dropped;       /* what the output does not hold: values, metadata */
    lt_notes globals;       /* those that are not plain; reason: the verdict */
    lt_cost cost;
} lt_convert_report;

lt_status lt_convert(const lt_convert_options *options, lt_convert_report *report,
    lt_error *err) LT_MUST_USE;
void lt_convert_report_release(lt_convert_report *report);

/* ---- respell ------------------------------------------------------------------------
 */

typedef struct lt_respell_options {
    const char *input, *output;
    lt_adapter *adapter; /* the input, opened: freed by the call; NULL: not yet */
    const char
        *base; /* what its modules are looked up in; NULL: what the adapter tells */
    const char *family;   /* without a base: its id; NULL: as told */
    const char *to;       /* a dialect's id; NULL: what consumer needs */
    const char *consumer; /* its id; NULL: any */
    const char *format;   /* NULL: by the output's extension */
    const char *dtype;    /* NULL or "keep": as the factors are */
    bool allow_unmatched, overwrite;
} lt_respell_options;

typedef struct lt_respell_report {
    const char *from, *to; /* dialects */
    const char *family;    /* of the base */
    size_t modules_read, modules_written;
    size_t modules_folded; /* whose scale went into a factor */
    lt_notes assumed;   /* the adapter, when it lacks its config, and what goes for it */
    lt_notes unmatched; /* what has no place in the output */
    lt_notes dropped;   /* metadata that its format has no place for */
    lt_cost cost;
} lt_respell_report;

/* An adapter in another dialect's names and structure. */
lt_status lt_respell(const lt_respell_options *options, lt_respell_report *report,
    lt_error *err) LT_MUST_USE;
void lt_respell_report_release(lt_respell_report *report);

/* ---- relayout -----------------------------------------------------------------------
 */

typedef struct lt_relayout_options {
    const char *input, *output;
    lt_store *store;    /* the input, opened: closed by the call; NULL: not yet */
    const char *to;     /* "diffusers", or "single": as it was published */
    const char *format; /* NULL: by the output's extension */
    bool allow_unmatched, overwrite;
} lt_relayout_options;

typedef struct lt_relayout_report {
    const char *family;
    size_t tensors;     /* written */
    lt_notes unmatched; /* left out: other parts of the model, what the layout has not */
    lt_notes dropped;   /* what the other layout has no place for */
    lt_notes missing;   /* of a pipeline's folder, what the model does not tell */
    lt_cost cost;
} lt_relayout_report;

/* A model in the other of its two layouts: a single file as published, or diffusers'. */
lt_status lt_relayout(const lt_relayout_options *options, lt_relayout_report *report,
    lt_error *err) LT_MUST_USE;
void lt_relayout_report_release(lt_relayout_report *report);

/* ---- info ---------------------------------------------------------------------------
 */

typedef enum lt_role { LT_ROLE_UNKNOWN, LT_ROLE_BASE, LT_ROLE_ADAPTER } lt_role;

typedef struct lt_info {
    lt_role role;
    const lt_store *store; /* borrowed from whichever of the next two is set */
    lt_model *model;       /* base and unknown */
    lt_adapter *adapter;
    lt_store *owned_store;         /* internal */
    uint64_t params, bytes;        /* of all tensors */
    size_t dtypes[LT_DTYPE_COUNT]; /* tensors of each */
} lt_info;

/* Reads the header (and an adapter's alphas) only. */
lt_status lt_info_open(lt_info *info, const char *path, lt_error *err) LT_MUST_USE;
lt_status lt_info_open_as(
    lt_info *info, const char *path, lt_reading reading, lt_error *err) LT_MUST_USE;
void lt_info_release(lt_info *info);

/* Hashes of one of its files (lt_store_file), and whether those in the file's metadata
 * are right. Reads the whole file. */
typedef struct lt_info_hashes {
    lt_file_hashes of;
    lt_claim claims[LT_MAX_CLAIMS]; /* borrowed from the info's store */
    size_t n_claims;
} lt_info_hashes;

lt_status lt_info_hash(
    const lt_info *info, size_t file, lt_info_hashes *out, lt_error *err) LT_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
