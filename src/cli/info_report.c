/* SPDX-License-Identifier: MIT */
#include "cli/info_report.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *role_text(lt_role role)
{
    return role == LT_ROLE_BASE   ? "base"
        : role == LT_ROLE_ADAPTER ? "adapter"
                                  : "unknown";
}

static const lt_family *family_of(const lt_info *info)
{
    return info->adapter ? lt_adapter_family(info->adapter)
                         : lt_model_family(info->model);
}

/* ---- histograms ---------------------------------------------------------------------
 */

/* Distinct values with their counts, ascending. */
struct histogram {
    struct {
        double value;
        size_t count;
    } bins[32];
    size_t n, others;
};

static void tally(struct histogram *h, double value)
{
    size_t i = 0;
    while (i < h->n && h->bins[i].value < value)
        i++;
    if (i < h->n && h->bins[i].value == value) {
        h->bins[i].count++;
        return;
    }
    if (h->n == sizeof h->bins / sizeof *h->bins) {
        h->others++;
        return;
    }
    memmove(&h->bins[i + 1], &h->bins[i], (h->n - i) * sizeof *h->bins);
    h->bins[i].value = value;
    h->bins[i].count = 1;
    h->n++;
}

static void print_histogram(const char *label, const struct histogram *h)
{
    printf("  %-10s", label);
    for (size_t i = 0; i < h->n; i++)
        printf("%s%g (%zu)", i ? ", " : "", h->bins[i].value, h->bins[i].count);
    if (h->others) printf(", others (%zu)", h->others);
    printf("%s\n", h->n ? "" : "none");
}

enum quantity { RANK, ALPHA, SCALE };

static struct histogram histogram_of(const lt_adapter *a, enum quantity what)
{
    struct histogram h = { .n = 0 };
    for (size_t i = 0; i < lt_adapter_module_count(a); i++) {
        const lt_module *m = lt_adapter_module(a, i);
        if (what == RANK && m->rank) tally(&h, (double)m->rank);
        if (what == ALPHA && m->has_alpha) tally(&h, m->alpha);
        if (what == SCALE && m->rank) tally(&h, m->scale);
    }
    return h;
}

/* ---- what an adapter covers ---------------------------------------------------------
 */

/* Modules whose names agree up to their first number: "down_blocks" 0 to 3. */
struct group {
    const char *component, *stem; /* stem is not terminated */
    size_t stem_size, count;
    long low, high; /* -1: the names hold no number */
};

#define MAX_GROUPS 256

struct coverage {
    struct group groups[MAX_GROUPS];
    size_t n;
};

/* Length of the name before its first path component that is a number. */
static size_t stem_of(const char *name, long *number)
{
    *number = -1;
    for (size_t i = 1; name[i]; i++) {
        bool starts = name[i - 1] == '_' || name[i - 1] == '.';
        if (!starts || !isdigit((unsigned char)name[i])) continue;
        char *end;
        long v = strtol(name + i, &end, 10);
        if (*end && *end != '_' && *end != '.') continue;
        *number = v;
        return i - 1;
    }
    return strlen(name);
}

static void cover(struct coverage *c, const char *module)
{
    size_t prefix;
    const char *component = lt_component_of_name(module, &prefix);
    const char *name = module + prefix;
    long number;
    size_t size = stem_of(name, &number);
    for (size_t i = 0; i < c->n; i++) {
        struct group *g = &c->groups[i];
        if (strcmp(g->component, component) || g->stem_size != size
            || memcmp(g->stem, name, size))
            continue;
        g->count++;
        if (number < g->low) g->low = number;
        if (number > g->high) g->high = number;
        return;
    }
    if (c->n == MAX_GROUPS) return;
    c->groups[c->n++] = (struct group){ component, name, size, 1, number, number };
}

static struct coverage coverage_of(const lt_adapter *a)
{
    struct coverage c = { .n = 0 };
    for (size_t i = 0; i < lt_adapter_module_count(a); i++)
        cover(&c, lt_adapter_module(a, i)->name);
    return c;
}

static void print_coverage(const lt_adapter *a)
{
    struct coverage c = coverage_of(a);
    const size_t most = 12;
    for (size_t i = 0; i < c.n && i < most; i++) {
        const struct group *g = &c.groups[i];
        char stem[128];
        snprintf(stem, sizeof stem, "%.*s", (int)g->stem_size, g->stem);
        printf("  %-10s%s: ", i ? "" : "covers", g->component);
        lt_print_safe(stdout, stem);
        if (g->low >= 0 && g->low == g->high)
            printf(" %ld", g->low);
        else if (g->low >= 0)
            printf(" %ld to %ld", g->low, g->high);
        printf(" (%zu)\n", g->count);
    }
    if (c.n > most) printf("            and %zu more groups\n", c.n - most);
}

/* ---- text ---------------------------------------------------------------------------
 */

static void print_header(const char *path, const lt_info *info)
{
    const lt_family *family = family_of(info);
    bool known = strcmp(lt_family_id(family), "unknown") != 0;
    lt_print_safe(stdout, path);
    if (info->adapter)
        printf(": %s adapter, %s keys, for %s\n", lt_adapter_kind(info->adapter),
            lt_dialect_id(lt_adapter_dialect(info->adapter)),
            known ? lt_family_title(family) : "an unknown family");
    else
        printf(
            ": %s\n", known ? lt_family_title(family) : "tensors of an unknown family");
}

static void print_tensors_line(const lt_info *info)
{
    char size[32];
    printf("  %-10s%zu, %llu parameters, %s:", "tensors", lt_store_count(info->store),
        (unsigned long long)info->params, lt_size_text(info->bytes, size));
    for (int d = 0; d < LT_DTYPE_COUNT; d++)
        if (info->dtypes[d])
            printf(" %s %zu", lt_dtype_get((lt_dtype)d)->name, info->dtypes[d]);
    putchar('\n');
}

static void print_kinds(const lt_adapter *a)
{
    size_t conv = 0, n = lt_adapter_module_count(a);
    for (size_t i = 0; i < n; i++)
        conv += lt_module_has_kernel(lt_adapter_module(a, i));
    printf("  %-10s%zu (%zu with convolution kernels)\n", "modules", n, conv);
    const lt_kind *kinds[32];
    size_t counts[32], n_kinds = 0;
    for (size_t i = 0; i < n; i++) {
        const lt_kind *k = lt_adapter_module(a, i)->kind;
        size_t at = 0;
        while (at < n_kinds && kinds[at] != k)
            at++;
        if (at == 32) continue;
        if (at == n_kinds) {
            kinds[n_kinds++] = k;
            counts[at] = 0;
        }
        counts[at]++;
    }
    for (size_t i = 0; i < n_kinds; i++)
        printf("  %-10s%s (%zu)\n", i ? "" : "kind", lt_kind_title(kinds[i]), counts[i]);
}

static void print_adapter(const lt_adapter *a)
{
    struct histogram rank = histogram_of(a, RANK), alpha = histogram_of(a, ALPHA),
                     scale = histogram_of(a, SCALE);
    print_kinds(a);
    print_histogram("rank", &rank);
    print_histogram("alpha", &alpha);
    print_histogram("scale", &scale);
    if (lt_adapter_lacks_config(a))
        printf("  %-10salpha: PEFT keeps it in adapter_config.json, which is not here\n",
            "lacks");
    print_coverage(a);
    if (lt_adapter_rest_count(a))
        printf("  %-10s%zu tensors that belong to no module\n", "others",
            lt_adapter_rest_count(a));
}

struct part {
    const lt_component *component;
    size_t tensors;
    uint64_t params;
};

#define MAX_PARTS 16

/* In the order of their first tensors. */
static size_t find_parts(const lt_model *model, struct part parts[MAX_PARTS])
{
    const lt_store *store = lt_model_store(model);
    size_t n = 0;
    for (size_t i = 0; i < lt_store_count(store); i++) {
        const lt_tensor *t = lt_store_at(store, i);
        const lt_component *c = lt_model_component(model, t);
        size_t k = 0;
        while (k < n && parts[k].component != c)
            k++;
        if (!c || k == MAX_PARTS) continue;
        if (k == n) parts[n++] = (struct part){ c, 0, 0 };
        parts[k].tensors++;
        parts[k].params += t->count;
    }
    return n;
}

static void print_parts(const lt_model *model)
{
    struct part parts[MAX_PARTS];
    size_t n = find_parts(model, parts);
    for (size_t i = 0; i < n; i++)
        printf("  %-10s%s: %zu tensors, %llu parameters\n", i ? "" : "parts",
            lt_component_title(parts[i].component), parts[i].tensors,
            (unsigned long long)parts[i].params);
}

static void print_model(const lt_model *model, bool verbose)
{
    print_parts(model);
    lt_naming naming = lt_family_naming(lt_model_family(model));
    size_t sites = 0;
    for (size_t i = 0; i < lt_model_site_count(model); i++)
        sites += lt_site_serves(lt_model_site(model, i), naming);
    printf("  %-10s%zu places for an adapter's modules\n", "sites", sites);
    if (!verbose) return;
    printf("  %-10s", "evidence");
    lt_print_safe(stdout, lt_model_evidence(model));
    putchar('\n');
}

static void print_modules(const lt_adapter *a)
{
    for (size_t i = 0; i < lt_adapter_module_count(a); i++) {
        const lt_module *m = lt_adapter_module(a, i);
        printf("    %-8s rank %-4llu alpha %-8g scale %-8g %llu x %llu  ",
            lt_kind_id(m->kind), (unsigned long long)m->rank,
            m->has_alpha ? m->alpha : (double)m->rank, m->scale,
            (unsigned long long)m->out, (unsigned long long)m->in);
        lt_print_safe(stdout, m->name);
        putchar('\n');
    }
}

/* Globals that are not plain data, the worst first. */
static void print_globals(const lt_store *store)
{
    const char *label = "globals";
    for (int verdict = LT_DANGEROUS; verdict > LT_PLAIN; verdict--)
        for (size_t i = 0; i < lt_store_global_count(store); i++) {
            const lt_global *g = lt_store_global(store, i);
            if (g->verdict != (lt_verdict)verdict) continue;
            printf("  %-10s", label);
            lt_print_safe(stdout, g->name);
            printf(" (%zu): %s\n", g->count,
                verdict == LT_DANGEROUS ? "DANGEROUS: unpickling the file runs code"
                                        : "unknown; never looked up, never called");
            label = "";
        }
}

/* Lines of the text report before the rest is only counted. */
#define MOST_ASIDES 12

static void print_asides(const lt_store *store, bool verbose)
{
    size_t n = lt_store_aside_count(store);
    for (size_t i = 0; i < n && (verbose || i < MOST_ASIDES); i++) {
        const lt_aside *a = lt_store_aside(store, i);
        printf("  %-10s", i ? "" : "besides");
        lt_print_safe(stdout, a->path);
        fputs(": ", stdout);
        lt_print_safe(stdout, a->what);
        printf("%s\n", a->unread ? " (a tensor that is not read)" : "");
    }
    if (!verbose && n > MOST_ASIDES)
        printf("            and %zu more (-v lists them)\n", n - MOST_ASIDES);
}

static void print_container(const lt_store *store)
{
    char size[32];
    printf("  %-10s%s", "container", lt_store_container(store));
    if (lt_store_file_count(store) > 1) printf(", %zu files", lt_store_file_count(store));
    printf(", %s", lt_size_text(lt_store_file_size(store), size));
    if (*lt_store_wrapper(store)) {
        fputs(", tensors in '", stdout);
        lt_print_safe(stdout, lt_store_wrapper(store));
        putchar('\'');
    }
    putchar('\n');
}

void lt_info_print(const char *path, const lt_info *info, bool verbose)
{
    const lt_metadata *meta = lt_store_metadata(info->store);
    print_header(path, info);
    print_container(info->store);
    print_tensors_line(info);
    if (info->adapter)
        print_adapter(info->adapter);
    else
        print_model(info->model, verbose);
    if (meta->count)
        printf("  %-10s%zu entries (--metadata shows them)\n", "metadata", meta->count);
    else
        printf("  %-10snone\n", "metadata");
    print_asides(info->store, verbose);
    print_globals(info->store);
    if (info->adapter && verbose) print_modules(info->adapter);
}

/* ---- hashes -------------------------------------------------------------------------
 */

static const char *const verifications[] = {
    [LT_HASH_WRONG] = "wrong",
    [LT_HASH_RIGHT] = "right",
    [LT_HASH_UNDECIDED] = "undecided",
};

static void print_claims(const lt_info_hashes *hashes)
{
    for (size_t i = 0; i < hashes->n_claims; i++) {
        const lt_claim *c = &hashes->claims[i];
        printf(
            "  %-10s%s: %s", i ? "" : "claims", c->key, verifications[c->verification]);
        if (c->verification == LT_HASH_WRONG) {
            fputs(", it is ", stdout);
            lt_print_safe(stdout, *c->value ? c->value : "empty");
        }
        if (c->verification == LT_HASH_UNDECIDED)
            fputs(", of the tensors in the order of the training", stdout);
        putchar('\n');
    }
}

void lt_info_print_hashes(const char *file, const lt_info_hashes *hashes)
{
    const lt_file_hashes *h = &hashes->of;
    if (file) {
        printf("  %-10s", "file");
        lt_print_safe(stdout, file);
        putchar('\n');
    }
    printf("  %-10s%s\n", "sha256", h->sha256);
    if (*h->data) printf("  %-10s%s\n", "data", h->data);
    printf("  %-10sAutoV1 %s, AutoV2 %s, AutoV3 %s", "short", h->autov1, h->autov2,
        h->autov3);
    printf("%s%s\n", *h->legacy ? ", legacy " : "", h->legacy);
    print_claims(hashes);
    fflush(stdout);
}

/* ---- JSON ---------------------------------------------------------------------------
 */

static void add_shape(cJSON *o, const lt_module *m)
{
    cJSON *shape = cJSON_AddArrayToObject(o, "shape");
    lt_json_append(shape, cJSON_CreateNumber((double)m->out));
    lt_json_append(shape, cJSON_CreateNumber((double)m->in));
}

static void add_modules(cJSON *o, const lt_adapter *a)
{
    cJSON *list = cJSON_AddArrayToObject(o, "modules");
    for (size_t i = 0; a && i < lt_adapter_module_count(a); i++) {
        const lt_module *m = lt_adapter_module(a, i);
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", m->name);
        cJSON_AddStringToObject(item, "kind", lt_kind_id(m->kind));
        cJSON_AddStringToObject(item, "part", lt_component_of_name(m->name, NULL));
        cJSON_AddNumberToObject(item, "rank", (double)m->rank);
        if (m->has_alpha)
            cJSON_AddNumberToObject(item, "alpha", m->alpha);
        else
            cJSON_AddNullToObject(item, "alpha");
        cJSON_AddNumberToObject(item, "scale", m->scale);
        add_shape(item, m);
        lt_json_append(list, item);
    }
}

static void add_tensors(cJSON *o, const lt_store *store)
{
    cJSON *list = cJSON_AddArrayToObject(o, "tensors");
    for (size_t i = 0; i < lt_store_count(store); i++) {
        const lt_tensor *t = lt_store_at(store, i);
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", t->name);
        cJSON_AddStringToObject(item, "dtype", lt_dtype_get(t->dtype)->name);
        cJSON *shape = cJSON_AddArrayToObject(item, "shape");
        for (unsigned d = 0; d < t->n_dims; d++)
            lt_json_append(shape, cJSON_CreateNumber((double)t->shape[d]));
        if (t->offset == LT_NO_OFFSET)
            cJSON_AddNullToObject(item, "offset");
        else
            cJSON_AddNumberToObject(item, "offset", (double)t->offset);
        cJSON_AddNumberToObject(item, "bytes", (double)t->size);
        lt_json_append(list, item);
    }
}

static void add_contents(cJSON *o, const lt_store *store)
{
    cJSON *files = cJSON_AddArrayToObject(o, "files");
    for (size_t i = 0; i < lt_store_file_count(store); i++)
        lt_json_append(files, cJSON_CreateString(lt_store_file(store, i)));
    cJSON_AddStringToObject(o, "wrapper", lt_store_wrapper(store));
    cJSON *asides = cJSON_AddArrayToObject(o, "aside");
    for (size_t i = 0; i < lt_store_aside_count(store); i++) {
        const lt_aside *a = lt_store_aside(store, i);
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "path", a->path);
        cJSON_AddStringToObject(item, "what", a->what);
        cJSON_AddNumberToObject(item, "bytes", (double)a->bytes);
        cJSON_AddBoolToObject(item, "unread", a->unread);
        lt_json_append(asides, item);
    }
    cJSON *globals = cJSON_AddArrayToObject(o, "globals");
    for (size_t i = 0; i < lt_store_global_count(store); i++) {
        const lt_global *g = lt_store_global(store, i);
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", g->name);
        cJSON_AddStringToObject(item, "verdict", lt_verdict_text(g->verdict));
        cJSON_AddNumberToObject(item, "count", (double)g->count);
        lt_json_append(globals, item);
    }
}

cJSON *lt_info_json(const char *path, const lt_info *info, bool tensors)
{
    const lt_metadata *meta = lt_store_metadata(info->store);
    const lt_adapter *a = info->adapter;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", path);
    cJSON_AddStringToObject(o, "container", lt_store_container(info->store));
    cJSON_AddStringToObject(o, "role", role_text(info->role));
    cJSON_AddStringToObject(o, "family", lt_family_id(family_of(info)));
    if (a) {
        cJSON_AddStringToObject(o, "kind", lt_adapter_kind(a));
        cJSON_AddStringToObject(o, "dialect", lt_dialect_id(lt_adapter_dialect(a)));
        cJSON_AddBoolToObject(o, "lacks_config", lt_adapter_lacks_config(a));
    } else {
        cJSON_AddNullToObject(o, "kind");
        cJSON_AddNullToObject(o, "dialect");
        cJSON_AddStringToObject(o, "evidence", lt_model_evidence(info->model));
    }
    cJSON_AddNumberToObject(o, "tensor_count", (double)lt_store_count(info->store));
    cJSON_AddNumberToObject(o, "file_bytes", (double)lt_store_file_size(info->store));
    cJSON_AddNumberToObject(o, "bytes", (double)info->bytes);
    cJSON_AddNumberToObject(o, "params", (double)info->params);
    cJSON *dtypes = cJSON_AddObjectToObject(o, "dtypes");
    for (int d = 0; d < LT_DTYPE_COUNT; d++)
        if (info->dtypes[d])
            cJSON_AddNumberToObject(
                dtypes, lt_dtype_get((lt_dtype)d)->name, (double)info->dtypes[d]);
    add_modules(o, a);
    if (tensors) add_tensors(o, info->store);
    add_contents(o, info->store);
    cJSON *entries = cJSON_AddObjectToObject(o, "metadata");
    for (size_t i = 0; i < meta->count; i++)
        cJSON_AddStringToObject(entries, meta->entries[i].key, meta->entries[i].value);
    return o;
}

static void add_text_or_null(cJSON *o, const char *key, const char *text)
{
    if (*text)
        cJSON_AddStringToObject(o, key, text);
    else
        cJSON_AddNullToObject(o, key);
}

void lt_info_json_hashes(cJSON *list, const char *file, const lt_info_hashes *hashes)
{
    const lt_file_hashes *h = &hashes->of;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "file", file);
    cJSON_AddStringToObject(o, "sha256", h->sha256);
    add_text_or_null(o, "data_sha256", h->data);
    add_text_or_null(o, "legacy", h->legacy);
    cJSON_AddStringToObject(o, "autov1", h->autov1);
    cJSON_AddStringToObject(o, "autov2", h->autov2);
    cJSON_AddStringToObject(o, "autov3", h->autov3);
    cJSON *claims = cJSON_AddArrayToObject(o, "claims");
    for (size_t i = 0; i < hashes->n_claims; i++) {
        const lt_claim *c = &hashes->claims[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "key", c->key);
        cJSON_AddStringToObject(item, "value", c->value);
        cJSON_AddStringToObject(item, "verdict", verifications[c->verification]);
        lt_json_append(claims, item);
    }
    lt_json_append(list, o);
}
