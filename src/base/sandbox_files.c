/* SPDX-License-Identifier: MIT */
/* Where files may change: Landlock, landlock(7), by system calls since the C library has
 * none. Constants later than Linux 6.1's headers are those of <linux/landlock.h> of 6.12.
 */
#define _GNU_SOURCE /* O_PATH */
#include "base/sandbox.h"

#if defined(__linux__) && __has_include(<linux/landlock.h>) && !defined(LT_SANITIZED) \
    && !defined(LT_COVERAGE)

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER /* from version 2 */
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE /* from version 3 */
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define SCOPE_SIGNAL (1ULL << 1) /* from version 6: to processes outside */

struct ruleset {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

/* What an output's folder is for; links, pipes and devices are made nowhere. */
static const uint64_t making = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG
    | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE
    | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER
    | LANDLOCK_ACCESS_FS_TRUNCATE;
static const uint64_t nowhere = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR
    | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO
    | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;

/* A folder that is not there needs no rule: nothing can be made in it. */
static bool allow(int ruleset, const char *folder, uint64_t access)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = access,
        .parent_fd = open(folder, O_PATH | O_CLOEXEC | O_DIRECTORY) };
    if (rule.parent_fd < 0) return errno == ENOENT;
    long rc =
        syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent_fd);
    return !rc;
}

/* The output itself when it is a folder; else the one that it, or what it is a link to,
 * is or will be in. */
static bool allow_output(int ruleset, const char *output, uint64_t access)
{
    char folder[PATH_MAX];
    struct stat sb;
    if (!realpath(output, folder)) {
        size_t n = strlen(output);
        if (n >= sizeof folder - 1) return true; /* no such name can be made */
        memcpy(folder, output, n + 1);
    }
    if (!stat(folder, &sb) && S_ISDIR(sb.st_mode)) return allow(ruleset, folder, access);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        folder[--n] = '\0';
    char *slash = strrchr(folder, '/');
    if (!slash) return allow(ruleset, ".", access);
    slash[slash == folder] = '\0';
    return allow(ruleset, folder, access);
}

bool lt_sandbox_files(const char *output)
{
    const char *tmp = getenv("TMPDIR");
    long version =
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 2) return false; /* version 1 forbids renames that we make */
    uint64_t allowed = making;
    if (version < 3) allowed &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
    struct ruleset attr = { .handled_access_fs = allowed | nowhere,
        .scoped = version < 6 ? 0 : SCOPE_SIGNAL };
    size_t size = version < 6 ? sizeof attr.handled_access_fs : sizeof attr;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0) return false;
    uint64_t scratch = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG
        | LANDLOCK_ACCESS_FS_REMOVE_FILE;
    bool done = allow(ruleset, tmp && *tmp ? tmp : "/tmp", scratch)
        && (!output || allow_output(ruleset, output, allowed))
        && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        && !syscall(SYS_landlock_restrict_self, ruleset, 0);
    close(ruleset);
    return done;
}

#else

bool lt_sandbox_files(const char *output)
{
    (void)output;
    return false;
}

#endif
