#!/usr/bin/env python3
"""The benchmark runs on a miniature pair, its tables can be read, and its peers do their job.

Figures are not looked at: they say nothing at this size.
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

from common import SOURCE, at_most, check, f64, loratool, report, run_tests

from safetensors.torch import load_file

BENCH = SOURCE / "tools" / "bench"
PAIR = [SOURCE / "testdata" / "mini-sd" / f"{name}.safetensors" for name in ("base", "tuned")]
CASES = ["sd15-linear", "merge", "info", "hash", "resize", "scaling"]


def python(script, *words):
    done = subprocess.run([sys.executable, script, *map(str, words)], capture_output=True,
                          text=True, timeout=600)
    check(done.returncode == 0, f"{script.name}: {done.stderr}", "exit code")
    return done


def sections(text):
    """Case -> its tables, each a list of rows of cells, the heads first."""
    found = {}
    for part in text.split("\n## ")[1:]:
        name = part.split(":")[0]
        blocks = [block.splitlines() for block in part.split("\n\n") if block.startswith("| ")]
        tables = [[line.strip("| ").split(" | ") for line in block] for block in blocks]
        found[name] = [[table[0], *table[2:]] for table in tables]
    return found


def table(tables, head):
    return next((t[1:] for t in tables if t[0][0] == head), [])


def bench(work):
    out = work / "bench.md"
    python(BENCH / "bench.py", *CASES, "--quick", "--rank", 4, "--pair", *PAIR, "-o", out)
    text = out.read_text()
    check("Failed" not in text, text, "cases")
    found = sections(text)
    check(list(found) == CASES, f"{list(found)}", "cases")
    for name in CASES:
        verdicts = table(found[name], "what")
        check(verdicts, f"{name}: no verdict", "verdicts")
        for row in verdicts:
            check(row[3] in ("met", "missed"), f"{name}: {row}", "verdicts")
        skipped = name == "hash" and "--hash" not in loratool("help", "info").stdout
        check(skipped or len(table(found[name], "command")) > 1, f"{name}: no times", "tables")
    errors = table(found["sd15-linear"], "adapter")
    check(len(errors) > 2, f"errors of {errors}", "fidelity")
    for row in errors:
        check(float(row[2]) >= 0.999999, f"{row} is better than the best", "fidelity")
    ET.parse(work / "bench.svg")


def plan_of(path, base, *adapters):
    path.write_text(json.dumps(report("merge", "-n", "--base", base, *adapters)["plan"]))
    return path


def merge_peer(work):
    """What the PyTorch script merges is what loratool merges, up to its rounding."""
    adapter, plan = SOURCE / "testdata" / "mini-sd" / "lora.safetensors", work / "plan.json"
    ours, theirs = work / "ours.safetensors", work / "theirs.safetensors"
    python(BENCH / "peers" / "merge.py", PAIR[0], plan_of(plan, PAIR[0], adapter), theirs)
    loratool("merge", "--base", PAIR[0], adapter, "-q", "-o", ours)
    ours, theirs = load_file(ours), load_file(theirs)
    check(ours.keys() == theirs.keys(), "other tensors", "merge")
    for name, tensor in ours.items():
        ours_, theirs_ = f64(tensor), f64(theirs[name])
        at_most(abs(ours_ - theirs_).max(), 1e-3 * abs(ours_).max(), "merge", name)


run_tests(bench, merge_peer)
