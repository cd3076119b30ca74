/* SPDX-License-Identifier: MIT */
#include "ops/pipeline_files.h"

#include "base/json.h"
#include "model/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sizes {
    const lt_store *store;
    const char *prefix;
    bool equal;
};

static void compare_size(void *ctx, const char *name, const uint64_t *shape, unsigned n)
{
    struct sizes *s = ctx;
    char full[512];
    if (n < 2 || !s->equal) return;
    snprintf(full, sizeof full, "%s%s", s->prefix, name);
    const lt_tensor *t = lt_store_find(s->store, full);
    s->equal = t && t->n_dims == n && !memcmp(t->shape, shape, n * sizeof *shape);
}

/* The published model that has the component's sizes; NULL when there is none. */
static const lt_layout_variant *find_variant(const lt_model *model, const lt_component *c)
{
    const lt_layout_view *view = lt_model_view(model, c);
    if (!view) return NULL;
    for (const lt_layout_variant *v = view->layout->variants; v->id; v++) {
        struct sizes s = { lt_model_store(model), lt_model_prefix(model, c), true };
        lt_layout_each(view->layout, v->params, view->is_public, compare_size, &s);
        if (s.equal) return v;
    }
    return NULL;
}

static bool is_there(const lt_model *model, const lt_component *c)
{
    const lt_store *store = lt_model_store(model);
    for (size_t i = 0; i < lt_store_count(store); i++)
        if (lt_model_component(model, lt_store_at(store, i)) == c) return true;
    return false;
}

static lt_status put_json(lt_writer *writer, const char *name, cJSON *root, lt_error *err)
{
    char *text = root ? cJSON_Print(root) : NULL;
    lt_status st = text ? lt_writer_put_text(writer, name, text, err)
                        : lt_error_set(err, LT_ERR_NOMEM, "out of memory for %s", name);
    free(text);
    return st;
}

/* The text with the channels in, which inpainting models have more of. */
static lt_status put_config(lt_writer *writer, const char *name,
    const lt_pipeline_part *part, const lt_layout_variant *variant, lt_error *err)
{
    lt_json json = { 0 };
    lt_status st = lt_json_parse(&json, part->config, strlen(part->config), 0, err);
    if (st) return st;
    bool unet = !strcmp(part->component, "unet");
    double channels = (double)lt_layout_parameter(variant->params, 'l');
    cJSON *number = unet ? cJSON_CreateNumber(channels) : NULL;
    if (number
        && !cJSON_ReplaceItemInObjectCaseSensitive(json.root, "in_channels", number))
        cJSON_Delete(number);
    st = put_json(writer, name, json.root, err);
    lt_json_release(&json);
    return st;
}

static lt_status write_config(lt_writer *writer, const lt_model *model,
    const lt_component *from, const lt_pipeline_part *part, const char *folder,
    lt_notes *missing, lt_error *err)
{
    char name[256];
    const lt_layout_variant *variant = find_variant(model, from);
    snprintf(name, sizeof name, "%sconfig.json", folder);
    if (!part || !part->config)
        return lt_notes_add(missing, name, 0, err, "take the original model's");
    if (!variant)
        return lt_notes_add(missing, name, 0, err, "the sizes are of no published model");
    return put_config(writer, name, part, variant, err);
}

/* "unet." lies in "unet/". */
static void folder_of(const lt_component *c, bool several, char *dst, size_t size)
{
    const char *prefix = several && c->diffusers[0] ? c->diffusers[0] : "";
    size_t n = strlen(prefix);
    snprintf(dst, size, "%.*s%s", (int)(n ? n - 1 : 0), prefix, n ? "/" : "");
}

static bool list_part(cJSON *index, const lt_pipeline_part *part, const char *folder)
{
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(folder, "/"), folder);
    const char *classes[] = { part ? part->library : "diffusers",
        part ? part->class_name : "ModelMixin" };
    cJSON *pair = cJSON_CreateStringArray(classes, 2);
    return pair && cJSON_AddItemToObject(index, name, pair);
}

lt_status lt_pipeline_files_write(lt_writer *writer, const lt_model *model,
    const lt_family *family, bool several, lt_notes *missing, lt_error *err)
{
    cJSON *index = cJSON_CreateObject();
    const char *class = lt_pipeline_class(family);
    bool ok = index
        && cJSON_AddStringToObject(
            index, "_class_name", class ? class : "DiffusionPipeline");
    lt_status st = ok ? LT_OK : lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (const lt_component *c = family->components; c->id && !st; c++) {
        const lt_component *from = lt_family_component(lt_model_family(model), c->id);
        const lt_pipeline_part *part = lt_pipeline_find(family, c);
        char folder[128];
        if (!from || !is_there(model, from)) continue;
        folder_of(c, several, folder, sizeof folder);
        st = write_config(writer, model, from, part, folder, missing, err);
        if (!st && several && !list_part(index, part, folder))
            st = lt_error_set(err, LT_ERR_NOMEM, "out of memory for model_index.json");
    }
    if (!st && several) st = put_json(writer, "model_index.json", index, err);
    if (!st && several)
        st = lt_notes_add(missing, "scheduler, tokenizers", 0, err,
            "a single file has none: take the original model's");
    cJSON_Delete(index);
    return st;
}
