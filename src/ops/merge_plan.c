/* SPDX-License-Identifier: MIT */
#include "ops/merge.h"

#include "model/family.h"
#include "ops/cast.h"
#include "ops/difference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lt_status note(
    lt_merge_run *run, const char *name, lt_error *err, const char *reason)
{
    return lt_notes_add(&run->report->unmatched, name, 0, err, "%s", reason);
}

static lt_status note_shape(
    lt_merge_run *run, const lt_module *m, const lt_match *match, lt_error *err)
{
    const lt_site *s = match->pieces[0].site;
    char shape[160];
    lt_tensor_shape_text(s->tensor, shape, sizeof shape);
    char rows[96] = "";
    if (match->n_pieces > 1)
        snprintf(rows, sizeof rows, " (%zu tensors or blocks, %llu x %llu together)",
            match->n_pieces, (unsigned long long)match->out,
            (unsigned long long)match->in);
    else if (s->transposed)
        snprintf(rows, sizeof rows, " (stored transposed)");
    else if (s->rows != lt_tensor_rows(s->tensor))
        snprintf(rows, sizeof rows, " (rows %llu to %llu of it)",
            (unsigned long long)s->row0, (unsigned long long)(s->row0 + s->rows));
    bool part_of_fused = lt_module_lacks_alpha(m) && s->in == m->in && m->out < s->out;
    return lt_notes_add(&run->report->unmatched, m->name, 0, err,
        "its product is %llu x %llu, but '%s' is %s%s%s", (unsigned long long)m->out,
        (unsigned long long)m->in, s->tensor->name, shape, rows,
        part_of_fused ? " (a loralib MergedLinear? --enable-lora tells its blocks)" : "");
}

static lt_status add_part(lt_merge_run *run, const lt_contribution *part, lt_error *err)
{
    lt_status st = lt_grow((void **)&run->parts, &run->parts_capacity, run->n_parts + 1,
        sizeof *run->parts, err);
    if (!st) run->parts[run->n_parts++] = *part;
    return st;
}

/* weight * alpha / r. loralib keeps alpha in the code: it has to be given. */
static lt_status factor_of(
    lt_merge_run *run, size_t input, const lt_module *m, double *factor, lt_error *err)
{
    double scale = m->scale, alpha = run->options->alpha;
    bool none = !m->has_alpha && !m->part[LT_PART_SCALE];
    *factor = scale;
    if (run->options->explain) return LT_OK;
    if (none && alpha != 0) {
        scale = alpha * (double)m->groups / (double)m->rank;
        run->alpha_used = true;
    } else if (lt_module_lacks_alpha(m)) {
        lt_error_set(err, LT_ERR_ARG,
            "a loralib adapter, whose file does not say its alpha: give --alpha "
            "(loralib's "
            "own default is 1)");
        return lt_error_where(
            err, "%s: module '%s'", lt_adapter_path(run->adapters[input]), m->name);
    }
    *factor = scale * run->options->inputs[input].weight;
    return LT_OK;
}

/* True when the blocks that enable_lora names are as many as the module has, and make up
 * the site's rows with the others. */
static bool spreads(const lt_merge_run *run, const lt_module *m, const lt_site *s)
{
    const lt_merge_options *o = run->options;
    uint64_t enabled = 0, rows = m->out / m->groups;
    for (size_t i = 0; i < o->n_enable_lora; i++)
        enabled += o->enable_lora[i];
    return lt_module_lacks_alpha(m) && enabled == m->groups && s->in == m->in
        && rows * o->n_enable_lora == s->out;
}

/* PEFT's lora_bias: the bias of the same layer moves by scale * lora_B.bias. */
static lt_status place_bias(
    lt_merge_run *run, const lt_contribution *part, uint64_t out, lt_error *err)
{
    const lt_site *s = part->site;
    const lt_tensor *delta = part->module->part[LT_PART_UP_BIAS];
    size_t n = strlen(s->tensor->name);
    if (!delta) return LT_OK;
    char *name = n > 6 && !strcmp(s->tensor->name + n - 6, "weight")
        ? lt_arena_printf(&run->arena, err, "%.*sbias", (int)n - 6, s->tensor->name)
        : NULL;
    const lt_tensor *bias = name ? lt_store_find(run->base, name) : NULL;
    if (!bias || !lt_dtype_get(bias->dtype)->computes)
        return note(run, delta->name, err, "the base has no bias for it");
    if (delta->count != out || bias->n_dims != 1
        || bias->shape[0] != (s->transposed ? s->out : lt_tensor_rows(s->tensor)))
        return note(run, delta->name, err, "it does not fit the base's bias");
    lt_site *site = lt_arena_alloc(&run->arena, sizeof *site, err);
    if (!site) return LT_ERR_NOMEM;
    *site = *s;
    site->tensor = bias;
    site->row0 = s->transposed ? 0 : s->row0;
    site->rows = s->out;
    site->in = 1;
    site->transposed = false;
    lt_contribution c = *part;
    c.site = site;
    c.bias = true;
    return add_part(run, &c, err);
}

static lt_status place_piece(
    lt_merge_run *run, const lt_contribution *part, uint64_t out, lt_error *err)
{
    lt_status st = add_part(run, part, err);
    return st ? st : place_bias(run, part, out, err);
}

static lt_status place_module(lt_merge_run *run, const lt_alias_map *aliases,
    size_t input, const lt_module *m, lt_error *err)
{
    if (!lt_kind_has_factors(m->kind)) {
        lt_error_set(err, LT_ERR_UNSUPPORTED,
            "modules of the kind '%s' cannot be merged by this version",
            lt_kind_title(m->kind));
        return lt_error_where(
            err, "%s: module '%s'", lt_adapter_path(run->adapters[input]), m->name);
    }
    lt_match match = lt_alias_find(aliases, m->name);
    if (match.ambiguous)
        return note(run, m->name, err, "the name fits two tensors of the base");
    if (!match.n_pieces)
        return note(run, m->name, err, "no tensor of the base has this module name");
    lt_contribution part = { .input = input, .module = m };
    part.spread = match.n_pieces == 1 && spreads(run, m, match.pieces[0].site);
    if (!part.spread && (match.out != m->out || match.in != m->in))
        return note_shape(run, m, &match, err);
    lt_status st = factor_of(run, input, m, &part.factor, err);
    for (size_t i = 0; i < match.n_pieces && !st; i++) {
        part.site = match.pieces[i].site;
        part.first = match.pieces[i].first;
        st = place_piece(run, &part, match.out, err);
    }
    for (size_t i = 0; i < m->n_others && !st; i++)
        st = note(run, m->others[i]->name, err, "this version does not apply it");
    if (!st) run->report->modules_applied++;
    return st;
}

/* The base's tensor that a plain tensor of an adapter stands for: PEFT saves the weights
 * of targeted embeddings and heads beside their factors, as X.base_layer.weight. */
static const lt_tensor *plain_target(lt_merge_run *run, const lt_tensor *t, lt_error *err)
{
    static const char wrapper[] = "base_model.model.", layer[] = ".base_layer.";
    const char *name = t->name;
    if (!strncmp(name, wrapper, sizeof wrapper - 1)) name += sizeof wrapper - 1;
    const char *at = strstr(name, layer);
    if (!at) return lt_store_find(run->base, name);
    char *plain = lt_arena_printf(
        &run->arena, err, "%.*s.%s", (int)(at - name), name, at + sizeof layer - 1);
    return plain ? lt_store_find(run->base, plain) : NULL;
}

/* The tensor takes the place of the base's, which an adapter can do only as it is. */
static lt_status place_replacement(lt_merge_run *run, size_t input, const lt_tensor *t,
    const lt_tensor *b, lt_error *err)
{
    lt_replacement *r = &run->replacements[lt_store_index(run->base, b)];
    if (run->options->inputs[input].weight != 1)
        return note(run, t->name, err,
            "it replaces a tensor of the base, which has no weight other than 1");
    if (r->tensor) {
        lt_error_set(
            err, LT_ERR_MISMATCH, "two adapters replace the base's '%s'", b->name);
        return lt_error_where(err, "%s", lt_adapter_path(run->adapters[input]));
    }
    *r = (lt_replacement){ lt_adapter_store(run->adapters[input]), t };
    run->report->tensors_replaced++;
    return LT_OK;
}

static lt_status place_plain(
    lt_merge_run *run, size_t input, const lt_tensor *t, lt_error *err)
{
    lt_adapter *a = run->adapters[input];
    bool changed = true;
    const lt_tensor *b = plain_target(run, t, err);
    if (!b) return note(run, t->name, err, "it belongs to no module of a known kind");
    bool comparable = b->n_dims == t->n_dims
        && !memcmp(b->shape, t->shape, b->n_dims * sizeof *b->shape)
        && lt_dtype_get(b->dtype)->computes && lt_dtype_get(t->dtype)->computes;
    lt_scratch scratch = { 0 };
    lt_region region = {
        .base = run->base, .tuned = lt_adapter_store(a), .a = b, .b = t, .count = b->count
    };
    lt_status st =
        comparable ? lt_region_changed(&region, 0, &changed, &scratch, err) : LT_OK;
    lt_scratch_release(&scratch);
    if (st) return st;
    if (!changed)
        return lt_notes_add(
            &run->report->redundant, t->name, 0, err, "equals '%s' of the base", b->name);
    bool replaces = false;
    if (comparable) st = lt_adapter_replaces(a, t, &replaces, err);
    if (st) return st;
    if (replaces) return place_replacement(run, input, t, b, err);
    return note(run, t->name, err,
        "it would replace a tensor of the base, which no config says it should");
}

static lt_status place_adapter(
    lt_merge_run *run, const lt_alias_map *aliases, size_t input, lt_error *err)
{
    const lt_adapter *a = run->adapters[input];
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_adapter_module_count(a) && !st; i++)
        st = place_module(run, aliases, input, lt_adapter_module(a, i), err);
    for (size_t i = 0; i < lt_adapter_rest_count(a) && !st; i++)
        st = place_plain(run, input, lt_adapter_rest(a, i), err);
    return st;
}

static bool overlap(const lt_contribution *x, const lt_contribution *y)
{
    return x->input == y->input && x->bias == y->bias
        && x->site->row0 < y->site->row0 + y->site->rows
        && y->site->row0 < x->site->row0 + x->site->rows;
}

/* Contributions [from, to) are those to one tensor: few. */
static lt_status check_overlaps(
    const lt_merge_run *run, size_t from, size_t to, lt_error *err)
{
    for (size_t i = from; i < to; i++)
        for (size_t j = from; j < i; j++) {
            const lt_contribution *x = &run->parts[j], *y = &run->parts[i];
            if (!overlap(x, y)) continue;
            lt_error_set(err, LT_ERR_MISMATCH,
                "modules '%s' and '%s' both stand for '%s'", x->module->name,
                y->module->name, x->site->tensor->name);
            return lt_error_where(err, "%s", lt_adapter_path(run->adapters[x->input]));
        }
    return LT_OK;
}

static int by_place(const void *a, const void *b)
{
    const lt_contribution *x = a, *y = b;
    /* Tensors stand in one array, in the store's order; so do the sites of a weight. */
    if (x->site->tensor != y->site->tensor)
        return x->site->tensor < y->site->tensor ? -1 : 1;
    if (x->site->row0 != y->site->row0) return x->site->row0 < y->site->row0 ? -1 : 1;
    if (x->input != y->input) return x->input < y->input ? -1 : 1;
    return strcmp(x->module->name, y->module->name);
}

static lt_status index_parts(lt_merge_run *run, lt_error *err)
{
    size_t n = lt_store_count(run->base), at = 0;
    if (run->n_parts) qsort(run->parts, run->n_parts, sizeof *run->parts, by_place);
    run->first_part = lt_alloc((uint64_t)n + 1, sizeof *run->first_part, err);
    if (!run->first_part) return LT_ERR_NOMEM;
    for (size_t t = 0; t < n; t++) {
        run->first_part[t] = at;
        while (at < run->n_parts
            && lt_store_index(run->base, run->parts[at].site->tensor) == t)
            at++;
        lt_status st = check_overlaps(run, run->first_part[t], at, err);
        if (st) return st;
    }
    run->first_part[n] = at;
    for (size_t t = 0; t < n; t++) {
        if (!run->replacements[t].tensor || run->first_part[t] == run->first_part[t + 1])
            continue;
        lt_error_set(err, LT_ERR_MISMATCH, "is both replaced and changed by adapters");
        return lt_store_blame(run->base, lt_store_at(run->base, t), err);
    }
    return LT_OK;
}

static lt_status fill_applied(lt_merge_run *run, lt_error *err)
{
    lt_merge_report *r = run->report;
    r->applied = calloc(run->n_parts + 1, sizeof *r->applied);
    if (!r->applied) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < run->n_parts; i++) {
        const lt_contribution *p = &run->parts[i];
        if (p->bias) continue; /* goes with its module */
        const lt_module *m = p->module;
        const char *path = lt_adapter_path(run->adapters[p->input]);
        lt_applied a = { .row0 = p->site->row0,
            .rows = p->site->rows,
            .first = p->first,
            .out = m->out,
            .in = m->in,
            .rank = m->rank,
            .factor = p->factor,
            .alpha = m->has_alpha ? m->alpha : (double)m->rank,
            .input = lt_arena_strdup(&run->arena, path, err),
            .module = lt_arena_strdup(&run->arena, m->name, err),
            .tensor = lt_arena_strdup(&run->arena, p->site->tensor->name, err) };
        if (!a.input || !a.module || !a.tensor) return LT_ERR_NOMEM;
        r->applied[r->n_applied++] = a;
    }
    return LT_OK;
}

/* What most likely went wrong, for the message. */
static void find_cause(lt_merge_run *run)
{
    const lt_family *base = lt_model_family(run->model);
    const lt_family *unknown = NULL;
    lt_merge_report *r = run->report;
    for (size_t i = 0; i < run->options->n_inputs; i++) {
        const lt_family *f = lt_adapter_family(run->adapters[i]);
        if (!strcmp(lt_family_id(f), lt_family_id(base))) continue;
        if (!strcmp(lt_family_id(f), "unknown")) {
            unknown = f;
            continue;
        }
        snprintf(r->cause, sizeof r->cause, "the adapter is for %s, the base is %s",
            lt_family_title(f), lt_family_title(base));
        return;
    }
    if (unknown)
        snprintf(r->cause, sizeof r->cause,
            "the adapter's family is not recognised, the base is %s",
            lt_family_title(base));
    else
        snprintf(r->cause, sizeof r->cause,
            "both are %s: the adapter may target parts that this file lacks",
            lt_family_title(base));
}

static lt_status judge(lt_merge_run *run, lt_error *err)
{
    const lt_notes *u = &run->report->unmatched;
    if (u->count) find_cause(run);
    if (run->options->explain) return LT_OK;
    if (!run->n_parts && !run->report->tensors_replaced)
        return lt_error_set(err, LT_ERR_MISMATCH,
            "no module of the adapter fits the base: %s", run->report->cause);
    if (!u->count || run->options->allow_unmatched) return LT_OK;
    return lt_error_set(err, LT_ERR_MISMATCH,
        "%zu of the adapter's modules or tensors do not fit the base, first '%s' (%s); "
        "%s",
        u->count, u->items[0].name, u->items[0].reason, run->report->cause);
}

/* What changes, and what is cast. */
static lt_status refuse_scaled(lt_merge_run *run, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < run->n_parts && !st; i++)
        st = lt_refuse_scaled(run->base, run->parts[i].site->tensor, err);
    for (size_t i = 0; run->cast && i < lt_store_count(run->base) && !st; i++) {
        const lt_tensor *t = lt_store_at(run->base, i);
        if (lt_cast_dtype(t, run->dtype) != t->dtype)
            st = lt_refuse_scaled(run->base, t, err);
    }
    return st;
}

bool lt_merge_touches(const lt_merge_run *run, size_t t)
{
    return run->first_part[t] < run->first_part[t + 1] || run->replacements[t].tensor;
}

/* A weight that is the same memory as another one (tied embeddings) cannot change alone
 * without anyone's knowledge. */
static lt_status check_twins(lt_merge_run *run, lt_error *err)
{
    for (size_t t = 0; t < lt_store_count(run->base); t++) {
        size_t twin = lt_store_alias(run->base, t);
        bool changes = lt_merge_touches(run, t);
        bool twin_changes = lt_merge_touches(run, twin);
        if (t == twin || !(changes || twin_changes) || run->options->untie) continue;
        const lt_tensor *moving = lt_store_at(run->base, changes ? t : twin);
        lt_error_set(err, LT_ERR_MISMATCH,
            "is the same memory as '%s', which the adapter %s: --untie lets them differ",
            lt_store_at(run->base, changes ? twin : t)->name,
            changes && twin_changes ? "changes on its own" : "does not change");
        return lt_store_blame(run->base, moving, err);
    }
    return LT_OK;
}

static bool site_is_touched(const lt_merge_run *run, const lt_site *s)
{
    size_t t = lt_store_index(run->base, s->tensor);
    if (run->replacements[t].tensor) return true;
    for (size_t i = run->first_part[t]; i < run->first_part[t + 1]; i++) {
        const lt_site *other = run->parts[i].site;
        if (other->row0 < s->row0 + s->rows && s->row0 < other->row0 + other->rows)
            return true;
    }
    return false;
}

/* Sites that the adapters' dialect names and no module changes; parts of what it knows as
 * one by their own names. */
static lt_status note_untouched(lt_merge_run *run, lt_error *err)
{
    lt_naming naming = lt_dialect_naming(lt_adapter_dialect(run->adapters[0]));
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_model_site_count(run->model) && !st; i++) {
        const lt_site *s = lt_model_site(run->model, i);
        char name[768];
        bool apart = s->component->is_public && s->parts > 1;
        bool serves = lt_site_serves(s, naming);
        if (!s->standard || !(serves || apart) || site_is_touched(run, s)) continue;
        lt_site_name(s, serves ? naming : LT_NAMING_DIFFUSERS, name, sizeof name);
        if (!*name) continue;
        st = lt_notes_add(&run->report->untouched, s->tensor->name, 0, err, "%s", name);
    }
    return st;
}

static lt_status open_all(lt_merge_run *run, lt_error *err)
{
    const lt_merge_options *o = run->options;
    lt_status st = lt_parse_dtype(o->dtype, &run->cast, &run->dtype, err);
    if (!st) st = lt_open_base(&run->base, o->base, err);
    if (!st) st = lt_model_new(&run->model, run->base, err);
    run->adapters = calloc(o->n_inputs + 1, sizeof(lt_adapter *));
    if (!run->adapters && !st) st = lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < o->n_inputs && !st; i++) {
        if (!isfinite(o->inputs[i].weight))
            return lt_error_set(err, LT_ERR_ARG, "a weight is not a finite number");
        st = lt_adapter_open(&run->adapters[i], o->inputs[i].path, err);
        if (!st) st = lt_adapter_usable(run->adapters[i], err);
        if (!st && run->options->alpha == 0)
            st = lt_notes_add_assumed(&run->report->assumed, run->adapters[i], err);
    }
    return st;
}

lt_status lt_merge_plan(lt_merge_run *run, lt_error *err)
{
    lt_alias_map *aliases = NULL;
    lt_status st = open_all(run, err);
    run->replacements =
        st ? NULL : lt_alloc(lt_store_count(run->base), sizeof *run->replacements, err);
    if (!st && !run->replacements) st = LT_ERR_NOMEM;
    if (!st) run->report->base_family = lt_family_id(lt_model_family(run->model));
    if (!st) st = lt_alias_map_new(&aliases, run->model, err);
    for (size_t i = 0; i < run->options->n_inputs && !st; i++)
        st = place_adapter(run, aliases, i, err);
    lt_alias_map_free(aliases);
    if (!st && run->options->alpha != 0 && !run->alpha_used)
        st = lt_error_set(err, LT_ERR_ARG,
            "--alpha is for adapters without one: every module here has its own");
    if (!st) st = index_parts(run, err);
    if (!st) st = fill_applied(run, err);
    if (!st) st = judge(run, err);
    if (!st && run->options->explain) return note_untouched(run, err);
    if (!st) st = check_twins(run, err);
    return st ? st : refuse_scaled(run, err);
}
