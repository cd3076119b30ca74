/* SPDX-License-Identifier: MIT */
#include "ops/common.h"

#include "base/abandon.h"
#include "base/map.h"
#include "base/pool.h"
#include "loratool/loratool.h"
#include "tensor/convert.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* All that needs preparing is done where it is first needed, so that small commands stay
 * fast; programs call this for the release that does need it. */
void lt_init(void)
{
}

const char *lt_version(void)
{
    return LORATOOL_VERSION;
}

void lt_abandon_outputs(void)
{
    lt_abandon_all();
}

lt_status lt_open_base(lt_store **out, const char *path, lt_error *err)
{
    lt_status st = lt_store_open(out, path, err);
    if (!st) st = lt_store_usable(*out, false, err);
    if (st || !lt_store_holds_adapter(*out)) return st;
    lt_error_set(err, LT_ERR_MISMATCH, "is an adapter, not a base model");
    return lt_error_where(err, "%s", path);
}

lt_status lt_notes_add(
    lt_notes *notes, const char *name, double energy, lt_error *err, const char *fmt, ...)
{
    char reason[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    lt_status st = lt_grow((void **)&notes->items, &notes->capacity, notes->count + 1,
        sizeof *notes->items, err);
    if (st) return st;
    lt_note note = { lt_strdup(name, err), lt_strdup(reason, err), energy };
    if (!note.name || !note.reason) {
        free(note.name);
        free(note.reason);
        return LT_ERR_NOMEM;
    }
    notes->items[notes->count++] = note;
    return LT_OK;
}

lt_status lt_notes_add_assumed(lt_notes *notes, const lt_adapter *a, lt_error *err)
{
    if (!lt_adapter_lacks_config(a)) return LT_OK;
    return lt_notes_add(notes, lt_adapter_path(a), 0, err,
        "scale 1: PEFT keeps alpha in adapter_config.json, which does not come with it");
}

void lt_notes_release(lt_notes *notes)
{
    for (size_t i = 0; i < notes->count; i++) {
        free(notes->items[i].name);
        free(notes->items[i].reason);
    }
    free(notes->items);
    *notes = (lt_notes){ 0 };
}

lt_status lt_notes_add_asides(lt_notes *notes, const lt_store *store, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < lt_store_aside_count(store) && !st; i++) {
        const lt_aside *a = lt_store_aside(store, i);
        st = lt_notes_add(notes, a->path, 0, err, "%s", a->what);
    }
    return st;
}

/* Entries that are worth a note. "format" says who wrote a safetensors file: nothing that
 * a torch file lacks. */
static size_t noteworthy(const lt_metadata *meta)
{
    return meta->count - (lt_metadata_get(meta, "format") != NULL);
}

static lt_status note_file(lt_notes *notes, const lt_store *store, size_t file,
    size_t entries, const char *why, lt_error *err)
{
    lt_arena arena = { 0 };
    if (!entries) return LT_OK;
    char *name =
        lt_arena_printf(&arena, err, "%s: __metadata__", lt_store_file(store, file));
    lt_status st = name ? lt_notes_add(notes, name, 0, err, "%zu entries%s", entries, why)
                        : LT_ERR_NOMEM;
    lt_arena_release(&arena);
    return st;
}

lt_status lt_notes_drop_metadata(lt_notes *notes, const lt_store *store, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t f = 0; f < lt_store_file_count(store) && !st; f++)
        st = note_file(notes, store, f, noteworthy(lt_store_file_metadata(store, f)),
            ": a new layout has none of them", err);
    return st;
}

/* Puts a file's entries into held or, where missing is not NULL, counts those that are
 * not there. */
static lt_status see_entries(lt_map *held, lt_arena *arena, const lt_metadata *meta,
    size_t *missing, lt_error *err)
{
    lt_status st = LT_OK;
    for (size_t i = 0; i < meta->count && !st; i++) {
        const struct lt_metadata_entry *e = &meta->entries[i];
        if (!strcmp(e->key, "format")) continue;
        char *both = lt_arena_printf(arena, err, "%s\n%s", e->key, e->value);
        if (!both) return LT_ERR_NOMEM;
        if (missing)
            *missing += lt_map_get(held, both) == LT_MAP_NONE;
        else
            st = lt_map_put(held, both, 0, NULL, err);
    }
    return st;
}

/* A model's files may say different things of it; a single output has the first one's. */
static lt_status add_further_metadata(
    lt_notes *notes, const lt_writer *writer, const lt_store *store, lt_error *err)
{
    size_t n = lt_store_file_count(store);
    lt_map held = { 0 };
    lt_arena arena = { 0 };
    lt_status st =
        n > 1 ? see_entries(&held, &arena, lt_store_metadata(store), NULL, err) : LT_OK;
    for (size_t f = 1; f < n && !st; f++) {
        const lt_metadata *meta = lt_store_file_metadata(store, f);
        if (lt_writer_repeats(writer, meta))
            st = see_entries(&held, &arena, meta, NULL, err);
    }
    for (size_t f = 1; f < n && !st; f++) {
        size_t missing = 0;
        st = see_entries(&held, &arena, lt_store_file_metadata(store, f), &missing, err);
        if (!st)
            st = note_file(notes, store, f, missing,
                " that the output's metadata does not have", err);
    }
    lt_map_release(&held);
    lt_arena_release(&arena);
    return st;
}

lt_status lt_notes_add_metadata(
    lt_notes *notes, const lt_writer *writer, const lt_store *store, lt_error *err)
{
    const lt_metadata *meta = lt_store_metadata(store);
    size_t n = noteworthy(meta);
    bool held = true;
    for (size_t i = 0; i < lt_writer_file_count(writer); i++)
        held = held && lt_writer_holds_metadata(writer, i);
    lt_status st = LT_OK;
    if (n && !held)
        st = lt_notes_add(notes, "__metadata__", 0, err,
            "%zu entries: the output's format has no place for them", n);
    return st ? st : add_further_metadata(notes, writer, store, err);
}

double lt_relative_error(double residual, double energy)
{
    return energy > 0 ? sqrt(residual / energy) : 0;
}

double lt_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* The kernel's high-water mark of this program image. getrusage's ru_maxrss is no use
 * where that is there: it survives exec and so tells of a large parent process. */
static uint64_t peak_memory(void)
{
    char line[256];
    unsigned long long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    /* Of a longer line (groups, masks) the rest comes as another, which has no such name;
     * a number in another unit is none that we know. */
    while (f && !kb && fgets(line, sizeof line, f)) {
        char *unit = line;
        if (!strncmp(line, "VmHWM:", 6)) kb = strtoull(line + 6, &unit, 10);
        if (kb && strcmp(unit, " kB\n") != 0) kb = 0;
    }
    if (f) fclose(f);
    struct rusage usage;
    if (!kb && !getrusage(RUSAGE_SELF, &usage)) kb = (unsigned long long)usage.ru_maxrss;
    return (uint64_t)kb * 1024;
}

void lt_cost_finish(lt_cost *cost, double started)
{
    cost->seconds = lt_now() - started;
    cost->peak_memory_bytes = peak_memory();
}

int lt_thread_count(int asked)
{
    return asked > 0 ? asked : lt_cpu_count();
}

static lt_status compile_list(
    regex_t **out, size_t *count, const char *const *list, lt_error *err)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    if (!n) return LT_OK;
    *out = calloc(n, sizeof **out);
    if (!*out) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        char why[200];
        int rc = regcomp(&(*out)[i], list[i], REG_EXTENDED | REG_NOSUB);
        if (rc) {
            regerror(rc, &(*out)[i], why, sizeof why);
            return lt_error_set(
                err, LT_ERR_ARG, "bad regular expression '%s': %s", list[i], why);
        }
        *count = i + 1;
    }
    return LT_OK;
}

lt_status lt_filter_compile(lt_filter *filter, const char *const *include,
    const char *const *exclude, lt_error *err)
{
    *filter = (lt_filter){ 0 };
    lt_status st = compile_list(&filter->include, &filter->n_include, include, err);
    return st ? st : compile_list(&filter->exclude, &filter->n_exclude, exclude, err);
}

static bool any_matches(const regex_t *list, size_t n, const char *a, const char *b)
{
    for (size_t i = 0; i < n; i++)
        if (!regexec(&list[i], a, 0, NULL, 0) || !regexec(&list[i], b, 0, NULL, 0))
            return true;
    return false;
}

bool lt_filter_passes(const lt_filter *f, const char *name, const char *other)
{
    if (f->n_include && !any_matches(f->include, f->n_include, name, other)) return false;
    return !any_matches(f->exclude, f->n_exclude, name, other);
}

void lt_filter_release(lt_filter *f)
{
    for (size_t i = 0; i < f->n_include; i++)
        regfree(&f->include[i]);
    for (size_t i = 0; i < f->n_exclude; i++)
        regfree(&f->exclude[i]);
    free(f->include);
    free(f->exclude);
    *f = (lt_filter){ 0 };
}

void lt_round_to(float *p, size_t n, lt_dtype dtype, void *work)
{
    if (dtype == LT_F32) return;
    lt_store_f32(work, p, dtype, n);
    lt_load_f32(p, work, dtype, n);
}

lt_status lt_parse_dtype(const char *text, bool *has, lt_dtype *dtype, lt_error *err)
{
    *has = text && strcmp(text, "keep");
    if (!*has || lt_dtype_by_option(text, dtype)) return LT_OK;
    return lt_error_set(
        err, LT_ERR_ARG, "unknown dtype '%s' (keep, f32, f16 or bf16)", text);
}

lt_status lt_check_alpha(double alpha, lt_error *err)
{
    if (alpha == 0 || (alpha >= 1e-6 && alpha <= 1e6)) return LT_OK;
    return lt_error_set(err, LT_ERR_ARG, "alpha must be between 1e-6 and 1e6");
}
