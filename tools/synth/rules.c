/* SPDX-License-Identifier: MIT */
#include "rules.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define PATH_SIZE 160

struct shape {
    unsigned n;
    uint64_t d[LT_MAX_DIMS];
};

#define VECTOR(a) ((struct shape){ 1, { a } })
#define MATRIX(a, b) ((struct shape){ 2, { a, b } })
#define KERNEL(a, b, k) ((struct shape){ 4, { a, b, k, k } })

/* ---- single tensors ------------------------------------------------------------------
 */

static void add(synth_builder *b, lt_dtype dtype, struct shape shape, const char *key)
{
    synth_layout *l = b->layout;
    lt_tensor t = { .dtype = dtype, .n_dims = shape.n };
    for (unsigned i = 0; i < shape.n; i++)
        t.shape[i] = shape.d[i];
    if (!b->status) b->status = lt_tensor_measure(&t, b->err);
    if (!b->status)
        b->status = lt_grow(
            (void **)&l->items, &l->capacity, l->count + 1, sizeof *l->items, b->err);
    if (b->status) return;
    t.name = lt_arena_printf(&l->arena, b->err, "%s%s", b->prefix, key);
    if (t.name)
        l->items[l->count++] = t;
    else
        b->status = LT_ERR_NOMEM;
}

static void module(synth_builder *b, struct shape weight, bool bias, const char *path,
    va_list ap) LT_PRINTF(4, 0);
static void parameter(synth_builder *b, struct shape shape, const char *path, ...)
    LT_PRINTF(3, 4);
static void linear(synth_builder *b, uint64_t out, uint64_t in, bool bias,
    const char *path, ...) LT_PRINTF(5, 6);
static void conv(synth_builder *b, uint64_t out, uint64_t in, uint64_t kernel,
    const char *path, ...) LT_PRINTF(5, 6);
static void norm(synth_builder *b, uint64_t width, const char *path, ...) LT_PRINTF(3, 4);

static void module(
    synth_builder *b, struct shape weight, bool bias, const char *path, va_list ap)
{
    char stem[PATH_SIZE + 64], key[PATH_SIZE + 80];
    vsnprintf(stem, sizeof stem, path, ap);
    snprintf(key, sizeof key, "%s.weight", stem);
    add(b, b->dtype, weight, key);
    snprintf(key, sizeof key, "%s.bias", stem);
    if (bias) add(b, b->dtype, VECTOR(weight.d[0]), key);
}

static void parameter(synth_builder *b, struct shape shape, const char *path, ...)
{
    char key[PATH_SIZE + 64];
    va_list ap;
    va_start(ap, path);
    vsnprintf(key, sizeof key, path, ap);
    va_end(ap);
    add(b, b->dtype, shape, key);
}

static void linear(
    synth_builder *b, uint64_t out, uint64_t in, bool bias, const char *path, ...)
{
    va_list ap;
    va_start(ap, path);
    module(b, MATRIX(out, in), bias, path, ap);
    va_end(ap);
}

static void conv(
    synth_builder *b, uint64_t out, uint64_t in, uint64_t kernel, const char *path, ...)
{
    va_list ap;
    va_start(ap, path);
    module(b, KERNEL(out, in, kernel), true, path, ap);
    va_end(ap);
}

static void norm(synth_builder *b, uint64_t width, const char *path, ...)
{
    va_list ap;
    va_start(ap, path);
    module(b, VECTOR(width), true, path, ap);
    va_end(ap);
}

/* ---- U-Net ---------------------------------------------------------------------------
 */

static void unet_residual(
    synth_builder *b, const synth_unet *u, const char *p, unsigned in, unsigned out)
{
    norm(b, in, "%s.in_layers.0", p);
    conv(b, out, in, 3, "%s.in_layers.2", p);
    linear(b, out, 4 * u->width, true, "%s.emb_layers.1", p);
    norm(b, out, "%s.out_layers.0", p);
    conv(b, out, out, 3, "%s.out_layers.3", p);
    if (in != out) conv(b, out, in, 1, "%s.skip_connection", p);
}

static void unet_block(synth_builder *b, const char *p, unsigned c, unsigned context)
{
    for (int i = 1; i <= 2; i++) {
        unsigned in = i == 1 ? c : context;
        linear(b, c, c, false, "%s.attn%d.to_q", p, i);
        linear(b, c, in, false, "%s.attn%d.to_k", p, i);
        linear(b, c, in, false, "%s.attn%d.to_v", p, i);
        linear(b, c, c, true, "%s.attn%d.to_out.0", p, i);
    }
    linear(b, 8 * c, c, true, "%s.ff.net.0.proj", p);
    linear(b, c, 4 * c, true, "%s.ff.net.2", p);
    for (int i = 1; i <= 3; i++)
        norm(b, c, "%s.norm%d", p, i);
}

static void unet_attention(
    synth_builder *b, const synth_unet *u, const char *p, unsigned c, unsigned depth)
{
    static const char *const ends[] = { "proj_in", "proj_out" };
    norm(b, c, "%s.norm", p);
    for (int i = 0; i < 2; i++) {
        if (u->linear)
            linear(b, c, c, true, "%s.%s", p, ends[i]);
        else
            conv(b, c, c, 1, "%s.%s", p, ends[i]);
    }
    for (unsigned t = 0; t < depth; t++) {
        char block[PATH_SIZE + 32];
        snprintf(block, sizeof block, "%s.transformer_blocks.%u", p, t);
        unet_block(b, block, c, u->context);
    }
}

/* A residual block and, where the level has them, an attention site behind it. */
static void unet_pair(synth_builder *b, const synth_unet *u, const char *p, unsigned in,
    unsigned out, unsigned depth)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s.0", p);
    unet_residual(b, u, path, in, out);
    snprintf(path, sizeof path, "%s.1", p);
    if (depth) unet_attention(b, u, path, out, depth);
}

/* Returns the number of skip connections, whose widths go to skip. */
static unsigned unet_down(synth_builder *b, const synth_unet *u, unsigned skip[16])
{
    unsigned n = 0, c = u->width;
    conv(b, c, u->in_channels, 3, "input_blocks.0.0");
    skip[n++] = c;
    for (unsigned level = 0; level < u->levels; level++) {
        unsigned out = u->width * u->mult[level];
        for (int j = 0; j < 2; j++) {
            char path[PATH_SIZE];
            snprintf(path, sizeof path, "input_blocks.%u", n);
            unet_pair(b, u, path, c, out, u->depth[level]);
            skip[n++] = c = out;
        }
        if (level + 1 == u->levels) continue;
        conv(b, c, c, 3, "input_blocks.%u.0.op", n);
        skip[n++] = c;
    }
    return n;
}

static void unet_up(
    synth_builder *b, const synth_unet *u, const unsigned *skip, unsigned n)
{
    unsigned at = 0, c = skip[n - 1];
    for (unsigned level = u->levels; level-- > 0;) {
        unsigned out = u->width * u->mult[level];
        for (int j = 0; j < 3; j++, at++) {
            char path[PATH_SIZE];
            snprintf(path, sizeof path, "output_blocks.%u", at);
            unet_pair(b, u, path, c + skip[--n], out, u->depth[level]);
            c = out;
            if (j == 2 && level > 0)
                conv(b, c, c, 3, "%s.%d.conv", path, u->depth[level] ? 2 : 1);
        }
    }
}

void synth_rule_unet(synth_builder *b, const void *params)
{
    const synth_unet *u = params;
    unsigned skip[16], w = u->width, deepest = w * u->mult[u->levels - 1];
    linear(b, 4 * w, w, true, "time_embed.0");
    linear(b, 4 * w, 4 * w, true, "time_embed.2");
    if (u->adm) {
        linear(b, 4 * w, u->adm, true, "label_emb.0.0");
        linear(b, 4 * w, 4 * w, true, "label_emb.0.2");
    }
    unsigned n = unet_down(b, u, skip);
    unet_pair(b, u, "middle_block", deepest, deepest, u->mid_depth);
    unet_residual(b, u, "middle_block.2", deepest, deepest);
    unet_up(b, u, skip, n);
    norm(b, w, "out.0");
    conv(b, 4, w, 3, "out.2");
}

/* ---- text encoders -------------------------------------------------------------------
 */

enum { CLIP_VOCAB = 49408, CLIP_LENGTH = 77 };

static void clip_layer(synth_builder *b, uint64_t w, unsigned index)
{
    static const char *const projections[] = { "q", "k", "v", "out" };
    char p[PATH_SIZE];
    snprintf(p, sizeof p, "text_model.encoder.layers.%u", index);
    for (int i = 0; i < 4; i++)
        linear(b, w, w, true, "%s.self_attn.%s_proj", p, projections[i]);
    linear(b, 4 * w, w, true, "%s.mlp.fc1", p);
    linear(b, w, 4 * w, true, "%s.mlp.fc2", p);
    norm(b, w, "%s.layer_norm1", p);
    norm(b, w, "%s.layer_norm2", p);
}

void synth_rule_clip(synth_builder *b, const void *params)
{
    const synth_clip *c = params;
    uint64_t w = c->width;
    linear(b, CLIP_VOCAB, w, false, "text_model.embeddings.token_embedding");
    linear(b, CLIP_LENGTH, w, false, "text_model.embeddings.position_embedding");
    if (c->position_ids)
        add(b, LT_I64, MATRIX(1, CLIP_LENGTH), "text_model.embeddings.position_ids");
    for (unsigned i = 0; i < c->layers; i++)
        clip_layer(b, w, i);
    norm(b, w, "text_model.final_layer_norm");
    if (c->projection) linear(b, w, w, false, "text_projection");
}

void synth_rule_openclip(synth_builder *b, const void *params)
{
    const synth_openclip *c = params;
    uint64_t w = c->width;
    linear(b, CLIP_VOCAB, w, false, "token_embedding");
    parameter(b, MATRIX(CLIP_LENGTH, w), "positional_embedding");
    for (unsigned i = 0; i < c->layers; i++) {
        char p[PATH_SIZE];
        snprintf(p, sizeof p, "transformer.resblocks.%u", i);
        parameter(b, MATRIX(3 * w, w), "%s.attn.in_proj_weight", p);
        parameter(b, VECTOR(3 * w), "%s.attn.in_proj_bias", p);
        linear(b, w, w, true, "%s.attn.out_proj", p);
        linear(b, 4 * w, w, true, "%s.mlp.c_fc", p);
        linear(b, w, 4 * w, true, "%s.mlp.c_proj", p);
        norm(b, w, "%s.ln_1", p);
        norm(b, w, "%s.ln_2", p);
    }
    norm(b, w, "ln_final");
    parameter(b, MATRIX(w, w), "text_projection");
    parameter(b, (struct shape){ 0 }, "logit_scale");
}

/* ---- VAE -----------------------------------------------------------------------------
 */

static void vae_residual(synth_builder *b, unsigned in, unsigned out, const char *p)
{
    norm(b, in, "%s.norm1", p);
    conv(b, out, in, 3, "%s.conv1", p);
    norm(b, out, "%s.norm2", p);
    conv(b, out, out, 3, "%s.conv2", p);
    if (in != out) conv(b, out, in, 1, "%s.nin_shortcut", p);
}

static void vae_middle(synth_builder *b, unsigned c, const char *half)
{
    static const char *const convs[] = { "q", "k", "v", "proj_out" };
    char p[PATH_SIZE];
    for (int i = 1; i <= 2; i++) {
        snprintf(p, sizeof p, "%s.mid.block_%d", half, i);
        vae_residual(b, c, c, p);
    }
    norm(b, c, "%s.mid.attn_1.norm", half);
    for (int i = 0; i < 4; i++)
        conv(b, c, c, 1, "%s.mid.attn_1.%s", half, convs[i]);
}

/* One resolution of either half; returns its width. */
static unsigned vae_level(
    synth_builder *b, const synth_vae *v, bool up, unsigned level, unsigned c)
{
    unsigned out = v->width * v->mult[level], blocks = up ? 3 : 2;
    char p[PATH_SIZE];
    for (unsigned j = 0; j < blocks; j++) {
        snprintf(
            p, sizeof p, "%s.%u.block.%u", up ? "decoder.up" : "encoder.down", level, j);
        vae_residual(b, c, out, p);
        c = out;
    }
    if (up && level > 0) conv(b, c, c, 3, "decoder.up.%u.upsample.conv", level);
    if (!up && level < 3) conv(b, c, c, 3, "encoder.down.%u.downsample.conv", level);
    return c;
}

void synth_rule_vae(synth_builder *b, const void *params)
{
    const synth_vae *v = params;
    unsigned z = v->latent, deepest = v->width * v->mult[3], c = v->width;
    conv(b, c, 3, 3, "encoder.conv_in");
    for (unsigned level = 0; level < 4; level++)
        c = vae_level(b, v, false, level, c);
    vae_middle(b, deepest, "encoder");
    norm(b, deepest, "encoder.norm_out");
    conv(b, 2 * z, deepest, 3, "encoder.conv_out");
    conv(b, deepest, z, 3, "decoder.conv_in");
    vae_middle(b, deepest, "decoder");
    for (unsigned level = 4; level-- > 0;)
        c = vae_level(b, v, true, level, c);
    norm(b, c, "decoder.norm_out");
    conv(b, 3, c, 3, "decoder.conv_out");
    conv(b, 2 * z, 2 * z, 1, "quant_conv");
    conv(b, z, z, 1, "post_quant_conv");
}

/* ---- denoisers whose layout is a table ------------------------------------------------
 */

static void add_listed(
    void *ctx, const char *name, const uint64_t *shape, unsigned n_dims)
{
    synth_builder *b = ctx;
    struct shape s = { .n = n_dims };
    for (unsigned i = 0; i < n_dims; i++)
        s.d[i] = shape[i];
    add(b, b->dtype, s, name);
}

void synth_rule_table(synth_builder *b, const void *params)
{
    const synth_table *t = params;
    lt_layout_each(t->layout, t->params, t->is_public, add_listed, b);
}

/* ---- language models ------------------------------------------------------------------
 */

void synth_rule_llama(synth_builder *b, const void *params)
{
    const synth_llama *m = params;
    uint64_t w = m->width;
    linear(b, m->vocab, w, false, "model.embed_tokens");
    for (unsigned i = 0; i < m->layers; i++) {
        char p[PATH_SIZE];
        snprintf(p, sizeof p, "model.layers.%u", i);
        linear(b, w, w, false, "%s.self_attn.q_proj", p);
        linear(b, m->kv_width, w, false, "%s.self_attn.k_proj", p);
        linear(b, m->kv_width, w, false, "%s.self_attn.v_proj", p);
        linear(b, w, w, false, "%s.self_attn.o_proj", p);
        linear(b, m->inner, w, false, "%s.mlp.gate_proj", p);
        linear(b, m->inner, w, false, "%s.mlp.up_proj", p);
        linear(b, w, m->inner, false, "%s.mlp.down_proj", p);
        parameter(b, VECTOR(w), "%s.input_layernorm.weight", p);
        parameter(b, VECTOR(w), "%s.post_attention_layernorm.weight", p);
    }
    parameter(b, VECTOR(w), "model.norm.weight");
}
