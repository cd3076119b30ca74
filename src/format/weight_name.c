/* SPDX-License-Identifier: MIT */
#include "format/weight_name.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Cuts ending off s when it is there. */
static bool cut(char *s, const char *ending)
{
    size_t n = strlen(s), m = strlen(ending);
    if (n <= m || strcmp(s + n - m, ending)) return false;
    s[n - m] = '\0';
    return true;
}

/* Cuts "-00001-of-00003" off s when it ends so. */
static bool cut_count(char *s, unsigned *shard, unsigned *shards)
{
    size_t n = strlen(s), digits = 15;
    const char *p = s + (n > digits ? n - digits : 0);
    if (n <= digits || p[0] != '-' || strncmp(p + 6, "-of-", 4)) return false;
    for (int i = 0; i < 5; i++)
        if (!isdigit((unsigned char)p[1 + i]) || !isdigit((unsigned char)p[10 + i]))
            return false;
    if (sscanf(p, "-%5u-of-%5u", shard, shards) != 2) return false;
    s[n - digits] = '\0';
    return true;
}

/* Cuts the last dot and what follows off s, into dst; a variant holds no digits only. */
static bool cut_word(char *s, char *dst, size_t size)
{
    char *dot = strrchr(s, '.');
    if (!dot || dot == s || !dot[1] || strlen(dot + 1) >= size) return false;
    memcpy(dst, dot + 1, strlen(dot + 1) + 1);
    *dot = '\0';
    return true;
}

static bool is_extension(const char *s)
{
    static const char *const known[] = { "safetensors", "bin", "pt", "pth", "ckpt" };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(s, known[i])) return true;
    return false;
}

/* s is STEM.EXTENSION.index, STEM.EXTENSION.index.VARIANT or STEM.EXTENSION.VARIANT.index
 */
static bool parse_index(char *s, lt_weight_name *out)
{
    out->is_index = true;
    bool plain = cut(s, ".index");
    if (!plain && (!cut_word(s, out->variant, sizeof out->variant) || !cut(s, ".index")))
        return false;
    if (!cut_word(s, out->extension, sizeof out->extension)) return false;
    if (!is_extension(out->extension) && plain) {
        snprintf(out->variant, sizeof out->variant, "%s", out->extension);
        if (!cut_word(s, out->extension, sizeof out->extension)) return false;
    }
    return is_extension(out->extension);
}

bool lt_weight_name_parse(const char *name, lt_weight_name *out)
{
    *out = (lt_weight_name){ 0 };
    char *s = out->stem; /* what is left of the name when the rest is cut off */
    int n = snprintf(s, sizeof out->stem, "%s", name);
    if (n < 0 || (size_t)n >= sizeof out->stem) return false;
    if (cut(s, ".json")) {
        if (!parse_index(s, out)) return false;
    } else {
        if (!cut_word(s, out->extension, sizeof out->extension)) return false;
        if (!is_extension(out->extension)) return false;
        bool counted = cut_count(s, &out->shard, &out->shards);
        char *dot = strrchr(s, '.');
        bool variant = dot && strlen(dot) < 12 && !strpbrk(dot, "- ");
        if (variant) variant = cut_word(s, out->variant, sizeof out->variant);
        if (!counted && variant) cut_count(s, &out->shard, &out->shards);
    }
    return *s != '\0';
}

bool lt_is_weight_file(const char *name)
{
    static const char *const others[] = { ".h5", ".msgpack", ".onnx", ".onnx_data",
        ".gguf", ".ot", ".tflite", ".mlmodel", ".npz" };
    lt_weight_name w;
    if (lt_weight_name_parse(name, &w)) return true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t n = strlen(name), m = strlen(others[i]);
        if (n > m && !strcmp(name + n - m, others[i])) return true;
    }
    return false;
}

void lt_weight_name_shard(
    const lt_weight_name *w, unsigned shard, unsigned shards, char *dst, size_t size)
{
    char count[32] = "";
    if (shards) snprintf(count, sizeof count, "-%05u-of-%05u", shard, shards);
    snprintf(dst, size, "%s%s%s%s.%s", w->stem, *w->variant ? "." : "", w->variant, count,
        w->extension);
}

void lt_weight_name_index(const lt_weight_name *w, char *dst, size_t size)
{
    snprintf(dst, size, "%s.%s.index%s%s.json", w->stem, w->extension,
        *w->variant ? "." : "", w->variant);
}
