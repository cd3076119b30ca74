/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* copy_file_range, renameat2, sync_file_range */
#include "base/outfile.h"

#include "base/abandon.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_CHUNK ((size_t)4 << 20)
#define START_SIZE ((uint64_t)256 << 10)

struct lt_outfile {
    int fd;
    lt_lock *lock; /* one writer at a time: the kernel's own lock of a file spins */
    bool to_stdout, overwrite;
    _Atomic uint64_t end; /* one past the last byte written */
    char *path, *temp;    /* temp is NULL for standard output and after commit */
    enum {
        NOT_PLACED,
        PLACED,    /* nothing was there before, or it is gone */
        EXCHANGED, /* what was there before has the temporary name */
    } state;
};

static lt_outfile *new_outfile(lt_error *err)
{
    lt_outfile *f = calloc(1, sizeof *f);
    if (!f) lt_error_set(err, LT_ERR_NOMEM, "out of memory");
    if (!f) return NULL;
    f->fd = -1;
    if (!lt_lock_new(&f->lock, err)) return f;
    free(f);
    return NULL;
}

static lt_status open_target(lt_outfile *f, lt_error *err)
{
    if (f->to_stdout) {
        if (isatty(STDOUT_FILENO))
            return lt_error_set(
                err, LT_ERR_ARG, "refusing to write binary data to a terminal");
        f->fd = lt_temp_fd(err);
        return f->fd < 0 ? LT_ERR_IO : LT_OK;
    }
    struct stat sb;
    if (!stat(f->path, &sb)) {
        if (S_ISDIR(sb.st_mode))
            return lt_error_set(err, LT_ERR_EXISTS, "the output is a folder");
        if (!S_ISREG(sb.st_mode))
            return lt_error_set(err, LT_ERR_EXISTS, "the output is not a regular file");
        if (!f->overwrite)
            return lt_error_set(
                err, LT_ERR_EXISTS, "the output exists; use -f to overwrite it");
    }
    f->fd = lt_temp_file(&f->temp, f->path, err);
    return f->fd >= 0 ? LT_OK : err ? err->code : LT_ERR_IO;
}

/* Through a symbolic link the file it points to is replaced, not the link. */
static lt_status find_target(lt_outfile *f, const char *path, lt_error *err)
{
    struct stat sb;
    if (!f->to_stdout) {
        f->path = realpath(path, NULL);
        if (!f->path && errno != ENOENT)
            return lt_error_sys(
                err, errno, "cannot create the output: %s", strerror(errno));
        if (!f->path && !lstat(path, &sb))
            return lt_error_set(
                err, LT_ERR_EXISTS, "the output is a link that leads nowhere");
    }
    if (!f->path) f->path = lt_strdup(f->to_stdout ? "standard output" : path, err);
    return f->path ? LT_OK : LT_ERR_NOMEM;
}

lt_status lt_outfile_open(
    lt_outfile **out, const char *path, bool overwrite, lt_error *err)
{
    *out = NULL;
    if (!*path) return lt_error_set(err, LT_ERR_ARG, "the output's name is empty");
    lt_outfile *f = new_outfile(err);
    if (!f) return LT_ERR_NOMEM;
    f->overwrite = overwrite;
    f->to_stdout = !strcmp(path, "-");
    lt_status st = find_target(f, path, err);
    if (!st) st = open_target(f, err);
    if (st) {
        lt_error_where(err, "%s", f->to_stdout ? "standard output" : path);
        lt_outfile_close(f);
        return st;
    }
    *out = f;
    return LT_OK;
}

lt_status lt_outfile_scratch(lt_outfile **out, const lt_outfile *beside, lt_error *err)
{
    *out = NULL;
    lt_outfile *f = new_outfile(err);
    if (!f) return LT_ERR_NOMEM;
    f->path = lt_strdup(beside ? beside->path : "a scratch file", err);
    bool in_folder = beside && !beside->to_stdout;
    if (f->path) f->fd = in_folder ? lt_temp_nameless(f->path, err) : lt_temp_fd(err);
    if (f->fd < 0) {
        if (f->path) lt_error_where(err, "%s", f->path);
        lt_outfile_close(f);
        return err ? err->code : LT_ERR_IO;
    }
    *out = f;
    return LT_OK;
}

static void note_end(lt_outfile *f, uint64_t end)
{
    uint64_t seen = atomic_load(&f->end);
    while (seen < end && !atomic_compare_exchange_weak(&f->end, &seen, end))
        ;
}

static lt_status write_failed(lt_outfile *f, lt_error *err)
{
    int sys = errno;
    lt_error_sys(err, sys, "cannot write: %s", strerror(sys));
    return lt_error_where(err, "%s", f->path);
}

/* Lets the disk begin, so that little is left to do when all is written. */
static void start_writing(const lt_outfile *f, uint64_t offset, uint64_t size)
{
    if (f->temp && size >= START_SIZE)
        sync_file_range(f->fd, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

static bool write_all(lt_outfile *f, uint64_t offset, const char *p, size_t size)
{
    while (size) {
        ssize_t n = pwrite(f->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

lt_status lt_outfile_write(
    lt_outfile *f, uint64_t offset, const void *src, size_t size, lt_error *err)
{
    note_end(f, offset + size);
    lt_lock_take(f->lock);
    bool written = write_all(f, offset, src, size);
    int sys = errno;
    lt_lock_give(f->lock);
    errno = sys;
    if (!written) return write_failed(f, err);
    start_writing(f, offset, size);
    return LT_OK;
}

lt_status lt_outfile_read(
    lt_outfile *f, uint64_t offset, void *dst, size_t size, lt_error *err)
{
    char *p = dst;
    while (size) {
        ssize_t n = pread(f->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            lt_error_sys(err, n ? errno : EIO, "cannot read back what was written: %s",
                n ? strerror(errno) : "it is gone");
            return lt_error_where(err, "%s", f->path);
        }
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return LT_OK;
}

static lt_status copy_through_memory(lt_outfile *f, uint64_t offset, int in,
    uint64_t in_offset, uint64_t size, lt_error *err)
{
    lt_status st = LT_OK;
    char *buf = lt_alloc_work(COPY_CHUNK, 1, err);
    if (!buf) return LT_ERR_NOMEM;
    while (size && !st) {
        ssize_t n =
            pread(in, buf, size < COPY_CHUNK ? size : COPY_CHUNK, (off_t)in_offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            st = lt_error_sys(err, errno, "cannot read: %s", strerror(errno));
        } else if (n == 0) {
            st = lt_error_at(err, LT_ERR_IO, in_offset,
                "the file ends early: it was changed while it was read");
        } else {
            st = lt_outfile_write(f, offset, buf, (size_t)n, err);
            offset += (uint64_t)n;
            in_offset += (uint64_t)n;
            size -= (uint64_t)n;
        }
    }
    lt_free(buf);
    return st;
}

lt_status lt_outfile_copy(lt_outfile *f, uint64_t offset, int in, uint64_t in_offset,
    uint64_t size, lt_error *err)
{
    note_end(f, offset + size);
    off_t from = (off_t)in_offset, to = (off_t)offset;
    while (size) {
        ssize_t n = copy_file_range(in, &from, f->fd, &to, size, 0);
        if (n < 0 && errno == EINTR) continue;
        /* Not supported between these file systems, or not at all: the plain way. */
        if (n <= 0)
            return copy_through_memory(f, (uint64_t)to, in, (uint64_t)from, size, err);
        size -= (uint64_t)n;
    }
    start_writing(f, offset, (uint64_t)to - offset);
    return LT_OK;
}

static lt_status send_to_stdout(lt_outfile *f, lt_error *err)
{
    lt_status st = LT_OK;
    uint64_t end = atomic_load(&f->end), at = 0;
    char *buf = lt_alloc_work(COPY_CHUNK, 1, err);
    if (!buf) return LT_ERR_NOMEM;
    while (at < end && !st) {
        size_t n = end - at < COPY_CHUNK ? (size_t)(end - at) : COPY_CHUNK;
        st = lt_outfile_read(f, at, buf, n, err);
        for (size_t done = 0; done < n && !st;) {
            ssize_t w = write(STDOUT_FILENO, buf + done, n - done);
            if (w < 0 && errno == EINTR) continue;
            if (w < 0)
                st = write_failed(f, err);
            else
                done += (size_t)w;
        }
        at += n;
    }
    lt_free(buf);
    return st;
}

static void sync_folder(const char *path)
{
    char dir[4096] = ".";
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(dir, sizeof dir, "%.*s", (int)(slash - path + 1), path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd); /* best effort: some file systems refuse it for folders */
    close(fd);
}

static int rename_without_clobber(const char *from, const char *to)
{
    int rc = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (rc == 0 || !lt_is_unsupported(errno)) return rc;
    /* A file system without RENAME_NOREPLACE: a hard link refuses an existing name. */
    if (!link(from, to)) return unlink(from);
    if (errno == EEXIST) return -1;
    /* Without those, too (exFAT, network drives mounted by FUSE; each has another error):
     * an empty file takes the name, if it is free, for a moment. */
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return -1;
    close(fd);
    rc = rename(from, to);
    if (!rc) return 0;
    int sys = errno;
    unlink(to);
    errno = sys;
    return rc;
}

lt_status lt_outfile_seal(lt_outfile *f, lt_error *err)
{
    if (f->to_stdout || f->fd < 0) return LT_OK;
    if (fsync(f->fd) && !lt_is_unsupported(errno)) return write_failed(f, err);
    close(f->fd);
    f->fd = -1;
    return LT_OK;
}

static lt_status rename_failed(lt_outfile *f, lt_error *err)
{
    if (errno != EEXIST || f->overwrite) return write_failed(f, err);
    lt_error_set(err, LT_ERR_EXISTS, "the output appeared while it was being made");
    return lt_error_where(err, "%s", f->path);
}

lt_status lt_outfile_commit(lt_outfile *f, lt_error *err)
{
    if (f->to_stdout) return send_to_stdout(f, err);
    lt_status st = lt_outfile_seal(f, err);
    if (st) return st;
    if (!f->temp) return lt_error_set(err, LT_ERR_INTERNAL, "a scratch file has no name");
    int rc = f->overwrite ? rename(f->temp, f->path)
                          : rename_without_clobber(f->temp, f->path);
    if (rc) return rename_failed(f, err);
    f->state = PLACED;
    lt_outfile_settle(f);
    return LT_OK;
}

lt_status lt_outfile_place(lt_outfile *f, lt_error *err)
{
    if (!f->overwrite) {
        if (rename_without_clobber(f->temp, f->path)) return rename_failed(f, err);
        f->state = PLACED;
        return LT_OK;
    }
    if (!access(f->path, F_OK)) {
        /* From the exchange on the temporary name is the old file's: a crash must not
         * take it for what is to go. */
        lt_abandon_forget(f->temp);
        if (!renameat2(AT_FDCWD, f->temp, AT_FDCWD, f->path, RENAME_EXCHANGE)) {
            f->state = EXCHANGED;
            return LT_OK;
        }
        int sys = errno;
        lt_abandon_remember(f->temp);
        errno = sys;
        /* Where the file system cannot exchange names, or it went meanwhile. */
        if (!lt_is_unsupported(sys) && sys != ENOENT) return rename_failed(f, err);
    }
    if (rename(f->temp, f->path)) return rename_failed(f, err);
    f->state = PLACED;
    return LT_OK;
}

void lt_outfile_settle(lt_outfile *f)
{
    if (f->state == EXCHANGED) unlink(f->temp);
    lt_abandon_forget(f->temp);
    free(f->temp);
    f->temp = NULL;
    sync_folder(f->path);
}

/* Takes the new file away again: the temporary name is then that of what is to go. When
 * that cannot be done it is the old one's, which stays. */
static bool take_back(lt_outfile *f)
{
    if (f->state == EXCHANGED)
        return !renameat2(AT_FDCWD, f->temp, AT_FDCWD, f->path, RENAME_EXCHANGE);
    if (f->state == PLACED) rename(f->path, f->temp);
    return true;
}

void lt_outfile_close(lt_outfile *f)
{
    if (!f) return;
    if (f->temp) {
        if (take_back(f)) unlink(f->temp);
        lt_abandon_forget(f->temp);
    }
    if (f->fd >= 0) close(f->fd);
    lt_lock_free(f->lock);
    free(f->temp);
    free(f->path);
    free(f);
}
