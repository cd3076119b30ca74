/* SPDX-License-Identifier: MIT */
/* From values to named tensors.
 *
 * A name is the dotted path of dict keys and list indices that leads to the tensor. What
 * stands around a model in a checkpoint is recognised by its key at the levels above it:
 *
 *   { "epoch": 12,                       aside
 *     "optimizer_states": [...],         aside: training state
 *     "ema": { "w": tensor },            ema.w: a copy of the model, under its own name
 *     "state_dict": { "w": tensor } }    w; the wrapper is "state_dict"
 *
 * A wrapper is taken off only where it is the one entry that can be the model: its key is
 * listed below, its value is a dict that holds tensors, and no other entry does but
 * training state and EMA copies. */
#include "format/torch_object.h"

#include "base/limits.h"
#include "base/mem.h"
#include "format/pickle_globals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keys under which trainers keep the model itself. */
static const char *const wrappers[] = { "state_dict", "model_state_dict", "model_state",
    "model_dict", "model", "module", "net", "network", "generator", "weight", "weights",
    "model_weights", "params", "parameters", "pytorch-model", "pytorch_model" };

/* Keys of copies of the model that average its training steps. */
static const char *const ema_copies[] = { "ema", "ema_model", "ema_params",
    "ema_state_dict", "model_ema", "model_ema_state_dict", "params_ema",
    "state_dict_ema" };

/* Keys of what a training run needs to go on; a star stands for any text. */
static const char *const training_keys[] = { "optim*", "*_optim", "*_optimizer",
    "*_optimizers", "opt_state*", "*_opt_state", "lr_scheduler*", "scheduler*",
    "*_scheduler", "*_schedulers", "lr", "scaler", "*_scaler", "amp", "amp_state*",
    "callbacks", "loops", "*rng_state*", "rng", "hyper_parameters", "hparams*",
    "trainer*", "training*", "train_*", "epoch*", "global_step*", "step", "steps", "iter",
    "iteration*", "args", "config", "best_*", "loss", "losses", "loss_*", "*_loss",
    "metric*", "sampler*", "dataloader*", "*_version" };

/* Prefixes that wrappers of modules leave on every name: DataParallel, torch.compile. */
static const char *const module_prefixes[] = { "module.", "_orig_mod." };

#define ROOT_NAME "(the object itself)"
#define SHOWN_TEXT 60 /* bytes of a string that are shown */

struct walker {
    lt_torch *t;
    lt_error *err;
    lt_value **pending; /* of a search */
    size_t n_pending, pending_capacity;
    uint32_t epoch; /* of the search */
    uint64_t visits;
    char *path; /* the full dotted one, NUL-terminated */
    size_t path_size, path_capacity;
    size_t stripped; /* bytes of it that are not in the name */
    bool in_copy;
};

/* What can be looked into. */
struct node {
    lt_value **pairs;   /* key, value, ... */
    lt_value **couples; /* lists or tuples of two, from OrderedDict([(key, value)]) */
    lt_value **items[2];
    size_t n_pairs, n_couples, n_items[2];
    bool is_map, is_sequence;
};

/* What makes a tensor. */
struct maker {
    int meaning, detail;
    const lt_value *args;        /* a tuple */
    const lt_referent *referent; /* of a tensor that is listed elsewhere */
};

/* ---- what a value is --------------------------------------------------------------- */

static bool is_sequence_literal(const lt_value *v)
{
    return v->kind == LT_VALUE_TUPLE || v->kind == LT_VALUE_LIST
        || v->kind == LT_VALUE_SET;
}

static int callee_meaning(const lt_value *v)
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
static bool find_maker(const lt_torch *t, const lt_value *v, struct maker *out)
{
    for (int i = 0; i < 16; i++) {
        if (v->kind == LT_VALUE_PERSISTENT && v->persistent.found) {
            out->referent = &t->referents[v->persistent.found - 1];
            return out->referent->kind == LT_REFERS_TENSOR;
        }
        if (!callee_meaning(v)) return false;
        const lt_value *callee = v->call->callee, *args = v->call->args;
        for (int j = 0; j < 4 && callee->global.meaning == LT_MEANS_FROM_TYPE; j++) {
            if (!is_tuple_of(args, 3) || args->list.items[0]->kind != LT_VALUE_GLOBAL)
                return false;
            callee = args->list.items[0];
            args = args->list.items[2];
        }
        int meaning = callee->global.meaning;
        *out = (struct maker){ meaning, callee->global.detail, args, NULL };
        if (meaning >= LT_MEANS_TENSOR && meaning <= LT_MEANS_TENSOR_V3) return true;
        if (meaning == LT_MEANS_UNREAD_TENSOR) return true;
        if (meaning != LT_MEANS_PARAMETER || !is_tuple_of(args, 1)) return false;
        v = args->list.items[0];
    }
    return false;
}

static void add_items(struct node *n, lt_value *v)
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
static void look_into_map(struct node *n, const lt_call *call, lt_value *first)
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

static void look_into(const lt_value *v, struct node *n)
{
    *n = (struct node){ 0 };
    int meaning = callee_meaning(v);
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

static size_t node_count(const struct node *n)
{
    return n->n_pairs + n->n_couples + n->n_items[0] + n->n_items[1];
}

/* key is NULL in sequences. */
static lt_value *node_at(const struct node *n, size_t i, const lt_value **key)
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
    struct node node;
    const lt_value *key;
    look_into(v, &node);
    if (!node.is_sequence)
        return lt_error_set(err, LT_ERR_FORMAT, "its shape or strides are %s",
            lt_value_kind_text((lt_value_kind)v->kind));
    if (node_count(&node) > LT_MAX_DIMS)
        return lt_error_set(err, LT_ERR_LIMIT, "more dimensions than are handled");
    *n = (unsigned)node_count(&node);
    for (unsigned i = 0; i < *n; i++)
        if (!lt_value_uint(node_at(&node, i, &key), &sizes[i]))
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
    const struct maker *m, const lt_referent *part, lt_dtype *dtype)
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

static lt_status read_call(const struct maker *m, const lt_referent *part, lt_found *f,
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

/* *unread: what it is, when it is of a kind that is not read. */
static lt_status read_tensor(const lt_torch *t, const struct maker *m, lt_found *f,
    const char **unread, lt_error *err)
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
    bool known = storage->kind == LT_VALUE_PERSISTENT && storage->persistent.found;
    const lt_referent *part = known ? &t->referents[storage->persistent.found - 1] : NULL;
    if (!known && storage->kind != LT_VALUE_CALL)
        return lt_error_set(err, LT_ERR_FORMAT, "its storage is %s",
            lt_value_kind_text((lt_value_kind)storage->kind));
    if (!part || part->kind != LT_REFERS_STORAGE) {
        *unread = "a tensor whose storage is no part of the file";
        return LT_OK;
    }
    return read_call(m, part, f, unread, err);
}

/* ---- counting ---------------------------------------------------------------------- */

struct tally {
    size_t tensors;
    uint64_t bytes;
};

static lt_status visit(struct walker *w)
{
    if (++w->visits <= LT_MAX_TORCH_VISITS) return LT_OK;
    return lt_error_set(
        w->err, LT_ERR_LIMIT, "the object is too entangled to be looked through");
}

static lt_status check_depth(struct walker *w, int depth)
{
    if (depth < LT_MAX_TORCH_DEPTH) return LT_OK;
    return lt_error_set(
        w->err, LT_ERR_LIMIT, "containers are nested over %d deep", LT_MAX_TORCH_DEPTH);
}

/* Plain containers that hold themselves, or each other so often that whoever walks them
 * never ends, are no part of a checkpoint. */
static lt_status check_nesting(struct walker *w, const lt_value *v, int depth)
{
    struct node n;
    look_into(v, &n);
    lt_status st = visit(w);
    if (st || (!n.is_map && !n.is_sequence)) return st;
    st = check_depth(w, depth);
    for (size_t i = 0; i < node_count(&n) && !st; i++) {
        const lt_value *key;
        st = check_nesting(w, node_at(&n, i, &key), depth + 1);
    }
    return st;
}

static lt_status later(struct walker *w, lt_value *v)
{
    if (!v || v->mark == w->epoch) return LT_OK;
    v->mark = w->epoch;
    lt_status st = visit(w);
    if (st) return st;
    st = lt_grow((void **)&w->pending, &w->pending_capacity, w->n_pending + 1,
        sizeof *w->pending, w->err);
    if (!st) w->pending[w->n_pending++] = v;
    return st;
}

static lt_status later_call(struct walker *w, const lt_value *v, bool everything)
{
    int meaning = callee_meaning(v);
    bool known = meaning == LT_MEANS_MAP || meaning == LT_MEANS_SEQUENCE;
    if (!known && !everything) return LT_OK;
    lt_status st = later(w, v->call->args);
    if (!st) st = later(w, v->call->items);
    if (!st) st = later(w, v->call->pairs);
    if (!st && everything) st = later(w, v->call->kwargs);
    if (!st && everything) st = later(w, v->call->state);
    return st;
}

static void count_tensor(struct walker *w, const struct maker *m, struct tally *tally)
{
    lt_found f;
    const char *unread;
    tally->tensors++;
    if (!read_tensor(w->t, m, &f, &unread, NULL) && !unread)
        tally->bytes += f.tensor.size;
}

/* Counts the tensors in v, each value once. Unless everything, only those that could be
 * named, and only up to the first. */
static lt_status count_tensors(
    struct walker *w, lt_value *v, bool everything, struct tally *tally)
{
    *tally = (struct tally){ 0 };
    w->epoch++;
    w->n_pending = 0;
    lt_status st = later(w, v);
    while (w->n_pending && !st && (everything || !tally->tensors)) {
        v = w->pending[--w->n_pending];
        struct maker m;
        if (find_maker(w->t, v, &m)) {
            count_tensor(w, &m, tally);
        } else if (v->kind == LT_VALUE_CALL) {
            st = later_call(w, v, everything);
        } else if (v->kind == LT_VALUE_DICT || is_sequence_literal(v)) {
            for (uint32_t i = v->list.count; i-- && !st;)
                st = later(w, v->list.items[i]);
        }
    }
    return st;
}

static lt_status holds_tensors(struct walker *w, lt_value *v, bool *yes)
{
    struct tally tally;
    lt_status st = count_tensors(w, v, false, &tally);
    *yes = tally.tensors > 0;
    return st;
}

/* ---- asides ------------------------------------------------------------------------ */

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

static void show_tensor(const lt_torch *t, const struct maker *m, char *dst, size_t size)
{
    lt_found f;
    const char *unread;
    char shape[320];
    lt_status st = read_tensor(t, m, &f, &unread, NULL);
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

static void show_value(const struct walker *w, const lt_value *v, char *dst, size_t size)
{
    struct maker m;
    struct node n;
    look_into(v, &n);
    if (find_maker(w->t, v, &m)) {
        show_tensor(w->t, &m, dst, size);
        return;
    }
    if (n.is_map || n.is_sequence) {
        const char *noun = n.is_map     ? "dict"
            : v->kind == LT_VALUE_TUPLE ? "tuple"
            : v->kind == LT_VALUE_SET   ? "set"
                                        : "list";
        snprintf(dst, size, "%s of %zu", noun, node_count(&n));
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

static lt_status add_aside(struct walker *w, lt_value *v)
{
    char what[512];
    struct tally tally;
    struct maker m;
    lt_status st = check_nesting(w, v, 0);
    if (!st) st = count_tensors(w, v, true, &tally);
    if (st) return st;
    show_value(w, v, what, sizeof what);
    size_t n = strlen(what);
    if (tally.tensors && !find_maker(w->t, v, &m))
        snprintf(what + n, sizeof what - n, ", %zu tensor%s", tally.tensors,
            tally.tensors == 1 ? "" : "s");
    lt_aside aside = { w->path_size ? w->path : ROOT_NAME, what, tally.bytes, false };
    return lt_store_add_aside(w->t->store, &aside, w->err);
}

static lt_status add_unread(struct walker *w, const char *what)
{
    lt_aside aside = { w->path_size ? w->path : "tensor", what, 0, true };
    return lt_store_add_aside(w->t->store, &aside, w->err);
}

/* ---- names ------------------------------------------------------------------------- */

static bool is_utf8(const unsigned char *p, size_t n)
{
    for (size_t i = 0, length; i < n; i += length) {
        unsigned char c = p[i];
        length = c < 0x80 ? 1
            : c < 0xc2    ? 0
            : c < 0xe0    ? 2
            : c < 0xf0    ? 3
            : c < 0xf5    ? 4
                          : 0;
        if (!length || n - i < length) return false;
        for (size_t k = 1; k < length; k++)
            if ((p[i + k] & 0xc0) != 0x80) return false;
        unsigned char d = length > 1 ? p[i + 1] : 0;
        if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90)
            || (c == 0xf4 && d > 0x8f))
            return false;
    }
    return true;
}

static lt_status append(struct walker *w, const char *text, size_t n)
{
    if (n > LT_MAX_NAME_SIZE || w->path_size + n > LT_MAX_NAME_SIZE)
        return lt_error_set(
            w->err, LT_ERR_LIMIT, "a tensor name is over %u bytes", LT_MAX_NAME_SIZE);
    lt_status st =
        lt_grow((void **)&w->path, &w->path_capacity, w->path_size + n + 1, 1, w->err);
    if (st) return st;
    memcpy(w->path + w->path_size, text, n);
    w->path_size += n;
    w->path[w->path_size] = 0;
    return LT_OK;
}

static lt_status append_key(struct walker *w, const lt_value *key)
{
    char digits[32];
    switch ((lt_value_kind)key->kind) {
    case LT_VALUE_STRING:
        if (memchr(key->text.data, 0, key->text.size)
            || !is_utf8((const unsigned char *)key->text.data, key->text.size))
            return lt_error_set(w->err, LT_ERR_FORMAT, "a key is no UTF-8 text");
        return append(w, key->text.data, key->text.size);
    case LT_VALUE_INT:
        snprintf(digits, sizeof digits, "%lld", (long long)key->integer);
        return append(w, digits, strlen(digits));
    case LT_VALUE_BOOL: return key->flag ? append(w, "True", 4) : append(w, "False", 5);
    case LT_VALUE_NONE: return append(w, "None", 4);
    case LT_VALUE_GLOBAL: return append(w, key->global.name, strlen(key->global.name));
    default: return append(w, "?", 1);
    }
}

/* Makes the path that of the i-th child of what depth containers lead to; *before is for
 * leave. */
static lt_status enter(
    struct walker *w, const lt_value *key, size_t i, int depth, size_t *before)
{
    char digits[32];
    *before = w->path_size;
    lt_status st = depth ? append(w, ".", 1) : LT_OK;
    if (st) return st;
    if (key) return append_key(w, key);
    snprintf(digits, sizeof digits, "%zu", i);
    return append(w, digits, strlen(digits));
}

static void leave(struct walker *w, size_t before)
{
    w->path_size = before;
    if (w->path) w->path[before] = 0;
}

/* ---- the model --------------------------------------------------------------------- */

static lt_status add_tensor(struct walker *w, const struct maker *m)
{
    lt_torch *t = w->t;
    lt_found f;
    const char *unread;
    const char *name = w->path_size ? w->path + w->stripped : "tensor";
    lt_status st = read_tensor(t, m, &f, &unread, w->err);
    if (st) return lt_error_where(w->err, "tensor '%.200s'", name);
    if (unread) return add_unread(w, unread);
    if (t->n_found >= LT_MAX_TENSORS)
        return lt_error_set(w->err, LT_ERR_LIMIT, "over %u tensors", LT_MAX_TENSORS);
    st = lt_grow(
        (void **)&t->found, &t->found_capacity, t->n_found + 1, sizeof *t->found, w->err);
    if (st) return st;
    f.is_copy = w->in_copy;
    f.tensor.name = lt_arena_strdup(&t->arena, name, w->err);
    if (!f.tensor.name) return LT_ERR_NOMEM;
    t->found[t->n_found++] = f;
    return LT_OK;
}

/* The recursion is as deep as the containers that lead to tensors, and has a ceiling. */
static lt_status walk(struct walker *w, lt_value *v, int depth)
{
    struct maker m;
    struct node n;
    bool yes;
    if (find_maker(w->t, v, &m)) return add_tensor(w, &m);
    lt_status st = holds_tensors(w, v, &yes);
    if (st) return st;
    look_into(v, &n);
    if (!yes || (!n.is_map && !n.is_sequence)) return add_aside(w, v);
    st = check_depth(w, depth);
    for (size_t i = 0; i < node_count(&n) && !st; i++) {
        const lt_value *key;
        size_t before;
        lt_value *child = node_at(&n, i, &key);
        st = enter(w, key, i, depth, &before);
        if (!st) st = walk(w, child, depth + 1);
        leave(w, before);
    }
    return st;
}

/* ---- wrappers ---------------------------------------------------------------------- */

enum role { ROLE_NOTHING, ROLE_TRAINING, ROLE_COPY, ROLE_WRAPPER, ROLE_MODEL };

/* text[0, n) fits a pattern with a star at either end, or none. */
static bool fits(const char *pattern, const char *text, size_t n)
{
    size_t size = strlen(pattern);
    bool front = pattern[0] == '*', back = pattern[size - 1] == '*';
    const char *word = pattern + front;
    size -= (size_t)front + back;
    if (n < size) return false;
    if (!front && !back) return n == size && !memcmp(text, word, n);
    if (!front) return !memcmp(text, word, size);
    if (!back) return !memcmp(text + n - size, word, size);
    for (size_t i = 0; i + size <= n; i++)
        if (!memcmp(text + i, word, size)) return true;
    return false;
}

static bool is_listed(const lt_value *key, const char *const *patterns, size_t n)
{
    if (!key || key->kind != LT_VALUE_STRING) return false;
    for (size_t i = 0; i < n; i++)
        if (fits(patterns[i], key->text.data, key->text.size)) return true;
    return false;
}

#define LISTED(key, list) is_listed(key, list, sizeof(list) / sizeof *(list))

static lt_status find_role(
    struct walker *w, const lt_value *key, lt_value *v, enum role *role)
{
    bool yes;
    struct node n;
    lt_status st = holds_tensors(w, v, &yes);
    look_into(v, &n);
    *role = !yes                            ? ROLE_NOTHING
        : LISTED(key, training_keys)        ? ROLE_TRAINING
        : LISTED(key, ema_copies)           ? ROLE_COPY
        : n.is_map && LISTED(key, wrappers) ? ROLE_WRAPPER
                                            : ROLE_MODEL;
    return st;
}

/* Counts of each role, and where the last wrapper is. */
struct level {
    size_t n[ROLE_MODEL + 1];
    size_t wrapper;
};

static lt_status survey(struct walker *w, const struct node *n, struct level *level)
{
    *level = (struct level){ 0 };
    lt_status st = LT_OK;
    for (size_t i = 0; i < node_count(n) && !st; i++) {
        const lt_value *key;
        enum role role;
        lt_value *v = node_at(n, i, &key);
        st = find_role(w, key, v, &role);
        level->n[role]++;
        if (role == ROLE_WRAPPER) level->wrapper = i;
    }
    return st;
}

/* Everything at this level but the wrapper's own value. */
static lt_status walk_beside(
    struct walker *w, const struct node *n, size_t wrapper, int depth, bool aside)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < node_count(n) && !st; i++) {
        const lt_value *key;
        enum role role;
        size_t before;
        if (i == wrapper) continue;
        lt_value *v = node_at(n, i, &key);
        st = find_role(w, key, v, &role);
        if (!st) st = enter(w, key, i, depth, &before);
        if (st) return st;
        w->in_copy = role == ROLE_COPY;
        st = role == ROLE_TRAINING && aside ? add_aside(w, v) : walk(w, v, depth + 1);
        w->in_copy = false;
        leave(w, before);
    }
    return st;
}

/* Goes down through wrappers; what is below the last is the model. */
static lt_status walk_model(struct walker *w, lt_value *root)
{
    struct node n;
    struct level level;
    lt_status st = LT_OK;
    int depth = 0;
    for (; !st; depth++) {
        look_into(root, &n);
        if (!n.is_map || depth >= LT_MAX_TORCH_DEPTH) break;
        st = survey(w, &n, &level);
        if (st) break;
        bool sole = level.n[ROLE_WRAPPER] == 1 && !level.n[ROLE_MODEL];
        if (!sole) {
            bool trained =
                level.n[ROLE_WRAPPER] || (level.n[ROLE_COPY] && !level.n[ROLE_MODEL]);
            return walk_beside(w, &n, SIZE_MAX, depth, trained);
        }
        size_t stripped = w->stripped, before;
        w->stripped = 0;
        st = walk_beside(w, &n, level.wrapper, depth, true);
        w->stripped = stripped;
        const lt_value *key;
        root = node_at(&n, level.wrapper, &key);
        if (!st) st = enter(w, key, 0, depth, &before);
        if (st) break;
        w->t->store->wrapper = lt_arena_strdup(&w->t->store->arena, w->path, w->err);
        if (!w->t->store->wrapper) return LT_ERR_NOMEM;
        w->stripped = w->path_size + 1;
    }
    return st ? st : walk(w, root, depth);
}

/* Takes a prefix off the model's names if all have it and something is left of each. */
static bool strip_prefix(lt_torch *t, const char *prefix)
{
    size_t n = strlen(prefix), seen = 0;
    for (size_t i = 0; i < t->n_found; i++) {
        const lt_found *f = &t->found[i];
        if (f->is_copy) continue;
        if (strncmp(f->tensor.name, prefix, n) || !f->tensor.name[n]) return false;
        seen++;
    }
    for (size_t i = 0; i < t->n_found && seen; i++)
        if (!t->found[i].is_copy) t->found[i].tensor.name += n;
    return seen > 0;
}

static void strip_modules(lt_torch *t)
{
    bool again = true;
    while (again) {
        again = false;
        for (size_t i = 0; i < sizeof module_prefixes / sizeof *module_prefixes; i++)
            again |= strip_prefix(t, module_prefixes[i]);
    }
}

lt_status lt_torch_collect(lt_torch *t, lt_value *root, lt_error *err)
{
    struct walker w = { .t = t, .err = err };
    bool model = t->store->reading == LT_READ_MODEL;
    lt_status st = append(&w, "", 0);
    if (!st) st = model ? walk_model(&w, root) : walk(&w, root, 0);
    if (!st && model) strip_modules(t);
    free(w.pending);
    free(w.path);
    return st;
}
