#!/usr/bin/env python3
"""Time and memory of reading a torch checkpoint, against torch itself.

A checkpoint of 600 MB in the sizes of a Stable Diffusion UNet becomes a safetensors file: by
`loratool convert`, and by a Python process that maps it with torch.load and writes it with
safetensors.  The two run in turn, each in a fresh process with the file in the page cache; the
medians count, the whole process each time: Python's start and imports are a part of what
somebody waits for.  Only ratios and memory are checked, never seconds.

Reading alone is timed against torch.load(mmap=True) and one look at every byte, inside a Python
that has torch loaded already; loratool reads the file twice, as base and as tuned model that turn
out to be equal, in a process of its own.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import at_most, check, run_tests
from torchfiles import same_as_file

import torch

PAIRS = 5
ROOM = 5 << 30
MB = 1 << 20
SHAPES = [(1280, 1280, 3, 3), (1280, 640, 3, 3), (640, 640, 3, 3), (640, 320, 3, 3), (320, 320, 3, 3),
          (10240, 1280), (1280, 5120), (1280, 1280), (1280, 768), (640, 640), (1280,), (640,), (320,)]
LARGEST = 2 * 1280 * 1280 * 9

PYTHON = """
import sys, torch
from safetensors.torch import save_file
save_file(torch.load(sys.argv[1], mmap=True, weights_only=True), sys.argv[2])
"""


def checkpoint(path, megabytes):
    """A .pt file of float16 tensors of that size, about; returns the tensors."""
    tensors, left, block = {}, megabytes * MB, 0
    while left > 0:
        for number, shape in enumerate(SHAPES):
            # Random bits cost time and show nothing: a ramp whose start differs.
            count = torch.Size(shape).numel()
            data = torch.arange(block * 31 + number, block * 31 + number + count, dtype=torch.int32)
            data = data.to(torch.int16).view(torch.float16).view(shape)
            tensors[f"blocks.{block}.{number}.weight"] = data
            left -= 2 * count
        block += 1
    torch.save(tensors, path)
    return tensors


# A process counts the memory of the one that started it, until it runs another program: the one
# that starts it has to be small.
STARTER = """
import os, sys, time
start = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
                        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(child, 0)
print(time.monotonic() - start, usage.ru_maxrss * 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(command):
    """Seconds and peak memory (bytes) of a process that must succeed."""
    words = [sys.executable, "-S", "-c", STARTER, *map(str, command)]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {command}\n{done.stderr}")
    seconds, peak = done.stderr.splitlines()[-1].split()
    return float(seconds), int(peak)


def read_ratio(ours, theirs, pairs=PAIRS):
    """Run two commands in turn: (ours / theirs by median time, peak memory of each)."""
    measure(ours), measure(theirs)  # fill the page cache
    runs = [(measure(ours), measure(theirs)) for _ in range(pairs)]
    times = [[run[side][0] for run in runs] for side in (0, 1)]
    peaks = [max(run[side][1] for run in runs) for side in (0, 1)]
    medians = [statistics.median(side) for side in times]
    for what, side, peak in zip(("ours", "theirs"), times, peaks):
        print(f"  {what}: {statistics.median(side):.3f} s ({min(side):.3f} to {max(side):.3f}), "
              f"{peak / MB:.0f} MB", flush=True)
    return medians[0] / medians[1], *peaks


def compare(work):
    program, peaks = os.environ["LORATOOL"], []
    for megabytes, pairs in (600, PAIRS), (1200, 3):
        source, ours, theirs = work / "in.pt", work / "ours.safetensors", work / "theirs.safetensors"
        tensors = checkpoint(source, megabytes)
        print(f"{source.stat().st_size / MB:.0f} MB, {len(tensors)} tensors", flush=True)
        ratio, peak, _ = read_ratio([program, "convert", source, "-o", ours, "-f", "-q"],
                                    [sys.executable, "-c", PYTHON, source, theirs], pairs)
        print(f"  ratio {ratio:.3f}", flush=True)
        at_most(ratio, 1.0, "time", f"convert / torch and safetensors, {megabytes} MB")
        at_most(peak, 8 * LARGEST + 64 * MB, "memory", f"convert, {megabytes} MB")
        peaks.append(peak)
        same_as_file(ours, tensors, f"{megabytes} MB")
        del tensors
    at_most(peaks[1], 1.1 * peaks[0] + 4 * MB, "memory", "convert of a file twice as large")


def mapped_and_touched(path):
    start = time.monotonic()
    for tensor in torch.load(path, mmap=True, weights_only=True).values():
        tensor.view(-1).view(torch.int16).max().item()
    return time.monotonic() - start


def read_twice(path, output):
    words = [os.environ["LORATOOL"], "extract", "--base", path, "--tuned", path, "-o", output]
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True)
    seconds = time.monotonic() - start
    check(done.returncode == 3 and "are equal" in done.stderr, f"{done}", "reading")
    return seconds


def reading(folder):
    source = folder / "in.pt"
    checkpoint(source, 600)
    runs = [(read_twice(source, folder / "out.pt") / 2, mapped_and_touched(source)) for _ in range(9)]
    # The quickest of each: what else the machine does can only add to it.
    ours, theirs = (min(run[side] for run in runs) for side in (0, 1))
    print(f"reading: {ours:.3f} s a file, torch {theirs:.3f} s, ratio {ours / theirs:.2f}", flush=True)
    at_most(ours / theirs, 1.0, "reading", "all bytes / mapped by torch and touched")


def converting(work):
    memory = Path("/dev/shm")  # a disk would be what is measured
    if memory.is_dir() and shutil.disk_usage(memory).free > ROOM:
        with tempfile.TemporaryDirectory(prefix="loratool-", dir=memory) as folder:
            reading(Path(folder))
            compare(Path(folder))
    elif shutil.disk_usage(work).free > ROOM:
        reading(work)
        compare(work)
    else:
        print("skipped: no 5 GB free")
        sys.exit(77)


run_tests(converting)
