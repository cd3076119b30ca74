/* SPDX-License-Identifier: MIT */
/* The small things everything stands on: sizes, map, arena, pool, outputs, errors. */
#include "runner.h"

#include "base/abandon.h"
#include "base/arena.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "base/pool.h"
#include "base/source.h"
#include "base/temp.h"
#include "files.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static char path[512];

static void test_sizes(void)
{
    uint64_t v;
    CHECK(lt_mul_size(1u << 31, 1u << 31, &v) && v == 1ull << 62);
    CHECK(!lt_mul_size(1ull << 32, 1ull << 32, &v));
    CHECK(!lt_add_size(UINT64_MAX, 1, &v));
    lt_error err = LT_ERROR_INIT;
    CHECK(!lt_alloc(UINT64_MAX / 4, 8, &err) && err.code == LT_ERR_NOMEM);
    CHECK(!lt_alloc_work(UINT64_MAX, 1, &err));
    unsigned char *p = lt_alloc(100, 1, NULL);
    CHECK(p && (uintptr_t)p % 64 == 0 && p[0] == 0 && p[99] == 0);
    lt_free(p);
    p = lt_alloc(0, 8, NULL);
    CHECK(p != NULL);
    lt_free(p);
}

static void test_map(void)
{
    enum { N = 5000 };
    lt_map map = { 0 };
    lt_arena arena = { 0 };
    size_t found, wrong = 0;
    for (size_t i = 0; i < N; i++) {
        const char *key = lt_arena_printf(&arena, NULL, "key %zu", i * 7919);
        wrong += lt_map_put(&map, key, i, &found, NULL) || found != LT_MAP_NONE;
    }
    for (size_t i = 0; i < N; i++) {
        char key[32];
        snprintf(key, sizeof key, "key %zu", i * 7919);
        wrong += lt_map_get(&map, key) != i;
    }
    CHECK(wrong == 0 && map.count == N);
    CHECK(lt_map_get(&map, "absent") == LT_MAP_NONE);
    CHECK(!lt_map_put(&map, "key 0", 99, &found, NULL) && found == 0);
    lt_map_set(&map, "key 0", 7);
    CHECK(lt_map_get(&map, "key 0") == 7 && lt_map_getn(&map, "key 0x", 5) == 7);
    lt_map_release(&map);
    CHECK(lt_map_get(&map, "key 0") == LT_MAP_NONE);
    lt_arena_release(&arena);
}

/* Names that all fall into one place of a table whose hash has no secret (there, looking
 * each up takes 20,000 steps): here they spread like any others. */
static void test_map_flood(void)
{
    enum { N = 40000, SLOTS = 1 << 16 };
    char(*keys)[16] = malloc(N * sizeof *keys);
    size_t n = 0, chained = 0;
    bool *taken = calloc(SLOTS, 1);
    if (!CHECK(keys && taken)) return;
    for (size_t i = 0; n < N; i++) {
        int size = snprintf(keys[n], sizeof keys[n], "%zx", i);
        if ((XXH3_64bits(keys[n], (size_t)size) & (SLOTS - 1)) < 256) n++;
    }
    for (size_t i = 0; i < N; i++) {
        bool *place = &taken[lt_hash(keys[i], strlen(keys[i])) & (SLOTS - 1)];
        chained += *place;
        *place = true;
    }
    /* At random, 40000 in 65536 places: 10,000 meet one that is taken. */
    CHECK(chained > 9000 && chained < 11000);
    free(keys);
    free(taken);
}

struct job {
    atomic_size_t ran, done;
    size_t fail_at;
};

static lt_status work(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    struct job *j = ctx;
    int index = lt_worker_index(worker);
    atomic_fetch_add(&j->ran, 1);
    if (index < 0 || index >= 4) return lt_error_set(err, LT_ERR_INTERNAL, "worker");
    if (item < j->fail_at) return LT_OK;
    return lt_error_set(err, LT_ERR_NUMERIC, "item %zu", item);
}

static void done(void *ctx, size_t item)
{
    (void)item;
    atomic_fetch_add(&((struct job *)ctx)->done, 1);
}

static void test_pool(void)
{
    for (int threads = 1; threads <= 4; threads++) {
        struct job j = { 0, 0, SIZE_MAX }, bad = { 0, 0, 100 };
        lt_job job = { .threads = threads, .n_items = 1000, .work = work, .done = done };
        job.ctx = &j;
        CHECK(!lt_pool_run(&job, NULL));
        CHECK(j.ran == 1000 && j.done == 1000);
        lt_error err = LT_ERROR_INIT;
        job.ctx = &bad;
        CHECK(lt_pool_run(&job, &err) == LT_ERR_NUMERIC);
        CHECK_STR(err.msg, "item 100");
        CHECK(bad.ran <= 100 + 2 * (size_t)threads && bad.done == 100);
        job.n_items = 0;
        CHECK(!lt_pool_run(&job, NULL));
    }
    CHECK(lt_cpu_count() >= 1);
}

/* ---- the pool's memory budget ---- */

struct budget {
    atomic_ullong held, most;
    atomic_size_t alone; /* items over the ceiling that had company */
    atomic_size_t running;
};

static uint64_t need(void *ctx, size_t item)
{
    (void)ctx;
    return item == 5 ? 5000 : 100 * (item % 7);
}

static lt_status hold(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    struct budget *b = ctx;
    (void)worker;
    (void)err;
    uint64_t mine = need(NULL, item), now = atomic_fetch_add(&b->held, mine) + mine;
    size_t others = atomic_fetch_add(&b->running, 1);
    unsigned long long most = atomic_load(&b->most);
    if (item == 5 && others) atomic_fetch_add(&b->alone, 1);
    while (item != 5 && now > most && !atomic_compare_exchange_weak(&b->most, &most, now))
        ;
    struct timespec pause = { 0, 200000 };
    nanosleep(&pause, NULL);
    atomic_fetch_sub(&b->running, 1);
    atomic_fetch_sub(&b->held, mine);
    return LT_OK;
}

static void test_budget(void)
{
    for (int threads = 1; threads <= 4; threads++) {
        struct budget b = { 0 };
        lt_job job = { .threads = threads,
            .memory = 1600,
            .n_items = 60,
            .work = hold,
            .need = need,
            .ctx = &b };
        CHECK(!lt_pool_run(&job, NULL));
        CHECK(b.most <= 1600 - lt_job_keep(&job) * (uint64_t)threads && b.most >= 600);
        CHECK(b.alone == 0 && b.held == 0);
        job.memory = 0;
        CHECK(lt_job_keep(&job) == LT_SPARE_MEMORY / (uint64_t)(2 * threads));
    }
}

/* ---- items in parts ---- */

enum { PARTS = 200 };

struct parts {
    size_t seen[PARTS], fail_from;
    atomic_size_t total;
};

static lt_status count_part(void *ctx, size_t part, lt_error *err)
{
    struct parts *p = ctx;
    p->seen[part]++;
    if (part >= p->fail_from) return lt_error_set(err, LT_ERR_NUMERIC, "part %zu", part);
    return LT_OK;
}

static lt_status in_parts(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    (void)item;
    struct parts mine = { .fail_from = SIZE_MAX };
    lt_status st = lt_worker_share(worker, PARTS, count_part, &mine, err);
    for (size_t i = 0; i < PARTS; i++)
        atomic_fetch_add(&((struct parts *)ctx)->total, mine.seen[i] == 1);
    return st;
}

static lt_status fails_in_parts(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    (void)item;
    return lt_worker_share(worker, PARTS, count_part, ctx, err);
}

/* Two parts that wait for each other: one thread alone would not see both begun. */
static lt_status meet(void *ctx, size_t part, lt_error *err)
{
    struct parts *p = ctx;
    struct timespec pause = { 0, 1000000 };
    (void)part;
    atomic_fetch_add(&p->total, 1);
    for (int i = 0; i < 5000 && atomic_load(&p->total) < 2; i++)
        nanosleep(&pause, NULL);
    if (atomic_load(&p->total) == 2) return LT_OK;
    return lt_error_set(err, LT_ERR_INTERNAL, "nobody helps");
}

static lt_status meets(void *ctx, size_t item, lt_worker *worker, lt_error *err)
{
    (void)item;
    return lt_worker_share(worker, 2, meet, ctx, err);
}

static void test_help(void)
{
    struct parts both = { .fail_from = SIZE_MAX };
    lt_job job = { .threads = 2, .n_items = 1, .work = meets, .ctx = &both };
    CHECK(!lt_pool_run(&job, NULL));
}

static void test_share(void)
{
    for (int threads = 1; threads <= 4; threads++) {
        struct parts all = { .fail_from = 0 }, bad = { .fail_from = 37 };
        lt_job job = { .threads = threads, .n_items = 50, .work = in_parts, .ctx = &all };
        CHECK(!lt_pool_run(&job, NULL));
        CHECK(all.total == 50 * PARTS);
        lt_error err = LT_ERROR_INIT;
        job = (lt_job){ .threads = threads, .n_items = 1, .work = fails_in_parts };
        job.ctx = &bad;
        CHECK(lt_pool_run(&job, &err) == LT_ERR_NUMERIC);
        CHECK_STR(err.msg, "part 37");
    }
    struct parts alone = { .fail_from = SIZE_MAX };
    CHECK(!lt_worker_share(NULL, PARTS, count_part, &alone, NULL));
    CHECK(alone.seen[0] == 1 && alone.seen[PARTS - 1] == 1);
}

static bool holds(const char *text)
{
    char buf[64] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    size_t n = fread(buf, 1, sizeof buf - 1, f);
    fclose(f);
    return n == strlen(text) && !memcmp(buf, text, n);
}

static lt_status write_file(const char *text, bool overwrite, lt_error *err)
{
    lt_outfile *f = NULL;
    lt_status st = lt_outfile_open(&f, path, overwrite, err);
    if (!st) st = lt_outfile_write(f, 0, text, strlen(text), err);
    if (!st) st = lt_outfile_commit(f, err);
    lt_outfile_close(f);
    return st;
}

static void test_outfile(void)
{
    lt_outfile *f = NULL;
    lt_error err = LT_ERROR_INIT;
    unlink(path);
    CHECK(!lt_outfile_open(&f, path, false, NULL));
    CHECK(!lt_outfile_write(f, 3, "def", 3, NULL)
        && !lt_outfile_write(f, 0, "abc", 3, NULL));
    CHECK(access(path, F_OK) != 0); /* nothing is seen before commit */
    lt_outfile_close(f);
    CHECK(access(path, F_OK) != 0);

    mode_t old = umask(027);
    CHECK(!write_file("first", false, NULL) && holds("first"));
    umask(old);
    struct stat sb;
    CHECK(!stat(path, &sb) && (sb.st_mode & 0777) == 0640);
    CHECK(write_file("second", false, &err) == LT_ERR_EXISTS && holds("first"));
    CHECK(strstr(err.where, path) && strstr(err.msg, "-f"));
    CHECK(!write_file("third", true, NULL) && holds("third"));

    /* The target appears between open and commit: it is not clobbered. */
    unlink(path);
    CHECK(!lt_outfile_open(&f, path, false, NULL));
    CHECK(!lt_outfile_write(f, 0, "late", 4, NULL));
    CHECK(!write_bytes(path, "early", 5));
    CHECK(lt_outfile_commit(f, &err) == LT_ERR_EXISTS && holds("early"));
    lt_outfile_close(f);

    lt_source *s = NULL;
    char buf[8] = "";
    CHECK(!lt_source_open(&s, path, NULL) && lt_source_size(s) == 5);
    CHECK(!lt_source_read(s, 1, buf, 3, NULL) && !strcmp(buf, "arl"));
    CHECK(
        lt_source_read(s, 3, buf, 3, &err) == LT_ERR_IO && strstr(err.msg, "ends early"));
    CHECK(!lt_outfile_open(&f, path, true, NULL));
    CHECK(!lt_outfile_copy(f, 2, lt_source_fd(s), 1, 4, NULL));
    CHECK(!lt_outfile_write(f, 0, "<>", 2, NULL) && !lt_outfile_commit(f, NULL));
    CHECK(holds("<>arly"));
    lt_outfile_close(f);
    lt_source_close(s);
    CHECK(lt_outfile_open(&f, "/nonexistent/x", false, &err) == LT_ERR_IO && !f);
}

/* As many as the largest output has: the last one is removed too. */
static void test_many_abandoned(void)
{
    enum { N = 42000, SIZE = 32 };
    char(*names)[SIZE] = calloc(N, SIZE);
    if (!CHECK(names != NULL)) return;
    for (int i = 0; i < N; i++) {
        snprintf(names[i], SIZE, "/nonexistent/%d", i);
        lt_abandon_remember(names[i]);
    }
    CHECK(!write_bytes(path, "x", 1));
    lt_abandon_remember(path);
    lt_abandon_all();
    CHECK(access(path, F_OK) != 0);
    lt_abandon_forget(path);
    CHECK(!write_bytes(path, "x", 1));
    for (int i = N; i-- > 0;)
        lt_abandon_forget(names[i]);
    lt_abandon_all(); /* nothing is remembered any more */
    CHECK(access(path, F_OK) == 0);
    free(names);
}

/* Two files that belong together: what one of them replaced comes back when the other
 * cannot be placed. */
static void test_placing(void)
{
    lt_outfile *a = NULL, *b = NULL;
    char other[600];
    snprintf(other, sizeof other, "%s-other", path);
    CHECK(!write_bytes(path, "old", 3));
    unlink(other);
    for (int settled = 0; settled < 2; settled++) {
        CHECK(!lt_outfile_open(&a, path, true, NULL));
        CHECK(!lt_outfile_open(&b, other, true, NULL));
        CHECK(!lt_outfile_write(a, 0, "new", 3, NULL)
            && !lt_outfile_write(b, 0, "new", 3, NULL));
        CHECK(!lt_outfile_seal(a, NULL) && !lt_outfile_seal(b, NULL));
        CHECK(!lt_outfile_place(a, NULL) && !lt_outfile_place(b, NULL));
        CHECK(holds("new") && !access(other, F_OK));
        if (settled) lt_outfile_settle(a);
        if (settled) lt_outfile_settle(b);
        lt_outfile_close(a);
        lt_outfile_close(b);
        CHECK(holds(settled ? "new" : "old"));
        CHECK((access(other, F_OK) == 0) == (settled == 1));
    }
    unlink(other);
}

static void test_links(void)
{
    lt_outfile *f = NULL;
    lt_error err = LT_ERROR_INIT;
    char link[600];
    snprintf(link, sizeof link, "%s-link", path);
    unlink(path);
    unlink(link);
    CHECK(!symlink(path, link));
    CHECK(lt_outfile_open(&f, link, true, &err) == LT_ERR_EXISTS && !f);
    CHECK(strstr(err.msg, "leads nowhere"));
    CHECK(!write_bytes(path, "old", 3));
    CHECK(!lt_outfile_open(&f, link, true, NULL));
    CHECK(!lt_outfile_write(f, 0, "new", 3, NULL) && !lt_outfile_commit(f, NULL));
    lt_outfile_close(f);
    CHECK(holds("new"));
    unlink(link);
}

static void test_temporary_names(void)
{
    char *name = NULL, long_path[1024];
    int fd = lt_temp_file(&name, path, NULL);
    CHECK(fd >= 0 && !access(name, F_OK));
    const char *slash = strrchr(name, '/'), *own = strrchr(path, '/') + 1;
    CHECK(slash[1] == '.' && !strncmp(slash + 2, own, strlen(own)));
    CHECK_STR(name + strlen(name) - 8, ".lt-part");
    lt_abandon_all(); /* as a signal would */
    CHECK(access(name, F_OK));
    lt_abandon_forget(name);
    free(name);
    close(fd);
    /* A name that is as long as names can be is cut. */
    int dir = (int)(own - path);
    snprintf(long_path, sizeof long_path, "%.*s%0255d", dir, path, 0);
    fd = lt_temp_file(&name, long_path, NULL);
    CHECK(fd >= 0 && strlen(strrchr(name, '/') + 1) < 255);
    unlink(name);
    lt_abandon_forget(name);
    free(name);
    close(fd);
    fd = lt_temp_nameless(path, NULL);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
}

/* What cannot be looked at is not taken for absent. */
static void test_looking(void)
{
    lt_path_kind kind;
    lt_error err = LT_ERROR_INIT;
    char longest[6000];
    CHECK(!write_bytes(path, "x", 1));
    CHECK(!lt_path_look(path, &kind, NULL) && kind == LT_PATH_FILE);
    CHECK(!lt_path_look("/", &kind, NULL) && kind == LT_PATH_FOLDER);
    CHECK(!lt_path_look("/dev/null", &kind, NULL) && kind == LT_PATH_OTHER);
    CHECK(!lt_path_look("/nonexistent/x", &kind, NULL) && kind == LT_PATH_NONE);
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CHECK(lt_path_look(longest, &kind, &err) == LT_ERR_IO && err.sys == ENAMETOOLONG);
}

static void test_changed_source(void)
{
    lt_source *s = NULL;
    lt_error err = LT_ERROR_INIT;
    CHECK(!write_bytes(path, "before", 6));
    CHECK(!lt_source_open(&s, path, NULL) && !lt_source_unchanged(s, NULL));
    CHECK(!truncate(path, 3));
    CHECK(lt_source_unchanged(s, &err) == LT_ERR_IO && strstr(err.msg, "changed"));
    lt_source_close(s);
}

static void test_errors(void)
{
    lt_error err = LT_ERROR_INIT;
    CHECK(lt_error_at(&err, LT_ERR_FORMAT, 7, "bad %d", 3) == LT_ERR_FORMAT);
    CHECK(lt_error_where(&err, "tensor '%s'", "x") == LT_ERR_FORMAT);
    CHECK(lt_error_where(&err, "file") == LT_ERR_FORMAT);
    CHECK_STR(err.where, "file: tensor 'x'");
    CHECK_STR(err.msg, "bad 3");
    CHECK(err.offset == 7);
    lt_error_set(&err, LT_ERR_FORMAT, "'%s'", "a\nb\x1b[2J\x7f\xc3\xa9");
    lt_error_where(&err, "%s", "c\rd");
    CHECK_STR(err.msg, "'a?b?[2J?\xc3\xa9'");
    CHECK_STR(err.where, "c?d");
    char longest[2000];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    lt_error_where(&err, "%s", longest);
    CHECK(strlen(err.where) < sizeof err.where);
    for (int code = LT_OK; code <= LT_ERR_INTERNAL; code++)
        CHECK(strcmp(lt_status_text((lt_status)code), "unknown status"));
}

static void test_sha256(void)
{
    char hex[LT_SHA256_HEX];
    lt_sha256 *h = NULL;
    CHECK(!lt_sha256_new(&h, NULL));
    lt_sha256_update(h, "a", 1);
    lt_sha256_update(h, "bc", 2);
    lt_sha256_hex(h, hex);
    lt_sha256_free(h);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_sizes), TEST(test_map),
        TEST(test_map_flood), TEST(test_pool), TEST(test_budget), TEST(test_share),
        TEST(test_help), TEST(test_outfile), TEST(test_many_abandoned),
        TEST(test_placing), TEST(test_links), TEST(test_temporary_names),
        TEST(test_looking), TEST(test_changed_source), TEST(test_errors),
        TEST(test_sha256) };
    temp_path(path, sizeof path, "base");
    int rc = RUN_TESTS(tests);
    unlink(path);
    return rc;
}
