/* SPDX-License-Identifier: MIT */
/* What the layouts of one Stable Diffusion have in common. */
#ifndef LT_MODEL_FAMILY_SD_H
#define LT_MODEL_FAMILY_SD_H

#include "model/family.h"

#define SD1_TRAITS                                                           \
    .id = "sd1", .title = "Stable Diffusion 1.x", .naming = LT_NAMING_KOHYA, \
    .kohya_version = "sd_v1", .architecture = "stable-diffusion-v1",         \
    .implementation = "diffusers"

#define SD2_TRAITS                                                           \
    .id = "sd2", .title = "Stable Diffusion 2.x", .naming = LT_NAMING_KOHYA, \
    .kohya_v2 = true, .kohya_version = "sd_v2",                              \
    .architecture = "stable-diffusion-v2-512", .implementation = "diffusers"

#define SDXL_TRAITS                                                                   \
    .id = "sdxl", .title = "Stable Diffusion XL", .naming = LT_NAMING_KOHYA,          \
    .kohya_version = "sdxl_base_v1-0", .architecture = "stable-diffusion-xl-v1-base", \
    .implementation = "https://github.com/Stability-AI/generative-models"

#define REFINER_TRAITS                                                           \
    .id = "sdxl-refiner", .title = "Stable Diffusion XL refiner",                \
    .naming = LT_NAMING_KOHYA, .architecture = "stable-diffusion-xl-v1-refiner", \
    .implementation = "https://github.com/Stability-AI/generative-models"

/* The U-Net; kohya's trainers name SDXL's by its published paths. */
#define SD_UNET(the_layout, native_names)                                     \
    .id = "unet", .title = "U-Net", .kohya = { "lora_unet_" },                \
    .comfyui = "diffusion_model.", .diffusers = { "unet." }, .is_main = true, \
    .kohya_native = native_names, .layout = the_layout,                       \
    .respellings = lt_respellings_unet, .is_standard = lt_standard_unet

/* A text encoder; in_pipeline is its folder, in_comfyui its name there. */
#define SD_ENCODER(id_, title_, the_layout, in_pipeline, in_comfyui, ...)             \
    .id = id_, .title = title_, .layout = the_layout, .kohya = { __VA_ARGS__ },       \
    .diffusers = { in_pipeline, "text_encoders." in_comfyui ".transformer." },        \
    .comfyui = "text_encoders." in_comfyui ".transformer.", .rename = lt_rename_clip, \
    .respellings = lt_respellings_clip, .is_standard = lt_standard_clip

#define SD_VAE                                                                      \
    .id = "vae", .title = "VAE", .diffusers = { "vae." }, .layout = &lt_layout_vae, \
    .no_adapter = true, .respellings = lt_respellings_vae

#endif
