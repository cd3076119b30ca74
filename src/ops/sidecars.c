/* SPDX-License-Identifier: MIT */
#include "ops/sidecars.h"

#include "base/folder.h"
#include "base/limits.h"
#include "base/source.h"
#include "format/weight_name.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct walk {
    lt_writer *writer;
    const lt_store *store;
    const char *root, *output;
    bool linked; /* the folder that is walked lies behind a link */
    size_t *copied;
    lt_notes *left;
    lt_arena arena;
};

static bool is_part(const lt_store *store, const char *name)
{
    for (size_t i = 0; i < lt_store_file_count(store); i++)
        if (!strcmp(lt_store_file(store, i), name)) return true;
    return false;
}

/* Some file of the model lies in that folder. */
static bool holds_part(const lt_store *store, const char *folder)
{
    for (size_t i = 0; i < lt_store_file_count(store); i++)
        if (!strncmp(lt_store_file(store, i), folder, strlen(folder))) return true;
    return false;
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static lt_status pass_over(struct walk *w, const char *name, lt_error *err)
{
    lt_weight_name parsed;
    bool index = lt_weight_name_parse(name, &parsed) && parsed.is_index;
    if (index || is_part(w->store, name)) return LT_OK;
    return lt_notes_add(
        w->left, name, 0, err, "weights that the model was not read from: not copied");
}

/* path lies in folder or below it; both without links. */
static bool is_within(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (path[n] == '/' || (n && folder[n - 1] == '/'));
}

/* Hugging Face's cache: snapshots/REVISION/NAME is a link into blobs beside snapshots. */
static bool is_blob(const char *target, const char *home)
{
    static const char snapshots[] = "/snapshots/";
    bool found = false;
    for (const char *s = home; !found && (s = strstr(s, snapshots)) != NULL; s++) {
        char blobs[PATH_MAX + 8], resolved[PATH_MAX];
        snprintf(blobs, sizeof blobs, "%.*s/blobs", (int)(s - home), home);
        found = realpath(blobs, resolved) && is_within(target, resolved);
    }
    return found;
}

/* A folder from a stranger may hold a link to a secret of its user, who would publish it
 * with the output. */
static bool leads_out(const char *root, const char *path)
{
    char target[PATH_MAX], top[PATH_MAX], home[PATH_MAX];
    size_t dir = (size_t)(strrchr(path, '/') - path);
    if (dir >= sizeof home) return true;
    snprintf(home, sizeof home, "%.*s", dir ? (int)dir : 1, path);
    char *resolved = realpath(home, NULL);
    bool told = resolved && realpath(path, target) && realpath(root, top);
    bool inside = told
        && (is_within(target, top) || is_within(target, resolved)
            || is_blob(target, resolved));
    free(resolved);
    return !inside;
}

static lt_status copy_folder(
    struct walk *w, const char *folder, unsigned depth, lt_error *err);

/* Of a component that is a link only what a component has is taken, its config. */
static lt_status enter_folder(
    struct walk *w, const char *folder, bool is_link, unsigned depth, lt_error *err)
{
    bool before = w->linked;
    w->linked |= is_link;
    lt_status st = copy_folder(w, folder, depth, err);
    w->linked = before;
    return st;
}

static lt_status copy_entry(struct walk *w, const char *folder,
    const struct lt_listed *item, unsigned depth, lt_error *err)
{
    if (*item->name == '.') return LT_OK;
    char *name = lt_arena_printf(&w->arena, err, "%s%s", folder, item->name);
    char *path = lt_arena_printf(&w->arena, err, "%s%s", w->root, name);
    if (!name || !path) return LT_ERR_NOMEM;
    if (item->is_folder) {
        char *inner = lt_arena_printf(&w->arena, err, "%s/", name);
        if (!inner) return LT_ERR_NOMEM;
        if (same_folder(path, w->output)) return LT_OK; /* it lies in the input */
        if ((item->is_link && !holds_part(w->store, inner))
            || depth == LT_MAX_FOLDER_DEPTH)
            return lt_notes_add(
                w->left, inner, 0, err, "a linked or very deep folder: not copied");
        return enter_folder(w, inner, item->is_link, depth + 1, err);
    }
    if (lt_is_weight_file(item->name) || is_part(w->store, name))
        return pass_over(w, name, err);
    if (w->linked && strcmp(item->name, "config.json"))
        return lt_notes_add(
            w->left, name, 0, err, "in a folder behind a link: not copied");
    if (item->is_other)
        return lt_notes_add(
            w->left, name, 0, err, "a pipe, a device or a link to nothing: not copied");
    if (item->is_link && leads_out(w->root, path))
        return lt_notes_add(
            w->left, name, 0, err, "a link that leads out of the folder: not copied");
    if (*w->copied >= LT_MAX_SIDECARS)
        return lt_error_set(
            err, LT_ERR_LIMIT, "over %u files beside the weights", LT_MAX_SIDECARS);
    ++*w->copied;
    return lt_writer_copy_file(w->writer, name, path, err);
}

static lt_status copy_folder(
    struct walk *w, const char *folder, unsigned depth, lt_error *err)
{
    lt_listing entries;
    char *path = lt_arena_printf(&w->arena, err, "%s%s", w->root, folder);
    if (!path) return LT_ERR_NOMEM;
    lt_status st = lt_listing_read(&entries, path, err);
    for (size_t i = 0; i < entries.count && !st; i++)
        st = copy_entry(w, folder, &entries.items[i], depth, err);
    lt_listing_release(&entries);
    return st;
}

lt_status lt_sidecars_copy(lt_writer *writer, const lt_store *store, const char *output,
    size_t *copied, lt_notes *left, lt_error *err)
{
    const char *root = lt_store_folder(store);
    if (!root || !lt_path_is_folder_output(output) || same_folder(root, output))
        return LT_OK;
    struct walk w = {
        .writer = writer,
        .store = store,
        .root = root,
        .output = output,
        .copied = copied,
        .left = left,
    };
    lt_status st = copy_folder(&w, "", 0, err);
    lt_arena_release(&w.arena);
    return st;
}
