/* SPDX-License-Identifier: MIT */
#include "format/torch_value.h"

#include "format/pickle_globals.h"

#include <stdio.h>
#include <string.h>

#define SHOWN_TEXT 60 /* bytes of a string that are shown */

/* ---- what a value is --------------------------------------------------------------- */

static bool is_sequence_literal(const lt_value *v)
{
    return v->kind == LT_VALUE_TUPLE || v->kind == LT_VALUE_LIST
        || v->kind == LT_VALUE_SET;
}

int lt_callee_meaning(const lt_value *v)
{
    if (v->kind != LT_VALUE_CALL || v->call->callee->kind != LT_VALUE_GLOBAL)
        return LT_MEANS_NOTHING;
    return v->call->callee->global.meaning;
}

static bool is_tuple_of(const lt_value *v, uint32_t at_least)
{
    return v->kind == LT_VALUE_TUPLE && v->list.count >= at_least;
}

/* Through parameters and subclasses to the call, or the id, that makes the tensor. */
bool lt_find_maker(const lt_torch *t, const lt_value *v, lt_maker *out)
{
    for (int i = 0; i < 16; i++) {
        if (v->kind == LT_VALUE_PERSISTENT && v->persistent->found) {
            out->referent = &t->referents[v->persistent->found - 1];
            return out->referent->kind == LT_REFERS_TENSOR;
        }
        if (!lt_callee_meaning(v)) return false;
        const lt_value *callee = v->call->callee, *args = v->call->args;
        for (int j = 0; j < 4 && callee->global.meaning == LT_MEANS_FROM_TYPE; j++) {
            if (!is_tuple_of(args, 3) || args->list.items[0]->kind != LT_VALUE_GLOBAL)
                return false;
            callee = args->list.items[0];
            args = args->list.items[2];
        }
        int meaning = callee->global.meaning;
        *out = (lt_maker){ meaning, callee->global.detail, args, NULL };
        if (meaning >= LT_MEANS_TENSOR && meaning <= LT_MEANS_TENSOR_V3) return true;
        if (meaning == LT_MEANS_UNREAD_TENSOR) return true;
        if (meaning != LT_MEANS_PARAMETER || !is_tuple_of(args, 1)) return false;
        v = args->list.items[0];
    }
    return false;
}

static void add_items(lt_node *n, lt_value *v)
{
    int i = n->n_items[0] ? 1 : 0;
    if (!v || !is_sequence_literal(v)) return;
    n->items[i] = v->list.items;
    n->n_items[i] = v->list.count;
}

static bool are_couples(const lt_value *v)
{
    for (uint32_t i = 0; i < v->list.count; i++)
        if (!is_sequence_literal(v->list.items[i]) || v->list.items[i]->list.count != 2)
            return false;
    return true;
}

/* dict(first), then [key] = value: only one of them occurs, but both could. */
static void look_into_map(lt_node *n, const lt_call *call, lt_value *first)
{
    n->is_map = true;
    if (call->pairs) {
        n->pairs = call->pairs->list.items;
        n->n_pairs = call->pairs->list.count / 2;
    }
    if (first && is_sequence_literal(first) && are_couples(first)) {
        n->couples = first->list.items;
        n->n_couples = first->list.count;
    } else if (first && first->kind == LT_VALUE_DICT && !n->n_pairs) {
        n->pairs = first->list.items;
        n->n_pairs = first->list.count / 2;
    } else if (first && first->kind != LT_VALUE_GLOBAL && first->kind != LT_VALUE_NONE) {
        n->is_map = false;
    }
}

lt_value *lt_parameters_of(const lt_value *v)
{
    const lt_value *state = v->call->state;
    if (!state || state->kind != LT_VALUE_DICT) return NULL;
    for (uint32_t i = 0; i + 1 < state->list.count; i += 2)
        if (lt_value_is(state->list.items[i], "_parameters"))
            return state->list.items[i + 1];
    return NULL;
}

void lt_look_into(const lt_value *v, lt_node *n)
{
    *n = (lt_node){ 0 };
    int meaning = lt_callee_meaning(v);
    if (meaning == LT_MEANS_PARAMETERS) {
        v = lt_parameters_of(v);
        meaning = v ? lt_callee_meaning(v) : LT_MEANS_NOTHING;
        if (!v) return;
    }
    if (v->kind == LT_VALUE_DICT) {
        n->is_map = true;
        n->pairs = v->list.items;
        n->n_pairs = v->list.count / 2;
    } else if (is_sequence_literal(v)) {
        n->is_sequence = true;
        add_items(n, (lt_value *)v);
    } else if (meaning == LT_MEANS_MAP || meaning == LT_MEANS_SEQUENCE) {
        const lt_value *args = v->call->args;
        lt_value *first = is_tuple_of(args, 1) ? args->list.items[0] : NULL;
        if (meaning == LT_MEANS_MAP) {
            look_into_map(n, v->call, first);
            return;
        }
        n->is_sequence = true;
        add_items(n, first);
        add_items(n, v->call->items);
    }
}

size_t lt_node_count(const lt_node *n)
{
    return n->n_pairs + n->n_couples + n->n_items[0] + n->n_items[1];
}

lt_value *lt_node_at(const lt_node *n, size_t i, const lt_value **key)
{
    *key = NULL;
    if (i < n->n_couples) {
        *key = n->couples[i]->list.items[0];
        return n->couples[i]->list.items[1];
    }
    i -= n->n_couples;
    if (i < n->n_pairs) {
        *key = n->pairs[2 * i];
        return n->pairs[2 * i + 1];
    }
    i -= n->n_pairs;
    return i < n->n_items[0] ? n->items[0][i] : n->items[1][i - n->n_items[0]];
}

/* ---- tensors ----------------------------------------------------------------------- */

static lt_status read_sizes(
    const lt_value *v, uint64_t sizes[LT_MAX_DIMS], unsigned *n, lt_error *err)
{
    lt_node node;
    const lt_value *key;
    lt_look_into(v, &node);
    if (!node.is_sequence)
        return lt_error_set(err, LT_ERR_FORMAT, "its shape or strides are %s",
            lt_value_kind_text((lt_value_kind)v->kind));
    if (lt_node_count(&node) > LT_MAX_DIMS)
        return lt_error_set(err, LT_ERR_LIMIT, "more dimensions than are handled");
    *n = (unsigned)lt_node_count(&node);
    for (unsigned i = 0; i < *n; i++)
        if (!lt_value_uint(lt_node_at(&node, i, &key), &sizes[i]))
            return lt_error_set(err, LT_ERR_FORMAT,
                "its shape or strides hold something else than sizes");
    return LT_OK;
}

/* torch leaves some views to be worked out when they are read. */
static bool is_lazy(const lt_value *metadata)
{
    if (metadata->kind != LT_VALUE_DICT) return false;
    for (uint32_t i = 0; i + 1 < metadata->list.count; i += 2) {
        const lt_value *key = metadata->list.items[i], *v = metadata->list.items[i + 1];
        if ((lt_value_is(key, "conj") || lt_value_is(key, "neg"))
            && v->kind == LT_VALUE_BOOL && v->flag)
            return true;
    }
    return false;
}

/* The dtype of a tensor, or why it is not read. */
static const char *choose_dtype(
    const lt_maker *m, const lt_referent *part, lt_dtype *dtype)
{
    lt_value **args = m->args->list.items;
    uint32_t n = m->args->list.count, at = m->meaning == LT_MEANS_TENSOR_V3 ? 7 : 6;
    *dtype = part->dtype;
    if (part->unread) return part->unread;
    if (n > at && is_lazy(args[at])) return "a conjugated or negated view";
    if (m->meaning != LT_MEANS_TENSOR_V3) return NULL;
    if (n < 7 || args[6]->kind != LT_VALUE_GLOBAL
        || args[6]->global.meaning != LT_MEANS_DTYPE)
        return "a tensor of a type that is not handled";
    *dtype = (lt_dtype)args[6]->global.detail;
    return NULL;
}

static lt_status read_call(const lt_maker *m, const lt_referent *part, lt_found *f,
    const char **unread, lt_error *err)
{
    lt_value **args = m->args->list.items;
    uint64_t offset;
    unsigned n;
    *unread = choose_dtype(m, part, &f->tensor.dtype);
    if (*unread) return LT_OK;
    lt_status st = read_sizes(args[2], f->tensor.shape, &f->tensor.n_dims, err);
    if (!st) st = read_sizes(args[3], f->view.strides, &n, err);
    if (st) return st;
    if (n != f->tensor.n_dims)
        return lt_error_set(
            err, LT_ERR_FORMAT, "it has %u sizes and %u strides", f->tensor.n_dims, n);
    if (!lt_value_uint(args[1], &offset))
        return lt_error_set(err, LT_ERR_FORMAT, "its offset is no size");
    return lt_torch_lay(&f->tensor, &f->view, offset, part, err);
}

lt_status lt_make_tensor(
    const lt_torch *t, const lt_maker *m, lt_found *f, const char **unread, lt_error *err)
{
    *f = (lt_found){ 0 };
    *unread = NULL;
    if (m->referent) {
        f->tensor = m->referent->tensor;
        f->view = m->referent->view;
        *unread = m->referent->unread;
        return LT_OK;
    }
    if (m->meaning == LT_MEANS_UNREAD_TENSOR) {
        *unread = lt_unread_text(m->detail);
        return LT_OK;
    }
    if (!is_tuple_of(m->args, 4))
        return lt_error_set(err, LT_ERR_FORMAT, "it is made from too little");
    const lt_value *storage = m->args->list.items[0];
    bool known = storage->kind == LT_VALUE_PERSISTENT && storage->persistent->found;
    const lt_referent *part =
        known ? &t->referents[storage->persistent->found - 1] : NULL;
    if (!known && storage->kind != LT_VALUE_CALL)
        return lt_error_set(err, LT_ERR_FORMAT, "its storage is %s",
            lt_value_kind_text((lt_value_kind)storage->kind));
    if (!part || part->kind != LT_REFERS_STORAGE) {
        *unread = "a tensor whose storage is no part of the file";
        return LT_OK;
    }
    return read_call(m, part, f, unread, err);
}

/* ---- words ------------------------------------------------------------------------- */

/* A string of the file, fit to be shown on one line. */
static void show_text(const lt_value *v, char *dst, size_t size)
{
    size_t n = v->text.size < SHOWN_TEXT ? v->text.size : SHOWN_TEXT;
    /* Not in the middle of a character. */
    while (n && n < v->text.size && ((unsigned char)v->text.data[n] & 0xc0) == 0x80)
        n--;
    char shown[SHOWN_TEXT + 1];
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)v->text.data[i];
        shown[i] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    shown[n] = 0;
    snprintf(dst, size, "text \"%s\"%s", shown, n < v->text.size ? "..." : "");
}

static void show_tensor(const lt_torch *t, const lt_maker *m, char *dst, size_t size)
{
    lt_found f;
    const char *unread;
    char shape[320];
    lt_status st = lt_make_tensor(t, m, &f, &unread, NULL);
    if (st || unread) {
        snprintf(dst, size, "%s", st ? "a damaged tensor" : unread);
        return;
    }
    lt_tensor_shape_text(&f.tensor, shape, sizeof shape);
    snprintf(dst, size, "tensor %s %s", lt_dtype_get(f.tensor.dtype)->name, shape);
}

/* "opaque object torch.optim.adam.Adam" */
static void show_call(const lt_value *v, char *dst, size_t size)
{
    const lt_value *callee = v->call->callee, *args = v->call->args;
    /* What makes an object of a class given to it is not what the object is. */
    if (callee->kind == LT_VALUE_GLOBAL && is_tuple_of(args, 1)
        && args->list.items[0]->kind == LT_VALUE_GLOBAL
        && strstr(callee->global.name, "._reconstruct"))
        callee = args->list.items[0];
    snprintf(dst, size, "opaque object %.200s",
        callee->kind == LT_VALUE_GLOBAL ? callee->global.name : "of an unnamed class");
}

void lt_show_value(const lt_torch *t, const lt_value *v, char *dst, size_t size)
{
    lt_maker m;
    lt_node n;
    lt_look_into(v, &n);
    if (lt_find_maker(t, v, &m)) {
        show_tensor(t, &m, dst, size);
        return;
    }
    if (n.is_map || n.is_sequence) {
        const char *noun = n.is_map     ? "dict"
            : v->kind == LT_VALUE_TUPLE ? "tuple"
            : v->kind == LT_VALUE_SET   ? "set"
                                        : "list";
        snprintf(dst, size, "%s of %zu", noun, lt_node_count(&n));
        return;
    }
    switch ((lt_value_kind)v->kind) {
    case LT_VALUE_BOOL: snprintf(dst, size, "%s", v->flag ? "True" : "False"); break;
    case LT_VALUE_INT: snprintf(dst, size, "integer %lld", (long long)v->integer); break;
    case LT_VALUE_FLOAT: snprintf(dst, size, "number %.9g", v->real); break;
    case LT_VALUE_STRING: show_text(v, dst, size); break;
    case LT_VALUE_BYTES: snprintf(dst, size, "%u bytes", v->text.size); break;
    case LT_VALUE_GLOBAL: snprintf(dst, size, "the name %.200s", v->global.name); break;
    case LT_VALUE_CALL: show_call(v, dst, size); break;
    default: snprintf(dst, size, "%s", lt_value_kind_text((lt_value_kind)v->kind)); break;
    }
}
