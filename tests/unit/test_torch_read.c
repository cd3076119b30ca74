/* SPDX-License-Identifier: MIT */
/* Torch files: what is found in them, how views are read, what is refused. */
#include "files.h"
#include "runner.h"
#include "torchfile.h"

#include "base/limits.h"
#include "format/archive.h"
#include "format/format.h"
#include "format/torch_gather.h"

static char path[4096];
static unsigned char content[256]; /* of storages: 0, 1, 2, ... */

static lt_status open_bytes(
    lt_store **store, const bytes *b, lt_reading reading, lt_error *err)
{
    write_bytes(path, b->p, b->n);
    return lt_store_open_as(store, path, reading, err);
}

/* An ordinary archive around a pickle, with one storage of 16 bytes. */
static void wrap(zip_maker *z, const bytes *pickled, const zip_lies *lies)
{
    zip_add(z, "archive/data.pkl", pickled->p, pickled->n, lies);
    zip_add(z, "archive/version", "3\n", 2, lies);
    zip_add(z, "archive/data/0", content, 16, lies);
}

static void program(bytes *b, const char *object)
{
    put(b, "\x80\2", 2);
    pickle_object(b, object);
    put(b, ".", 1);
}

static void program_of(bytes *b, const made *m)
{
    put(b, "\x80\2}", 3);
    pickle_string(b, "w", 1);
    pickle_tensor(b, m);
    put(b, "s.", 2);
}

/* ---- names ------------------------------------------------------------------------- */

/* "name name | wrapper | path=what; path=what!; " (! for those that are not read) */
static void describe(const lt_store *store, char *dst, size_t size)
{
    size_t n = 0;
    dst[0] = 0;
    for (size_t i = 0; i < lt_store_count(store); i++)
        n += (size_t)snprintf(dst + n, size - n, "%s ", lt_store_at(store, i)->name);
    n += (size_t)snprintf(dst + n, size - n, "|%s%s |",
        *lt_store_wrapper(store) ? " " : "", lt_store_wrapper(store));
    for (size_t i = 0; i < lt_store_aside_count(store); i++) {
        const lt_aside *a = lt_store_aside(store, i);
        n += (size_t)snprintf(
            dst + n, size - n, " %s=%s%s;", a->path, a->what, a->unread ? "!" : "");
    }
}

static const struct {
    const char *object, *expected;
    lt_reading reading;
} names[] = {
    { "{a:T,b:P}", "a b | |", LT_READ_MODEL },
    { "T", "tensor | |", LT_READ_MODEL },
    { "P", "tensor | |", LT_READ_MODEL },
    { "[T,[N,T]]", "0 1.1 | | 1.0=None;", LT_READ_MODEL },
    { "{a:{b:[T]}}", "a.b.0 | |", LT_READ_MODEL },
    { "7", "| | (the object itself)=integer 7; archive/data/0=a storage of no tensor;",
        LT_READ_MODEL },
    { "O", "| | (the object itself)=opaque object some.module.Thing, 1 tensor;",
        LT_READ_MODEL },
    /* wrappers */
    { "{state_dict:{a:T},epoch:3}", "a | state_dict | epoch=integer 3;", LT_READ_MODEL },
    { "{state_dict:{a:T},epoch:3}", "state_dict.a | | epoch=integer 3;",
        LT_READ_EVERYTHING },
    { "{model:{state_dict:{a:T}},x:N}", "a | model.state_dict | x=None;", LT_READ_MODEL },
    { "{params:{a:T}}", "a | params |", LT_READ_MODEL },
    { "{other:{a:T}}", "other.a | |", LT_READ_MODEL },
    { "{model:T}", "model | |", LT_READ_MODEL },
    { "{model:[T]}", "model.0 | |", LT_READ_MODEL },
    { "{model:{a:T},b:T}", "b model.a | |", LT_READ_MODEL },
    { "{generator:{a:T},discriminator:{a:T},optimizer:{s:T}}",
        "discriminator.a generator.a | | optimizer=dict of 1, 1 tensor;", LT_READ_MODEL },
    { "{model:{a:T},net:{a:T}}", "model.a net.a | |", LT_READ_MODEL },
    { "{model:O,a:T}", "a | | model=opaque object some.module.Thing, 1 tensor;",
        LT_READ_MODEL },
    /* training state */
    { "{model:{a:T},optimizer_states:[{s:T},T],best_loss:T,text:\"x\"}",
        "a | model | optimizer_states=list of 2, 2 tensors; best_loss=tensor F32 [4]; "
        "text=text \"x\";",
        LT_READ_MODEL },
    { "{a:T,optimizer:{s:T}}", "a optimizer.s | |", LT_READ_MODEL },
    { "{state_dict:{a:T},optimizer:{s:T}}", "optimizer.s state_dict.a | |",
        LT_READ_EVERYTHING },
    /* EMA copies; a copy of nothing is the model */
    { "{model:{a:T},ema:{a:T},optimizer:O}",
        "a ema.a | model | optimizer=opaque object some.module.Thing, 1 tensor;",
        LT_READ_MODEL },
    { "{params_ema:{a:T}}", "a | params_ema |", LT_READ_MODEL },
    { "{ema:{a:T},optimizer:{s:T}}", "a | ema | optimizer=dict of 1, 1 tensor;",
        LT_READ_MODEL },
    { "{model:{state_dict:{a:T},ema:{a:T}}}", "a model.ema.a | model.state_dict |",
        LT_READ_MODEL },
    /* prefixes of all names */
    { "{module.a:T,module.b:T}", "a b | |", LT_READ_MODEL },
    { "{_orig_mod.module.a:T}", "a | |", LT_READ_MODEL },
    { "{module.a:T,b:T}", "b module.a | |", LT_READ_MODEL },
    { "{model:{module.a:T},ema:{b:T}}", "a ema.b | model |", LT_READ_MODEL },
    { "{module.a:T}", "module.a | |", LT_READ_EVERYTHING },
    { "{module:{a:T}}", "a | module |", LT_READ_MODEL },
    /* what is no tensor, and tensors that are not read */
    { "{a:T,n:5,t:\"x\ny\",l:[1,2],d:{},s:S}",
        "a | | n=integer 5; t=text \"x y\"; l=list of 2; d=dict of 0; s=a sparse "
        "tensor!;",
        LT_READ_MODEL },
    { "{state_dict:{s:S}}",
        "| state_dict | state_dict.s=a sparse tensor!; archive/data/0=a storage of no "
        "tensor;",
        LT_READ_MODEL },
    { "{model:{a:T},optimizer:S}", "a | model | optimizer=a sparse tensor;",
        LT_READ_MODEL },
};

static void test_names(void)
{
    char shown[1024];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bytes b = { .n = 0 };
        zip_maker z = { .count = 0 };
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        program(&b, names[i].object);
        wrap(&z, &b, NULL);
        zip_end(&z);
        if (!CHECK(!open_bytes(&store, &z.file, names[i].reading, &err))) {
            printf("    %s: %s\n", names[i].object, err.msg);
            continue;
        }
        describe(store, shown, sizeof shown);
        if (!CHECK_STR(shown, names[i].expected)) printf("    %s\n", names[i].object);
        lt_store_close(store);
    }
}

static void test_long_text(void)
{
    char object[256], shown[1024];
    bytes b = { .n = 0 };
    zip_maker z = { .count = 0 };
    lt_store *store = NULL;
    /* Cut before the character that would be torn apart. */
    snprintf(object, sizeof object, "{t:\"%059d\xc3\xa9tail\"}", 0);
    program(&b, object);
    wrap(&z, &b, NULL);
    zip_end(&z);
    CHECK(!open_bytes(&store, &z.file, LT_READ_MODEL, NULL));
    snprintf(object, sizeof object,
        "| | t=text \"%059d\"...; archive/data/0=a storage of no tensor;", 0);
    describe(store, shown, sizeof shown);
    CHECK_STR(shown, object);
    lt_store_close(store);
}

/* ---- views ------------------------------------------------------------------------- */

static const made views[] = {
    { "0", "ByteStorage", 256, 0, 1, { 256 }, { 1 }, { 0 }, false, false },
    { "0", "ShortStorage", 128, 3, 2, { 5, 7 }, { 7, 1 }, { 0 }, false, false },
    { "0", "ShortStorage", 128, 3, 2, { 7, 5 }, { 1, 7 }, { 0 }, false, false },
    { "0", "FloatStorage", 64, 1, 2, { 3, 4 }, { 16, 2 }, { 0 }, false, false },
    { "0", "FloatStorage", 64, 5, 2, { 3, 4 }, { 0, 1 }, { 0 }, false, false },
    { "0", "FloatStorage", 64, 5, 2, { 3, 4 }, { 1, 0 }, { 0 }, false, false },
    { "0", "DoubleStorage", 32, 0, 3, { 2, 3, 4 }, { 1, 8, 2 }, { 0 }, false, false },
    { "0", "DoubleStorage", 32, 31, 0, { 0 }, { 0 }, { 0 }, false, false },
    { "0", "LongStorage", 32, 0, 4, { 2, 1, 3, 2 }, { 2, 99, 8, 1 }, { 0 }, false,
        false },
    { "0", "IntStorage", 64, 0, 3, { 4, 3, 5 }, { 2, 1, 9 }, { 0 }, false, false },
    { "0", "ComplexDoubleStorage", 16, 1, 2, { 3, 2 }, { 1, 4 }, { 0 }, false, false },
    { "0", "BoolStorage", 256, 0, 2, { 0, 4 }, { 4, 1 }, { 0 }, false, false },
};

static size_t item_of(const made *m)
{
    static const struct {
        const char *class;
        size_t item;
    } rows[] = { { "ByteStorage", 1 }, { "BoolStorage", 1 }, { "ShortStorage", 2 },
        { "FloatStorage", 4 }, { "IntStorage", 4 }, { "DoubleStorage", 8 },
        { "LongStorage", 8 }, { "ComplexDoubleStorage", 16 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].class, m->class)) return rows[i].item;
    return 0;
}

/* What torch would give, element by element. Returns the number of bytes. */
static size_t expect(const made *m, bool swapped, unsigned char *dst)
{
    size_t item = item_of(m), count = 1;
    size_t unit = item == 16 ? 8 : item;
    for (int i = 0; i < m->n_dims; i++)
        count *= (size_t)m->shape[i];
    for (size_t k = 0; k < count; k++) {
        size_t rest = k, at = (size_t)m->offset;
        for (int i = m->n_dims; i--; rest /= (size_t)m->shape[i])
            at += rest % (size_t)m->shape[i] * (size_t)m->strides[i];
        for (size_t j = 0; j < item; j++) {
            size_t from = swapped ? j / unit * unit + unit - 1 - j % unit : j;
            dst[k * item + j] = content[at * item + from];
        }
    }
    return count * item;
}

static bool reads_right(const lt_store *store, const unsigned char *expected, size_t size)
{
    const lt_tensor *t = lt_store_at(store, 0);
    unsigned char got[1024];
    bool ok = t->size == size;
    for (size_t first = 0; first <= size && ok; first++)
        for (size_t n = 0; n <= size - first && ok; n += n < 40 ? 1 : 61) {
            memset(got, 0xaa, sizeof got);
            ok = !lt_store_read(store, t, first, got, n, NULL)
                && !memcmp(got, expected + first, n) && got[n] == 0xaa;
        }
    return ok;
}

static void check_view(const made *m, const char *byteorder, bool deflated)
{
    bytes b = { .n = 0 };
    zip_maker z = { .count = 0 };
    zip_lies lies = { .deflated = deflated };
    unsigned char expected[1024];
    lt_store *store = NULL;
    lt_error err = LT_ERROR_INIT;
    bool swapped = byteorder && !strncmp(byteorder, "big", 3);
    program_of(&b, m);
    zip_add(&z, "archive/data.pkl", b.p, b.n, &lies);
    if (byteorder) zip_add(&z, "archive/byteorder", byteorder, strlen(byteorder), &lies);
    zip_add(&z, "archive/data/0", content, sizeof content, &lies);
    zip_end(&z);
    if (!CHECK(!open_bytes(&store, &z.file, LT_READ_MODEL, &err))) {
        printf("    %s\n", err.msg);
        return;
    }
    size_t size = expect(m, swapped, expected);
    CHECK(reads_right(store, expected, size));
    const lt_tensor *t = lt_store_at(store, 0);
    int fd;
    uint64_t at;
    unsigned char there[1024];
    if (lt_store_in_place(store, t, &fd, &at)) {
        CHECK(!deflated && (!swapped || item_of(m) == 1));
        CHECK(pread(fd, there, size, (off_t)at) == (ssize_t)size
            && !memcmp(there, expected, size));
    }
    CHECK((t->offset == LT_NO_OFFSET) == (deflated || !t->count));
    lt_store_close(store);
}

static void test_views(void)
{
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        check_view(&views[i], NULL, false);
        check_view(&views[i], "little\n", false);
        check_view(&views[i], "big", false);
        check_view(&views[i], "big", true);
        check_view(&views[i], NULL, true);
    }
}

/* A storage whose byte i is i's low byte. */
static lt_status fetch(void *ctx, uint64_t at, void *dst, size_t size, lt_error *err)
{
    (void)err;
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)dst)[i] = (unsigned char)((at + i) * 2654435761u >> 13);
    *(uint64_t *)ctx += size;
    return LT_OK;
}

/* Large enough for windows to move: a transposed matrix, rows of one, a permuted one. */
static void test_gather(void)
{
    static const struct {
        uint64_t shape[3], strides[3];
        uint64_t most; /* bytes of the storage that may be read for all of it */
    } rows[] = {
        { { 1, 700, 900 }, { 1, 1, 700 }, 4 * 700 * 900 },
        { { 1, 900, 300 }, { 1, 2000, 1 }, 4 * 900 * 2000 },
        { { 1, 40, 5000 }, { 1, 9000, 1 }, 4 * 40 * 5000 },
        { { 30, 40, 50 }, { 1, 1500, 30 }, 4 * 30 * 40 * 50 },
        { { 3, 4, 5 }, { 100000, 20000, 3000 }, 4 * 3 * 4 * 5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint64_t *shape = rows[i].shape, *strides = rows[i].strides;
        uint64_t count = shape[0] * shape[1] * shape[2], last = 0, read = 0;
        for (int d = 0; d < 3; d++)
            last += (shape[d] - 1) * strides[d];
        lt_strided v = { 3, 4, shape, strides, 8, 8 + (last + 1) * 4 };
        unsigned char *got = malloc(count * 4), element[4];
        CHECK(!lt_gather(&v, 0, got, count * 4, fetch, &read, NULL));
        CHECK(read <= rows[i].most);
        bool same = true;
        for (uint64_t k = 0; k < count; k += 7) {
            uint64_t at = k / (shape[1] * shape[2]) * strides[0]
                + k / shape[2] % shape[1] * strides[1] + k % shape[2] * strides[2];
            fetch(&read, 8 + at * 4, element, 4, NULL);
            same &= !memcmp(got + k * 4, element, 4);
        }
        CHECK(same);
        unsigned char part[999];
        CHECK(count * 4 < 1500
            || (!lt_gather(&v, 501, part, sizeof part, fetch, &read, NULL)
                && !memcmp(part, got + 501, sizeof part)));
        free(got);
    }
}

static void test_shared_storage(void)
{
    bytes b = { .n = 0 };
    zip_maker z = { .count = 0 };
    lt_store *store = NULL;
    made m = { "0", "FloatStorage", 4, 0, 1, { 4 }, { 1 }, { 0 }, false, false };
    static const struct {
        const char *name;
        int64_t offset, size;
        size_t alias;
    } rows[] = { { "d", 0, 4, 0 }, { "c", 0, 4, 0 }, { "b", 2, 2, 3 }, { "a", 0, 3, 1 } };
    put(&b, "\x80\2}(", 4);
    for (size_t i = 0; i < 4; i++) {
        pickle_string(&b, rows[i].name, 1);
        m.offset = rows[i].offset;
        m.shape[0] = rows[i].size;
        pickle_tensor(&b, &m);
    }
    put(&b, "u.", 2);
    wrap(&z, &b, NULL);
    zip_end(&z);
    if (!CHECK(!open_bytes(&store, &z.file, LT_READ_MODEL, NULL))) return;
    /* By position, then name: a c d b. */
    static const char *const order[] = { "a", "c", "d", "b" };
    static const size_t aliases[] = { 0, 1, 1, 3 };
    for (size_t i = 0; i < 4; i++) {
        CHECK_STR(lt_store_at(store, i)->name, order[i]);
        CHECK(lt_store_find(store, order[i]) == lt_store_at(store, i));
        CHECK(lt_store_alias(store, i) == aliases[i]);
    }
    lt_store_close(store);
}

static void test_refused_views(void)
{
    static const struct {
        made m;
        lt_status code;
        const char *message;
    } rows[] = {
#define VIEW(numel, offset, n, s0, s1, t0, t1) \
    { "0", "FloatStorage", numel, offset, n, { s0, s1 }, { t0, t1 }, { 0 }, false, false }
        { VIEW(4, 0, 1, 4, 0, 1, 0), LT_OK, "" },
        { VIEW(5, 0, 1, 4, 0, 1, 0), LT_ERR_FORMAT, "has 16 bytes instead of 20" },
        { VIEW(4, 0, 1, 5, 0, 1, 0), LT_ERR_FORMAT, "past the end of its storage" },
        { VIEW(4, 1, 1, 4, 0, 1, 0), LT_ERR_FORMAT, "past the end of its storage" },
        { VIEW(4, 1, 1, 3, 0, 1, 0), LT_OK, "" },
        { VIEW(4, 0, 2, 2, 2, 3, 1), LT_ERR_FORMAT, "past the end of its storage" },
        { VIEW(4, 0, 2, 2, 2, 2, 1), LT_OK, "" },
        { VIEW(4, -1, 1, 1, 0, 1, 0), LT_ERR_FORMAT, "offset" },
        { VIEW(4, 0, 1, -1, 0, 1, 0), LT_ERR_FORMAT, "sizes" },
        { VIEW(4, 0, 1, 1, 0, -1, 0), LT_ERR_FORMAT, "sizes" },
        { VIEW(-4, 0, 1, 1, 0, 1, 0), LT_ERR_FORMAT, "number of elements" },
        { VIEW(INT64_MAX, 0, 1, 1, 0, 1, 0), LT_ERR_FORMAT, "number of elements" },
        { VIEW(4, INT64_MAX, 1, 1, 0, 1, 0), LT_ERR_FORMAT, "past the end" },
        { VIEW(4, 0, 1, 2, 0, INT64_MAX, 0), LT_ERR_FORMAT, "past the end" },
        { VIEW(4, 0, 2, 1LL << 40, 1LL << 40, 0, 0), LT_ERR_FORMAT, "overflows" },
        /* Repeated elements, on both sides of the ceiling. */
        { VIEW(4, 0, 2, 1 << 15, 1 << 15, 0, 0), LT_OK, "" },
        { VIEW(4, 0, 2, 1 << 15, (1 << 15) + 1, 0, 0), LT_ERR_LIMIT, "repeat elements" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = { .n = 0 };
        zip_maker z = { .count = 0 };
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        program_of(&b, &rows[i].m);
        wrap(&z, &b, NULL);
        zip_end(&z);
        lt_status st = open_bytes(&store, &z.file, LT_READ_MODEL, &err);
        if (!CHECK(st == rows[i].code) || !CHECK(strstr(err.msg, rows[i].message)))
            printf("    row %zu: %s: %s\n", i, err.where, err.msg);
        lt_store_close(store);
    }
}

/* ---- archives ---------------------------------------------------------------------- */

static void test_archives(void)
{
    static const struct {
        const char *name;
        zip_lies lies;
        lt_status code;
        const char *message;
    } rows[] = {
        { "archive/extra", { .padding = 37 }, LT_OK, "" },
        { "archive/data/..x", { .size = 0 }, LT_OK, "" },
        { "archive/data/0", { .size = 0 }, LT_ERR_FORMAT, "stands twice" },
        { "other/data.pkl", { .size = 0 }, LT_ERR_FORMAT, "more than one data.pkl" },
        { "/absolute", { .size = 0 }, LT_ERR_FORMAT, "path traversal" },
        { "../up", { .size = 0 }, LT_ERR_FORMAT, "path traversal" },
        { "a/..", { .size = 0 }, LT_ERR_FORMAT, "path traversal" },
        { "a/../b", { .size = 0 }, LT_ERR_FORMAT, "path traversal" },
        { "a\\b", { .size = 0 }, LT_ERR_FORMAT, "path traversal" },
        { "archive/constants.pkl", { .size = 0 }, LT_ERR_UNSUPPORTED, "TorchScript" },
        { "x", { .locked = true }, LT_ERR_UNSUPPORTED, "encrypted" },
        { "x", { .method = 12 }, LT_ERR_UNSUPPORTED, "method 12" },
        { "x", { .size = 1 << 20 }, LT_ERR_FORMAT, "" },
        { "x", { .deflated = true, .size = LT_MAX_ZIP_FREE_SIZE + 1 }, LT_ERR_LIMIT,
            "200 times" },
        { "archive/data.pkl2", { .absent = true }, LT_ERR_FORMAT, "another name" },
        { "ARCHIVE/DATA.PKL", { .absent = true }, LT_ERR_FORMAT, "another name" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = { .n = 0 };
        zip_maker z = { .count = 0 };
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        program(&b, "{a:T}");
        wrap(&z, &b, NULL);
        zip_add(&z, rows[i].name, "hello", 5, &rows[i].lies);
        zip_end(&z);
        lt_status st = open_bytes(&store, &z.file, LT_READ_MODEL, &err);
        if (!CHECK(st == rows[i].code) || !CHECK(strstr(err.msg, rows[i].message)))
            printf(
                "    row %zu (%s): %d %s: %s\n", i, rows[i].name, st, err.where, err.msg);
        lt_store_close(store);
    }
}

/* Two entries of the directory are one in the file. */
static void test_overlap(void)
{
    bytes b = { .n = 0 };
    zip_maker z = { .count = 0 };
    zip_lies absent = { .absent = true };
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    program(&b, "{a:T}");
    /* libzip reads the lengths of names only, so that one of the same length fits. */
    zip_add(&z, "archive/data.pkl", b.p, b.n, NULL);
    zip_add(&z, "archive/data/0", content, 16, NULL);
    zip_add(&z, "archive/data.pkl", b.p, b.n, &absent);
    zip_end(&z);
    CHECK(open_bytes(&store, &z.file, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
    CHECK(strstr(err.msg, "twice"));
    /* An entry that lies in another's data, with a header of its own. */
    zip_maker inner = { .count = 0 }, outer = { .count = 0 };
    zip_add(&inner, "x", "hello", 5, NULL);
    zip_add(&outer, "archive/data.pkl", b.p, b.n, NULL);
    size_t at = outer.file.n + 30 + strlen("archive/data/1");
    zip_add(&outer, "archive/data/1", inner.file.p, inner.file.n, NULL);
    for (int i = 0; i < 4; i++) /* where its header is: in the entry before */
        inner.directory.p[42 + i] = (unsigned char)(at >> 8 * i);
    put(&outer.directory, inner.directory.p, inner.directory.n);
    outer.count++;
    zip_end(&outer);
    CHECK(open_bytes(&store, &outer.file, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
    CHECK(strstr(err.msg, "overlaps"));
}

static void test_other_archives(void)
{
    zip_maker z = { .count = 0 }, none = { .count = 0 };
    lt_error err = LT_ERROR_INIT;
    lt_store *store = NULL;
    zip_add(&z, "readme.txt", "hello", 5, NULL);
    zip_end(&z);
    CHECK(open_bytes(&store, &z.file, LT_READ_MODEL, &err) == LT_ERR_UNSUPPORTED);
    CHECK(strstr(err.msg, "without data.pkl"));
    zip_end(&none);
    CHECK(open_bytes(&store, &none.file, LT_READ_MODEL, &err) == LT_ERR_UNSUPPORTED);
    /* Without a folder it is read all the same; an unknown byte order is not. */
    zip_maker bare = { .count = 0 }, middle = { .count = 0 };
    bytes b = { .n = 0 };
    program(&b, "{a:T}");
    zip_add(&bare, "data.pkl", b.p, b.n, NULL);
    zip_add(&bare, "data/0", content, 16, NULL);
    zip_end(&bare);
    CHECK(!open_bytes(&store, &bare.file, LT_READ_MODEL, &err));
    lt_store_close(store);
    wrap(&middle, &b, NULL);
    zip_add(&middle, "archive/byteorder", "middle", 6, NULL);
    zip_end(&middle);
    CHECK(open_bytes(&store, &middle.file, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
}

/* More streams than the archive keeps open, forward and backward. */
static void test_deflated_streams(void)
{
    enum { N = 20, SIZE = 500 };
    zip_maker z = { .count = 0 };
    zip_lies lies = { .deflated = true };
    unsigned char data[SIZE], got[SIZE];
    char name[8];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < SIZE; j++)
            data[j] = (unsigned char)(i * 31 + j);
        snprintf(name, sizeof name, "e%d", i);
        zip_add(&z, name, data, SIZE, &lies);
    }
    zip_end(&z);
    write_bytes(path, z.file.p, z.file.n);
    lt_source *source = NULL;
    lt_archive *a = NULL;
    CHECK(!lt_source_open(&source, path, NULL) && !lt_archive_open(&a, source, NULL));
    bool same = a != NULL;
    for (uint32_t k = 1; k < 3000 && same; k++) {
        uint32_t r = k * 2654435761u >> 8, i = r % N, first = r / 64 % SIZE;
        size_t n = (r >> 3) % (SIZE - first + 1);
        same = !lt_archive_read(a, i, first, got, n, NULL);
        for (size_t j = 0; j < n; j++)
            same &= got[j] == (unsigned char)(i * 31 + first + j);
    }
    CHECK(same);
    lt_archive_close(a);
    lt_source_close(source);
}

/* ---- the older formats ------------------------------------------------------------- */

static void legacy_head(bytes *b)
{
    put(b, "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    put(b, "\x80\2M\xe9\x03.\x80\2}.", 10);
}

static void legacy_tail(bytes *b, const char *key, uint64_t count, size_t size)
{
    put(b, "\x80\2]", 3);
    pickle_string(b, key, strlen(key));
    put(b, "a.", 2);
    put_uint(b, count, 8);
    put(b, content, size);
}

static const made old = { "77", "FloatStorage", 8, 0, 2, { 2, 2 }, { 1, 2 }, { 0 }, true,
    false };

static void make_legacy(bytes *b, const made *m, const char *key, uint64_t count)
{
    legacy_head(b);
    program_of(b, m);
    legacy_tail(b, key, count, 32);
}

static void test_legacy(void)
{
    static const struct {
        const char *key;
        uint64_t count;
        lt_status code;
        const char *message;
    } rows[] = {
        { "77", 8, LT_OK, "" },
        { "77", 7, LT_ERR_FORMAT, "counts on 32 bytes" },
        { "77", 9, LT_ERR_FORMAT, "counts on 32 bytes" },
        { "77", (1ull << 62) + 8, LT_ERR_FORMAT, "counts on 32 bytes" },
        { "78", 8, LT_ERR_FORMAT, "does not mention" },
    };
    unsigned char got[16];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = { .n = 0 };
        lt_store *store = NULL;
        lt_error err = LT_ERROR_INIT;
        make_legacy(&b, &old, rows[i].key, rows[i].count);
        lt_status st = open_bytes(&store, &b, LT_READ_MODEL, &err);
        if (!CHECK(st == rows[i].code) || !CHECK(strstr(err.msg, rows[i].message)))
            printf("    %s\n", err.msg);
        if (st) continue;
        CHECK_STR(lt_store_container(store), "torch legacy");
        CHECK(!lt_store_read(store, lt_store_at(store, 0), 0, got, 16, &err));
        CHECK(!memcmp(got + 4, content + 8, 4) && !memcmp(got + 8, content + 4, 4));
        lt_store_close(store);
    }
}

/* Very old files: a storage that is a part of another. */
static void test_legacy_parts(void)
{
    static const struct {
        int64_t offset, size;
        lt_status code;
    } rows[] = {
        { 4, 4, LT_OK },
        { 4, 3, LT_ERR_FORMAT }, /* the tensor needs four */
        { 5, 4, LT_ERR_FORMAT },
        { -1, 4, LT_ERR_FORMAT },
        { INT64_MAX, 4, LT_ERR_FORMAT },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = { .n = 0 };
        lt_store *store = NULL;
        lt_error err = LT_ERROR_INIT;
        made m = old;
        m.has_part = true;
        m.part[0] = rows[i].offset;
        m.part[1] = rows[i].size;
        make_legacy(&b, &m, "77", 8);
        lt_status st = open_bytes(&store, &b, LT_READ_MODEL, &err);
        unsigned char got[4] = { 0 };
        if (!CHECK(st == rows[i].code)) printf("    row %zu: %d\n", i, st);
        if (!st) CHECK(!lt_store_read(store, lt_store_at(store, 0), 0, got, 4, NULL));
        if (!st) CHECK(got[0] == 16);
        lt_store_close(store);
    }
}

static void test_other_pickles(void)
{
    lt_store *store = NULL;
    lt_error err = LT_ERROR_INIT;
    static const char pickled[] = "\x80\4\x95\x09\0\0\0\0\0\0\0\x8c\5hello\x94.";
    write_bytes(path, pickled, sizeof pickled - 1);
    CHECK(lt_store_open(&store, path, &err) == LT_ERR_UNSUPPORTED);
    CHECK(strstr(err.msg, "not one that torch saved"));
}

static void make_tar(bytes *b, int64_t offset)
{
    bytes storages = { .n = 0 }, tensors = { .n = 0 }, object = { .n = 0 };
    put(&storages, "\x80\2K\1.\x80\2(K\x0aU\3cpu", 15);
    pickle_global(&storages, "torch", "FloatStorage");
    put(&storages, "t.", 2);
    put_uint(&storages, 8, 8);
    put(&storages, content, 32);
    /* 11 is elements 4 to 8 of 10 */
    put(&storages, "\x80\2](K\x0bK\x0aK\4K\4ta.", 15);
    put(&tensors, "\x80\2K\1.\x80\2K\x0cK\x0bN\x87.", 14);
    put_uint(&tensors, 2, 8);
    for (int i = 0; i < 2; i++)
        put_uint(&tensors, 2, 8);
    put_uint(&tensors, 1, 8);
    put_uint(&tensors, 2, 8);
    put_uint(&tensors, (uint64_t)offset, 8);
    put(&object, "\x80\2}U\1wK\x0cQs.", 11);
    tar_add(b, "./storages", &storages);
    tar_add(b, "tensors", &tensors);
    tar_add(b, "pickle", &object);
}

static void test_tar(void)
{
    bytes good = { .n = 0 }, far = { .n = 0 }, negative = { .n = 0 };
    lt_store *store = NULL;
    lt_error err = LT_ERROR_INIT;
    unsigned char got[16];
    make_tar(&good, 0);
    if (!CHECK(!open_bytes(&store, &good, LT_READ_MODEL, &err)))
        printf("    %s: %s\n", err.where, err.msg);
    if (!store) return;
    CHECK_STR(lt_store_container(store), "torch tar");
    CHECK_STR(lt_store_at(store, 0)->name, "w");
    CHECK(!lt_store_read(store, lt_store_at(store, 0), 0, got, 16, &err));
    CHECK(got[0] == 16 && got[4] == 24 && got[8] == 20 && got[12] == 28);
    lt_store_close(store);
    make_tar(&far, 1);
    CHECK(open_bytes(&store, &far, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
    make_tar(&negative, -1);
    CHECK(open_bytes(&store, &negative, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
    good.p[3]++; /* a name that its sum does not fit */
    CHECK(open_bytes(&store, &good, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
    CHECK(strstr(err.msg, "damaged header"));
}

static void check_cuts(const char *what, const bytes *b, size_t from)
{
    bytes cut = *b;
    lt_store *store = NULL;
    for (cut.n = 0; cut.n < from; cut.n++) {
        lt_error err = LT_ERROR_INIT;
        lt_status st = open_bytes(&store, &cut, LT_READ_MODEL, &err);
        if (CHECK(st == LT_ERR_FORMAT || st == LT_ERR_UNSUPPORTED)) continue;
        printf("    %s cut at %zu of %zu: %d %s\n", what, cut.n, b->n, st, err.msg);
        lt_store_close(store);
    }
}

static void test_truncated_everywhere(void)
{
    bytes b = { .n = 0 }, legacy = { .n = 0 }, tar = { .n = 0 };
    zip_maker z = { .count = 0 }, packed = { .count = 0 };
    zip_lies lies = { .deflated = true };
    program(&b, "{state_dict:{a:T,b:P},epoch:3,o:O}");
    wrap(&z, &b, NULL);
    zip_end(&z);
    check_cuts("zip", &z.file, z.file.n);
    wrap(&packed, &b, &lies);
    zip_end(&packed);
    check_cuts("deflated zip", &packed.file, packed.file.n);
    make_legacy(&legacy, &old, "77", 8);
    check_cuts("legacy", &legacy, legacy.n);
    make_tar(&tar, 0);
    check_cuts("tar", &tar, tar.n - 501); /* the pickle has 11 of the last 512 bytes */
}

/* Every byte changed: whatever comes of it, nothing is read out of bounds. */
static void test_damaged_everywhere(void)
{
    bytes b = { .n = 0 }, legacy = { .n = 0 };
    zip_maker z = { .count = 0 };
    unsigned char got[64];
    program(&b, "{state_dict:{a:T,b:P},epoch:3,o:O}");
    wrap(&z, &b, NULL);
    zip_end(&z);
    make_legacy(&legacy, &old, "77", 8);
    const bytes *files[2] = { &z.file, &legacy };
    for (int f = 0; f < 2; f++)
        for (size_t i = 0; i < files[f]->n; i++) {
            bytes damaged = *files[f];
            lt_store *store = NULL;
            damaged.p[i] ^= (unsigned char)(1u << (i % 8));
            if (open_bytes(&store, &damaged, LT_READ_MODEL, NULL)) continue;
            for (size_t k = 0; k < lt_store_count(store); k++) {
                const lt_tensor *t = lt_store_at(store, k);
                size_t n = t->size < sizeof got ? (size_t)t->size : sizeof got;
                if (lt_store_read(store, t, t->size - n, got, n, NULL)) continue;
            }
            lt_store_close(store);
        }
    CHECK(true);
}

/* Nesting on both sides of its ceiling: the model's, and that of what is beside it. */
static void test_depth(void)
{
    for (int depth = LT_MAX_TORCH_DEPTH - 1; depth <= LT_MAX_TORCH_DEPTH + 1; depth++)
        for (int tensor = 0; tensor < 2; tensor++) {
            bytes b = { .n = 0 };
            zip_maker z = { .count = 0 };
            lt_store *store = NULL;
            char object[512] = "";
            memset(object, '[', (size_t)depth);
            strcat(object, tensor ? "T" : "1");
            memset(object + depth + 1, ']', (size_t)depth);
            program(&b, object);
            wrap(&z, &b, NULL);
            zip_end(&z);
            lt_status st = open_bytes(&store, &z.file, LT_READ_MODEL, NULL);
            CHECK(st == (depth > LT_MAX_TORCH_DEPTH ? LT_ERR_LIMIT : LT_OK));
            lt_store_close(store);
        }
}

static void test_collisions(void)
{
    static const char *const objects[] = { "{a:{b:T},a.b:T}",
        "{model:{ema.a:T},ema:{a:T}}" };
    for (size_t i = 0; i < 2; i++) {
        bytes b = { .n = 0 };
        zip_maker z = { .count = 0 };
        lt_store *store = NULL;
        lt_error err = LT_ERROR_INIT;
        program(&b, objects[i]);
        wrap(&z, &b, NULL);
        zip_end(&z);
        CHECK(open_bytes(&store, &z.file, LT_READ_MODEL, &err) == LT_ERR_FORMAT);
        CHECK(strstr(err.msg, "the name stands twice"));
    }
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_names), TEST(test_long_text),
        TEST(test_views), TEST(test_gather), TEST(test_shared_storage),
        TEST(test_refused_views), TEST(test_archives), TEST(test_overlap),
        TEST(test_other_archives), TEST(test_deflated_streams), TEST(test_legacy),
        TEST(test_legacy_parts), TEST(test_other_pickles), TEST(test_tar),
        TEST(test_truncated_everywhere), TEST(test_damaged_everywhere), TEST(test_depth),
        TEST(test_collisions) };
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (unsigned char)i;
    temp_path(path, sizeof path, "torch");
    int rc = RUN_TESTS(tests);
    unlink(path);
    return rc;
}
