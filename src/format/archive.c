/* SPDX-License-Identifier: MIT */
/* Reading zip archives. libzip does not tell where an entry's data lies in the file, but
 * it reads through a source of ours, which sees that: opening an entry reads its local
 * header, and the next read is that of its data. For stored entries the place is proved
 * by comparing what lies there with what libzip unpacks. */
#include "format/archive.h"

#include "base/arena.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "base/pool.h"
#include "format/zip_library.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_STREAMS 8
#define SKIP_SIZE 65536u
#define KEEP_SIZE ((size_t)1 << 20)
#define MOST_PASSES 4u /* through an entry, before it is kept */
#define PROOF_SIZE 64u
#define HEADER_SIZE 30u /* of an entry, without name */
#define LENGTHS_AT 26u  /* in it: of the name, 2 bytes, and of what follows it */

/* An entry that is being unpacked. */
struct stream {
    zip_file_t *file; /* NULL: free */
    size_t entry;
    uint64_t at;   /* position in the content */
    uint64_t used; /* when it was read last */
};

/* What reading a deflated entry has cost, and where its content lies in the scratch file.
 */
struct unpacked {
    uint64_t bytes;
    uint64_t at; /* 1 more; 0: nowhere */
};

struct lt_archive {
    const lt_source *source;
    zip_t *zip;
    lt_arena arena;
    lt_entry *entries;
    size_t count;
    lt_map by_name;
    /* libzip's view of the source. */
    uint64_t position;
    uint64_t first_read; /* since it was set to LT_NO_OFFSET */
    zip_error_t error;
    lt_error failed; /* why a read of the source failed, while libzip hands that on */
    /* Everything below, and libzip itself, is used under the lock. */
    lt_lock *lock;
    struct stream streams[N_STREAMS];
    uint64_t clock;
    struct unpacked *unpacked; /* of each entry, from the first that is unpacked on */
    lt_outfile *scratch;
    uint64_t scratch_size;
};

/* ---- libzip's source --------------------------------------------------------------- */

static zip_int64_t read_source(lt_archive *a, void *data, zip_uint64_t size)
{
    uint64_t left = lt_source_size(a->source) - a->position;
    if (size > left) size = left;
    if (a->first_read == LT_NO_OFFSET) a->first_read = a->position;
    if (lt_source_read(a->source, a->position, data, (size_t)size, &a->failed)) {
        zip_error_set(&a->error, ZIP_ER_READ, 0);
        return -1;
    }
    a->position += size;
    return (zip_int64_t)size;
}

static zip_int64_t stat_source(lt_archive *a, void *data, zip_uint64_t size)
{
    zip_stat_t *st = data;
    if (size < sizeof *st) return -1;
    zip_stat_init(st);
    st->size = lt_source_size(a->source);
    st->valid = ZIP_STAT_SIZE;
    return (zip_int64_t)sizeof *st;
}

static zip_int64_t seek_source(lt_archive *a, void *data, zip_uint64_t size)
{
    zip_int64_t to = zip_source_seek_compute_offset(
        a->position, lt_source_size(a->source), data, size, &a->error);
    if (to < 0) return -1;
    a->position = (uint64_t)to;
    return 0;
}

static zip_int64_t serve(
    void *state, void *data, zip_uint64_t size, zip_source_cmd_t command)
{
    lt_archive *a = state;
    switch (command) {
    case ZIP_SOURCE_OPEN: a->position = 0; return 0;
    case ZIP_SOURCE_READ: return read_source(a, data, size);
    case ZIP_SOURCE_CLOSE: return 0;
    case ZIP_SOURCE_STAT: return stat_source(a, data, size);
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&a->error, data, size);
    case ZIP_SOURCE_FREE: return 0;
    case ZIP_SOURCE_SEEK: return seek_source(a, data, size);
    case ZIP_SOURCE_TELL: return (zip_int64_t)a->position;
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ,
            ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE,
            ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, ZIP_SOURCE_SUPPORTS, -1);
    default: zip_error_set(&a->error, ZIP_ER_OPNOTSUPP, 0); return -1;
    }
}

/* Before libzip is asked for something that can fail. */
static void forget_faults(lt_archive *a)
{
    errno = 0;
    a->failed = (lt_error)LT_ERROR_INIT;
}

/* libzip takes some reads that failed for the end of the file, and some allocations that
 * did for a file that is no archive; the source and errno know better. */
static lt_status zip_fault(lt_archive *a, lt_error *err, const zip_error_t *error)
{
    int code = zip_error_code_zip(error);
    if (a->failed.code) {
        lt_status why = a->failed.code;
        if (err) *err = a->failed;
        return why;
    }
    if (code == ZIP_ER_MEMORY || errno == ENOMEM)
        return lt_error_set(err, LT_ERR_NOMEM, "zip: out of memory");
    lt_status st = code == ZIP_ER_READ                           ? LT_ERR_IO
        : code == ZIP_ER_COMPNOTSUPP || code == ZIP_ER_MULTIDISK ? LT_ERR_UNSUPPORTED
                                                                 : LT_ERR_FORMAT;
    if (code == ZIP_ER_NOZIP)
        return lt_error_at(err, st, lt_source_size(a->source),
            "the zip archive has no directory at its end: the file is truncated");
    zip_error_t copy = *error;
    copy.str = NULL; /* the text is made on demand and kept in the struct */
    lt_error_set(err, st, "zip: %s", zip_error_strerror(&copy));
    zip_error_fini(&copy);
    return st;
}

static lt_status open_zip(lt_archive *a, lt_error *err)
{
    zip_error_t error;
    zip_error_init(&error);
    forget_faults(a);
    zip_source_t *source = zip_source_function_create(serve, a, &error);
    if (source) a->zip = zip_open_from_source(source, ZIP_RDONLY, &error);
    lt_status st = a->zip ? LT_OK : zip_fault(a, err, &error);
    if (!a->zip) zip_source_free(source);
    zip_error_fini(&error);
    return st;
}

/* ---- entries ----------------------------------------------------------------------- */

static lt_status blame(const lt_entry *entry, lt_error *err)
{
    lt_error_place(err, entry->offset);
    return lt_error_where(err, "entry '%.200s'", entry->name);
}

/* A name that leads out of the archive when it is taken for a path. */
static bool leads_out(const char *name)
{
    if (!*name || *name == '/' || strchr(name, '\\')) return true;
    for (const char *p = name; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (!strncmp(p, "..", 2) && (!p[2] || p[2] == '/')) return true;
    }
    return false;
}

static lt_status check_stat(const zip_stat_t *st, lt_error *err)
{
    const zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE
        | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((st->valid & needed) != needed)
        return lt_error_set(err, LT_ERR_FORMAT, "zip: an entry without name or size");
    if (st->encryption_method != ZIP_EM_NONE)
        return lt_error_set(err, LT_ERR_UNSUPPORTED, "zip: the entry is encrypted");
    if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
        return lt_error_set(err, LT_ERR_UNSUPPORTED,
            "zip: the entry is compressed by method %u; stored and deflated are read",
            st->comp_method);
    if (leads_out(st->name))
        return lt_error_set(err, LT_ERR_FORMAT,
            "zip: the name leads out of the archive (path traversal)");
    if (st->comp_method == ZIP_CM_STORE && st->size != st->comp_size)
        return lt_error_set(err, LT_ERR_FORMAT, "zip: a stored entry of two sizes");
    if (st->comp_method == ZIP_CM_DEFLATE && st->size > LT_MAX_ZIP_FREE_SIZE
        && st->size / lt_limit(LT_LIMIT_ZIP_RATIO) > st->comp_size)
        return lt_error_set(err, LT_ERR_LIMIT,
            "zip: the entry unpacks to more than %llu times its size",
            lt_limit(LT_LIMIT_ZIP_RATIO));
    return LT_OK;
}

static lt_status prove_stored(
    lt_archive *a, lt_entry *entry, const char *content, size_t size, lt_error *err)
{
    char there[PROOF_SIZE];
    uint64_t file_size = lt_source_size(a->source);
    if (entry->offset > file_size || entry->packed_size > file_size - entry->offset)
        return lt_error_at(err, LT_ERR_FORMAT, entry->offset,
            "zip: the entry's data goes past the end of the file");
    if (!entry->stored) return LT_OK;
    lt_status st = lt_source_read(a->source, entry->offset, there, size, err);
    if (!st && memcmp(there, content, size))
        st = lt_error_at(err, LT_ERR_FORMAT, entry->offset,
            "zip: the entry's data is not where it should be");
    return st;
}

/* What stands at that place is exactly text. */
static lt_status check_text(
    const lt_archive *a, uint64_t at, const char *text, lt_error *err)
{
    char there[256];
    uint64_t file_size = lt_source_size(a->source);
    lt_status st = LT_OK;
    bool same = at <= file_size && strlen(text) <= file_size - at;
    for (size_t left = strlen(text), n; left && same && !st; left -= n) {
        n = left < sizeof there ? left : sizeof there;
        st = lt_source_read(a->source, at, there, n, err);
        for (size_t i = 0; i < n && same && !st; i++) {
            same = there[i] == *text++;
            at += same;
        }
    }
    if (st || same) return st;
    return lt_error_at(err, LT_ERR_FORMAT, at,
        "zip: the entry's own header tells another name, or the name holds a NUL");
}

/* The entry's header in front of its data must tell the name that the directory tells;
 * libzip does not compare them and makes spaces of NULs. at: what libzip read first,
 * which is that header or the lengths in it. */
static lt_status check_header(
    const lt_archive *a, const lt_entry *entry, uint64_t at, lt_error *err)
{
    unsigned char head[HEADER_SIZE] = { 0 };
    uint64_t file_size = lt_source_size(a->source);
    if (at > file_size || file_size - at < 4) return LT_OK;
    lt_status st = lt_source_read(a->source, at, head, 4, err);
    if (st) return st;
    if (memcmp(head, "PK\3\4", 4)) at -= at < LENGTHS_AT ? at : LENGTHS_AT;
    if (file_size - at < HEADER_SIZE) return LT_OK;
    st = lt_source_read(a->source, at, head, HEADER_SIZE, err);
    if (st) return st;
    if (memcmp(head, "PK\3\4", 4))
        return lt_error_at(err, LT_ERR_FORMAT, at, "zip: the entry has no header");
    size_t size = (size_t)(head[LENGTHS_AT] | head[LENGTHS_AT + 1] << 8);
    if (size != strlen(entry->name))
        return lt_error_at(
            err, LT_ERR_FORMAT, at, "zip: the entry's own header tells another name");
    return check_text(a, at + HEADER_SIZE, entry->name, err);
}

/* Finds where the entry's data begins. */
static lt_status locate(lt_archive *a, size_t index, lt_error *err)
{
    lt_entry *entry = &a->entries[index];
    char content[PROOF_SIZE];
    uint64_t want = entry->size < sizeof content ? entry->size : sizeof content;
    a->first_read = LT_NO_OFFSET;
    forget_faults(a);
    zip_file_t *file = zip_fopen_index(a->zip, index, 0);
    if (!file) {
        lt_status fault = zip_fault(a, err, zip_get_error(a->zip));
        lt_error_place(err, a->first_read);
        return fault;
    }
    lt_status st = check_header(a, entry, a->first_read, err);
    if (st || !entry->size || !entry->packed_size) {
        zip_fclose(file);
        return st;
    }
    a->first_read = LT_NO_OFFSET;
    if (zip_fread(file, content, want) != (zip_int64_t)want)
        st = zip_fault(a, err, zip_file_get_error(file));
    zip_fclose(file);
    entry->offset = a->first_read;
    return st ? st : prove_stored(a, entry, content, (size_t)want, err);
}

static lt_status add_entry(lt_archive *a, size_t index, lt_error *err)
{
    zip_stat_t st;
    forget_faults(a);
    if (zip_stat_index(a->zip, index, ZIP_FL_ENC_RAW, &st))
        return zip_fault(a, err, zip_get_error(a->zip));
    lt_entry *entry = &a->entries[index];
    const char *name = zip_get_name(a->zip, index, ZIP_FL_ENC_RAW);
    entry->offset = LT_NO_OFFSET;
    entry->name = name ? lt_arena_strdup(&a->arena, name, err) : "";
    if (!entry->name) return LT_ERR_NOMEM;
    st.name = entry->name;
    lt_status rc = check_stat(&st, err);
    if (rc) return blame(entry, err);
    entry->size = st.size;
    entry->packed_size = st.comp_size;
    entry->stored = st.comp_method == ZIP_CM_STORE;
    size_t found;
    rc = lt_map_put(&a->by_name, entry->name, index, &found, err);
    if (!rc && found != LT_MAP_NONE)
        rc = lt_error_set(err, LT_ERR_FORMAT, "zip: the name stands twice");
    if (!rc) rc = locate(a, index, err);
    return rc ? blame(entry, err) : LT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const lt_entry *x = *(lt_entry *const *)a, *y = *(lt_entry *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->packed_size < y->packed_size ? -1 : x->packed_size > y->packed_size;
}

/* Entries that share bytes are how small archives unpack to huge ones. */
static lt_status check_overlap(lt_archive *a, lt_error *err)
{
    size_t n = 0;
    lt_status st = LT_OK;
    const lt_entry **order = lt_alloc_work(a->count, sizeof *order, err);
    if (!order) return LT_ERR_NOMEM;
    for (size_t i = 0; i < a->count; i++)
        if (a->entries[i].offset != LT_NO_OFFSET) order[n++] = &a->entries[i];
    if (n) qsort(order, n, sizeof *order, by_offset);
    for (size_t i = 1; i < n && !st; i++) {
        if (order[i]->offset - order[i - 1]->offset >= order[i - 1]->packed_size)
            continue;
        lt_error_at(err, LT_ERR_FORMAT, order[i]->offset,
            "zip: its data overlaps that of '%.200s'", order[i - 1]->name);
        st = blame(order[i], err);
    }
    lt_free(order);
    return st;
}

static lt_status list_entries(lt_archive *a, lt_error *err)
{
    zip_int64_t n = zip_get_num_entries(a->zip, 0);
    if (n < 0) return lt_error_set(err, LT_ERR_FORMAT, "zip: no entries");
    if ((uint64_t)n > lt_limit(LT_LIMIT_ZIP_ENTRIES))
        return lt_error_set(
            err, LT_ERR_LIMIT, "zip: over %llu entries", lt_limit(LT_LIMIT_ZIP_ENTRIES));
    a->entries = lt_alloc((uint64_t)n, sizeof *a->entries, err);
    if (!a->entries) return LT_ERR_NOMEM;
    lt_status st = LT_OK;
    for (; a->count < (size_t)n && !st; a->count++)
        st = add_entry(a, a->count, err);
    return st ? st : check_overlap(a, err);
}

lt_status lt_archive_open(lt_archive **out, const lt_source *source, lt_error *err)
{
    *out = NULL;
    lt_status st = lt_libzip_load(err);
    if (st) return st;
    lt_archive *a = calloc(1, sizeof *a);
    if (!a) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    a->source = source;
    a->failed = (lt_error)LT_ERROR_INIT;
    zip_error_init(&a->error);
    st = lt_lock_new(&a->lock, err);
    if (!st) st = open_zip(a, err);
    if (!st) st = list_entries(a, err);
    if (st) {
        lt_archive_close(a);
        return st;
    }
    *out = a;
    return LT_OK;
}

void lt_archive_close(lt_archive *a)
{
    if (!a) return;
    for (size_t i = 0; i < N_STREAMS; i++)
        if (a->streams[i].file) zip_fclose(a->streams[i].file);
    if (a->zip) zip_discard(a->zip);
    zip_error_fini(&a->error);
    lt_outfile_close(a->scratch);
    lt_free(a->unpacked);
    lt_lock_free(a->lock);
    lt_map_release(&a->by_name);
    lt_arena_release(&a->arena);
    lt_free(a->entries);
    free(a);
}

size_t lt_archive_count(const lt_archive *archive)
{
    return archive->count;
}

const lt_entry *lt_archive_entry(const lt_archive *archive, size_t index)
{
    return &archive->entries[index];
}

size_t lt_archive_find(const lt_archive *archive, const char *name)
{
    return lt_map_get(&archive->by_name, name);
}

/* ---- content ----------------------------------------------------------------------- */

/* The stream of the entry that is nearest before first, or a new one in the place of the
 * least recently used. */
static lt_status find_stream(
    lt_archive *a, size_t entry, uint64_t first, struct stream **out, lt_error *err)
{
    struct stream *best = NULL, *oldest = &a->streams[0];
    for (struct stream *s = a->streams; s < a->streams + N_STREAMS; s++) {
        if (s->file && s->entry == entry && s->at <= first && (!best || s->at > best->at))
            best = s;
        if (!s->file || (oldest->file && s->used < oldest->used)) oldest = s;
    }
    *out = best;
    if (best) return LT_OK;
    if (oldest->file) zip_fclose(oldest->file);
    forget_faults(a);
    *oldest = (struct stream){ zip_fopen_index(a->zip, entry, 0), entry, 0, 0 };
    *out = oldest;
    return oldest->file ? LT_OK : zip_fault(a, err, zip_get_error(a->zip));
}

static lt_status read_stream(
    lt_archive *a, struct stream *s, void *dst, size_t size, lt_error *err)
{
    forget_faults(a);
    zip_int64_t n = zip_fread(s->file, dst, size);
    if (n == (zip_int64_t)size) {
        s->at += size;
        a->unpacked[s->entry].bytes += size;
        return LT_OK;
    }
    lt_status st = n < 0
        ? zip_fault(a, err, zip_file_get_error(s->file))
        : lt_error_set(err, LT_ERR_FORMAT, "zip: the entry's data ends early");
    zip_fclose(s->file); /* its position is not known any more */
    *s = (struct stream){ 0 };
    return st;
}

static lt_status unpack(
    lt_archive *a, size_t index, uint64_t first, void *dst, size_t size, lt_error *err)
{
    struct stream *s;
    lt_status st = find_stream(a, index, first, &s, err);
    if (st) return st;
    s->used = ++a->clock;
    char *skipped = NULL;
    if (s->at < first) {
        skipped = lt_alloc_work(SKIP_SIZE, 1, err);
        if (!skipped) return LT_ERR_NOMEM;
    }
    while (s->file && s->at < first && !st) {
        uint64_t left = first - s->at;
        st = read_stream(a, s, skipped, left < SKIP_SIZE ? (size_t)left : SKIP_SIZE, err);
    }
    lt_free(skipped);
    return st ? st : read_stream(a, s, dst, size, err);
}

static lt_status check_scratch(const lt_archive *a, uint64_t more, lt_error *err)
{
    uint64_t most = lt_limit(LT_LIMIT_SPOOL_SIZE);
    if (more <= most && a->scratch_size <= most - more) return LT_OK;
    return lt_error_set(err, LT_ERR_LIMIT,
        "zip: to be read out of order it has to be unpacked, which takes over %llu bytes",
        (unsigned long long)most);
}

/* Unpacks the whole entry into the scratch file. */
static lt_status keep(lt_archive *a, size_t index, lt_error *err)
{
    const lt_entry *entry = &a->entries[index];
    lt_status st = check_scratch(a, entry->size, err);
    if (!st && !a->scratch) st = lt_outfile_scratch(&a->scratch, NULL, err);
    char *piece = st ? NULL : lt_alloc_work(KEEP_SIZE, 1, err);
    if (!piece) return st ? st : LT_ERR_NOMEM;
    for (uint64_t at = 0; at < entry->size && !st;) {
        uint64_t left = entry->size - at;
        size_t n = left < KEEP_SIZE ? (size_t)left : KEEP_SIZE;
        st = unpack(a, index, at, piece, n, err);
        if (!st) st = lt_outfile_write(a->scratch, a->scratch_size + at, piece, n, err);
        at += n;
    }
    lt_free(piece);
    if (st) return st;
    a->unpacked[index].at = a->scratch_size + 1;
    a->scratch_size += entry->size;
    return LT_OK;
}

/* An entry whose views are not read in its order would be unpacked again for every piece
 * of one: what was unpacked several times is kept. */
static lt_status read_packed(
    lt_archive *a, size_t index, uint64_t first, void *dst, size_t size, lt_error *err)
{
    const lt_entry *entry = &a->entries[index];
    lt_status st = LT_OK;
    if (!a->unpacked) a->unpacked = lt_alloc(a->count, sizeof *a->unpacked, err);
    if (!a->unpacked) return LT_ERR_NOMEM;
    const struct unpacked *u = &a->unpacked[index];
    if (!u->at && u->bytes / MOST_PASSES > entry->size + KEEP_SIZE)
        st = keep(a, index, err);
    if (st) return st;
    if (!u->at) return unpack(a, index, first, dst, size, err);
    return lt_outfile_read(a->scratch, u->at - 1 + first, dst, size, err);
}

lt_status lt_archive_read(const lt_archive *archive, size_t index, uint64_t first,
    void *dst, size_t size, lt_error *err)
{
    const lt_entry *entry = &archive->entries[index];
    if (first > entry->size || size > entry->size - first)
        return lt_error_set(err, LT_ERR_INTERNAL, "read past the end of an entry");
    if (!size) return LT_OK;
    if (entry->offset == LT_NO_OFFSET)
        return lt_error_set(err, LT_ERR_FORMAT, "zip: the entry has no data");
    if (entry->stored)
        return lt_source_read(archive->source, entry->offset + first, dst, size, err);
    /* Streams are a cache: what can be read does not change. */
    lt_archive *a = (lt_archive *)archive;
    lt_lock_take(a->lock);
    lt_status st = read_packed(a, index, first, dst, size, err);
    lt_lock_give(a->lock);
    return st ? blame(entry, err) : LT_OK;
}
