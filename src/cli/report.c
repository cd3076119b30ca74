/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

FILE *lt_report_stream(const char *output)
{
    return output && !strcmp(output, "-") ? stderr : stdout;
}

/* No control (C0, DEL, C1), and nothing that turns the direction or ends the line of what
 * follows: U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069 (Unicode TR 36). */
static bool is_visible(const unsigned char *p, int size)
{
    if (size == 1) return p[0] >= 0x20 && p[0] != 0x7f;
    if (size == 2) return !(p[0] == 0xc2 && p[1] < 0xa0) && memcmp(p, "\xd8\x9c", 2);
    if (size != 3 || p[0] != 0xe2) return size > 0;
    if (p[1] == 0x81) return p[2] < 0xa6 || p[2] > 0xa9;
    return p[1] != 0x80 || p[2] < 0x8e || p[2] > 0xae || (p[2] > 0x8f && p[2] < 0xa8);
}

void lt_print_safe(FILE *to, const char *text)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + strlen(text);
    while (p < end) {
        const unsigned char *from = p;
        int size = 0;
        while (p < end && is_visible(p, size = lt_utf8_length(p, end)))
            p += size;
        fwrite(from, 1, (size_t)(p - from), to);
        if (p == end) return;
        fputc('?', to);
        p += size ? size : 1;
    }
}

void lt_print_error(const char *command, const lt_error *err)
{
    fprintf(stderr, "loratool%s%s: ", command ? " " : "", command ? command : "");
    if (err->where[0]) {
        lt_print_safe(stderr, err->where);
        fputs(": ", stderr);
    }
    lt_print_safe(stderr, err->msg);
    if (err->offset != LT_NO_OFFSET)
        fprintf(stderr, " (at byte %llu)", (unsigned long long)err->offset);
    fputc('\n', stderr);
}

const char *lt_size_text(uint64_t bytes, char dst[32])
{
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB" };
    double v = (double)bytes;
    int u = 0;
    while (v >= 1000 && u < 4) {
        v /= 1000;
        u++;
    }
    snprintf(dst, 32, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return dst;
}

/* A report is built by calls that are not checked one by one: a value that found no
 * memory would just be absent. */
static _Atomic bool json_lacks_memory;

static void *json_alloc(size_t size)
{
    void *p = malloc(size);
    if (!p) json_lacks_memory = true;
    return p;
}

void lt_json_watch(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){ json_alloc, free });
}

lt_status lt_print_json(FILE *to, cJSON *object, lt_error *err)
{
    char *text = object && !json_lacks_memory ? cJSON_PrintUnformatted(object) : NULL;
    json_lacks_memory = false;
    cJSON_Delete(object);
    if (!text) return lt_error_set(err, LT_ERR_NOMEM, "out of memory for the report");
    char *shown = lt_utf8_copy(text, err);
    free(text);
    if (!shown) return LT_ERR_NOMEM;
    fprintf(to, "%s\n", shown);
    free(shown);
    return LT_OK;
}

void lt_json_add_notes(cJSON *object, const char *key, const lt_notes *notes)
{
    cJSON *list = cJSON_AddArrayToObject(object, key);
    for (size_t i = 0; i < notes->count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", notes->items[i].name);
        cJSON_AddStringToObject(item, "reason", notes->items[i].reason);
        lt_json_append(list, item);
    }
}

void lt_json_add_outcome(cJSON *object, const lt_outcome *x)
{
    cJSON_AddNumberToObject(object, "modules_written", (double)x->written);
    cJSON_AddNumberToObject(object, "modules_unchanged", (double)x->unchanged);
    lt_json_add_notes(object, "modules_skipped", x->skipped);
    cJSON *rank = cJSON_AddObjectToObject(object, "rank");
    cJSON_AddNumberToObject(rank, "min", (double)x->rank_min);
    cJSON_AddNumberToObject(rank, "max", (double)x->rank_max);
    cJSON_AddNumberToObject(object, "error", x->error);
    cJSON *worst = cJSON_AddObjectToObject(object, "worst");
    cJSON_AddStringToObject(worst, "module", x->worst);
    cJSON_AddNumberToObject(worst, "error", x->worst_error);
}

void lt_print_ranks(FILE *to, uint64_t min, uint64_t max)
{
    if (min == max)
        fprintf(to, "rank %llu", (unsigned long long)max);
    else
        fprintf(
            to, "rank %llu to %llu", (unsigned long long)min, (unsigned long long)max);
}

void lt_json_add_cost(cJSON *object, const lt_cost *cost)
{
    cJSON_AddNumberToObject(object, "bytes", (double)cost->bytes);
    cJSON_AddNumberToObject(object, "seconds", cost->seconds);
    cJSON_AddNumberToObject(object, "peak_memory_bytes", (double)cost->peak_memory_bytes);
}

void lt_print_cost(FILE *to, const lt_cost *cost)
{
    char size[32], memory[32];
    fprintf(to, "%s in %.2f s, peak memory %s\n", lt_size_text(cost->bytes, size),
        cost->seconds, lt_size_text(cost->peak_memory_bytes, memory));
}

static void print_all(FILE *to, const lt_notes *notes)
{
    for (size_t i = 0; i < notes->count; i++) {
        fputs("    ", to);
        lt_print_safe(to, notes->items[i].name);
        fputs(": ", to);
        lt_print_safe(to, notes->items[i].reason);
        fputc('\n', to);
    }
}

/* One line a reason, in the order of first appearance; the tail of many as one line. */
static void print_reasons(FILE *to, const lt_notes *notes)
{
    enum { MOST = 40 };
    size_t first[MOST], counts[MOST], n = 0, others = 0;
    for (size_t i = 0; i < notes->count; i++) {
        size_t at = 0;
        while (at < n && strcmp(notes->items[first[at]].reason, notes->items[i].reason))
            at++;
        if (at == MOST) {
            others++;
            continue;
        }
        if (at == n) {
            first[n++] = i;
            counts[at] = 0;
        }
        counts[at]++;
    }
    for (size_t i = 0; i < n; i++) {
        fprintf(to, "    %6zu  ", counts[i]);
        lt_print_safe(to, notes->items[first[i]].reason);
        fputc('\n', to);
    }
    if (others) fprintf(to, "    %6zu  other reasons (-v lists them)\n", others);
}

void lt_print_notes(FILE *to, const char *title, const lt_notes *notes, bool all)
{
    if (!notes->count) return;
    fprintf(to, "%s %zu\n", title, notes->count);
    if (all) {
        print_all(to, notes);
        return;
    }
    print_reasons(to, notes);
}

static void draw(void *ctx, size_t done, size_t total, const char *name)
{
    (void)ctx;
    static size_t last;
    size_t percent = total ? done * 100 / total : 100;
    if (percent == last && done > 1 && done < total) return;
    last = percent;
    fprintf(stderr, "\r\033[K%3zu%% %zu/%zu ", percent, done, total);
    lt_print_safe(stderr, name);
    fflush(stderr);
}

lt_progress lt_progress_meter(bool quiet)
{
    lt_progress p = { NULL, NULL };
    if (!quiet && isatty(STDERR_FILENO)) p.tick = draw;
    return p;
}

void lt_progress_clear(void)
{
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
}
