/* SPDX-License-Identifier: MIT */
/* What the sandbox takes away and what it leaves, in a child that has entered it. */
#include "runner.h"

#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NONE = 77 };

static void *add_one(void *number)
{
    ++*(int *)number;
    return NULL;
}

/* The number of the first expectation that does not hold; 0 when all do. */
static int inside(void)
{
    pthread_t thread;
    int number = 1;
    char word[] = "true", *args[] = { word, NULL }, *none[] = { NULL };
    if (!lt_sandbox_enter()) return NONE;
    if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EPERM) return 1;
    if (socket(AF_UNIX, SOCK_STREAM, 0) != -1 || errno != EPERM) return 2;
    if (execve("/bin/true", args, none) != -1 || errno != EPERM) return 3;
    if (fork() != -1 || errno != EPERM) return 4;
    if (system("true") != -1 && system("true") == 0) return 5;
    if (pthread_create(&thread, NULL, add_one, &number)) return 6;
    if (pthread_join(thread, NULL) || number != 2) return 7;
    int fd = open("/dev/null", O_RDWR);
    if (fd < 0 || write(fd, "x", 1) != 1 || close(fd)) return 8;
    if (!lt_sandbox_enter()) return 9; /* twice does no harm */
    return 0;
}

static void test_sandbox(void)
{
    int status = 0;
    pid_t child = fork();
    if (!child) _exit(inside());
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status) == NONE) {
        printf("    the system has none, or this is a sanitizer's build\n");
        return;
    }
    if (!CHECK(WEXITSTATUS(status) == 0))
        printf("    expectation %d does not hold\n", WEXITSTATUS(status));
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_sandbox) };
    return RUN_TESTS(tests);
}
