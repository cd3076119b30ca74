/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include "base/json.h"
#include "base/limits.h"

#include <stdlib.h>

static lt_status parse(const char *text, size_t size, lt_error *err)
{
    lt_json json;
    lt_status st = lt_json_parse(&json, text, size, 0, err);
    lt_json_release(&json);
    return st;
}

/* What RFC 8259 refuses and where the fault lies; cJSON alone takes many of these. */
static void test_refused(void)
{
    static const struct {
        const char *text;
        uint64_t offset;
    } rows[] = {
        { "", 0 },
        { "{", 1 },
        { "[1,]", 3 },
        { "{\"a\":1,}", 7 },
        { "{\"a\" 1}", 5 },
        { "{a:1}", 1 },
        { "{'a':1}", 1 },
        { "[1 2]", 3 },
        { "[01]", 1 },
        { "[+1]", 1 },
        { "[1.]", 1 },
        { "[.5]", 1 },
        { "[1e]", 1 },
        { "[-]", 1 },
        { "[NaN]", 1 },
        { "[tru]", 1 },
        { "[\"a\nb\"]", 3 },
        { "[\"a\tb\"]", 3 },
        { "[\"\\x41\"]", 2 },
        { "[\"\\u12\"]", 2 },
        { "[\"\\ud800\"]", 2 },
        { "[\"\\udc00\"]", 2 },
        { "[\"\\ud800\\u0041\"]", 2 },
        { "[\"\\u0000\"]", 2 },
        { "[\"abc", 1 },
        { "[\"\xff\"]", 2 },
        { "[\"\xc0\x80\"]", 2 },
        { "[\"\xed\xa0\x80\"]", 2 },
        { "[\"\xf4\x90\x80\x80\"]", 2 },
        { "\xef\xbb\xbf{}", 0 },
        { "{}x", 2 },
        { "{} {}", 3 },
        { "]", 0 },
        { "{]", 1 },
        { "[}", 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_status st = parse(rows[i].text, strlen(rows[i].text), &err);
        if (!CHECK(st == LT_ERR_FORMAT) || !CHECK(err.offset == rows[i].offset))
            printf("    row %zu '%s': status %d at %llu: %s\n", i, rows[i].text, st,
                (unsigned long long)err.offset, err.msg);
    }
    lt_error err = LT_ERROR_INIT;
    CHECK(parse("{}\0", 3, &err) == LT_ERR_FORMAT && err.offset == 2);
}

static void test_accepted(void)
{
    static const char *const rows[] = { "{}", "[]", " \t\r\n{ } \n", "0", "-0", "1e5",
        "-1.5E-3", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80\"", "[true,false,null]", "{\"\":{\"a\":[1,[2,[3]]]}}",
        "18446744073709551615" };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        if (!CHECK(parse(rows[i], strlen(rows[i]), &err) == LT_OK))
            printf("    row %zu '%s': %s\n", i, rows[i], err.msg);
    }
}

static void test_depth(void)
{
    char text[2 * LT_MAX_JSON_DEPTH + 4];
    for (int depth = LT_MAX_JSON_DEPTH; depth <= LT_MAX_JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        lt_status st = parse(text, 2 * (size_t)depth, NULL);
        CHECK(st == (depth > LT_MAX_JSON_DEPTH ? LT_ERR_LIMIT : LT_OK));
    }
}

static void test_exact_integers(void)
{
    char text[] = "{\"a\":[9007199254740993,18446744073709551615,18446744073709551616,"
                  "-1,1.0,1e0,[2]],\"b\":{\"c\":7}}";
    lt_json_tape tape;
    if (!CHECK(!lt_json_scan(&tape, text, sizeof text - 1, 8, NULL))) return;
    size_t a = lt_json_sole(&tape, 0, "a"), b = lt_json_sole(&tape, 0, "b");
    uint64_t v = 0;
    CHECK(a == 2 && lt_json_type(&tape, a) == '[' && lt_json_at(&tape, a - 1) == 9);
    CHECK(lt_json_uint(&tape, a + 1, &v) && v == 9007199254740993u);
    CHECK(lt_json_uint(&tape, a + 2, &v) && v == UINT64_MAX);
    for (size_t i = a + 3; i < lt_json_next(&tape, a); i = lt_json_next(&tape, i))
        CHECK(!lt_json_uint(&tape, i, &v));
    CHECK(b == lt_json_next(&tape, a) + 1 && lt_json_type(&tape, b) == '{');
    CHECK(lt_json_uint(&tape, lt_json_sole(&tape, b, "c"), &v) && v == 7);
    CHECK(!lt_json_sole(&tape, 0, "A") && lt_json_next(&tape, 0) == tape.count);
    lt_json_tape_release(&tape);
}

/* Tokens and tree agree on what strings mean. */
static void test_strings(void)
{
    char text[] = "[\"\",\"plain\",\"\xf0\x9f\x98\x80 \\u00e9\\u20ac\\ud83d\\ude00\","
                  "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u000a\",\"\\uffff\"]";
    lt_json json;
    lt_json_tape tape;
    if (!CHECK(!lt_json_parse(&json, text, sizeof text - 1, 0, NULL))) return;
    if (!CHECK(!lt_json_scan(&tape, text, sizeof text - 1, 0, NULL))) return;
    size_t i = 1;
    for (const cJSON *s = json.root->child; s; s = s->next, i++) {
        CHECK_STR(lt_json_text(&tape, i), s->valuestring);
        CHECK_STR(lt_json_text(&tape, i), s->valuestring); /* once more: decoded once */
    }
    CHECK(i == tape.count && i == 6);
    lt_json_tape_release(&tape);
    lt_json_release(&json);
}

static void test_sole(void)
{
    char text[] = "{\"a\":{\"b\":1},\"b\":[{\"a\":2}],\"\\u0063\":null,\"a\":3}";
    lt_json_tape tape;
    if (!CHECK(!lt_json_scan(&tape, text, sizeof text - 1, 0, NULL))) return;
    CHECK(!lt_json_sole(&tape, 0, "a"));
    CHECK(lt_json_type(&tape, lt_json_sole(&tape, 0, "b")) == '[');
    CHECK(lt_json_type(&tape, lt_json_sole(&tape, 0, "c")) == 'n');
    lt_json_tape_release(&tape);
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_refused), TEST(test_accepted),
        TEST(test_depth), TEST(test_exact_integers), TEST(test_strings),
        TEST(test_sole) };
    return RUN_TESTS(tests);
}
