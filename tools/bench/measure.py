"""Running commands in turn, as whole processes: seconds and peak memory of each."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# A process counts the memory of the one that started it, until it runs another program: the one
# that starts it has to be small.  What is below its 10 MB or so is not seen.
STARTER = """
import os, sys, time
start = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
                        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(child, 0)
print(time.monotonic() - start, usage.ru_maxrss * 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass
class Command:
    """What to run; `reads` is in the page cache before each run, `writes` is not there."""

    name: str
    words: list
    reads: list = field(default_factory=list)
    writes: Path = None
    keep: bool = True       # `writes`, until the next run
    once: bool = False      # very slow: in the first round only
    times: Path = None      # the command ran a sample: seconds of each module in it,
    counts: dict = None     # and how many modules each stands for
    seconds: list = field(default_factory=list)
    peaks: list = field(default_factory=list)

    @property
    def median(self):
        return statistics.median(self.seconds)

    @property
    def peak(self):
        return max(self.peaks)


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def remove(path):
    if path is not None and path.is_dir():
        shutil.rmtree(path)
    elif path is not None:
        path.unlink(missing_ok=True)


def warm(path):
    """Have the page cache hold a file."""
    chunk = bytearray(1 << 24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(chunk):
            pass


def measure(words):
    """Seconds and peak memory (bytes) of a process that must succeed."""
    words = [sys.executable, "-S", "-c", STARTER, *map(str, words)]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {' '.join(words[4:])}\n{done.stderr}")
    seconds, peak = done.stderr.splitlines()[-1].split()
    return float(seconds), int(peak)


def whole(command, seconds):
    """The time of all modules, from that of a sample."""
    if not command.times:
        return seconds
    times = json.loads(command.times.read_text())
    return seconds + sum((command.counts[name] - 1) * t for name, t in times.items())


def run(command, settle=True):
    """Run it once.  What earlier runs wrote is on the disk by then, unless `settle` is off."""
    remove(command.writes)
    if settle:
        os.sync()
    for path in command.reads:
        warm(path)
    seconds, peak = measure(command.words)
    command.seconds.append(whole(command, seconds))
    command.peaks.append(peak)
    if not command.keep:
        remove(command.writes)


def alternate(commands, rounds, settle=True):
    """Run the commands in turn, that many rounds."""
    for number in range(rounds):
        for command in commands:
            if command.once and number:
                continue
            run(command, settle)
            if settle:
                say(f"{command.name}, round {number + 1}: {command.seconds[-1]:.3f} s")
    return commands
