/* SPDX-License-Identifier: MIT */
/* What the sandbox takes away and what it leaves, in children that have entered it. */
#define _GNU_SOURCE /* prlimit */
#include "runner.h"

#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NONE = 77 };

static void *add_one(void *number)
{
    ++*(int *)number;
    return NULL;
}

/* Calls that the filter does not know: fchmodat2, the first, would be a way around it. */
static int younger(void)
{
    for (long call = 452; call < 600; call++)
        if (syscall(call, AT_FDCWD, "/dev/null", 0666, 0, 0, 0) != -1 || errno != ENOSYS)
            return 92;
    return 0;
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
    if (kill(getppid(), 0) != -1 || errno != EPERM) return 10;
    if (chmod("/dev/null", 0666) != -1 || errno != EPERM) return 11;
    char key = 'x'; /* what is no terminal cannot do that: another error */
    int none_such = open("/dev/null", O_RDWR);
    if (ioctl(none_such, TIOCSTI, &key) != -1 || errno != EPERM) return 12;
    if (isatty(none_such) || errno != ENOTTY) return 13;
    if (raise(0) || kill(getpid(), 0)) return 14;
#ifdef SYS_pidfd_open
    if (syscall(SYS_pidfd_open, getppid(), 0) != -1 || errno != EPERM) return 15;
#endif
    if (fcntl(none_such, F_SETOWN, getppid()) != -1 || errno != EPERM) return 16;
    if (fcntl(none_such, F_GETFL) < 0 || fcntl(none_such, F_SETFL, 0)) return 17;
    if (shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) != -1 || errno != EPERM) return 18;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || setrlimit(RLIMIT_NOFILE, &limit)) return 19;
    if (prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit) != -1 || errno != EPERM)
        return 90;
    if (utimensat(AT_FDCWD, "/dev/null", NULL, 0) != -1 || errno != EPERM) return 91;
    return younger();
}

static void expect_all(int (*expectations)(void))
{
    int status = 0;
    pid_t child = fork();
    if (!child) _exit(expectations());
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status) == NONE) {
        printf("    the system has none, or this is a sanitizer's build\n");
        return;
    }
    if (!CHECK(WEXITSTATUS(status) == 0))
        printf("    expectation %d does not hold\n", WEXITSTATUS(status));
}

static void test_sandbox(void)
{
    expect_all(inside);
}

/* ---- files: a folder "out" for outputs, one "other", "old" and "down/" in each ------
 */

static char folder[256], tmp[300];
static bool filtered; /* the filter of calls, too */

static const char *in(const char *where, const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    size_t n = (size_t)snprintf(path, sizeof *paths, "%s/%s%s", folder, where, name);
    if (n && path[n - 1] == '/' && !*name) path[n - 1] = '\0'; /* links: no slash */
    return path;
}

static bool holds(const char *path, const char *text)
{
    char room[64] = "";
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, room, sizeof room - 1);
    if (fd >= 0) close(fd);
    return n >= 0 && !strcmp(room, text);
}

static bool put(const char *path, int flags, const char *text)
{
    int fd = open(path, O_WRONLY | flags, 0666);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) close(fd);
    return done;
}

/* What the output modules do. */
static int at_home(void)
{
    if (!put(in("out", "/new"), O_CREAT | O_EXCL, "new")) return 20;
    if (rename(in("out", "/new"), in("out", "/old"))) return 21;
    if (!holds(in("out", "/old"), "new")) return 22;
    if (mkdir(in("out", "/made"), 0777)) return 23;
    if (!put(in("out", "/made/a"), O_CREAT, "a")) return 24;
    if (link(in("out", "/made/a"), in("out", "/made/b"))) return 25;
    if (rename(in("out", "/made"), in("out", "/named"))) return 26;
    if (unlink(in("out", "/named/a")) || unlink(in("out", "/named/b"))) return 27;
    if (rmdir(in("out", "/named"))) return 28;
    return 0;
}

static void *write_abroad(void *unused)
{
    (void)unused;
    return put(in("other", "/old"), 0, "x") ? folder : NULL;
}

/* What must be as it was. */
static int abroad(void)
{
    pthread_t thread;
    void *written = NULL;
    if (put(in("other", "/new"), O_CREAT | O_EXCL, "new")) return 40;
    if (put(in("other", "/old"), 0, "x") || put(in("other", "/old"), O_TRUNC, ""))
        return 41;
    if (!rename(in("out", "/old"), in("other", "/old"))) return 42;
    if (!rename(in("other", "/old"), in("out", "/taken"))) return 43;
    if (!rename(in("other", "/old"), in("other", "/moved"))) return 44;
    if (!link(in("other", "/old"), in("out", "/linked"))) return 45;
    if (!unlink(in("other", "/old")) || !rmdir(in("other", "/down"))) return 46;
    if (!mkdir(in("other", "/made"), 0777)) return 47;
    if (!symlink("old", in("other", "/link"))) return 48;
    if (!symlink("old", in("out", "/link"))) return 49;
    if (put(in("other", "/../old"), 0, "x")) return 51;
    if (pthread_create(&thread, NULL, write_abroad, NULL)) return 52;
    if (pthread_join(thread, &written) || written) return 53;
    if (!holds(in("other", "/old"), "old")) return 54; /* read it may be */
    return 0;
}

/* That a call was refused: with the filter of calls, by it. */
static bool refused(long result)
{
    return result < 0 && (!filtered || errno == EPERM);
}

/* A file elsewhere made empty in all ways there are. The kernel's own rules know of it
 * from their version 3 on (Linux 6.2); the filter of calls does everywhere. */
static int emptied(void)
{
    const char *old = in("other", "/old");
    struct {
        uint64_t flags, mode, resolve;
    } how = { O_RDONLY | O_TRUNC, 0, 0 };
    if (!filtered && syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 3) return 0;
    if (!refused(truncate(old, 0))) return 60;
    if (!refused(open(old, O_RDONLY | O_TRUNC))) return 61;
    if (!refused(open(old, O_WRONLY | O_CREAT | O_TRUNC, 0666))) return 62;
    if (!refused(creat(old, 0666))) return 63;
#ifdef SYS_creat
    if (!refused(syscall(SYS_creat, old, 0666))) return 64;
    if (!refused(syscall(SYS_open, old, O_RDONLY | O_TRUNC))) return 65;
#endif
    if (syscall(437 /* openat2 */, AT_FDCWD, old, &how, sizeof how) >= 0) return 66;
    return holds(old, "old") ? 0 : 67;
}

static bool enter(const char *output)
{
    setenv("TMPDIR", tmp, 1);
    return lt_sandbox_files(output) && (!filtered || lt_sandbox_enter());
}

/* By a file that is there, one that is not, a folder, a link from elsewhere. */
static int with_output(const char *output)
{
    if (!enter(output)) return NONE;
    int bad = at_home();
    if (!bad) bad = abroad();
    if (!bad) bad = emptied();
    if (bad) return bad;
    return put(in("tmp", "/scratch"), O_CREAT, "s") && !unlink(in("tmp", "/scratch"))
        ? 0
        : 70;
}

static int by_old_file(void)
{
    return with_output(in("out", "/old"));
}

static int by_new_file(void)
{
    return with_output(in("out", "/not-there"));
}

static int by_folder(void)
{
    return with_output(in("out", "/"));
}

static int by_new_folder(void)
{
    return with_output(in("out", "/not-there//"));
}

static int by_link(void)
{
    return with_output(in("other", "/to-out"));
}

static int by_bare_name(void)
{
    return chdir(in("out", "")) ? 80 : with_output("not-there");
}

static int without_output(void)
{
    if (!enter(NULL)) return NONE;
    if (put(in("out", "/old"), 0, "x")) return 81;
    int bad = abroad();
    return bad ? bad : emptied();
}

static void test_files(void)
{
    static int (*const ways[])(void) = { by_old_file, by_new_file, by_folder,
        by_new_folder, by_link, by_bare_name, without_output };
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/loratool-sandbox.XXXXXX",
        temporary && *temporary ? temporary : "/tmp");
    if (!CHECK(mkdtemp(folder) != NULL)) return;
    snprintf(tmp, sizeof tmp, "%s", in("tmp", ""));
    CHECK(!mkdir(tmp, 0777));
    CHECK(!mkdir(in("out", ""), 0777) && !mkdir(in("other", ""), 0777));
    CHECK(!mkdir(in("other", "/down"), 0777));
    CHECK(put(in("other", "/old"), O_CREAT, "old") && put(in("", "old"), O_CREAT, "old"));
    CHECK(!symlink(in("out", "/old"), in("other", "/to-out")));
    enum { WAYS = sizeof ways / sizeof *ways };
    for (size_t i = 0; i < (size_t)2 * WAYS; i++) {
        filtered = i >= WAYS;
        CHECK(put(in("out", "/old"), O_CREAT | O_TRUNC, "old"));
        expect_all(ways[i % WAYS]);
        CHECK(holds(in("other", "/old"), "old") && holds(in("", "old"), "old"));
    }
    static const char *const files[] = { "out/old", "other/old", "other/to-out", "old" };
    static const char *const folders[] = { "tmp", "out", "other/down", "other", "" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        CHECK(!unlink(in(files[i], "")));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        CHECK(!rmdir(in(folders[i], "")));
}

int main(void)
{
    static const unit_test tests[] = { TEST(test_sandbox), TEST(test_files) };
    return RUN_TESTS(tests);
}
