/* SPDX-License-Identifier: MIT */
/* Names inside CLIP text encoders: OpenCLIP (SD2, SDXL's second encoder) to transformers.
 * OpenCLIP fuses q, k, v in one in_proj_weight, rows in that order, and keeps
 * text_projection as a bare (width, projection) parameter used as x * P. */
#include "model/family.h"

#include <string.h>

/* Its text encoders before PEFT. */
const lt_respelling lt_respellings_clip[] = {
    { ".self_attn.q_proj", ".self_attn.to_q" },
    { ".self_attn.k_proj", ".self_attn.to_k" },
    { ".self_attn.v_proj", ".self_attn.to_v" },
    { ".self_attn.out_proj", ".self_attn.to_out" },
    { 0 },
};

int lt_rename_clip(const char *native, lt_rename out[LT_MAX_RENAMES])
{
    size_t n = lt_stem_size(native, ".weight");
    if (!n) return 0;
    /* Early saves lack the text_model. level. */
    bool bare = !strncmp(native, "encoder.", 8) || !strncmp(native, "embeddings.", 11);
    return lt_rename_one(out, "%s%.*s", bare ? "text_model." : "", (int)n, native);
}

static int rename_block(const char *rest, int layer, lt_rename out[LT_MAX_RENAMES])
{
    static const struct {
        const char *openclip, *transformers;
    } leaves[] = {
        { "attn.out_proj.weight", "self_attn.out_proj" },
        { "mlp.c_fc.weight", "mlp.fc1" },
        { "mlp.c_proj.weight", "mlp.fc2" },
        { "ln_1.weight", "layer_norm1" },
        { "ln_2.weight", "layer_norm2" },
    };
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        if (!strcmp(rest, leaves[i].openclip))
            return lt_rename_one(
                out, "text_model.encoder.layers.%d.%s", layer, leaves[i].transformers);
    if (strcmp(rest, "attn.in_proj_weight")) return 0;
    for (unsigned part = 0; part < 3; part++) {
        lt_rename_one(&out[part], "text_model.encoder.layers.%d.self_attn.%c_proj", layer,
            "qkv"[part]);
        out[part].part = part;
        out[part].parts = 3;
    }
    return 3;
}

int lt_rename_openclip(const char *native, lt_rename out[LT_MAX_RENAMES])
{
    const char *rest = lt_behind(native, "transformer.resblocks.");
    int layer;
    if (rest && lt_take_number(&rest, &layer)) return rename_block(rest, layer, out);
    if (!strcmp(native, "token_embedding.weight"))
        return lt_rename_one(out, "text_model.embeddings.token_embedding");
    if (!strcmp(native, "ln_final.weight"))
        return lt_rename_one(out, "text_model.final_layer_norm");
    if (!strcmp(native, "text_projection.weight"))
        return lt_rename_one(out, "text_projection");
    if (strcmp(native, "text_projection")) return 0;
    lt_rename_one(out, "text_projection");
    out->transposed = true;
    return 1;
}

/* SD2 conditions on the last but one layer: transformers' form ends at layer 22, and
 * neither the last block nor the projection has a module name in any loader. */
int lt_rename_openclip_sd2(const char *native, lt_rename out[LT_MAX_RENAMES])
{
    if (!strncmp(native, "transformer.resblocks.23.", 25)) return 0;
    if (!strncmp(native, "text_projection", 15)) return 0;
    return lt_rename_openclip(native, out);
}

bool lt_standard_clip(const char *path)
{
    return strstr(path, "encoder.layers.") != NULL;
}
