/* SPDX-License-Identifier: MIT */
#include "model/layouts.h"

const lt_named_layout lt_layouts[] = {
    { "flux", &lt_layout_flux },
    { "chroma", &lt_layout_chroma },
    { "sd3", &lt_layout_sd3 },
    { "wan", &lt_layout_wan },
    { "qwen-image", &lt_layout_qwen_image },
    { "cosmos-predict2", &lt_layout_cosmos_predict2 },
    { "anima", &lt_layout_anima },
    { "flux2", &lt_layout_flux2 },
    { "ltx", &lt_layout_ltx },
    { "ltx2", &lt_layout_ltx2 },
    { "auraflow", &lt_layout_auraflow },
    { "pixart", &lt_layout_pixart },
    { "lumina", &lt_layout_lumina },
    { "zimage", &lt_layout_zimage },
    { "hunyuan-video", &lt_layout_hunyuan_video },
    { "hunyuan-image", &lt_layout_hunyuan_image },
    { 0 },
};
