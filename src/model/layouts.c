/* SPDX-License-Identifier: MIT */
#include "model/layouts.h"

const lt_named_layout lt_layouts[] = {
    { "unet-sd1", &lt_layout_unet_sd1 },
    { "unet-sd2", &lt_layout_unet_sd2 },
    { "unet-sdxl", &lt_layout_unet_sdxl },
    { "unet-refiner", &lt_layout_unet_refiner },
    { "clip", &lt_layout_clip },
    { "openclip", &lt_layout_openclip },
    { "openclip-sd2", &lt_layout_openclip_sd2 },
    { "vae", &lt_layout_vae },
    { "flux", &lt_layout_flux },
    { "chroma", &lt_layout_chroma },
    { "sd3", &lt_layout_sd3 },
    { "wan", &lt_layout_wan },
    { "qwen-image", &lt_layout_qwen_image },
    { "cosmos-predict2", &lt_layout_cosmos_predict2 },
    { "anima", &lt_layout_anima },
    { "flux2", &lt_layout_flux2 },
    { "ltx", &lt_layout_ltx },
    { "auraflow", &lt_layout_auraflow },
    { "pixart", &lt_layout_pixart },
    { "lumina", &lt_layout_lumina },
    { "zimage", &lt_layout_zimage },
    { "hunyuan-video", &lt_layout_hunyuan_video },
    { "hunyuan-image", &lt_layout_hunyuan_image },
    { 0 },
};
