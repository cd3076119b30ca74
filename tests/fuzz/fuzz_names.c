/* SPDX-License-Identifier: MIT */
/* Tensor names and shapes: which family they make, its sites, their spellings, and the
 * modules of an adapter. One tensor a line: name, then its sizes, between blanks. The
 * file that it makes has no data, only its size. */
#include "fuzz.h"

#include <cjson/cJSON.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINES 400
#define MAX_DATA (UINT64_C(1) << 40)

/* Adds the line's tensor behind *at bytes of data. */
static void add_line(cJSON *header, char *line, uint64_t *at)
{
    lt_tensor t = { .dtype = LT_F16 };
    char *rest = line;
    const char *name = strsep(&rest, " ");
    cJSON *entry = cJSON_CreateObject(), *shape = cJSON_AddArrayToObject(entry, "shape");
    for (const char *word; (word = strsep(&rest, " ")) && t.n_dims < LT_MAX_DIMS;) {
        t.shape[t.n_dims] = strtoull(word, NULL, 10) & 0xffffffff;
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t.shape[t.n_dims++]));
    }
    bool fits = !lt_tensor_measure(&t, NULL) && t.size < MAX_DATA - *at;
    if (!*name || !fits || cJSON_HasObjectItem(header, name)) {
        cJSON_Delete(entry);
        return;
    }
    double ends[2] = { (double)*at, (double)(*at + t.size) };
    cJSON_AddItemToObject(entry, "data_offsets", cJSON_CreateDoubleArray(ends, 2));
    cJSON_AddStringToObject(entry, "dtype", "F16");
    cJSON_AddItemToObject(header, name, entry);
    *at += t.size;
}

static void write_file(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size), *rest = text;
    FUZZ_CHECK(text);
    cJSON *header = cJSON_CreateObject();
    uint64_t data_size = 0;
    for (int i = 0; i < MAX_LINES && rest; i++)
        add_line(header, strsep(&rest, "\n"), &data_size);
    char *json = cJSON_PrintUnformatted(header);
    size_t n = strlen(json);
    uint8_t *file = calloc(1, 8 + n);
    FUZZ_CHECK(file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(file + 8, json, n);
    fuzz_write("a.safetensors", file, 8 + n);
    FUZZ_CHECK(!truncate(fuzz_path("a.safetensors"), (off_t)(8 + n + data_size)));
    free(file);
    free(json);
    cJSON_Delete(header);
    free(text);
}

static void check_match(const lt_match *match)
{
    uint64_t rows = 0;
    FUZZ_CHECK(match->n_pieces <= LT_MAX_PIECES);
    for (size_t i = 0; i < match->n_pieces; i++) {
        const lt_site *s = match->pieces[i].site;
        FUZZ_CHECK(match->pieces[i].first == rows);
        FUZZ_CHECK(s->row0 + s->rows <= lt_tensor_rows(s->tensor));
        rows += s->out;
    }
    FUZZ_CHECK(!match->n_pieces || rows == match->out);
}

static void spell(const lt_alias_map *map, const lt_site *site)
{
    char name[1024];
    for (int n = 0; n < LT_NAMING_COUNT; n++) {
        lt_site_name(site, (lt_naming)n, name, sizeof name);
        FUZZ_CHECK(strlen(name) < sizeof name);
        lt_site_swaps(site, (lt_naming)n);
        lt_site_serves(site, (lt_naming)n);
        lt_match match = lt_alias_find(map, name);
        check_match(&match);
    }
}

static void look_at_model(const lt_model *model, const lt_adapter *adapter)
{
    lt_error err = LT_ERROR_INIT;
    lt_alias_map *map = NULL;
    const lt_store *store = lt_model_store(model);
    if (!fuzz_judge(lt_alias_map_new(&map, model, &err), &err)) return;
    for (size_t i = 0; i < lt_model_site_count(model); i++)
        spell(map, lt_model_site(model, i));
    for (size_t i = 0; i < lt_store_count(store); i++)
        FUZZ_CHECK(lt_model_rest(model, lt_store_at(store, i)) < LT_REST_COUNT);
    for (size_t i = 0; adapter && i < lt_adapter_module_count(adapter); i++) {
        lt_match match = lt_alias_find(map, lt_adapter_module(adapter, i)->name);
        check_match(&match);
    }
    lt_alias_map_free(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    lt_model *model = NULL;
    lt_adapter *adapter = NULL;
    write_file(data, size);
    lt_status st = lt_store_open(&store, fuzz_path("a.safetensors"), &err);
    if (fuzz_judge(st, &err)) {
        lt_store_holds_adapter(store);
        st = lt_adapter_open(&adapter, fuzz_path("a.safetensors"), &err);
        fuzz_judge(st, &err);
        st = lt_model_new(&model, store, &err);
        if (fuzz_judge(st, &err)) look_at_model(model, adapter);
        lt_model_free(model);
        lt_adapter_free(adapter);
    }
    lt_store_close(store);
    fuzz_sweep(NULL);
    return 0;
}
