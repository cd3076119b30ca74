/* SPDX-License-Identifier: MIT */
#include "model/family.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A file of no known family: parts are told by prefix, modules named by their tensors. */
static const lt_component unknown_components[] = {
    { .id = "model",
        .title = "model",
        .prefixes = { "model.diffusion_model.", "diffusion_model.", "" },
        .kohya = { "lora_unet_" },
        .diffusers = { "transformer.", "unet." },
        .is_main = true },
    { .id = "vae",
        .title = "VAE",
        .prefixes = { "first_stage_model.", "vae." },
        .no_adapter = true },
    { 0 },
};

const lt_family lt_family_unknown = {
    .id = "unknown",
    .title = "unknown family",
    .naming = LT_NAMING_PEFT,
    .components = unknown_components,
};

const lt_family *const lt_families[] = {
    &lt_family_controlnet,
    &lt_family_controlnet_diffusers,
    &lt_family_refiner,
    &lt_family_sdxl,
    &lt_family_sd2,
    &lt_family_sd1,
    &lt_family_sdxl_diffusers,
    &lt_family_refiner_diffusers,
    &lt_family_sd2_diffusers,
    &lt_family_sd1_diffusers,
    &lt_family_sd3,
    &lt_family_sd3_diffusers,
    &lt_family_flux2,
    &lt_family_flux2_diffusers,
    &lt_family_hunyuan_video15,
    &lt_family_hunyuan_video15_fused,
    &lt_family_hunyuan_video15_diffusers,
    &lt_family_hunyuan_video,
    &lt_family_hunyuan_video_diffusers,
    &lt_family_hunyuan_image,
    &lt_family_hunyuan_image_diffusers,
    &lt_family_auraflow,
    &lt_family_auraflow_diffusers,
    &lt_family_mochi,
    &lt_family_mochi_diffusers,
    &lt_family_sana_video,
    &lt_family_sana_video_diffusers,
    &lt_family_sana_sprint,
    &lt_family_sana_sprint_diffusers,
    &lt_family_sana,
    &lt_family_sana_diffusers,
    &lt_family_pixart,
    &lt_family_pixart_diffusers,
    &lt_family_lumina,
    &lt_family_lumina_diffusers,
    &lt_family_zimage,
    &lt_family_zimage_diffusers,
    &lt_family_hidream,
    &lt_family_kandinsky5,
    &lt_family_qwen,
    &lt_family_anima,
    &lt_family_anima_diffusers,
    &lt_family_cosmos,
    &lt_family_cosmos_diffusers,
    &lt_family_ltx2,
    &lt_family_ltx2_diffusers,
    &lt_family_ltx,
    &lt_family_ltx_diffusers,
    &lt_family_cogvideox,
    &lt_family_cogview4,
    &lt_family_wan,
    &lt_family_wan_diffusers,
    &lt_family_chroma,
    &lt_family_chroma_diffusers,
    &lt_family_bria,
    &lt_family_longcat_image,
    &lt_family_ovis_image,
    &lt_family_flux,
    &lt_family_flux_diffusers,
    &lt_family_vae,
    &lt_family_vae_diffusers,
    &lt_family_clip,
    &lt_family_openclip,
    &lt_family_gpt2,
    &lt_family_bert,
    &lt_family_qwen_vl,
    &lt_family_llama,
    &lt_family_neox,
    &lt_family_t5,
    &lt_family_unknown,
};

const lt_adapter_sign lt_no_adapter_signs[] = { { 0 } };

#define N_FAMILIES (sizeof lt_families / sizeof *lt_families)

const char *const lt_denoiser_prefixes[] = { "model.diffusion_model.", "diffusion_model.",
    "model.model.", "control_model.", "unet.", "transformer.", "net.", "model.", "",
    NULL };

const char *lt_family_id(const lt_family *family)
{
    return family->id;
}

const char *lt_family_title(const lt_family *family)
{
    return family->title;
}

lt_naming lt_family_naming(const lt_family *family)
{
    return family->naming;
}

bool lt_family_wraps(const lt_family *family, const char *path)
{
    for (const char *const *w = family->components->wrappers; w && *w; w++)
        if (!strncmp(path, *w, strlen(*w))) return true;
    return false;
}

bool lt_family_is_causal_lm(const lt_family *family)
{
    return family->causal_lm;
}

const char *lt_family_kohya_version(const lt_family *family)
{
    return family->kohya_version;
}

bool lt_family_kohya_v2(const lt_family *family)
{
    return family->kohya_v2;
}

const char *lt_family_architecture(const lt_family *family)
{
    return family->architecture;
}

const char *lt_family_implementation(const lt_family *family)
{
    return family->implementation;
}

const lt_family *lt_family_counterpart(const lt_family *family)
{
    const lt_component *c = family->components;
    for (size_t i = 0; i < N_FAMILIES && c->layout; i++) {
        const lt_component *other = lt_families[i]->components;
        if (other->layout == c->layout && other->is_public != c->is_public)
            return lt_families[i];
    }
    return NULL;
}

const lt_component *lt_family_component(const lt_family *family, const char *id)
{
    for (const lt_component *c = family->components; c->id; c++)
        if (!strcmp(c->id, id)) return c;
    return NULL;
}

const char *lt_component_id(const lt_component *component)
{
    return component->id;
}

const char *lt_component_title(const lt_component *component)
{
    return component->title;
}

bool lt_component_is_main(const lt_component *component)
{
    return component->is_main;
}

size_t lt_stem_size(const char *s, const char *ending)
{
    size_t n = strlen(s), m = strlen(ending);
    return n > m && !strcmp(s + n - m, ending) ? n - m : 0;
}

bool lt_begins_with_any(const char *s, const char *const *beginnings)
{
    for (; *beginnings; beginnings++)
        if (!strncmp(s, *beginnings, strlen(*beginnings))) return true;
    return false;
}

const char *lt_behind(const char *s, const char *beginning)
{
    size_t n = strlen(beginning);
    return strncmp(s, beginning, n) ? NULL : s + n;
}

bool lt_take_number(const char **p, int *number)
{
    const char *s = *p;
    *number = 0;
    for (; *s >= '0' && *s <= '9' && *number < 100000; s++)
        *number = *number * 10 + (*s - '0');
    if (s == *p || *s != '.') return false;
    *p = s + 1;
    return true;
}

bool lt_rename_to(lt_rename *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out->path, sizeof out->path, fmt, ap);
    va_end(ap);
    out->transposed = false;
    return n > 0 && (size_t)n < sizeof out->path;
}

static const lt_tensor *find_key(
    const lt_store *store, const char *prefix, const char *key)
{
    char name[512];
    if (*key != '*') {
        snprintf(name, sizeof name, "%s%s", prefix, key);
        return lt_store_find(store, name);
    }
    size_t n = strlen(key + 1);
    for (size_t i = 0; i < lt_store_count(store); i++) {
        const lt_tensor *t = lt_store_at(store, i);
        size_t m = strlen(t->name);
        bool ends = m >= n && !strcmp(t->name + m - n, key + 1);
        /* The ending starts at a path component: "h.0." must not match "moh.0.". */
        if (ends && (m == n || t->name[m - n - 1] == '.')) return t;
    }
    return NULL;
}

static bool sign_holds(const lt_store *store, const char *prefix, const lt_base_sign *s)
{
    const lt_tensor *t = find_key(store, prefix, s->key);
    if (s->absent || !t) return s->absent && !t;
    if (s->n_dims && t->n_dims != s->n_dims) return false;
    if (s->columns && (t->n_dims < 2 || t->shape[1] != s->columns)) return false;
    if (!s->widening) return true;
    return t->n_dims >= 2 && t->shape[1] == s->widening * t->shape[0];
}

/* All signs under one prefix; *shown gets the tensor behind the first of them. */
static bool family_matches(const lt_store *store, const lt_family *f, const char *prefix,
    const lt_tensor **shown)
{
    for (const lt_base_sign *s = f->base_signs; s->key; s++)
        if (!sign_holds(store, prefix, s)) return false;
    *shown = find_key(store, prefix, f->base_signs->key);
    return true;
}

const lt_family *lt_family_detect(
    const lt_store *store, char *evidence, size_t evidence_size)
{
    for (size_t i = 0; i + 1 < N_FAMILIES; i++) {
        const lt_tensor *shown = NULL;
        for (const char *const *p = lt_denoiser_prefixes; *p; p++) {
            if (!family_matches(store, lt_families[i], *p, &shown)) continue;
            char shape[160];
            lt_tensor_shape_text(shown, shape, sizeof shape);
            snprintf(
                evidence, evidence_size, "%s %s and its companions", shown->name, shape);
            return lt_families[i];
        }
    }
    snprintf(evidence, evidence_size, "no family's key names are present");
    return &lt_family_unknown;
}

/* Whether name goes on with text: # is any number, dots may be underscores, and a colon
 * is a dot. */
static bool goes_on(const char *name, const char *text)
{
    for (; *text; text++) {
        if (*text == '#') {
            size_t digits = strspn(name, "0123456789");
            if (!digits) return false;
            name += digits;
        } else if (*name == (*text == ':' ? '.' : *text)
            || (*text == '.' && *name == '_')) {
            name++;
        } else {
            return false;
        }
    }
    return true;
}

static bool holds_text(const char *name, const char *text)
{
    char head[64];
    size_t n = strcspn(text, "#.:");
    if (!text[n]) return strstr(name, text);
    snprintf(head, sizeof head, "%.*s", (int)n, text);
    for (; *name && (name = strstr(name, head)); name++)
        if (goes_on(name, text)) return true;
    return false;
}

static bool hint_matches(const lt_adapter_sign *s, const lt_module_hint *h)
{
    return holds_text(h->name, s->text) && (!s->in || s->in == h->in)
        && (!s->n_dims || s->n_dims == h->n_dims);
}

const lt_family *lt_family_of_adapter(const lt_module_hint *hints, size_t count)
{
    for (size_t i = 0; i + 1 < N_FAMILIES; i++) {
        for (const lt_adapter_sign *s = lt_families[i]->adapter_signs; s->text; s++)
            for (size_t j = 0; j < count; j++)
                if (hint_matches(s, &hints[j])) return lt_families[i];
    }
    return &lt_family_unknown;
}

const char *lt_component_of_name(const char *name, size_t *prefix_size)
{
    static const struct {
        const char *prefix, *id;
    } table[] = {
        { "lora_unet_", "unet" },
        { "unet.", "unet" },
        { "lora_te1_", "te1" },
        { "lora_te_", "te1" },
        { "text_encoder.", "te1" },
        { "lora_te2_", "te2" },
        { "text_encoder_2.", "te2" },
        { "lora_te3_", "te3" },
        { "text_encoder_3.", "te3" },
        { "lora_transformer_", "transformer" },
        { "transformer.", "transformer" },
        { "diffusion_model.", "denoiser" },
        { "lycoris_", "denoiser" },
        { "base_model.model.", "model" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t n = strlen(table[i].prefix);
        if (strncmp(name, table[i].prefix, n)) continue;
        if (prefix_size) *prefix_size = n;
        return table[i].id;
    }
    if (prefix_size) *prefix_size = 0;
    return "model";
}
