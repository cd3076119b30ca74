/* SPDX-License-Identifier: MIT */
/* safetensors header: compact JSON, "__metadata__" first, then the tensors in the order
 * of their data, padded with spaces to a multiple of 8 as the reference writer does. */
#include "format/format.h"

#include "base/json.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add_metadata(cJSON *root, const lt_volume *v)
{
    const lt_metadata *meta = v->metadata;
    if (!meta->count && !v->empty_metadata) return true;
    cJSON *object = cJSON_AddObjectToObject(root, "__metadata__");
    for (size_t i = 0; object && i < meta->count; i++)
        if (!cJSON_AddStringToObject(
                object, meta->entries[i].key, meta->entries[i].value))
            return false;
    return object != NULL;
}

/* As text: cJSON's numbers are doubles and print as 1e+15, which the format forbids. */
static bool add_integer(cJSON *array, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    cJSON *n = cJSON_CreateRaw(text);
    return lt_json_append(array, n);
}

static cJSON *tensor_entry(const lt_tensor *t)
{
    cJSON *entry = cJSON_CreateObject();
    if (!entry) return NULL;
    bool ok =
        cJSON_AddStringToObject(entry, "dtype", lt_dtype_get(t->dtype)->name) != NULL;
    cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
    for (unsigned i = 0; i < t->n_dims && shape && ok; i++)
        ok = add_integer(shape, t->shape[i]);
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    ok = ok && shape && offsets && add_integer(offsets, t->offset)
        && add_integer(offsets, t->offset + t->size);
    if (ok) return entry;
    cJSON_Delete(entry);
    return NULL;
}

static bool add_tensors(cJSON *root, const lt_writer *w, const lt_volume *v)
{
    for (size_t i = 0; i < v->count; i++) {
        const lt_tensor *t = &w->tensors[v->layout[i]];
        if (!lt_json_put(root, t->name + v->prefix_size, tensor_entry(t))) return false;
    }
    return true;
}

static lt_status make_header(
    const lt_writer *w, const lt_volume *v, char **header, size_t *size, lt_error *err)
{
    *header = NULL;
    cJSON *root = cJSON_CreateObject();
    char *text = NULL;
    if (root && add_metadata(root, v) && add_tensors(root, w, v))
        text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (!text) return lt_error_set(err, LT_ERR_NOMEM, "out of memory for the header");
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    if (padded > LT_MAX_HEADER_SIZE) {
        free(text);
        return lt_error_set(
            err, LT_ERR_LIMIT, "the header would be over %u bytes", LT_MAX_HEADER_SIZE);
    }
    char *bytes = malloc(8 + padded);
    if (!bytes) {
        free(text);
        return lt_error_set(err, LT_ERR_NOMEM, "out of memory for the header");
    }
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)((uint64_t)padded >> 8 * i & 0xff);
    memcpy(bytes + 8, text, length);
    memset(bytes + 8 + length, ' ', padded - length);
    free(text);
    *header = bytes;
    *size = 8 + padded;
    return LT_OK;
}

static bool holds(lt_dtype dtype)
{
    return dtype < LT_C32; /* those from there on are torch's own */
}

const lt_sink lt_sink_safetensors = { .id = "safetensors",
    .extensions = { "safetensors", "sft", NULL },
    .holds_metadata = true,
    .holds = holds,
    .make_header = make_header };
