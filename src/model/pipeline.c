/* SPDX-License-Identifier: MIT */
/* The values are those of the published models' own files. sample_size and the like do
 * not follow from tensors: SD2's is that of the 768 model. What an inpainting model
 * differs in does: the channels in. */
#include "model/pipeline.h"

#include <string.h>

#define UNET_TEXT                                                    \
    "{\"_class_name\":\"UNet2DConditionModel\",\"act_fn\":\"silu\"," \
    "\"in_channels\":4,\"out_channels\":4,\"layers_per_block\":2,"   \
    "\"flip_sin_to_cos\":true,\"freq_shift\":0,\"norm_eps\":1e-05,"  \
    "\"norm_num_groups\":32,\"downsample_padding\":1,"               \
    "\"mid_block_scale_factor\":1,\"center_input_sample\":false,"
#define VAE_TEXT                                                     \
    "{\"_class_name\":\"AutoencoderKL\",\"act_fn\":\"silu\","        \
    "\"block_out_channels\":[128,256,512,512],"                      \
    "\"down_block_types\":[\"DownEncoderBlock2D\","                  \
    "\"DownEncoderBlock2D\",\"DownEncoderBlock2D\","                 \
    "\"DownEncoderBlock2D\"],"                                       \
    "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"," \
    "\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"],\"in_channels\":3,"  \
    "\"out_channels\":3,\"layers_per_block\":2,"                     \
    "\"norm_num_groups\":32,"
#define CLIP_TEXT(class)                                                                 \
    "{\"architectures\":[\"" class "\"],"                                                \
                                   "\"model_type\":\"clip_text_model\",\"vocab_size\":"  \
                                   "49408,"                                              \
                                   "\"max_position_embeddings\":77,\"layer_norm_eps\":"  \
                                   "1e-05,"                                              \
                                   "\"attention_dropout\":0.0,\"bos_token_id\":0,\"eos_" \
                                   "token_id\":2,"                                       \
                                   "\"pad_token_id\":1,"

static const char unet_sd1[] =
    UNET_TEXT "\"sample_size\":64,\"cross_attention_dim\":768,"
              "\"attention_head_dim\":8,"
              "\"block_out_channels\":[320,640,1280,1280],"
              "\"down_block_types\":[\"CrossAttnDownBlock2D\","
              "\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\","
              "\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\","
              "\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\","
              "\"CrossAttnUpBlock2D\"]}";

static const char unet_sd2[] =
    UNET_TEXT "\"sample_size\":96,\"cross_attention_dim\":1024,"
              "\"attention_head_dim\":[5,10,20,20],"
              "\"use_linear_projection\":true,"
              "\"block_out_channels\":[320,640,1280,1280],"
              "\"down_block_types\":[\"CrossAttnDownBlock2D\","
              "\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\","
              "\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\","
              "\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\","
              "\"CrossAttnUpBlock2D\"]}";

static const char unet_sdxl[] =
    UNET_TEXT "\"sample_size\":128,\"cross_attention_dim\":2048,"
              "\"attention_head_dim\":[5,10,20],"
              "\"use_linear_projection\":true,"
              "\"transformer_layers_per_block\":[1,2,10],"
              "\"addition_embed_type\":\"text_time\","
              "\"addition_time_embed_dim\":256,"
              "\"projection_class_embeddings_input_dim\":2816,"
              "\"block_out_channels\":[320,640,1280],"
              "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\","
              "\"CrossAttnDownBlock2D\"],"
              "\"up_block_types\":[\"CrossAttnUpBlock2D\","
              "\"CrossAttnUpBlock2D\",\"UpBlock2D\"]}";

static const char unet_refiner[] =
    UNET_TEXT "\"sample_size\":128,\"cross_attention_dim\":1280,"
              "\"attention_head_dim\":[6,12,24,24],"
              "\"use_linear_projection\":true,"
              "\"transformer_layers_per_block\":4,"
              "\"addition_embed_type\":\"text_time\","
              "\"addition_time_embed_dim\":256,"
              "\"projection_class_embeddings_input_dim\":2560,"
              "\"block_out_channels\":[384,768,1536,1536],"
              "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\","
              "\"CrossAttnDownBlock2D\",\"DownBlock2D\"],"
              "\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\","
              "\"CrossAttnUpBlock2D\",\"UpBlock2D\"]}";

static const char vae_sd[] = VAE_TEXT "\"latent_channels\":4,\"sample_size\":512,"
                                      "\"scaling_factor\":0.18215}";

static const char vae_sdxl[] =
    VAE_TEXT "\"latent_channels\":4,\"sample_size\":1024,"
             "\"scaling_factor\":0.13025,\"force_upcast\":true}";

static const char vae_sd3[] =
    VAE_TEXT "\"latent_channels\":16,\"sample_size\":1024,"
             "\"scaling_factor\":1.5305,\"shift_factor\":0.0609,"
             "\"force_upcast\":true,\"use_quant_conv\":false,"
             "\"use_post_quant_conv\":false}";

static const char vae_flux[] =
    VAE_TEXT "\"latent_channels\":16,\"sample_size\":1024,"
             "\"scaling_factor\":0.3611,\"shift_factor\":0.1159,"
             "\"force_upcast\":true,\"use_quant_conv\":false,"
             "\"use_post_quant_conv\":false}";

static const char clip_l[] =
    CLIP_TEXT("CLIPTextModel") "\"hidden_size\":768,\"intermediate_size\":3072,"
                               "\"num_attention_heads\":12,\"num_hidden_layers\":12,"
                               "\"hidden_act\":\"quick_gelu\",\"projection_dim\":768}";

static const char clip_g[] = CLIP_TEXT(
    "CLIPTextModelWithProjection") "\"hidden_size\":1280,\"intermediate_size\":5120,"
                                   "\"num_attention_heads\":20,\"num_hidden_layers\":32,"
                                   "\"hidden_act\":\"gelu\",\"projection_dim\":1280}";

static const char clip_h[] =
    CLIP_TEXT("CLIPTextModel") "\"hidden_size\":1024,\"intermediate_size\":4096,"
                               "\"num_attention_heads\":16,\"num_hidden_layers\":23,"
                               "\"hidden_act\":\"gelu\",\"projection_dim\":512}";

static const struct {
    const char *family, *class_name;
} pipelines[] = {
    { "sd1", "StableDiffusionPipeline" },
    { "sd2", "StableDiffusionPipeline" },
    { "sdxl", "StableDiffusionXLPipeline" },
    { "sdxl-refiner", "StableDiffusionXLImg2ImgPipeline" },
    { "sd3", "StableDiffusion3Pipeline" },
    { "flux", "FluxPipeline" },
    { "chroma", "ChromaPipeline" },
};

#define UNET(family, config)                                        \
    {                                                               \
        family, "unet", "diffusers", "UNet2DConditionModel", config \
    }
#define VAE(family, config)                                 \
    {                                                       \
        family, "vae", "diffusers", "AutoencoderKL", config \
    }
#define ENCODER(family, id, class, config)        \
    {                                             \
        family, id, "transformers", class, config \
    }

static const lt_pipeline_part parts[] = {
    UNET("sd1", unet_sd1),
    ENCODER("sd1", "te1", "CLIPTextModel", clip_l),
    VAE("sd1", vae_sd),
    UNET("sd2", unet_sd2),
    ENCODER("sd2", "te1", "CLIPTextModel", clip_h),
    VAE("sd2", vae_sd),
    UNET("sdxl", unet_sdxl),
    ENCODER("sdxl", "te1", "CLIPTextModel", clip_l),
    ENCODER("sdxl", "te2", "CLIPTextModelWithProjection", clip_g),
    VAE("sdxl", vae_sdxl),
    UNET("sdxl-refiner", unet_refiner),
    ENCODER("sdxl-refiner", "te2", "CLIPTextModelWithProjection", clip_g),
    VAE("sdxl-refiner", vae_sdxl),
    { "sd3", "transformer", "diffusers", "SD3Transformer2DModel", NULL },
    ENCODER("sd3", "te1", "CLIPTextModelWithProjection", NULL),
    ENCODER("sd3", "te2", "CLIPTextModelWithProjection", NULL),
    ENCODER("sd3", "te3", "T5EncoderModel", NULL),
    VAE("sd3", vae_sd3),
    { "flux", "transformer", "diffusers", "FluxTransformer2DModel", NULL },
    ENCODER("flux", "te1", "CLIPTextModel", NULL),
    ENCODER("flux", "te2", "T5EncoderModel", NULL),
    VAE("flux", vae_flux),
    { "chroma", "transformer", "diffusers", "ChromaTransformer2DModel", NULL },
    ENCODER("chroma", "te2", "T5EncoderModel", NULL),
    VAE("chroma", vae_flux),
};

const char *lt_pipeline_class(const lt_family *family)
{
    for (size_t i = 0; i < sizeof pipelines / sizeof *pipelines; i++)
        if (!strcmp(pipelines[i].family, family->id)) return pipelines[i].class_name;
    return NULL;
}

const lt_pipeline_part *lt_pipeline_find(
    const lt_family *family, const lt_component *component)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(parts[i].family, family->id)
            && !strcmp(parts[i].component, component->id))
            return &parts[i];
    return NULL;
}
