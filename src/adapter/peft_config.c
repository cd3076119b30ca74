/* SPDX-License-Identifier: MIT */
/* PEFT's adapter_config.json. Scale is lora_alpha / r, or lora_alpha / sqrt(r) with
 * use_rslora (Kalajdzievski 2023); rank_pattern and alpha_pattern override both per
 * module: pattern P applies to path M when M matches (.*\.)?(P) as a whole, first match
 * in document order. Absent fields have PEFT's defaults (r 8, lora_alpha 8). */
#include "adapter/kind.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fields {
    const cJSON *object;
    const char *prefix; /* of the names: "" or "unet." */
    lt_error *err;
};

/* The member of that name; *doubled when there are several (Python takes the last, other
 * readers the first). */
static const cJSON *field(const struct fields *f, const char *name, bool *doubled)
{
    size_t size = strlen(f->prefix);
    const cJSON *item, *hit = NULL;
    *doubled = false;
    cJSON_ArrayForEach(item, f->object)
    {
        if (!item->string || strncmp(item->string, f->prefix, size)) continue;
        if (strcmp(item->string + size, name)) continue;
        *doubled = hit != NULL;
        hit = item;
    }
    return cJSON_IsNull(hit) ? NULL : hit;
}

static lt_status bad_field(const struct fields *f, const char *name, const char *want)
{
    return lt_error_set(f->err, LT_ERR_FORMAT, "'%s' should be %s, once", name, want);
}

static lt_status read_number(const struct fields *f, const char *name, double *value)
{
    bool doubled;
    const cJSON *node = field(f, name, &doubled);
    if (!node && !doubled) return LT_OK;
    if (doubled || !cJSON_IsNumber(node) || !isfinite(node->valuedouble))
        return bad_field(f, name, "a finite number");
    *value = node->valuedouble;
    return LT_OK;
}

static lt_status read_rules(
    const struct fields *f, const char *name, lt_peft_rules *rules)
{
    bool doubled;
    const cJSON *item, *node = field(f, name, &doubled);
    if (!node && !doubled) return LT_OK;
    if (doubled || !cJSON_IsObject(node)) return bad_field(f, name, "an object");
    lt_status st = lt_peft_rules_reserve(rules, (size_t)cJSON_GetArraySize(node), f->err);
    cJSON_ArrayForEach(item, node)
    {
        if (st) return st;
        if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
            return bad_field(f, name, "an object of finite numbers");
        st = lt_peft_rules_add(rules, item->string, item->valuedouble, f->err);
    }
    return st;
}

/* Compares from the last character on: a text comes right before those that end in it. */
static int compare_ends(const char *a, size_t a_size, const char *b, size_t b_size)
{
    while (a_size && b_size) {
        unsigned char x = (unsigned char)a[--a_size], y = (unsigned char)b[--b_size];
        if (x != y) return x < y ? -1 : 1;
    }
    return a_size ? 1 : b_size ? -1 : 0;
}

static int by_end(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return compare_ends(x, strlen(x), y, strlen(y));
}

static bool ends_in(const char *text, size_t size, const char *end)
{
    size_t n = strlen(end);
    return n <= size && !memcmp(text + size - n, end, n);
}

/* Drops what ends in another one, for that matches wherever this does. */
static void sort_saved(lt_peft_config *c)
{
    size_t kept = 0;
    if (c->n_saved) qsort(c->saved, c->n_saved, sizeof *c->saved, by_end);
    for (size_t i = 0; i < c->n_saved; i++) {
        char *s = c->saved[i];
        if (kept && ends_in(s, strlen(s), c->saved[kept - 1]))
            free(s);
        else
            c->saved[kept++] = s;
    }
    c->n_saved = kept;
}

static lt_status read_bias(lt_peft_config *c, const struct fields *f)
{
    bool doubled;
    const cJSON *bias = field(f, "bias", &doubled);
    if (doubled) return bad_field(f, "bias", "a text");
    c->biases = cJSON_IsString(bias) && strcmp(bias->valuestring, "none");
    return LT_OK;
}

static lt_status read_saved(lt_peft_config *c, const struct fields *f)
{
    bool doubled;
    const cJSON *item, *node = field(f, "modules_to_save", &doubled);
    if (!node && !doubled) return LT_OK;
    if (doubled || !cJSON_IsArray(node))
        return bad_field(f, "modules_to_save", "an array of names");
    c->saved = calloc((size_t)cJSON_GetArraySize(node) + 1, sizeof *c->saved);
    if (!c->saved) return lt_error_set(f->err, LT_ERR_NOMEM, "out of memory");
    cJSON_ArrayForEach(item, node)
    {
        if (!cJSON_IsString(item) || !*item->valuestring)
            return bad_field(f, "modules_to_save", "an array of names");
        c->saved[c->n_saved] = lt_strdup(item->valuestring, f->err);
        if (!c->saved[c->n_saved]) return LT_ERR_NOMEM;
        c->n_saved++;
    }
    sort_saved(c);
    return LT_OK;
}

static lt_status read_flag(const struct fields *f, const char *name, bool *value)
{
    bool doubled;
    const cJSON *node = field(f, name, &doubled);
    if (doubled || (node && !cJSON_IsBool(node)))
        return bad_field(f, name, "true or false");
    *value = cJSON_IsTrue(node);
    return LT_OK;
}

static lt_status read_fields(lt_peft_config *c, const struct fields *f)
{
    c->r = c->alpha = 8; /* PEFT's defaults */
    lt_status st = read_flag(f, "use_rslora", &c->rslora);
    if (!st) st = read_flag(f, "use_dora", &c->dora);
    if (!st) st = read_number(f, "r", &c->r);
    if (!st) st = read_number(f, "lora_alpha", &c->alpha);
    if (!st) st = read_rules(f, "rank_pattern", &c->ranks);
    if (!st) st = read_rules(f, "alpha_pattern", &c->alphas);
    if (!st) st = read_bias(c, f);
    if (!st) st = read_saved(c, f);
    if (st) lt_peft_config_release(c);
    return st;
}

static bool is_set(const cJSON *node)
{
    if (!node || cJSON_IsFalse(node)) return false;
    return !((cJSON_IsArray(node) || cJSON_IsObject(node)) && !node->child);
}

/* Whether the first size bytes of path end in a name of the list: only the last one of
 * those that do not come after them can be that. */
static bool is_saved(
    const lt_peft_config *c, const char *path, size_t size, uint64_t *work)
{
    size_t low = 0, high = c->n_saved;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *s = c->saved[middle];
        size_t n = strlen(s);
        *work += 1 + (n < size ? n : size) / 4; /* at most */
        if (compare_ends(s, n, path, size) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low && ends_in(path, size, c->saved[low - 1]);
}

/* PEFT saves every module whose path ends in a name of the list ("norm" stands for
 * "input_layernorm" too), with all that is inside it. */
lt_status lt_peft_config_saves(
    const lt_peft_config *c, const char *path, bool *saves, uint64_t *work, lt_error *err)
{
    size_t size = strlen(path);
    lt_status st = LT_OK;
    *saves = c->biases && size > 5 && !strcmp(path + size - 5, ".bias");
    const char *dot = path;
    for (; !st && !*saves && (dot = strchr(dot, '.')) != NULL; dot++) {
        *saves = is_saved(c, path, (size_t)(dot - path), work);
        st = lt_peft_check_work(*work, err);
    }
    return st;
}

/* Settings under which the factors alone do not say what the model does. */
static void find_refusal(lt_peft_config *c, const struct fields *f)
{
    static const char *const settings[] = { "layer_replication", "use_qalora",
        "use_bdlora", "kasa_config", "alora_invocation_tokens", "arrow_config",
        "target_parameters", "trainable_token_indices" };
    /* Initialisers that change the base's weights; the adapter fits only the changed
     * ones.
     */
    static const char *const mutating[] = { "pissa", "olora", "corda", "loftq",
        "lora_ga" };
    bool doubled;
    const cJSON *type = field(f, "peft_type", &doubled);
    const cJSON *init = field(f, "init_lora_weights", &doubled);
    if (cJSON_IsString(type) && strcmp(type->valuestring, "LORA"))
        snprintf(c->refusal, sizeof c->refusal,
            "peft_type %.40s is not supported, only LORA", type->valuestring);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (is_set(field(f, settings[i], &doubled)))
            snprintf(c->refusal, sizeof c->refusal,
                "'%s' is set: such an adapter cannot be applied to plain weights",
                settings[i]);
    for (size_t i = 0; i < sizeof mutating / sizeof *mutating && cJSON_IsString(init);
         i++)
        if (!strncmp(init->valuestring, mutating[i], strlen(mutating[i])))
            snprintf(c->refusal, sizeof c->refusal,
                "it was initialised by '%.40s', which changes the base's weights: "
                "convert "
                "it with PEFT first",
                init->valuestring);
}

lt_status lt_peft_config_parse(
    lt_peft_config *c, const char *text, size_t size, lt_error *err)
{
    lt_json json;
    *c = (lt_peft_config){ 0 };
    lt_status st = lt_json_parse(&json, text, size, 0, err);
    if (st) return st;
    struct fields f = { json.root, "", err };
    if (!cJSON_IsObject(json.root))
        st = lt_error_at(err, LT_ERR_FORMAT, 0, "is not a JSON object");
    if (!st) st = read_fields(c, &f);
    if (!st) find_refusal(c, &f);
    lt_json_release(&json);
    return st;
}

lt_status lt_peft_config_view(
    lt_peft_config *c, const lt_json *json, const char *prefix, lt_error *err)
{
    struct fields f = { json->root, prefix, err };
    *c = (lt_peft_config){ 0 };
    lt_status st = read_fields(c, &f);
    if (!st) find_refusal(c, &f);
    return st;
}

void lt_peft_config_release(lt_peft_config *c)
{
    for (size_t i = 0; i < c->n_saved; i++)
        free(c->saved[i]);
    free(c->saved);
    lt_peft_rules_release(&c->ranks);
    lt_peft_rules_release(&c->alphas);
    *c = (lt_peft_config){ 0 };
}

lt_status lt_peft_config_scale(const lt_peft_config *c, const char *path, uint64_t rank,
    double *alpha, double *scale, uint64_t *work, lt_error *err)
{
    double r;
    lt_status st = lt_peft_rules_find(&c->ranks, path, c->r, &r, work, err);
    if (!st) st = lt_peft_rules_find(&c->alphas, path, c->alpha, alpha, work, err);
    if (st) return st;
    if (r != (double)rank)
        return lt_error_set(err, LT_ERR_MISMATCH,
            "the config gives '%.200s' rank %g, its factors have %llu", path, r,
            (unsigned long long)rank);
    *scale = *alpha / (c->rslora ? sqrt(r) : r);
    return LT_OK;
}

/* ---- writing ------------------------------------------------------------------------
 */

/* The value most entries have becomes the default; the others get a pattern. */
static double value_of(const lt_peft_entry *e, bool alpha)
{
    return alpha ? e->alpha : (double)e->rank;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The largest of those that are the most. */
static bool find_most_common(const lt_peft_entry *e, size_t n, bool alpha, double *best)
{
    size_t most = 0;
    double *values = malloc((n + 1) * sizeof *values);
    *best = 0;
    if (!values) return false;
    for (size_t i = 0; i < n; i++)
        values[i] = value_of(&e[i], alpha);
    if (n) qsort(values, n, sizeof *values, by_size);
    for (size_t i = 0, first = 0; i < n; i++) {
        if (values[i] != values[first]) first = i;
        if (i - first + 1 < most) continue;
        most = i - first + 1;
        *best = values[i];
    }
    free(values);
    return true;
}

/* "^layers\.1\.x": anchored, so that it cannot match layers.11.x or another wrapper. */
static bool add_pattern(cJSON *object, const char *path, double value)
{
    size_t n = strlen(path);
    char *pattern = malloc(2 * n + 2);
    if (!pattern) return false;
    char *p = pattern;
    *p++ = '^';
    for (size_t i = 0; i < n; i++) {
        if (path[i] && strchr(".^$*+?()[]{}|\\", path[i])) *p++ = '\\';
        *p++ = path[i];
    }
    *p = '\0';
    bool ok = cJSON_AddNumberToObject(object, pattern, value) != NULL;
    free(pattern);
    return ok;
}

static bool set_item(cJSON *object, const char *name, cJSON *item)
{
    if (!item) return false;
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    return lt_json_put(object, name, item);
}

static bool set_default(cJSON *object, const char *name, cJSON *item)
{
    if (item && lt_json_get(object, name)) {
        cJSON_Delete(item);
        return true;
    }
    return set_item(object, name, item);
}

static bool set_patterns(cJSON *object, const char *name, const lt_peft_entry *e,
    size_t n, bool alpha, double common)
{
    cJSON *patterns = cJSON_CreateObject();
    if (!patterns) return false;
    for (size_t i = 0; i < n; i++) {
        double v = value_of(&e[i], alpha);
        if (v != common && !add_pattern(patterns, e[i].path, v)) {
            cJSON_Delete(patterns);
            return false;
        }
    }
    return set_item(object, name, patterns);
}

static bool list_modules(cJSON *object, const lt_peft_entry *e, size_t n)
{
    cJSON *targets = cJSON_CreateArray();
    bool ok = targets != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        cJSON *path = cJSON_CreateString(e[i].path);
        ok = lt_json_append(targets, path);
    }
    if (ok) return set_item(object, "target_modules", targets);
    cJSON_Delete(targets);
    return false;
}

struct member {
    cJSON *item;
    size_t at;
};

static int by_key(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = strcmp(x->item->string, y->item->string);
    return order ? order : x->at < y->at ? -1 : 1;
}

/* PEFT writes sorted keys. A template may hold one twice: Python takes the last. */
static bool sort_members(cJSON *object)
{
    size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
    struct member *all = malloc((n + 1) * sizeof *all);
    if (!all) return false;
    for (; object->child; i++)
        all[i] = (struct member){ cJSON_DetachItemViaPointer(object, object->child), i };
    if (n) qsort(all, n, sizeof *all, by_key);
    for (i = 0; i < n; i++) {
        cJSON *item = all[i].item;
        bool doubled = i + 1 < n && !strcmp(item->string, all[i + 1].item->string);
        if (doubled) cJSON_Delete(item);
        /* AddItemToObject copies the name it is given before it frees the old one. */
        if (!doubled && !cJSON_AddItemToObject(object, item->string, item)) break;
    }
    bool ok = i == n;
    for (; i < n; i++)
        cJSON_Delete(all[i].item);
    free(all);
    return ok;
}

static bool fill(cJSON *o, const lt_peft_entry *e, size_t n, bool fan, bool causal)
{
    double r, alpha;
    return find_most_common(e, n, false, &r) && find_most_common(e, n, true, &alpha)
        && set_item(o, "peft_type", cJSON_CreateString("LORA"))
        && set_default(
            o, "task_type", causal ? cJSON_CreateString("CAUSAL_LM") : cJSON_CreateNull())
        && set_default(o, "base_model_name_or_path", cJSON_CreateNull())
        && set_default(o, "bias", cJSON_CreateString("none"))
        && set_default(o, "fan_in_fan_out", cJSON_CreateBool(fan))
        && set_default(o, "inference_mode", cJSON_CreateTrue())
        && set_default(o, "init_lora_weights", cJSON_CreateTrue())
        && set_default(o, "lora_dropout", cJSON_CreateNumber(0))
        && set_default(o, "modules_to_save", cJSON_CreateNull())
        && set_item(o, "r", cJSON_CreateNumber(r))
        && set_item(o, "lora_alpha", cJSON_CreateNumber(alpha))
        && set_item(o, "use_rslora", cJSON_CreateFalse())
        && set_default(o, "use_dora", cJSON_CreateFalse())
        && set_patterns(o, "rank_pattern", e, n, false, r)
        && set_patterns(o, "alpha_pattern", e, n, true, alpha) && list_modules(o, e, n)
        && sort_members(o);
}

lt_status lt_peft_config_make(const lt_peft_entry *entries, size_t count,
    bool fan_in_fan_out, bool causal_lm, const char *template_text, char **text,
    lt_error *err)
{
    *text = NULL;
    cJSON *o = template_text ? cJSON_Parse(template_text) : cJSON_CreateObject();
    if (o && fill(o, entries, count, fan_in_fan_out, causal_lm)) *text = cJSON_Print(o);
    cJSON_Delete(o);
    return *text ? LT_OK : lt_error_set(err, LT_ERR_NOMEM, "out of memory");
}
