/* SPDX-License-Identifier: MIT */
/* What the fuzz targets share. A target is one file, fuzz_NAME.c, with
 * LLVMFuzzerTestOneInput; clang's libFuzzer drives it (tools/fuzz), and in every build
 * replay.c runs its corpus, testdata/corpora/NAME, and mutations of it. */
#ifndef LT_TESTS_FUZZ_H
#define LT_TESTS_FUZZ_H

#include "loratool/loratool.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(
    uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* libFuzzer's own mutations, or replay.c's. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* A finding: says what and aborts. */
#define FUZZ_CHECK(condition) \
    ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
void fuzz_fail(const char *file, int line, const char *what);

/* A path in a folder of this process, in memory where the system has such a place; it is
 * removed at the end. Good until the fourth next call. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *name, const void *data, size_t size);
/* A file of this header (under 256 bytes), and of zeros. */
void fuzz_write_safetensors(const char *name, const char *header, size_t data_size);
/* A folder in the folder, for names with a slash. */
void fuzz_folder(const char *name);
/* Removes everything in the folder, and fails when something other than the files
 * written by fuzz_write and the entry called output (NULL: none) is there. */
void fuzz_sweep(const char *output);

/* A status must come with a message of one line, and no file here is large enough to
 * exhaust the memory or odd enough to be our fault. Returns true for LT_OK. */
bool fuzz_judge(lt_status status, const lt_error *err);
/* Of a file, of a torch file or of a folder ("out/"). */
const char *fuzz_output_name(uint8_t option);

/* An output is there, and can be read, exactly when the operation succeeded. */
void fuzz_output(lt_status status, const char *path);

/* Reads every tensor of the store, a piece each, and its metadata. */
void fuzz_read_store(const lt_store *store);

/* Opens a model of several files, and reads it. */
void fuzz_model(const char *path);

/* Opens and reads a torch file, as a model and with everything in it. */
void fuzz_torch(const void *data, size_t size);

/* Two files and the options of an operation, as one input:
 * "LTFZ", FUZZ_OPTIONS bytes, 4 bytes little-endian size of the first file, the files. */
#define FUZZ_OPTIONS 12
typedef struct fuzz_pair {
    uint8_t options[FUZZ_OPTIONS];
    const uint8_t *file[2];
    size_t size[2];
} fuzz_pair;
bool fuzz_unpack(fuzz_pair *pair, const uint8_t *data, size_t size);

#endif
