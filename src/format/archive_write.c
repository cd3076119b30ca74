/* SPDX-License-Identifier: MIT */
/* libzip writes an archive through callbacks: one source takes the file's bytes, one
 * gives each entry's. A local header has 30 bytes, the name and extra fields; torch wants
 * the data behind it aligned, for which a filler field (id "FB", as torch writes it)
 * makes the room. */
#include "format/archive_write.h"

#include "base/mem.h"
#include "format/zip_library.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL_HEADER 30
#define FIELD_HEADER 4
#define FILLER_ID 0x4246
#define MAX_FILLER 4096

/* libzip moves 8 KiB at a time; the files are read and written in larger pieces. */
#define BUFFER_SIZE ((size_t)1 << 20)

/* What libzip writes to. */
struct target {
    lt_outfile *file;
    uint64_t at, end;
    char *buffer; /* bytes before at that are not in the file yet */
    size_t held;
    char *ahead; /* for the entry that is being read */
    zip_error_t error;
    lt_error *err;
    bool failed; /* err says why */
};

static zip_int64_t refuse(struct target *t)
{
    t->failed = true;
    zip_error_set(&t->error, ZIP_ER_WRITE, EIO);
    return -1;
}

static bool flush(struct target *t)
{
    size_t held = t->held;
    t->held = 0;
    return !held || !lt_outfile_write(t->file, t->at - held, t->buffer, held, t->err);
}

static zip_int64_t take_bytes(struct target *t, const void *src, zip_uint64_t size)
{
    if (size > BUFFER_SIZE - t->held && !flush(t)) return refuse(t);
    if (size > BUFFER_SIZE) {
        if (lt_outfile_write(t->file, t->at, src, (size_t)size, t->err)) return refuse(t);
    } else {
        memcpy(t->buffer + t->held, src, (size_t)size);
        t->held += (size_t)size;
    }
    t->at += size;
    if (t->at > t->end) t->end = t->at;
    return (zip_int64_t)size;
}

static zip_int64_t seek_target(struct target *t, void *args, zip_uint64_t size)
{
    zip_int64_t at = zip_source_seek_compute_offset(t->at, t->end, args, size, &t->error);
    if (at < 0) return -1;
    if (!flush(t)) return refuse(t);
    t->at = (uint64_t)at;
    return 0;
}

static zip_int64_t on_target(
    void *ctx, void *data, zip_uint64_t size, zip_source_cmd_t cmd)
{
    struct target *t = ctx;
    switch (cmd) {
    case ZIP_SOURCE_SUPPORTS: return ZIP_SOURCE_SUPPORTS_WRITABLE;
    case ZIP_SOURCE_STAT:
        zip_stat_init(data);
        ((zip_stat_t *)data)->size = 0;
        ((zip_stat_t *)data)->valid = ZIP_STAT_SIZE;
        return sizeof(zip_stat_t);
    case ZIP_SOURCE_BEGIN_WRITE: t->at = t->end = t->held = 0; return 0;
    case ZIP_SOURCE_COMMIT_WRITE: return flush(t) ? 0 : refuse(t);
    case ZIP_SOURCE_WRITE: return take_bytes(t, data, size);
    case ZIP_SOURCE_SEEK_WRITE: return seek_target(t, data, size);
    case ZIP_SOURCE_TELL_WRITE: return (zip_int64_t)t->at;
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&t->error, data, size);
    case ZIP_SOURCE_READ: return 0; /* there is nothing before it is written */
    default: return 0;
    }
}

/* What libzip reads an entry from. */
struct origin {
    const lt_entry *entry;
    uint64_t at;
    uint64_t ahead_at; /* what of the entry target->ahead holds */
    size_t ahead_size;
    zip_error_t error;
    struct target *target; /* keeps the error and the buffers */
};

/* Fills ahead from the position on. */
static lt_status look_ahead(struct origin *o)
{
    const lt_entry *e = o->entry;
    uint64_t left = e->size - o->at;
    o->ahead_at = o->at;
    o->ahead_size = left < BUFFER_SIZE ? (size_t)left : BUFFER_SIZE;
    return lt_outfile_read(
        e->data, e->offset + o->at, o->target->ahead, o->ahead_size, o->target->err);
}

static zip_int64_t give_bytes(struct origin *o, void *dst, zip_uint64_t size)
{
    const lt_entry *e = o->entry;
    uint64_t left = e->size - o->at;
    if (size > left) size = left;
    if (size && !e->bytes && o->at >= o->ahead_at + o->ahead_size && look_ahead(o)) {
        o->target->failed = true;
        zip_error_set(&o->error, ZIP_ER_READ, EIO);
        return -1;
    }
    const char *from = e->bytes;
    if (from) {
        from += o->at;
    } else {
        uint64_t held = o->ahead_at + o->ahead_size - o->at;
        if (size > held) size = held; /* libzip asks again */
        from = o->target->ahead + (o->at - o->ahead_at);
    }
    if (size) memcpy(dst, from, (size_t)size);
    o->at += size;
    return (zip_int64_t)size;
}

static zip_int64_t on_origin(
    void *ctx, void *data, zip_uint64_t size, zip_source_cmd_t cmd)
{
    struct origin *o = ctx;
    zip_stat_t *st = data;
    switch (cmd) {
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ,
            ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, -1);
    case ZIP_SOURCE_STAT:
        zip_stat_init(st);
        st->size = st->comp_size = o->entry->size;
        st->comp_method = ZIP_CM_STORE;
        st->valid = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
        return sizeof *st;
    case ZIP_SOURCE_OPEN: o->at = o->ahead_at = o->ahead_size = 0; return 0;
    case ZIP_SOURCE_READ: return give_bytes(o, data, size);
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&o->error, data, size);
    default: return 0;
    }
}

/* What was not our own callbacks' failure; errno was 0 before libzip was asked, which
 * does not always say that it had no memory. */
static lt_status zip_failed(const zip_error_t *why, lt_error *err)
{
    if (zip_error_code_zip(why) == ZIP_ER_MEMORY || errno == ENOMEM)
        return lt_error_set(err, LT_ERR_NOMEM, "out of memory for the archive");
    zip_error_t copy = *why;
    copy.str = NULL; /* the text is made on demand and kept in the struct */
    lt_error_set(
        err, LT_ERR_IO, "cannot make the archive: %s", zip_error_strerror(&copy));
    zip_error_fini(&copy);
    return LT_ERR_IO;
}

/* The filler that brings the data behind the local header at offset to alignment. */
static size_t filler_size(uint64_t offset, const lt_entry *e, unsigned alignment)
{
    uint64_t data = offset + LOCAL_HEADER + strlen(e->name) + FIELD_HEADER;
    return (size_t)((alignment - data % alignment) % alignment);
}

static int add_entry(zip_t *zip, struct origin *o, unsigned alignment, uint64_t *offset)
{
    static zip_uint8_t filler[MAX_FILLER];
    const lt_entry *e = o->entry;
    zip_source_t *source = zip_source_function(zip, on_origin, o);
    if (!source) return -1;
    zip_int64_t index = zip_file_add(zip, e->name, source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        zip_source_free(source);
        return -1;
    }
    size_t fill = filler_size(*offset, e, alignment);
    *offset += LOCAL_HEADER + strlen(e->name) + FIELD_HEADER + fill + e->size;
    zip_uint64_t i = (zip_uint64_t)index;
    /* 1980-01-01 00:00, the first date there is: it says nothing. */
    return zip_set_file_compression(zip, i, ZIP_CM_STORE, 0)
        || zip_file_set_dostime(zip, i, 0, 0x21, 0)
        || zip_file_extra_field_set(zip, i, FILLER_ID, ZIP_EXTRA_FIELD_NEW, filler,
            (zip_uint16_t)fill, ZIP_FL_LOCAL);
}

static lt_status fill_archive(zip_t *zip, struct target *t, const lt_entry *entries,
    size_t count, unsigned alignment, lt_error *err)
{
    uint64_t offset = 0;
    struct origin *origins = lt_alloc(count, sizeof *origins, err);
    if (!origins) {
        zip_discard(zip);
        return LT_ERR_NOMEM;
    }
    bool ok = true;
    errno = 0;
    for (size_t i = 0; i < count && ok; i++) {
        origins[i] = (struct origin){ .entry = &entries[i], .target = t };
        zip_error_init(&origins[i].error);
        ok = !add_entry(zip, &origins[i], alignment, &offset);
    }
    lt_status st = LT_OK;
    if (!ok || zip_close(zip)) {
        st = t->failed ? t->err->code : zip_failed(zip_get_error(zip), err);
        zip_discard(zip); /* a failed close leaves it open */
    }
    lt_free(origins);
    return st;
}

lt_status lt_archive_write(lt_outfile *file, const lt_entry *entries, size_t count,
    unsigned alignment, uint64_t *size, lt_error *err)
{
    lt_error own = LT_ERROR_INIT;
    struct target t = { .file = file, .err = err ? err : &own };
    lt_status st = lt_libzip_load(err);
    if (st) return st;
    zip_error_t why;
    zip_error_init(&why);
    zip_error_init(&t.error);
    t.buffer = lt_alloc_work(BUFFER_SIZE, 1, err);
    t.ahead = lt_alloc_work(BUFFER_SIZE, 1, err);
    if (!t.buffer || !t.ahead) {
        lt_free(t.buffer);
        lt_free(t.ahead);
        return LT_ERR_NOMEM;
    }
    errno = 0;
    zip_source_t *source = zip_source_function_create(on_target, &t, &why);
    zip_t *zip =
        source ? zip_open_from_source(source, ZIP_CREATE | ZIP_TRUNCATE, &why) : NULL;
    if (!zip) {
        zip_source_free(source);
        st = zip_failed(&why, err);
        zip_error_fini(&why);
        lt_free(t.buffer);
        lt_free(t.ahead);
        return st;
    }
    st = fill_archive(zip, &t, entries, count, alignment, t.err);
    *size = t.end;
    lt_free(t.buffer);
    lt_free(t.ahead);
    return st;
}
