/* SPDX-License-Identifier: MIT */
#include "model/outline.h"

#include <stdio.h>

struct adding {
    lt_store *store;
    const char *prefix;
    lt_status status;
    lt_error *err;
};

static void add(void *ctx, const char *name, const uint64_t *shape, unsigned n_dims)
{
    struct adding *a = ctx;
    char full[512];
    snprintf(full, sizeof full, "%s%s", a->prefix, name);
    if (!a->status)
        a->status = lt_store_hollow_add(a->store, full, LT_F16, shape, n_dims, a->err);
}

bool lt_outline_exists(const lt_family *family)
{
    const lt_component *c = family->components;
    return c->layout && c->is_main && (!c->is_public || !lt_family_counterpart(family));
}

size_t lt_outline_variants(const lt_component *component)
{
    size_t n = 0;
    while (component->layout && component->layout->variants[n].id)
        n++;
    return component->no_adapter ? 0 : n;
}

lt_status lt_outline_store(lt_store **out, const lt_outline *outline, lt_error *err)
{
    lt_status st = lt_store_hollow(out, outline->family->title, err);
    struct adding a = { .store = *out, .err = err };
    const lt_component *c = outline->family->components;
    for (size_t i = 0; i < LT_MAX_COMPONENTS && c[i].id && !st; i++) {
        if (!lt_outline_variants(&c[i])) continue;
        a.prefix = c[i].prefixes[0];
        lt_layout_each(c[i].layout, c[i].layout->variants[outline->variant[i]].params,
            c[i].is_public, add, &a);
        st = a.status;
    }
    if (st) {
        lt_store_close(*out);
        *out = NULL;
    }
    return st;
}
