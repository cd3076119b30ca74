/* SPDX-License-Identifier: MIT */
#include "layouts.h"

#include "rules.h"

#include <stdlib.h>
#include <string.h>

static const synth_unet sd15_unet = { .width = 320,
    .levels = 4,
    .mult = { 1, 2, 4, 4 },
    .depth = { 1, 1, 1, 0 },
    .mid_depth = 1,
    .context = 768,
    .in_channels = 4 };
static const synth_unet sd15_inpaint_unet = { .width = 320,
    .levels = 4,
    .mult = { 1, 2, 4, 4 },
    .depth = { 1, 1, 1, 0 },
    .mid_depth = 1,
    .context = 768,
    .in_channels = 9 };
static const synth_unet sd21_unet = { .width = 320,
    .levels = 4,
    .mult = { 1, 2, 4, 4 },
    .depth = { 1, 1, 1, 0 },
    .mid_depth = 1,
    .context = 1024,
    .in_channels = 4,
    .linear = true };
static const synth_unet sdxl_unet = { .width = 320,
    .levels = 3,
    .mult = { 1, 2, 4 },
    .depth = { 0, 2, 10 },
    .mid_depth = 10,
    .context = 2048,
    .adm = 2816,
    .in_channels = 4,
    .linear = true };
static const synth_unet refiner_unet = { .width = 384,
    .levels = 4,
    .mult = { 1, 2, 4, 4 },
    .depth = { 0, 4, 4, 0 },
    .mid_depth = 4,
    .context = 1280,
    .adm = 2560,
    .in_channels = 4,
    .linear = true };

static const synth_clip clip_l = { .width = 768, .layers = 12 };
static const synth_clip clip_l_projection = {
    .width = 768, .layers = 12, .projection = true
};
static const synth_clip clip_l_ids = { .width = 768, .layers = 12, .position_ids = true };
static const synth_openclip openclip_g = { .width = 1280, .layers = 32 };
static const synth_openclip openclip_h = { .width = 1024, .layers = 24 };
static const synth_vae vae_z4 = { .width = 128, .mult = { 1, 2, 4, 4 }, .latent = 4 };
static const synth_llama llama_1b = {
    .vocab = 128256, .width = 2048, .inner = 8192, .layers = 16, .kv_width = 512
};

struct part {
    synth_rule rule;
    const void *params;
    const char *prefix;
};

#define UNET "model.diffusion_model."
#define VAE                                           \
    {                                                 \
        synth_rule_vae, &vae_z4, "first_stage_model." \
    }

/* A file is its parts; a component alone has bare keys. */
static const struct {
    const char *name;
    struct part parts[5];
} layouts[] = {
    { "sd15-unet", { { synth_rule_unet, &sd15_unet, "" } } },
    { "sd15-inpaint-unet", { { synth_rule_unet, &sd15_inpaint_unet, "" } } },
    { "sd21-unet", { { synth_rule_unet, &sd21_unet, "" } } },
    { "sdxl-unet", { { synth_rule_unet, &sdxl_unet, "" } } },
    { "refiner-unet", { { synth_rule_unet, &refiner_unet, "" } } },
    { "clip-l", { { synth_rule_clip, &clip_l, "" } } },
    { "clip-l-projection", { { synth_rule_clip, &clip_l_projection, "" } } },
    { "openclip-g", { { synth_rule_openclip, &openclip_g, "" } } },
    { "openclip-h", { { synth_rule_openclip, &openclip_h, "" } } },
    { "vae-z4", { { synth_rule_vae, &vae_z4, "" } } },
    { "sd15",
        { { synth_rule_unet, &sd15_unet, UNET },
            { synth_rule_clip, &clip_l_ids, "cond_stage_model.transformer." }, VAE } },
    { "sd21",
        { { synth_rule_unet, &sd21_unet, UNET },
            { synth_rule_openclip, &openclip_h, "cond_stage_model.model." }, VAE } },
    { "sdxl",
        { { synth_rule_unet, &sdxl_unet, UNET },
            { synth_rule_clip, &clip_l_ids, "conditioner.embedders.0.transformer." },
            { synth_rule_openclip, &openclip_g, "conditioner.embedders.1.model." },
            VAE } },
    { "llama-1b", { { synth_rule_llama, &llama_1b, "" } } },
};

#define N_LAYOUTS (sizeof layouts / sizeof *layouts)

/* Parts of names: these modules keep their weights in a synthetic fine-tune. */
static const char *const frozen[] = {
    "middle_block.1.proj_",
    "layers.0.mlp.",
    "resblocks.0.mlp.",
};

const char *synth_layout_name(size_t index)
{
    return index < N_LAYOUTS ? layouts[index].name : NULL;
}

static int by_name(const void *a, const void *b)
{
    const lt_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* "flux:dev", "flux-diffusers:d=64 h=16 ...": a table, the layout, and what was published
 * or the parameters. */
static bool find_table(const char *name, synth_table *t)
{
    const char *colon = strchr(name, ':'), *suffix = "-diffusers";
    if (!colon) return false;
    for (const lt_named_layout *l = lt_layouts; l->id; l++) {
        size_t n = strlen(l->id), rest = (size_t)(colon - name) - n;
        if (strncmp(name, l->id, n) || (size_t)(colon - name) < n) continue;
        t->is_public = rest == strlen(suffix) && !strncmp(name + n, suffix, rest);
        if (rest && !t->is_public) continue;
        t->layout = l->layout;
        t->params = colon + 1;
        for (const lt_layout_variant *v = l->layout->variants; v->id; v++)
            if (!strcmp(v->id, colon + 1)) t->params = v->params;
        return true;
    }
    return false;
}

lt_status synth_layout_init(
    synth_layout *layout, const char *name, lt_dtype dtype, lt_error *err)
{
    *layout = (synth_layout){ 0 };
    size_t at = 0;
    synth_table table;
    if (find_table(name, &table)) {
        synth_builder b = { .layout = layout, .prefix = "", .dtype = dtype, .err = err };
        layout->name = "table";
        synth_rule_table(&b, &table);
        if (!b.status)
            qsort(layout->items, layout->count, sizeof *layout->items, by_name);
        return b.status;
    }
    while (at < N_LAYOUTS && strcmp(layouts[at].name, name))
        at++;
    if (at == N_LAYOUTS) return lt_error_set(err, LT_ERR_ARG, "no layout '%s'", name);
    layout->name = layouts[at].name;
    synth_builder b = { .layout = layout, .dtype = dtype, .err = err };
    for (const struct part *p = layouts[at].parts; p->rule; p++) {
        b.prefix = p->prefix;
        p->rule(&b, p->params);
    }
    if (!b.status) qsort(layout->items, layout->count, sizeof *layout->items, by_name);
    return b.status;
}

void synth_layout_release(synth_layout *layout)
{
    lt_arena_release(&layout->arena);
    free(layout->items);
    *layout = (synth_layout){ 0 };
}

bool synth_is_frozen(const lt_tensor *tensor)
{
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++)
        if (strstr(tensor->name, frozen[i])) return true;
    return !lt_dtype_get(tensor->dtype)->computes;
}
