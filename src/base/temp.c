/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* O_TMPFILE */
#include "base/temp.h"

#include "base/abandon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_TRIES 100
#define LONGEST_NAME 200 /* of NAME_MAX, which is 255 */
#define SUFFIX ".XXXXXX.lt-part"

static lt_status failed(const char *what, lt_error *err)
{
    int sys = errno;
    return lt_error_sys(err, sys, "%s: %s", what, strerror(sys));
}

bool lt_is_unsupported(int sys)
{
    return sys == EINVAL || sys == ENOSYS || sys == EOPNOTSUPP;
}

static bool fill_in(char *letters, size_t n)
{
    static const char alphabet[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    unsigned char random[8];
    if (n > sizeof random || getrandom(random, n, 0) != (ssize_t)n) return false;
    for (size_t i = 0; i < n; i++)
        letters[i] = alphabet[random[i] % (sizeof alphabet - 1)];
    return true;
}

static char *draft_name(const char *path, lt_error *err)
{
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path + 1) : 0;
    size_t room = strlen(path) + sizeof "." SUFFIX;
    char *name = malloc(room);
    if (!name) lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    if (name)
        snprintf(name, room, "%.*s.%.*s" SUFFIX, dir, path, LONGEST_NAME, path + dir);
    return name;
}

static int make_file(const char *name)
{
    return open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static int make_folder(const char *name)
{
    return mkdir(name, 0777);
}

/* What make gives, or -1. The name is remembered before it is there: a signal may come at
 * any time. */
static int make_new(
    char **name, const char *path, int (*make)(const char *), lt_error *err)
{
    *name = draft_name(path, err);
    if (!*name) return -1;
    char *letters = *name + strlen(*name) - strlen(SUFFIX) + 1;
    for (int i = 0; i < MOST_TRIES; i++) {
        if (!fill_in(letters, 6)) break;
        lt_abandon_remember(*name);
        int made = make(*name);
        if (made >= 0) return made;
        lt_abandon_forget(*name);
        if (errno != EEXIST) break;
    }
    failed("cannot create the output", err);
    free(*name);
    *name = NULL;
    return -1;
}

int lt_temp_file(char **name, const char *path, lt_error *err)
{
    return make_new(name, path, make_file, err);
}

lt_status lt_temp_folder(char **name, const char *path, lt_error *err)
{
    if (make_new(name, path, make_folder, err) >= 0) return LT_OK;
    return err ? err->code : LT_ERR_IO;
}

/* Where files need a name it is taken away at once. */
static int open_and_unlink(const char *path, lt_error *err)
{
    char *name;
    int fd = lt_temp_file(&name, path, err);
    if (fd < 0) return -1;
    int rc = unlink(name);
    lt_abandon_forget(name);
    if (rc) failed("cannot unlink a temporary file", err);
    if (rc) close(fd);
    free(name);
    return rc ? -1 : fd;
}

int lt_temp_nameless(const char *path, lt_error *err)
{
    char folder[4096] = ".";
    const char *slash = strrchr(path, '/');
    int n = slash ? snprintf(folder, sizeof folder, "%.*s", (int)(slash - path + 1), path)
                  : 0;
    if (n < 0 || (size_t)n >= sizeof folder) {
        lt_error_set(err, LT_ERR_ARG, "the path is too long");
        return -1;
    }
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    if (lt_is_unsupported(errno) || errno == EISDIR) return open_and_unlink(path, err);
    failed("cannot make a temporary file", err);
    return -1;
}

int lt_temp_fd(lt_error *err)
{
    const char *dir = getenv("TMPDIR");
    if (!dir || !*dir) dir = "/tmp";
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/loratool", dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        lt_error_set(err, LT_ERR_ARG, "TMPDIR is too long");
        return -1;
    }
    int fd = lt_temp_nameless(path, err);
    if (fd < 0) lt_error_where(err, "%s", dir);
    return fd;
}
