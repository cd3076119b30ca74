/* SPDX-License-Identifier: MIT */
/* Small safetensors files built in code. */
#ifndef LT_TESTS_FILES_H
#define LT_TESTS_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A path in $TMPDIR that the caller removes. */
static inline void temp_path(char *dst, size_t size, const char *name)
{
    const char *dir = getenv("TMPDIR");
    snprintf(
        dst, size, "%s/lt-unit-%ld-%s", dir && *dir ? dir : "/tmp", (long)getpid(), name);
}

static inline int write_bytes(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    size_t done = fwrite(p, 1, n, f);
    return fclose(f) || done != n ? -1 : 0;
}

/* 8-byte length, header text, then data_size bytes of data (zeros when data is NULL). */
static inline int write_safetensors(
    const char *path, const char *header, const void *data, size_t data_size)
{
    size_t n = strlen(header);
    unsigned char *file = calloc(1, 8 + n + data_size);
    if (!file) return -1;
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, header, n);
    if (data) memcpy(file + 8 + n, data, data_size);
    int rc = write_bytes(path, file, 8 + n + data_size);
    free(file);
    return rc;
}

#endif
