/* SPDX-License-Identifier: MIT */
#include "adapter/kind.h"

#include <string.h>

/* Suffixes that say nothing of the kind: they scale whatever the module is. */
const lt_suffix lt_common_suffixes[] = {
    LT_SUFFIX(".alpha", LT_PART_ALPHA),
    LT_SUFFIX(".scale", LT_PART_SCALE),
    LT_NO_SUFFIX,
};

/* Kinds that are recognised, counted and named, but not computed with yet. */
#define OTHER(s) LT_SUFFIX(s, LT_PART_OTHER)
#define RECOGNISED(name, id_, title_, common, ...)                                  \
    static const lt_suffix name##_suffixes[] = { __VA_ARGS__, LT_NO_SUFFIX };       \
    static const lt_kind name = { id_, title_, name##_suffixes, NULL, NULL, common, \
        false }

RECOGNISED(loha, "loha", "LyCORIS LoHa", false, OTHER(".hada_w1_a"), OTHER(".hada_w1_b"),
    OTHER(".hada_w2_a"), OTHER(".hada_w2_b"), OTHER(".hada_t1"), OTHER(".hada_t2"));
RECOGNISED(lokr, "lokr", "LyCORIS LoKr", false, OTHER(".lokr_w1"), OTHER(".lokr_w1_a"),
    OTHER(".lokr_w1_b"), OTHER(".lokr_w2"), OTHER(".lokr_w2_a"), OTHER(".lokr_w2_b"),
    OTHER(".lokr_t2"));
RECOGNISED(oft, "oft", "OFT", true, OTHER(".oft_blocks"), OTHER(".oft_R.weight"),
    OTHER(".oft_diag"), OTHER(".rescale"));
RECOGNISED(boft, "boft", "BOFT", false, OTHER(".boft_R"), OTHER(".boft_s"));
RECOGNISED(ia3, "ia3", "IA3", true, OTHER(".ia3_l"), OTHER(".on_input"));
RECOGNISED(glora, "glora", "GLoRA", true, OTHER(".a1.weight"), OTHER(".a2.weight"),
    OTHER(".b1.weight"), OTHER(".b2.weight"), OTHER(".bm.weight"));
RECOGNISED(vera, "vera", "VeRA", false, OTHER(".vera_lambda_b"), OTHER(".vera_lambda_d"));
RECOGNISED(adalora, "adalora", "AdaLoRA", false, OTHER(".lora_E"));
RECOGNISED(embedding, "lora-embedding", "LoRA on an embedding", false,
    OTHER(".lora_embedding_A"), OTHER(".lora_embedding_B"));
RECOGNISED(full, "full", "full difference", true, OTHER(".diff"), OTHER(".diff_b"),
    OTHER(".w_norm"), OTHER(".b_norm"), OTHER(".set_weight"), OTHER(".reshape_weight"));

const lt_kind *const lt_kinds[] = {
    &lt_kind_dora,
    &lt_kind_lora_bias,
    &adalora,
    &lt_kind_lora,
    &loha,
    &lokr,
    &oft,
    &boft,
    &ia3,
    &glora,
    &vera,
    &embedding,
    &full,
    NULL,
};

const char *lt_kind_id(const lt_kind *kind)
{
    return kind->id;
}

const char *lt_kind_title(const lt_kind *kind)
{
    return kind->title;
}

bool lt_kind_has_factors(const lt_kind *kind)
{
    return kind->load != NULL;
}

bool lt_kind_is_pair(const lt_kind *kind)
{
    return kind->pair;
}

bool lt_module_lacks_alpha(const lt_module *m)
{
    const lt_tensor *down = m->part[LT_PART_DOWN];
    size_t n = down ? strlen(down->name) : 0;
    bool raw = n > 7 && !strcmp(down->name + n - 7, ".lora_A");
    return raw && !m->has_alpha && !m->part[LT_PART_SCALE];
}

bool lt_module_shares_alpha(const lt_module *m)
{
    const lt_kind *kind;
    lt_part part;
    for (size_t i = 0; i < m->n_others; i++)
        if (lt_split_name(m->others[i]->name, &kind, &part) && kind != &full) return true;
    return false;
}

bool lt_module_has_kernel(const lt_module *m)
{
    const lt_tensor *down = m->part[LT_PART_DOWN];
    return m->part[LT_PART_MID] || (down && down->n_dims > 2 && down->shape[1] < m->in);
}

static size_t stem_size(const char *name, size_t size, const lt_suffix *s)
{
    /* Nearly all fail at one of their ends, and a model has thousands of names. */
    if (size <= s->size || name[size - s->size] != *s->text
        || name[size - 1] != s->text[s->size - 1])
        return 0;
    return memcmp(name + size - s->size, s->text, s->size) ? 0 : size - s->size;
}

/* PEFT's raw state dicts carry the adapter's name: x.lora_A.default.weight. */
static size_t split_named(const char *name, lt_part *part)
{
    static const struct {
        const char *infix;
        lt_part part;
    } infixes[] = { { ".lora_A.", LT_PART_DOWN }, { ".lora_B.", LT_PART_UP } };
    if (!strstr(name, ".lora_")) return 0;
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(name, infixes[i].infix);
        if (!at || at == name) continue;
        const char *dot = strchr(at + strlen(infixes[i].infix), '.');
        if (!dot || strcmp(dot, ".weight")) continue;
        *part = infixes[i].part;
        return (size_t)(at - name);
    }
    return 0;
}

/* XLabs numbers the streams of a block: x.qkv_lora1.down.weight. */
static size_t split_numbered(const char *name, size_t size, lt_part *part)
{
    static const lt_suffix endings[] = {
        LT_SUFFIX(".down.weight", LT_PART_DOWN),
        LT_SUFFIX(".up.weight", LT_PART_UP),
    };
    for (int i = 0; i < 2; i++) {
        size_t n = stem_size(name, size, &endings[i]);
        if (n < 7 || memcmp(name + n - 6, "_lora", 5) != 0) continue;
        if (name[n - 1] != '1' && name[n - 1] != '2') continue;
        *part = endings[i].part;
        return n;
    }
    return 0;
}

size_t lt_split_name(const char *name, const lt_kind **kind, lt_part *part)
{
    size_t size = strlen(name), best = 0;
    for (const lt_suffix *s = lt_common_suffixes; s->text; s++) {
        size_t n = stem_size(name, size, s);
        if (!n) continue;
        *kind = NULL;
        *part = s->part;
        best = n;
    }
    for (const lt_kind *const *k = lt_kinds; *k; k++) {
        for (const lt_suffix *s = (*k)->suffixes; s->text; s++) {
            size_t n = stem_size(name, size, s);
            if (!n || (best && n >= best)) continue; /* the longest suffix wins */
            *kind = *k;
            *part = s->part;
            best = n;
        }
    }
    if (best) return best;
    *kind = &lt_kind_lora;
    best = split_named(name, part);
    return best ? best : split_numbered(name, size, part);
}
