/* SPDX-License-Identifier: MIT */
/* PEFT's adapter_config.json. Scale is lora_alpha / r, or lora_alpha / sqrt(r) with
 * use_rslora (Kalajdzievski 2023); rank_pattern and alpha_pattern override both per
 * module: pattern P applies to path M when M matches (.*\.)?(P) as a whole, first match
 * in document order. Absent fields have PEFT's defaults (r 8, lora_alpha 8). */
#include "adapter/kind.h"

#include "base/mem.h"

#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cJSON *field(const lt_peft_config *c, const char *name)
{
    char key[160];
    snprintf(key, sizeof key, "%s%s", c->prefix, name);
    return lt_json_get(c->object, key);
}

static double number(const lt_peft_config *c, const char *name, double fallback)
{
    const cJSON *node = field(c, name);
    return cJSON_IsNumber(node) ? node->valuedouble : fallback;
}

static void read_fields(lt_peft_config *c)
{
    c->r = number(c, "r", 8);
    c->alpha = number(c, "lora_alpha", 8);
    c->rslora = cJSON_IsTrue(field(c, "use_rslora"));
}

/* Settings under which the factors alone do not say what the model does. */
static lt_status refuse_unmergeable(const lt_peft_config *c, lt_error *err)
{
    static const char *const fields[] = { "layer_replication", "use_qalora", "use_bdlora",
        "kasa_config", "alora_invocation_tokens", "arrow_config", "target_parameters",
        "trainable_token_indices" };
    const char *type = lt_json_get_string(c->object, "peft_type");
    if (type && strcmp(type, "LORA"))
        return lt_error_set(
            err, LT_ERR_UNSUPPORTED, "peft_type %.40s is not supported, only LORA", type);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const cJSON *node = field(c, fields[i]);
        bool off = !node || cJSON_IsNull(node) || cJSON_IsFalse(node)
            || ((cJSON_IsArray(node) || cJSON_IsObject(node)) && !node->child);
        if (!off)
            return lt_error_set(err, LT_ERR_UNSUPPORTED,
                "'%s' is set: such an adapter cannot be applied to plain weights",
                fields[i]);
    }
    return LT_OK;
}

lt_status lt_peft_config_parse(
    lt_peft_config *c, const char *text, size_t size, lt_error *err)
{
    *c = (lt_peft_config){ .prefix = "" };
    lt_status st = lt_json_parse(&c->json, text, size, 0, err);
    if (st) return st;
    c->object = c->json.root;
    if (!cJSON_IsObject(c->object))
        st = lt_error_at(err, LT_ERR_FORMAT, 0, "is not a JSON object");
    if (!st) st = refuse_unmergeable(c, err);
    if (st) {
        lt_peft_config_release(c);
        return st;
    }
    read_fields(c);
    return LT_OK;
}

bool lt_peft_config_view(lt_peft_config *c, const lt_json *json, const char *prefix)
{
    *c = (lt_peft_config){ .object = json->root, .prefix = prefix };
    if (!cJSON_IsNumber(field(c, "r")) && !cJSON_IsNumber(field(c, "lora_alpha")))
        return false;
    read_fields(c);
    return true;
}

void lt_peft_config_release(lt_peft_config *c)
{
    lt_json_release(&c->json);
    *c = (lt_peft_config){ .prefix = "" };
}

static lt_status pattern_matches(
    const char *pattern, const char *path, bool *hit, lt_error *err)
{
    size_t size = strlen(pattern) + 16;
    char *whole = malloc(size);
    if (!whole) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    snprintf(whole, size, "^(.*\\.)?(%s)$", pattern);
    regex_t re;
    int rc = regcomp(&re, whole, REG_EXTENDED | REG_NOSUB);
    free(whole);
    if (rc)
        return lt_error_set(
            err, LT_ERR_FORMAT, "pattern '%.100s' is no regular expression", pattern);
    *hit = !regexec(&re, path, 0, NULL, 0);
    regfree(&re);
    return LT_OK;
}

static lt_status apply_pattern(const lt_peft_config *c, const char *name,
    const char *path, double *value, lt_error *err)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, field(c, name))
    {
        bool hit = false;
        if (!cJSON_IsNumber(item)) continue;
        lt_status st = pattern_matches(item->string, path, &hit, err);
        if (st) return st;
        if (!hit) continue;
        *value = item->valuedouble;
        return LT_OK;
    }
    return LT_OK;
}

lt_status lt_peft_config_scale(const lt_peft_config *c, const char *path, uint64_t rank,
    double *alpha, double *scale, lt_error *err)
{
    double r = c->r;
    *alpha = c->alpha;
    lt_status st = apply_pattern(c, "rank_pattern", path, &r, err);
    if (!st) st = apply_pattern(c, "alpha_pattern", path, alpha, err);
    if (st) return st;
    if (r != (double)rank)
        return lt_error_set(err, LT_ERR_MISMATCH,
            "adapter_config.json gives '%.200s' rank %g, its factors have %llu", path, r,
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
    return cJSON_AddItemToObject(object, name, item);
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

static bool set_targets(cJSON *object, const lt_peft_entry *e, size_t n)
{
    cJSON *targets = cJSON_CreateArray();
    for (size_t i = 0; i < n && targets; i++)
        cJSON_AddItemToArray(targets, cJSON_CreateString(e[i].path));
    return set_item(object, "target_modules", targets);
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
        && set_patterns(o, "alpha_pattern", e, n, true, alpha) && set_targets(o, e, n)
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
