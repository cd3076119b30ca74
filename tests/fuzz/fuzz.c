/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* nftw */
#include "fuzz.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_INPUTS 8

static char folder[256];
static char inputs[MAX_INPUTS][64]; /* names written since the last sweep */
static size_t n_inputs;

void fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

static int remove_entry(const char *path, const struct stat *sb, int type, struct FTW *at)
{
    (void)sb;
    (void)type;
    return at->level ? remove(path) : 0;
}

static void clear_folder(void)
{
    nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void remove_folder(void)
{
    clear_folder();
    rmdir(folder);
}

static void make_folder(void)
{
    const char *dir = getenv("TMPDIR");
    if (!dir || !*dir) dir = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(folder, sizeof folder, "%s/loratool-fuzz-XXXXXX", dir);
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    lt_init();
}

const char *fuzz_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    if (!*folder) make_folder();
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void fuzz_write(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(fuzz_path(name), "wb");
    FUZZ_CHECK(f && n_inputs < MAX_INPUTS);
    setvbuf(f, NULL, _IONBF, 0);
    FUZZ_CHECK(!size || fwrite(data, 1, size, f) == size);
    fclose(f);
    snprintf(inputs[n_inputs++], sizeof inputs[0], "%s", name);
}

void fuzz_folder(const char *name)
{
    FUZZ_CHECK(n_inputs < MAX_INPUTS);
    FUZZ_CHECK(!mkdir(fuzz_path(name), 0777));
    snprintf(inputs[n_inputs++], sizeof inputs[0], "%s", name);
}

void fuzz_write_safetensors(const char *name, const char *header, size_t data_size)
{
    uint8_t file[512] = { (uint8_t)strlen(header) };
    size_t size = strlen(header);
    FUZZ_CHECK(size < 256 && 8 + size + data_size <= sizeof file);
    memcpy(file + 8, header, size);
    fuzz_write(name, file, 8 + size + data_size);
}

static bool expected(const char *name, const char *output)
{
    if (!strcmp(name, ".") || !strcmp(name, "..")) return true;
    size_t n = output ? strcspn(output, "/") : 0;
    if (output && !strncmp(name, output, n) && !name[n]) return true;
    for (size_t i = 0; i < n_inputs; i++)
        if (!strcmp(name, inputs[i])) return true;
    return false;
}

void fuzz_sweep(const char *output)
{
    DIR *dir = opendir(folder);
    FUZZ_CHECK(dir != NULL);
    for (struct dirent *e; (e = readdir(dir));)
        FUZZ_CHECK(expected(e->d_name, output));
    closedir(dir);
    clear_folder();
    n_inputs = 0;
}

bool fuzz_judge(lt_status status, const lt_error *err)
{
    if (status == LT_OK) return true;
    FUZZ_CHECK(status == err->code);
    FUZZ_CHECK(*err->msg && !strchr(err->msg, '\n'));
    FUZZ_CHECK(status != LT_ERR_INTERNAL);
    FUZZ_CHECK(status != LT_ERR_NOMEM);
    return false;
}

const char *fuzz_output_name(uint8_t option)
{
    static const char *const names[] = { "out.safetensors", "out.pt", "out/" };
    return names[option % 3];
}

void fuzz_output(lt_status status, const char *path)
{
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    if (status) {
        FUZZ_CHECK(access(path, F_OK));
        return;
    }
    lt_status st = lt_store_open(&store, path, &err);
    if (st) fprintf(stderr, "%s: %s\n", err.where, err.msg);
    FUZZ_CHECK(!st);
    fuzz_read_store(store);
    lt_store_close(store);
}

void fuzz_read_store(const lt_store *store)
{
    char piece[512];
    const lt_metadata *meta = lt_store_metadata(store);
    for (size_t i = 0; i < meta->count; i++)
        FUZZ_CHECK(lt_metadata_get(meta, meta->entries[i].key) != NULL);
    for (size_t i = 0; i < lt_store_count(store); i++) {
        lt_error err = LT_ERROR_INIT;
        const lt_tensor *t = lt_store_at(store, i);
        size_t n = t->size < sizeof piece ? (size_t)t->size : sizeof piece;
        FUZZ_CHECK(lt_store_find(store, t->name) == t);
        FUZZ_CHECK(lt_store_alias(store, i) <= i);
        /* The end: what lies behind it is what a wrong size reaches first. */
        fuzz_judge(lt_store_read(store, t, t->size - n, piece, n, &err), &err);
    }
}

void fuzz_model(const char *path)
{
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    if (!fuzz_judge(lt_store_open(&store, path, &err), &err)) return;
    for (size_t i = 0; i < lt_store_count(store); i++) {
        size_t file = lt_store_file_of(store, lt_store_at(store, i));
        FUZZ_CHECK(file < lt_store_file_count(store));
        FUZZ_CHECK(*lt_store_file(store, file));
    }
    fuzz_read_store(store);
    lt_store_close(store);
}

bool fuzz_unpack(fuzz_pair *pair, const uint8_t *data, size_t size)
{
    const size_t head = 4 + FUZZ_OPTIONS + 4;
    if (size < head || memcmp(data, "LTFZ", 4)) return false;
    memcpy(pair->options, data + 4, FUZZ_OPTIONS);
    size_t first = 0;
    for (int i = 3; i >= 0; i--)
        first = first << 8 | data[4 + FUZZ_OPTIONS + i];
    if (first > size - head) return false;
    pair->file[0] = data + head;
    pair->size[0] = first;
    pair->file[1] = data + head + first;
    pair->size[1] = size - head - first;
    return true;
}

static void open_torch_as(lt_reading reading)
{
    lt_error err = LT_ERROR_INIT, unfit = LT_ERROR_INIT;
    lt_store *store = NULL;
    if (!fuzz_judge(lt_store_open_as(&store, fuzz_path("a.pt"), reading, &err), &err))
        return;
    fuzz_judge(lt_store_usable(store, false, &unfit), &unfit);
    fuzz_read_store(store);
    lt_store_close(store);
}

void fuzz_torch(const void *data, size_t size)
{
    fuzz_write("a.pt", data, size);
    open_torch_as(LT_READ_MODEL);
    open_torch_as(LT_READ_EVERYTHING);
    fuzz_sweep(NULL);
}
