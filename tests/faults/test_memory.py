#!/usr/bin/env python3
"""Every allocation fails, ours and those of the libraries, alone and with all that follow: the command
goes on without it or ends with one message, and no file is lost."""

from concurrent.futures import ThreadPoolExecutor

from faults import *

SHOWN = 60  # a command and way, spread evenly

# Which allocations, how many of them from the n-th on (0: all), and whether LORATOOL_FAULTS=all tries every n:
# libcrypto alone makes thousands of its own. "alloc" are ours, cJSON's and libzip's.
WAYS = [("alloc", 1, True), ("alloc", 0, True), ("liballoc", 1, False), ("alloc,liballoc", 0, False)]


def places(n, every):
    if n <= SHOWN or every and EXHAUSTIVE:
        return range(1, n + 1)
    return sorted({1 + i * (n - 1) // (SHOWN - 1) for i in range(SHOWN)})


def fail(bench, command, reference, classes, at, span):
    force = bool(command.output) and not command.to_stdout and at % 2 == 0
    bench.clear()
    old = reference.place_old(bench, command) if force else {}
    fault = {"class": classes, "at": at, "do": "ENOMEM", "for": span}
    done = bench.run(command, force, fault)
    return judge(bench, command, reference, fault, done, old)


def campaign(inputs, command):
    bench = Bench(inputs)
    reference = Reference(bench, command)
    injected = lost = 0
    for classes, span, every in WAYS:
        for at in places(sum(reference.counts[c] for c in classes.split(",")), every):
            lost += fail(bench, command, reference, classes, at, span)
            injected += 1
    bench.close()
    print(f"{command.title}: {reference.counts['alloc']} allocations and {reference.counts['liballoc']} of "
          f"libraries, {injected} failed, {lost} files lost", flush=True)
    return injected, lost


def main():
    chosen = [c for c in COMMANDS if len(sys.argv) == 1 or c.title in sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="loratool-faults-in-") as inputs:
        make_inputs(Path(inputs))
        with ThreadPoolExecutor(2) as pool:
            totals = list(pool.map(lambda c: campaign(inputs, c), chosen))
    injected, lost = (sum(t[i] for t in totals) for i in (0, 1))
    print(f"{injected} allocations failed, {lost} files lost")
    check(injected > 0 and not lost, f"{lost} files lost")
    check.finish()


main()
