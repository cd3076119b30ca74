/* SPDX-License-Identifier: MIT */
/* Names of weight files, folders that appear whole, sets of files. */
#include "runner.h"

#include "base/abandon.h"
#include "base/folder.h"
#include "base/outfile.h"
#include "base/outfolder.h"
#include "base/source.h"
#include "files.h"
#include "format/format.h"
#include "format/weight_name.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_weight_names(void)
{
    static const struct {
        const char *name, *stem, *variant, *extension;
        bool is_index;
        unsigned shard, shards;
    } rows[] = {
        { "model.safetensors", "model", "", "safetensors", false, 0, 0 },
        { "model-00002-of-00010.safetensors", "model", "", "safetensors", false, 2, 10 },
        { "model.safetensors.index.json", "model", "", "safetensors", true, 0, 0 },
        { "pytorch_model.bin", "pytorch_model", "", "bin", false, 0, 0 },
        { "pytorch_model.bin.index.json", "pytorch_model", "", "bin", true, 0, 0 },
        { "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model", "fp16",
            "safetensors", false, 0, 0 },
        { "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "diffusion_pytorch_model", "fp16", "safetensors", false, 1, 2 },
        { "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
            "diffusion_pytorch_model", "fp16", "safetensors", false, 1, 2 },
        { "diffusion_pytorch_model.safetensors.index.fp16.json",
            "diffusion_pytorch_model", "fp16", "safetensors", true, 0, 0 },
        { "diffusion_pytorch_model.safetensors.fp16.index.json",
            "diffusion_pytorch_model", "fp16", "safetensors", true, 0, 0 },
        { "epoch=3-step=120.ckpt", "epoch=3-step=120", "", "ckpt", false, 0, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_weight_name w;
        if (!CHECK(lt_weight_name_parse(rows[i].name, &w))) continue;
        CHECK_STR(w.stem, rows[i].stem);
        CHECK_STR(w.variant, rows[i].variant);
        CHECK_STR(w.extension, rows[i].extension);
        CHECK(w.is_index == rows[i].is_index);
        CHECK(w.shard == rows[i].shard && w.shards == rows[i].shards);
    }
    static const char *const others[] = { "config.json", "tokenizer.json", "safetensors",
        ".safetensors", "model_index.json", "index.json", "readme.md", "", "model.",
        "special_tokens_map.json", "vocab.txt" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        lt_weight_name w;
        if (!CHECK(!lt_weight_name_parse(others[i], &w))) printf("    %s\n", others[i]);
    }
    CHECK(lt_is_weight_file("model.onnx") && lt_is_weight_file("tf_model.h5"));
    CHECK(!lt_is_weight_file("tokenizer.model") && !lt_is_weight_file("config.json"));
}

/* Names are written as they are read. */
static void test_weight_names_back(void)
{
    char name[512];
    lt_weight_name w = { .stem = "model", .extension = "safetensors" };
    lt_weight_name_shard(&w, 3, 12, name, sizeof name);
    CHECK_STR(name, "model-00003-of-00012.safetensors");
    lt_weight_name_shard(&w, 1, 0, name, sizeof name);
    CHECK_STR(name, "model.safetensors");
    lt_weight_name_index(&w, name, sizeof name);
    CHECK_STR(name, "model.safetensors.index.json");
    strcpy(w.variant, "fp16");
    lt_weight_name_shard(&w, 1, 2, name, sizeof name);
    CHECK_STR(name, "model.fp16-00001-of-00002.safetensors");
    lt_weight_name_index(&w, name, sizeof name);
    CHECK_STR(name, "model.safetensors.index.fp16.json");
}

/* ---- folders ----------------------------------------------------------------------- */

static char root[512], target[1024];

static size_t entries(const char *folder)
{
    lt_listing l;
    if (lt_listing_read(&l, folder, NULL)) return 0;
    size_t n = l.count;
    lt_listing_release(&l);
    return n;
}

static void start(void)
{
    temp_path(root, sizeof root, "folder");
    mkdir(root, 0700);
    snprintf(target, sizeof target, "%s/out", root);
}

static void clean(void)
{
    char command[1200];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    CHECK(!system(command));
}

static lt_status write_file(lt_outfolder *f, const char *name)
{
    lt_outfile *file = NULL;
    const char *path = lt_outfolder_file(f, name, NULL);
    lt_status st = path ? lt_outfile_open(&file, path, true, NULL) : LT_ERR_NOMEM;
    if (!st) st = lt_outfile_write(file, 0, "text", 4, NULL);
    if (!st) st = lt_outfile_commit(file, NULL);
    lt_outfile_close(file);
    return st;
}

static void test_new_folder(void)
{
    lt_outfolder *f = NULL;
    start();
    if (CHECK(!lt_outfolder_open(&f, target, false, NULL))) {
        CHECK(!lt_outfolder_existing(f));
        CHECK(!write_file(f, "a.txt") && !write_file(f, "unet/deep/b.txt"));
        CHECK(access(target, F_OK)); /* nothing has its name yet */
        CHECK(!lt_outfolder_commit(f, NULL));
    }
    lt_outfolder_close(f);
    CHECK(entries(target) == 2 && entries(root) == 1);
    clean();
}

static void test_abandoned_folder(void)
{
    lt_outfolder *f = NULL;
    start();
    CHECK(!lt_outfolder_open(&f, target, false, NULL));
    CHECK(!write_file(f, "a.txt") && !write_file(f, "unet/b.txt"));
    lt_outfolder_close(f);
    CHECK(entries(root) == 0);
    /* As a signal would. */
    CHECK(!lt_outfolder_open(&f, target, false, NULL));
    CHECK(!write_file(f, "a.txt") && !write_file(f, "unet/b.txt"));
    lt_abandon_all();
    CHECK(entries(root) == 0);
    lt_outfolder_close(f);
    clean();
}

static void test_existing_folder(void)
{
    lt_outfolder *f = NULL;
    lt_error err = LT_ERROR_INIT;
    start();
    mkdir(target, 0700);
    CHECK(!lt_outfolder_open(&f, target, false, NULL)); /* empty: as good as none */
    CHECK(!write_file(f, "mine.txt") && !lt_outfolder_commit(f, NULL));
    lt_outfolder_close(f);
    CHECK(lt_outfolder_open(&f, target, false, &err) == LT_ERR_EXISTS && !f);
    CHECK(strstr(err.msg, "not empty"));
    CHECK(!lt_outfolder_open(&f, target, true, NULL));
    CHECK(lt_outfolder_existing(f) != NULL);
    CHECK(!write_file(f, "b.txt") && !write_file(f, "new/c.txt"));
    lt_outfolder_close(f); /* what was written into it stays: it may have been there */
    CHECK(entries(target) == 3);
    char path[1200];
    snprintf(path, sizeof path, "%s/mine.txt", target);
    CHECK(lt_outfolder_open(&f, path, true, &err) == LT_ERR_EXISTS);
    CHECK(strstr(err.msg, "no folder"));
    clean();
}

/* ---- sets of files ----------------------------------------------------------------- */

static void put_shard(const char *name, const char *tensor)
{
    char path[1200], header[256];
    snprintf(path, sizeof path, "%s/%s", target, name);
    snprintf(header, sizeof header,
        "{\"%s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", tensor);
    CHECK(!write_safetensors(path, header, name, 4));
}

static void put_text(const char *name, const char *text)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", target, name);
    CHECK(!write_bytes(path, text, strlen(text)));
}

static void test_sharded(void)
{
    lt_store *store = NULL;
    char bytes[4];
    start();
    mkdir(target, 0700);
    put_shard("one.safetensors", "b");
    put_shard("two.safetensors", "a");
    put_text("model.safetensors.index.json",
        "{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}");
    if (CHECK(!lt_store_open(&store, target, NULL))) {
        CHECK(lt_store_count(store) == 2 && lt_store_file_count(store) == 2);
        const lt_tensor *a = lt_store_find(store, "a");
        CHECK(a && !lt_store_read(store, a, 0, bytes, 4, NULL)
            && !memcmp(bytes, "two.", 4));
        CHECK_STR(lt_store_file(store, lt_store_file_of(store, a)), "two.safetensors");
        CHECK_STR(lt_store_container(store), "safetensors");
        CHECK(lt_store_alias(store, 1) == 1);
        int fd;
        uint64_t at;
        CHECK(lt_store_in_place(store, a, &fd, &at) && at == a->offset);
        CHECK(pread(fd, bytes, 4, (off_t)at) == 4 && !memcmp(bytes, "two.", 4));
    }
    lt_store_close(store);
    clean();
}

/* What an index may not say, and what a folder may not hold. */
static void test_bad_sets(void)
{
    static const struct {
        const char *index, *message;
        lt_status status;
    } rows[] = {
        { "{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "beside it", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "beside it", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"a\":\"\"}}", "beside it", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"a\":\"..\"}}", "beside it", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"a\":3}}", "no file name", LT_ERR_FORMAT },
        { "{\"weight_map\":{}}", "no weight_map", LT_ERR_FORMAT },
        { "[]", "no weight_map", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"x\":\"one.safetensors\"}}", "does not list",
            LT_ERR_FORMAT },
        { "{\"weight_map\":{\"b\":\"one.safetensors\",\"x\":\"one.safetensors\"}}",
            "does not hold it", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"b\":\"one.safetensors\",\"b\":\"one.safetensors\"}}",
            "twice", LT_ERR_FORMAT },
        { "{\"weight_map\":{\"b\":\"none.safetensors\"}}", "No such file", LT_ERR_IO },
        { "{", "ends early", LT_ERR_FORMAT },
    };
    start();
    mkdir(target, 0700);
    put_shard("one.safetensors", "b");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_store *store = NULL;
        put_text("model.safetensors.index.json", rows[i].index);
        bool ok = CHECK(lt_store_open(&store, target, &err) == rows[i].status);
        ok = CHECK(strstr(err.msg, rows[i].message)) && ok;
        CHECK(!store);
        if (!ok) printf("    %s: %s\n", rows[i].index, err.msg);
    }
    clean();
}

int main(void)
{
    static const unit_test tests[] = {
        TEST(test_weight_names),
        TEST(test_weight_names_back),
        TEST(test_new_folder),
        TEST(test_abandoned_folder),
        TEST(test_existing_folder),
        TEST(test_sharded),
        TEST(test_bad_sets),
    };
    return RUN_TESTS(tests);
}
