/* SPDX-License-Identifier: MIT */
/* rank_pattern and alpha_pattern: ordered patterns, of which the first that matches a
 * module's path counts. Configs of large models name every module, so patterns that only
 * one path can match are looked up by it. */
#include "adapter/kind.h"

#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>

lt_status lt_peft_rules_reserve(lt_peft_rules *rules, size_t count, lt_error *err)
{
    rules->items = calloc(count + 1, sizeof *rules->items);
    rules->searched = calloc(count + 1, sizeof *rules->searched);
    if (rules->items && rules->searched) return LT_OK;
    return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
}

lt_status lt_peft_rules_add(
    lt_peft_rules *rules, const char *pattern, double value, lt_error *err)
{
    lt_peft_rule *rule = &rules->items[rules->count];
    lt_status st = lt_pattern_compile(&rule->pattern, pattern, err);
    if (st) return st;
    rule->value = value;
    rules->memory += rule->pattern.cost;
    if (rules->memory > lt_limit(LT_LIMIT_PATTERN_MEMORY))
        st = lt_error_set(err, LT_ERR_LIMIT,
            "its patterns take over %llu bytes when compiled",
            lt_limit(LT_LIMIT_PATTERN_MEMORY));
    else if (rule->pattern.exact)
        st = lt_map_put(&rules->exact, rule->pattern.text, rules->count, NULL, err);
    else
        rules->searched[rules->n_searched++] = rules->count;
    rules->count++;
    return st;
}

lt_status lt_peft_check_work(uint64_t work, lt_error *err)
{
    if (work <= lt_limit(LT_LIMIT_PATTERN_WORK)) return LT_OK;
    return lt_error_set(err, LT_ERR_LIMIT,
        "matching its patterns takes over %llu steps (--limit pattern-work)",
        lt_limit(LT_LIMIT_PATTERN_WORK));
}

lt_status lt_peft_rules_find(const lt_peft_rules *rules, const char *path,
    double fallback, double *value, uint64_t *work, lt_error *err)
{
    lt_subject subject = lt_subject_of(path);
    size_t first = lt_map_get(&rules->exact, path);
    *value = first == LT_MAP_NONE ? fallback : rules->items[first].value;
    for (size_t i = 0; i < rules->n_searched && rules->searched[i] < first; i++) {
        const lt_peft_rule *rule = &rules->items[rules->searched[i]];
        bool matches;
        lt_status st = lt_pattern_match(&rule->pattern, &subject, &matches, work, err);
        if (!st) st = lt_peft_check_work(*work, err);
        if (st) return st;
        if (!matches) continue;
        *value = rule->value;
        return LT_OK;
    }
    return LT_OK;
}

void lt_peft_rules_release(lt_peft_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        lt_pattern_release(&rules->items[i].pattern);
    lt_map_release(&rules->exact);
    free(rules->items);
    free(rules->searched);
    *rules = (lt_peft_rules){ 0 };
}
