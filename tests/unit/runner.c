/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include "loratool/loratool.h"
#include "tensor/linalg.h"

static size_t checks, failures;

bool unit_check(bool ok, const char *file, int line, const char *what)
{
    checks++;
    if (ok) return true;
    failures++;
    printf("%s:%d: failed: %s\n", file, line, what);
    return false;
}

int unit_run(const unit_test *tests, size_t count)
{
    lt_init();
    CHECK(!lt_linalg_load(NULL));
    for (size_t i = 0; i < count; i++) {
        size_t before = failures, done = checks;
        tests[i].run();
        if (checks == done)
            unit_check(false, tests[i].name, 0, "the test checks nothing");
        printf("%s %s (%zu checks)\n", failures == before ? "ok  " : "FAIL",
            tests[i].name, checks - done);
    }
    printf("%zu checks, %zu failed\n", checks, failures);
    return failures ? 1 : 0;
}
