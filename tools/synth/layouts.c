/* SPDX-License-Identifier: MIT */
#include "layouts.h"

#include "rules.h"

#include <stdlib.h>
#include <string.h>

/* A variant of one of the library's tables, as published. */
#define TABLE(name, layout_, variant) \
    static const synth_table name = { .layout = layout_, .params = variant }

TABLE(sd15_unet, &lt_layout_unet_sd1, "sd1");
TABLE(sd15_inpaint_unet, &lt_layout_unet_sd1, "sd1-inpaint");
TABLE(sd21_unet, &lt_layout_unet_sd2, "sd2");
TABLE(sdxl_unet, &lt_layout_unet_sdxl, "sdxl");
TABLE(refiner_unet, &lt_layout_unet_refiner, "refiner");
TABLE(clip_l, &lt_layout_clip, "l");
TABLE(clip_l_projection, &lt_layout_clip, "l-projection");
TABLE(clip_l_positions, &lt_layout_clip, "l-positions");
TABLE(openclip_g, &lt_layout_openclip, "g");
TABLE(openclip_h, &lt_layout_openclip_sd2, "h");
TABLE(vae_z4, &lt_layout_vae, "z4");

static const synth_llama llama_1b = {
    .vocab = 128256, .width = 2048, .inner = 8192, .layers = 16, .kv_width = 512
};

struct part {
    synth_rule rule;
    const void *params;
    const char *prefix;
};

#define UNET "model.diffusion_model."
#define PART(table, prefix)              \
    {                                    \
        synth_rule_table, &table, prefix \
    }
#define VAE PART(vae_z4, "first_stage_model.")

/* A file is its parts; a component alone has bare keys. */
static const struct {
    const char *name;
    struct part parts[5];
} layouts[] = {
    { "sd15-unet", { PART(sd15_unet, "") } },
    { "sd15-inpaint-unet", { PART(sd15_inpaint_unet, "") } },
    { "sd21-unet", { PART(sd21_unet, "") } },
    { "sdxl-unet", { PART(sdxl_unet, "") } },
    { "refiner-unet", { PART(refiner_unet, "") } },
    { "clip-l", { PART(clip_l, "") } },
    { "clip-l-projection", { PART(clip_l_projection, "") } },
    { "openclip-g", { PART(openclip_g, "") } },
    { "openclip-h", { PART(openclip_h, "") } },
    { "vae-z4", { PART(vae_z4, "") } },
    { "sd15",
        { PART(sd15_unet, UNET), PART(clip_l_positions, "cond_stage_model.transformer."),
            VAE } },
    { "sd21",
        { PART(sd21_unet, UNET), PART(openclip_h, "cond_stage_model.model."), VAE } },
    { "sdxl",
        { PART(sdxl_unet, UNET),
            PART(clip_l_positions, "conditioner.embedders.0.transformer."),
            PART(openclip_g, "conditioner.embedders.1.model."), VAE } },
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
