/* SPDX-License-Identifier: MIT */
/* What the layouts of one Stable Diffusion have in common: all but the names in the file.
 */
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

#endif
