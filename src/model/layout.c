/* SPDX-License-Identifier: MIT */
#include "model/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *group_name(const lt_layout_group *g, bool is_public)
{
    return is_public ? g->public : g->native;
}

/* What follows the group's prefix in name, with the index that stands in it; NULL when
 * name does not begin with it. */
static const char *match_group(const char *prefix, const char *name, unsigned *index)
{
    *index = 0;
    for (; *prefix; prefix++) {
        if (*prefix != '#') {
            if (*prefix != *name++) return NULL;
            continue;
        }
        if (*name < '0' || *name > '9') return NULL;
        if (*name == '0' && name[1] >= '0' && name[1] <= '9') return NULL; /* not 01 */
        char *end;
        unsigned long n = strtoul(name, &end, 10);
        if (end - name > 5) return NULL;
        *index = (unsigned)n;
        name = end;
    }
    return name;
}

void lt_layout_view_init(lt_layout_view *view, const lt_layout *layout, bool is_public,
    const lt_store *store, const char *prefix)
{
    size_t skip = strlen(prefix);
    *view = (lt_layout_view){ .layout = layout, .is_public = is_public };
    bool some = false; /* groups do not span all blocks */
    for (size_t g = 0; layout->groups[g].native; g++) {
        view->heads[g] =
            (unsigned char)strcspn(group_name(&layout->groups[g], is_public), "#");
        some = some || layout->groups[g].span != LT_SPAN_ALL;
    }
    for (size_t t = 0; some && t < lt_store_count(store); t++) {
        const char *name = lt_store_at(store, t)->name;
        if (strncmp(name, prefix, skip)) continue;
        for (size_t g = 0; layout->groups[g].native; g++) {
            unsigned index;
            if (layout->groups[g].span == LT_SPAN_ALL) continue;
            const char *kind = group_name(&layout->groups[g], is_public);
            if (match_group(kind, name + skip, &index) && index >= view->blocks[g])
                view->blocks[g] = index + 1;
        }
    }
}

/* The i-th of the words in list; its length, 0 when there are fewer. */
static size_t word(const char *list, unsigned i, const char **start)
{
    for (; *list; list += strcspn(list, " "), list += strspn(list, " "))
        if (!i--) {
            *start = list;
            return strcspn(list, " ");
        }
    return 0;
}

static unsigned count_words(const char *list)
{
    const char *start;
    unsigned n = 0;
    while (word(list, n, &start))
        n++;
    return n;
}

static const char *public_names(const lt_layout_row *row)
{
    return row->public ? row->public : row->native;
}

static bool spans(const lt_layout_group *g, unsigned index, unsigned blocks)
{
    if (g->span == LT_SPAN_ALL) return true;
    return (index + 1 == blocks) == (g->span == LT_SPAN_LAST);
}

/* What follows a module's path; NULL where there is no such tensor. */
static const char *leaf_of(const lt_layout_row *row, bool is_public, bool bias)
{
    bool whole =
        row->flags & LT_ROW_TENSOR || (row->flags & LT_ROW_TRANSPOSED && !is_public);
    if (bias && (whole || !(row->flags & LT_ROW_BIAS))) return NULL;
    if (whole) return "";
    if (row->flags & LT_ROW_UNDERSCORE && !is_public) return bias ? "_bias" : "_weight";
    return bias ? ".bias" : ".weight";
}

/* rest is a module of the row and its leaf, or a bare tensor. */
static bool match_row(const lt_layout_view *v, const lt_layout_row *row, const char *rest,
    unsigned *part, bool *bias)
{
    const char *names = v->is_public ? public_names(row) : row->native, *name;
    size_t n;
    if (!strchr(names, ' ') && *names != *rest) return false;
    for (*part = 0; (n = word(names, *part, &name)); ++*part) {
        if (strncmp(rest, name, n)) continue;
        for (int i = 0; i < 2; i++) {
            const char *leaf = leaf_of(row, v->is_public, i);
            *bias = i;
            if (leaf && !strcmp(rest + n, leaf)) return true;
        }
    }
    return false;
}

/* prefix with its index, then n characters of name. */
static bool write_path(const char *prefix, unsigned index, const char *name, size_t n,
    char *dst, size_t size)
{
    size_t head = strcspn(prefix, "#"), left = strlen(prefix) - head;
    char number[12] = "";
    if (left) {
        snprintf(number, sizeof number, "%u", index);
        left--;
    }
    size_t digits = strlen(number);
    if (head + digits + left + n >= size) return false;
    memcpy(dst, prefix, head);
    memcpy(dst + head, number, digits);
    memcpy(dst + head + digits, prefix + strlen(prefix) - left, left);
    memcpy(dst + head + digits + left, name, n);
    dst[head + digits + left + n] = '\0';
    return true;
}

/* Told by the last characters before the index: names of many groups begin alike. */
static bool may_begin(const char *name, size_t size, const char *head, size_t n)
{
    if (n > size) return false;
    if (n > 2 && (name[n - 2] != head[n - 2] || name[n - 1] != head[n - 1])) return false;
    return !memcmp(name, head, n);
}

static bool find_named(
    const lt_layout_view *view, const char *name, lt_layout_place *place)
{
    size_t size = strlen(name);
    for (size_t g = 0; view->layout->groups[g].native; g++) {
        const lt_layout_group *group = &view->layout->groups[g];
        unsigned index, part;
        bool bias;
        const char *head = group_name(group, view->is_public);
        if (!may_begin(name, size, head, view->heads[g])) continue;
        const char *rest = match_group(head, name, &index);
        if (!rest || !spans(group, index, view->blocks[g])) continue;
        for (const lt_layout_row *row = group->rows; row->native; row++) {
            if (!match_row(view, row, rest, &part, &bias)) continue;
            *place = (lt_layout_place){ row, group, index, part,
                count_words(public_names(row)), bias };
            return true;
        }
    }
    return false;
}

/* A tensor of a native file that calls modules by their other names. */
static bool find_other_name(
    const lt_layout_view *view, const char *name, lt_layout_place *place)
{
    const lt_layout_alias *a = view->is_public ? NULL : view->layout->aliases;
    for (; a && a->name; a++) {
        char native[256];
        unsigned index;
        const char *rest = a->parts ? NULL : match_group(a->name, name, &index);
        if (!rest || (*rest && *rest != '.')) continue;
        if (!write_path(a->native, index, "", 0, native, sizeof native)) continue;
        size_t n = strlen(native);
        snprintf(native + n, sizeof native - n, "%s", rest);
        if (find_named(view, native, place)) return true;
    }
    return false;
}

bool lt_layout_find(const lt_layout_view *view, const char *name, lt_layout_place *place)
{
    return find_named(view, name, place) || find_other_name(view, name, place);
}

bool lt_layout_find_weight(
    const lt_layout_view *view, const char *name, lt_layout_place *place)
{
    return lt_layout_find(view, name, place) && !place->bias
        && !(place->row->flags & LT_ROW_TENSOR);
}

bool lt_layout_alias_name(const lt_layout_alias *alias, const char *native, unsigned part,
    char *dst, size_t size)
{
    unsigned index;
    char path[160];
    const char *rest = match_group(alias->native, native, &index), *name;
    size_t n = rest && !*rest ? word(alias->name, part, &name) : 0;
    if (!n || n >= sizeof path) return false;
    snprintf(path, sizeof path, "%.*s", (int)n, name);
    return write_path(path, index, "", 0, dst, size);
}

bool lt_layout_native_path(const lt_layout_place *place, char *dst, size_t size)
{
    const char *name = place->row->native;
    return write_path(place->group->native, place->index, name, strlen(name), dst, size);
}

bool lt_layout_public_path(
    const lt_layout_place *place, unsigned part, char *dst, size_t size)
{
    const char *name;
    size_t n = word(public_names(place->row), part, &name);
    return n && write_path(place->group->public, place->index, name, n, dst, size);
}

static bool add_leaf(const lt_layout_place *place, bool is_public, char *dst, size_t size)
{
    const char *leaf = leaf_of(place->row, is_public, place->bias);
    size_t used = strlen(dst);
    if (!leaf || strlen(leaf) >= size - used) return false;
    memcpy(dst + used, leaf, strlen(leaf) + 1);
    return true;
}

bool lt_layout_native_name(const lt_layout_place *place, char *dst, size_t size)
{
    return lt_layout_native_path(place, dst, size) && add_leaf(place, false, dst, size);
}

bool lt_layout_public_name(
    const lt_layout_place *place, unsigned part, char *dst, size_t size)
{
    return lt_layout_public_path(place, part, dst, size)
        && add_leaf(place, true, dst, size);
}

bool lt_layout_part_rows(const lt_layout_place *place, unsigned part, uint64_t all_rows,
    uint64_t columns, uint64_t *row0, uint64_t *rows)
{
    uint64_t lead = place->row->lead, others = place->parts - lead;
    if (lead && (columns > all_rows / lead)) return false;
    uint64_t left = all_rows - lead * columns;
    if (others ? left % others : left) return false;
    uint64_t share = others ? left / others : 0;
    *rows = part < lead ? columns : share;
    *row0 = part < lead ? part * columns : lead * columns + (part - lead) * share;
    return *rows > 0;
}

/* ---- listing ------------------------------------------------------------------------
 */

struct listing {
    const char *params, *group_params;
    bool is_public;
    lt_layout_fn tell;
    void *ctx;
};

/* "letter=" in params; NULL when it is not there. */
static const char *find_parameter(const char *params, char letter)
{
    for (const char *p = params; p && *p; p += strcspn(p, " "), p += strspn(p, " "))
        if (p[0] == letter && p[1] == '=') return p + 2;
    return NULL;
}

uint64_t lt_layout_parameter(const char *params, char letter)
{
    const char *text = find_parameter(params, letter);
    return text ? strtoull(text, NULL, 10) : 0;
}

/* A group's value is a factor of the variant's where a letter follows it. */
static uint64_t parameter(const struct listing *l, char letter)
{
    char *end;
    const char *own = find_parameter(l->group_params, letter);
    if (!own) own = find_parameter(l->params, letter);
    if (!own) return 0;
    uint64_t value = strtoull(own, &end, 10);
    if (*end < 'a' || *end > 'z') return value;
    return value * lt_layout_parameter(l->params, *end);
}

static unsigned read_shape(const struct listing *l, const char *text, uint64_t *shape)
{
    unsigned n = 0;
    while (*text && n < LT_MAX_DIMS) {
        char *end;
        uint64_t factor = strtoull(text, &end, 10);
        if (end == text) factor = 1;
        bool letter = *end && *end != ',';
        shape[n++] = letter ? factor * parameter(l, *end) : factor;
        text = end + letter;
        text += *text == ',';
    }
    return n;
}

static void tell_module(const struct listing *l, lt_layout_place *p, unsigned part,
    const uint64_t *shape, unsigned n_dims)
{
    char name[256];
    for (int bias = 0; bias < 2; bias++) {
        p->bias = bias;
        bool there = l->is_public ? lt_layout_public_name(p, part, name, sizeof name)
                                  : lt_layout_native_name(p, name, sizeof name);
        if (there) l->tell(l->ctx, name, shape, bias ? 1 : n_dims);
    }
}

static void tell_row(const struct listing *l, lt_layout_place *p)
{
    uint64_t shape[LT_MAX_DIMS] = { 1 }, columns = 1, row0;
    unsigned n_dims = read_shape(l, p->row->shape, shape);
    uint64_t all_rows = shape[0];
    for (unsigned i = 1; i < n_dims; i++)
        columns *= shape[i];
    p->parts = count_words(public_names(p->row));
    if (!l->is_public) {
        tell_module(l, p, 0, shape, n_dims);
        return;
    }
    if (p->row->flags & LT_ROW_POINTWISE) n_dims = 2;
    if (p->row->flags & LT_ROW_TRANSPOSED) {
        shape[0] = shape[1];
        shape[1] = all_rows;
    }
    for (unsigned part = 0; part < p->parts; part++) {
        bool cut = p->parts == 1
            || lt_layout_part_rows(p, part, all_rows, columns, &row0, &shape[0]);
        if (cut) tell_module(l, p, part, shape, n_dims);
    }
}

void lt_layout_each(const lt_layout *layout, const char *params, bool is_public,
    lt_layout_fn tell, void *ctx)
{
    struct listing l = {
        .params = params, .is_public = is_public, .tell = tell, .ctx = ctx
    };
    for (const lt_layout_group *g = layout->groups; g->native; g++) {
        l.group_params = g->params;
        unsigned blocks = g->count ? (unsigned)parameter(&l, g->count) : 1;
        unsigned from = g->from ? (unsigned)parameter(&l, g->from) : 0;
        for (unsigned i = from; i < blocks; i++) {
            if (!spans(g, i, blocks)) continue;
            for (const lt_layout_row *row = g->rows; row->native; row++)
                tell_row(&l, &(lt_layout_place){ .row = row, .group = g, .index = i });
        }
    }
}
