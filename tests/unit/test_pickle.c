/* SPDX-License-Identifier: MIT */
/* The pickle machine: every operation, its refusals, ceilings on both sides. */
#include "runner.h"

#include "base/limits.h"
#include "format/pickle.h"
#include "format/pickle_globals.h"

#include <stdlib.h>

/* A value as text: 1, 'a', b'a', (1, 2), [1], {1: 2}, {1}s, <os.system>, call(args). */
static void show(const lt_value *v, char *dst, size_t size);

static void show_items(
    const lt_value *v, const char *open, const char *close, char *dst, size_t size)
{
    size_t n = (size_t)snprintf(dst, size, "%s", open);
    bool is_dict = v->kind == LT_VALUE_DICT;
    for (uint32_t i = 0; i < v->list.count && n + 8 < size; i++) {
        const char *gap = !i ? "" : is_dict && i % 2 ? ": " : ", ";
        n += (size_t)snprintf(dst + n, size - n, "%s", gap);
        show(v->list.items[i], dst + n, size - n);
        n += strlen(dst + n);
    }
    snprintf(dst + n, size - n, "%s", close);
}

static void show_part(const char *name, const lt_value *v, char *dst, size_t size)
{
    size_t n = strlen(dst);
    if (!v) return;
    n += (size_t)snprintf(dst + n, size - n, " %s=", name);
    show(v, dst + n, size - n);
}

static void show_call(const lt_call *c, char *dst, size_t size)
{
    show(c->callee, dst, size);
    size_t n = strlen(dst);
    show(c->args, dst + n, size - n);
    show_part("kwargs", c->kwargs, dst, size);
    show_part("state", c->state, dst, size);
    show_part("items", c->items, dst, size);
    show_part("pairs", c->pairs, dst, size);
}

static void show(const lt_value *v, char *dst, size_t size)
{
    switch ((lt_value_kind)v->kind) {
    case LT_VALUE_NONE: snprintf(dst, size, "None"); break;
    case LT_VALUE_BOOL: snprintf(dst, size, "%s", v->flag ? "True" : "False"); break;
    case LT_VALUE_INT: snprintf(dst, size, "%lld", (long long)v->integer); break;
    case LT_VALUE_BIG: snprintf(dst, size, "big of %u", v->text.size); break;
    case LT_VALUE_FLOAT: snprintf(dst, size, "%gf", v->real); break;
    case LT_VALUE_STRING: snprintf(dst, size, "'%s'", v->text.data); break;
    case LT_VALUE_BYTES: snprintf(dst, size, "b'%s'", v->text.data); break;
    case LT_VALUE_TUPLE: show_items(v, "(", ")", dst, size); break;
    case LT_VALUE_LIST: show_items(v, "[", "]", dst, size); break;
    case LT_VALUE_SET: show_items(v, "{", "}s", dst, size); break;
    case LT_VALUE_DICT: show_items(v, "{", "}", dst, size); break;
    case LT_VALUE_GLOBAL: snprintf(dst, size, "<%s>", v->global.name); break;
    case LT_VALUE_CALL: show_call(v->call, dst, size); break;
    case LT_VALUE_PERSISTENT:
        dst[0] = '@';
        show(v->persistent->id, dst + 1, size - 1);
        break;
    }
}

static lt_status read_text(
    const void *bytes, size_t size, char *shown, size_t shown_size, lt_error *err)
{
    lt_pickle p = { 0 };
    lt_cursor c;
    lt_value *root;
    lt_cursor_memory(&c, bytes, size, 0, err);
    lt_status st = lt_pickle_read(&p, &c, &root, err);
    shown[0] = 0;
    if (!st) show(root, shown, shown_size);
    lt_cursor_release(&c);
    lt_pickle_release(&p);
    return st;
}

#define BYTES(s) s, sizeof(s) - 1

static const struct {
    const char *bytes;
    size_t size;
    const char *shown;
} good[] = {
    { BYTES("N."), "None" },
    { BYTES("\x80\2\x88."), "True" },
    { BYTES("\x80\5\x89."), "False" },
    { BYTES("I01\n."), "True" },
    { BYTES("I00\n."), "False" },
    { BYTES("I1\n."), "1" },
    { BYTES("I-12\n."), "-12" },
    { BYTES("I9223372036854775807\n."), "9223372036854775807" },
    { BYTES("I9223372036854775808\n."), "big of 19" },
    { BYTES("L12L\n."), "12" },
    { BYTES("L-9223372036854775808L\n."), "-9223372036854775808" },
    { BYTES("L119547037146038801333356L\n."), "big of 24" },
    { BYTES("J\xff\xff\xff\xff."), "-1" },
    { BYTES("J\0\0\0\x80."), "-2147483648" },
    { BYTES("K\xff."), "255" },
    { BYTES("M\xff\xff."), "65535" },
    { BYTES("\x8a\0."), "0" },
    { BYTES("\x8a\1\xff."), "-1" },
    { BYTES("\x8a\2\0\1."), "256" },
    { BYTES("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), "9223372036854775807" },
    { BYTES("\x8a\x09\0\0\0\0\0\0\0\0\1."), "big of 9" },
    /* Bytes that only repeat the sign. */
    { BYTES("\x8a\x09\0\0\0\0\1\0\0\0\0."), "4294967296" },
    { BYTES("\x8a\x0a\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff."), "-2" },
    { BYTES("\x8a\x0a\0\0\0\0\0\0\0\x80\0\0."), "big of 9" },
    { BYTES("\x8b\1\0\0\0\x80."), "-128" },
    { BYTES("F1.5\n."), "1.5f" },
    { BYTES("F-inf\n."), "-inff" },
    { BYTES("G\x3f\xf8\0\0\0\0\0\0."), "1.5f" },
    { BYTES("S'a\\'b\\n\\x41\\101'\n."), "'a'b\nAA'" },
    { BYTES("S\"x\"\n."), "'x'" },
    { BYTES("T\3\0\0\0abc."), "'abc'" },
    { BYTES("U\3abc."), "'abc'" },
    { BYTES("Va\\u00e9\xe9\\U0001f600\\x\n."), "'a\xc3\xa9\xc3\xa9\xf0\x9f\x98\x80\\x'" },
    { BYTES("X\2\0\0\0\xc3\xa9."), "'\xc3\xa9'" },
    { BYTES("\x8c\2ab."), "'ab'" },
    { BYTES("\x8d\2\0\0\0\0\0\0\0ab."), "'ab'" },
    { BYTES("B\2\0\0\0ab."), "b'ab'" },
    { BYTES("C\2ab."), "b'ab'" },
    { BYTES("\x8e\2\0\0\0\0\0\0\0ab."), "b'ab'" },
    { BYTES("\x96\2\0\0\0\0\0\0\0ab."), "b'ab'" },
    { BYTES(")."), "()" },
    { BYTES("K\1\x85."), "(1)" },
    { BYTES("K\1K\2\x86."), "(1, 2)" },
    { BYTES("K\1K\2K\3\x87."), "(1, 2, 3)" },
    { BYTES("(K\1K\2t."), "(1, 2)" },
    { BYTES("(t."), "()" },
    { BYTES("]."), "[]" },
    { BYTES("(K\1l."), "[1]" },
    { BYTES("]K\1a."), "[1]" },
    { BYTES("](K\1K\2K\3K\4K\5e."), "[1, 2, 3, 4, 5]" },
    { BYTES("}."), "{}" },
    { BYTES("(K\1K\2d."), "{1: 2}" },
    { BYTES("}K\1K\2s."), "{1: 2}" },
    { BYTES("}(K\1K\2K\3K\4u."), "{1: 2, 3: 4}" },
    { BYTES("\x8f(K\1K\2\x90."), "{1, 2}s" },
    { BYTES("(K\1\x91."), "{1}s" },
    /* A later pair changes the value; 1, 1.0 and True are one key, '1' is another. */
    { BYTES("}(U\1aK\1U\1bK\2U\1aK\3u."), "{'a': 3, 'b': 2}" },
    { BYTES("}(K\1K\1\x88K\2G\x3f\xf0\0\0\0\0\0\0K\3U\1"
            "1K\4u."),
        "{1: 3, '1': 4}" },
    { BYTES("}(NK\1NK\2u."), "{None: 2}" },
    { BYTES("}(U\1aK\1C\1aK\2u."), "{'a': 1, b'a': 2}" },
    /* Also when the dict is changed through the memo, after it was put somewhere. */
    { BYTES("}q\0\x85h\0U\1aK\1sU\1aK\2s0."), "({'a': 2})" },
    { BYTES("N0K\1."), "1" },
    { BYTES("K\1(0."), "1" },
    { BYTES("K\1(K\2K\3"
            "1."),
        "1" },
    { BYTES("K\1"
            "2\x86."),
        "(1, 1)" },
    { BYTES("K\7p5\n0g5\n."), "7" },
    { BYTES("K\7q\5"
            "0h\5."),
        "7" },
    { BYTES("K\7r\0\1\0\0"
            "0j\0\1\0\0."),
        "7" },
    { BYTES("K\7\x94"
            "0K\x08\x94"
            "0h\0h\1\x86."),
        "(7, 8)" },
    { BYTES("cos\nsystem\n."), "<os.system>" },
    { BYTES("c__builtin__\nset\n."), "<builtins.set>" },
    { BYTES("ccopy_reg\n_reconstructor\n."), "<copyreg._reconstructor>" },
    { BYTES("\x8c\2os\x8c\6system\x93."), "<os.system>" },
    { BYTES("cm\nf\nK\1\x85R."), "<m.f>(1)" },
    { BYTES("cm\nC\n)\x81."), "<m.C>()" },
    { BYTES("cm\nC\n)}\x92."), "<m.C>() kwargs={}" },
    { BYTES("(cm\nC\nK\1o."), "<m.C>(1)" },
    { BYTES("(K\1im\nC\n."), "<m.C>(1)" },
    { BYTES("cm\nC\n)R}b."), "<m.C>() state={}" },
    { BYTES("cm\nC\n)R}b)b."), "<m.C>() state=({}, ())" },
    { BYTES("cm\nC\n)RK\1a."), "<m.C>() items=[1]" },
    { BYTES("cm\nC\n)R(K\1\x90."), "<m.C>() items=[1]" },
    { BYTES("cm\nC\n)RK\1K\2s."), "<m.C>() pairs={1: 2}" },
    { BYTES("P12\n."), "@'12'" },
    { BYTES("K\1\x85Q."), "@(1)" },
    { BYTES("\x80\4\x95\2\0\0\0\0\0\0\0N."), "None" },
};

static void test_operations(void)
{
    char shown[512];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_status st = read_text(good[i].bytes, good[i].size, shown, sizeof shown, &err);
        if (!CHECK(!st) || !CHECK_STR(shown, good[i].shown))
            printf("    row %zu (%s): %s\n", i, good[i].shown, err.msg);
    }
}

static void test_truncated_everywhere(void)
{
    char shown[512];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        bool refused = true;
        for (size_t n = 0; n < good[i].size; n++) {
            lt_error err = LT_ERROR_INIT;
            unsigned char *exact = malloc(n + 1); /* so that a read too far is seen */
            memcpy(exact, good[i].bytes, n);
            unsigned char *shrunk = realloc(exact, n ? n : 1);
            lt_status st = read_text(shrunk, n, shown, sizeof shown, &err);
            refused &= st == LT_ERR_FORMAT && err.offset <= n;
            free(shrunk);
        }
        if (!CHECK(refused)) printf("    row %zu\n", i);
    }
}

static void test_refused(void)
{
    static const struct {
        const char *bytes;
        size_t size;
        uint64_t offset;
        const char *message;
    } rows[] = {
        { BYTES("\xff."), 0, "unknown operation 0xff" },
        { BYTES("N\x82\1."), 1, "EXT1" },
        { BYTES("N\x83\1\1."), 1, "EXT2" },
        { BYTES("N\x84\1\1\1\1."), 1, "EXT4" },
        { BYTES("\x97."), 0, "NEXT_BUFFER" },
        { BYTES("N\x98."), 1, "READONLY_BUFFER" },
        { BYTES("\x80\6N."), 0, "PROTO" },
        { BYTES("\x95\x10\0\0\0\0\0\0\0N."), 0, "FRAME" },
        { BYTES("."), 0, "STOP" },
        { BYTES("NN."), 2, "STOP" },
        { BYTES("N(."), 2, "STOP" },
        { BYTES("0."), 0, "POP" },
        { BYTES("1."), 0, "POP_MARK" },
        { BYTES("2."), 0, "DUP" },
        { BYTES("(N2"), 3, "" },
        { BYTES("t."), 0, "TUPLE" },
        { BYTES("N\x86."), 1, "TUPLE2" },
        { BYTES("N(\x85."), 2, "TUPLE1" },
        { BYTES("NNa."), 2, "APPEND on None" },
        { BYTES("]NNs."), 3, "SETITEM on a list" },
        { BYTES("}(Nu."), 3, "SETITEMS" },
        { BYTES("(Nd."), 2, "DICT" },
        { BYTES("(Nu."), 2, "SETITEMS" },
        { BYTES("N(N(e."), 4, "APPENDS" },
        { BYTES("cm\nf\nNR."), 6, "REDUCE" },
        { BYTES(")R."), 1, "REDUCE" },
        { BYTES("NNb."), 2, "BUILD on None" },
        { BYTES("(o."), 1, "OBJ" },
        { BYTES("im\nC\n."), 0, "INST" },
        { BYTES("c\nf\n."), 0, "GLOBAL" },
        { BYTES("ca\0b\nf\n."), 0, "GLOBAL" },
        { BYTES("K\1U\1a\x93."), 5, "STACK_GLOBAL" },
        { BYTES("h\0."), 0, "BINGET" },
        { BYTES("Nq\0h\1."), 3, "BINGET" },
        { BYTES("gx\n."), 0, "GET" },
        { BYTES("g-1\n."), 0, "GET" },
        { BYTES("g99999999999999999999\n."), 0, "GET" },
        { BYTES("q\0."), 0, "BINPUT" },
        { BYTES("Ix\n."), 0, "INT" },
        { BYTES("I\n."), 0, "INT" },
        { BYTES("L-\n."), 0, "LONG" },
        { BYTES("F1x\n."), 0, "FLOAT" },
        { BYTES("F\n."), 0, "FLOAT" },
        { BYTES("S'\n."), 0, "STRING" },
        { BYTES("Sab\n."), 0, "STRING" },
        { BYTES("S'\\'\n."), 0, "STRING" },
        { BYTES("S'\\x4'\n."), 0, "STRING" },
        { BYTES("V\\u12\n."), 0, "UNICODE" },
        { BYTES("V\\U00110000\n."), 0, "UNICODE" },
        { BYTES("X\xff\xff\xff\xff"), 0, "BINUNICODE" },
        { BYTES("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), 0, "BINUNICODE8" },
    };
    char shown[512];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        lt_status st = read_text(rows[i].bytes, rows[i].size, shown, sizeof shown, &err);
        if (!CHECK(st == LT_ERR_FORMAT) || !CHECK(err.offset == rows[i].offset)
            || !CHECK(strstr(err.msg, rows[i].message)))
            printf("    row %zu: %s at %lld\n", i, err.msg, (long long)err.offset);
    }
}

/* head, count times body, tail. */
static lt_status read_repeated(const char *head, const char *body, size_t body_size,
    size_t count, const char *tail, lt_error *err)
{
    size_t h = strlen(head), t = strlen(tail), size = h + body_size * count + t;
    unsigned char *bytes = malloc(size);
    lt_pickle p = { 0 };
    lt_cursor c;
    lt_value *root;
    memcpy(bytes, head, h);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + h + i * body_size, body, body_size);
    memcpy(bytes + size - t, tail, t);
    lt_cursor_memory(&c, bytes, size, 0, err);
    lt_status st = lt_pickle_read(&p, &c, &root, err);
    lt_pickle_release(&p);
    free(bytes);
    return st;
}

static void test_ceilings(void)
{
    static const struct {
        const char *head, *body;
        size_t body_size, most;
        const char *tail, *message;
    } rows[] = {
        { "N", "(0", 2, 3 * LT_MAX_PICKLE_MARKS, ".", NULL }, /* never many at once */
        { "", "(", 1, LT_MAX_PICKLE_MARKS, "1N.", "marks" },
        { "(", "N", 1, LT_MAX_PICKLE_STACK, "1N.", "stack" },
        { "", "]0", 2, LT_MAX_PICKLE_VALUES, "N.", "values" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lt_error err = LT_ERROR_INIT;
        if (rows[i].message) {
            CHECK(read_repeated(rows[i].head, rows[i].body, rows[i].body_size,
                      rows[i].most + 1, "", &err)
                == LT_ERR_LIMIT);
            CHECK(strstr(err.msg, rows[i].message));
        }
        /* At the ceiling it goes on, to whatever stands behind. */
        lt_status st = read_repeated(rows[i].head, rows[i].body, rows[i].body_size,
            rows[i].most, rows[i].tail, &err);
        CHECK(rows[i].message ? st != LT_ERR_LIMIT : !st);
    }
    char number[64];
    snprintf(number, sizeof number, "Np%u\n.", LT_MAX_PICKLE_MEMO - 1);
    lt_error err = LT_ERROR_INIT;
    CHECK(!read_repeated(number, "", 0, 0, "", &err));
    snprintf(number, sizeof number, "Np%u\n.", LT_MAX_PICKLE_MEMO);
    CHECK(read_repeated(number, "", 0, 0, "", &err) == LT_ERR_LIMIT);
    CHECK(!read_repeated("V", "a", 1, LT_MAX_PICKLE_STRING, "\n.", &err));
    CHECK(read_repeated("V", "a", 1, LT_MAX_PICKLE_STRING + 1, "\n.", &err)
        == LT_ERR_LIMIT);
    char line[67] = "F"; /* 65 bytes that leave little behind */
    memset(line + 1, '0', 62);
    memcpy(line + 63, "\n0", 2);
    CHECK(!read_repeated("N", line, 65, LT_MAX_PICKLE_SIZE / 65 - 1, ".", &err));
    CHECK(read_repeated("N", line, 65, LT_MAX_PICKLE_SIZE / 65 + 1, ".", &err)
        == LT_ERR_LIMIT);
}

static void test_several_in_a_row(void)
{
    static const char bytes[] = "K\1.K\2q\0.h\0.";
    lt_pickle p = { 0 };
    lt_cursor c;
    lt_value *v;
    lt_error err = LT_ERROR_INIT;
    lt_cursor_memory(&c, bytes, sizeof bytes - 1, 100, &err);
    CHECK(!lt_pickle_read(&p, &c, &v, &err) && v->integer == 1);
    CHECK(lt_cursor_position(&c) == 103);
    CHECK(!lt_pickle_read(&p, &c, &v, &err) && v->integer == 2);
    /* Each has a memo of its own. */
    CHECK(lt_pickle_read(&p, &c, &v, &err) == LT_ERR_FORMAT && err.offset == 108);
    lt_pickle_release(&p);
}

static void test_globals(void)
{
    static const struct {
        const char *module, *name;
        lt_verdict verdict;
        lt_meaning meaning;
        int detail;
    } rows[] = {
        { "collections", "OrderedDict", LT_PLAIN, LT_MEANS_MAP, 0 },
        { "torch._utils", "_rebuild_tensor_v2", LT_PLAIN, LT_MEANS_TENSOR_V2, 0 },
        { "torch", "FloatStorage", LT_PLAIN, LT_MEANS_STORAGE, LT_F32 },
        { "torch.cuda", "HalfStorage", LT_PLAIN, LT_MEANS_STORAGE, LT_F16 },
        { "torch", "QInt8Storage", LT_PLAIN, LT_MEANS_QUANTISED_STORAGE, LT_I8 },
        { "torch.storage", "UntypedStorage", LT_PLAIN, LT_MEANS_UNTYPED_STORAGE, 0 },
        { "torch", "bfloat16", LT_PLAIN, LT_MEANS_DTYPE, LT_BF16 },
        { "torch", "complex128", LT_PLAIN, LT_MEANS_DTYPE, LT_C128 },
        { "numpy._core.multiarray", "scalar", LT_PLAIN, LT_MEANS_DATA, 0 },
        { "numpy.core.multiarray", "_reconstruct", LT_PLAIN, LT_MEANS_DATA, 0 },
        { "torch.nn.parameter", "Parameter", LT_PLAIN, LT_MEANS_PARAMETER, 0 },
        { "os", "system", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "os.path", "join", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "builtins", "eval", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "builtins", "evaluate", LT_UNKNOWN, LT_MEANS_NOTHING, 0 },
        { "osmosis", "system", LT_UNKNOWN, LT_MEANS_NOTHING, 0 },
        { "torch", "load", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "torch.serialization", "load", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "torch.serialization", "_get_layout", LT_PLAIN, LT_MEANS_DATA, 0 },
        { "torch.storage", "_load_from_bytes", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "pathlib", "PosixPath", LT_PLAIN, LT_MEANS_DATA, 0 },
        { "pathlib", "Path.write_text", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "torch.optim.adam", "Adam", LT_UNKNOWN, LT_MEANS_NOTHING, 0 },
        { "code.models", "Net", LT_UNKNOWN, LT_MEANS_NOTHING, 0 },
        /* Through a module that another one imports. */
        { "some", "thing.os.system", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "some", "os.system", LT_DANGEROUS, LT_MEANS_NOTHING, 0 },
        { "some", "os", LT_UNKNOWN, LT_MEANS_NOTHING, 0 },
        { "some.os", "system", LT_UNKNOWN, LT_MEANS_NOTHING, 0 },
    };
    char name[128];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int detail = 0;
        snprintf(name, sizeof name, "%s.%s", rows[i].module, rows[i].name);
        bool ok = lt_global_verdict(name, strlen(rows[i].module)) == rows[i].verdict;
        ok &= lt_global_meaning(name, &detail) == rows[i].meaning;
        if (!CHECK(ok && detail == rows[i].detail)) printf("    %s\n", name);
    }
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_operations),
        TEST(test_truncated_everywhere), TEST(test_refused), TEST(test_ceilings),
        TEST(test_several_in_a_row), TEST(test_globals) };
    return RUN_TESTS(tests);
}
