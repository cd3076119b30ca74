/* SPDX-License-Identifier: MIT */
#include "base/source.h"
#include "ops/common.h"

#include <string.h>

static lt_status open_store(
    lt_info *info, const char *path, lt_reading reading, lt_error *err)
{
    lt_status st = lt_store_open_as(&info->owned_store, path, reading, err);
    if (st) return st;
    info->store = info->owned_store;
    if (lt_store_holds_adapter(info->store)) return LT_OK;
    st = lt_model_new(&info->model, info->store, err);
    if (st) return st;
    bool known = strcmp(lt_family_id(lt_model_family(info->model)), "unknown") != 0;
    info->role = known ? LT_ROLE_BASE : LT_ROLE_UNKNOWN;
    return LT_OK;
}

static void count(lt_info *info)
{
    for (size_t i = 0; i < lt_store_count(info->store); i++) {
        const lt_tensor *t = lt_store_at(info->store, i);
        info->params += t->count;
        info->bytes += t->size;
        info->dtypes[t->dtype]++;
    }
}

lt_status lt_info_open_as(
    lt_info *info, const char *path, lt_reading reading, lt_error *err)
{
    *info = (lt_info){ 0 };
    bool folder;
    lt_status st = lt_adapter_is_folder(path, &folder, err);
    if (st) return st;
    if (folder) {
        st = lt_adapter_open(&info->adapter, path, err);
    } else {
        st = open_store(info, path, reading, err);
        if (!st && !info->model) {
            /* Read once: it may be standard input, and headers can be long. */
            bool alone = reading == LT_READ_EVERYTHING || lt_is_folder(path);
            if (alone || !strcmp(path, "-"))
                st = lt_adapter_new(&info->adapter, &info->owned_store, err);
            else
                st = lt_adapter_open_with(&info->adapter, path, &info->owned_store, err);
        }
    }
    if (!st && info->adapter) {
        info->store = lt_adapter_store(info->adapter);
        info->role = LT_ROLE_ADAPTER;
    }
    if (!st) count(info);
    if (st) lt_info_release(info);
    return st;
}

lt_status lt_info_open(lt_info *info, const char *path, lt_error *err)
{
    return lt_info_open_as(info, path, LT_READ_MODEL, err);
}

lt_status lt_info_hash(
    const lt_info *info, size_t file, lt_info_hashes *out, lt_error *err)
{
    *out = (lt_info_hashes){ 0 };
    lt_status st = lt_store_hash(info->store, file, &out->of, err);
    if (st) return st;
    const lt_metadata *meta = lt_store_file_metadata(info->store, file);
    out->n_claims = lt_claims_check(meta, &out->of, out->claims);
    return LT_OK;
}

void lt_info_release(lt_info *info)
{
    lt_model_free(info->model);
    lt_adapter_free(info->adapter);
    lt_store_close(info->owned_store);
    *info = (lt_info){ 0 };
}
