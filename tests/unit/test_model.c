/* SPDX-License-Identifier: MIT */
/* Families and module names. The name pairs below come from the published layouts: LDM
 * checkpoint key, diffusers/transformers path, kohya name. */
#include "runner.h"

#include "files.h"
#include "model/family.h"

#include <stdarg.h>

static char path[512];

/* A header under construction: tensors of zero bytes' worth of data are laid out behind
 * each other as F16. */
struct build {
    char text[65536];
    size_t used, data;
};

static void add(struct build *b, const char *name, int n_dims, ...)
{
    va_list ap;
    uint64_t count = 1;
    char shape[128] = "";
    va_start(ap, n_dims);
    for (int i = 0; i < n_dims; i++) {
        int d = va_arg(ap, int);
        count *= (uint64_t)d;
        snprintf(
            shape + strlen(shape), sizeof shape - strlen(shape), "%s%d", i ? "," : "", d);
    }
    va_end(ap);
    b->used += (size_t)snprintf(b->text + b->used, sizeof b->text - b->used,
        "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
        b->used ? "," : "{", name, shape, b->data, b->data + 2 * (size_t)count);
    b->data += 2 * (size_t)count;
}

struct opened {
    lt_store *store;
    lt_model *model;
    lt_alias_map *aliases;
};

static bool finish(struct build *b, struct opened *o)
{
    snprintf(b->text + b->used, sizeof b->text - b->used, "}");
    memset(o, 0, sizeof *o);
    return CHECK(!write_safetensors(path, b->text, NULL, b->data))
        && CHECK(!lt_store_open(&o->store, path, NULL))
        && CHECK(!lt_model_new(&o->model, o->store, NULL))
        && CHECK(!lt_alias_map_new(&o->aliases, o->model, NULL));
}

static void close_all(struct opened *o)
{
    lt_alias_map_free(o->aliases);
    lt_model_free(o->model);
    lt_store_close(o->store);
}

/* The one site that a name stands for. */
static const lt_site *site_of(const struct opened *o, const char *name)
{
    lt_match match = lt_alias_find(o->aliases, name);
    if (match.n_pieces != 1 || match.pieces[0].first) return NULL;
    const lt_site *s = match.pieces[0].site;
    return match.out == s->out && match.in == s->in ? s : NULL;
}

static bool finds(
    const struct opened *o, const char *name, const char *tensor, uint64_t row0)
{
    const lt_site *s = site_of(o, name);
    bool ok = s && !strcmp(s->tensor->name, tensor) && s->row0 == row0;
    if (!ok) printf("    %s finds %s\n", name, s ? s->tensor->name : "nothing");
    return ok;
}

#define UNET "model.diffusion_model."

static const struct {
    const char *native, *diffusers;
} unet_names[] = {
    { "input_blocks.0.0", "conv_in" },
    { "input_blocks.1.0.in_layers.2", "down_blocks.0.resnets.0.conv1" },
    { "input_blocks.1.1.proj_in", "down_blocks.0.attentions.0.proj_in" },
    { "input_blocks.2.1.transformer_blocks.0.attn1.to_q",
        "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q" },
    { "input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv" },
    { "input_blocks.4.0.skip_connection", "down_blocks.1.resnets.0.conv_shortcut" },
    { "input_blocks.4.0.emb_layers.1", "down_blocks.1.resnets.0.time_emb_proj" },
    { "input_blocks.11.0.out_layers.3", "down_blocks.3.resnets.1.conv2" },
    { "middle_block.0.in_layers.2", "mid_block.resnets.0.conv1" },
    { "middle_block.1.proj_in", "mid_block.attentions.0.proj_in" },
    { "middle_block.2.out_layers.3", "mid_block.resnets.1.conv2" },
    { "output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv" },
    { "output_blocks.5.2.conv", "up_blocks.1.upsamplers.0.conv" },
    { "output_blocks.11.1.transformer_blocks.0.ff.net.0.proj",
        "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj" },
    { "output_blocks.9.0.skip_connection", "up_blocks.3.resnets.0.conv_shortcut" },
    { "time_embed.0", "time_embedding.linear_1" },
    { "out.2", "conv_out" },
};

#define N_UNET (sizeof unet_names / sizeof *unet_names)

static void add_unet(struct build *b, int proj_dims)
{
    char name[256];
    for (size_t i = 0; i < N_UNET; i++) {
        snprintf(name, sizeof name, UNET "%s.weight", unet_names[i].native);
        bool proj = strstr(name, "proj_in") != NULL;
        if (proj && proj_dims == 4)
            add(b, name, 4, 4, 4, 1, 1);
        else if (proj)
            add(b, name, 2, 4, 4);
        else if (strstr(name, "attn") || strstr(name, "ff.") || strstr(name, "emb"))
            add(b, name, 2, 4, 4);
        else
            add(b, name, 4, 4, 4, 3, 3);
    }
    add(b, UNET "out.0.weight", 1, 4);
    add(b, UNET "out.2.bias", 1, 4);
}

static void underscores(char *dst, size_t size, const char *prefix, const char *dotted)
{
    snprintf(dst, size, "%s%s", prefix, dotted);
    for (char *p = dst + strlen(prefix); *p; p++)
        if (*p == '.') *p = '_';
}

static void test_sd1(void)
{
    static struct build b;
    struct opened o;
    b = (struct build){ 0 };
    add_unet(&b, 4);
    add(&b, "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight", 2,
        8, 4);
    add(&b, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        2, 9, 4);
    add(&b, "first_stage_model.encoder.conv_in.weight", 4, 4, 3, 3, 3);
    add(&b, "alphas_cumprod", 1, 10);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "sd1");
        CHECK(lt_model_site_count(o.model) == N_UNET + 1);
        for (size_t i = 0; i < N_UNET; i++) {
            char tensor[256], kohya[256], dotted[256];
            snprintf(tensor, sizeof tensor, UNET "%s.weight", unet_names[i].native);
            underscores(kohya, sizeof kohya, "lora_unet_", unet_names[i].diffusers);
            CHECK(finds(&o, kohya, tensor, 0));
            underscores(kohya, sizeof kohya, "lora_unet_", unet_names[i].native);
            CHECK(finds(&o, kohya, tensor, 0));
            snprintf(dotted, sizeof dotted, "unet.%s", unet_names[i].diffusers);
            CHECK(finds(&o, dotted, tensor, 0));
            snprintf(dotted, sizeof dotted, "diffusion_model.%s", unet_names[i].native);
            CHECK(finds(&o, dotted, tensor, 0));
        }
        const char *fc1 =
            "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight";
        CHECK(finds(&o, "lora_te_text_model_encoder_layers_0_mlp_fc1", fc1, 0));
        CHECK(finds(&o, "lora_te1_text_model_encoder_layers_0_mlp_fc1", fc1, 0));
        CHECK(finds(&o, "text_encoder.text_model.encoder.layers.0.mlp.fc1", fc1, 0));
        CHECK(!site_of(&o, "lora_unet_down_blocks_9_resnets_0_conv1"));
        const lt_store *s = o.store;
        CHECK(lt_model_rest(
                  o.model, lt_store_find(s, "first_stage_model.encoder.conv_in.weight"))
            == LT_REST_COMPONENT);
        CHECK(
            lt_model_rest(o.model, lt_store_find(s, UNET "out.2.bias")) == LT_REST_BIAS);
        CHECK(lt_model_rest(o.model, lt_store_find(s, UNET "out.0.weight"))
            == LT_REST_NORM);
        CHECK(lt_model_rest(o.model, lt_store_find(s, "alphas_cumprod")) == LT_REST_NORM);
        CHECK(lt_model_rest(o.model,
                  lt_store_find(s,
                      "cond_stage_model.transformer.text_model.embeddings.token_"
                      "embedding.weight"))
            == LT_REST_EMBEDDING);
    }
    close_all(&o);
}

#define CLIP_G "conditioner.embedders.1.model."

static void test_sdxl_fused(void)
{
    static struct build b;
    struct opened o;
    b = (struct build){ 0 };
    add(&b, UNET "input_blocks.0.0.weight", 4, 4, 4, 3, 3);
    add(&b, UNET "label_emb.0.0.weight", 2, 4, 4);
    add(&b, UNET "input_blocks.4.1.proj_in.weight", 2, 4, 4);
    add(&b, CLIP_G "transformer.resblocks.3.attn.in_proj_weight", 2, 12, 4);
    add(&b, CLIP_G "transformer.resblocks.3.attn.in_proj_bias", 1, 12);
    add(&b, CLIP_G "transformer.resblocks.3.mlp.c_fc.weight", 2, 16, 4);
    add(&b, CLIP_G "text_projection", 2, 4, 6);
    add(&b, CLIP_G "logit_scale", 0);
    add(&b,
        "conditioner.embedders.0.transformer.text_model.encoder.layers.1.self_attn.q_"
        "proj.weight",
        2, 4, 4);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "sdxl");
        const char *fused = CLIP_G "transformer.resblocks.3.attn.in_proj_weight";
        CHECK(
            finds(&o, "lora_te2_text_model_encoder_layers_3_self_attn_q_proj", fused, 0));
        CHECK(
            finds(&o, "lora_te2_text_model_encoder_layers_3_self_attn_k_proj", fused, 4));
        CHECK(finds(
            &o, "text_encoder_2.text_model.encoder.layers.3.self_attn.v_proj", fused, 8));
        CHECK(finds(&o, "lora_te2_text_model_encoder_layers_3_mlp_fc1",
            CLIP_G "transformer.resblocks.3.mlp.c_fc.weight", 0));
        CHECK(finds(&o, "lora_unet_input_blocks_4_1_proj_in",
            UNET "input_blocks.4.1.proj_in.weight", 0));
        CHECK(finds(&o, "lora_unet_down_blocks_1_attentions_0_proj_in",
            UNET "input_blocks.4.1.proj_in.weight", 0));
        const lt_site *p = site_of(&o, "lora_te2_text_projection");
        CHECK(p && p->transposed && p->out == 6 && p->in == 4 && !p->standard);
        const lt_site *q =
            site_of(&o, "lora_te2_text_model_encoder_layers_3_self_attn_k_proj");
        CHECK(q && q->out == 4 && q->in == 4 && q->rows == 4 && q->standard);
        char name[256];
        lt_site_name(q, LT_NAMING_KOHYA, name, sizeof name);
        CHECK_STR(name, "lora_te2_text_model_encoder_layers_3_self_attn_k_proj");
        lt_site_name(q, LT_NAMING_PEFT, name, sizeof name);
        CHECK_STR(name, "");
        lt_site_name(site_of(&o, "unet.down_blocks.1.attentions.0.proj_in"),
            LT_NAMING_KOHYA, name, sizeof name);
        CHECK_STR(name, "lora_unet_input_blocks_4_1_proj_in");
    }
    close_all(&o);
}

static void test_refiner_is_not_sdxl(void)
{
    static struct build b;
    struct opened o;
    b = (struct build){ 0 };
    add(&b, UNET "input_blocks.0.0.weight", 4, 4, 4, 3, 3);
    add(&b, UNET "label_emb.0.0.weight", 2, 4, 4);
    add(&b, UNET "input_blocks.4.1.proj_in.weight", 2, 4, 4);
    add(&b, UNET "input_blocks.4.1.transformer_blocks.3.attn1.to_q.weight", 2, 4, 4);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "sdxl-refiner");
        CHECK(finds(&o, "lora_unet_input_blocks_4_1_transformer_blocks_3_attn1_to_q",
            UNET "input_blocks.4.1.transformer_blocks.3.attn1.to_q.weight", 0));
    }
    close_all(&o);
}

/* Files of one part each. */
static void test_parts(void)
{
    static const struct {
        const char *keys[3], *family;
        unsigned dims[3];
    } files[] = {
        { { "text_model.encoder.layers.0.mlp.fc1.weight",
              "text_model.embeddings.token_embedding.weight" },
            "clip", { 2, 2 } },
        { { "transformer.resblocks.0.attn.in_proj_weight", "token_embedding.weight" },
            "clip", { 2, 2 } },
        { { "decoder.mid.block_1.conv1.weight", "encoder.down.0.block.0.conv1.weight" },
            "vae", { 4, 4 } },
        { { "decoder.mid_block.resnets.0.conv1.weight",
              "encoder.down_blocks.0.resnets.0.conv1.weight" },
            "vae", { 4, 4 } },
        { { "control_model.input_hint_block.0.weight",
              "control_model.zero_convs.0.0.weight",
              "control_model.label_emb.0.0.weight" },
            "controlnet", { 4, 4, 2 } },
        { { "controlnet_cond_embedding.conv_in.weight",
              "controlnet_down_blocks.0.weight" },
            "controlnet", { 4, 4 } },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        static struct build b;
        struct opened o;
        b = (struct build){ 0 };
        for (int k = 0; k < 3 && files[i].keys[k]; k++)
            if (files[i].dims[k] == 4)
                add(&b, files[i].keys[k], 4, 6, 4, 1, 1);
            else
                add(&b, files[i].keys[k], 2, 6, 4);
        if (finish(&b, &o))
            CHECK_STR(lt_family_id(lt_model_family(o.model)), files[i].family);
        close_all(&o);
    }
}

static void test_sd2(void)
{
    static struct build b;
    struct opened o;
    b = (struct build){ 0 };
    add_unet(&b, 2);
    add(&b, "cond_stage_model.model.transformer.resblocks.22.mlp.c_fc.weight", 2, 8, 4);
    add(&b, "cond_stage_model.model.transformer.resblocks.23.mlp.c_fc.weight", 2, 8, 4);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "sd2");
        CHECK(finds(&o, "lora_te_text_model_encoder_layers_22_mlp_fc1",
            "cond_stage_model.model.transformer.resblocks.22.mlp.c_fc.weight", 0));
        CHECK(!site_of(&o, "lora_te_text_model_encoder_layers_23_mlp_fc1"));
        CHECK(lt_model_rest(o.model,
                  lt_store_find(o.store,
                      "cond_stage_model.model.transformer.resblocks.23.mlp.c_fc.weight"))
            == LT_REST_UNNAMED);
    }
    close_all(&o);
}

static void test_language_models(void)
{
    static struct build b;
    struct opened o;
    b = (struct build){ 0 };
    add(&b, "transformer.wpe.weight", 2, 16, 4);
    add(&b, "transformer.h.0.attn.c_attn.weight", 2, 4, 12);
    add(&b, "transformer.h.0.ln_1.weight", 1, 4);
    add(&b, "transformer.h.0.mlp.c_fc.weight", 2, 4, 16);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "gpt2");
        const lt_site *s = site_of(&o, "base_model.model.transformer.h.0.mlp.c_fc");
        CHECK(s && s->transposed && s->out == 16 && s->in == 4);
        CHECK(finds(&o, "base_model.model.h.0.attn.c_attn",
            "transformer.h.0.attn.c_attn.weight", 0));
        CHECK(finds(
            &o, "transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_attn.weight", 0));
        CHECK(lt_model_rest(o.model, lt_store_find(o.store, "transformer.wpe.weight"))
            == LT_REST_EMBEDDING);
    }
    close_all(&o);
    b = (struct build){ 0 };
    add(&b, "encoder.layer.0.attention.self.query.weight", 2, 4, 4);
    add(&b, "embeddings.word_embeddings.weight", 2, 9, 4);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "bert");
        CHECK(finds(&o, "base_model.model.bert.encoder.layer.0.attention.self.query",
            "encoder.layer.0.attention.self.query.weight", 0));
        CHECK(lt_model_site_count(o.model) == 1);
    }
    close_all(&o);
    b = (struct build){ 0 };
    add(&b, "gpt_neox.layers.0.attention.query_key_value.weight", 2, 12, 4);
    add(&b, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight", 2, 16, 4);
    add(&b, "embed_out.weight", 2, 9, 4);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "neox");
        CHECK(finds(&o, "base_model.model.lm_head", "embed_out.weight", 0));
        CHECK(finds(&o, "base_model.model.embed_out", "embed_out.weight", 0));
        CHECK(site_of(&o, "base_model.model.lm_head"));
    }
    close_all(&o);
    b = (struct build){ 0 };
    add(&b, "some.thing.weight", 2, 4, 4);
    add(&b, "first_stage_model.x.weight", 2, 4, 4);
    if (finish(&b, &o)) {
        CHECK_STR(lt_family_id(lt_model_family(o.model)), "unknown");
        CHECK(finds(&o, "base_model.model.some.thing", "some.thing.weight", 0));
        CHECK(finds(&o, "lora_unet_some_thing", "some.thing.weight", 0));
        CHECK(lt_model_site_count(o.model) == 1);
    }
    close_all(&o);
}

/* Two tensors that flatten to one name: using it is refused, the dotted names work. */
static void test_collision(void)
{
    static struct build b;
    struct opened o;
    b = (struct build){ 0 };
    add(&b, "a.b_c.weight", 2, 4, 4);
    add(&b, "a_b.c.weight", 2, 4, 4);
    if (finish(&b, &o)) {
        lt_match match = lt_alias_find(o.aliases, "lora_unet_a_b_c");
        CHECK(match.ambiguous && !match.n_pieces);
        CHECK(finds(&o, "a.b_c", "a.b_c.weight", 0));
        CHECK(finds(&o, "a_b.c", "a_b.c.weight", 0));
    }
    close_all(&o);
    /* A name itself comes before what a wrapper makes of another. */
    b = (struct build){ 0 };
    add(&b, "encoder.layer.0.attention.self.query.weight", 2, 4, 4);
    add(&b, "proj.weight", 2, 4, 4);
    add(&b, "model.proj.weight", 2, 4, 4);
    if (finish(&b, &o)) {
        CHECK(finds(&o, "base_model.model.proj", "proj.weight", 0));
        CHECK(finds(&o, "base_model.model.model.proj", "model.proj.weight", 0));
    }
    close_all(&o);
}

static void test_adapter_families(void)
{
    static const struct {
        lt_module_hint hint;
        const char *family;
    } rows[] = {
        { { "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768,
              2 },
            "sd1" },
        { { "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 1024,
              2 },
            "sd2" },
        { { "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 2048,
              2 },
            "sdxl" },
        { { "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", 640, 2 },
            "sdxl" },
        { { "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", 768, 2 },
            "sd1" },
        { { "lora_unet_down_blocks_0_attentions_0_proj_in", 320, 4 }, "sd1" },
        { { "base_model.model.model.layers.0.self_attn.q_proj", 64, 2 }, "llama" },
        { { "base_model.model.transformer.h.0.attn.c_attn", 64, 2 }, "gpt2" },
        { { "base_model.model.bert.encoder.layer.0.attention.self.query", 64, 2 },
            "bert" },
        { { "transformer.transformer_blocks.0.attn1.to_q", 2048, 2 }, "ltx" },
        { { "transformer.transformer_blocks.0.attn2.to_q", 4096, 2 }, "ltx" },
        { { "transformer.transformer_blocks.0.audio_attn1.to_q", 2048, 2 }, "ltx2" },
        { { "transformer.transformer_blocks.0.attn1.to_q", 4096, 2 }, "cogview4" },
        { { "transformer.transformer_blocks.0.attn1.to_q", 3072, 2 }, "cogvideox" },
        { { "transformer.transformer_blocks.0.attn1.add_q_proj", 1536, 2 }, "mochi" },
        { { "transformer.transformer_blocks.0.attn1.to_q", 1152, 2 }, "pixart" },
        { { "unet.base_model.model.transformer_blocks.0.attn1.to_q", 1152, 2 },
            "pixart" },
        { { "transformer.transformer_blocks.0.attn1.to_q", 2240, 2 }, "sana" },
        { { "transformer.transformer_blocks.0.attn1.to_q", 1234, 2 }, "unknown" },
        { { "lora_unet_double_blocks_0_img_attn_q", 2048, 2 }, "hunyuan-video-1.5" },
        { { "diffusion_model.double_blocks.0.img_mlp.fc1", 2048, 2 },
            "hunyuan-video-1.5" },
        { { "diffusion_model.double_blocks.0.img_mlp.fc1", 3072, 2 }, "hunyuan-video" },
        { { "transformer.blocks.0.attn1.to_q", 1536, 2 }, "wan" },
        { { "lora_transformer_blocks_0_attn1_to_q", 1536, 2 }, "wan" },
        { { "lora_transformer_transformer_blocks_0_attn1_to_q", 1234, 2 }, "unknown" },
        { { "diffusion_model.vace_blocks.0.self_attn.q", 1536, 2 }, "wan" },
        { { "something_else", 64, 2 }, "unknown" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_STR(lt_family_id(lt_family_of_adapter(&rows[i].hint, 1)), rows[i].family);
}

/* Bases that are like a known one, but for what tells it, are not taken for it. */
static void test_strange_relatives(void)
{
    static const struct {
        const char *key;
        unsigned columns;
        const char *family;
    } times[] = {
        { "time_text_embed.timestep_embedder.linear_1.weight", 4096, "flux" },
        { "time_embed.timestep_embedder.linear_1.weight", 4096, "bria" },
        { "time_embed.timestep_embedder.linear_1.weight", 3584, "longcat-image" },
        { "time_embed.timestep_embedder.linear_1.weight", 2048, "unknown" },
        { "another_time.linear_1.weight", 4096, "unknown" },
    };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        static struct build b;
        struct opened o;
        b = (struct build){ 0 };
        add(&b, "transformer_blocks.0.attn.add_q_proj.weight", 2, 4, 4);
        add(&b, "transformer_blocks.0.norm1.linear.weight", 2, 24, 4);
        add(&b, "single_transformer_blocks.0.proj_mlp.weight", 2, 16, 4);
        add(&b, "x_embedder.weight", 2, 4, 4);
        add(&b, "context_embedder.weight", 2, 4, times[i].columns);
        add(&b, times[i].key, 2, 4, 4);
        if (finish(&b, &o))
            CHECK_STR(lt_family_id(lt_model_family(o.model)), times[i].family);
        close_all(&o);
    }
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_sd1), TEST(test_sdxl_fused),
        TEST(test_refiner_is_not_sdxl), TEST(test_parts), TEST(test_sd2),
        TEST(test_language_models), TEST(test_collision), TEST(test_strange_relatives),
        TEST(test_adapter_families) };
    temp_path(path, sizeof path, "model");
    int rc = RUN_TESTS(tests);
    unlink(path);
    return rc;
}
