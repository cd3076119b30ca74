/* SPDX-License-Identifier: MIT */
#include "base/folder.h"

#include "base/limits.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int by_name(const void *a, const void *b)
{
    const struct lt_listed *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static lt_status add_entry(lt_listing *l, int dir, const char *name, lt_error *err)
{
    struct stat sb, own;
    if (!strcmp(name, ".") || !strcmp(name, "..")) return LT_OK;
    bool seen = !fstatat(dir, name, &sb, 0);
    /* A link that leads nowhere, or to where we may not go, is there all the same. */
    if (!seen && errno != ENOENT && errno != ELOOP && errno != ENOTDIR && errno != EACCES)
        return lt_error_sys(err, errno, "cannot look at '%s': %s", name, strerror(errno));
    if (l->count >= LT_MAX_FOLDER_ENTRIES)
        return lt_error_set(
            err, LT_ERR_LIMIT, "the folder has over %u entries", LT_MAX_FOLDER_ENTRIES);
    lt_status st =
        lt_grow((void **)&l->items, &l->capacity, l->count + 1, sizeof *l->items, err);
    if (st) return st;
    struct lt_listed item = { .name = lt_strdup(name, err),
        .is_folder = seen && S_ISDIR(sb.st_mode),
        .is_other = !seen || (!S_ISREG(sb.st_mode) && !S_ISDIR(sb.st_mode)),
        .is_link =
            !fstatat(dir, name, &own, AT_SYMLINK_NOFOLLOW) && S_ISLNK(own.st_mode) };
    if (!item.name) return LT_ERR_NOMEM;
    l->items[l->count++] = item;
    return LT_OK;
}

/* Only errno tells the end of a folder from a failure. */
static lt_status read_entries(lt_listing *l, DIR *dir, lt_error *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && !errno) return LT_OK;
        if (!e)
            return lt_error_sys(
                err, errno, "cannot list the folder: %s", strerror(errno));
        lt_status st = add_entry(l, dirfd(dir), e->d_name, err);
        if (st) return st;
    }
}

lt_status lt_listing_read(lt_listing *l, const char *folder, lt_error *err)
{
    *l = (lt_listing){ 0 };
    DIR *dir = opendir(*folder ? folder : ".");
    if (!dir) {
        lt_error_sys(err, errno, "cannot list the folder: %s", strerror(errno));
        lt_error_where(err, "%s", folder);
        return LT_ERR_IO;
    }
    lt_status st = read_entries(l, dir, err);
    closedir(dir);
    if (st) {
        lt_listing_release(l);
        lt_error_where(err, "%s", folder);
        return st;
    }
    if (l->count) qsort(l->items, l->count, sizeof *l->items, by_name);
    return LT_OK;
}

void lt_listing_release(lt_listing *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i].name);
    free(l->items);
    *l = (lt_listing){ 0 };
}

bool lt_listing_has(const lt_listing *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (!l->items[i].is_folder && !l->items[i].is_other
            && !strcmp(l->items[i].name, name))
            return true;
    return false;
}

bool lt_is_plain_name(const char *name)
{
    return *name && strcmp(name, "-") && strcmp(name, ".") && strcmp(name, "..")
        && !strchr(name, '/');
}
