/* SPDX-License-Identifier: MIT */
/* Names inside the U-Nets of Stable Diffusion 1, 2 and XL: CompVis/Stability ("LDM") to
 * diffusers. With two residual blocks a level, input block n >= 1 is level (n-1)/3 and
 * its place in it (n-1)%3 (2 is the downsampler); output block n is level n/3, place n%3.
 */
#include "model/family.h"

#include <stdio.h>
#include <string.h>

/* The attention processors of diffusers before PEFT. */
const lt_respelling lt_respellings_unet[] = {
    { ".to_q", ".processor.to_q" },
    { ".to_k", ".processor.to_k" },
    { ".to_v", ".processor.to_v" },
    { ".to_out.0", ".processor.to_out" },
    { 0 },
};

static const struct leaf {
    const char *ldm, *diffusers;
} resnet_leaves[] = {
    { "in_layers.0", "norm1" },
    { "in_layers.2", "conv1" },
    { "emb_layers.1", "time_emb_proj" },
    { "out_layers.0", "norm2" },
    { "out_layers.3", "conv2" },
    { "skip_connection", "conv_shortcut" },
};

static const struct leaf whole[] = {
    { "input_blocks.0.0", "conv_in" },
    { "out.0", "conv_norm_out" },
    { "out.2", "conv_out" },
    { "time_embed.0", "time_embedding.linear_1" },
    { "time_embed.2", "time_embedding.linear_2" },
    { "label_emb.0.0", "add_embedding.linear_1" },
    { "label_emb.0.2", "add_embedding.linear_2" },
};

static const char *look_up(const struct leaf *table, size_t n, const char *ldm)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i].ldm, ldm)) return table[i].diffusers;
    return NULL;
}

/* One block: kind is down_blocks.i, mid_block or up_blocks.i; j its place in the level.
 */
static int rename_block(
    lt_rename *out, const char *kind, int j, int k, const char *rest, bool mid)
{
    if (!strcmp(rest, "op") && k == 0)
        return lt_rename_one(out, "%s.downsamplers.0.conv", kind);
    if (!strcmp(rest, "conv")) return lt_rename_one(out, "%s.upsamplers.0.conv", kind);
    const char *leaf =
        look_up(resnet_leaves, sizeof resnet_leaves / sizeof *resnet_leaves, rest);
    if (leaf) return lt_rename_one(out, "%s.resnets.%d.%s", kind, mid ? k / 2 : j, leaf);
    if (k != 1) return 0;
    return lt_rename_one(out, "%s.attentions.%d.%s", kind, mid ? 0 : j, rest);
}

static int rename_path(lt_rename *out, const char *path)
{
    const char *name = look_up(whole, sizeof whole / sizeof *whole, path);
    if (name) return lt_rename_one(out, "%s", name);
    int n, k;
    char kind[32];
    const char *rest = lt_behind(path, "input_blocks.");
    if (rest && lt_take_number(&rest, &n) && lt_take_number(&rest, &k) && n > 0) {
        snprintf(kind, sizeof kind, "down_blocks.%d", (n - 1) / 3);
        return rename_block(out, kind, (n - 1) % 3, k, rest, false);
    }
    rest = lt_behind(path, "output_blocks.");
    if (rest && lt_take_number(&rest, &n) && lt_take_number(&rest, &k)) {
        snprintf(kind, sizeof kind, "up_blocks.%d", n / 3);
        return rename_block(out, kind, n % 3, k, rest, false);
    }
    rest = lt_behind(path, "middle_block.");
    if (rest && lt_take_number(&rest, &k))
        return rename_block(out, "mid_block", 0, k, rest, true);
    return 0;
}

int lt_rename_unet(const char *native, lt_rename out[LT_MAX_RENAMES])
{
    char path[sizeof out->path];
    size_t n = lt_stem_size(native, ".weight");
    if (!n || n >= sizeof path) return 0;
    memcpy(path, native, n);
    path[n] = '\0';
    return rename_path(out, path);
}

/* ---- the other way round, for models in diffusers' layout ------------------------- */

static const char *look_back(const struct leaf *table, size_t n, const char *diffusers)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i].diffusers, diffusers)) return table[i].ldm;
    return NULL;
}

/* rest is what follows "resnets.J.", "attentions.J.", ... in one level. */
struct place {
    char kind[24];
    int level, index;
    const char *rest;
};

static bool parse_place(const char *path, struct place *p)
{
    int used = 0;
    if (sscanf(
            path, "down_blocks.%d.%23[a-z].%d.%n", &p->level, p->kind, &p->index, &used)
            != 3
        || !used) {
        used = 0;
        if (sscanf(
                path, "up_blocks.%d.%23[a-z].%d.%n", &p->level, p->kind, &p->index, &used)
            != 3)
            return false;
    }
    p->rest = path + used;
    return used && p->level >= 0 && p->level < 8 && p->index >= 0 && p->index < 8;
}

/* The LDM path of a module inside a level's block n, into dst. */
static bool write_place(
    char *dst, size_t size, const char *blocks, int n, const struct place *p)
{
    const char *leaf =
        look_back(resnet_leaves, sizeof resnet_leaves / sizeof *resnet_leaves, p->rest);
    if (!strcmp(p->kind, "resnets") && leaf)
        snprintf(dst, size, "%s.%d.0.%s", blocks, n, leaf);
    else if (!strcmp(p->kind, "attentions"))
        snprintf(dst, size, "%s.%d.1.%s", blocks, n, p->rest);
    else
        return false;
    return true;
}

static bool mid_path(const char *path, char *dst, size_t size)
{
    int j = 0, used = 0;
    if (sscanf(path, "mid_block.resnets.%d.%n", &j, &used) == 1 && used) {
        const char *leaf = look_back(
            resnet_leaves, sizeof resnet_leaves / sizeof *resnet_leaves, path + used);
        if (leaf) snprintf(dst, size, "middle_block.%d.%s", 2 * j, leaf);
        return leaf && (j == 0 || j == 1);
    }
    if (strncmp(path, "mid_block.attentions.0.", 23)) return false;
    snprintf(dst, size, "middle_block.1.%s", path + 23);
    return true;
}

/* low_upsampler: the place of the lowest level's upsampler in its block, behind the
 * attention if there is one. */
static bool ldm_path(const char *path, int low_upsampler, char *dst, size_t size)
{
    struct place p;
    const char *name = look_back(whole, sizeof whole / sizeof *whole, path);
    if (name) {
        snprintf(dst, size, "%s", name);
        return true;
    }
    if (mid_path(path, dst, size)) return true;
    if (!parse_place(path, &p)) return false;
    bool down = *path == 'd';
    if (!strcmp(p.kind, "downsamplers") && !strcmp(p.rest, "conv"))
        snprintf(dst, size, "input_blocks.%d.0.op", 3 * p.level + 3);
    else if (!strcmp(p.kind, "upsamplers") && !strcmp(p.rest, "conv"))
        snprintf(dst, size, "output_blocks.%d.%d.conv", 3 * p.level + 2,
            p.level == 0 ? low_upsampler : 2);
    else
        return down
            ? write_place(dst, size, "input_blocks", 3 * p.level + p.index + 1, &p)
            : write_place(dst, size, "output_blocks", 3 * p.level + p.index, &p);
    return true;
}

static int rename_diffusers(
    const char *native, int low_upsampler, lt_rename out[LT_MAX_RENAMES])
{
    size_t n = lt_stem_size(native, ".weight");
    if (!n || n >= sizeof out->path) return 0;
    int count = lt_rename_one(out, "%.*s", (int)n, native);
    if (!ldm_path(out->path, low_upsampler, out->native, sizeof out->native))
        out->native[0] = '\0';
    return count;
}

int lt_rename_unet_diffusers(const char *native, lt_rename out[LT_MAX_RENAMES])
{
    return rename_diffusers(native, 1, out);
}

int lt_rename_unet_diffusers_xl(const char *native, lt_rename out[LT_MAX_RENAMES])
{
    return rename_diffusers(native, 2, out);
}

/* What sd-scripts trains: everything inside transformers, residual blocks and samplers.
 */
bool lt_standard_unet(const char *path)
{
    return !strncmp(path, "down_blocks.", 12) || !strncmp(path, "up_blocks.", 10)
        || !strncmp(path, "mid_block.", 10);
}
