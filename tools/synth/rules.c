/* SPDX-License-Identifier: MIT */
#include "rules.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void add(synth_builder *b, lt_dtype dtype, const uint64_t *shape, unsigned n_dims,
    const char *key)
{
    synth_layout *l = b->layout;
    lt_tensor t = { .dtype = dtype, .n_dims = n_dims };
    for (unsigned i = 0; i < n_dims; i++)
        t.shape[i] = shape[i];
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

/* ---- tables of the library -----------------------------------------------------------
 */

static void add_listed(
    void *ctx, const char *name, const uint64_t *shape, unsigned n_dims)
{
    synth_builder *b = ctx;
    add(b, strstr(name, "position_ids") ? LT_I64 : b->dtype, shape, n_dims, name);
}

void synth_rule_table(synth_builder *b, const void *params)
{
    const synth_table *t = params;
    const char *values = t->params;
    for (const lt_layout_variant *v = t->layout->variants; v->id; v++)
        if (!strcmp(v->id, t->params)) values = v->params;
    lt_layout_each(t->layout, values, t->is_public, add_listed, b);
}

/* ---- language models ------------------------------------------------------------------
 */

static void matrix(synth_builder *b, uint64_t out, uint64_t in, const char *name, ...)
    LT_PRINTF(4, 5);
static void vector(synth_builder *b, uint64_t width, const char *name, ...)
    LT_PRINTF(3, 4);

static void matrix(synth_builder *b, uint64_t out, uint64_t in, const char *name, ...)
{
    char key[160];
    va_list ap;
    va_start(ap, name);
    vsnprintf(key, sizeof key, name, ap);
    va_end(ap);
    add(b, b->dtype, (const uint64_t[]){ out, in }, 2, key);
}

static void vector(synth_builder *b, uint64_t width, const char *name, ...)
{
    char key[160];
    va_list ap;
    va_start(ap, name);
    vsnprintf(key, sizeof key, name, ap);
    va_end(ap);
    add(b, b->dtype, &width, 1, key);
}

static void llama_layer(synth_builder *b, const synth_llama *m, const char *p)
{
    uint64_t w = m->width;
    matrix(b, w, w, "%s.self_attn.q_proj.weight", p);
    matrix(b, m->kv_width, w, "%s.self_attn.k_proj.weight", p);
    matrix(b, m->kv_width, w, "%s.self_attn.v_proj.weight", p);
    matrix(b, w, w, "%s.self_attn.o_proj.weight", p);
    matrix(b, m->inner, w, "%s.mlp.gate_proj.weight", p);
    matrix(b, m->inner, w, "%s.mlp.up_proj.weight", p);
    matrix(b, w, m->inner, "%s.mlp.down_proj.weight", p);
    vector(b, w, "%s.input_layernorm.weight", p);
    vector(b, w, "%s.post_attention_layernorm.weight", p);
}

void synth_rule_llama(synth_builder *b, const void *params)
{
    const synth_llama *m = params;
    matrix(b, m->vocab, m->width, "model.embed_tokens.weight");
    for (unsigned i = 0; i < m->layers; i++) {
        char p[64];
        snprintf(p, sizeof p, "model.layers.%u", i);
        llama_layer(b, m, p);
    }
    vector(b, m->width, "model.norm.weight");
}
