"""The report: what it was measured on, tables in markdown, a plot in SVG."""

import datetime
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

MB = 1e6


def output(*words, **environment):
    """(standard output, standard error); nothing if there is no such program."""
    if not shutil.which(words[0]):
        return "", ""
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment})
    return done.stdout.strip(), done.stderr


# ---- where ---------------------------------------------------------------------------

def processor():
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def blas_core(program, source):
    """What OpenBLAS says of itself when the program loads it."""
    base, tuned = (source / f"testdata/mini-sd/{name}.safetensors" for name in ("base", "tuned"))
    with tempfile.TemporaryDirectory(prefix="loratool-") as folder:
        _, said = output(program, "extract", "--base", base, "--tuned", tuned, "-q",
                         "-o", f"{folder}/adapter.safetensors", OPENBLAS_VERBOSE="2")
    cores = re.findall(r"Core: (\S+)", said)
    return cores[-1] if cores else "unknown"


def place(program, source):
    """Rows of what the figures depend on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    commit = output("git", "-C", source, "describe", "--always", "--dirty")[0]
    version = output("pkg-config", "--modversion", "openblas")[0] or "of unknown version"
    blas = "MKL" if torch.backends.mkl.is_available() else "no MKL"
    return [
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("processor", f"{processor()}, {len(os.sched_getaffinity(0))} cores, "
                      f"{memory / 1e9:.0f} GB, load {os.getloadavg()[0]:.2f} at the start"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("loratool", f"{output(program, '--version')[0]} {commit}".strip()),
        ("OpenBLAS", f"{version}, core {blas_core(program, source)}"),
        ("torch", f"{torch.__version__}, {blas}, {torch.backends.cpu.get_cpu_capability()}, "
                  f"{torch.get_num_threads()} threads"),
        ("Python", platform.python_version())]


# ---- tables --------------------------------------------------------------------------

def duration(seconds):
    if seconds < 0.1:
        return f"{1000 * seconds:.2f} ms"
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


@dataclass
class Section:
    """One case: paragraphs and tables, and what was aimed at."""

    name: str
    title: str
    parts: list = field(default_factory=list)
    aims: list = field(default_factory=list)

    def note(self, text):
        self.parts.append(text)

    def table(self, heads, rows):
        self.parts.append(table(heads, rows))

    def runs(self, commands, ours):
        """Times of commands, and their medians over that of `ours`."""
        self.table(
            ["command", "runs", "median", "min to max", "peak memory", f"over {ours.name}"],
            [(c.name + (" (sampled)" if c.times else ""), len(c.seconds), duration(c.median),
              f"{duration(min(c.seconds))} to {duration(max(c.seconds))}",
              f"{c.peak / MB:.0f} MB", f"{c.median / ours.median:.2f}") for c in commands])

    def at_most(self, what, value, limit, unit=""):
        self.aims.append((what, f"<= {limit:g}{unit}", value, unit, value <= limit))

    def at_least(self, what, value, limit, unit=""):
        self.aims.append((what, f">= {limit:g}{unit}", value, unit, value >= limit))

    def text(self):
        aims = [(what, aim, f"{value:.6g}{unit}", "met" if met else "missed")
                for what, aim, value, unit, met in self.aims]
        tables = [table(["what", "aim", "measured", "verdict"], aims)] if aims else []
        return "\n\n".join([f"## {self.name}: {self.title}", *self.parts, *tables])


def document(where, sections):
    how = ("Times are medians of whole processes that ran in turn, memory is the largest resident "
           "size of the process (below 10 MB it is not seen).")
    return "\n\n".join(["# Benchmark", how, table(["what", "value"], where),
                        *(section.text() for section in sections)]) + "\n"


# ---- plot ----------------------------------------------------------------------------

WIDTH, HEIGHT, EDGE = 720, 480, 64


def decades(values):
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def plot(title, across, up, points, rate):
    """Points (x, y, label) on logarithmic axes and the line y = x / rate, as SVG."""
    (left, right), (low, high) = (decades([p[axis] for p in points]) for axis in (0, 1))
    right, high = max(right, left + 1), max(high, low + 1)

    def at(x, y):
        return (EDGE + (math.log10(x) - left) / (right - left) * (WIDTH - 2 * EDGE),
                HEIGHT - EDGE - (math.log10(y) - low) / (high - low) * (HEIGHT - 2 * EDGE))

    def line(a, b, colour):
        return '<path d="M%.1f %.1fL%.1f %.1f" stroke="%s"/>' % (*a, *b, colour)

    def text(place, words, anchor="middle"):
        return '<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>' % (*place, anchor, words)

    parts = [text((WIDTH / 2, EDGE / 2), title), text((WIDTH / 2, HEIGHT - 14), across),
             text((EDGE, EDGE - 10), up)]
    for x in range(left, right + 1):
        parts.append(line(at(10**x, 10**low), at(10**x, 10**high), "#ddd"))
        parts.append(text((at(10**x, 10**low)[0], HEIGHT - EDGE + 18), f"1e{x}"))
    for y in range(low, high + 1):
        parts.append(line(at(10**left, 10**y), at(10**right, 10**y), "#ddd"))
        parts.append(text((EDGE - 6, at(10**left, 10**y)[1] + 4), f"1e{y}", "end"))
    first, last = max(10**left, rate * 10**low), min(10**right, rate * 10**high)
    parts.append(line(at(first, first / rate), at(last, last / rate), "#999"))
    for x, y, label in points:
        parts.append('<circle cx="%.1f" cy="%.1f" r="4" fill="#246"><title>%s</title></circle>'
                     % (*at(x, y), label))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
            + "\n".join(parts) + "\n</svg>\n")
