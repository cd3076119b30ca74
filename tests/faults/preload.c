/* SPDX-License-Identifier: MIT */
/* A library to be preloaded, in whose presence one call of a program fails. It is told by
 * the environment:
 *
 * FAULT_CLASS: classes of calls, as below, separated by commas.
 *
 * FAULT_AT: which call of these classes, counted from 1.
 *
 * FAULT_FOR: how many calls from there on; absent: 1; 0: all.
 *
 * FAULT_DO: what happens. The name of an errno: the call fails and does nothing. "short":
 * half of what was asked for. "eof": there is nothing left to read. "signal=N": the
 * process gets that signal, then the call is made. "truncate=FILE", "touch=FILE": that
 * file is cut to half, or the first and the last value of it changed, then the call is
 * made.
 *
 * FAULT_COUNTS: a file that gets a line "CLASS CALLS" for each class, "injected N" and
 * "leaked N" when the program ends by itself: blocks that it, cJSON or libzip asked for
 * and that were not given back.
 *
 * FAULT_ASKER: a file that gets the path of the program or library that asked for memory
 * which was refused, once in a row.
 *
 * Calls that libraries make count as well (of those that are not the C library's own),
 * and allocations whoever makes them. Counting starts just before main. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum class {
    ALLOC,    /* by the program, cJSON or libzip */
    LIBALLOC, /* by other libraries */
    OPEN,
    TEMP,
    READ,
    WRITE,
    COPY,
    SYNC,
    SYNCDIR, /* of a folder */
    RENAME,
    RENAME2,
    LINK,
    REMOVE,
    CLOSE,
    MKDIR,
    STAT,
    LIST,
    PATH,
    MODE,
    THREAD,
    LOAD,
    CLASSES
};

static const char *const class_names[CLASSES] = { "alloc", "liballoc", "open", "temp",
    "read", "write", "copy", "sync", "syncdir", "rename", "rename2", "link", "remove",
    "close", "mkdir", "stat", "list", "path", "mode", "thread", "load" };

static const struct {
    const char *name;
    int value;
} errnos[] = { { "EIO", EIO }, { "ENOSPC", ENOSPC }, { "EINTR", EINTR },
    { "ENOMEM", ENOMEM }, { "EACCES", EACCES }, { "EROFS", EROFS }, { "EDQUOT", EDQUOT },
    { "EMFILE", EMFILE }, { "EXDEV", EXDEV }, { "EOPNOTSUPP", EOPNOTSUPP },
    { "EINVAL", EINVAL }, { "EAGAIN", EAGAIN } };

static _Atomic unsigned long counts[CLASSES], matching, injected;
static bool armed, chosen[CLASSES];
static unsigned long first, span = 1;
static int fail_with, signal_to_send;
static bool make_short, at_end;
static const char *to_truncate, *to_touch;
static int counts_fd = -1, asker_fd = -1, spoiled_fd = -1;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static unsigned long leaked(void);
static void *program_base;

/* ---- what was asked for ------------------------------------------------------------ */

static void choose_classes(const char *list)
{
    for (int c = 0; c < CLASSES; c++) {
        size_t n = strlen(class_names[c]);
        for (const char *p = list; (p = strstr(p, class_names[c])) != NULL; p += n)
            chosen[c] |= (p == list || p[-1] == ',') && (!p[n] || p[n] == ',');
    }
}

static void choose_action(const char *what)
{
    for (size_t i = 0; i < sizeof errnos / sizeof *errnos; i++)
        if (!strcmp(what, errnos[i].name)) fail_with = errnos[i].value;
    make_short = !strcmp(what, "short");
    at_end = !strcmp(what, "eof");
    if (!strncmp(what, "signal=", 7)) signal_to_send = atoi(what + 7);
    if (!strncmp(what, "truncate=", 9)) to_truncate = what + 9;
    if (!strncmp(what, "touch=", 6)) to_touch = what + 6;
    bool known =
        fail_with || make_short || at_end || signal_to_send || to_truncate || to_touch;
    if (known) return;
    fprintf(stderr, "preload: FAULT_DO=%s means nothing\n", what);
    _exit(99);
}

/* Opened before the program gives up to open such files, and out of its numbers' way. */
static int open_early(const char *path, int flags)
{
    if (!path) return -1;
    long fd = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
    long moved = fd < 0 ? -1 : syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 500);
    if (moved < 0) _exit(99);
    syscall(SYS_close, fd);
    return (int)moved;
}

/* The program is the first object there is. */
static int find_program(struct dl_phdr_info *info, size_t size, void *ctx)
{
    Dl_info who;
    (void)size, (void)ctx;
    if (dladdr((void *)(info->dlpi_addr + info->dlpi_phdr[0].p_vaddr), &who))
        program_base = who.dli_fbase;
    return 1;
}

__attribute__((constructor)) static void start(void)
{
    const char *list = getenv("FAULT_CLASS"), *what = getenv("FAULT_DO");
    const char *at = getenv("FAULT_AT"), *how_many = getenv("FAULT_FOR");
    counts_fd = open_early(getenv("FAULT_COUNTS"), O_WRONLY | O_CREAT | O_TRUNC);
    asker_fd = open_early(getenv("FAULT_ASKER"), O_WRONLY | O_CREAT | O_APPEND);
    if (list) choose_classes(list);
    if (what) choose_action(what);
    spoiled_fd = open_early(to_truncate ? to_truncate : to_touch, O_RDWR);
    if (at) first = strtoul(at, NULL, 10);
    if (how_many) span = strtoul(how_many, NULL, 10);
    dl_iterate_phdr(find_program, NULL);
    armed = true;
}

__attribute__((destructor)) static void finish(void)
{
    char text[1024];
    int n = 0;
    armed = false;
    if (counts_fd < 0) return;
    for (int c = 0; c < CLASSES; c++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %lu\n", class_names[c],
            (unsigned long)counts[c]);
    n += snprintf(text + n, sizeof text - (size_t)n, "injected %lu\nleaked %lu\n",
        (unsigned long)injected, leaked());
    if (syscall(SYS_write, counts_fd, text, (size_t)n) != n) _exit(99);
}

/* ---- when it happens --------------------------------------------------------------- */

/* Values of any type become others, but no float an infinity that was of common size. */
static void change_value(off_t at)
{
    unsigned char value[4];
    if (syscall(SYS_pread64, spoiled_fd, value, sizeof value, at) != sizeof value)
        _exit(99);
    for (size_t i = 0; i < sizeof value; i++)
        value[i] ^= 0x20;
    if (syscall(SYS_pwrite64, spoiled_fd, value, sizeof value, at) != sizeof value)
        _exit(99);
}

/* Changes a file behind the program's back, without the calls that are counted. What was
 * read before and what is read after differ then, unless it all was one tensor. */
static void spoil(void)
{
    struct stat sb;
    uint64_t header = 0;
    if (syscall(SYS_fstat, spoiled_fd, &sb)) _exit(99);
    if (to_truncate) {
        if (syscall(SYS_ftruncate, spoiled_fd, sb.st_size / 2)) _exit(99);
        return;
    }
    if (syscall(SYS_pread64, spoiled_fd, &header, 8, 0) != 8) _exit(99);
    bool is_safetensors = header < (uint64_t)sb.st_size - 16;
    if (is_safetensors) change_value((off_t)(8 + header));
    change_value(sb.st_size - 4);
}

/* True when this call is to go wrong. */
static bool hit(enum class c)
{
    if (!armed) return false;
    counts[c]++;
    if (!chosen[c] || !first) return false;
    unsigned long n = ++matching;
    if (n < first || (span && n >= first + span)) return false;
    injected++;
    if (signal_to_send) {
        syscall(SYS_kill, (int)syscall(SYS_getpid), signal_to_send);
        return false;
    }
    if (to_truncate || to_touch) {
        spoil();
        return false;
    }
    return true;
}

/* The same for a call that moves *size bytes: it may be cut short. */
static bool hit_bytes(enum class c, size_t *size)
{
    if (!hit(c)) return false;
    if (!make_short) return true;
    *size = *size > 1 ? *size / 2 : *size;
    return false;
}

static int fail(void)
{
    errno = fail_with;
    return -1;
}

#define REAL(name)                 \
    static __typeof__(name) *real; \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

/* ---- memory ------------------------------------------------------------------------ */

/* Writes down which library the return address is of. */
static void *refuse(void *caller)
{
    static const char *last;
    Dl_info who;
    errno = ENOMEM;
    if (asker_fd < 0 || !dladdr(caller, &who) || who.dli_fname == last) return NULL;
    last = who.dli_fname;
    if (syscall(SYS_write, asker_fd, last, strlen(last)) < 0
        || syscall(SYS_write, asker_fd, "\n", 1) < 0)
        _exit(99);
    errno = ENOMEM;
    return NULL;
}

/* Blocks that the program or a library that keeps nothing for itself asked for and that
 * are not given back: what is left at the end has leaked. Open addressing; a block that
 * finds no room is not watched. */
#define WATCHED (1u << 18)

static _Atomic(void *) watched[WATCHED];

static size_t slot_of(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * 2654435761u) % WATCHED;
}

static bool is_ours(void *caller)
{
    Dl_info who;
    if (!armed || !dladdr(caller, &who)) return false;
    return who.dli_fbase == program_base || strstr(who.dli_fname, "/libcjson.")
        || strstr(who.dli_fname, "/libzip.");
}

static void *watch(void *p, void *caller)
{
    if (!p || counts_fd < 0 || !is_ours(caller)) return p;
    for (size_t i = 0; i < WATCHED; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(
                &watched[(slot_of(p) + i) % WATCHED], &none, p))
            break;
    }
    return p;
}

/* An empty slot does not end the search: what stood there may be gone already. */
static bool unwatch(void *p)
{
    for (size_t i = 0; p && i < 64; i++) {
        void *mine = p;
        if (atomic_compare_exchange_strong(
                &watched[(slot_of(p) + i) % WATCHED], &mine, NULL))
            return true;
    }
    return false;
}

static unsigned long leaked(void)
{
    unsigned long n = 0;
    for (size_t i = 0; i < WATCHED; i++)
        n += atomic_load(&watched[i]) != NULL;
    return n;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    return hit(is_ours(CALLER) ? ALLOC : LIBALLOC) ? refuse(CALLER)
                                                   : watch(__libc_malloc(size), CALLER);
}

void *calloc(size_t n, size_t size)
{
    return hit(is_ours(CALLER) ? ALLOC : LIBALLOC)
        ? refuse(CALLER)
        : watch(__libc_calloc(n, size), CALLER);
}

void *realloc(void *p, size_t size)
{
    if (hit(is_ours(CALLER) ? ALLOC : LIBALLOC)) return refuse(CALLER);
    bool ours = unwatch(p);
    void *q = __libc_realloc(p, size);
    if (!q && ours) watch(p, CALLER);
    return watch(q, CALLER);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return hit(is_ours(CALLER) ? ALLOC : LIBALLOC)
        ? refuse(CALLER)
        : watch(__libc_memalign(alignment, size), CALLER);
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
    if (hit(is_ours(CALLER) ? ALLOC : LIBALLOC)) {
        refuse(CALLER);
        return ENOMEM;
    }
    *p = __libc_memalign(alignment, size);
    return *p ? 0 : ENOMEM;
}

void free(void *p)
{
    unwatch(p);
    __libc_free(p);
}

/* ---- files ------------------------------------------------------------------------- */

#define CREATES(flags) ((flags)&O_CREAT || ((flags)&O_TMPFILE) == O_TMPFILE)

#define OPENER(name)                                                                 \
    int name(const char *path, int flags, ...)                                       \
    {                                                                                \
        REAL(name);                                                                  \
        mode_t mode = 0;                                                             \
        if (CREATES(flags)) {                                                        \
            va_list ap;                                                              \
            va_start(ap, flags);                                                     \
            mode = va_arg(ap, mode_t);                                               \
            va_end(ap);                                                              \
        }                                                                            \
        return hit(CREATES(flags) ? TEMP : OPEN) ? fail() : real(path, flags, mode); \
    }
OPENER(open)
OPENER(open64)

/* A call that returns int and takes its arguments as they are. */
#define FALLIBLE(class, name, declared, passed)   \
    int name declared                             \
    {                                             \
        REAL(name);                               \
        return hit(class) ? fail() : real passed; \
    }
FALLIBLE(TEMP, mkstemp64, (char *t), (t))
FALLIBLE(TEMP, mkstemps64, (char *t, int n), (t, n))
FALLIBLE(SYNC, fdatasync, (int fd), (fd))
FALLIBLE(SYNC, sync_file_range, (int fd, off64_t a, off64_t n, unsigned f), (fd, a, n, f))

int fsync(int fd)
{
    REAL(fsync);
    struct stat sb;
    bool folder = !syscall(SYS_fstat, fd, &sb) && S_ISDIR(sb.st_mode);
    return hit(folder ? SYNCDIR : SYNC) ? fail() : real(fd);
}

FALLIBLE(RENAME, rename, (const char *a, const char *b), (a, b))
FALLIBLE(RENAME2, renameat2, (int x, const char *a, int y, const char *b, unsigned f),
    (x, a, y, b, f))
FALLIBLE(LINK, link, (const char *a, const char *b), (a, b))
FALLIBLE(REMOVE, unlink, (const char *p), (p))
FALLIBLE(REMOVE, rmdir, (const char *p), (p))
FALLIBLE(MKDIR, mkdir, (const char *p, mode_t m), (p, m))
FALLIBLE(STAT, stat64, (const char *p, struct stat64 *s), (p, s))
FALLIBLE(STAT, lstat64, (const char *p, struct stat64 *s), (p, s))
FALLIBLE(STAT, fstat64, (int fd, struct stat64 *s), (fd, s))
FALLIBLE(STAT, fstatat64, (int d, const char *p, struct stat64 *s, int f), (d, p, s, f))
FALLIBLE(STAT, access, (const char *p, int m), (p, m))
FALLIBLE(MODE, chmod, (const char *p, mode_t m), (p, m))
FALLIBLE(MODE, fchmod, (int fd, mode_t m), (fd, m))
FALLIBLE(OPEN, dup, (int fd), (fd))

/* What fails to close is closed all the same. */
int close(int fd)
{
    REAL(close);
    bool fails = hit(CLOSE);
    int rc = real(fd);
    return fails ? fail() : rc;
}

FILE *fopen64(const char *path, const char *mode)
{
    REAL(fopen64);
    if (!hit(OPEN)) return real(path, mode);
    fail();
    return NULL;
}

char *mkdtemp(char *t)
{
    REAL(mkdtemp);
    if (!hit(MKDIR)) return real(t);
    fail();
    return NULL;
}

char *realpath(const char *path, char *resolved)
{
    REAL(realpath);
    if (!hit(PATH)) return real(path, resolved);
    fail();
    return NULL;
}

#define MOVER(class, name, declared, passed)              \
    ssize_t name declared                                 \
    {                                                     \
        REAL(name);                                       \
        if (!hit_bytes(class, &size)) return real passed; \
        return at_end ? 0 : fail();                       \
    }
MOVER(READ, read, (int fd, void *p, size_t size), (fd, p, size))
MOVER(READ, pread64, (int fd, void *p, size_t size, off64_t at), (fd, p, size, at))
MOVER(WRITE, write, (int fd, const void *p, size_t size), (fd, p, size))
MOVER(
    WRITE, pwrite64, (int fd, const void *p, size_t size, off64_t at), (fd, p, size, at))
MOVER(COPY, copy_file_range,
    (int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags),
    (in, from, out, to, size, flags))

/* ---- folders, threads, libraries --------------------------------------------------- */

DIR *opendir(const char *path)
{
    REAL(opendir);
    if (!hit(LIST)) return real(path);
    fail();
    return NULL;
}

struct dirent64 *readdir64(DIR *dir)
{
    REAL(readdir64);
    if (!hit(LIST)) return real(dir);
    fail();
    return NULL;
}

int pthread_create(
    pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
    REAL(pthread_create);
    return hit(THREAD) ? fail_with : real(id, attributes, run, arg);
}

void *dlopen(const char *path, int flags)
{
    REAL(dlopen);
    return hit(LOAD) ? NULL : real(path, flags);
}
