/* SPDX-License-Identifier: MIT */
/* A small test runner: CHECK counts, a test is a function, main is RUN_TESTS. */
#ifndef LT_TESTS_RUNNER_H
#define LT_TESTS_RUNNER_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct unit_test {
    const char *name;
    void (*run)(void);
} unit_test;

/* Records and prints a failure; the test goes on. Returns ok. */
bool unit_check(bool ok, const char *file, int line, const char *what);
int unit_run(const unit_test *tests, size_t count);

#define CHECK(cond) unit_check((cond), __FILE__, __LINE__, #cond)
#define CHECK_STR(a, b)                                              \
    (unit_check(!strcmp((a), (b)), __FILE__, __LINE__, #a " is " #b) \
            ? true                                                   \
            : (printf("    got '%s'\n", (a)), false))
#define TEST(fn) \
    {            \
#fn, fn  \
    }
#define RUN_TESTS(tests) unit_run(tests, sizeof tests / sizeof *tests)

#endif
