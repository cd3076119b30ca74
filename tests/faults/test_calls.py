#!/usr/bin/env python3
"""Every system call that a command makes fails once: the old output or the whole new one is there, no
temporary file, one message; a call that was interrupted or cut short is made again."""

from faults import *

# What goes wrong in each class. A list of two classes is one sequence of calls.
FAULTS = [
    ("open", "EACCES", 1), ("open", "EMFILE", 1), ("open", "EIO", 0),
    ("temp", "ENOSPC", 1), ("temp", "EROFS", 0), ("mkdir", "ENOSPC", 1), ("mkdir", "EACCES", 0),
    ("read", "EIO", 1), ("read", "EINTR", 1), ("read", "short", 1), ("read", "eof", 1),
    ("write", "EIO", 1), ("write", "EINTR", 1), ("write", "short", 1),
    ("write,copy", "ENOSPC", 0), ("write,copy", "EIO", 1),
    ("copy", "EXDEV", 0), ("copy", "EOPNOTSUPP", 1), ("copy", "EINTR", 1), ("copy", "short", 1),
    ("copy", "eof", 1),
    ("sync", "EIO", 1), ("sync", "ENOSPC", 0), ("sync", "EOPNOTSUPP", 0), ("syncdir", "EIO", 1), ("syncdir", "EINVAL", 0),
    (RENAMES, "EIO", 1), (RENAMES, "ENOSPC", 0), (RENAMES, "EINVAL", 1),
    ("rename2", "EINVAL", 0), ("rename2,link", "EOPNOTSUPP", 0), ("remove", "EIO", 1), ("close", "EIO", 1), ("stat", "EIO", 1),
    ("list", "EIO", 1), ("path", "ENOMEM", 1), ("path", "EACCES", 1), ("mode", "EIO", 1),
    ("thread", "EAGAIN", 1), ("load", "EIO", 1),
]
RETRIED = {"EINTR", "short"}
# What file systems may lack; drives and network folders do.
ABSENT = {("sync", "EOPNOTSUPP"), ("rename2", "EINVAL"), ("rename2,link", "EOPNOTSUPP")}


def places(n):
    """All of them; of very many, the first, the last and some between."""
    if EXHAUSTIVE or n <= 30:
        return range(1, n + 1)
    return sorted({1 + i * (n - 1) // 29 for i in range(30)})


def campaign(bench, command):
    reference = Reference(bench, command)
    injected = lost = 0
    files = sum(data is not None for data in reference.made.values())
    check(reference.counts["sync"] >= files, f"{command.title}: {reference.counts['sync']} flushes of {files} files")
    check(reference.counts["syncdir"] >= (files > 0), f"{command.title}: the folder is not flushed")
    for classes, action, span in FAULTS:
        calls = sum(reference.counts[c] for c in classes.split(","))
        for at in places(calls):
            states = (False, True) if command.output and not command.to_stdout else (False,)
            both = EXHAUSTIVE or (classes, action) in ABSENT
            for force in states if both else states[at % len(states):][:1]:
                bench.clear()
                old = reference.place_old(bench, command) if force else {}
                fault = {"class": classes, "at": at, "do": action, "for": span}
                done = bench.run(command, force, fault)
                injected += 1
                lost += judge(bench, command, reference, fault, done, old)
                if (classes, action) in ABSENT:
                    check(done.code == 0, f"{command.title}: {fault}: exit {done.code} {done.stderr!r}")
                elif classes == "sync":
                    check(done.code == 1, f"{command.title}: {fault}: exit {done.code}, and what was not written is there")
                if action in RETRIED:
                    check(done.code == 0, f"{command.title}: {fault} was not tried again: {done.stderr!r}")
    return injected, lost


def main():
    with tempfile.TemporaryDirectory(prefix="loratool-faults-in-") as inputs:
        make_inputs(Path(inputs))
        bench = Bench(inputs)
        injected = lost = 0
        for command in COMMANDS:
            if len(sys.argv) > 1 and command.title not in sys.argv[1:]:
                continue
            more, gone = campaign(bench, command)
            print(f"{command.title}: {more} faults, {gone} files lost", flush=True)
            injected, lost = injected + more, lost + gone
        bench.close()
    print(f"{injected} faults injected, {lost} files lost")
    check(injected > 0 and not lost, f"{lost} files lost")
    check.finish()


main()
