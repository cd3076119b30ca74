#!/usr/bin/env python3
"""The process is ended, at every call that touches files and at random times: the old output or the
whole new one is there.  Signals that can be caught leave nothing else; SIGKILL leaves only names that
end in .lt-part, and the next run works."""

import signal
import time

from faults import *

CAUGHT = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGABRT,
          signal.SIGSEGV, signal.SIGPIPE]
CALLS = f"open,temp,read,write,copy,sync,syncdir,{RENAMES},remove,close,mkdir,stat,mode"
LAST = f"{RENAMES},remove,syncdir"
TITLES = ["extract", "extract folder", "extract pipe", "merge", "merge torch", "merge folder", "merge pipes",
          "resize folder", "convert folder"]
PART = re.compile(r"(^|/)\.[^/]*\.[A-Za-z0-9]{6}\.lt-part(/|$)")


def places(n, most):
    if EXHAUSTIVE or n <= most:
        return range(1, n + 1)
    return sorted({1 + i * (n - 1) // (most - 1) for i in range(most)})


def whole(bench, command, reference, old, label, killed):
    """Every file is the old one or the new one; all of a folder that is not written into."""
    made = bench.files()
    parts = {name for name in made if PART.search(name)}
    lost = 0
    # A crash while the files of a folder are exchanged is like SIGKILL then: what was replaced is kept.
    mixed = {n: d for n, d in made.items() if n not in parts} not in (old, {**old, **reference.made})
    exchanged = command.folder and old and any(s in label for s in ("SIGSEGV", "SIGABRT"))
    if command.folder and old and mixed and (killed or exchanged):
        kept = {re.sub(r"\.([^/]+)\.\w{6}\.lt-part$", r"\1", n): made[n] for n in parts}
        replaced = [n for n in reference.made if reference.made[n] is not None and made.get(n) != old[n]]
        lost += not check(all(kept.get(n) == old[n] for n in replaced), f"{label}: an old file is gone")
    check(killed or exchanged or not parts, f"{label}: left {sorted(parts)}")
    for name in set(made) - parts | set(old) | (set(reference.made) if not old else set()):
        now, good, before = (group.get(name, False) for group in (made, reference.made, old))
        lost += not check(now in (good, before), f"{label}: {name} is neither old nor new")
    there = {n: d for n, d in made.items() if n not in parts}
    if command.folder and not old:
        lost += not check(there in ({}, reference.made), f"{label}: a part of a folder: {sorted(there)}")
    elif command.folder and not killed and not exchanged:
        lost += not check(there in (old, {**old, **reference.made}), f"{label}: a mixture of old and new")
    if not killed:
        check(not bench.strays(), f"{label}: left in TMPDIR {bench.strays()}")
    return lost


def end_at(bench, command, reference, number, classes, at, force):
    """One run that a signal ends at a call; returns whether a file was lost."""
    bench.clear()
    old = reference.place_old(bench, command) if force else {}
    done = bench.run(command, force, {"class": classes, "at": at, "do": f"signal={int(number)}"})
    label = f"{command.title}{' -f' if old else ''}, {number.name} at call {at} of {classes[:20]}"
    early = done.counts.get("injected") == 0 # it needed fewer calls than without -f
    check(early or done.code == -number, f"{label}: exit {done.code} {done.stderr!r}")
    return whole(bench, command, reference, old, label, number == signal.SIGKILL)


def at_every_call(bench, command):
    reference = Reference(bench, command)
    calls = sum(reference.counts[c] for c in CALLS.split(","))
    ended = lost = 0
    for number in [signal.SIGKILL, *CAUGHT]:
        for at in places(calls, 30 if number == signal.SIGKILL else 8):
            force = bool(command.output) and not command.to_stdout and at % 2 == 0
            lost += end_at(bench, command, reference, number, CALLS, at, force)
            ended += 1
            if number == signal.SIGKILL and at % 10 == 0:
                again = bench.run(command, True)
                check(again.code == 0 or "-f" not in command.line(True), f"{command.title}, {at}: then {again.stderr!r}")
    return ended, lost


def while_files_are_exchanged(bench, command):
    """At each of the last calls into an existing folder, where old files lie under temporary names."""
    reference = Reference(bench, command)
    calls = sum(reference.counts[c] for c in LAST.split(","))
    ended = lost = 0
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM):
        for at in range(1, 2 * calls + 1):
            lost += end_at(bench, command, reference, number, LAST, at, True)
            ended += 1
    return ended, lost


def at_random_times(bench):
    """On the trained miniature, where there is time enough."""
    sd = TESTDATA / "mini-sd"
    rng, ended, lost = random.Random(11), 0, 0
    for command in ("extract", "merge"):
        line = {"extract": ["extract", "--base", sd / "base.safetensors", "--tuned", sd / "tuned.safetensors",
                            "--rank", "8"],
                "merge": ["merge", "--base", sd / "base.safetensors", sd / "lora.safetensors"]}[command]
        line = [LORATOOL, *map(str, line), "-o", "out.safetensors", "-f"]
        bench.clear()
        started = time.monotonic()
        subprocess.run(line, cwd=bench.root, check=True, capture_output=True)
        usual = time.monotonic() - started
        good, output = (bench.root / "out.safetensors").read_bytes(), bench.root / "out.safetensors"
        for i in range(120 if EXHAUSTIVE else 24):
            number = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP][i % 4]
            bench.clear()
            output.write_bytes(b"old")
            running = subprocess.Popen(line, cwd=bench.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(rng.uniform(0, usual))
            running.send_signal(number)
            running.communicate(timeout=60)
            label = f"{command}, {number.name}"
            # Before the program has begun to listen, a signal ends it just so.
            check(running.returncode in (0, -number), f"{label}: exit {running.returncode}")
            known = (good,) if running.returncode == 0 else (good, b"old")
            lost += not check(output.read_bytes() in known, f"{label}: the output is lost")
            left = [n for n in bench.files() if n != "out.safetensors"]
            check(number == signal.SIGKILL or not left, f"{label}: left {left}")
            check(all(PART.search(n) for n in left), f"{label}: left {left}")
            ended += 1
    return ended, lost


def into_closed_pipes(bench):
    for title in "extract pipe", "merge pipes", "info", "map json":
        command = next(c for c in COMMANDS if c.title == title)
        bench.clear()
        reading, writing = os.pipe()
        os.close(reading)
        stdin = open(bench.root / command.piped if command.piped else os.devnull, "rb")
        done = subprocess.run([LORATOOL, *command.line(False)], cwd=bench.root, stdin=stdin, stdout=writing,
                              stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(bench.temp)},
                              preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL), timeout=60)
        os.close(writing)
        stdin.close()
        check(done.returncode == -signal.SIGPIPE, f"{title} into a closed pipe: exit {done.returncode}")
        check(not bench.files() and not bench.strays(), f"{title} into a closed pipe left files")


def main():
    # What the caller ignores (nohup, a shell's background) would be ignored by the program too.
    for number in set(CAUGHT) - {signal.SIGPIPE}:
        signal.signal(number, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(prefix="loratool-faults-in-") as inputs:
        make_inputs(Path(inputs))
        bench = Bench(inputs)
        ended = lost = 0
        for command in COMMANDS:
            if command.title in TITLES:
                more, gone = at_every_call(bench, command)
                ended, lost = ended + more, lost + gone
                if command.folder:
                    more, gone = while_files_are_exchanged(bench, command)
                    ended, lost = ended + more, lost + gone
        more, gone = at_random_times(bench)
        into_closed_pipes(bench)
        bench.close()
    print(f"{ended + more} processes ended, {lost + gone} files lost")
    check.finish()


main()
