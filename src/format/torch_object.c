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

#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "format/pickle_globals.h"
#include "format/torch_value.h"

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

/* ---- counting ---------------------------------------------------------------------- */

struct tally {
    size_t tensors;
    uint64_t bytes;
};

/* In the object: positions in the file are not kept. */
static lt_status blame_path(struct walker *w, lt_status st)
{
    lt_error_where(w->err, "'%.200s'", w->path_size ? w->path : ROOT_NAME);
    return st;
}

static lt_status visit(struct walker *w)
{
    if (++w->visits <= LT_MAX_TORCH_VISITS) return LT_OK;
    lt_error_set(
        w->err, LT_ERR_LIMIT, "the object is too entangled to be looked through");
    return blame_path(w, LT_ERR_LIMIT);
}

static lt_status check_depth(struct walker *w, int depth)
{
    if ((unsigned)depth < lt_limit(LT_LIMIT_TORCH_DEPTH)) return LT_OK;
    lt_error_set(w->err, LT_ERR_LIMIT, "containers are nested over %llu deep",
        lt_limit(LT_LIMIT_TORCH_DEPTH));
    return blame_path(w, LT_ERR_LIMIT);
}

/* Plain containers that hold themselves, or each other so often that whoever walks them
 * never ends, are no part of a checkpoint. */
static lt_status check_nesting(struct walker *w, const lt_value *v, int depth)
{
    lt_node n;
    lt_look_into(v, &n);
    lt_status st = visit(w);
    if (st || (!n.is_map && !n.is_sequence)) return st;
    st = check_depth(w, depth);
    for (size_t i = 0; i < lt_node_count(&n) && !st; i++) {
        const lt_value *key;
        st = check_nesting(w, lt_node_at(&n, i, &key), depth + 1);
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
    int meaning = lt_callee_meaning(v);
    bool known = meaning == LT_MEANS_MAP || meaning == LT_MEANS_SEQUENCE;
    if (meaning == LT_MEANS_PARAMETERS && !everything)
        return later(w, lt_parameters_of(v));
    if (!known && !everything) return LT_OK;
    lt_status st = later(w, v->call->args);
    if (!st) st = later(w, v->call->items);
    if (!st) st = later(w, v->call->pairs);
    if (!st && everything) st = later(w, v->call->kwargs);
    if (!st && everything) st = later(w, v->call->state);
    return st;
}

static void count_tensor(struct walker *w, const lt_maker *m, struct tally *tally)
{
    lt_found f;
    const char *unread;
    tally->tensors++;
    if (!lt_make_tensor(w->t, m, &f, &unread, NULL) && !unread)
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
        lt_maker m;
        if (lt_find_maker(w->t, v, &m)) {
            count_tensor(w, &m, tally);
        } else if (v->kind == LT_VALUE_CALL) {
            st = later_call(w, v, everything);
        } else if (v->kind >= LT_VALUE_TUPLE && v->kind <= LT_VALUE_DICT) {
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

static lt_status add_aside(struct walker *w, lt_value *v)
{
    char what[512];
    struct tally tally;
    lt_maker m;
    lt_status st = check_nesting(w, v, 0);
    if (!st) st = count_tensors(w, v, true, &tally);
    if (st) return st;
    lt_show_value(w->t, v, what, sizeof what);
    size_t n = strlen(what);
    if (tally.tensors && !lt_find_maker(w->t, v, &m))
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
    int length = 0;
    for (const unsigned char *end = p + n; p < end; p += length)
        if (!(length = lt_utf8_length(p, end))) return false;
    return true;
}

static lt_status append(struct walker *w, const char *text, size_t n)
{
    if (n > lt_limit(LT_LIMIT_NAME_SIZE)
        || w->path_size + n > lt_limit(LT_LIMIT_NAME_SIZE))
        return lt_error_set(w->err, LT_ERR_LIMIT, "a tensor name is over %llu bytes",
            lt_limit(LT_LIMIT_NAME_SIZE));
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

static void leave(struct walker *w, size_t before)
{
    w->path_size = before;
    if (w->path) w->path[before] = 0;
}

/* Makes the path that of the i-th child of what depth containers lead to; *before is for
 * leave. */
static lt_status enter(
    struct walker *w, const lt_value *key, size_t i, int depth, size_t *before)
{
    char digits[32];
    *before = w->path_size;
    lt_status st = depth ? append(w, ".", 1) : LT_OK;
    snprintf(digits, sizeof digits, "%zu", i);
    if (!st) st = key ? append_key(w, key) : append(w, digits, strlen(digits));
    if (!st) return LT_OK;
    leave(w, *before);
    return blame_path(w, st);
}

/* ---- the model --------------------------------------------------------------------- */

static lt_status add_tensor(struct walker *w, const lt_maker *m)
{
    lt_torch *t = w->t;
    lt_found f;
    const char *unread;
    const char *name = w->path_size ? w->path + w->stripped : "tensor";
    lt_status st = lt_make_tensor(t, m, &f, &unread, w->err);
    if (st) return lt_error_where(w->err, "tensor '%.200s'", name);
    if (unread) return add_unread(w, unread);
    if (t->n_found >= lt_limit(LT_LIMIT_TENSORS)) {
        lt_error_set(
            w->err, LT_ERR_LIMIT, "over %llu tensors", lt_limit(LT_LIMIT_TENSORS));
        lt_error_where(w->err, "tensor '%.200s'", name);
        return LT_ERR_LIMIT;
    }
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
    lt_maker m;
    lt_node n;
    bool yes;
    if (lt_find_maker(w->t, v, &m)) return add_tensor(w, &m);
    lt_status st = holds_tensors(w, v, &yes);
    if (st) return st;
    lt_look_into(v, &n);
    if (!yes || (!n.is_map && !n.is_sequence)) return add_aside(w, v);
    st = check_depth(w, depth);
    for (size_t i = 0; i < lt_node_count(&n) && !st; i++) {
        const lt_value *key;
        size_t before;
        lt_value *child = lt_node_at(&n, i, &key);
        st = enter(w, key, i, depth, &before);
        if (!st) st = walk(w, child, depth + 1);
        leave(w, before);
    }
    return st;
}

/* ---- wrappers ---------------------------------------------------------------------- */

enum role {
    ROLE_NOTHING,
    ROLE_TRAINING,
    ROLE_NUMBER, /* a tensor of one element: beside a wrapper it belongs to the training
                  */
    ROLE_COPY,
    ROLE_WRAPPER,
    ROLE_MODEL
};

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

static bool is_number(struct walker *w, const lt_value *v)
{
    lt_maker m;
    lt_found f;
    const char *unread;
    return lt_find_maker(w->t, v, &m) && !lt_make_tensor(w->t, &m, &f, &unread, NULL)
        && !unread && f.tensor.count == 1;
}

static lt_status find_role(
    struct walker *w, const lt_value *key, lt_value *v, enum role *role)
{
    bool yes;
    lt_node n;
    lt_status st = holds_tensors(w, v, &yes);
    lt_look_into(v, &n);
    *role = !yes                            ? ROLE_NOTHING
        : LISTED(key, training_keys)        ? ROLE_TRAINING
        : is_number(w, v)                   ? ROLE_NUMBER
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

static bool copy_is_map(const lt_node *n, size_t i)
{
    const lt_value *key;
    lt_node inside;
    lt_look_into(lt_node_at(n, i, &key), &inside);
    return inside.is_map;
}

static lt_status survey(struct walker *w, const lt_node *n, struct level *level)
{
    *level = (struct level){ 0 };
    size_t copy = 0;
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_node_count(n) && !st; i++) {
        const lt_value *key;
        enum role role;
        lt_value *v = lt_node_at(n, i, &key);
        st = find_role(w, key, v, &role);
        level->n[role]++;
        if (role == ROLE_WRAPPER) level->wrapper = i;
        if (role == ROLE_COPY) copy = i;
    }
    /* A copy of nothing is the model. */
    bool alone = level->n[ROLE_COPY] == 1 && !level->n[ROLE_WRAPPER]
        && !level->n[ROLE_MODEL] && copy_is_map(n, copy);
    if (st || !alone) return st;
    level->n[ROLE_COPY] = 0;
    level->n[ROLE_WRAPPER] = 1;
    level->wrapper = copy;
    return LT_OK;
}

/* Everything at this level but the wrapper's own value. */
static lt_status walk_beside(
    struct walker *w, const lt_node *n, size_t wrapper, int depth, bool aside)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_node_count(n) && !st; i++) {
        const lt_value *key;
        enum role role;
        size_t before;
        if (i == wrapper) continue;
        lt_value *v = lt_node_at(n, i, &key);
        st = find_role(w, key, v, &role);
        if (!st) st = enter(w, key, i, depth, &before);
        if (st) return st;
        w->in_copy = role == ROLE_COPY;
        bool training =
            role == ROLE_TRAINING || (role == ROLE_NUMBER && wrapper != SIZE_MAX);
        st = training && aside ? add_aside(w, v) : walk(w, v, depth + 1);
        w->in_copy = false;
        leave(w, before);
    }
    return st;
}

/* Goes down through wrappers; what is below the last is the model. */
static lt_status walk_model(struct walker *w, lt_value *root)
{
    lt_node n;
    struct level level;
    lt_status st = LT_OK;
    int depth = 0;
    for (; !st; depth++) {
        lt_look_into(root, &n);
        if (!n.is_map || (unsigned)depth >= lt_limit(LT_LIMIT_TORCH_DEPTH)) break;
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
        root = lt_node_at(&n, level.wrapper, &key);
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
