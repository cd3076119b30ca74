/* SPDX-License-Identifier: MIT */
/* The layout tables against what published models consist of: the SHA-256 of their sorted
 * lists of "key TAB shape", their numbers of tensors and of parameters; and the way from
 * a file's names to the other layout's and back. */
#include "runner.h"

#include "base/digest.h"
#include "files.h"
#include "loratool/model.h"
#include "model/layouts.h"

#include <stdlib.h>

static char path[512];

struct entry {
    char name[240];
    uint64_t shape[LT_MAX_DIMS];
    unsigned n_dims;
};

struct list {
    struct entry *items;
    size_t count, capacity;
    uint64_t numel;
};

static void take(void *ctx, const char *name, const uint64_t *shape, unsigned n_dims)
{
    struct list *l = ctx;
    uint64_t count = 1;
    if (l->count == l->capacity) {
        l->capacity = 2 * l->capacity + 64;
        l->items = realloc(l->items, l->capacity * sizeof *l->items);
    }
    struct entry *e = &l->items[l->count++];
    snprintf(e->name, sizeof e->name, "%s", name);
    memcpy(e->shape, shape, n_dims * sizeof *shape);
    e->n_dims = n_dims;
    for (unsigned i = 0; i < n_dims; i++)
        count *= shape[i];
    l->numel += count;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static struct list list_of(const lt_layout *layout, const char *params, bool is_public)
{
    struct list l = { 0 };
    lt_layout_each(layout, params, is_public, take, &l);
    qsort(l.items, l.count, sizeof *l.items, by_name);
    return l;
}

static void digest_of(const struct list *l, char hex[LT_SHA256_HEX])
{
    lt_sha256 *h = NULL;
    char line[512];
    CHECK(!lt_sha256_new(&h, NULL));
    for (size_t i = 0; i < l->count; i++) {
        const struct entry *e = &l->items[i];
        int n = snprintf(line, sizeof line, "%s\t", e->name);
        for (unsigned d = 0; d < e->n_dims; d++)
            n += snprintf(line + n, sizeof line - (size_t)n, "%s%llu", d ? "," : "",
                (unsigned long long)e->shape[d]);
        line[n++] = '\n';
        lt_sha256_update(h, line, (size_t)n);
    }
    lt_sha256_hex(h, hex);
    lt_sha256_free(h);
}

/* Digests are "" where none was published. */
static const struct published {
    const char *layout, *variant;
    bool is_public;
    size_t tensors;
    uint64_t numel;
    const char *digest;
} published[] = {
    { "unet-sd1", "sd1", false, 686, 859520964,
        "5440e5ee45fc9982a07b2e50e9d45fa082c190233ecdc9c2db30e96e9c0619eb" },
    { "unet-sd1", "sd1", true, 686, 859520964,
        "15576c288e64c99dc15cefbaba5fbbe9befb9eef50f288f849c5be9bb7fae742" },
    { "unet-sd1", "sd1-inpaint", false, 686, 859535364,
        "b2f351fedcfe7e2642c893f61738b8db15a992934adb77a16385e342cb8a8986" },
    { "unet-sd1", "sd1-inpaint", true, 686, 859535364,
        "4f15554f5136c7791c40576bf0feb71044f015423216d17f4a3676915ebf6acb" },
    { "unet-sd1", "sd1-edit", false, 686, 859532484, "" },
    { "unet-sd1", "sd1-edit", true, 686, 859532484,
        "6f2385d502cc2ab98e0a55a96e18af75e5cbe44b70e58d3975010e32a2be0af1" },
    { "unet-sd2", "sd2", false, 686, 865910724,
        "190badf3351597503bc48cc8ef6d53350dab0dfabc42fac490e6f3830a649bdf" },
    { "unet-sd2", "sd2", true, 686, 865910724,
        "13a377e799fc6937c9714b5dc8c896b0ffedfe3e63c1fbc720da6fa51231c31f" },
    { "unet-sd2", "sd2-inpaint", false, 686, 865925124, "" },
    { "unet-sd2", "sd2-inpaint", true, 686, 865925124,
        "171bf5af48405a85d36e8d7c408832702c16e2590d6f6d5ab4b0fc583939642b" },
    { "unet-sd2", "sd2-depth", false, 686, 865913604, "" },
    { "unet-sd2", "sd2-depth", true, 686, 865913604,
        "391c1a9b07efdf6cedf09430bd57e525d258105dd5d47c754a2535ec472c2272" },
    { "unet-sdxl", "sdxl", false, 1680, 2567463684,
        "19c31fb39731512889f4373b1e3a730ef630bca78f9bfb4036b34e309d13a2d3" },
    { "unet-sdxl", "sdxl", true, 1680, 2567463684,
        "ac0c7e44db3da0625074a3bc5ee41b7758e1506ecbb03e830c546fc7c10f78c5" },
    { "unet-sdxl", "sdxl-inpaint", false, 1680, 2567478084, "" },
    { "unet-sdxl", "sdxl-inpaint", true, 1680, 2567478084,
        "3d7cf42bb0a315d744c0acad6ddf05ebb6dc00c4766e138e60760bd713247517" },
    { "unet-sdxl", "sdxl-edit", false, 1680, 2567475204, "" },
    { "unet-sdxl", "sdxl-edit", true, 1680, 2567475204,
        "6388c2236ea54fe86acb11e0c71503cffe3a9b03f5df2a05b1cc45efd11b0bec" },
    { "unet-refiner", "refiner", false, 1220, 2259526660,
        "23a39b3e3c0f85f03657aa50904267dce310d252cef8df7ad5998e343deabc2b" },
    { "unet-refiner", "refiner", true, 1220, 2259526660,
        "610d3dd5312e4909b432197a1ae1824449a28ade3285a85252745d6f020cb7fa" },
    { "clip", "l", false, 196, 123060480,
        "2bf08036a32f04685551ab6415405cc56dc47459f7a0a97bc5e510bf73e9f807" },
    { "clip", "l", true, 196, 123060480,
        "2bf08036a32f04685551ab6415405cc56dc47459f7a0a97bc5e510bf73e9f807" },
    { "clip", "l-projection", false, 197, 123650304,
        "b191b7aa0c60c5f5c5e028c08106168e356fc5f2d7544080f92f0f1ead9755a8" },
    { "clip", "l-projection", true, 197, 123650304,
        "b191b7aa0c60c5f5c5e028c08106168e356fc5f2d7544080f92f0f1ead9755a8" },
    { "clip", "l-positions", false, 197, 123060557, "" },
    { "clip", "l-positions", true, 196, 123060480,
        "2bf08036a32f04685551ab6415405cc56dc47459f7a0a97bc5e510bf73e9f807" },
    { "openclip", "g", false, 390, 694659841,
        "305f5e85de6cdd42a5beabe8166ed6f5f53a3fcd0be44f309e6e83861fac5b85" },
    { "openclip", "g", true, 517, 694659840,
        "6e1a5a22ac581cde88f21b12f93d342fabc2aee43e0fef9e32b19f7337ea85ce" },
    { "openclip-sd2", "h", false, 294, 354032641,
        "8ceb7faa0472b9d3c6cb726db861fe30e26ae8d83c366b87078b856d3db16618" },
    { "openclip-sd2", "h", true, 372, 340387840,
        "0270f339f627c264e025e902ac927253471898f4156cf4f35db467cb8b271528" },
    { "vae", "z4", false, 248, 83653863,
        "fec7616c69c6c82d9ef2ac51d42b9dae6efe604cd12702882f87dbf5660df50b" },
    { "vae", "z4", true, 248, 83653863,
        "ac3b2bf6b3f520a3c581e17b639f9d90efe6413fa2632d39ab3e2677b02982f2" },
    { "vae", "z16", false, 244, 83819683,
        "312604292a540d82be39ff82ab2bf3dd31be817dcf88c13d8b08e299d674f4ed" },
    { "vae", "z16", true, 244, 83819683,
        "58c28b377ec3c5190fc3d7dd74fb8531328ca8b9991fa520f11b3ddf6d9b9f42" },
    { "flux", "dev", false, 780, 11901408320,
        "54f41176ae5ce6f91fdfafdc5e0ca4c9b5918a09822535b9b14f2056c6a176c5" },
    { "flux", "dev", true, 1160, 11901408320,
        "0f61dca335b3d46fcac330f0b3f1997832e7e9e20396f3636de30929e325853d" },
    { "flux", "schnell", false, 776, 11891178560,
        "c07962851a81b0ba4b346d2da9f68f10b3b7d9b7a55283c9bd849a2d50ca86dc" },
    { "flux", "schnell", true, 1156, 11891178560,
        "699b2d640563ec7ac00991a4d913db1f0160e60fe90f1dce89dcd7a6a6299faa" },
    { "chroma", "chroma", false, 643, 8899983424,
        "4a802ec8dc669bd8ff516d94479d4d3fbc748860d8c4ac9226de37a2f18db27a" },
    { "chroma", "chroma", true, 1023, 8899983424,
        "b69d81da8a77287aefcf6164782da229c7730286a924a736f8f1bbf6622052da" },
    { "sd3", "medium", false, 491, 2084951104,
        "5d71d0eb4a86034a2ba3fe43ae239ae7881b97b93f5accfd464e0e433d55f895" },
    { "sd3", "medium", true, 683, 2084951104,
        "c8c29829cd6f588373f51d4e03d7703b718d94a3f3e185f433ff37085d4e8065" },
    { "sd3", "3.5-medium", false, 665, 2469663936,
        "4a037486bfcb84de049c6a1754de55bc7c090b6a2a39e1cdca97c16a2d7ccf38" },
    { "sd3", "3.5-medium", true, 909, 2469663936,
        "ff944825f6ff02cc8788b3b793498cf3b5af9267cfc8f639aade392a6cc4d3a5" },
    { "sd3", "3.5-large", false, 923, 8146280768,
        "406d2afc8e80447260ef83240a0e0ce6a5f9e367c24ded0106534ffc0109d5bc" },
    { "sd3", "3.5-large", true, 1227, 8146280768,
        "2f64563862cf0d26c9256bd92b9b3c1c1836b1cdfbe70b5514eba37d245b586b" },
    { "wan", "2.1-t2v-1.3B", false, 825, 1418996800,
        "30ac5a0bfd934f400f3718cea971a42a327198bc3783a8e3b58e07357e1c6d1e" },
    { "wan", "2.1-t2v-1.3B", true, 825, 1418996800,
        "a45f186e77818bd5197948f39b6f390bb4ff733d47d209b7aaa3cd9750e60c68" },
    { "wan", "2.1-t2v-14B", false, 1095, 14288491584,
        "51cb30520b12d0d0e5bb55f5c56b278f8375e89094b8a8b53f46dea5ab929d9b" },
    { "wan", "2.1-t2v-14B", true, 1095, 14288491584,
        "90466b068b65cf4c65fcf11f0ca92aa0cfb2bf6aacd4407d0083bfd4078d7a58" },
    { "wan", "2.1-i2v-14B", false, 1303, 16394878784,
        "379677c03dcb9151751d143d556b9bf0473bf8a65d2aea5098b34c540d8ad9ed" },
    { "wan", "2.1-i2v-14B", true, 1303, 16394878784,
        "5272c84c0ae83d2c202c126ac6ab13a51518c110c3efa7ffa82d321dbe3525db" },
    { "wan", "2.2-i2v-A14B", false, 1095, 14288901184,
        "2e74c3d798951966ae64c82e0bab5ddd83e2d67be463fb131ec1867d48c9323c" },
    { "wan", "2.2-i2v-A14B", true, 1095, 14288901184,
        "cbb2973e2da82e41b9ac1575551afaf8a0aa7e596a0f262931d1a6f4f5d58cdb" },
    { "wan", "2.2-ti2v-5B", false, 825, 4999787712,
        "e6088a353576dee0801188e93ab7bb4afec0a65009ef98e26f324d49a0f75a1c" },
    { "wan", "2.2-ti2v-5B", true, 825, 4999787712,
        "04153d12a1c9d925629bbf8b6d76e7dcd2a695ac8e5a404739f77bc4c32b4567" },
    { "qwen-image", "qwen-image", false, 1933, 20430401088,
        "412483348226e61c4081c07f33b20ad397728b1edb19ee19d7467284a1f439bc" },
    { "qwen-image", "qwen-image", true, 1933, 20430401088,
        "412483348226e61c4081c07f33b20ad397728b1edb19ee19d7467284a1f439bc" },
    { "cosmos-predict2", "2B-t2i", false, 567, 1956405248,
        "b6eb10c99d423d06ecfd7891654fce7f053bb71ed7ad6628aaed141b3b8e2a5d" },
    { "cosmos-predict2", "2B-t2i", true, 567, 1956405248,
        "5fe96894bff9663d0b363cec597bea4c8f83b1d537fab05e843a7a1725af1818" },
    { "cosmos-predict2", "2B-v2w", false, 567, 1956413440,
        "08f66a8c69d96fe084cd04cc393bdc887c72e91c5770f21f46052de8813533d9" },
    { "cosmos-predict2", "2B-v2w", true, 567, 1956413440,
        "445e8cbe54d559fff7390ea9aa99ea11a3ae681212203408ef8e7263ca4e8337" },
    { "cosmos-predict2", "14B-t2i", false, 727, 14265265152,
        "befc0259e375dc90c35db61321ccc0272097271ad9fb434fcc6d6493863a5e2d" },
    { "cosmos-predict2", "14B-t2i", true, 727, 14265265152,
        "1b5ec79c1efb44f0598be2be4d7af8af067feea7f2523dd8556d82295f71b3f7" },
    { "cosmos-predict2", "14B-v2w", false, 727, 14265285632,
        "422f236228d9b7e710450902f6c7f9d973d102948f6d8c1dc840124585c1d808" },
    { "cosmos-predict2", "14B-v2w", true, 727, 14265285632,
        "406366a6857ed7b05fc476f1f6e58108015b0a28b832fc125825ac9b30dabf3a" },
    { "anima", "anima", false, 685, 2091068928,
        "734d8fe6e80c3eafdcd73181dd99e3a6180dee28cb504fba4aaa1c97e2359f9d" },
    { "anima", "anima", true, 685, 2091068928,
        "1cf45d4c6a879789052e42b44a207c66684132e6762ee39aa8e7133ccb290bd5" },
    { "flux2", "dev", false, 299, 32223281152,
        "52a25c0b09429f6eda7dcb20065d58f9dceecd072d514c9d2cb1a89eedff6927" },
    { "flux2", "dev", true, 331, 32223281152,
        "b5a8522c6244a9001631a50084720e9e141edc14f66b489b3d3f95777252a02b" },
    { "flux2", "klein-4B", false, 149, 3875544576,
        "ad060339743430f62978fd07b793ddf5c3d07c128a6f6f1c8fa9efa0c1732aa1" },
    { "flux2", "klein-4B", true, 169, 3875544576,
        "ddb642340b67f0d5dd592ee74cebf44dfdc8beab8ed5a161f323d69ad07a84ab" },
    { "flux2", "klein-9B", false, 201, 9078581248,
        "c5910f64d4213a864a15606eb34b6e241f16c43e1e2de0f3c4e6f13bb4d17bd4" },
    { "flux2", "klein-9B", true, 233, 9078581248,
        "50ac14fad1d69dac33f61050e35c20fdd284cd403ed29fbd2f63c763facc1cba" },
    { "ltx", "2B", false, 715, 1923385472,
        "18d13723ef0e1a8286a79df0691ef53eb5faff20dd6aa08646cd1aaf4da3e6b6" },
    { "ltx", "2B", true, 715, 1923385472,
        "248a76003e31fd3f97282f818180e9a1897b59f45b7382cc9e46643722ea9739" },
    { "ltx", "13B", false, 1215, 13042569344,
        "a56aab49f8df81852e184f78e61c8cff4024039bed655d23e13aca101acfd594" },
    { "ltx", "13B", true, 1215, 13042569344,
        "fb431212d7f9edc174ed6a5fcc4328c75dc3cd2515add1df005cb12a9cd11c63" },
    { "auraflow", "v0.1", false, 331, 6833439744,
        "5182cfebca63fa2b55e40ae6d0bc11d75e0142653f3cd8176877e647fb82d729" },
    { "auraflow", "v0.1", true, 331, 6833439744,
        "1f643f8b42440bea2a6ad3d1e3a4682f05e3daa912c3f9dd2ae424b121818bae" },
    { "auraflow", "v0.3", false, 331, 6858605568,
        "b70307d3964a20c6a7824989ef0603bfe550a9f0ffae7398436eb57e40f9d8bb" },
    { "auraflow", "v0.3", true, 331, 6858605568,
        "7d1105901a4d2b6ceea952dcf8d4286d5a7c02ed568c7448a49788e1ec2efbe9" },
    { "pixart", "alpha", false, 444, 611840672,
        "70bc7bcf680b64e54857b3c1d83d7beef478f59e83791e4f1de79b49d034e2c6" },
    { "pixart", "alpha", true, 611, 611349152,
        "af5410f6f54d592821de2a64371fee600a8814b7000475a198776a15adc32b8a" },
    { "pixart", "alpha-512", false, 436, 611347616,
        "73ebcc0e450afa447381a233f533b51a532d5ea36b21636c976361c625ee5932" },
    { "pixart", "alpha-512", true, 603, 610856096,
        "3dc332ddf6b75c8f8d95ce6bfb433386a8addbaf1507636414843464599c7c05" },
    { "pixart", "sigma", false, 436, 612084896,
        "c43ba467b7777f0f3ea8c6c49b1633a2675ffc3204cf0b334261773881f08d17" },
    { "pixart", "sigma", true, 603, 610856096,
        "3dc332ddf6b75c8f8d95ce6bfb433386a8addbaf1507636414843464599c7c05" },
    { "lumina", "image-2.0", false, 400, 2609771456,
        "5a1762485010adb595773dd455a8dd66ce82e78cbb4f0a062afdd1628f88915f" },
    { "lumina", "image-2.0", true, 459, 2609769152,
        "bf20b55b072f127af8a5e666e9fc3faad7b4f379ef11fe3780c37df85c895812" },
    { "zimage", "z-image", false, 453, 6154908736,
        "122dbd941fcd5a6aaefb9f8f7f7aa703ce66785925b607cf261243760cf5b86e" },
    { "zimage", "z-image", true, 521, 6154908736,
        "11c7228ec8b42757ec192e4832a3f58e93bc56f5ccf636cd33afd1be72693c14" },
    { "hunyuan-video", "hunyuan-video", false, 856, 12821012544,
        "152545f7216ee7c5e750cae3e10770e1f9935d87732ddc9719de5cf5b089e520" },
    { "hunyuan-video", "hunyuan-video", true, 1264, 12821012544,
        "3d9c355aab6a1fc930b3a2c4fa2d950058521cd7d6514a3c1dd043cc892fa719" },
    { "hunyuan-image", "2.1", false, 856, 17425795520,
        "bf1c7031158df68251c61fc0f72d487bb7229ed313f9c3d8d1de1461773cd9e1" },
    { "hunyuan-image", "2.1", true, 1264, 17425795520,
        "5389a7a9a5fd0fa41ac9a6767286a304d0ce2aae23fd7ebf35d0a74ac550ec61" },
    { "hunyuan-image", "2.1-distilled", false, 864, 17453334976,
        "b92e918120b89f9700d871c876512b0790efcb91acce7b19ba9005e2b508939d" },
    { "hunyuan-image", "2.1-distilled", true, 1272, 17453334976,
        "2931c55356308746e9b18261da6f55bc1b5df91a1b0b95241464b0dd3e3ebb4d" },
    { "hunyuan-image", "refiner", false, 852, 15027012160,
        "7f08a28c90e6d80a135131552e4c46d5ecad5900eaf43b825e90bb99bcbb30f8" },
    { "hunyuan-image", "refiner", true, 1260, 15027012160,
        "26308cbfd5e8ac7b0db2a4d2af731e1abbbf249985ed4e6bcfda849af6a6e821" },
    { "wan", "2.1-flf2v-14B", false, 1304, 16395536704,
        "c99ea19cb41c6c7fef7aab710ba35f47abd0a9cb92e5ef993b8b9cbc31a63b57" },
    { "wan", "2.1-flf2v-14B", true, 1304, 16395536704,
        "54164a97eafb54e79d8573c35006e587b57902b713038e38c36d8e4d0edb93e4" },
    { "wan", "2.1-vace-1.3B", false, 1264, 2153972032,
        "6c7e6630ffd0cd50c5cfdc5da482d6c83b0c57dd3b336a3507723e7049048f38" },
    { "wan", "2.1-vace-1.3B", true, 1264, 2153972032,
        "35d1e6eb2c3adfac4134a98ab3cd6955d8749a62fced5d27a8ad1ce220042944" },
    { "wan", "2.1-vace-14B", false, 1331, 17337592896,
        "def4fe3bbf872a004a2fa7ce479932c30d75c25d89f093de819485cb8dfbab92" },
    { "wan", "2.1-vace-14B", true, 1331, 17337592896,
        "75f1f82f43ebabfa592cbc0b89f638ad614d05d8ccfb3b749a4b35013f423960" },
    { "wan", "2.2-animate-14B", false, 1378, 17252080448,
        "430b83e2f4041ddaf5f30906b6bc0e1c4c720b2b79e30bdb9de78777243c9644" },
    { "wan", "2.2-animate-14B", true, 1394, 17252080448,
        "083466da9285ea8535562a403d4fc1b53200df7d6c47ea9d9ef578a2c63d471d" },
    { "cosmos-predict2", "2.5-2B", false, 569, 2059174912,
        "bb3132f4fc3db7bbd83e123f2e27ff715f2af7107338997faef63a36c16c7386" },
    { "cosmos-predict2", "2.5-2B", true, 569, 2059174912,
        "9b8fbda57a60322cdfb07b74a96684350424c2ca8cf2efc4108ae2e11ddd0fa0" },
    { "cosmos-predict2", "2.5-14B", false, 729, 14368047104,
        "a3536fa2b4f4fe67f6a4a64a0d2a19286ecb76a21191727b4c8f19a4c2839b0a" },
    { "cosmos-predict2", "2.5-14B", true, 729, 14368047104,
        "a216866c942d4347411edbdafe23292468c5452ca44d30c969ade2080b0c2c9e" },
    { "cosmos-predict2", "transfer2.5-2B", false, 711, 2413864960,
        "1dc52f919313ae7a2ab7a20395b6c986ddab5e7f6c1c36087efb8c96f70c3320" },
    { "cosmos-predict2", "transfer2.5-2B", true, 711, 2413864960,
        "c812fac84176b9d7d0f590c31702d218ba8fd8eff358f65e73aa3b398684b25b" },
    { "ltx2", "2.0", false, 3510, 18876174592,
        "a5211f5ba43ff62aa5f51f9d6ea1544cc41c8b15b44f3ebeb5836e7456157890" },
    { "ltx2", "2.0", true, 3510, 18876174592,
        "c7674dc6143ecf8403ea432a60161690093d23706976a2d2dbdf797395d1e707" },
    { "ltx2", "2.3", false, 4186, 18988838144,
        "a7c7b65a5b1b3c30c18f37d4b44ea04737a4c27fd20cea99fd4cc10ffac21de6" },
    { "ltx2", "2.3", true, 4186, 18988838144,
        "f7a1c1f36ba2d3970dfdc0edbc6abaebdf74cd71e78d5816f1defcab050e14e5" },
    { "ltx2", "2.5", false, 4091, 18987859200,
        "a6500a6aec05e0b1efc32170a0638c65f73b14c6dc8ed07028e19711f1ad2b5a" },
    { "ltx2", "2.5", true, 4091, 18987859200,
        "a8b30256f8b98a67228390ae7f5efe3ced65c92568334b40cfa3d784856f6e2d" },
    { "hunyuan-video-1.5", "1.5", false, 1793, 8326608160,
        "761c573d75cbecc3995dfee056838ee28c601a7f132b8291249820562adede3d" },
    { "hunyuan-video-1.5", "1.5", true, 1801, 8326608160,
        "48ab91e2be8d3cb1e84bd30a51672066f07064791af90407c16fefa591bb1948" },
    { "hunyuan-video-1.5", "1.5-step-distilled", false, 1797, 8331330848,
        "10da0e1467d22c8277801178e788ed9f335a8733e941f1cbcbc8e2691b3bb2e9" },
    { "hunyuan-video-1.5", "1.5-step-distilled", true, 1805, 8331330848,
        "4bcde7f62d41900eb6a2ed3b26dbc7f6e6983f1134df3dc6c99803b52450e48c" },
    { "hunyuan-video-1.5-fused", "1.5", false, 1361, 8326608160,
        "671d6a64ca71f4fa6fdc14b9b3798ab14e2400542c7bf34dc42d701c66d2c5c1" },
    { "hunyuan-video-1.5-fused", "1.5", true, 1801, 8326608160,
        "48ab91e2be8d3cb1e84bd30a51672066f07064791af90407c16fefa591bb1948" },
    { "hunyuan-video-1.5-fused", "1.5-step-distilled", false, 1365, 8331330848,
        "eb3ec4e69dec5795def165f14595720d5e6453f4bcd011cdced35441bc468015" },
    { "hunyuan-video-1.5-fused", "1.5-step-distilled", true, 1805, 8331330848,
        "4bcde7f62d41900eb6a2ed3b26dbc7f6e6983f1134df3dc6c99803b52450e48c" },
    { "mochi", "1-preview", false, 879, 10027677744,
        "801f06380a171630057b6ab223edca1d85e87150541d71becbdf97568306ebcc" },
    { "mochi", "1-preview", true, 1071, 10027677744,
        "f546ea2c09965df341a6d54e09775f4eb07b347ff4b4d15ba16ce80adf00ea18" },
    { "sana", "0.6B", false, 437, 592439072,
        "00aee24f30fc000fff7290f2bb7889568fd1003020141cc0e5d45c54f8a3c48d" },
    { "sana", "0.6B", true, 548, 591747872,
        "b13d5dcc1de695414bb1919d6740efa925a4d14a1fd1c5c156281915256f0644" },
    { "sana", "1.6B", false, 317, 1605153952,
        "98be3c2d3b142b0430c14f4103aa1ca2389e5a9004fd5c4bd464336d17b1305c" },
    { "sana", "1.6B", true, 396, 1604462752,
        "da4c5aaa1ec23ad157a205d691cd7bd6245eb96fe91c09bdaeff46b873590ca6" },
    { "sana", "1.5-1.6B", false, 397, 1605333152,
        "003b2007d6f7d90edcfa30c55ca5f1b38a79153f6e9f4f55bc4170df1f414b0d" },
    { "sana", "1.5-1.6B", true, 476, 1604641952,
        "9501977d3064d358178803c5639f0d9404e5a7cf949696505ad61d2eae5bf3e9" },
    { "sana", "1.5-4.8B", false, 1157, 4722517152,
        "63edc2219436189dd37543649619f36748837dd8a7a7603f457cbb6aedab287c" },
    { "sana", "1.5-4.8B", true, 1396, 4721825952,
        "7f1a2215aa74bb3a785c8da6d0b0d4a85b787acd5cf2c5752027f1b06f77ebe6" },
    { "sana-sprint", "0.6B", false, 553, 594192416,
        "2f950d4cbba5402f6d8fb4d514ecb59fdbc3e775dfdaa76ee5bcf54dc0cb0af2" },
    { "sana-sprint", "0.6B", true, 664, 593501216,
        "904d6679e7577d9fa6fd38b92088268fc7c08624f0436d6e6427c2e6e9df7f3e" },
    { "sana-sprint", "1.6B", false, 401, 1610928672,
        "96b1e0ea62f573058a998e345fe1ba6b110998547215f1c1d33ed6632e86e5bb" },
    { "sana-sprint", "1.6B", true, 480, 1610237472,
        "3c9d21e388a7eec23082bb1c07aa5ebb82642a72020674e43625496de91b1511" },
    { "sana-video", "2B", false, 417, 2057553344,
        "16d1d70b72ca0718844e6d8d79e495edb5fbc3d6c2b284d1308bbc9413029cb8" },
    { "sana-video", "2B", true, 496, 2056862144,
        "dae306a0fe318e2a737c325219cfda10c59a01b69f3ac8519883b623df16dabf" },
    { "hidream", "I1", false, 1615, 17105733184,
        "f9f80d3a6259ef311866829ac1b3716e1861d764fbab66a6ed7a79a87e52a468" },
    { "hidream", "I1", true, 1615, 17105733184,
        "f9f80d3a6259ef311866829ac1b3716e1861d764fbab66a6ed7a79a87e52a468" },
    { "cogvideox", "2B", false, 736, 1693783872,
        "b653c3d907172a73e3ea6fead7b41367731613c1e0625bc3912c45b0510033be" },
    { "cogvideox", "2B", true, 736, 1693783872,
        "b653c3d907172a73e3ea6fead7b41367731613c1e0625bc3912c45b0510033be" },
    { "cogvideox", "5B", false, 1024, 5570283072,
        "55a27e7ebd345a3dea31219231dff5aacf5b83d4828f917941045327e5cc96b9" },
    { "cogvideox", "5B", true, 1024, 5570283072,
        "55a27e7ebd345a3dea31219231dff5aacf5b83d4828f917941045327e5cc96b9" },
    { "cogvideox", "5B-i2v", false, 1025, 5625087552,
        "0fde5287e77565fb66def8241e68d7154ccc1605f4a81dca73d99d7ccfe78ae8" },
    { "cogvideox", "5B-i2v", true, 1025, 5625087552,
        "0fde5287e77565fb66def8241e68d7154ccc1605f4a81dca73d99d7ccfe78ae8" },
    { "cogvideox", "1.5-5B", false, 1024, 5570676352,
        "0dda08bc5dba1e3a41c9d2be8b8686b3a38f9f29deffddd7c2584bf35d176c5e" },
    { "cogvideox", "1.5-5B", true, 1024, 5570676352,
        "0dda08bc5dba1e3a41c9d2be8b8686b3a38f9f29deffddd7c2584bf35d176c5e" },
    { "cogvideox", "1.5-5B-i2v", false, 1028, 5571594880,
        "aaa6bdf4047789dfd63ddc8018e1199ad3c9628cd330cbf53dfc0b9afc067691" },
    { "cogvideox", "1.5-5B-i2v", true, 1028, 5571594880,
        "aaa6bdf4047789dfd63ddc8018e1199ad3c9628cd330cbf53dfc0b9afc067691" },
    { "cogview4", "6B", false, 408, 6369118272,
        "693a6416273d19623e3bde86bb747c34781c58f3736edc19b45f462fdf7b57f4" },
    { "cogview4", "6B", true, 408, 6369118272,
        "693a6416273d19623e3bde86bb747c34781c58f3736edc19b45f462fdf7b57f4" },
    { "kandinsky5", "lite-video", false, 814, 2007702848,
        "0bdb9c89f2a6f3555fc7f670057cae030720bcbb7711448df097e630e32d8fa5" },
    { "kandinsky5", "lite-video", true, 814, 2007702848,
        "0bdb9c89f2a6f3555fc7f670057cae030720bcbb7711448df097e630e32d8fa5" },
    { "kandinsky5", "pro-video", false, 1514, 19311325248,
        "e51dcf5864166150d93750da1eda362c2e544e4f7d3a0de7a80303e435f66efa" },
    { "kandinsky5", "pro-video", true, 1514, 19311325248,
        "e51dcf5864166150d93750da1eda362c2e544e4f7d3a0de7a80303e435f66efa" },
    { "kandinsky5", "lite-image", false, 1246, 6022080576,
        "9a96208005fcf6e43711f550490c10ff0cd49e2c8c706e9ea9738beb84872f5b" },
    { "kandinsky5", "lite-image", true, 1246, 6022080576,
        "9a96208005fcf6e43711f550490c10ff0cd49e2c8c706e9ea9738beb84872f5b" },
    { "bria", "fibo", false, 846, 8285836848,
        "d8e4c860b4e07e42e7167b626dc718a1a4b4f2d68cf7627d658e6019be6b5c8b" },
    { "bria", "fibo", true, 846, 8285836848,
        "d8e4c860b4e07e42e7167b626dc718a1a4b4f2d68cf7627d658e6019be6b5c8b" },
    { "longcat-image", "longcat-image", false, 612, 6270668864,
        "a68bfe0c284b79e2934957923b79bc70d9895db6d098b9ba147f599dadef17c7" },
    { "longcat-image", "longcat-image", true, 612, 6270668864,
        "a68bfe0c284b79e2934957923b79bc70d9895db6d098b9ba147f599dadef17c7" },
    { "ovis-image", "7B", false, 583, 7370449728,
        "730c4bae623f2771d0af538ab679c71c467e52c275f388ef436f446e43c2a035" },
    { "ovis-image", "7B", true, 583, 7370449728,
        "730c4bae623f2771d0af538ab679c71c467e52c275f388ef436f446e43c2a035" },
    { "wan", "skyreels-v2-df-1.3B", false, 830, 1435525696,
        "b65e82bd5bb75277fe02787aaaacbe75331ce35f3d8374417621a4711774a232" },
    { "wan", "skyreels-v2-df-1.3B", true, 830, 1435525696,
        "0db68ec0634806c396f72dd1ea832dbe1a801aecb6bcfda620de7782a505c08a" },
    { "qwen-image", "layered", false, 1934, 20430407232,
        "d028a7ff89310e199b8a398c58ed26510bae912612f8a7ed7bf08bd33a49c612" },
    { "qwen-image", "layered", true, 1934, 20430407232,
        "d028a7ff89310e199b8a398c58ed26510bae912612f8a7ed7bf08bd33a49c612" },
};

#define N_PUBLISHED (sizeof published / sizeof *published)

static const lt_layout *layout_of(const char *id)
{
    for (const lt_named_layout *l = lt_layouts; l->id; l++)
        if (!strcmp(l->id, id)) return l->layout;
    return NULL;
}

static const char *params_of(const lt_layout *layout, const char *id)
{
    for (const lt_layout_variant *v = layout->variants; v->id; v++)
        if (!strcmp(v->id, id)) return v->params;
    return NULL;
}

static void test_published(void)
{
    for (size_t i = 0; i < N_PUBLISHED; i++) {
        const struct published *p = &published[i];
        const lt_layout *layout = layout_of(p->layout);
        const char *params = layout ? params_of(layout, p->variant) : NULL;
        char hex[LT_SHA256_HEX] = "";
        if (!CHECK(params)) continue;
        struct list l = list_of(layout, params, p->is_public);
        digest_of(&l, hex);
        bool same = !*p->digest || !strcmp(hex, p->digest);
        if (!CHECK(l.count == p->tensors) || !CHECK(l.numel == p->numel) || !CHECK(same))
            printf("    %s %s %s: %zu tensors, %llu parameters\n", p->layout, p->variant,
                p->is_public ? "public" : "native", l.count, (unsigned long long)l.numel);
        free(l.items);
    }
}

/* Every variant is in the table above. */
static void test_all_listed(void)
{
    for (const lt_named_layout *l = lt_layouts; l->id; l++)
        for (const lt_layout_variant *v = l->layout->variants; v->id; v++) {
            size_t found = 0;
            for (size_t i = 0; i < N_PUBLISHED; i++)
                found += !strcmp(published[i].layout, l->id)
                    && !strcmp(published[i].variant, v->id);
            if (!CHECK(found)) printf("    %s %s\n", l->id, v->id);
        }
}

/* A file without data that has the list's tensors, its names behind a prefix. */
static lt_store *store_of(const struct list *l, const char *prefix)
{
    size_t room = 400 * l->count + 64, used = 0;
    char *text = malloc(room);
    lt_store *store = NULL;
    uint64_t at = 0;
    for (size_t i = 0; i < l->count; i++) {
        used += (size_t)snprintf(text + used, room - used,
            "%s\"%s%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%llu,%llu]}",
            i ? "," : "{", prefix, l->items[i].name, (unsigned long long)at,
            (unsigned long long)(at + 1));
        at++;
    }
    snprintf(text + used, room - used, "}");
    CHECK(!write_safetensors(path, text, NULL, at));
    CHECK(!lt_store_open(&store, path, NULL));
    free(text);
    return store;
}

static const struct entry *entry_of(const struct list *l, const char *name)
{
    struct entry key;
    snprintf(key.name, sizeof key.name, "%s", name);
    return bsearch(&key, l->items, l->count, sizeof *l->items, by_name);
}

/* A public module's shape: that of the native weight but for its rows. */
static bool fits(const struct entry *p, const struct entry *e,
    const lt_layout_place *place, uint64_t rows)
{
    unsigned flags = place->row->flags;
    if (!p) return false;
    if (flags & LT_ROW_TRANSPOSED)
        return p->shape[0] == e->shape[1] && p->shape[1] == e->shape[0];
    return p->shape[0] == rows && p->n_dims == (flags & LT_ROW_POINTWISE ? 2 : e->n_dims);
}

/* Each weight of a native file is made of whole public modules, in order and without
 * gaps; each of those is found in a public file and leads back. */
static size_t check_weight(const lt_layout_view *public_view, const struct list *public,
    const struct entry *e, const lt_layout_place *place)
{
    uint64_t columns = 1, row0, rows, next = 0;
    for (unsigned d = 1; d < e->n_dims; d++)
        columns *= e->shape[d];
    for (unsigned part = 0; part < place->parts; part++) {
        char name[240], back[240];
        lt_layout_place other;
        CHECK(lt_layout_part_rows(place, part, e->shape[0], columns, &row0, &rows));
        CHECK(row0 == next);
        next = row0 + rows;
        CHECK(lt_layout_public_name(place, part, name, sizeof name));
        if (!CHECK(fits(entry_of(public, name), e, place, rows))
            || !CHECK(lt_layout_find_weight(public_view, name, &other))) {
            printf("    %s -> %s\n", e->name, name);
            continue;
        }
        CHECK(other.part == part && lt_layout_native_name(&other, back, sizeof back));
        CHECK_STR(back, e->name);
    }
    CHECK(!place->parts || next == e->shape[0]);
    return place->parts;
}

static void check_round_trip(const lt_layout *layout, const char *params)
{
    struct list native = list_of(layout, params, false);
    struct list public = list_of(layout, params, true);
    lt_store *a = store_of(&native, "x."), *b = store_of(&public, "");
    lt_layout_view from, to;
    size_t modules = 0, weights = 0;
    if (!a || !b) return;
    lt_layout_view_init(&from, layout, false, a, "x.");
    lt_layout_view_init(&to, layout, true, b, "");
    for (size_t i = 0; i < native.count; i++) {
        lt_layout_place place;
        const struct entry *e = &native.items[i];
        if (e->n_dims < 2 || !lt_layout_find_weight(&from, e->name, &place)) continue;
        modules += check_weight(&to, &public, e, &place);
    }
    for (size_t i = 0; i < public.count; i++) {
        lt_layout_place place;
        bool matrix = public.items[i].n_dims > 1;
        weights += matrix && lt_layout_find_weight(&to, public.items[i].name, &place);
    }
    CHECK(modules == weights && modules > 0);
    lt_store_close(a);
    lt_store_close(b);
    free(native.items);
    free(public.items);
}

static void test_round_trips(void)
{
    for (const lt_named_layout *l = lt_layouts; l->id; l++)
        for (const lt_layout_variant *v = l->layout->variants; v->id; v++)
            check_round_trip(l->layout, v->params);
}

static void test_strangers(void)
{
    struct list l = list_of(&lt_layout_sd3, "d=64 n=2 q=0 x=0 p=4", false);
    lt_store *store = store_of(&l, "");
    lt_layout_view v;
    lt_layout_place place;
    lt_layout_view_init(&v, &lt_layout_sd3, false, store, "");
    CHECK(lt_layout_find(&v, "joint_blocks.0.x_block.mlp.fc1.weight", &place));
    CHECK(!lt_layout_find_weight(&v, "joint_blocks.0.x_block.mlp.fc1.bias", &place));
    CHECK(lt_layout_find(&v, "joint_blocks.0.x_block.mlp.fc1.bias", &place));
    CHECK(place.bias);
    CHECK(lt_layout_find(&v, "pos_embed", &place) && !place.bias);
    CHECK(!lt_layout_find_weight(&v, "pos_embed", &place));
    CHECK(!lt_layout_find(&v, "joint_blocks.0.x_block.mlp.fc3.weight", &place));
    CHECK(!lt_layout_find(&v, "joint_blocks.x_block.mlp.fc1.weight", &place));
    CHECK(!lt_layout_find(&v, "joint_blocks.123456.x_block.mlp.fc1.weight", &place));
    CHECK(!lt_layout_find(&v, "pos_embed.weight", &place));
    /* The last block ends the text stream, and its modulation has two parts. */
    CHECK(!lt_layout_find(&v, "joint_blocks.1.context_block.mlp.fc1.weight", &place));
    CHECK(lt_layout_find(
        &v, "joint_blocks.1.context_block.adaLN_modulation.1.weight", &place));
    CHECK(place.row->flags & LT_ROW_SWAP);
    CHECK(lt_layout_find(
        &v, "joint_blocks.0.context_block.adaLN_modulation.1.weight", &place));
    CHECK(!(place.row->flags & LT_ROW_SWAP));
    lt_store_close(store);
    free(l.items);
}

/* A native file may call modules and bare tensors by their other names. */
static void test_other_names(void)
{
    const char *params = params_of(&lt_layout_hunyuan_video, "hunyuan-video");
    struct list l = list_of(&lt_layout_hunyuan_video, params, false);
    lt_store *store = store_of(&l, "");
    lt_layout_view native, public;
    lt_layout_place place;
    char name[240];
    lt_layout_view_init(&native, &lt_layout_hunyuan_video, false, store, "");
    lt_layout_view_init(&public, &lt_layout_hunyuan_video, true, store, "");
    CHECK(lt_layout_find(&native, "double_blocks.7.img_attn.qkv.weight", &place));
    CHECK(place.index == 7 && place.parts == 3);
    CHECK(lt_layout_native_path(&place, name, sizeof name));
    CHECK_STR(name, "double_blocks.7.img_attn_qkv");
    CHECK(lt_layout_find(&native, "double_blocks.7.img_mlp.0.bias", &place));
    CHECK(place.bias && lt_layout_native_name(&place, name, sizeof name));
    CHECK_STR(name, "double_blocks.7.img_mlp.fc1.bias");
    CHECK(lt_layout_find(&native, "single_blocks.39.norm.key_norm.scale", &place));
    CHECK(!place.bias);
    CHECK(lt_layout_public_path(&place, 0, name, sizeof name));
    CHECK_STR(name, "single_transformer_blocks.39.attn.norm_k.weight");
    CHECK(!lt_layout_find(&native, "double_blocks.7.img_attn.qkvs.weight", &place));
    CHECK(!lt_layout_find(&native, "double_blocks.7.img_attn.qkv.extra.weight", &place));
    CHECK(!lt_layout_find(&public, "double_blocks.7.img_attn.qkv.weight", &place));
    lt_store_close(store);
    free(l.items);
}

/* Rows that cannot be cut as the table says. */
static void test_cuts(void)
{
    static const lt_layout_row row = { "a", "p q r s", "7d,d", 0, 3 };
    lt_layout_place place = { .row = &row, .parts = 4 };
    uint64_t row0, rows;
    CHECK(lt_layout_part_rows(&place, 3, 70, 10, &row0, &rows));
    CHECK(row0 == 30 && rows == 40);
    CHECK(lt_layout_part_rows(&place, 1, 70, 10, &row0, &rows));
    CHECK(row0 == 10 && rows == 10);
    CHECK(!lt_layout_part_rows(&place, 3, 30, 10, &row0, &rows));
    CHECK(!lt_layout_part_rows(&place, 0, 29, 10, &row0, &rows));
    CHECK(!lt_layout_part_rows(&place, 0, UINT64_MAX, UINT64_MAX, &row0, &rows));
}

/* Every other name is that of a module which a published model has. */
static void test_aliases(void)
{
    for (const lt_named_layout *l = lt_layouts; l->id; l++)
        for (const lt_layout_alias *a = l->layout->aliases; a && a->name; a++) {
            size_t found = 0;
            for (const lt_layout_variant *v = l->layout->variants; v->id; v++) {
                struct list native = list_of(l->layout, v->params, false);
                for (size_t i = 0; i < native.count; i++) {
                    char name[240], *dot = strrchr(native.items[i].name, '.');
                    found += lt_layout_alias_name(
                        a, native.items[i].name, 0, name, sizeof name);
                    if (dot && !strcmp(dot, ".weight")) *dot = '\0';
                    found += lt_layout_alias_name(
                        a, native.items[i].name, 0, name, sizeof name);
                }
                free(native.items);
            }
            if (!CHECK(found)) printf("    %s: %s\n", l->id, a->name);
        }
}

/* ---- whole models -------------------------------------------------------------------
 */

/* What a published model is recognised as, and how many modules kohya-style trainers name
 * in it (0: not known). */
static const struct recognised {
    const char *layout, *variant, *family;
    size_t standard;
    const char *told[2]; /* what adapters with native and public names are taken for;
                            NULL: the family */
    bool native_only;
} recognised[] = {
    { "flux", "dev", "flux", 304, { NULL, NULL }, false },
    { "flux", "schnell", "flux", 304, { NULL, NULL }, false },
    { "chroma", "chroma", "chroma", 228, { "flux", "flux" }, false },
    { "sd3", "medium", "sd3", 237, { NULL, NULL }, false },
    { "sd3", "3.5-medium", "sd3", 263, { NULL, NULL }, false },
    { "sd3", "3.5-large", "sd3", 377, { NULL, NULL }, false },
    { "flux2", "dev", "flux2", 0, { NULL, NULL }, false },
    { "flux2", "klein-4B", "flux2", 0, { NULL, NULL }, false },
    { "flux2", "klein-9B", "flux2", 0, { NULL, NULL }, false },
    { "auraflow", "v0.1", "auraflow", 320, { NULL, NULL }, false },
    { "auraflow", "v0.3", "auraflow", 320, { NULL, NULL }, false },
    { "pixart", "alpha", "pixart", 196, { NULL, NULL }, false },
    { "pixart", "alpha-512", "pixart", 196, { NULL, NULL }, false },
    { "pixart", "sigma", "pixart", 196, { NULL, NULL }, false },
    { "lumina", "image-2.0", "lumina", 180, { NULL, NULL }, false },
    { "zimage", "z-image", "z-image", 0, { NULL, NULL }, false },
    { "hunyuan-video", "hunyuan-video", "hunyuan-video", 0, { NULL, "flux" }, false },
    { "hunyuan-image", "2.1", "hunyuan-image", 320, { NULL, NULL }, false },
    { "hunyuan-image", "2.1-distilled", "hunyuan-image", 320, { NULL, NULL }, false },
    /* Blocks as wide as no other: only what it shares with its relative tells. */
    { "hunyuan-image", "refiner", "hunyuan-image", 0, { NULL, "flux" }, false },
    { "wan", "2.1-t2v-1.3B", "wan", 300, { NULL, NULL }, false },
    { "wan", "2.1-t2v-14B", "wan", 400, { NULL, NULL }, false },
    { "wan", "2.1-i2v-14B", "wan", 480, { NULL, NULL }, false },
    { "wan", "2.2-i2v-A14B", "wan", 400, { NULL, NULL }, false },
    { "wan", "2.2-ti2v-5B", "wan", 300, { NULL, NULL }, false },
    { "qwen-image", "qwen-image", "qwen-image", 840, { NULL, NULL }, false },
    { "anima", "anima", "anima", 280, { NULL, NULL }, true },
    { "cosmos-predict2", "2B-t2i", "cosmos-predict2", 280, { "anima", NULL }, false },
    { "cosmos-predict2", "14B-t2i", "cosmos-predict2", 360, { NULL, NULL }, false },
    { "ltx", "2B", "ltx", 0, { NULL, NULL }, false },
    { "ltx", "13B", "ltx", 0, { NULL, NULL }, false },
    { "wan", "2.1-flf2v-14B", "wan", 480, { NULL, NULL }, false },
    { "wan", "2.1-vace-1.3B", "wan", 466, { NULL, NULL }, false },
    { "wan", "2.1-vace-14B", "wan", 489, { NULL, NULL }, false },
    { "wan", "2.2-animate-14B", "wan", 504, { NULL, NULL }, false },
    { "cosmos-predict2", "2.5-2B", "cosmos-predict2", 280, { "anima", NULL }, false },
    { "cosmos-predict2", "2.5-14B", "cosmos-predict2", 360, { NULL, NULL }, false },
    { "cosmos-predict2", "transfer2.5-2B", "cosmos-predict2", 364, { "anima", NULL },
        false },
    { "ltx2", "2.0", "ltx2", 0, { NULL, NULL }, false },
    { "ltx2", "2.3", "ltx2", 0, { NULL, NULL }, false },
    { "ltx2", "2.5", "ltx2", 0, { NULL, NULL }, false },
    { "hunyuan-video-1.5", "1.5", "hunyuan-video-1.5", 756, { NULL, NULL }, false },
    { "hunyuan-video-1.5", "1.5-step-distilled", "hunyuan-video-1.5", 756, { NULL, NULL },
        false },
    { "hunyuan-video-1.5-fused", "1.5", "hunyuan-video-1.5", 540, { NULL, NULL }, false },
    { "mochi", "1-preview", "mochi", 0, { NULL, NULL }, false },
    /* Only its convolutions tell the smallest from PixArt. */
    { "sana", "0.6B", "sana", 0, { NULL, NULL }, false },
    { "sana", "1.6B", "sana", 0, { NULL, NULL }, false },
    { "sana", "1.5-1.6B", "sana", 0, { NULL, NULL }, false },
    { "sana", "1.5-4.8B", "sana", 0, { NULL, NULL }, false },
    { "sana-sprint", "0.6B", "sana", 0, { NULL, NULL }, false },
    { "sana-sprint", "1.6B", "sana", 0, { NULL, NULL }, false },
    { "sana-video", "2B", "sana-video", 0, { "sana", "sana" }, false },
    { "hidream", "I1", "hidream", 0, { NULL, NULL }, false },
    { "cogvideox", "2B", "cogvideox", 0, { NULL, NULL }, false },
    { "cogvideox", "5B", "cogvideox", 0, { NULL, NULL }, false },
    { "cogvideox", "1.5-5B-i2v", "cogvideox", 0, { NULL, NULL }, false },
    { "cogview4", "6B", "cogview4", 0, { NULL, NULL }, false },
    { "kandinsky5", "lite-video", "kandinsky5", 0, { NULL, NULL }, false },
    { "kandinsky5", "pro-video", "kandinsky5", 0, { NULL, NULL }, false },
    { "kandinsky5", "lite-image", "kandinsky5", 0, { NULL, NULL }, false },
    { "bria", "fibo", "bria", 0, { "flux", "flux" }, false },
    { "longcat-image", "longcat-image", "longcat-image", 0, { "flux", "flux" }, false },
    { "ovis-image", "7B", "ovis-image", 0, { "flux", "flux" }, false },
    { "wan", "skyreels-v2-df-1.3B", "wan", 300, { NULL, NULL }, false },
    { "qwen-image", "layered", "qwen-image", 840, { NULL, NULL }, false },
};

/* A file with the list's shapes whose data is a hole. */
static lt_store *hollow_store(const struct list *l, const char *prefix)
{
    size_t room = 400 * l->count + 64, used = 8;
    char *text = malloc(room);
    lt_store *store = NULL;
    uint64_t at = 0;
    for (size_t i = 0; i < l->count; i++) {
        const struct entry *e = &l->items[i];
        uint64_t size = 2;
        used += (size_t)snprintf(text + used, room - used,
            "%s\"%s%s\":{\"dtype\":\"F16\",\"shape\":[", i ? "," : "{", prefix, e->name);
        for (unsigned d = 0; d < e->n_dims; d++) {
            size *= e->shape[d];
            used += (size_t)snprintf(text + used, room - used, "%s%llu", d ? "," : "",
                (unsigned long long)e->shape[d]);
        }
        used +=
            (size_t)snprintf(text + used, room - used, "],\"data_offsets\":[%llu,%llu]}",
                (unsigned long long)at, (unsigned long long)(at + size));
        at += size;
    }
    text[used++] = '}';
    for (int i = 0; i < 8; i++)
        text[i] = (char)((used - 8) >> 8 * i);
    CHECK(!write_bytes(path, text, used) && !truncate(path, (off_t)(used + at)));
    CHECK(!lt_store_open(&store, path, NULL));
    free(text);
    return store;
}

/* A site's name in each naming leads back to its rows, or to all that it is the first of.
 */
static void check_names(const lt_alias_map *aliases, const lt_site *s)
{
    for (int naming = 0; naming < LT_NAMING_COUNT; naming++) {
        char name[512];
        lt_site_name(s, (lt_naming)naming, name, sizeof name);
        if (!*name) continue;
        lt_match match = lt_alias_find(aliases, name);
        bool swaps = lt_site_swaps(s, (lt_naming)naming);
        bool ok = match.n_pieces == (swaps ? 2 : 1) && match.out == s->out
            && match.in == s->in && match.pieces[0].site->tensor == s->tensor
            && match.pieces[0].site->row0 == s->row0 + (swaps ? s->rows / 2 : 0);
        if (!CHECK(ok)) printf("    %s\n", name);
    }
}

/* Modules of a block in the family's own spelling tell the family. */
static void check_adapter(const lt_model *model, lt_naming naming, const char *family)
{
    static lt_module_hint hints[2048];
    static char names[2048][256];
    size_t n = 0;
    for (size_t i = 0; i < lt_model_site_count(model) && n < 2048; i++) {
        const lt_site *s = lt_model_site(model, i);
        lt_site_name(s, naming, names[n], sizeof names[n]);
        if (!*names[n] || !s->standard) continue;
        hints[n] = (lt_module_hint){ names[n], s->in, 2 };
        n++;
    }
    const char *told = lt_family_id(lt_family_of_adapter(hints, n));
    if (!CHECK(n && !strcmp(told, family))) printf("    %s: %s\n", names[0], told);
}

static void check_model(const struct recognised *r, bool is_public, const char *prefix)
{
    const lt_layout *layout = layout_of(r->layout);
    struct list l = list_of(layout, params_of(layout, r->variant), is_public);
    lt_store *store = hollow_store(&l, prefix);
    lt_model *model = NULL;
    lt_alias_map *aliases = NULL;
    size_t standard = 0;
    CHECK(store && !lt_model_new(&model, store, NULL));
    CHECK(!lt_alias_map_new(&aliases, model, NULL));
    CHECK_STR(lt_family_id(lt_model_family(model)), r->family);
    for (size_t i = 0; i < lt_model_site_count(model); i++) {
        const lt_site *s = lt_model_site(model, i);
        standard += s->standard && lt_site_serves(s, LT_NAMING_KOHYA);
        check_names(aliases, s);
    }
    if (!is_public && r->standard && !CHECK(standard == r->standard))
        printf("    %s %s: %zu modules\n", r->layout, r->variant, standard);
    const char *told = r->told[is_public] ? r->told[is_public] : r->family;
    check_adapter(model, lt_family_naming(lt_model_family(model)), told);
    lt_alias_map_free(aliases);
    lt_model_free(model);
    lt_store_close(store);
    free(l.items);
}

static void test_models(void)
{
    for (size_t i = 0; i < sizeof recognised / sizeof *recognised; i++) {
        check_model(&recognised[i], false, "");
        check_model(&recognised[i], false, "model.diffusion_model.");
        if (recognised[i].native_only) continue;
        check_model(&recognised[i], true, "");
        check_model(&recognised[i], true, "transformer.");
    }
}

/* Anima as published, and as diffusers' pipeline keeps it: every name of a module in the
 * one leads to the same module in the other. */
static void test_anima(void)
{
    const char *params = params_of(&lt_layout_anima, "anima");
    struct list native = list_of(&lt_layout_anima, params, false);
    struct list public = list_of(&lt_layout_anima, params, true);
    for (size_t i = 0; i < public.count; i++) {
        char *name = public.items[i].name;
        if (!strncmp(name, "text_conditioner.", 17)) continue;
        CHECK(strlen(name) + 13 <= sizeof public.items[i].name);
        memmove(name + 12, name, strlen(name) + 1);
        memcpy(name, "transformer.", 12);
    }
    lt_store *stores[2] = { hollow_store(&native, "net."), hollow_store(&public, "") };
    lt_model *models[2] = { 0 };
    lt_alias_map *aliases[2] = { 0 };
    for (int i = 0; i < 2; i++) {
        CHECK(stores[i] && !lt_model_new(&models[i], stores[i], NULL));
        CHECK(!lt_alias_map_new(&aliases[i], models[i], NULL));
        CHECK_STR(lt_family_id(lt_model_family(models[i])), "anima");
    }
    CHECK(lt_model_site_count(models[0]) == lt_model_site_count(models[1]));
    for (size_t i = 0; i < lt_model_site_count(models[0]); i++)
        for (int naming = 0; naming < LT_NAMING_COUNT; naming++) {
            const lt_site *s = lt_model_site(models[0], i);
            char name[512], other[512];
            lt_site_name(s, (lt_naming)naming, name, sizeof name);
            if (naming == LT_NAMING_PEFT) continue;
            lt_match match = lt_alias_find(aliases[1], name);
            if (!CHECK(match.n_pieces == 1 && match.in == s->in)) {
                printf("    %s\n", name);
                continue;
            }
            lt_site_name(match.pieces[0].site, (lt_naming)naming, other, sizeof other);
            CHECK_STR(other, name);
        }
    for (int i = 0; i < 2; i++) {
        lt_alias_map_free(aliases[i]);
        lt_model_free(models[i]);
        lt_store_close(stores[i]);
    }
    free(native.items);
    free(public.items);
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_published), TEST(test_all_listed),
        TEST(test_round_trips), TEST(test_strangers), TEST(test_other_names),
        TEST(test_cuts), TEST(test_aliases), TEST(test_models), TEST(test_anima) };
    temp_path(path, sizeof path, "layout");
    int rc = RUN_TESTS(tests);
    unlink(path);
    return rc;
}
