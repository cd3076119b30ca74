/* SPDX-License-Identifier: MIT */
/* What the Stable Diffusions' layout tables do not say: spellings of older programs, and
 * which modules count as the usual ones. */
#include "model/family.h"

#include <string.h>

/* The attention processors of diffusers before PEFT. */
const lt_respelling lt_respellings_unet[] = {
    { ".to_q", ".processor.to_q" },
    { ".to_k", ".processor.to_k" },
    { ".to_v", ".processor.to_v" },
    { ".to_out.0", ".processor.to_out" },
    { 0 },
};

/* Its text encoders before PEFT. */
const lt_respelling lt_respellings_clip[] = {
    { ".self_attn.q_proj", ".self_attn.to_q" },
    { ".self_attn.k_proj", ".self_attn.to_k" },
    { ".self_attn.v_proj", ".self_attn.to_v" },
    { ".self_attn.out_proj", ".self_attn.to_out" },
    { 0 },
};

/* The attention of its VAE before version 0.18. */
const lt_respelling lt_respellings_vae[] = {
    { ".to_q", ".query" },
    { ".to_k", ".key" },
    { ".to_v", ".value" },
    { ".to_out.0", ".proj_attn" },
    { 0 },
};

bool lt_rename_clip(const char *name, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    bool bare = !strncmp(name, "encoder.", 8) || !strncmp(name, "embeddings.", 11);
    return n && lt_rename_to(out, "%s%.*s", bare ? "text_model." : "", (int)n, name);
}

/* Everything inside transformers, residual blocks and samplers. */
bool lt_standard_unet(const char *path)
{
    return !strncmp(path, "down_blocks.", 12) || !strncmp(path, "up_blocks.", 10)
        || !strncmp(path, "mid_block.", 10);
}

bool lt_standard_clip(const char *path)
{
    return strstr(path, "encoder.layers.") != NULL;
}
