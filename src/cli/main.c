/* SPDX-License-Identifier: MIT */
#include "base/sandbox.h"
#include "cli/commands.h"
#include "cli/report.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The product's exit codes; documented in loratool(1). */
static int exit_code(lt_status st)
{
    switch (st) {
    case LT_OK: return 0;
    case LT_ERR_ARG: return 2;
    case LT_ERR_MISMATCH: return 3;
    case LT_ERR_FIDELITY: return 4;
    case LT_ERR_FORMAT:
    case LT_ERR_LIMIT: return 5;
    default: return 1;
    }
}

/* Those that end a process, the last five because of a fault in it or in a library. */
static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGXCPU,
    SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };

#define N_SIGNALS (sizeof signals / sizeof *signals)

static struct sigaction before[N_SIGNALS]; /* what each would do without us */

/* Removes half-written outputs, then lets the signal do what it does. */
static void on_signal(int sig)
{
    lt_abandon_outputs();
    for (size_t i = 0; i < N_SIGNALS; i++)
        if (signals[i] == sig) sigaction(sig, &before[i], NULL);
    raise(sig);
}

static void catch_signals(void)
{
    static char stack[64 << 10]; /* a fault may be that the other one is full */
    sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof stack }, NULL);
    for (size_t i = 0; i < N_SIGNALS; i++) {
        struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
        sigemptyset(&sa.sa_mask);
        /* A shell that ignores a signal for us (nohup) is obeyed. */
        if (sigaction(signals[i], NULL, &before[i]) || before[i].sa_handler == SIG_IGN)
            continue;
        sigaction(signals[i], &sa, NULL);
    }
    /* A file over the size limit is then a failed write, which is told like any other. */
    signal(SIGXFSZ, SIG_IGN);
    /* Libraries that find no memory may call exit. */
    atexit(lt_abandon_outputs);
}

/* Of a standard stream that is closed the next file to be opened would take the number,
 * and be read or written in its place. What stands there now fails when it is used. */
static void occupy_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        int made = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        if (made < 0) made = open("/", O_RDONLY);
        if (made != fd) _exit(1);
    }
}

/* A model may lie in hundreds of files, which are all open at once. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* when it fails, many files are an error later */
}

/* The C library gives blocks of 128 KB and more back to the system at once by default:
 * work memory that comes and goes with every tensor would cost a page fault a page. */
static void keep_small_blocks(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
    mallopt(M_TRIM_THRESHOLD, 32 << 20);
    mallopt(M_TOP_PAD, 2 << 20);
#endif
}

static int usage(FILE *to, int code)
{
    fprintf(to, "usage: loratool COMMAND [OPTION]...\n\n");
    for (const lt_command *const *c = lt_commands; *c; c++)
        fprintf(to, "  %-10s %s\n", (*c)->name, (*c)->summary);
    fprintf(to, "\n'loratool help COMMAND' or 'loratool COMMAND --help' tells more.\n");
    return code;
}

/* Where the system has no sandbox, files are read as safely as without. */
static void give_up(const lt_command *c, const void *options)
{
    const char *output = lt_options_output(c, options);
    lt_sandbox_files(output && strcmp(output, "-") ? output : NULL);
    lt_sandbox_enter();
}

static lt_status run_command(
    const lt_command *c, int argc, char **argv, void *options, lt_error *err)
{
    int first = 0;
    if (c->defaults) memcpy(options, c->defaults, c->options_size);
    lt_status st = lt_options_parse(c, argc, argv, options, &first, err);
    if (st) return st;
    if (((const lt_common *)options)->help) {
        lt_options_help(c);
        return LT_OK;
    }
    st = lt_apply_limits(&((const lt_common *)options)->limits, err);
    if (st) return st;
    if (!((const lt_common *)options)->no_sandbox) give_up(c, options);
    return c->run(options, argc - first, argv + first, err);
}

static int run(const lt_command *c, int argc, char **argv)
{
    lt_error err = LT_ERROR_INIT;
    void *options = calloc(1, c->options_size);
    lt_status st = options ? run_command(c, argc, argv, options, &err)
                           : lt_error_set(&err, LT_ERR_NOMEM, "out of memory");
    free(options);
    errno = 0;
    /* A full disk or a closed pipe shows only when the last bytes leave. */
    if (!st && (fflush(stdout) || ferror(stdout)))
        st = lt_error_sys(&err, errno, "cannot write to standard output: %s",
            errno ? strerror(errno) : "write error");
    if (st) {
        lt_progress_clear();
        if (err.msg[0]) lt_print_error(c->name, &err); /* else it is told already */
    }
    if (st == LT_ERR_ARG)
        fprintf(stderr, "'loratool help %s' shows how it is used\n", c->name);
    return exit_code(st);
}

int main(int argc, char **argv)
{
    occupy_closed_streams();
    lt_init();
    catch_signals();
    raise_file_limit();
    keep_small_blocks();
    lt_json_watch();
    if (argc < 2) return usage(stderr, 2);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("loratool %s\n", lt_version());
        return fflush(stdout) ? 1 : 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return usage(stdout, 0);
    const lt_command *c = lt_command_find(argv[1]);
    if (c) return run(c, argc - 1, argv + 1);
    fprintf(stderr, "loratool: unknown command '%s'\n", argv[1]);
    return usage(stderr, 2);
}
