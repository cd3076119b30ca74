/* SPDX-License-Identifier: MIT */
#include "base/source.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lt_source {
    int fd;
    uint64_t size;
    struct timespec written;
    char path[];
};

lt_status lt_path_look(const char *path, lt_path_kind *kind, lt_error *err)
{
    struct stat sb;
    *kind = LT_PATH_NONE;
    if (stat(path, &sb)) {
        if (errno == ENOENT || errno == ENOTDIR) return LT_OK;
        lt_error_sys(err, errno, "cannot look at it: %s", strerror(errno));
        lt_error_where(err, "%s", path);
        return LT_ERR_IO;
    }
    *kind = S_ISREG(sb.st_mode) ? LT_PATH_FILE
        : S_ISDIR(sb.st_mode)   ? LT_PATH_FOLDER
                                : LT_PATH_OTHER;
    return LT_OK;
}

bool lt_is_folder(const char *path)
{
    lt_path_kind kind;
    return !lt_path_look(path, &kind, NULL) && kind == LT_PATH_FOLDER;
}

static lt_status write_all(int fd, const char *p, size_t n, lt_error *err)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0)
            return lt_error_sys(
                err, errno, "cannot spool the input: %s", strerror(errno));
        p += w;
        n -= (size_t)w;
    }
    return LT_OK;
}

/* Copies a pipe to an unlinked file, so that what follows can read by offset. */
static lt_status spool(int in, int *out, lt_error *err)
{
    size_t chunk = 1 << 20;
    uint64_t total = 0;
    lt_status st = LT_OK;
    int fd = lt_temp_fd(err);
    if (fd < 0) return err ? err->code : LT_ERR_IO;
    char *buf = lt_alloc_work(chunk, 1, err);
    if (!buf) st = LT_ERR_NOMEM;
    while (!st) {
        ssize_t n = read(in, buf, chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = lt_error_sys(err, errno, "cannot read: %s", strerror(errno));
        if (n <= 0) break;
        total += (uint64_t)n;
        if (total > lt_limit(LT_LIMIT_SPOOL_SIZE))
            st = lt_error_at(err, LT_ERR_LIMIT, lt_limit(LT_LIMIT_SPOOL_SIZE),
                "piped input is over %llu bytes", lt_limit(LT_LIMIT_SPOOL_SIZE));
        else
            st = write_all(fd, buf, (size_t)n, err);
    }
    lt_free(buf);
    if (st) {
        close(fd);
        return st;
    }
    *out = fd;
    return LT_OK;
}

/* Whether it can be read by offset; false without an error: it has to be spooled. */
static lt_status check_kind(int fd, bool named, bool *regular, lt_error *err)
{
    struct stat sb;
    if (fstat(fd, &sb))
        return lt_error_sys(err, errno, "cannot stat: %s", strerror(errno));
    if (S_ISDIR(sb.st_mode))
        return lt_error_set(err, LT_ERR_UNSUPPORTED, "is a folder, not a file");
    *regular = S_ISREG(sb.st_mode);
    if (*regular || named) return LT_OK;
    return lt_error_set(err, LT_ERR_FORMAT,
        "is a pipe or a device, which only stands for a file where it is named");
}

static lt_status open_fd(
    const char *path, bool is_stdin, bool named, int *out, lt_error *err)
{
    /* Opening a pipe waits for its other end, or not. */
    int flags = O_RDONLY | O_CLOEXEC | (named ? 0 : O_NONBLOCK);
    int fd = is_stdin ? dup(STDIN_FILENO) : open(path, flags);
    if (fd < 0) return lt_error_sys(err, errno, "cannot open: %s", strerror(errno));
    bool regular = true;
    lt_status st = check_kind(fd, named, &regular, err);
    /* Of a file whose start somebody else has read, standard input is the rest. */
    if (is_stdin && lseek(fd, 0, SEEK_CUR) != 0) regular = false;
    if (!st && regular) {
        *out = fd;
        return LT_OK;
    }
    if (!st) st = spool(fd, out, err);
    close(fd);
    return st;
}

static lt_status new_source(lt_source **out, int fd, const char *shown, lt_error *err)
{
    struct stat sb;
    if (fstat(fd, &sb))
        return lt_error_sys(err, errno, "cannot stat: %s", strerror(errno));
    lt_source *src = malloc(sizeof *src + strlen(shown) + 1);
    if (!src) return lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    src->fd = fd;
    src->size = (uint64_t)sb.st_size;
    src->written = sb.st_mtim;
    memcpy(src->path, shown, strlen(shown) + 1);
    *out = src;
    return LT_OK;
}

static lt_status open_source(lt_source **out, const char *path, bool named, lt_error *err)
{
    *out = NULL;
    bool is_stdin = named && !strcmp(path, "-");
    const char *shown = is_stdin ? "standard input" : path;
    int fd = -1;
    lt_status st = open_fd(path, is_stdin, named, &fd, err);
    if (!st) st = new_source(out, fd, shown, err);
    if (!st) return LT_OK;
    if (fd >= 0) close(fd);
    lt_error_where(err, "%s", shown);
    return st;
}

lt_status lt_source_open(lt_source **out, const char *path, lt_error *err)
{
    return open_source(out, path, true, err);
}

lt_status lt_source_open_found(lt_source **out, const char *path, lt_error *err)
{
    return open_source(out, path, false, err);
}

void lt_source_close(lt_source *src)
{
    if (!src) return;
    close(src->fd);
    free(src);
}

uint64_t lt_source_size(const lt_source *src)
{
    return src->size;
}

const char *lt_source_path(const lt_source *src)
{
    return src->path;
}

int lt_source_fd(const lt_source *src)
{
    return src->fd;
}

lt_status lt_source_read(
    const lt_source *src, uint64_t offset, void *dst, size_t size, lt_error *err)
{
    char *p = dst;
    while (size) {
        ssize_t n = pread(src->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            lt_error_sys(err, errno, "cannot read: %s", strerror(errno));
            if (err) err->offset = offset;
            return LT_ERR_IO;
        }
        if (n == 0)
            return lt_error_at(err, LT_ERR_IO, offset,
                "the file ends early: it was changed while it was read");
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return LT_OK;
}

lt_status lt_source_unchanged(const lt_source *src, lt_error *err)
{
    struct stat sb;
    if (fstat(src->fd, &sb))
        return lt_error_sys(err, errno, "cannot read: %s", strerror(errno));
    bool same = (uint64_t)sb.st_size == src->size
        && sb.st_mtim.tv_sec == src->written.tv_sec
        && sb.st_mtim.tv_nsec == src->written.tv_nsec;
    if (same) return LT_OK;
    return lt_error_set(err, LT_ERR_IO, "the file was changed while it was read");
}

lt_status lt_read_text(
    const char *path, uint64_t limit, char **text, size_t *size, lt_error *err)
{
    lt_source *src = NULL;
    *text = NULL;
    lt_status st = lt_source_open_found(&src, path, err);
    if (!src) return st;
    if (src->size > limit)
        st =
            lt_error_set(err, LT_ERR_LIMIT, "over %llu bytes", (unsigned long long)limit);
    char *p = st ? NULL : calloc(1, (size_t)src->size + 1);
    if (!st && !p) st = lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    if (!st) st = lt_source_read(src, 0, p, (size_t)src->size, err);
    if (!st) {
        *text = p;
        *size = (size_t)src->size;
    } else {
        free(p);
    }
    lt_source_close(src);
    return st ? lt_error_where(err, "%s", path) : LT_OK;
}
