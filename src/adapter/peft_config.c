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

static lt_status read_saved(lt_peft_config *c, const struct fields *f)
{
    bool doubled;
    const cJSON *item, *node = field(f, "modules_to_save", &doubled);
    const cJSON *bias = field(f, "bias", &doubled);
    c->biases = cJSON_IsString(bias) && strcmp(bias->valuestring, "none");
    if (!node) return LT_OK;
    if (!cJSON_IsArray(node)) return bad_field(f, "modules_to_save", "an array of names");
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
    return LT_OK;
}

static lt_status read_fields(lt_peft_config *c, const struct fields *f)
{
    bool doubled;
    const cJSON *rs = field(f, "use_rslora", &doubled);
    c->r = c->alpha = 8; /* PEFT's defaults */
    if (doubled || (rs && !cJSON_IsBool(rs)))
        return bad_field(f, "use_rslora", "true or false");
    c->rslora = cJSON_IsTrue(rs);
    lt_status st = read_number(f, "r", &c->r);
    if (!st) st = read_number(f, "lora_alpha", &c->alpha);
    if (!st) st = read_rules(f, "rank_pattern", &c->ranks);
    if (!st) st = read_rules(f, "alpha_pattern", &c->alphas);
    if (!st) st = read_saved(c, f);
    if (st) lt_peft_config_release(c);
    return st;
}

static bool is_set(const cJSON *node)
{
    if (!node || cJSON_IsFalse(node)) return false;
    return !((cJSON_IsArray(node) || cJSON_IsObject(node)) && !node->child);
}

/* PEFT saves every module whose path ends in a name of the list ("norm" stands for
 * "input_layernorm" too), with all that is inside it. */
bool lt_peft_config_saves(const lt_peft_config *c, const char *path)
{
    size_t size = strlen(path);
    if (c->biases && size > 5 && !strcmp(path + size - 5, ".bias")) return true;
    for (size_t i = 0; i < c->n_saved; i++)
        for (const char *p = path; (p = strstr(p, c->saved[i])) != NULL; p++)
            if (p[strlen(c->saved[i])] == '.') return true;
    return false;
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
    double *alpha, double *scale, lt_error *err)
{
    double r;
    lt_status st = lt_peft_rules_find(&c->ranks, path, c->r, &r, err);
    if (!st) st = lt_peft_rules_find(&c->alphas, path, c->alpha, alpha, err);
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
static double most_common(const lt_peft_entry *e, size_t n, bool alpha)
{
    double best = 0;
    size_t best_votes = 0;
    for (size_t i = 0; i < n && best_votes * 2 <= n; i++) {
        double v = alpha ? e[i].alpha : (double)e[i].rank;
        size_t votes = 0;
        for (size_t j = 0; j < n; j++)
            votes += (alpha ? e[j].alpha : (double)e[j].rank) == v;
        if (votes > best_votes || (votes == best_votes && v > best)) {
            best = v;
            best_votes = votes;
        }
    }
    return best;
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
        double v = alpha ? e[i].alpha : (double)e[i].rank;
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

static int by_key(const void *a, const void *b)
{
    const cJSON *const *x = a, *const *y = b;
    return strcmp((*x)->string, (*y)->string);
}

/* PEFT writes sorted keys. */
static bool sort_members(cJSON *object)
{
    size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
    cJSON **items = malloc((n + 1) * sizeof(cJSON *));
    if (!items) return false;
    while (object->child)
        items[i++] = cJSON_DetachItemViaPointer(object, object->child);
    qsort(items, n, sizeof(cJSON *), by_key);
    for (i = 0; i < n; i++) {
        /* AddItemToObject copies the name it is given before it frees the old one. */
        if (!cJSON_AddItemToObject(object, items[i]->string, items[i])) break;
    }
    bool ok = i == n;
    for (; i < n; i++)
        cJSON_Delete(items[i]);
    free(items);
    return ok;
}

static bool fill(cJSON *o, const lt_peft_entry *e, size_t n, bool fan, bool causal)
{
    double r = most_common(e, n, false), alpha = most_common(e, n, true);
    return set_item(o, "peft_type", cJSON_CreateString("LORA"))
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
