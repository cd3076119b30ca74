/* SPDX-License-Identifier: MIT */
/* LTX-2. Adapters that change nothing of its audio have the names and sizes of
 * LTX-Video's. */
#include "model/family_dit.h"

static const char *const ltx2_blocks[] = { "transformer_blocks.", NULL };

static bool ltx2_standard(const char *path)
{
    return lt_begins_with_any(path, ltx2_blocks);
}

static const lt_base_sign ltx2_native_base[] = {
    { .key = "av_ca_a2v_gate_adaln_single.linear.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.audio_to_video_attn.to_q.weight", .n_dims = 2 },
    { .key = "patchify_proj.weight", .n_dims = 2 },
    { 0 },
};
static const lt_base_sign ltx2_public_base[] = {
    { .key = "av_cross_attn_video_a2v_gate.linear.weight", .n_dims = 2 },
    { .key = "transformer_blocks.0.audio_to_video_attn.to_q.weight", .n_dims = 2 },
    { .key = "proj_in.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign ltx2_adapter[] = {
    { "transformer_blocks.#.audio_to_video_attn.", 0, 2 },
    { "transformer_blocks.#.video_to_audio_attn.", 0, 2 },
    { "transformer_blocks.#.audio_attn#.", 0, 2 },
    { "transformer_blocks.#.audio_ff.", 0, 2 },
    { 0 },
};

#define LTX2_PARTS                                                             \
    DIT_ENCODER("te1", "text encoder (Gemma 3)",                               \
        "text_encoders.gemma3_12b.transformer.", "text_encoder.", "lora_te_"), \
        { .id = "connectors",                                                  \
            .title = "connectors of the text",                                 \
            .prefixes = { "connectors." },                                     \
            .diffusers = { "connectors." } },                                  \
        DIT_VAE,                                                               \
        { .id = "audio_vae",                                                   \
            .title = "VAE of the audio",                                       \
            .prefixes = { "audio_vae." },                                      \
            .no_adapter = true },                                              \
    {                                                                          \
        .id = "vocoder", .title = "vocoder", .prefixes = { "vocoder." },       \
        .no_adapter = true                                                     \
    }

static const lt_component ltx2_native[] = {
    { DIT_NATIVE(&lt_layout_ltx2), .is_standard = ltx2_standard },
    LTX2_PARTS,
    { 0 },
};
static const lt_component ltx2_public[] = {
    { DIT_PUBLIC(&lt_layout_ltx2), .is_standard = ltx2_standard },
    LTX2_PARTS,
    { 0 },
};

#define LTX2_TRAITS .id = "ltx2", .title = "LTX-2"

const lt_family lt_family_ltx2 = {
    LTX2_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = ltx2_native_base,
    .adapter_signs = ltx2_adapter,
    .components = ltx2_native,
};
const lt_family lt_family_ltx2_diffusers = {
    LTX2_TRAITS,
    .naming = LT_NAMING_DIFFUSERS,
    .base_signs = ltx2_public_base,
    .adapter_signs = lt_no_adapter_signs,
    .components = ltx2_public,
};
