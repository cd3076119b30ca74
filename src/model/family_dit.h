/* SPDX-License-Identifier: MIT */
/* What the families of diffusion transformers have in common: how their parts stand in
 * files and what adapters call them. */
#ifndef LT_MODEL_FAMILY_DIT_H
#define LT_MODEL_FAMILY_DIT_H

#include "model/family.h"

/* In the layout a denoiser was published in: alone, or in one file with other parts.
 * NAMED: with what diffusers' programs put before its modules' names. */
#define DIT_NATIVE(the_layout) DIT_NATIVE_NAMED(the_layout, "transformer.")
#define DIT_NATIVE_NAMED(the_layout, ...)                                               \
    .id = "transformer", .title = "transformer",                                        \
    .prefixes = { "model.diffusion_model.", "diffusion_model.", "model.model.", "net.", \
        "model.", "transformer.", "" },                                                 \
    .kohya = { "lora_unet_", "lora_transformer_", "lora_unet__" },                      \
    .comfyui = "diffusion_model.", .diffusers = { __VA_ARGS__ }, .is_main = true,       \
    .kohya_native = true, .layout = the_layout

/* In diffusers' layout: alone, or in a pipeline's folder. */
#define DIT_PUBLIC(the_layout) DIT_PUBLIC_NAMED(the_layout, "transformer.")
#define DIT_PUBLIC_NAMED(the_layout, ...)                                         \
    .id = "transformer", .title = "transformer",                                  \
    .prefixes = { "transformer.", "diffusion_model.", "" },                       \
    .kohya = { "lora_unet_", "lora_transformer_", "lora_unet__" },                \
    .comfyui = "diffusion_model.", .diffusers = { __VA_ARGS__ }, .is_main = true, \
    .kohya_native = true, .layout = the_layout, .is_public = true

/* A CLIP text encoder in transformers' names, in a single file or a pipeline's folder. */
#define DIT_CLIP(id_, title_, in_file, in_folder, kohya_)                             \
    {                                                                                 \
        .id = id_, .title = title_, .prefixes = { in_file, in_folder },               \
        .kohya = { kohya_ }, .comfyui = in_file, .diffusers = { in_folder, in_file }, \
        .rename = lt_rename_clip, .respellings = lt_respellings_clip,                 \
        .is_standard = lt_standard_clip                                               \
    }

/* Another text encoder, named by its own tensors. */
#define DIT_ENCODER(id_, title_, in_file, in_folder, ...)               \
    {                                                                   \
        .id = id_, .title = title_, .prefixes = { in_file, in_folder }, \
        .kohya = { __VA_ARGS__ }, .diffusers = {                        \
            in_folder,                                                  \
            in_file                                                     \
        }                                                               \
    }

/* SD3's three, which HiDream has too. */
#define DIT_SD3_ENCODERS                                                                \
    DIT_CLIP("te1", "text encoder 1 (CLIP-L)", "text_encoders.clip_l.transformer.",     \
        "text_encoder.", "lora_te1_"),                                                  \
        DIT_CLIP("te2", "text encoder 2 (CLIP-G)", "text_encoders.clip_g.transformer.", \
            "text_encoder_2.", "lora_te2_"),                                            \
        DIT_ENCODER("te3", "text encoder 3 (T5)", "text_encoders.t5xxl.transformer.",   \
            "text_encoder_3.", "lora_te3_")

#define DIT_VAE                                                                    \
    {                                                                              \
        .id = "vae", .title = "VAE", .prefixes = { "first_stage_model.", "vae." }, \
        .diffusers = { "vae." }, .layout = &lt_layout_vae, .no_adapter = true,     \
        .respellings = lt_respellings_vae                                          \
    }

#endif
