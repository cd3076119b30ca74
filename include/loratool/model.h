/* SPDX-License-Identifier: MIT */
/* What a base checkpoint is, and the places in it that an adapter can act on. */
#ifndef LORATOOL_MODEL_H
#define LORATOOL_MODEL_H

#include "loratool/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How module names are spelled in adapter files. */
typedef enum lt_naming {
    LT_NAMING_KOHYA,     /* lora_unet_down_blocks_0_..., underscores */
    LT_NAMING_DIFFUSERS, /* unet.down_blocks.0..., text_encoder.text_model... */
    LT_NAMING_PEFT,      /* base_model.model.model.layers.0... */
    LT_NAMING_COMFYUI,   /* diffusion_model.input_blocks.1.1..., as published */
    LT_NAMING_BFL,       /* double_blocks.0.img_attn.qkv: the denoiser's, no prefix */
    LT_NAMING_COUNT
} lt_naming;

typedef struct lt_family lt_family;       /* a row of a table: static storage */
typedef struct lt_component lt_component; /* U-Net, text encoder, ...: the same */

const char *lt_family_id(const lt_family *family);    /* "sd1", "sdxl", "unknown" */
const char *lt_family_title(const lt_family *family); /* for people */
lt_naming lt_family_naming(const lt_family *family);  /* what its users' tools expect */
/* True when the path begins with what the family's head models wrap a bare model in
 * ("model.", "transformer."). */
bool lt_family_wraps(const lt_family *family, const char *path);
bool lt_family_is_causal_lm(const lt_family *family); /* PEFT's task type CAUSAL_LM */
/* kohya's ss_base_model_version and ss_v2, modelspec.architecture without "/lora" and
 * modelspec.implementation; NULL when the family has none. */
const char *lt_family_kohya_version(const lt_family *family);
bool lt_family_kohya_v2(const lt_family *family);
const char *lt_family_architecture(const lt_family *family);
const char *lt_family_implementation(const lt_family *family);

const char *lt_component_id(const lt_component *component);    /* "unet", "te1" */
const char *lt_component_title(const lt_component *component); /* "U-Net" */
/* True for the part of the model that a PEFT adapter of it wraps: the denoiser, or the
 * whole of a language model. */
bool lt_component_is_main(const lt_component *component);

/* A weight matrix, or a block of rows of a fused one, that a module of an adapter can
 * change. Consumers see it as (out, in): in counts kernel elements too.
 *
 * A weight that is fused in this file and apart in diffusers (qkv) has a site for the
 * whole, which the native layout names, and one for each of its parts, which diffusers
 * names. A weight that is a part in this file names the fused module and its place in it.
 */
typedef struct lt_site {
    const lt_tensor *tensor;
    const lt_component *component;
    uint64_t row0, rows; /* rows of the stored tensor; the whole of it unless a part */
    uint64_t out, in;    /* out = rows, in = columns; swapped when transposed */
    bool transposed;     /* stored (in, out): transformers' Conv1D, x*P projections */
    bool standard; /* among the modules that kohya-style trainers and loaders name */
    bool swapped; /* the other layout has the two halves of the rows in the other order */
    const struct lt_site *halves; /* of a swapped one, the two of them; else NULL */
    unsigned part, parts;         /* the part-th of so many of the native module */
    const struct lt_site *next;   /* the part that follows it there */
    uint64_t native_row0;         /* its place there, */
    uint64_t native_rows;         /* of so many rows; 0 where parts are
                                     missing or take other inputs */
    const char
        *native;      /* module path in the family's original layout, without the
                         component's prefix; of families with one layout, in this file */
    const char *path; /* module path in diffusers or transformers; "" for the whole of a
                         weight that is apart there */
} lt_site;

/* Why a tensor is not a site. */
typedef enum lt_rest {
    LT_REST_NONE, /* it is one */
    LT_REST_BIAS,
    LT_REST_NORM, /* norms and other vectors and scalars */
    LT_REST_EMBEDDING,
    LT_REST_NOT_FLOAT,
    LT_REST_DTYPE,     /* a floating type that loratool does not compute with */
    LT_REST_COMPONENT, /* part of the model that no adapter format names (VAE) */
    LT_REST_UNNAMED,   /* a matrix that no loader has a module name for */
    LT_REST_COUNT
} lt_rest;

const char *lt_rest_text(lt_rest rest); /* "bias", "norm or vector", ... */

typedef struct lt_model lt_model;

/* Recognises the family from names and shapes and lists the sites, in file order. The
 * store is borrowed and must outlive the model. An unrecognised file is no error: its
 * family is "unknown" and its sites are named by their tensors. */
lt_status lt_model_new(lt_model **out, const lt_store *store, lt_error *err) LT_MUST_USE;
/* The same for a file whose family is known. */
lt_status lt_model_new_of(lt_model **out, const lt_store *store, const lt_family *family,
    lt_error *err) LT_MUST_USE;
void lt_model_free(lt_model *model);

const lt_store *lt_model_store(const lt_model *model);
const lt_family *lt_model_family(const lt_model *model);
const char *lt_model_evidence(const lt_model *model); /* one line: what told the family */
size_t lt_model_site_count(const lt_model *model);
const lt_site *lt_model_site(const lt_model *model, size_t index);
lt_rest lt_model_rest(const lt_model *model, const lt_tensor *tensor);
const lt_component *lt_model_component(const lt_model *model, const lt_tensor *tensor);

/* The site's module name in that naming, into dst ("" when it has none). */
void lt_site_name(const lt_site *site, lt_naming naming, char *dst, size_t dst_size);
/* False for the whole of a fused weight whose parts the naming names, and for parts where
 * it names the whole. */
bool lt_site_serves(const lt_site *site, lt_naming naming);
/* The halves of the rows stand in the other order in a module of that naming. */
bool lt_site_swaps(const lt_site *site, lt_naming naming);

/* ---- from adapter names to sites ----------------------------------------------------
 */

/* Every spelling of every site, mapped forward from the model's own names. */
typedef struct lt_alias_map lt_alias_map;

lt_status lt_alias_map_new(
    lt_alias_map **out, const lt_model *model, lt_error *err) LT_MUST_USE;
void lt_alias_map_free(lt_alias_map *map);

/* What a module name stands for: one site, or rows of up to LT_MAX_PIECES tensors, from
 * the module's row first on. */
#define LT_MAX_PIECES 4
typedef struct lt_piece {
    const lt_site *site;
    uint64_t first;
} lt_piece;
typedef struct lt_match {
    size_t n_pieces; /* 0: nothing */
    lt_piece pieces[LT_MAX_PIECES];
    uint64_t out, in; /* of all pieces together */
    bool ambiguous;   /* nothing, because two modules of the model claim the name */
} lt_match;
lt_match lt_alias_find(const lt_alias_map *map, const char *name);

/* ---- without a base -----------------------------------------------------------------
 */

/* One module of an adapter, as far as telling its target needs it. */
typedef struct lt_module_hint {
    const char *name;
    uint64_t in;     /* columns of the down factor, 0 when unknown */
    unsigned n_dims; /* of the down factor as stored */
} lt_module_hint;

/* The family an adapter with these modules was made for; never NULL. */
const lt_family *lt_family_of_adapter(const lt_module_hint *hints, size_t count);
/* The component a module name speaks of by its prefix: "unet", "te1", ...; "model" when
 * it says nothing. *prefix_size (NULL allowed) gets the prefix's length. */
const char *lt_component_of_name(const char *module_name, size_t *prefix_size);

#ifdef __cplusplus
}
#endif
#endif
