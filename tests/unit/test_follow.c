/* SPDX-License-Identifier: MIT */
/* Data that is hashed while it is written: in any order, from several threads, stopped at
 * any time. */
#include "base/digest.h"
#include "base/pool.h"
#include "files.h"
#include "format/follow.h"
#include "runner.h"

#define TENSORS 24
#define PARTS 12 /* of each tensor */
#define MOST ((uint64_t)3200000)

static unsigned char *noise;

/* Sizes differ, one is zero; together more than what a follower asks for. */
static uint64_t size_of(size_t tensor)
{
    return tensor == 5 ? 0 : MOST - 10007 * tensor;
}

struct filling {
    lt_writer *writer;
    size_t items[TENSORS * PARTS]; /* in the order in which they are put */
};

static void shuffle(size_t *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = i;
    for (size_t i = n; seed && i-- > 1;) {
        seed = seed * 1664525 + 1013904223;
        size_t k = (seed >> 8) % (i + 1), swap = p[i];
        p[i] = p[k];
        p[k] = swap;
    }
}

static lt_status put_part(void *ctx, size_t i, lt_worker *worker, lt_error *err)
{
    const struct filling *f = ctx;
    size_t tensor = f->items[i] / PARTS, part = f->items[i] % PARTS;
    uint64_t size = size_of(tensor), from = size * part / PARTS;
    uint64_t to = size * (part + 1) / PARTS;
    (void)worker;
    return lt_writer_put(
        f->writer, tensor, from, noise + tensor + from, (size_t)(to - from), err);
}

static lt_writer *begin(const char *path, bool expected)
{
    lt_output output = { .path = path, .overwrite = true };
    lt_writer *w = NULL;
    char name[16];
    if (!CHECK(!lt_writer_new(&w, &output, NULL))) return NULL;
    for (size_t i = 0; i < TENSORS; i++) {
        uint64_t shape[1] = { size_of(i) };
        snprintf(name, sizeof name, "t%02zu", i);
        CHECK(!lt_writer_add(w, name, LT_U8, 1, shape, NULL, NULL));
    }
    if (expected) lt_writer_expect_hash(w, 0);
    CHECK(!lt_writer_begin(w, LT_ORDER_GIVEN, NULL));
    CHECK((w->follower != NULL) == expected);
    return w;
}

static lt_status fill(lt_writer *w, uint32_t seed, int threads, size_t n)
{
    struct filling f = { .writer = w };
    shuffle(f.items, TENSORS * PARTS, seed);
    return lt_pool_run(
        &(lt_job){ .threads = threads, .n_items = n, .work = put_part, .ctx = &f }, NULL);
}

static void expected_hash(char hex[LT_SHA256_HEX])
{
    lt_sha256 *h = NULL;
    if (!CHECK(!lt_sha256_new(&h, NULL))) return;
    for (size_t i = 0; i < TENSORS; i++)
        lt_sha256_update(h, noise + i, (size_t)size_of(i));
    lt_sha256_hex(h, hex);
    lt_sha256_free(h);
}

static void test_orders(void)
{
    char path[256], expected[LT_SHA256_HEX] = "", hex[LT_HASH_SIZE];
    temp_path(path, sizeof path, "follow");
    expected_hash(expected);
    for (uint32_t run = 0; run < 4; run++) {
        lt_writer *w = begin(path, true);
        if (!w) break;
        CHECK(!fill(w, run / 2, run % 2 ? 4 : 1, TENSORS * PARTS));
        for (int again = 0; again < 2; again++) {
            CHECK(lt_follower_knows(w->follower, 0));
            CHECK(!lt_writer_hash(w, 0, hex, NULL));
            CHECK_STR(hex, expected);
        }
        CHECK(!lt_writer_commit(w, NULL));
        CHECK(!w->follower);
        lt_writer_close(w);
        unlink(path);
    }
}

/* Without a follower, and with one that does not know the end yet, the same as ever. */
static void test_others(void)
{
    char path[256], expected[LT_SHA256_HEX] = "", hex[LT_HASH_SIZE], first[LT_HASH_SIZE];
    temp_path(path, sizeof path, "follow");
    expected_hash(expected);
    lt_writer *w = begin(path, false);
    if (!w) return;
    CHECK(!fill(w, 7, 2, TENSORS * PARTS));
    CHECK(!lt_writer_hash(w, 0, hex, NULL));
    CHECK_STR(hex, expected);
    lt_writer_close(w);
    w = begin(path, true);
    if (!w) return;
    char end = 0;
    CHECK(!lt_writer_put(w, TENSORS - 1, size_of(TENSORS - 1) - 1, &end, 1, NULL));
    CHECK(!lt_follower_knows(w->follower, 0));
    CHECK(!lt_writer_hash(w, 0, first, NULL));
    CHECK(strcmp(first, expected) != 0);
    lt_writer_close(w);
}

/* Given up at any point; nothing is left. */
static void test_stops(void)
{
    char path[256];
    temp_path(path, sizeof path, "follow");
    for (size_t n = 0; n <= TENSORS * PARTS; n += TENSORS * PARTS / 6) {
        lt_writer *w = begin(path, true);
        if (!w) return;
        CHECK(!fill(w, n % 2 ? 0 : 3, 2, n));
        lt_writer_close(w);
        CHECK(access(path, F_OK) != 0);
    }
}

/* What cannot be read back is an error of the hash. */
static void test_gone(void)
{
    char path[256], hex[LT_HASH_SIZE];
    lt_error err = LT_ERROR_INIT;
    temp_path(path, sizeof path, "follow");
    lt_writer *w = begin(path, true);
    if (!w) return;
    for (size_t i = 0; i < TENSORS; i++)
        lt_follower_note(w->follower, i, 0, size_of(i)); /* none of it was written */
    CHECK(lt_writer_hash(w, 0, hex, &err) == LT_ERR_IO);
    CHECK(strstr(err.msg, "cannot read back") != NULL);
    lt_writer_close(w);
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_orders), TEST(test_others),
        TEST(test_stops), TEST(test_gone) };
    noise = malloc(MOST + TENSORS);
    uint32_t state = 1;
    for (size_t i = 0; noise && i < MOST + TENSORS; i++) {
        state = state * 1664525 + 1013904223;
        noise[i] = (unsigned char)(state >> 24);
    }
    int rc = noise ? RUN_TESTS(tests) : 1;
    free(noise);
    return rc;
}
