/* SPDX-License-Identifier: MIT */
#include "mutate.h"

#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fuzz_rng fuzz_seed(unsigned seed)
{
    return (fuzz_rng){ UINT64_C(0x9e3779b97f4a7c15) * (seed + 1u) };
}

uint64_t fuzz_random(fuzz_rng *rng)
{
    rng->state ^= rng->state << 13;
    rng->state ^= rng->state >> 7;
    rng->state ^= rng->state << 17;
    return rng->state * UINT64_C(0x2545f4914f6cdd1d) >> 8;
}

size_t fuzz_below(fuzz_rng *rng, size_t n)
{
    return (size_t)(fuzz_random(rng) % n);
}

/* ---- tar --------------------------------------------------------------------------- */

static void fix_sum(uint8_t *record)
{
    unsigned sum = 0;
    memset(record + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += record[i];
    snprintf((char *)record + 148, 8, "%06o", sum);
}

size_t fuzz_mutate_tar(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    (void)seed;
    size = LLVMFuzzerMutate(data, size, max_size);
    for (size_t at = 0; at + 512 <= size; at += 512)
        if (!memcmp(data + at + 257, "ustar", 5)) fix_sum(data + at);
    return size;
}

/* ---- pairs ------------------------------------------------------------------------- */

#define HEAD (4 + FUZZ_OPTIONS + 4)

static size_t mutate_file(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    if (size > 4 && !memcmp(data, "PK\3\4", 4))
        return fuzz_mutate_zip(data, size, max_size, seed);
    if (size && *data == '{') return LLVMFuzzerMutate(data, size, max_size);
    return fuzz_mutate_safetensors(data, size, max_size, seed);
}

static size_t repack(
    uint8_t *data, const fuzz_pair *pair, uint8_t *const file[2], const size_t size[2])
{
    memcpy(data, "LTFZ", 4);
    memcpy(data + 4, pair->options, FUZZ_OPTIONS);
    for (int i = 0; i < 4; i++)
        data[4 + FUZZ_OPTIONS + i] = (uint8_t)(size[0] >> 8 * i);
    memcpy(data + HEAD, file[0], size[0]);
    memcpy(data + HEAD + size[0], file[1], size[1]);
    return HEAD + size[0] + size[1];
}

size_t fuzz_mutate_pair(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_rng rng = fuzz_seed(seed);
    fuzz_pair pair;
    if (max_size < HEAD) return size;
    if (!fuzz_unpack(&pair, data, size)) {
        pair = (fuzz_pair){ .file = { data, data } };
        size = HEAD;
    }
    size_t room = max_size - HEAD, now[2] = { pair.size[0], pair.size[1] };
    uint8_t *file[2] = { malloc(room + 1), malloc(room + 1) };
    FUZZ_CHECK(file[0] && file[1]);
    memcpy(file[0], pair.file[0], now[0]);
    memcpy(file[1], pair.file[1], now[1]);
    size_t what = fuzz_below(&rng, 10);
    unsigned inner = (unsigned)fuzz_random(&rng);
    if (what == 0)
        pair.options[fuzz_below(&rng, FUZZ_OPTIONS)] = (uint8_t)fuzz_random(&rng);
    /* With one seed, two files of the same tensors change alike. */
    if (what > 0 && what != 9) now[0] = mutate_file(file[0], now[0], room, inner);
    if (what > 5) now[1] = mutate_file(file[1], now[1], room, inner);
    if (now[0] + now[1] <= room) size = repack(data, &pair, file, now);
    free(file[0]);
    free(file[1]);
    return size;
}
