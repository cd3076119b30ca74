/* SPDX-License-Identifier: MIT */
/* What the process gives up for good before it looks at a stranger's file: starting
 * programs, the network, other processes. A mistake in a reader then cannot be made more
 * of than what the process already may do to files. */
#ifndef LT_BASE_SANDBOX_H
#define LT_BASE_SANDBOX_H

#include <stdbool.h>

/* Threads and files stay possible. For this thread and those that it starts; false where
 * the system has nothing of the kind (seccomp of Linux, on x86-64 and AArch64), and in
 * builds with sanitizers, whose leak check needs a process of its own. */
bool lt_sandbox_enter(void);

#endif
