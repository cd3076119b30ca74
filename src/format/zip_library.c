/* SPDX-License-Identifier: MIT */
#define LT_LIBZIP_PLAIN_NAMES
#include "format/zip_library.h"

#include "base/library.h"

struct lt_libzip lt_libzip;

static lt_loading loading;

static void load(void)
{
#define ROW(name) { #name, &lt_libzip.name },
    static const lt_routine routines[] = { LT_LIBZIP_ROUTINES(ROW) };
    static const lt_library library = { "libzip", LORATOOL_LIBZIP, LORATOOL_LIBZIP_PATH,
        routines, sizeof routines / sizeof *routines };
    void *handle;
    loading.status = lt_library_open(&handle, &library, &loading.error);
}

lt_status lt_libzip_load(lt_error *err)
{
    return lt_loading_run(&loading, load, err);
}
