/* SPDX-License-Identifier: MIT */
/* Torch files of testdata/mini-torch, and those that are written here. */
#include "runner.h"

#include "files.h"
#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>

static lt_store *open_sample(const char *name, lt_reading reading)
{
    char path[1024];
    lt_store *store = NULL;
    lt_error err = LT_ERROR_INIT;
    const char *source = getenv("LORATOOL_SOURCE");
    snprintf(path, sizeof path, "%s/testdata/mini-torch/%s", source ? source : ".", name);
    if (!CHECK(!lt_store_open_as(&store, path, reading, &err)))
        printf("    %s: %s\n", err.where, err.msg);
    return store;
}

/* Every part of the tensor, read alone, is that part of the whole. */
static void check_parts(const lt_store *store, const lt_tensor *t, const void *whole)
{
    unsigned char part[256];
    size_t good = 0, all = 0;
    for (uint64_t first = 0; first <= t->size; first++)
        for (uint64_t size = 0; size <= t->size - first; size++, all++)
            good += !lt_store_read(store, t, first, part, (size_t)size, NULL)
                && !memcmp(part, (const char *)whole + first, (size_t)size);
    CHECK(good == all);
}

static void check_floats(
    const lt_store *store, const char *name, const float *values, size_t n)
{
    float found[64] = { 0 };
    const lt_tensor *t = lt_store_find(store, name);
    if (!CHECK(t && t->dtype == LT_F32 && t->count == n)) {
        printf("    %s\n", name);
        return;
    }
    CHECK(!lt_store_read(store, t, 0, found, n * sizeof *found, NULL));
    if (!CHECK(!memcmp(found, values, n * sizeof *found))) printf("    %s\n", name);
    check_parts(store, t, values);
}

static void test_views(void)
{
    lt_store *s = open_sample("views.pt", LT_READ_MODEL);
    float whole[24], transposed[24], columns[8];
    if (!s) return;
    for (int i = 0; i < 24; i++) {
        whole[i] = (float)i;
        transposed[i % 6 * 4 + i / 6] = (float)i;
    }
    for (int i = 0; i < 8; i++)
        columns[i] = whole[i / 2 * 6 + 1 + i % 2 * 2];
    check_floats(s, "whole", whole, 24);
    check_floats(s, "transposed", transposed, 24);
    check_floats(s, "columns", columns, 8);
    check_floats(s, "row", whole + 12, 6);
    check_floats(s, "expanded", (float[3]){ 0 }, 3);
    check_floats(s, "scalar", (float[1]){ 7 }, 1);
    const lt_tensor *empty = lt_store_find(s, "empty");
    CHECK(empty && empty->size == 0 && empty->shape[0] == 0 && empty->shape[1] == 6);
    const lt_tensor *eight = lt_store_find(s, "eight");
    CHECK(eight && eight->dtype == LT_F8_E4M3 && eight->size == 24);
    int fd;
    uint64_t at;
    CHECK(lt_store_in_place(s, lt_store_find(s, "whole"), &fd, &at));
    CHECK(!lt_store_in_place(s, lt_store_find(s, "transposed"), &fd, &at));
    CHECK(lt_store_in_place(s, lt_store_find(s, "row"), &fd, &at));
    lt_store_close(s);
}

static void test_aliases(void)
{
    static const char *const files[] = { "state.pt", "legacy.pt", "lightning.ckpt" };
    for (int i = 0; i < 3; i++) {
        lt_store *s = open_sample(files[i], LT_READ_MODEL);
        const lt_tensor *a = s ? lt_store_find(s, "embed.weight") : NULL;
        const lt_tensor *b = s ? lt_store_find(s, "head.weight") : NULL;
        const lt_tensor *c = s ? lt_store_find(s, "norm.weight") : NULL;
        if (CHECK(a && b && c)) {
            size_t x = lt_store_index(s, a), y = lt_store_index(s, b);
            CHECK(lt_store_alias(s, x) == lt_store_alias(s, y));
            size_t z = lt_store_index(s, c);
            CHECK(lt_store_alias(s, z) == z);
            CHECK(a->offset == b->offset);
        }
        lt_store_close(s);
    }
}

static void test_training(void)
{
    lt_store *s = open_sample("lightning.ckpt", LT_READ_MODEL);
    if (!s) return;
    bool optimizer = false, settings = false;
    CHECK(lt_store_count(s) == 5);
    CHECK_STR(lt_store_wrapper(s), "state_dict");
    for (size_t i = 0; i < lt_store_aside_count(s); i++) {
        const lt_aside *a = lt_store_aside(s, i);
        CHECK(!a->unread);
        if (!strcmp(a->path, "optimizer_states"))
            optimizer = a->bytes > 0 && strstr(a->what, "9 tensors");
    }
    for (size_t i = 0; i < lt_store_global_count(s); i++) {
        const lt_global *g = lt_store_global(s, i);
        if (!strcmp(g->name, "some_trainer.config.Settings"))
            settings = g->verdict == LT_UNKNOWN && g->count == 1;
    }
    CHECK(optimizer && settings);
    CHECK(!lt_store_usable(s, false, NULL));
    lt_store_close(s);
    s = open_sample("lightning.ckpt", LT_READ_EVERYTHING);
    if (!s) return;
    CHECK_STR(lt_store_wrapper(s), "");
    CHECK(lt_store_find(s, "state_dict.embed.weight") != NULL);
    CHECK(lt_store_find(s, "optimizer_states.0.state.0.exp_avg") != NULL);
    CHECK(lt_store_count(s) == 14);
    lt_store_close(s);
}

/* ---- written here ------------------------------------------------------------------ */

static char path[512];

static bool written(lt_dtype dtype)
{
    return lt_sink_torch.holds(dtype);
}

static lt_status put_all(lt_writer *w, lt_error *err)
{
    char name[32], bytes[128];
    uint64_t shape[2] = { 3, 2 };
    size_t index, twin;
    bool shared = false;
    lt_status st = LT_OK;
    for (int d = 0; d < LT_DTYPE_COUNT && !st; d++) {
        snprintf(name, sizeof name, "t.%s", lt_dtype_get((lt_dtype)d)->name);
        if (written((lt_dtype)d))
            st = lt_writer_add(w, name, (lt_dtype)d, 2, shape, NULL, err);
    }
    if (!st) st = lt_writer_add(w, "scalar", LT_F32, 0, NULL, &index, err);
    if (!st) st = lt_writer_add(w, "empty", LT_F32, 1, (uint64_t[1]){ 0 }, NULL, err);
    if (!st) st = lt_writer_add(w, "twin", LT_F32, 0, NULL, &twin, err);
    if (!st) lt_writer_alias(w, twin, index, &shared);
    CHECK(shared);
    if (!st) st = lt_writer_begin(w, LT_ORDER_GIVEN, err);
    for (size_t i = 0; i < w->count && !st; i++) {
        memset(bytes, (int)i + 1, sizeof bytes);
        if (i != twin)
            st = lt_writer_put(w, i, 0, bytes, (size_t)w->tensors[i].size, err);
    }
    return st ? st : lt_writer_commit(w, err);
}

static void check_written(const char *wrapper)
{
    lt_store *s = NULL;
    char bytes[128], wanted[128];
    lt_error err = LT_ERROR_INIT;
    if (!CHECK(!lt_store_open(&s, path, &err))) {
        printf("    %s\n", err.msg);
        return;
    }
    CHECK_STR(lt_store_container(s), "torch zip");
    CHECK_STR(lt_store_wrapper(s), wrapper);
    size_t seen = 0;
    for (int d = 0; d < LT_DTYPE_COUNT; d++) {
        char name[32];
        snprintf(name, sizeof name, "t.%s", lt_dtype_get((lt_dtype)d)->name);
        const lt_tensor *t = lt_store_find(s, name);
        CHECK(!t == !written((lt_dtype)d));
        if (!t) continue;
        memset(wanted, (int)++seen, sizeof wanted);
        CHECK(t->dtype == (lt_dtype)d && t->n_dims == 2 && t->shape[0] == 3);
        CHECK(t->offset % 64 == 0);
        CHECK(!lt_store_read(s, t, 0, bytes, (size_t)t->size, NULL));
        CHECK(!memcmp(bytes, wanted, (size_t)t->size));
    }
    CHECK(seen > 18);
    const lt_tensor *scalar = lt_store_find(s, "scalar"),
                    *twin = lt_store_find(s, "twin");
    if (CHECK(scalar && twin && lt_store_find(s, "empty")))
        CHECK(scalar->offset == twin->offset && scalar->n_dims == 0);
    lt_store_close(s);
}

static void test_written(void)
{
    static const char *const wrappers[] = { "", "state_dict", "a.b" };
    temp_path(path, sizeof path, "written.pt");
    for (int i = 0; i < 3; i++) {
        lt_writer *w = NULL;
        lt_error err = LT_ERROR_INIT;
        lt_output output = {
            .path = path, .format = "torch", .overwrite = true, .wrapper = wrappers[i]
        };
        if (CHECK(!lt_writer_new(&w, &output, &err))) CHECK(!put_all(w, &err));
        if (err.msg[0]) printf("    %s\n", err.msg);
        lt_writer_close(w);
        /* "a" and "b" are no usual names: they stay on the tensors. */
        if (i < 2) check_written(wrappers[i]);
    }
    remove(path);
}

static lt_status write_empty(unsigned n_dims, const uint64_t *shape, lt_error *err)
{
    lt_writer *w = NULL;
    lt_output output = { .path = path, .format = "torch", .overwrite = true };
    lt_status st = lt_writer_new(&w, &output, err);
    if (!st) st = lt_writer_add(w, "a", LT_F16, n_dims, shape, NULL, err);
    if (!st) st = lt_writer_begin(w, LT_ORDER_GIVEN, err);
    if (!st) st = lt_writer_commit(w, err);
    lt_writer_close(w);
    return st;
}

/* Sizes beside a zero may be as large as they like. */
static void test_empty(void)
{
    static const uint64_t large[] = { 2, 0, 2000000000, 4, UINT64_C(1) << 32 };
    static const uint64_t outside[] = { 0, UINT64_C(1) << 63 };
    lt_error err = LT_ERROR_INIT;
    lt_store *s = NULL;
    temp_path(path, sizeof path, "empty.pt");
    CHECK(!write_empty(5, large, &err));
    if (CHECK(!lt_store_open(&s, path, &err)))
        CHECK(!memcmp(lt_store_at(s, 0)->shape, large, sizeof large));
    lt_store_close(s);
    remove(path);
    CHECK(write_empty(2, outside, &err) == LT_ERR_MISMATCH && strstr(err.msg, "'a'"));
    CHECK(remove(path)); /* it never was there */
}

static void test_not_written(void)
{
    lt_writer *w = NULL;
    lt_error err = LT_ERROR_INIT;
    temp_path(path, sizeof path, "none.pt");
    lt_output output = { .path = path, .overwrite = true };
    CHECK(!lt_writer_new(&w, &output, NULL));
    CHECK(!lt_writer_add(w, "a", LT_F6_E2M3, 1, (uint64_t[1]){ 4 }, NULL, NULL));
    CHECK(lt_writer_begin(w, LT_ORDER_GIVEN, &err) == LT_ERR_UNSUPPORTED);
    CHECK(strstr(err.msg, "F6_E2M3") && strstr(err.where, "'a'"));
    lt_writer_close(w);
    CHECK(remove(path)); /* it never was there */
    output.format = "tensorflow";
    CHECK(lt_writer_new(&w, &output, &err) == LT_ERR_ARG && !w);
}

int main(void)
{
    static const unit_test tests[] = {
        TEST(test_views),
        TEST(test_aliases),
        TEST(test_training),
        TEST(test_written),
        TEST(test_empty),
        TEST(test_not_written),
    };
    return RUN_TESTS(tests);
}
