/* SPDX-License-Identifier: MIT */
/* The layout tables, one file an architecture or
 * group of relatives (layout_NAME.c). */
#ifndef LT_MODEL_LAYOUTS_H
#define LT_MODEL_LAYOUTS_H

#include "model/layout.h"

extern const lt_layout lt_layout_unet_sd1, lt_layout_unet_sd2, lt_layout_unet_sdxl,
    lt_layout_unet_refiner;
extern const lt_layout lt_layout_clip, lt_layout_openclip, lt_layout_openclip_sd2;
extern const lt_layout lt_layout_vae;
extern const lt_layout lt_layout_flux, lt_layout_chroma;
extern const lt_layout lt_layout_sd3;
extern const lt_layout lt_layout_wan;
extern const lt_layout lt_layout_qwen_image;
extern const lt_layout lt_layout_cosmos_predict2, lt_layout_anima;
extern const lt_layout lt_layout_flux2;
extern const lt_layout lt_layout_ltx, lt_layout_ltx2;
extern const lt_layout lt_layout_auraflow;
extern const lt_layout lt_layout_pixart;
extern const lt_layout lt_layout_lumina, lt_layout_zimage;
extern const lt_layout lt_layout_hunyuan_video, lt_layout_hunyuan_image;
extern const lt_layout lt_layout_hunyuan_video15, lt_layout_hunyuan_video15_fused;
extern const lt_layout lt_layout_mochi;
extern const lt_layout lt_layout_sana, lt_layout_sana_sprint, lt_layout_sana_video;
extern const lt_layout lt_layout_hidream;
extern const lt_layout lt_layout_cogvideox, lt_layout_cogview4;
extern const lt_layout lt_layout_kandinsky5;
extern const lt_layout lt_layout_bria, lt_layout_longcat_image, lt_layout_ovis_image;

/* All of them by name. */
typedef struct lt_named_layout {
    const char *id;
    const lt_layout *layout;
} lt_named_layout;
extern const lt_named_layout lt_layouts[]; /* id NULL ends */

#endif
