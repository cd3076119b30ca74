#!/usr/bin/env python3
"""Every allocation fails, ours and those of the libraries, alone and with all that follow: the command
goes on without it or ends with one message, and no file is lost."""

from concurrent.futures import ThreadPoolExecutor

from faults import *

SHOWN = 100  # a command and way of failing, spread evenly, unless LORATOOL_FAULTS=all


def places(n):
    if EXHAUSTIVE or n <= SHOWN:
        return range(1, n + 1)
    return sorted({1 + i * (n - 1) // (SHOWN - 1) for i in range(SHOWN)})


def campaign(inputs, command):
    bench = Bench(inputs)
    reference = Reference(bench, command)
    injected = lost = 0
    for span in 1, 0:
        for at in places(reference.counts["alloc"]):
            force = bool(command.output) and not command.to_stdout and at % 2 == 0
            bench.clear()
            old = reference.place_old(bench, command) if force else {}
            fault = {"class": "alloc", "at": at, "do": "ENOMEM", "for": span}
            done = bench.run(command, force, fault)
            injected += 1
            lost += judge(bench, command, reference, fault, done, old)
    bench.close()
    print(f"{command.title}: {reference.counts['alloc']} allocations, {injected} failed, "
          f"{lost} files lost", flush=True)
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
