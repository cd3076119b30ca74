/* SPDX-License-Identifier: MIT */
#include "base/library.h"

#include <dlfcn.h>
#include <string.h>

static lt_status find_routines(void *handle, const lt_library *l, lt_error *err)
{
    for (size_t i = 0; i < l->n_routines; i++) {
        void *found = dlsym(handle, l->routines[i].name);
        if (!found)
            return lt_error_set(err, LT_ERR_UNSUPPORTED, "%s (%s) lacks %s", l->title,
                l->name, l->routines[i].name);
        memcpy(l->routines[i].slot, &found, sizeof found);
    }
    return LT_OK;
}

lt_status lt_library_open(void **handle, const lt_library *l, lt_error *err)
{
    *handle = dlopen(l->name, RTLD_LAZY | RTLD_LOCAL);
    if (!*handle) *handle = dlopen(l->path, RTLD_LAZY | RTLD_LOCAL);
    if (!*handle) {
        const char *why = dlerror();
        return lt_error_set(
            err, LT_ERR_UNSUPPORTED, "cannot load %s: %s", l->title, why ? why : l->name);
    }
    lt_status st = find_routines(*handle, l, err);
    if (!st) return LT_OK;
    lt_library_close(*handle);
    *handle = NULL;
    return st;
}

void lt_library_close(void *handle)
{
    dlclose(handle);
}

lt_status lt_loading_run(lt_loading *loading, void (*load)(void), lt_error *err)
{
    lt_once_run(&loading->once, load);
    if (loading->status && err) *err = loading->error;
    return loading->status;
}
