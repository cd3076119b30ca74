/* SPDX-License-Identifier: MIT */
/* Tables inside the adapter layer: kinds, key suffixes, dialects, PEFT's sidecar. */
#ifndef LT_ADAPTER_KIND_H
#define LT_ADAPTER_KIND_H

#include "adapter/pattern.h"
#include "base/arena.h"
#include "base/json.h"
#include "base/map.h"
#include "loratool/adapter.h"

/* One key suffix and what it says. common suffixes (alpha, ...) belong to the kind that
 * the module's other tensors tell. */
typedef struct lt_suffix {
    const char *text;
    size_t size;
    lt_part part;
} lt_suffix;

/* clang-format off */
#define LT_SUFFIX(text, part) { text, sizeof text - 1, part }
#define LT_NO_SUFFIX { NULL, 0, LT_PART_OTHER }
/* clang-format on */

struct lt_kind {
    const char *id, *title;
    const lt_suffix *suffixes; /* text NULL ends */
    /* Fills rank, out, in from the parts; checks that they fit each other. NULL: the kind
     * is recognised by name only. */
    lt_status (*measure)(lt_module *module, lt_error *err);
    lt_status (*load)(const lt_store *store, const lt_module *module, double *up,
        double *down, lt_error *err);
    /* Its suffixes occur in ordinary models too: one of them alone proves no adapter. */
    bool common_words;
    bool pair; /* up, down and their scale are all there is to it */
};

/* In the order in which a module with several kinds' tensors is named. */
extern const lt_kind *const lt_kinds[]; /* NULL ends */
extern const lt_kind lt_kind_lora;
/* loralib's LoRA of a fused weight; told by shapes, not by names. */
extern const lt_kind lt_kind_lora_merged;
/* LoRA whose module also holds tensors that change the formula. */
extern const lt_kind lt_kind_dora, lt_kind_lora_bias;
extern const lt_suffix lt_common_suffixes[];

/* Splits a tensor name. Returns the size of the module name, 0 when no suffix fits; *kind
 * is NULL for a common suffix. */
size_t lt_split_name(const char *name, const lt_kind **kind, lt_part *part);

struct lt_dialect {
    const char *id;
    lt_naming naming;
    const char *down, *up;   /* suffixes as written; NULL: not written */
    bool alpha;              /* writes <module>.alpha */
    const char *prefixes[6]; /* of module names, to recognise it; NULL ends */
};

/* Of a file with these module names; never NULL. */
/* Metadata of PEFT's factors in one file, where alpha has no place: the scale is 1. */
#define LT_ALPHA_KEY "lora_alpha"
#define LT_ALPHA_IS_RANK "rank"

const lt_dialect *lt_dialect_detect(const lt_module *modules, size_t count);

/* ---- paths --------------------------------------------------------------------------
 */

/* The tensor file that path stands for, and the config that goes with it ("" if none);
 * both have room for size bytes, path is at least 64 shorter. */
lt_status lt_adapter_locate(
    const char *path, char *file, char *config, size_t size, lt_error *err) LT_MUST_USE;
/* Of a file called adapter_model.*: the length of its folder's name, with the path of the
 * config that would be beside it in config; -1 for other names. */
int lt_adapter_config_beside(const char *path, char *config, size_t size);

/* ---- PEFT's adapter_config.json -----------------------------------------------------
 */

/* One entry of rank_pattern or alpha_pattern. */
typedef struct lt_peft_rule {
    lt_pattern pattern;
    double value;
} lt_peft_rule;

typedef struct lt_peft_rules {
    lt_peft_rule *items; /* document order: the first match counts */
    size_t count;
    lt_map exact;     /* path -> the first of items that only this path matches */
    size_t *searched; /* the others */
    size_t n_searched;
    uint64_t memory; /* bytes that PCRE2 takes for them */
} lt_peft_rules;

/* Starts zeroed; count is the most that is added. */
lt_status lt_peft_rules_reserve(
    lt_peft_rules *rules, size_t count, lt_error *err) LT_MUST_USE;
lt_status lt_peft_rules_add(
    lt_peft_rules *rules, const char *pattern, double value, lt_error *err) LT_MUST_USE;
/* fallback where none matches. *work grows by the steps it took; LT_ERR_LIMIT when that
 * is over LT_LIMIT_PATTERN_WORK. */
lt_status lt_peft_rules_find(const lt_peft_rules *rules, const char *path,
    double fallback, double *value, uint64_t *work, lt_error *err) LT_MUST_USE;
void lt_peft_rules_release(lt_peft_rules *rules);

typedef struct lt_peft_config {
    lt_peft_rules ranks, alphas;
    double r, alpha;
    bool rslora;
    bool dora;
    char **saved; /* modules_to_save, by their ends; none ends in another one */
    size_t n_saved;
    bool biases;       /* bias is "all" or "lora_only": biases in the file are absolute */
    char refusal[256]; /* why factors under this config cannot be used, or "" */
} lt_peft_config;

/* Reads the fields that matter for merging. A field of a wrong type is LT_ERR_FORMAT;
 * settings under which the factors alone do not say what the model does are put into
 * refusal. */
lt_status lt_peft_config_parse(
    lt_peft_config *config, const char *text, size_t size, lt_error *err) LT_MUST_USE;
/* diffusers' lora_adapter_metadata: the same fields, in an object, behind a prefix. */
lt_status lt_peft_config_view(lt_peft_config *config, const lt_json *json,
    const char *prefix, lt_error *err) LT_MUST_USE;
void lt_peft_config_release(lt_peft_config *config);

/* Scale of a module of that rank: alpha / r or alpha / sqrt(r), patterns applied. path is
 * the module path without "base_model.model."; work as in lt_peft_rules_find. */
lt_status lt_peft_config_scale(const lt_peft_config *config, const char *path,
    uint64_t rank, double *alpha, double *scale, uint64_t *work,
    lt_error *err) LT_MUST_USE;

/* *saves: the config says that the tensor of that path is the base's own, trained. */
lt_status lt_peft_config_saves(const lt_peft_config *config, const char *path,
    bool *saves, uint64_t *work, lt_error *err) LT_MUST_USE;
/* LT_ERR_LIMIT when it is over the ceiling. */
lt_status lt_peft_check_work(uint64_t work, lt_error *err) LT_MUST_USE;

/* One module, for writing a config. */
typedef struct lt_peft_entry {
    const char *path;
    uint64_t rank;
    double alpha;
} lt_peft_entry;
/* malloc text with sorted keys, as PEFT writes them. template_text: an existing
 * config whose other fields are kept, or NULL. */
lt_status lt_peft_config_make(const lt_peft_entry *entries, size_t count,
    bool fan_in_fan_out, bool causal_lm, const char *template_text, char **text,
    lt_error *err) LT_MUST_USE;

/* ---- training metadata --------------------------------------------------------------
 */

/* What the ss_network_* fields summarise. */
typedef struct lt_network_summary {
    uint64_t dim_min, dim_max, conv_dim_min, conv_dim_max; /* ranks; 0: no such module */
    double alpha_min, alpha_max, conv_alpha_min, conv_alpha_max;
} lt_network_summary;

/* ss_network_dim, ss_network_alpha and the conv_* entries of ss_network_args; "Dynamic"
 * where modules differ, as sd-scripts writes it. */
lt_status lt_describe_network(
    lt_metadata *meta, const lt_network_summary *summary, lt_error *err) LT_MUST_USE;

/* The rest of kohya's minimum set and modelspec.*, for an adapter made from nothing. */
lt_status lt_describe_origin(lt_metadata *meta, const lt_family *family,
    const char *title, lt_error *err) LT_MUST_USE;

#endif
