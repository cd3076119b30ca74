/* SPDX-License-Identifier: MIT */
/* What the process gives up for good before it looks at a stranger's file: starting
 * programs, the network, other processes, and files that are not its output. A mistake in
 * a reader then cannot be made more of than a bad output. Both are for this thread and
 * those that it starts, and do nothing in builds with sanitizers, whose leak check needs
 * a process of its own. */
#ifndef LT_BASE_SANDBOX_H
#define LT_BASE_SANDBOX_H

#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) \
    || __has_feature(memory_sanitizer)
#define LT_SANITIZED 1
#endif
#endif

/* Programs, the network, other processes, permissions and times of files, making a file
 * empty, typing into a terminal, the system's settings. Threads and files stay possible.
 * False where the system has nothing of the kind (seccomp of Linux, on x86-64 and
 * AArch64). */
bool lt_sandbox_enter(void);

/* Files can then be made, changed, renamed and removed only in the folder that output (a
 * file, a folder, a link to one; NULL: none) is or will be in, and scratch files in
 * $TMPDIR. All can be read: models lie behind links, often in other folders. To be called
 * before lt_sandbox_enter, whose filter forbids what Landlock before Linux 6.2 does not
 * know of; false where the system has nothing of the kind (Landlock of Linux, from 5.19
 * on, where it is enabled). */
bool lt_sandbox_files(const char *output);

#endif
