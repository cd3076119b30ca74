/* SPDX-License-Identifier: MIT */
/* Which files an adapter's path stands for: a file, or PEFT's or diffusers' folder, and
 * the config that goes with it. */
#include "adapter/kind.h"

#include "base/source.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The first of the names that is in the folder (ending in a slash), into file. */
static lt_status find_in(const char *folder, const char *const *names, char *file,
    size_t size, bool *found, lt_error *err)
{
    *found = false;
    for (; *names && !*found; names++) {
        lt_path_kind kind;
        snprintf(file, size, "%s%s", folder, *names);
        lt_status st = lt_path_look(file, &kind, err);
        if (st) return st;
        *found = kind != LT_PATH_NONE;
        if (kind == LT_PATH_OTHER) {
            lt_error_set(err, LT_ERR_FORMAT, "is a pipe or a device, not a file");
            return lt_error_where(err, "%s", file);
        }
    }
    return LT_OK;
}

/* Empties config when there is no such file. One that cannot be looked at is an error:
 * without it the adapter would be taken for one of another scale. */
static lt_status keep_if_there(char *config, lt_error *err)
{
    lt_path_kind kind;
    lt_status st = lt_path_look(config, &kind, err);
    if (!st && kind == LT_PATH_NONE) *config = '\0';
    return st;
}

/* PEFT's names, then diffusers'; safetensors before pickles. */
static const char *const peft_files[] = { "adapter_model.safetensors",
    "adapter_model.bin", NULL };
static const char *const diffusers_files[] = { "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights.bin", NULL };

/* The tensor file of an adapter's folder, and the sidecar that goes with it. */
static lt_status locate_in_folder(
    const char *path, char *file, char *config, size_t size, lt_error *err)
{
    char folder[4096];
    const char *sep = path[strlen(path) - 1] == '/' ? "" : "/";
    snprintf(folder, sizeof folder, "%s%s", path, sep);
    snprintf(config, size, "%sadapter_config.json", folder);
    bool found = false;
    lt_status st = keep_if_there(config, err);
    bool peft = *config != '\0';
    if (!st)
        st =
            find_in(folder, peft ? peft_files : diffusers_files, file, size, &found, err);
    if (st || found) return st;
    lt_error_set(err, LT_ERR_MISMATCH,
        peft ? "holds adapter_config.json, but no adapter_model.safetensors or .bin"
             : "is a folder without adapter_config.json or pytorch_lora_weights: not an "
               "adapter");
    return lt_error_where(err, "%s", path);
}

int lt_adapter_config_beside(const char *path, char *config, size_t size)
{
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path + 1) : 0;
    *config = '\0';
    if (strncmp(path + dir, "adapter_model.", 14)) return -1;
    snprintf(config, size, "%.*sadapter_config.json", dir, path);
    return dir;
}

lt_status lt_adapter_locate(
    const char *path, char *file, char *config, size_t size, lt_error *err)
{
    *config = '\0';
    snprintf(file, size, "%s", path);
    if (!strcmp(path, "-")) return LT_OK;
    lt_path_kind kind;
    lt_status st = lt_path_look(path, &kind, err);
    if (st) return st;
    if (kind == LT_PATH_FOLDER) return locate_in_folder(path, file, config, size, err);
    if (lt_adapter_config_beside(path, config, size) < 0) return LT_OK;
    return keep_if_there(config, err);
}

lt_status lt_adapter_is_folder(const char *path, bool *is, lt_error *err)
{
    char file[4200], config[4200];
    lt_path_kind kind;
    *is = false;
    if (strlen(path) >= 4000 || !strcmp(path, "-")) return LT_OK;
    lt_status st = lt_path_look(path, &kind, err);
    if (st || kind != LT_PATH_FOLDER) return st;
    st = locate_in_folder(path, file, config, sizeof file, err);
    *is = !st || (st == LT_ERR_MISMATCH && *config);
    return st == LT_ERR_MISMATCH ? LT_OK : st;
}

lt_status lt_adapter_has_config(const char *path, bool *has, lt_error *err)
{
    char file[4200], config[4200];
    *has = false;
    if (strlen(path) >= 4000) return LT_OK;
    lt_status st = lt_adapter_locate(path, file, config, sizeof file, err);
    *has = !st && *config;
    return st == LT_ERR_MISMATCH ? LT_OK : st;
}

lt_status lt_adapter_keeps_config(
    const char *path, const char *output, bool *keeps, lt_error *err)
{
    char file[4200], mine[4200], theirs[4200];
    struct stat a, b;
    *keeps = false;
    if (strlen(path) >= 4000 || strlen(output) >= 4000) return LT_OK;
    lt_status st = lt_adapter_locate(path, file, mine, sizeof file, err);
    if (st) return st;
    if (lt_adapter_config_beside(output, theirs, sizeof theirs) < 0) return LT_OK;
    *keeps = !stat(mine, &a) && !stat(theirs, &b) && a.st_dev == b.st_dev
        && a.st_ino == b.st_ino;
    return LT_OK;
}
