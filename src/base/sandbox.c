/* SPDX-License-Identifier: MIT */
/* A filter of system calls: seccomp(2), with the classic BPF of <linux/filter.h>. What is
 * listed fails with EPERM; the rest is as before, so that no version of the C library or
 * of BLAS meets a surprise. Calls younger than the list are as on a kernel without them:
 * libraries do with what there was before, and some are other ways to what is listed. */
#define _GNU_SOURCE /* CLONE_THREAD */
#include "base/sandbox.h"

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__)) \
    && !defined(LT_SANITIZED)

#include <errno.h>
#include <fcntl.h>
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
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* From 424 on a call has the same number everywhere; the headers may be older than it.
 * The list knows those of Linux 6.5. x32's numbers lie far above. */
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#define YOUNGER 452u

#define LOAD(field) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define FAIL(code) RETURN(SECCOMP_RET_ERRNO | (code))
/* The next statement is for that value, or for those from it on, only. */
#define IF_EQUAL(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1)
#define IF_FROM(value) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, 0, 1)
#define FOR_ITSELF 0xffffffffu /* filled in; no process has that number */
#define DENY(call) IF_EQUAL(SYS_##call), FAIL(EPERM)
#define ABSENT(call) IF_EQUAL(SYS_##call), FAIL(ENOSYS)

/* A call whose n-th argument, counted from 0, may not have one of those bits. */
#define DENY_BITS(call, n, bits)                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 4), LOAD(args[n]), \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1), FAIL(EPERM),    \
        RETURN(SECCOMP_RET_ALLOW)
/* One whose n-th argument has to be that. */
#define ONLY_WITH(call, n, value)                                         \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 4), LOAD(args[n]), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0), FAIL(EPERM),    \
        RETURN(SECCOMP_RET_ALLOW)

static const struct sock_filter rules[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    IF_FROM(YOUNGER),
    FAIL(ENOSYS),

    /* programs and processes */
    DENY(execve),
    DENY(execveat),
    DENY(ptrace),
    DENY(process_vm_readv),
    DENY(process_vm_writev),
    DENY(kcmp),
    DENY(tkill),
    DENY(rt_sigqueueinfo),
    DENY(rt_tgsigqueueinfo),
    DENY(pidfd_open),
    DENY(pidfd_getfd),
    DENY(pidfd_send_signal),
    DENY(unshare),
    DENY(setns),
    DENY(setpriority),
    DENY(sched_setscheduler),
    DENY(sched_setparam),
    DENY(sched_setattr),
    DENY(ioprio_set),
    DENY(migrate_pages),
    DENY(move_pages),
    ONLY_WITH(prlimit64, 0, 0), /* the process itself */

    /* memory that processes share by name; queues and semaphores stay, fakeroot's library
     * in this process speaks by them */
    DENY(shmget),
    DENY(shmat),
    DENY(shmctl),

    /* the network */
    DENY(socket),
    DENY(socketpair),
    DENY(connect),
    DENY(bind),
    DENY(listen),
    DENY(accept),
    DENY(accept4),

    /* what stands beside the contents of files, and contents by name: Landlock forbids
     * to empty a file from its version 3 on, and nothing here has to. openat2 keeps its
     * flags where no filter sees them. */
    DENY(fchmod),
    DENY(fchmodat),
    DENY(fchown),
    DENY(fchownat),
    DENY(utimensat),
    DENY(setxattr),
    DENY(lsetxattr),
    DENY(fsetxattr),
    DENY(removexattr),
    DENY(lremovexattr),
    DENY(fremovexattr),
    DENY(truncate),
    DENY_BITS(openat, 2, O_TRUNC),
    ABSENT(openat2),

    /* the system */
    DENY(mount),
    DENY(umount2),
    DENY(mount_setattr),
    DENY(open_tree),
    DENY(move_mount),
    DENY(fsopen),
    DENY(fsconfig),
    DENY(fsmount),
    DENY(fspick),
    DENY(pivot_root),
    DENY(chroot),
    DENY(swapon),
    DENY(swapoff),
    DENY(quotactl),
    DENY(quotactl_fd),
    DENY(acct),
    DENY(reboot),
    DENY(syslog),
    DENY(vhangup),
    DENY(sethostname),
    DENY(setdomainname),
    DENY(settimeofday),
    DENY(clock_settime),
    DENY(clock_adjtime),
    DENY(adjtimex),
    DENY(init_module),
    DENY(finit_module),
    DENY(delete_module),
    DENY(kexec_load),
    DENY(kexec_file_load),
    DENY(bpf),
    DENY(perf_event_open),
    DENY(io_uring_setup),
    DENY(userfaultfd),
    DENY(add_key),
    DENY(request_key),
    DENY(keyctl),
    DENY(open_by_handle_at),

#ifdef __x86_64__ /* older ways to the same, and to the machine */
    DENY(fork),
    DENY(vfork),
    DENY(chmod),
    DENY(chown),
    DENY(lchown),
    DENY(utime),
    DENY(utimes),
    DENY(futimesat),
    DENY(creat),
    DENY_BITS(open, 1, O_TRUNC),
    DENY(ioperm),
    DENY(iopl),
#endif

    /* of terminals their size only: others type into them, for the shell to read when we
     * are gone; of files nothing, either */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 5),
    LOAD(args[1]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TCGETS, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCGWINSZ, 1, 0),
    FAIL(EPERM),
    RETURN(SECCOMP_RET_ALLOW),
    /* signals to others, at once or when there is something to read */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 5),
    LOAD(args[1]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN_EX, 1, 0),
    RETURN(SECCOMP_RET_ALLOW),
    FAIL(EPERM),
    ONLY_WITH(kill, 0, FOR_ITSELF),
    ONLY_WITH(tgkill, 0, FOR_ITSELF),
    /* clone3 keeps its flags where no filter sees them; the C library then uses clone,
     * which may make threads only. */
    ABSENT(clone3),
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
