/* SPDX-License-Identifier: MIT */
/* Full-size synthetic checkpoints and adapters. */
#include "synth.h"

#include "loratool/loratool.h"
#include "tensor/linalg.h"

#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage_text[] =
    "usage: loratool_synth LAYOUT --list | --frozen\n"
    "       loratool_synth LAYOUT -o FILE [--dtype f16|bf16|f32]\n"
    "       loratool_synth LAYOUT -o FILE --tune-of BASE [--strength X] [--dtype T]\n"
    "       loratool_synth LAYOUT -o FILE --adapter --rank R [--conv-rank R] [--for "
    "BASE]\n"
    "\n"
    "  --list         print the tensors: key TAB d0,d1,...\n"
    "  --frozen       print the keys that --tune-of leaves as they are\n"
    "  -o FILE        write random weights, the same for the same seed\n"
    "  --tune-of BASE write the weights of BASE plus a random change\n"
    "  --strength X   norm of a change relative to the weight's [0.03]\n"
    "  --adapter      write a random adapter\n"
    "  --rank R       its rank [16]; --conv-rank R: of kernels [as --rank]\n"
    "  --for BASE     take its modules from this file, not from the layout\n"
    "  --dtype T      f16, bf16 or f32 [f16; BASE's]\n"
    "  --seed N       [0; a fine-tune 1; an adapter 2]\n"
    "  -j N           threads [1]\n"
    "\n"
    "layouts:";

struct settings {
    synth_job job;
    const char *layout;
    uint64_t seed;
    bool has_seed, list, frozen, adapter, tune, help;
};

enum option_code {
    OPT_LIST = 256,
    OPT_FROZEN,
    OPT_DTYPE,
    OPT_SEED,
    OPT_TUNE_OF,
    OPT_STRENGTH,
    OPT_ADAPTER,
    OPT_RANK,
    OPT_CONV_RANK,
    OPT_FOR
};

static const struct option options[] = {
    { "list", no_argument, NULL, OPT_LIST },
    { "frozen", no_argument, NULL, OPT_FROZEN },
    { "output", required_argument, NULL, 'o' },
    { "dtype", required_argument, NULL, OPT_DTYPE },
    { "seed", required_argument, NULL, OPT_SEED },
    { "tune-of", required_argument, NULL, OPT_TUNE_OF },
    { "strength", required_argument, NULL, OPT_STRENGTH },
    { "adapter", no_argument, NULL, OPT_ADAPTER },
    { "rank", required_argument, NULL, OPT_RANK },
    { "conv-rank", required_argument, NULL, OPT_CONV_RANK },
    { "for", required_argument, NULL, OPT_FOR },
    { "threads", required_argument, NULL, 'j' },
    { "help", no_argument, NULL, 'h' },
    { 0 },
};

static lt_status parse_count(const char *text, uint64_t max, uint64_t *out, lt_error *err)
{
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || v > max)
        return lt_error_set(
            err, LT_ERR_ARG, "not a number up to %" PRIu64 ": '%s'", max, text);
    *out = v;
    return LT_OK;
}

static lt_status parse_strength(const char *text, double *out, lt_error *err)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !isfinite(*out) || *out < 0)
        return lt_error_set(err, LT_ERR_ARG, "not a positive number: '%s'", text);
    return LT_OK;
}

static lt_status parse_dtype(struct settings *s, const char *text, lt_error *err)
{
    s->job.has_dtype = lt_dtype_by_option(text, &s->job.dtype);
    return s->job.has_dtype ? LT_OK
                            : lt_error_set(err, LT_ERR_ARG, "unknown dtype '%s'", text);
}

static lt_status take(struct settings *s, int option, const char *value, lt_error *err)
{
    uint64_t n = 0;
    lt_status st = LT_OK;
    switch (option) {
    case OPT_LIST: s->list = true; break;
    case OPT_FROZEN: s->frozen = true; break;
    case 'o': s->job.output = value; break;
    case OPT_DTYPE: return parse_dtype(s, value, err);
    case OPT_SEED:
        s->has_seed = true;
        return parse_count(value, UINT64_MAX, &s->seed, err);
    case OPT_TUNE_OF:
        s->tune = true;
        s->job.base = value;
        break;
    case OPT_FOR: s->job.base = value; break;
    case OPT_STRENGTH: return parse_strength(value, &s->job.strength, err);
    case OPT_ADAPTER: s->adapter = true; break;
    case OPT_RANK: return parse_count(value, 4096, &s->job.rank, err);
    case OPT_CONV_RANK: return parse_count(value, 4096, &s->job.conv_rank, err);
    case 'j':
        st = parse_count(value, 64, &n, err);
        s->job.threads = n ? (int)n : 1;
        break;
    case 'h': s->help = true; break;
    default: return lt_error_set(err, LT_ERR_ARG, "--help shows how it is used");
    }
    return st;
}

static lt_status parse(struct settings *s, int argc, char **argv, lt_error *err)
{
    int option;
    lt_status st = LT_OK;
    while (!st && (option = getopt_long(argc, argv, "o:j:h", options, NULL)) != -1)
        st = take(s, option, optarg, err);
    if (st || s->help) return st;
    if (optind + 1 != argc) return lt_error_set(err, LT_ERR_ARG, "one LAYOUT is needed");
    s->layout = argv[optind];
    if (!s->list && !s->frozen && !s->job.output)
        return lt_error_set(err, LT_ERR_ARG, "--list, --frozen or -o FILE is needed");
    if (s->tune && s->adapter)
        return lt_error_set(
            err, LT_ERR_ARG, "--tune-of and --adapter exclude each other");
    if (s->job.base && !s->tune && !s->adapter)
        return lt_error_set(err, LT_ERR_ARG, "--for goes with --adapter");
    if (s->job.rank == 0)
        return lt_error_set(err, LT_ERR_ARG, "the rank must be 1 or more");
    return LT_OK;
}

static void print_list(const synth_layout *l)
{
    for (size_t i = 0; i < l->count; i++) {
        const lt_tensor *t = &l->items[i];
        printf("%s\t", t->name);
        for (unsigned d = 0; d < t->n_dims; d++)
            printf("%s%" PRIu64, d ? "," : "", t->shape[d]);
        putchar('\n');
    }
}

static void print_frozen(const synth_layout *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (synth_is_frozen(&l->items[i])) puts(l->items[i].name);
}

static void print_help(void)
{
    fputs(usage_text, stdout);
    for (size_t i = 0; synth_layout_name(i); i++)
        printf(" %s", synth_layout_name(i));
    putchar('\n');
}

static lt_status write_output(
    struct settings *s, const synth_layout *layout, lt_error *err)
{
    synth_noise noise;
    uint64_t own_seed = s->adapter ? 2 : s->tune ? 1 : 0;
    lt_status st = synth_noise_init(&noise, s->has_seed ? s->seed : own_seed, err);
    if (!st) st = lt_linalg_load(err);
    s->job.layout = layout;
    s->job.noise = &noise;
    if (!st && s->adapter)
        st = synth_write_adapter(&s->job, err);
    else if (!st && s->tune)
        st = synth_write_tuned(&s->job, err);
    else if (!st)
        st = synth_write_base(&s->job, err);
    synth_noise_release(&noise);
    return st;
}

static lt_status run(struct settings *s, lt_error *err)
{
    synth_layout layout;
    lt_status st = synth_layout_init(&layout, s->layout, s->job.dtype, err);
    if (!st && s->list)
        print_list(&layout);
    else if (!st && s->frozen)
        print_frozen(&layout);
    else if (!st)
        st = write_output(s, &layout, err);
    synth_layout_release(&layout);
    return st;
}

int main(int argc, char **argv)
{
    struct settings s = {
        .job = { .dtype = LT_F16, .strength = 0.03, .rank = 16, .threads = 1 }
    };
    lt_error err = LT_ERROR_INIT;
    lt_init();
    lt_status st = parse(&s, argc, argv, &err);
    if (!st && s.help)
        print_help();
    else if (!st)
        st = run(&s, &err);
    if (!st && (fflush(stdout) || ferror(stdout)))
        st = lt_error_set(&err, LT_ERR_IO, "cannot write to standard output");
    if (!st) return 0;
    fprintf(
        stderr, "loratool_synth: %s%s%s\n", err.where, *err.where ? ": " : "", err.msg);
    return st == LT_ERR_ARG ? 2 : 1;
}
