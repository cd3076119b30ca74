/* SPDX-License-Identifier: MIT */
#include "mutate.h"

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES 64
#define LOCAL 30u   /* bytes of an entry's header before its name */
#define CENTRAL 46u /* the same in the directory */

struct entry {
    uint8_t *name, *content;
    size_t name_size, size;
    unsigned method, size_told; /* size_told: unpacked */
};

struct maker {
    uint8_t *out;
    size_t size, room;
    bool full;
};

static unsigned u16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static unsigned u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

/* The entry that a record of the directory tells of, or false when it is none. */
static bool read_entry(struct entry *e, uint8_t *data, size_t size, const uint8_t *record)
{
    size_t at = u32(record + 42), packed = u32(record + 20);
    if (memcmp(record, "PK\1\2", 4) || at > size || size - at < LOCAL) return false;
    size_t name = u16(data + at + 26), begin = at + LOCAL + name + u16(data + at + 28);
    if (begin > size || packed > size - begin) return false;
    *e = (struct entry){ data + at + LOCAL, data + begin, name, packed, u16(record + 10),
        u32(record + 24) };
    return true;
}

static size_t list(struct entry *entries, uint8_t *data, size_t size)
{
    size_t n = 0, end = size;
    while (end >= 22 && memcmp(data + end - 22, "PK\5\6", 4))
        end--;
    if (end < 22) return 0;
    size_t at = u32(data + end - 22 + 16);
    while (n < MAX_ENTRIES && at < size && size - at >= CENTRAL) {
        const uint8_t *record = data + at;
        if (!read_entry(&entries[n], data, size, record)) break;
        n++;
        at += CENTRAL + u16(record + 28) + u16(record + 30) + u16(record + 32);
    }
    return n;
}

static void put(struct maker *m, const void *p, size_t n)
{
    m->full |= n > m->room - m->size;
    if (m->full || !n) return;
    memcpy(m->out + m->size, p, n);
    m->size += n;
}

static void put_number(struct maker *m, uint64_t v, unsigned n)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    put(m, bytes, n);
}

static void put_fields(struct maker *m, const struct entry *e)
{
    put_number(m, 20, 2);
    put_number(m, 0, 2);
    put_number(m, e->method, 2);
    put_number(m, 0, 8); /* time and a sum of nothing, which readers do not look at */
    put_number(m, e->size, 4);
    put_number(m, e->method ? e->size_told : e->size, 4);
    put_number(m, e->name_size, 2);
}

static size_t write_all(struct maker *m, const struct entry *entries, size_t n)
{
    size_t at[MAX_ENTRIES + 1];
    for (size_t i = 0; i < n; i++) {
        at[i] = m->size;
        put(m, "PK\3\4", 4);
        put_fields(m, &entries[i]);
        put_number(m, 0, 2);
        put(m, entries[i].name, entries[i].name_size);
        put(m, entries[i].content, entries[i].size);
    }
    size_t directory = m->size;
    for (size_t i = 0; i < n; i++) {
        put(m, "PK\1\2\x14\0", 6);
        put_fields(m, &entries[i]);
        put_number(m, 0, 6);
        put_number(m, 0, 6);
        put_number(m, at[i], 4);
        put(m, entries[i].name, entries[i].name_size);
    }
    size_t size = m->size - directory;
    put(m, "PK\5\6\0\0\0\0", 8);
    put_number(m, n, 2);
    put_number(m, n, 2);
    put_number(m, size, 4);
    put_number(m, directory, 4);
    put_number(m, 0, 2);
    return m->full ? 0 : m->size;
}

size_t fuzz_mutate_zip(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_rng rng = fuzz_seed(seed);
    struct entry entries[MAX_ENTRIES + 1];
    uint8_t *copy = malloc(size + 64);
    FUZZ_CHECK(copy);
    memcpy(copy, data, size);
    memset(copy + size, 0, 64);
    size_t n = size ? list(entries, copy, size) : 0, what = fuzz_below(&rng, 12);
    if (!n || what == 0) {
        free(copy);
        return LLVMFuzzerMutate(data, size, max_size);
    }
    struct entry *e = &entries[what < 7 ? 0 : fuzz_below(&rng, n)];
    size_t room = e->size + 4096;
    uint8_t *content = malloc(room);
    FUZZ_CHECK(content);
    memcpy(content, e->content, e->size);
    if (what == 1)
        e->method = fuzz_below(&rng, 2) ? 8 : 0;
    else if (what == 9)
        entries[n++] = *e;
    else if (what == 10 && n > 1)
        *e = entries[--n];
    else if (what == 11)
        LLVMFuzzerMutate(e->name, e->name_size, e->name_size);
    else {
        e->size = LLVMFuzzerMutate(content, e->size, room);
        e->content = content;
    }
    struct maker m = { data, 0, max_size, false };
    size_t made = write_all(&m, entries, n);
    if (!made) memcpy(data, copy, made = size);
    free(content);
    free(copy);
    return made;
}
