/* SPDX-License-Identifier: MIT */
/* Open addressing, linear probing, at most two thirds full. */
#include "base/map.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct lt_map_slot {
    const char *key; /* NULL: free */
    size_t value;
    uint64_t hash;
};

/* Names come from strangers, who must not know which of them collide. Drawn once: the
 * first thread that stores it wins. */
static uint64_t seed(void)
{
    static _Atomic uint64_t drawn;
    uint64_t value = atomic_load_explicit(&drawn, memory_order_relaxed), none = 0;
    if (value) return value;
    struct timespec now = { 0 };
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value) {
        clock_gettime(CLOCK_REALTIME, &now);
        value = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uintptr_t)&now;
    }
    value |= 1;
    return atomic_compare_exchange_strong(&drawn, &none, value) ? value : none;
}

static struct lt_map_slot *probe(
    const lt_map *map, const char *key, size_t size, uint64_t hash)
{
    size_t mask = map->n_slots - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct lt_map_slot *s = &map->slots[i];
        if (!s->key) return s;
        if (s->hash == hash && !strncmp(s->key, key, size) && !s->key[size]) return s;
    }
}

lt_status lt_map_reserve(lt_map *map, size_t count, lt_error *err)
{
    size_t n = map->n_slots ? map->n_slots : 64;
    if (count > SIZE_MAX / 8) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    while (n * 2 < count * 3)
        n *= 2;
    if (n == map->n_slots) return LT_OK;
    lt_map next = { calloc(n, sizeof *next.slots), n, map->count };
    if (!next.slots) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < map->n_slots; i++) {
        struct lt_map_slot *s = &map->slots[i];
        if (s->key) *probe(&next, s->key, strlen(s->key), s->hash) = *s;
    }
    free(map->slots);
    *map = next;
    return LT_OK;
}

lt_status lt_map_put(
    lt_map *map, const char *key, size_t value, size_t *found, lt_error *err)
{
    if (found) *found = LT_MAP_NONE;
    lt_status st = lt_map_reserve(map, map->count + 1, err);
    if (st) return st;
    size_t size = strlen(key);
    uint64_t hash = lt_hash(key, size);
    struct lt_map_slot *s = probe(map, key, size, hash);
    if (s->key) {
        if (found) *found = s->value;
        return LT_OK;
    }
    *s = (struct lt_map_slot){ key, value, hash };
    map->count++;
    return LT_OK;
}

size_t lt_map_getn(const lt_map *map, const char *key, size_t size)
{
    if (!map->n_slots) return LT_MAP_NONE;
    struct lt_map_slot *s = probe(map, key, size, lt_hash(key, size));
    return s->key ? s->value : LT_MAP_NONE;
}

size_t lt_map_get(const lt_map *map, const char *key)
{
    return lt_map_getn(map, key, strlen(key));
}

void lt_map_set(lt_map *map, const char *key, size_t value)
{
    if (!map->n_slots) return;
    size_t size = strlen(key);
    struct lt_map_slot *s = probe(map, key, size, lt_hash(key, size));
    if (s->key) s->value = value;
}

void lt_map_release(lt_map *map)
{
    free(map->slots);
    *map = (lt_map){ 0 };
}

uint64_t lt_hash(const void *p, size_t size)
{
    return XXH3_64bits_withSeed(p, size, seed());
}
