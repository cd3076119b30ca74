/* SPDX-License-Identifier: MIT */
/* Digests of ranges of a file in one pass. */
#include "base/digest_file.h"
#include "files.h"
#include "runner.h"

#define SIZE ((size_t)5 << 20) /* more than the chunks that are held at a time */

static unsigned char *noise(size_t n)
{
    unsigned char *p = malloc(n);
    uint32_t state = 1;
    for (size_t i = 0; p && i < n; i++) {
        state = state * 1664525 + 1013904223;
        p[i] = (unsigned char)(state >> 24);
    }
    return p;
}

static void plain_hash(const unsigned char *p, size_t n, char hex[LT_SHA256_HEX])
{
    lt_sha256 *h = NULL;
    if (!CHECK(!lt_sha256_new(&h, NULL))) return;
    lt_sha256_update(h, p, n);
    lt_sha256_hex(h, hex);
    lt_sha256_free(h);
}

static lt_source *source_of(const char *path, const unsigned char *bytes, size_t n)
{
    lt_source *src = NULL;
    CHECK(!write_bytes(path, bytes, n));
    CHECK(!lt_source_open(&src, path, NULL));
    return src;
}

static void check_ranges(const unsigned char *bytes, size_t n)
{
    char path[256], expected[LT_SHA256_HEX];
    const uint64_t ends[][2] = { { 0, UINT64_MAX }, { 1, UINT64_MAX },
        { 0x100000, 0x110000 }, { n, n + 1 }, { 262143, 262145 }, { 10, 10 } };
    temp_path(path, sizeof path, "digest");
    lt_source *src = source_of(path, bytes, n);
    for (int threads = 1; src && threads <= 4; threads += threads)
        for (size_t first = 0; first + 3 <= sizeof ends / sizeof *ends; first++) {
            lt_digest_range r[3];
            for (size_t i = 0; i < 3; i++)
                r[i] = (lt_digest_range){ ends[first + i][0], ends[first + i][1], "" };
            CHECK(!lt_digest_file(src, r, 3, threads, NULL));
            for (size_t i = 0; i < 3; i++) {
                size_t to = r[i].to < n ? (size_t)r[i].to : n;
                size_t from = r[i].from < to ? (size_t)r[i].from : to;
                plain_hash(bytes + from, to - from, expected);
                CHECK_STR(r[i].hex, expected);
            }
        }
    lt_source_close(src);
    unlink(path);
}

static void test_ranges(void)
{
    static const size_t sizes[] = { 0, 1, 262143, 262144, 262145, SIZE };
    unsigned char *bytes = noise(SIZE);
    for (size_t i = 0; bytes && i < sizeof sizes / sizeof *sizes; i++)
        check_ranges(bytes, sizes[i]);
    free(bytes);
}

/* The file is made shorter, longer, or written again after it was opened. */
static void check_change(const unsigned char *bytes, size_t new_size)
{
    char path[256];
    lt_error err = LT_ERROR_INIT;
    lt_digest_range ranges[2] = { { 0, UINT64_MAX, "" }, { 8, UINT64_MAX, "" } };
    temp_path(path, sizeof path, "changed");
    lt_source *src = source_of(path, bytes, SIZE - 1);
    usleep(20000); /* a file system's clock may tick that slowly */
    CHECK(!write_bytes(path, bytes, new_size));
    for (int threads = 1; src && threads <= 3; threads++) {
        CHECK(lt_digest_file(src, ranges, 2, threads, &err) == LT_ERR_IO);
        CHECK(strstr(err.msg, "was changed while it was read") != NULL);
    }
    lt_source_close(src);
    unlink(path);
}

static void test_changes(void)
{
    unsigned char *bytes = noise(SIZE);
    if (!CHECK(bytes != NULL)) return;
    check_change(bytes, SIZE - 1);
    check_change(bytes, SIZE);
    check_change(bytes, SIZE / 2);
    check_change(bytes, 0);
    free(bytes);
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_ranges), TEST(test_changes) };
    return RUN_TESTS(tests);
}
