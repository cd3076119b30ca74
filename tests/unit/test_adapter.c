/* SPDX-License-Identifier: MIT */
/* Key suffixes, shapes, alphas, PEFT's sidecar, and a published hash vector. */
#include "runner.h"

#include "adapter/kind.h"
#include "files.h"

#include <math.h>
#include <sys/stat.h>

static char path[512];

static void test_split_names(void)
{
    static const struct {
        const char *name, *module, *kind;
        lt_part part;
    } rows[] = {
        { "lora_unet_x.lora_down.weight", "lora_unet_x", "lora", LT_PART_DOWN },
        { "lora_unet_x.lora_up.weight", "lora_unet_x", "lora", LT_PART_UP },
        { "lora_unet_x.lora_mid.weight", "lora_unet_x", "lora", LT_PART_MID },
        { "lora_unet_x.alpha", "lora_unet_x", NULL, LT_PART_ALPHA },
        { "a.b.lora_A.weight", "a.b", "lora", LT_PART_DOWN },
        { "a.b.lora_B.default.weight", "a.b", "lora", LT_PART_UP },
        { "h.0.attn.c_attn.lora_A", "h.0.attn.c_attn", "lora", LT_PART_DOWN },
        { "x.to_q.lora.down.weight", "x.to_q", "lora", LT_PART_DOWN },
        { "x.processor.to_q_lora.up.weight", "x.processor.to_q", "lora", LT_PART_UP },
        { "x.lora_B.bias", "x", "lora-bias", LT_PART_UP_BIAS },
        { "x.dora_scale", "x", "dora", LT_PART_MAGNITUDE },
        { "x.lora_magnitude_vector.weight", "x", "dora", LT_PART_MAGNITUDE },
        { "x.hada_w1_a", "x", "loha", LT_PART_OTHER },
        { "x.lokr_w2", "x", "lokr", LT_PART_OTHER },
        { "x.oft_blocks", "x", "oft", LT_PART_OTHER },
        { "x.diff_b", "x", "full", LT_PART_OTHER },
        { "x.lora_embedding_A", "x", "lora-embedding", LT_PART_OTHER },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const lt_kind *kind = NULL;
        lt_part part = LT_PART_SCALE;
        size_t n = lt_split_name(rows[i].name, &kind, &part);
        CHECK(n == strlen(rows[i].module) && !strncmp(rows[i].name, rows[i].module, n));
        CHECK(part == rows[i].part);
        CHECK(rows[i].kind ? kind && !strcmp(kind->id, rows[i].kind) : !kind);
    }
    const lt_kind *kind;
    lt_part part;
    CHECK(!lt_split_name("model.layers.0.weight", &kind, &part));
    CHECK(!lt_split_name(".lora_up.weight", &kind, &part));
    CHECK(!lt_split_name("alpha", &kind, &part));
}

#define T(name, dtype, shape, from, to)                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from \
    "," to "]}"

static lt_status open_adapter(
    const char *header, const void *data, size_t size, lt_adapter **a, lt_error *err)
{
    *a = NULL;
    if (write_safetensors(path, header, data, size)) return LT_ERR_IO;
    return lt_adapter_open(a, path, err);
}

static void test_tucker_vector(void)
{
    /* up (3,2,1,1), down (2,2,1,1), mid (2,2,1,2); the effective product by hand. */
    static const float data[] = { 1, 2, 0, 1, 1, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 1, 1, 1 };
    static const char header[] = "{" T("m.lora_down.weight", "F32", "[2,2,1,1]", "0",
        "16") "," T("m.lora_mid.weight", "F32", "[2,2,1,2]", "16",
        "48") "," T("m.lora_up.weight", "F32", "[3,2,1,1]", "48", "72") "}";
    static const double want[3][4] = { { 1, 0, 2, 1 }, { 2, 0, 4, 0 }, { 3, 0, 6, 1 } };
    lt_adapter *a;
    lt_error err = LT_ERROR_INIT;
    if (!CHECK(!open_adapter(header, data, sizeof data, &a, &err))) return;
    const lt_module *m = lt_adapter_module(a, 0);
    CHECK(m->rank == 2 && m->out == 3 && m->in == 4 && m->scale == 1 && !m->has_alpha);
    double up[6], down[8];
    CHECK(!lt_module_load(a, m, up, down, &err));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            CHECK(up[2 * i] * down[j] + up[2 * i + 1] * down[4 + j] == want[i][j]);
    lt_adapter_free(a);
}

static void test_alpha_types(void)
{
    static const struct {
        const char *dtype;
        unsigned char bytes[8];
        size_t size;
        double alpha;
    } rows[] = {
        { "F32", { 0, 0, 0, 0x40 }, 4, 2 },
        { "F16", { 0, 0x40 }, 2, 2 },
        { "BF16", { 0, 0x40 }, 2, 2 },
        { "I64", { 2 }, 8, 2 },
        { "F64", { 0, 0, 0, 0, 0, 0, 0, 0x40 }, 8, 2 },
        { "I8", { 0xfe }, 1, -2 },
        { "U8", { 200 }, 1, 200 },
        { "U64", { 0, 1 }, 8, 256 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char header[512];
        unsigned char data[64] = { 0 };
        memcpy(data, rows[i].bytes, rows[i].size);
        snprintf(header, sizeof header,
            "{\"m.alpha\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,%zu]},"
            "\"m.lora_down.weight\":{\"dtype\":\"F32\",\"shape\":[4,1],\"data_offsets\":["
            "%zu,%zu]},"
            "\"m.lora_up.weight\":{\"dtype\":\"F32\",\"shape\":[1,4],\"data_offsets\":[%"
            "zu,%zu]}}",
            rows[i].dtype, rows[i].size, rows[i].size, rows[i].size + 16,
            rows[i].size + 16, rows[i].size + 32);
        lt_adapter *a;
        lt_error err = LT_ERROR_INIT;
        if (!CHECK(!open_adapter(header, data, rows[i].size + 32, &a, &err))) {
            printf("    %s: %s\n", rows[i].dtype, err.msg);
            continue;
        }
        const lt_module *m = lt_adapter_module(a, 0);
        CHECK(m->has_alpha && m->alpha == rows[i].alpha && m->scale == rows[i].alpha / 4);
        lt_adapter_free(a);
    }
}

static void test_refused(void)
{
    static const struct {
        const char *header;
        size_t size;
        lt_status status;
        const char *message;
    } rows[] = {
        { "{" T("m.lora_up.weight", "F32", "[2,1]", "0", "8") "}", 8, LT_ERR_MISMATCH,
            "down factor is missing" },
        { "{" T("m.lora_down.weight", "F32", "[1,2]", "0", "8") "}", 8, LT_ERR_MISMATCH,
            "up factor is missing" },
        { "{" T("m.lora_down.weight", "F32", "[1,2]", "0", "8") "," T(
              "m.lora_up.weight", "F32", "[1,2]", "8", "16") "}",
            16, LT_ERR_MISMATCH, "ranks differ" },
        { "{" T("m.lora_down.weight", "F32", "[0,2]", "0", "0") "," T(
              "m.lora_up.weight", "F32", "[1,0]", "0", "0") "}",
            0, LT_ERR_MISMATCH, "empty" },
        { "{" T("m.lora_down.weight", "I32", "[1,2]", "0", "8") "," T(
              "m.lora_up.weight", "F32", "[2,1]", "8", "16") "}",
            16, LT_ERR_UNSUPPORTED, "I32" },
        { "{" T("m.lora_down.weight", "F32", "[1,1]", "0", "4") "," T("m.lora_A.weight",
              "F32", "[1,1]", "4",
              "8") "," T("m.lora_up.weight", "F32", "[1,1]", "8", "12") "}",
            12, LT_ERR_MISMATCH, "doubles" },
        { "{" T("m.weight", "F32", "[1,1]", "0", "4") "}", 4, LT_ERR_MISMATCH,
            "holds no adapter" },
        /* 65 blocks, each of which would be padded to 65 times its size. */
        { "{" T("m.lora_A", "F8_E4M3", "[65,1]", "0", "65") "," T(
              "m.lora_B", "F8_E4M3", "[65,1]", "65", "130") "}",
            130, LT_ERR_MISMATCH, "too many blocks" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_adapter *a;
        lt_error err = LT_ERROR_INIT;
        lt_status st = open_adapter(rows[i].header, NULL, rows[i].size, &a, &err);
        if (!CHECK(st == rows[i].status) || !CHECK(strstr(err.msg, rows[i].message)))
            printf("    row %zu: %d %s\n", i, st, err.msg);
        CHECK(a == NULL && strstr(err.where, path));
        lt_adapter_free(a);
    }
}

static void test_patterns(void)
{
    static const struct {
        const char *pattern, *path;
        bool hit;
    } rows[] = {
        { "q_proj", "model.layers.0.q_proj", true },
        { "q_proj", "q_proj", true },
        { "q_proj", "xq_proj", false },
        { "q_proj", "q_proj.x", false },
        { "^model\\.q", "model.q", true },
        { "^model\\.q", "x.model.q", false },
        { "layers.1.q", "layers.1.q", true },
        { "layers.1.q", "layers.11.q", false },
        { "layers.1.q", "layersx1xq", true }, /* a dot matches anything */
        { "layers\\.\\d+\\.q", "model.layers.12.q", true },
        { "layers\\.\\d+\\.q", "model.layers.d.q", false },
        { "(?:layers|blocks)\\.0\\.(q|k)", "a.blocks.0.k", true },
        { ".*\\.(q|v)_proj", "m.v_proj", true },
        { "[\\d]\\.w", "3.w", true },
        { "a{2}b", "aab", true },
        { "(?=x)x.", "a.xy", true },
        { "x*?y", "xxy", true },
        { "q\\b.*", "m.q-1", true },
        { "q\\b.*", "m.qk", false },
        { "(q|k)(?!_norm).*", "m.q_norm", false },
        { "(q|k)(?!_norm).*", "m.k_proj", true },
        { "(a)\\3", "aa", true }, /* the first two groups are PEFT's */
        { "(?P<x>ab)(?P=x)", "abab", true },
        { "\\w+", "\xc3\xa9t\xc3\xa9", true }, /* letters of any script */
        { "caf.", "caf\xc3\xa9", true },       /* and characters, not bytes */
        { "layers[.]\\d+", "layers.\xff", false },
        { "a$", "a\n", true }, /* as Python has it */
        { "x.y|z", "xz", false },
        { "x.y|z", "x.z", true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_pattern p;
        if (!CHECK(!lt_pattern_compile(&p, rows[i].pattern, NULL))) continue;
        bool hit = false;
        uint64_t work = 0;
        lt_subject subject = lt_subject_of(rows[i].path);
        CHECK(!lt_pattern_match(&p, &subject, &hit, &work, NULL) && work);
        if (!CHECK(hit == rows[i].hit))
            printf("    '%s' on '%s'\n", rows[i].pattern, rows[i].path);
        lt_pattern_release(&p);
    }
    static const char *const refused[] = { "a|\\", "(", "[a", "((a{1,60}){1,60}){1,60}",
        "((((((((((((((((((((x))))))))))))))))))))", "a{70000}", "(?R)", "(*ACCEPT)",
        "a\\Kb", "(?i)a", "(?#x)a", "[[:alpha:]]", "a{,3}", "\\Qa", "\\Z", "\\h",
        "\xff+" };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        lt_pattern p;
        if (!CHECK(lt_pattern_compile(&p, refused[i], NULL)))
            printf("    %s\n", refused[i]);
    }
}

/* Letters out of which matches come about by chance. */
static void draw(
    char *out, size_t most, const char *const *pieces, size_t n, unsigned *seed)
{
    *out = '\0';
    for (size_t i = 0; i < most; i++) {
        *seed = *seed * 1103515245u + 12345u;
        strcat(out, pieces[(*seed >> 16) % n]);
        if ((*seed >> 24) % 4 == 0 && *out) return;
    }
}

/* What is compared without PCRE2 matches what PCRE2 says of the same. */
static void test_plain_patterns(void)
{
    static const char *const in_pattern[] = { "a", "b", ".", "\\.", "a.", "\xc3\xa9" };
    static const char *const in_path[] = { "a", "b", ".", "\xc3\xa9", "ab" };
    unsigned seed = 7;
    size_t hits = 0;
    for (int i = 0; i < 20000; i++) {
        char plain[64] = "^", regex[80], on[64];
        bool anchored = i % 4 == 0, hit = false, wanted = false;
        draw(plain + anchored, 5, in_pattern, 6, &seed);
        draw(on, 8, in_path, 5, &seed);
        snprintf(regex, sizeof regex, "%s(?:%s)", anchored ? "^" : "", plain + anchored);
        lt_pattern p, q;
        lt_subject subject = lt_subject_of(on);
        uint64_t work = 0;
        CHECK(!lt_pattern_compile(&p, plain, NULL) && p.plain);
        CHECK(!lt_pattern_compile(&q, regex, NULL) && !q.plain);
        CHECK(!lt_pattern_match(&p, &subject, &hit, &work, NULL));
        CHECK(!lt_pattern_match(&q, &subject, &wanted, &work, NULL));
        if (!CHECK(hit == wanted)) printf("    '%s' on '%s'\n", plain, on);
        hits += hit;
        lt_pattern_release(&p);
        lt_pattern_release(&q);
    }
    CHECK(hits > 500);
}

/* "norm" stands for "input_layernorm" too, with all that is inside it. */
static void test_saved_modules(void)
{
    static const char *const pieces[] = { "a", "b", ".", "ab" };
    unsigned seed = 3;
    size_t hits = 0;
    for (int i = 0; i < 3000; i++) {
        char names[4][16], text[160], on[64];
        for (int k = 0; k < 4; k++)
            do
                draw(names[k], 4, pieces, 4, &seed);
            while (!*names[k]);
        draw(on, 12, pieces, 4, &seed);
        snprintf(text, sizeof text, "{\"modules_to_save\":[\"%s\",\"%s\",\"%s\",\"%s\"]}",
            names[0], names[1], names[2], names[3]);
        bool wanted = false;
        for (int k = 0; k < 4; k++)
            for (const char *s = on; (s = strstr(s, names[k])); s++)
                wanted = wanted || s[strlen(names[k])] == '.';
        lt_peft_config c;
        if (!CHECK(!lt_peft_config_parse(&c, text, strlen(text), NULL))) continue;
        bool saves;
        uint64_t work = 0;
        CHECK(!lt_peft_config_saves(&c, on, &saves, &work, NULL));
        if (!CHECK(saves == wanted)) printf("    %s on '%s'\n", text, on);
        hits += wanted;
        lt_peft_config_release(&c);
    }
    CHECK(hits > 300 && hits < 2900);
    /* What comparing takes is counted. */
    enum { N = 60000 };
    char *text = malloc(N + 100), *on = malloc(N + 1);
    if (!CHECK(text && on)) abort();
    for (int i = 0; i < N; i++)
        on[i] = i % 2 ? '.' : 'a';
    memcpy(on + N - 2, "ax", 3);
    int n = sprintf(text, "{\"modules_to_save\":[\"b%.*s\"]}", N - 3, on + 1);
    lt_peft_config c;
    lt_error err = LT_ERROR_INIT;
    bool saves;
    uint64_t work = 0;
    CHECK(!lt_peft_config_parse(&c, text, (size_t)n, NULL));
    CHECK(!lt_peft_config_saves(&c, on, &saves, &work, NULL) && !saves && work > N * 100);
    for (int i = 0; i < 10 && !err.code; i++)
        (void)!lt_peft_config_saves(&c, on, &saves, &work, &err);
    CHECK(err.code == LT_ERR_LIMIT);
    lt_peft_config_release(&c);
    free(text);
    free(on);
}

/* Python takes the last of two members of one name. */
static void test_templates(void)
{
    static const char twice[] = "{\"task_type\":\"A\",\"target_modules\":[\"x\"],\"r\":1,"
                                "\"task_type\":\"B\",\"target_modules\":[\"y\"],\"r\":2}";
    lt_peft_entry entries[] = { { "q", 3, 5 }, { "k", 4, 6 }, { "v", 4, 6 },
        { "o", 3, 7 } };
    char *text = NULL;
    if (!CHECK(!lt_peft_config_make(entries, 4, false, false, twice, &text, NULL)))
        return;
    lt_json json;
    CHECK(!lt_json_parse(&json, text, strlen(text), 0, NULL));
    size_t members = 0;
    for (const cJSON *m = json.root->child; m; m = m->next, members++)
        CHECK(!m->next || strcmp(m->string, m->next->string) < 0);
    CHECK(members == 16);
    CHECK(!strcmp(lt_json_get_string(json.root, "task_type"), "B"));
    CHECK(cJSON_GetArraySize(lt_json_get(json.root, "target_modules")) == 4);
    /* The rank that most have, the larger one of two, and the alpha. */
    CHECK(lt_json_get_number(json.root, "r", 0) == 4);
    CHECK(lt_json_get_number(json.root, "lora_alpha", 0) == 6);
    lt_json_release(&json);
    free(text);
}

static void test_odd_configs(void)
{
    static const char *const rows[] = { "{\"rank_pattern\":[4]}",
        "{\"lora_alpha\":\"32\"}", "{\"use_rslora\":1}", "{\"lora_alpha\":1e999}",
        "{\"r\":8,\"r\":9}", "{\"bias\":\"all\",\"bias\":\"none\"}",
        "{\"modules_to_save\":[\"a\"],\"modules_to_save\":null}", "{\"use_dora\":\"x\"}",
        "{\"alpha_pattern\":{\"q\":\"4\"}}", "[]" };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_peft_config c;
        lt_status st = lt_peft_config_parse(&c, rows[i], strlen(rows[i]), NULL);
        if (!CHECK(st == LT_ERR_FORMAT)) printf("    %s\n", rows[i]);
    }
}

static void test_peft_scales(void)
{
    static const char text[] =
        "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,"
        "\"rank_pattern\":{\"^model\\\\.layers\\\\.1\\\\.q\":4,\"down_proj\":2},"
        "\"alpha_pattern\":{\"down_proj\":6}}";
    static const struct {
        const char *path;
        uint64_t rank;
        double scale;
    } rows[] = {
        { "model.layers.0.q", 8, 2 },
        { "model.layers.1.q", 4, 4 },
        { "x.model.layers.1.q", 8, 2 }, /* anchored */
        { "model.layers.11.q", 8, 2 },
        { "model.layers.0.down_proj", 2, 3 },
        { "model.layers.0.xdown_proj", 8, 2 },
    };
    lt_peft_config c;
    double alpha, scale;
    uint64_t work = 0;
    if (!CHECK(!lt_peft_config_parse(&c, text, sizeof text - 1, NULL))) return;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(!lt_peft_config_scale(
            &c, rows[i].path, rows[i].rank, &alpha, &scale, &work, NULL));
        CHECK(scale == rows[i].scale);
    }
    CHECK(lt_peft_config_scale(&c, "model.layers.0.q", 7, &alpha, &scale, &work, NULL)
        == LT_ERR_MISMATCH);
    lt_peft_config_release(&c);
    static const char rs[] = "{\"r\":16,\"lora_alpha\":8,\"use_rslora\":true}";
    CHECK(!lt_peft_config_parse(&c, rs, sizeof rs - 1, NULL));
    CHECK(!lt_peft_config_scale(&c, "x", 16, &alpha, &scale, &work, NULL) && scale == 2);
    lt_peft_config_release(&c);
    static const char bad[] = "{\"peft_type\":\"LORA\",\"layer_replication\":[[0,2]]}";
    CHECK(!lt_peft_config_parse(&c, bad, sizeof bad - 1, NULL));
    CHECK(strstr(c.refusal, "layer_replication") != NULL);
    lt_peft_config_release(&c);
    static const char pissa[] = "{\"init_lora_weights\":\"pissa_niter_4\"}";
    CHECK(!lt_peft_config_parse(&c, pissa, sizeof pissa - 1, NULL) && c.refusal[0]);
    lt_peft_config_release(&c);
}

/* A published vector: these three tensors hash to this value under kohya's rules. */
static void test_hash_vector(void)
{
    static const float up[2] = { 3, 4 }, down[2] = { 1, 2 };
    lt_adapter_plan plan = { .path = path,
        .dialect = lt_dialect_by_id("kohya"),
        .overwrite = true,
        .family = lt_family_of_adapter(NULL, 0) };
    lt_module_plan module = { .name = "lora_unet_x",
        .n_dims = 2,
        .shape = { 2, 2 },
        .rank = 1,
        .alpha = 1,
        .dtype = LT_F32 };
    lt_adapter_out *out = NULL;
    size_t index = 0;
    CHECK(!lt_adapter_out_new(&out, &plan, NULL));
    CHECK(!lt_adapter_out_add(out, &module, &index, NULL));
    CHECK(!lt_adapter_out_begin(out, NULL));
    CHECK(!lt_adapter_out_put(out, index, up, down, NULL));
    CHECK(!lt_adapter_out_commit(out, NULL));
    lt_adapter_out_close(out);
    lt_store *store = NULL;
    if (!CHECK(!lt_store_open(&store, path, NULL))) return;
    const lt_metadata *meta = lt_store_metadata(store);
    CHECK_STR(lt_metadata_get(meta, "sshs_model_hash"),
        "5ea9a7f9da1da3b0af9899d1dbb02e0905a5ee5656e99a38e06844380b4ce6df");
    CHECK_STR(lt_metadata_get(meta, "sshs_legacy_hash"), "e3b0c442");
    lt_store_close(store);
}

static void test_overflow_is_told(void)
{
    static const float up[1] = { 70000 }, down[1] = { 1 };
    lt_adapter_plan plan = { .path = path,
        .dialect = lt_dialect_by_id("kohya"),
        .overwrite = true,
        .family = lt_family_of_adapter(NULL, 0) };
    lt_module_plan module = { .name = "lora_unet_x",
        .n_dims = 2,
        .shape = { 1, 1 },
        .rank = 1,
        .alpha = 1,
        .dtype = LT_F16 };
    lt_adapter_out *out = NULL;
    lt_error err = LT_ERROR_INIT;
    size_t index = 0;
    CHECK(!lt_adapter_out_new(&out, &plan, NULL));
    CHECK(!lt_adapter_out_add(out, &module, &index, NULL));
    CHECK(!lt_adapter_out_begin(out, NULL));
    CHECK(lt_adapter_out_put(out, index, up, down, &err) == LT_ERR_NUMERIC);
    CHECK(strstr(err.where, "lora_unet_x") && strstr(err.msg, "F16"));
    lt_adapter_out_close(out);
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_split_names), TEST(test_tucker_vector),
        TEST(test_alpha_types), TEST(test_refused), TEST(test_patterns),
        TEST(test_plain_patterns), TEST(test_saved_modules), TEST(test_templates),
        TEST(test_odd_configs), TEST(test_peft_scales), TEST(test_hash_vector),
        TEST(test_overflow_is_told) };
    temp_path(path, sizeof path, "adapter");
    int rc = RUN_TESTS(tests);
    unlink(path);
    return rc;
}
