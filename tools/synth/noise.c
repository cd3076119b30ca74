/* SPDX-License-Identifier: MIT */
#include "noise.h"

#include "base/mem.h"

#include <stdbool.h>

/* A stream is a sequence of segments, each read from a pseudo-random place of the block.
 */
#define SEGMENT ((size_t)1 << 10)
#define PLACES ((size_t)1 << 20)

/* splitmix64 (Steele, Lea & Flood 2014). */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The sum of four uniform numbers (Irwin-Hall): integer arithmetic, so it is the same on
 * every machine. The variance of one of 2^16 values is (2^32 - 1) / 12. */
static float near_gaussian(uint64_t bits)
{
    int sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (int)(bits >> 16 * i & 0xffff);
    return ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
}

lt_status synth_noise_init(synth_noise *noise, uint64_t seed, lt_error *err)
{
    *noise = (synth_noise){ .seed = mix(seed) };
    noise->block = lt_alloc_work(PLACES + SEGMENT, sizeof *noise->block, err);
    if (!noise->block) return LT_ERR_NOMEM;
    for (size_t i = 0; i < PLACES + SEGMENT; i++)
        noise->block[i] = near_gaussian(mix(noise->seed ^ i));
    return LT_OK;
}

void synth_noise_release(synth_noise *noise)
{
    lt_free(noise->block);
    noise->block = NULL;
}

uint64_t synth_noise_stream(const synth_noise *noise, const char *name, unsigned purpose)
{
    uint64_t h = mix(noise->seed + purpose);
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u; /* FNV-1a */
    return mix(h);
}

/* Up to n numbers of the stream from first on that lie side by side; *got of them. */
static const float *run_at(
    const synth_noise *noise, uint64_t stream, uint64_t first, size_t n, size_t *got)
{
    size_t within = (size_t)(first % SEGMENT), left = SEGMENT - within;
    size_t place = (size_t)(mix(stream + first / SEGMENT) % PLACES);
    *got = n < left ? n : left;
    return noise->block + place + within;
}

void synth_noise_fill(const synth_noise *noise, uint64_t stream, uint64_t first, size_t n,
    float mean, float deviation, float *dst)
{
    for (size_t i = 0, got; i < n; i += got) {
        const float *from = run_at(noise, stream, first + i, n - i, &got);
        for (size_t j = 0; j < got; j++)
            dst[i + j] = mean + deviation * from[j];
    }
}

void synth_noise_add(const synth_noise *noise, uint64_t stream, uint64_t first, size_t n,
    float deviation, float *dst)
{
    for (size_t i = 0, got; i < n; i += got) {
        const float *from = run_at(noise, stream, first + i, n - i, &got);
        for (size_t j = 0; j < got; j++)
            dst[i + j] += deviation * from[j];
    }
}
