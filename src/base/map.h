/* SPDX-License-Identifier: MIT */
/* Name → index. Keys are borrowed and must outlive the map. */
#ifndef LT_BASE_MAP_H
#define LT_BASE_MAP_H

#include "loratool/error.h"

#include <stdbool.h>

#define LT_MAP_NONE SIZE_MAX

struct lt_map_slot;
typedef struct lt_map {
    struct lt_map_slot *slots;
    size_t n_slots, count;
} lt_map;

/* Stores value under key. When the key is there already nothing changes and *found (if
 * not NULL) gets the value it has; otherwise *found gets LT_MAP_NONE. */
lt_status lt_map_put(
    lt_map *map, const char *key, size_t value, size_t *found, lt_error *err) LT_MUST_USE;
/* Makes room for count keys at once. */
lt_status lt_map_reserve(lt_map *map, size_t count, lt_error *err) LT_MUST_USE;
size_t lt_map_get(const lt_map *map, const char *key); /* LT_MAP_NONE when absent */
size_t lt_map_getn(const lt_map *map, const char *key, size_t key_size);
/* Replaces the value of a key that is there. */
void lt_map_set(lt_map *map, const char *key, size_t value);
void lt_map_release(lt_map *map);

/* Of some bytes, for tables of other kinds: XXH3 with a seed that each process draws, so
 * that nothing which is written may depend on it. */
uint64_t lt_hash(const void *p, size_t size);

#endif
