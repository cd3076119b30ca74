/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* renameat2 */
#include "base/outfolder.h"

#include "base/abandon.h"
#include "base/arena.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/source.h"
#include "base/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lt_outfolder {
    lt_arena arena;
    char *path;  /* as it will be called, without a slash at its end */
    char *temp;  /* NULL: it exists and is written into */
    bool empty;  /* it exists and was empty: a failure leaves it so */
    char **made; /* files and folders in it, in the order they were asked for */
    size_t n_made, capacity;
    bool committed;
};

static lt_status failed(const char *what, const char *path, lt_error *err)
{
    int sys = errno;
    lt_error_sys(err, sys, "%s: %s", what, strerror(sys));
    return lt_error_where(err, "%s", path);
}

/* In a folder that holds something nothing is removed by a signal: it may have been
 * there.
 */
static bool is_ours(const lt_outfolder *f)
{
    return f->temp || f->empty;
}

static lt_status make_room(lt_outfolder *f, lt_error *err)
{
    return lt_grow((void **)&f->made, &f->capacity, f->n_made + 1, sizeof *f->made, err);
}

/* *fresh: there is no such folder; *empty: there is one with nothing in it. */
static lt_status look(
    const char *path, bool overwrite, bool *fresh, bool *empty, lt_error *err)
{
    struct stat sb;
    lt_listing entries;
    lt_path_kind kind;
    *empty = false;
    *fresh = lstat(path, &sb) != 0;
    if (*fresh) return errno == ENOENT ? LT_OK : failed("cannot look at it", path, err);
    lt_status st = lt_path_look(path, &kind, err);
    if (st) return st;
    if (kind != LT_PATH_FOLDER) {
        lt_error_set(err, LT_ERR_EXISTS, "the output exists and is no folder");
        return lt_error_where(err, "%s", path);
    }
    st = lt_listing_read(&entries, path, err);
    if (st) return st;
    *empty = entries.count == 0;
    lt_listing_release(&entries);
    if (*empty || overwrite) return LT_OK;
    lt_error_set(err, LT_ERR_EXISTS,
        "the output folder exists and is not empty; use -f to write into it");
    return lt_error_where(err, "%s", path);
}

static lt_status open_folder(
    lt_outfolder *f, const char *path, bool overwrite, lt_error *err)
{
    bool fresh;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    f->path = lt_arena_strndup(&f->arena, path, n, err);
    if (!f->path) return LT_ERR_NOMEM;
    lt_status st = look(f->path, overwrite, &fresh, &f->empty, err);
    if (st || !fresh) return st;
    st = lt_temp_folder(&f->temp, f->path, err);
    return st ? lt_error_where(err, "%s", f->path) : LT_OK;
}

lt_status lt_outfolder_open(
    lt_outfolder **out, const char *path, bool overwrite, lt_error *err)
{
    *out = NULL;
    lt_outfolder *f = calloc(1, sizeof *f);
    if (!f) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    lt_status st = open_folder(f, path, overwrite, err);
    if (st) {
        lt_outfolder_close(f);
        return st;
    }
    *out = f;
    return LT_OK;
}

static lt_status make_folders(
    lt_outfolder *f, const char *root, const char *name, lt_error *err)
{
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        char *path =
            lt_arena_printf(&f->arena, err, "%s/%.*s", root, (int)(slash - name), name);
        lt_status st = path ? make_room(f, err) : LT_ERR_NOMEM;
        if (st) return st;
        if (is_ours(f)) lt_abandon_remember(path);
        if (!mkdir(path, 0777)) {
            f->made[f->n_made++] = path;
            continue;
        }
        int sys = errno;
        if (is_ours(f)) lt_abandon_forget(path);
        if (sys == EEXIST && lt_is_folder(path)) continue;
        errno = sys;
        return failed("cannot create the folder", path, err);
    }
    return LT_OK;
}

const char *lt_outfolder_file(lt_outfolder *f, const char *name, lt_error *err)
{
    const char *root = f->temp ? f->temp : f->path;
    if (make_folders(f, root, name, err)) return NULL;
    char *path = lt_arena_printf(&f->arena, err, "%s/%s", root, name);
    if (!path || make_room(f, err)) return NULL;
    if (!is_ours(f)) return path;
    f->made[f->n_made++] = path;
    lt_abandon_remember(path);
    return path;
}

const char *lt_outfolder_existing(const lt_outfolder *f)
{
    return is_ours(f) ? NULL : f->path;
}

static void forget(lt_outfolder *f)
{
    for (size_t i = is_ours(f) ? f->n_made : 0; i-- > 0;)
        lt_abandon_forget(f->made[i]);
    if (f->temp) lt_abandon_forget(f->temp);
}

lt_status lt_outfolder_commit(lt_outfolder *f, lt_error *err)
{
    if (f->temp) {
        if (renameat2(AT_FDCWD, f->temp, AT_FDCWD, f->path, RENAME_NOREPLACE)
            && (!lt_is_unsupported(errno) || rename(f->temp, f->path)))
            return failed("cannot rename the finished folder", f->path, err);
    }
    forget(f);
    f->committed = true;
    int fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* best effort: some file systems refuse it for folders */
        close(fd);
    }
    return LT_OK;
}

void lt_outfolder_close(lt_outfolder *f)
{
    if (!f) return;
    if (!f->committed) {
        for (size_t i = f->n_made; i-- > 0;) {
            /* In a folder that held something only folders were remembered. */
            if (is_ours(f)) unlink(f->made[i]);
            rmdir(f->made[i]);
        }
        if (f->temp) rmdir(f->temp);
        forget(f);
    }
    lt_arena_release(&f->arena);
    free(f->temp);
    free(f->made);
    free(f);
}
