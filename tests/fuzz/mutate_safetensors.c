/* SPDX-License-Identifier: MIT */
#include "mutate.h"

#include "fuzz.h"

#include <cjson/cJSON.h>

#include <stdlib.h>
#include <string.h>

#define MAX_DATA 65536u
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct edit {
    fuzz_rng rng;
    cJSON *root;
    const uint8_t *data; /* of the tensors, as they were */
    size_t data_size;
    uint8_t *fresh; /* of the tensors, laid out anew */
    size_t fresh_size;
};

static const char *const endings[] = { ".weight", ".bias", ".alpha", ".lora_up.weight",
    ".lora_down.weight", ".lora_mid.weight", ".lora_A.weight", ".lora_B.weight",
    ".lora_A", ".lora_B", ".lora.down.weight", ".lora.up.weight", ".dora_scale",
    ".lora_magnitude_vector", ".lora_B.bias", ".diff", ".diff_b", ".hada_w1_a",
    ".lokr_w1", ".scale", ".lora_E", ".lora_A.default.weight", ".lora_embedding_A",
    ".to_q.weight", ".to_k.weight", ".proj_in.weight", ".modules_to_save.weight", "" };
static const char *const beginnings[] = { "lora_unet_", "lora_te_", "lora_te1_", "unet.",
    "text_encoder.", "base_model.model.", "base_model.model.model.", "transformer.",
    "diffusion_model.", "model.diffusion_model.", "model.", "lora_transformer_",
    "first_stage_model.", "cond_stage_model.transformer.", "" };
static const double numbers[] = { 0, 1, 2, 3, 4, 7, 8, 16, 64, 255, 256, 1024, 65536,
    65537, 1e6, 1e9, 2147483648.0, 4294967296.0, 9007199254740992.0, 1e15, -1, 0.5 };

/* Takes the item over, also where the object has no such member. */
static void set_member(cJSON *object, const char *name, cJSON *item)
{
    if (!cJSON_ReplaceItemInObject(object, name, item)) cJSON_Delete(item);
}

static cJSON *pick(struct edit *e, cJSON *of)
{
    int n = cJSON_GetArraySize(of);
    return n ? cJSON_GetArrayItem(of, (int)fuzz_below(&e->rng, (size_t)n)) : NULL;
}

static void rename_item(struct edit *e, cJSON *item, const char *name)
{
    cJSON *copy = cJSON_Duplicate(item, 1);
    if (!copy) return;
    free(copy->string);
    copy->string = strdup(name);
    copy->type &= ~cJSON_StringIsConst;
    cJSON_ReplaceItemViaPointer(e->root, item, copy);
}

/* A part of the name becomes another one of its kind, or bytes change. */
static void edit_name(struct edit *e, cJSON *item)
{
    char name[2048];
    const char *old = item->string;
    size_t size = strlen(old);
    if (size >= sizeof name / 2) return;
    const char *ending = endings[fuzz_below(&e->rng, COUNT(endings))];
    const char *beginning = beginnings[fuzz_below(&e->rng, COUNT(beginnings))];
    switch (fuzz_below(&e->rng, 4)) {
    case 0: {
        const char *dot = strrchr(old, '.');
        if (dot && fuzz_below(&e->rng, 2)) size = (size_t)(dot - old);
        memcpy(name, old, size);
        strcpy(name + size, ending);
        break;
    }
    case 1: {
        size_t skip = fuzz_below(&e->rng, size + 1);
        if (fuzz_below(&e->rng, 2)) skip = strcspn(old, "._");
        strcpy(name, beginning);
        strcat(name, old + skip);
        break;
    }
    case 2: {
        strcpy(name, old);
        for (size_t i = 0; i < size; i++)
            if (name[i] >= '0' && name[i] <= '9' && !fuzz_below(&e->rng, 3))
                name[i] = (char)('0' + fuzz_below(&e->rng, 10));
        break;
    }
    default:
        memcpy(name, old, size);
        size = LLVMFuzzerMutate((uint8_t *)name, size, sizeof name - 1);
        name[size] = '\0';
    }
    rename_item(e, item, name);
}

static void edit_number(struct edit *e, cJSON *list)
{
    if (!cJSON_IsArray(list)) return;
    cJSON *item = pick(e, list);
    double value = numbers[fuzz_below(&e->rng, COUNT(numbers))];
    if (!item || !fuzz_below(&e->rng, 6))
        cJSON_AddItemToArray(list, cJSON_CreateNumber(value));
    else if (!fuzz_below(&e->rng, 6))
        cJSON_Delete(cJSON_DetachItemViaPointer(list, item));
    else if (!fuzz_below(&e->rng, 3))
        cJSON_SetNumberHelper(item, item->valuedouble * 2);
    else
        cJSON_SetNumberHelper(item, value);
}

static void edit_metadata(struct edit *e)
{
    static const char *const keys[] = { "ss_network_dim", "ss_network_alpha",
        "ss_network_module", "ss_base_model_version", "modelspec.architecture",
        "lora_adapter_metadata", "sshs_model_hash", "sshs_legacy_hash", "format" };
    static const char *const values[] = { "", "1", "Dynamic", "sd_v1", "{}",
        "{\"transformer.r\":4,\"transformer.lora_alpha\":8}",
        "{\"r\":4,\"lora_alpha\":\"x\"}", "[[[[", "sdxl_base_v1-0" };
    cJSON *meta = cJSON_GetObjectItem(e->root, "__metadata__");
    if (meta && !cJSON_IsObject(meta)) return;
    if (!meta) meta = cJSON_AddObjectToObject(e->root, "__metadata__");
    const char *key = keys[fuzz_below(&e->rng, COUNT(keys))];
    cJSON_DeleteItemFromObject(meta, key);
    cJSON_AddStringToObject(meta, key, values[fuzz_below(&e->rng, COUNT(values))]);
}

static void edit_tensor(struct edit *e, cJSON *t)
{
    cJSON *shape = cJSON_GetObjectItem(t, "shape");
    lt_dtype dtype = (lt_dtype)fuzz_below(&e->rng, LT_DTYPE_COUNT);
    switch (fuzz_below(&e->rng, 8)) {
    case 0: set_member(t, "dtype", cJSON_CreateString(lt_dtype_get(dtype)->name)); break;
    case 1:
    case 2: edit_number(e, shape); break;
    case 3: /* transposed */
        if (cJSON_GetArraySize(shape) > 1)
            cJSON_AddItemToArray(shape, cJSON_DetachItemFromArray(shape, 0));
        break;
    case 4: {
        cJSON *copy = cJSON_Duplicate(t, 1);
        if (cJSON_AddItemToObject(e->root, t->string, copy)) edit_name(e, copy);
        break;
    }
    case 5: cJSON_Delete(cJSON_DetachItemViaPointer(e->root, t)); break;
    default: edit_name(e, t);
    }
}

/* Gives the tensor its place in the fresh data, filled with what it held. */
static void lay(struct edit *e, cJSON *t)
{
    lt_tensor made = { 0 };
    cJSON *shape = cJSON_GetObjectItem(t, "shape"), *dim;
    cJSON *offsets = cJSON_GetObjectItem(t, "data_offsets");
    const char *dtype = cJSON_GetStringValue(cJSON_GetObjectItem(t, "dtype"));
    if (!shape || !dtype || !lt_dtype_by_name(dtype, &made.dtype)) return;
    cJSON_ArrayForEach(dim, shape)
    {
        if (made.n_dims == LT_MAX_DIMS || !(dim->valuedouble >= 0)
            || dim->valuedouble > 1e15)
            return;
        made.shape[made.n_dims++] = (uint64_t)dim->valuedouble;
    }
    if (lt_tensor_measure(&made, NULL) || made.size > MAX_DATA - e->fresh_size) return;
    cJSON *begin = cJSON_GetArrayItem(offsets, 0);
    size_t from = begin && begin->valuedouble >= 0 && begin->valuedouble < MAX_DATA
        ? (size_t)begin->valuedouble
        : 0;
    for (size_t i = 0; i < made.size && e->data_size; i++)
        e->fresh[e->fresh_size + i] = e->data[(from + i) % e->data_size];
    double ends[2] = { (double)e->fresh_size, (double)(e->fresh_size + made.size) };
    e->fresh_size += (size_t)made.size;
    set_member(t, "data_offsets", cJSON_CreateDoubleArray(ends, 2));
}

static size_t put(uint8_t *out, size_t max_size, const char *header, size_t header_size,
    const uint8_t *data, size_t data_size)
{
    if (8 + header_size > max_size) return 0;
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)((uint64_t)header_size >> 8 * i);
    memcpy(out + 8, header, header_size);
    size_t n =
        data_size < max_size - 8 - header_size ? data_size : max_size - 8 - header_size;
    memcpy(out + 8 + header_size, data, n);
    return 8 + header_size + n;
}

/* The values that arithmetic stumbles over, in place of some elements. */
static void edit_data(struct edit *e)
{
    static const uint32_t odd[] = { 0, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u,
        0x7f7fffffu, 1, 0x7c007c00u, 0x7e00fc00u, 0x7bff7bffu, 0x3f800000u, 0x00800000u };
    uint32_t value = odd[fuzz_below(&e->rng, COUNT(odd))];
    size_t n = 1 + fuzz_below(&e->rng, 16);
    for (size_t i = 0; i < n && e->fresh_size >= 4; i++) {
        size_t at = fuzz_below(&e->rng, e->fresh_size - 3);
        memcpy(e->fresh + at, &value, 4);
    }
}

static size_t edit_tree(struct edit *e, uint8_t *out, size_t max_size)
{
    size_t n = 1 + fuzz_below(&e->rng, 3);
    for (size_t i = 0; i < n; i++) {
        cJSON *t = pick(e, e->root);
        if (!fuzz_below(&e->rng, 8) || !t || !strcmp(t->string, "__metadata__"))
            edit_metadata(e);
        else if (cJSON_IsObject(t))
            edit_tensor(e, t);
    }
    cJSON *t;
    cJSON_ArrayForEach(t, e->root) if (strcmp(t->string, "__metadata__") != 0) lay(e, t);
    if (!fuzz_below(&e->rng, 3)) edit_data(e);
    t = pick(e, e->root); /* and now and then a file that is not laid out right */
    if (!fuzz_below(&e->rng, 12) && t && cJSON_GetObjectItem(t, "data_offsets"))
        edit_number(e, cJSON_GetObjectItem(t, "data_offsets"));
    char *text = cJSON_PrintUnformatted(e->root);
    size_t size =
        text ? put(out, max_size, text, strlen(text), e->fresh, e->fresh_size) : 0;
    free(text);
    return size;
}

static size_t edit_text(uint8_t *data, size_t size, size_t header_size, size_t max_size)
{
    size_t room = max_size - 8 < 65536 ? max_size - 8 : 65536;
    uint8_t *text = malloc(room + 1), *rest = malloc(size);
    FUZZ_CHECK(text && rest);
    size_t n = header_size < room ? header_size : room;
    size_t rest_size = size - 8 - header_size;
    memcpy(text, data + 8, n);
    memcpy(rest, data + 8 + header_size, rest_size);
    n = LLVMFuzzerMutate(text, n, room);
    size = put(data, max_size, (char *)text, n, rest, rest_size);
    free(text);
    free(rest);
    return size;
}

size_t fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    struct edit e = { .rng = fuzz_seed(seed) };
    uint64_t header_size = 0;
    for (int i = 7; i >= 0 && size >= 8; i--)
        header_size = header_size << 8 | data[i];
    bool whole = size > 8 && header_size && header_size <= size - 8;
    size_t what = fuzz_below(&e.rng, 16);
    if (!whole || what == 0) return LLVMFuzzerMutate(data, size, max_size);
    if (what < 3) return edit_text(data, size, (size_t)header_size, max_size);
    if (what == 3) return fuzz_below(&e.rng, size); /* cut off */
    e.root = cJSON_ParseWithLength((char *)data + 8, (size_t)header_size);
    if (!cJSON_IsObject(e.root)) {
        cJSON_Delete(e.root);
        return edit_text(data, size, (size_t)header_size, max_size);
    }
    e.data_size = size - 8 - (size_t)header_size;
    uint8_t *old = malloc(e.data_size + 1);
    e.fresh = calloc(1, MAX_DATA);
    FUZZ_CHECK(old && e.fresh);
    memcpy(old, data + 8 + header_size, e.data_size);
    e.data = old;
    size_t made = edit_tree(&e, data, max_size);
    cJSON_Delete(e.root);
    free(e.fresh);
    free(old);
    return made ? made : size;
}
