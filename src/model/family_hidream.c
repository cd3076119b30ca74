/* SPDX-License-Identifier: MIT */
/* HiDream-I1 and E1. */
#include "model/family_dit.h"

static const char *const hidream_blocks[] = { "double_stream_blocks.",
    "single_stream_blocks.", NULL };

static bool hidream_standard(const char *path)
{
    return lt_begins_with_any(path, hidream_blocks);
}

/* The gate that picks experts is a bare parameter there, which no adapter changes. */
static bool hidream_rename(const char *name, lt_rename *out)
{
    size_t n = lt_stem_size(name, ".weight");
    bool gate = lt_stem_size(name, ".ff_i.gate.weight");
    return n && !gate && lt_rename_to(out, "%.*s", (int)n, name);
}

#define HIDREAM_PARTS                                                                    \
    DIT_SD3_ENCODERS,                                                                    \
        DIT_ENCODER("te4", "text encoder 4 (LLaMA)", "text_encoders.llama.transformer.", \
            "text_encoder_4.", "lora_te4_"),                                             \
        DIT_VAE

static const lt_base_sign hidream_base[] = {
    { .key = "double_stream_blocks.0.block.attn1.to_q_t.weight", .n_dims = 2 },
    { .key = "single_stream_blocks.0.block.ff_i.gate.weight", .n_dims = 2 },
    { .key = "caption_projection.0.linear.weight", .n_dims = 2 },
    { 0 },
};
static const lt_adapter_sign hidream_adapter[] = {
    { "double_stream_blocks.#.block.", 0, 2 },
    { "single_stream_blocks.#.block.", 0, 2 },
    { 0 },
};
static const lt_component hidream[] = {
    { DIT_NATIVE(&lt_layout_hidream), .rename = hidream_rename,
        .is_standard = hidream_standard },
    HIDREAM_PARTS,
    { 0 },
};

#define HIDREAM_TRAITS .id = "hidream", .title = "HiDream"

const lt_family lt_family_hidream = {
    HIDREAM_TRAITS,
    .naming = LT_NAMING_KOHYA,
    .base_signs = hidream_base,
    .adapter_signs = hidream_adapter,
    .components = hidream,
};
