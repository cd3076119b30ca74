#!/usr/bin/env python3
"""Patterns of PEFT configs match the modules that they match for PEFT, or are refused by name.

Random expressions, valid and almost valid, are put into alpha_pattern; which modules get their alpha
is compared with peft's own get_pattern_key. The generator is seeded: the same patterns every time.
"""

import json
import os
import random
import re
import struct
import subprocess
import warnings

from common import check, run_tests

from peft.utils.other import get_pattern_key

LORATOOL = os.environ["LORATOOL"]
COUNT = 1500
dice = random.Random(20261127)
MODULES = ([f"model.layers.{i}.{p}" for i in (0, 1, 11, 111) for p in
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.gate-up")]
           + ["lm_head", "q_proj", "model.embed", "transformer.h.3.attn.c_attn", "x.lm_head", "modelXlayers.1.q", "caf\u00e9.q_proj"])
WORDS = ["model", "layers", "q_proj", "k_proj", "self_attn", "mlp", "lm_head", "proj", "up", "q", "k", "1", "11", "0", "caf\u00e9"]


def an_atom(depth):
    roll = dice.random()
    if roll < 0.45:
        return dice.choice(WORDS)
    if roll < 0.6:
        return dice.choice([".", r"\.", r"\.", r"[.]", "_", r"\_", "-", r"\-"])
    if roll < 0.75:
        return dice.choice([r"\d", r"\w", r"\D", r"\W", r"\s", r"\S", "[0-9]", "[^.]", "[a-z_]", "[qk]", r"[\d.]", r"[^\W_]", "[]x]", "[^]x]"])
    if roll < 0.8:
        return dice.choice([r"\b", r"\B", r"\A", "^", "$"])
    if depth > 2:
        return "."
    opening = dice.choice(["(", "(", "(", "(?:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?P<n>"])
    return opening + an_expression(depth + 1) + ")"


def an_expression(depth=0):
    parts = []
    for _ in range(dice.choice([1, 1, 2, 3, 4])):
        part = an_atom(depth)
        if dice.random() < 0.25:
            part += dice.choice(["*", "+", "?", "*?", "+?", "??", "{1}", "{1,}", "{0,2}", "{2,3}?", "{,2}", "*+", "**"])
        parts.append(part)
        if dice.random() < 0.1:
            parts.append("|")
    return "".join(parts)


def a_spelling(part):
    """A component of a path, or an expression that may match it."""
    roll = dice.random()
    if roll < 0.4:
        return part
    if roll < 0.5:
        return part.replace("1", r"\d").replace("_", dice.choice(["_", ".", r"\W", "[_-]"]))
    if roll < 0.6:
        return "(" + dice.choice(["", "?:", "?P<n>"]) + part + "|" + dice.choice(WORDS) + ")" + dice.choice(["", "", "?", "+", "{1,2}", "*?"])
    if roll < 0.7:
        return dice.choice([r"\w+", r"\w*?", r"[^.]+", r"\S{1,9}", r"(.)(.*)", r"(?!q)\w+", r"\d+", r"[\w-]+(?<=proj)"])
    if roll < 0.8:
        return part[:2] + dice.choice([".*", ".+?", r"\w*\b", r"(?=\w).*"])
    return an_atom(0)


def a_likely_pattern():
    parts = dice.choice(MODULES).split(".")
    parts = parts[dice.randrange(len(parts)):]
    return dice.choice([".", r"\.", r"\.", "[.]", r"\W"]).join(map(a_spelling, parts))


def a_pattern():
    pattern = dice.choice(["", "", "", "^", r".*\."]) + (a_likely_pattern() if dice.random() < 0.8 else an_expression())
    if dice.random() < 0.2:
        pattern += dice.choice(["$", "$", r"\Z", r"\1", r"\3", "(?P=n)", "(?i)"])
    if dice.random() < 0.1:
        at = dice.randrange(len(pattern) + 1)
        pattern = pattern[:at] + dice.choice(list("()[]{}*+?|\\^$,")) + pattern[at:]
    return pattern


def write_adapter(folder):
    header, at = {}, 0
    for module in MODULES:
        for factor, shape in (("A", [1, 2]), ("B", [2, 1])):
            header[f"base_model.model.{module}.lora_{factor}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 8]}
            at += 8
    head = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(at))


def of_peft(pattern):
    """The modules that match, and None or why it is no expression."""
    try:
        return {m for m in MODULES if get_pattern_key([pattern], m) != m or pattern == m}, None
    except re.error as e:
        return None, str(e)


def of_loratool(folder, pattern):
    """(the same, None) or (None, the message)"""
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "alpha_pattern": {pattern: 7}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    done = subprocess.run([LORATOOL, "info", "--json", "."], capture_output=True, text=True, timeout=60, cwd=folder)
    if done.returncode:
        check(done.returncode == (1 if "not handled" in done.stderr else 5) and done.stderr.count("\n") == 1, f"{pattern!r}: exit {done.returncode} {done.stderr!r}")
        return None, done.stderr
    modules = json.loads(done.stdout)["modules"]
    check(len(modules) == len(MODULES), f"{pattern!r}: {len(modules)} modules")
    return {m["name"].removeprefix("base_model.model.") for m in modules if m["scale"] == 7}, None


def test_patterns(folder):
    warnings.simplefilter("ignore")  # Python's own, of sets that may change meaning
    matched = refused = invalid = 0
    write_adapter(folder)
    for _ in range(COUNT):
        pattern = a_pattern()
        wanted, why = of_peft(pattern)
        found, told = of_loratool(folder, pattern)
        if wanted is None:
            # PCRE2 takes alternatives of different lengths there.
            check(found is None or "look-behind" in why, f"{pattern!r}: {why}, but matches {found}")
            invalid += 1
        elif found is None:
            check("not handled" in told, f"{pattern!r}: {told!r}")
            refused += 1
        else:
            check(found == wanted, f"{pattern!r}: {sorted(found ^ wanted)}")
            matched += len(wanted) > 0
    check(matched > COUNT / 5 and invalid > COUNT / 20, f"{matched} that match, {invalid} invalid")
    check(refused < COUNT / 5, f"{refused} valid ones are refused")
    print(f"{COUNT} patterns: {matched} match something, {invalid} are none, {refused} are not handled")


if __name__ == "__main__":
    run_tests(test_patterns)
