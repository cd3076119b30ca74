/* SPDX-License-Identifier: MIT */
/* Training metadata: the fields sd-scripts keeps even with --no_metadata, and Stability's
 * ModelSpec 1.0.1. No dates: the same input gives the same bytes. */
#include "adapter/kind.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lt_status set_range(
    lt_metadata *meta, const char *key, double low, double high, lt_error *err)
{
    char text[64] = "Dynamic";
    if (low == high) snprintf(text, sizeof text, "%.9g", low);
    return lt_metadata_set(meta, key, text, err);
}

static bool put_argument(cJSON *args, const char *name, double low, double high)
{
    char text[64] = "Dynamic";
    if (low == high) snprintf(text, sizeof text, "%.9g", low);
    cJSON_DeleteItemFromObjectCaseSensitive(args, name);
    return cJSON_AddStringToObject(args, name, text) != NULL;
}

/* *args gets the object to add to, or NULL where the text is none: it is kept then. */
static lt_status read_arguments(const char *text, cJSON **args, lt_error *err)
{
    lt_json json;
    *args = NULL;
    if (!text || !strcmp(text, "null") || !strcmp(text, "None")) {
        *args = cJSON_CreateObject();
        return *args ? LT_OK : lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    }
    if (strlen(text) > LT_MAX_ARGUMENTS_SIZE) return LT_OK;
    lt_status st = lt_json_parse(&json, text, strlen(text), 0, err);
    if (st) return st == LT_ERR_NOMEM ? st : LT_OK;
    if (cJSON_IsObject(json.root))
        *args = json.root;
    else
        lt_json_release(&json);
    return LT_OK;
}

/* ss_network_args is a JSON object of strings; what else it holds is kept. */
static lt_status set_arguments(
    lt_metadata *meta, const lt_network_summary *s, lt_error *err)
{
    cJSON *args;
    lt_status st = read_arguments(lt_metadata_get(meta, "ss_network_args"), &args, err);
    if (st || !args) return st;
    bool ok = true;
    if (ok && s->conv_dim_max)
        ok = put_argument(
                 args, "conv_dim", (double)s->conv_dim_min, (double)s->conv_dim_max)
            && put_argument(args, "conv_alpha", s->conv_alpha_min, s->conv_alpha_max);
    char *text = ok ? cJSON_PrintUnformatted(args) : NULL;
    cJSON_Delete(args);
    if (!text) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    st = lt_metadata_set(meta, "ss_network_args", text, err);
    free(text);
    return st;
}

lt_status lt_describe_network(
    lt_metadata *meta, const lt_network_summary *s, lt_error *err)
{
    bool linear = s->dim_max > 0;
    lt_status st =
        set_range(meta, "ss_network_dim", (double)(linear ? s->dim_min : s->conv_dim_min),
            (double)(linear ? s->dim_max : s->conv_dim_max), err);
    if (!st)
        st =
            set_range(meta, "ss_network_alpha", linear ? s->alpha_min : s->conv_alpha_min,
                linear ? s->alpha_max : s->conv_alpha_max, err);
    return st ? st : set_arguments(meta, s, err);
}

lt_status lt_describe_origin(
    lt_metadata *meta, const lt_family *family, const char *title, lt_error *err)
{
    char architecture[128];
    const char *arch = lt_family_architecture(family);
    const char *implementation = lt_family_implementation(family);
    const char *version = lt_family_kohya_version(family);
    snprintf(architecture, sizeof architecture, "%s/lora", arch ? arch : "unknown");
    const struct {
        const char *key, *value;
    } rows[] = {
        { "ss_network_module", "networks.lora" },
        { "ss_base_model_version", version ? version : "unknown" },
        { "ss_v2", lt_family_kohya_v2(family) ? "True" : "False" },
        { "modelspec.sai_model_spec", "1.0.1" },
        { "modelspec.architecture", architecture },
        { "modelspec.implementation", implementation ? implementation : "unknown" },
        { "modelspec.title", title },
    };
    lt_status st = LT_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !st; i++)
        st = lt_metadata_set(meta, rows[i].key, rows[i].value, err);
    return st;
}
