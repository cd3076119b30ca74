/* SPDX-License-Identifier: MIT */
/* Runs a target over its corpus without libFuzzer, with any compiler and sanitizer; then
 * over mutations of it, the same ones every time.
 *
 * usage: TARGET [--mutations N] FILE|FOLDER...   N: of each file */
#include "fuzz.h"
#include "mutate.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SIZE (1u << 18)

#pragma weak LLVMFuzzerCustomMutator

static fuzz_rng dice = { 88172645463325252u };
static unsigned mutations;
static size_t runs;

/* Small changes: what libFuzzer's mutations consist of, without its feedback. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    size_t n = 1 + fuzz_below(&dice, 4);
    for (size_t i = 0; i < n; i++) {
        size_t at = size ? fuzz_below(&dice, size) : 0;
        size_t what = size ? fuzz_below(&dice, 5) : 3;
        size_t some = size ? 1 + fuzz_below(&dice, size - at) : 0;
        if (what == 0) data[at] ^= (uint8_t)(1u << fuzz_below(&dice, 8));
        if (what == 1) data[at] = (uint8_t)fuzz_random(&dice);
        if (what == 2 && size > 1) {
            memmove(data + at, data + at + some, size - at - some);
            size -= some < size ? some : 0;
        }
        if (what == 3 && size < max_size) {
            memmove(data + at + 1, data + at, size++ - at);
            data[at] = (uint8_t)fuzz_random(&dice);
        }
        if (what == 4)
            memmove(data + fuzz_below(&dice, size - some + 1), data + at, some);
    }
    return size;
}

static size_t mutate(uint8_t *data, size_t size, unsigned seed)
{
    return LLVMFuzzerCustomMutator ? LLVMFuzzerCustomMutator(data, size, MAX_SIZE, seed)
                                   : LLVMFuzzerMutate(data, size, MAX_SIZE);
}

/* In memory of exactly that size, so that a sanitizer sees what reads behind it. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    FUZZ_CHECK(exact);
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    runs++;
}

static int run_file(const char *path)
{
    static uint8_t data[MAX_SIZE], changed[MAX_SIZE];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    if (mutations == 0) fprintf(stderr, "%s\n", path);
    run(data, size);
    for (unsigned i = 0; i < mutations; i++) {
        memcpy(changed, data, size);
        run(changed, mutate(changed, size, i));
    }
    return 0;
}

static int run_folder(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort), bad = 0;
    if (n < 0) return run_file(path);
    for (int i = 0; i < n; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') bad |= run_file(inner);
        free(entries[i]);
    }
    free(entries);
    return bad;
}

int main(int argc, char **argv)
{
    int first = 1, bad = 0;
    if (argc > 2 && !strcmp(argv[1], "--mutations")) {
        mutations = (unsigned)strtoul(argv[2], NULL, 10);
        first = 3;
    }
    for (int i = first; i < argc; i++)
        bad |= run_folder(argv[i]);
    printf("%zu runs\n", runs);
    return bad || !runs;
}
