/* SPDX-License-Identifier: MIT */
/* A filter of system calls: seccomp(2), with the classic BPF of <linux/filter.h>. What is
 * listed fails with EPERM; everything else is as before, so that no version of the C
 * library or of BLAS meets a surprise. */
#define _GNU_SOURCE /* CLONE_THREAD */
#include "base/sandbox.h"

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__)) \
    && !defined(LT_SANITIZED)

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define FOREIGN 0x40000000u /* numbers of the x32 calls begin here */
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define FOREIGN 0xffffffffu
#endif

#define LOAD(field) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define FAIL(code) RETURN(SECCOMP_RET_ERRNO | (code))
/* The next statement is for that value, or for those from it on, only. */
#define IF_EQUAL(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1)
#define IF_FROM(value) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, 0, 1)
#define FOR_ITSELF 0xffffffffu /* no process has that number */
#define DENY(call) IF_EQUAL(SYS_##call), FAIL(EPERM)

static const struct sock_filter rules[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    IF_FROM(FOREIGN),
    FAIL(ENOSYS),
    /* programs and processes */
    DENY(execve),
    DENY(execveat),
#ifdef SYS_fork
    DENY(fork),
    DENY(vfork),
#endif
    DENY(ptrace),
    DENY(process_vm_readv),
    DENY(process_vm_writev),
    DENY(kcmp),
    DENY(tkill),
    DENY(rt_sigqueueinfo),
    DENY(rt_tgsigqueueinfo),
#ifdef SYS_pidfd_send_signal
    DENY(pidfd_send_signal),
#endif
#ifdef SYS_pidfd_getfd
    DENY(pidfd_open),
    DENY(pidfd_getfd),
#endif
    DENY(unshare),
    DENY(setns),
    /* the network */
    DENY(socket),
    DENY(socketpair),
    DENY(connect),
    DENY(bind),
    DENY(listen),
    DENY(accept),
    DENY(accept4),
/* what stands beside the contents of files, and contents by name */
#ifdef SYS_chmod
    DENY(chmod),
    DENY(chown),
    DENY(lchown),
#endif
    DENY(fchmod),
    DENY(fchmodat),
    DENY(fchown),
    DENY(fchownat),
    DENY(setxattr),
    DENY(lsetxattr),
    DENY(fsetxattr),
    DENY(removexattr),
    DENY(lremovexattr),
    DENY(fremovexattr),
    DENY(truncate),
    /* the system */
    DENY(mount),
    DENY(umount2),
    DENY(pivot_root),
#ifdef SYS_fsopen
    DENY(open_tree),
    DENY(move_mount),
    DENY(fsopen),
    DENY(fspick),
#endif
    DENY(chroot),
    DENY(init_module),
    DENY(finit_module),
    DENY(kexec_load),
    DENY(bpf),
    DENY(perf_event_open),
    DENY(io_uring_setup),
    DENY(userfaultfd),
    DENY(add_key),
    DENY(request_key),
    DENY(keyctl),
    DENY(open_by_handle_at),
    /* what types into a terminal, for the shell to read when we are gone */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 5),
    LOAD(args[1]),
    IF_EQUAL(TIOCSTI),
    FAIL(EPERM),
    IF_EQUAL(TIOCLINUX),
    FAIL(EPERM),
    LOAD(nr),
    /* signals to others; FOR_ITSELF is filled in */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kill, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 4),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FOR_ITSELF, 1, 0),
    FAIL(EPERM),
    RETURN(SECCOMP_RET_ALLOW),
    /* clone3 keeps its flags where no filter sees them; the C library then uses clone,
     * which may make threads only. */
    IF_EQUAL(SYS_clone3),
    FAIL(ENOSYS),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
    FAIL(EPERM),
    RETURN(SECCOMP_RET_ALLOW),
};

bool lt_sandbox_enter(void)
{
    struct sock_filter filter[sizeof rules / sizeof *rules];
    struct sock_fprog program = {
        .len = sizeof rules / sizeof *rules,
        .filter = filter,
    };
    memcpy(filter, rules, sizeof rules);
    for (size_t i = 0; i < program.len; i++)
        if (rules[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && rules[i].k == FOR_ITSELF)
            filter[i].k = (unsigned)getpid();
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

#else

bool lt_sandbox_enter(void)
{
    return false;
}

#endif
