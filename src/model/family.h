/* SPDX-License-Identifier: MIT */
/* The tables that describe model families. A family is one file that fills an lt_family
 * and one row in lt_families[] of family.c. */
#ifndef LT_MODEL_FAMILY_H
#define LT_MODEL_FAMILY_H

#include "loratool/model.h"
#include "model/layouts.h"

/* What a base checkpoint must (or must not) contain. All signs of a family must hold. */
typedef struct lt_base_sign {
    const char
        *key; /* tensor name after the denoiser prefix; "*x": any name ending in x */
    unsigned n_dims;   /* 0: any */
    unsigned widening; /* not 0: shape[1] == widening * shape[0] */
    bool absent;
    uint64_t columns; /* not 0: shape[1] */
} lt_base_sign;

/* What a module of an adapter shows: any one is enough. */
typedef struct lt_adapter_sign {
    const char *text; /* part of the module's name; # is any number, . also _, : only . */
    uint64_t in;      /* 0: any */
    unsigned n_dims;  /* of the down factor, 0: any */
} lt_adapter_sign;

/* The module that a stored weight is. */
typedef struct lt_rename {
    char path[480];
    bool transposed; /* stored (in, out) */
} lt_rename;

/* What some programs write instead of the end of a module's public path. */
typedef struct lt_respelling {
    const char *end, *instead;
} lt_respelling;

#define LT_MAX_COMPONENTS 8 /* of a family */

struct lt_component {
    const char *id, *title;
    const char *prefixes[8];  /* in the file; NULL ends. The longest match wins */
    const char *kohya[3];     /* module name prefixes; the first is written */
    const char *diffusers[3]; /* the same */
    const char *sibling; /* public paths that begin with it are of another component in
                            diffusers: no prefix stands before them; NULL: none */
    const char *comfyui; /* prefix of ComfyUI's names; NULL: it has none */
    const lt_respelling *respellings; /* end NULL ends; NULL: none */
    const char *const *wrappers; /* path prefixes that heads add or drop, NULL ends */
    const char *const *stems;    /* path prefixes that versions of a program put for each
                                    other, the longer ones first; NULL ends */
    bool is_main;
    bool kohya_native;       /* kohya spells the native path, not the public one */
    bool no_adapter;         /* no adapter format names it */
    const lt_layout *layout; /* NULL: rename tells the names */
    bool is_public;          /* this file has the layout's public names */
    /* Tensor name → the module that it is; false for none. NULL: the path is the name
     * without ".weight". */
    bool (*rename)(const char *name, lt_rename *out);
    /* NULL: every site is standard. */
    bool (*is_standard)(const char *path);
};

struct lt_family {
    const char *id, *title;
    lt_naming naming;
    bool causal_lm, kohya_v2;
    const char *kohya_version, *architecture, *implementation;
    const lt_base_sign *base_signs;       /* key NULL ends */
    const lt_adapter_sign *adapter_signs; /* text NULL ends */
    const lt_component *components;       /* id NULL ends */
};

/* Tried in order; the last one ("unknown") accepts everything. */
extern const lt_family *const lt_families[];

extern const lt_family lt_family_sd1, lt_family_sd2, lt_family_sdxl;
extern const lt_family lt_family_sd1_diffusers, lt_family_sd2_diffusers,
    lt_family_sdxl_diffusers;
extern const lt_family lt_family_sd3, lt_family_sd3_diffusers;
extern const lt_family lt_family_flux, lt_family_flux_diffusers;
extern const lt_family lt_family_chroma, lt_family_chroma_diffusers;
extern const lt_family lt_family_flux2, lt_family_flux2_diffusers;
extern const lt_family lt_family_hunyuan_video, lt_family_hunyuan_video_diffusers;
extern const lt_family lt_family_hunyuan_image, lt_family_hunyuan_image_diffusers;
extern const lt_family lt_family_auraflow, lt_family_auraflow_diffusers;
extern const lt_family lt_family_pixart, lt_family_pixart_diffusers;
extern const lt_family lt_family_lumina, lt_family_lumina_diffusers, lt_family_zimage,
    lt_family_zimage_diffusers;
extern const lt_family lt_family_qwen, lt_family_anima, lt_family_anima_diffusers;
extern const lt_family lt_family_cosmos, lt_family_cosmos_diffusers;
extern const lt_family lt_family_wan, lt_family_wan_diffusers;
extern const lt_family lt_family_ltx, lt_family_ltx_diffusers;
extern const lt_family lt_family_ltx2, lt_family_ltx2_diffusers;
extern const lt_family lt_family_hunyuan_video15, lt_family_hunyuan_video15_fused,
    lt_family_hunyuan_video15_diffusers;
extern const lt_family lt_family_mochi, lt_family_mochi_diffusers;
extern const lt_family lt_family_sana_video, lt_family_sana_video_diffusers,
    lt_family_sana_sprint, lt_family_sana_sprint_diffusers, lt_family_sana,
    lt_family_sana_diffusers;
extern const lt_family lt_family_hidream;
extern const lt_family lt_family_cogvideox, lt_family_cogview4;
extern const lt_family lt_family_kandinsky5;
extern const lt_family lt_family_bria, lt_family_longcat_image, lt_family_ovis_image;
extern const lt_family lt_family_refiner, lt_family_refiner_diffusers;
extern const lt_family lt_family_clip, lt_family_openclip;
extern const lt_family lt_family_vae, lt_family_vae_diffusers;
extern const lt_family lt_family_controlnet, lt_family_controlnet_diffusers;
extern const lt_family lt_family_gpt2, lt_family_bert, lt_family_llama, lt_family_qwen_vl,
    lt_family_neox, lt_family_t5;
extern const lt_family lt_family_unknown;

/* Of a second layout: its adapters are told by the first one's signs. */
extern const lt_adapter_sign lt_no_adapter_signs[];

/* Prefixes under which a checkpoint may hold its denoiser; "" last, NULL ends. */
extern const char *const lt_denoiser_prefixes[];

/* The family of a store and, in words, what told it. */
const lt_family *lt_family_detect(
    const lt_store *store, char *evidence, size_t evidence_size);

/* How the model's file has the component's layout; NULL when that has none. */
const lt_layout_view *lt_model_view(const lt_model *model, const lt_component *component);
/* What the component's tensors begin with in the file. */
const char *lt_model_prefix(const lt_model *model, const lt_component *component);

/* One module may hold both, one below the other: same inputs, same kernel. */
bool lt_site_same_inputs(const lt_site *a, const lt_site *b);

/* The same model in its other layout; NULL when there is none. */
const lt_family *lt_family_counterpart(const lt_family *family);
/* The component of that id; NULL when the family has none. */
const lt_component *lt_family_component(const lt_family *family, const char *id);

/* ---- naming rules (naming_*.c) ------------------------------------------------------
 */

/* Early saves of CLIP lack the text_model. level. */
bool lt_rename_clip(const char *name, lt_rename *out);
extern const lt_respelling lt_respellings_unet[], lt_respellings_clip[],
    lt_respellings_vae[];
/* Among what sd-scripts trains. */
bool lt_standard_unet(const char *path);
bool lt_standard_clip(const char *path);

/* Sets out to that path, not transposed; false when it is too long. */
bool lt_rename_to(lt_rename *out, const char *fmt, ...) LT_PRINTF(2, 3);
bool lt_begins_with_any(const char *s, const char *const *beginnings); /* NULL ends */
/* Length of s without that ending, or 0 when it does not have it. */
size_t lt_stem_size(const char *s, const char *ending);

/* s behind that beginning, or NULL when it does not have it. */
const char *lt_behind(const char *s, const char *beginning);
/* A number and a dot at *p, which moves past them. */
bool lt_take_number(const char **p, int *number);

#endif
