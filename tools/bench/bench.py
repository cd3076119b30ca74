"""Times and checks loratool against named alternatives; `tools/bench/run` starts it.

Each case runs loratool and its alternatives in turn, as whole processes, and ends with what was
aimed at and what was measured.  A new case is a function and a row in CASES.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

import fidelity
from measure import Command, alternate, measure, remove, say
from report import MB, Section, document, duration, place, plot

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
CORES = len(os.sched_getaffinity(0))


# ---- inputs --------------------------------------------------------------------------

class Bench:
    """The settings of a run, and its models and adapters, each made when it is first asked for."""

    def __init__(self, options, work):
        self.options, self.work, self.made = options, work, {}
        self.program, self.synth = os.environ["LORATOOL"], os.environ["LORATOOL_SYNTH"]
        self.rounds = 1 if options.quick else options.rounds
        self.many = 5 if options.quick else 100

    def rank(self, usual):
        return self.options.rank or usual

    def make(self, name, *words):
        if name not in self.made:
            say(f"making {name}")
            path = self.work / f"{name}.safetensors"
            subprocess.run([self.synth, *map(str, words), "-o", path], check=True)
            self.made[name] = path
        return self.made[name]

    def base(self, layout, dtype="f16"):
        """A model of a layout, or the one given instead of every layout."""
        if self.options.pair:
            return self.options.pair[0]
        return self.make(f"{layout}-base", layout, "--dtype", dtype, "-j", CORES)

    def pair(self, layout, dtype="f16"):
        """(base, tuned), its fine-tune."""
        base = self.base(layout, dtype)
        if self.options.pair:
            return self.options.pair
        return base, self.make(f"{layout}-tuned", layout, "--tune-of", base, "-j", CORES)

    def adapter(self, layout, rank, seed=2):
        base = self.base(layout)
        return self.make(f"{layout}-adapter-{rank}-{seed}", layout, "--adapter", "--rank", rank,
                         "--seed", seed, "--for", base)

    def loratool(self, *words):
        """The report of a run that is not timed."""
        words = [self.program, *map(str, words), "--json"]
        return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)

    def plan(self, base, adapters):
        """Where modules belong: a list of objects of adapter, module, tensor, first_row, rows."""
        return self.loratool("merge", "-n", "--base", base, *adapters)["plan"]

    def store(self, name, value):
        path = self.work / f"{name}.json"
        path.write_text(json.dumps(value))
        return path

    def peer(self, script, *words):
        return [sys.executable, HERE / "peers" / script, *words]


def header(path):
    """The shapes in a safetensors file."""
    with open(path, "rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: entry["shape"] for name, entry in entries.items() if name != "__metadata__"}


def shapes_of(base, plan):
    """Module -> (rows, columns) of its matrix."""
    shapes = header(base)
    return {i["module"]: (i["rows"], math.prod(shapes[i["tensor"]][1:])) for i in plan}


def first_of_each(shapes, limit=1):
    """The first modules of each distinct shape."""
    seen, chosen = Counter(), []
    for module, shape in shapes.items():
        seen[shape] += 1
        if seen[shape] <= limit:
            chosen.append(module)
    return chosen


def sample_of(shapes):
    """One module of each distinct shape -> how many have it."""
    of_shape = Counter(shapes.values())
    return {module: of_shape[shapes[module]] for module in first_of_each(shapes)}


def modules_in(path):
    return len(fidelity.Adapter(path).names())


SAMPLED = ("Sampled: a process timed one module of each of the {} distinct shapes, and its time "
           "counts as often as the shape does; its memory is that of the sample.")


# ---- extract -------------------------------------------------------------------------

def extraction(pair, rank):
    return ["extract", "--base", pair[0], "--tuned", pair[1], "--rank", rank]


class Extraction:
    """One pair of models, loratool and some peers on it."""

    def __init__(self, bench, name, pair, rank, folder=False, choice=()):
        self.bench, self.name, self.pair, self.rank = bench, name, pair, bench.rank(rank)
        self.end = "/" if folder else ".safetensors"
        self.words = [*extraction(pair, self.rank), *choice]
        self.outputs = {}
        exact = self.output("loratool, f32")
        self.modules = bench.loratool(*self.words, "--dtype", "f32", "-o", exact)["modules_written"]
        self.plan = bench.plan(pair[0], [exact])
        self.shapes = shapes_of(pair[0], self.plan)
        assert self.modules == len(self.plan) == len(self.shapes)

    def output(self, name):
        self.outputs[name] = self.bench.work / f"{self.name}-{name.replace(', ', '-')}{self.end}"
        return f"{self.outputs[name]}/" if self.end == "/" else str(self.outputs[name])

    def ours(self):
        words = [self.bench.program, *self.words, "-q", "-o", self.output("loratool")]
        return Command("loratool", words, list(self.pair), self.outputs["loratool"])

    def peer(self, method, how):
        """A peer that runs in each round ("whole"), "once" or on a "sample"."""
        options = self.bench.options
        sampled = not options.whole and (how == "sample" or options.quick and how == "once")
        counts = sample_of(self.shapes) if sampled else None
        plan = [i for i in self.plan if not sampled or i["module"] in counts]
        tag = f"{self.name}-{method}"
        times = self.bench.work / f"{tag}-times.json"
        words = self.bench.peer("extract.py", method, *self.pair, self.bench.store(tag, plan),
                                self.output(method), self.rank, times)
        return Command(method, words, list(self.pair), self.outputs[method], once=how != "whole",
                       times=times if sampled else None, counts=counts)

    def check_outputs(self, commands):
        for command in commands:
            expected = len(command.counts) if command.counts else self.modules
            found = modules_in(command.writes)
            assert found == expected, f"{command.name} wrote {found} modules, not {expected}"

    def errors(self, section, per_shape):
        """Table of errors over the optimum; the aim is for the engine, without half precision."""
        options = self.bench.options
        limit = len(self.plan) if options.whole else 1 if options.quick else per_shape
        chosen = set(first_of_each(self.shapes, limit or len(self.plan)))
        plan = [item for item in self.plan if item["module"] in chosen]
        say(f"{self.name}: errors of {len(plan)} modules")
        ratios = fidelity.compare(*self.pair, plan, self.outputs, self.rank)
        rows = fidelity.rows(ratios)
        section.note(f"Error of the stored adapter over that of the best of rank {self.rank}, from "
                     f"{len(plan)} of {self.modules} modules in float64:")
        section.table(["adapter", "modules", "worst", "median", "worst in"],
                      [(n, count, f"{worst:.6f}", f"{median:.6f}", module)
                       for n, count, worst, median, module in rows])
        counts = {name: (count, worst) for name, count, worst, _, _ in rows}
        count, worst = counts["loratool, f32"]
        assert count == counts["loratool"][0], "modules are missing in one of the adapters"
        section.at_most("worst error over the optimum, stored as f32", worst, 1.001)


def extract(bench, section, pair, peers, aims, rank=64, floor=False, per_shape=None, **kind):
    """aims: a peer, or peers joined by "/" of which the fastest counts -> times loratool's."""
    job = Extraction(bench, section.name, pair, rank, **kind)
    ours = job.ours()
    commands = [ours, *(job.peer(*peer) for peer in peers)]
    floors = [Command("cat BASE TUNED", ["cat", *pair], list(pair))] if floor else []
    alternate([*floors, *commands], bench.rounds)
    job.check_outputs(commands)
    section.note(f"{job.modules} modules of {len(set(job.shapes.values()))} distinct shapes, rank "
                 f"{job.rank}, {sum(p.stat().st_size for p in pair) / 1e9:.2f} GB read. loratool "
                 "flushes its output to the disk, the others do not.")
    if any(command.times for command in commands):
        section.note(SAMPLED.format(len(set(job.shapes.values()))))
    section.runs([*commands, *floors], ours)
    taken = {command.name: command.median for command in commands}
    for names, aim in aims.items():
        section.at_least(f"time of {names} over loratool",
                         min(taken[name] for name in names.split("/")) / ours.median, aim)
    job.errors(section, per_shape)
    return ours, floors


def sd15_linear(bench, section):
    section.note("The set kohya-style LoRA trains: linear layers and the 1x1 convolutions around "
                 "the transformers.")
    extract(bench, section, bench.pair("sd15"),
            [("full", "sample"), ("thin", "sample"), ("lowrank", "whole"), ("lowrank2", "whole")],
            {"full": 50, "thin/lowrank": 4}, choice=["--include", "lora_te|_attentions_"])


def sd15_conv(bench, section):
    extract(bench, section, bench.pair("sd15"),
            [("full", "sample"), ("thin", "sample"), ("lowrank", "whole"), ("lowrank2", "whole")],
            {"full": 100, "thin/lowrank": 5}, per_shape=2)


def sdxl(bench, section):
    ours, (floor,) = extract(bench, section, bench.pair("sdxl"), [("lowrank", "sample")],
                             {"lowrank": 4}, floor=True, per_shape=2)
    section.at_most("time over that of reading both files", ours.median / floor.median, 6)
    section.at_most("peak memory", ours.peak / MB, 800, " MB")


def llama(bench, section):
    extract(bench, section, bench.pair("llama-1b", "bf16"), [("lowrank", "whole")],
            {"lowrank": 4}, folder=True, per_shape=2)


# ---- merge ---------------------------------------------------------------------------

def copy_command():
    """cp, told to copy."""
    known = subprocess.run(["cp", "--help"], capture_output=True, text=True)
    return ["cp", "--reflink=never"] if "--reflink" in known.stdout + known.stderr else ["cp"]


def merge(bench, section):
    base = bench.base("sdxl")
    adapters = [bench.adapter("sdxl", bench.rank(64), seed) for seed in (2, 3, 4)]
    out, copy = bench.work / "merged.safetensors", copy_command()

    def command(name, words, reads=()):
        return Command(name, words, [base, *reads], out, keep=False)

    def ours(name, given):
        words = [bench.program, "merge", "--base", base, *given, "-q", "-o", out]
        return command(name, words, given)

    def peer(name, given):
        plan = bench.store(f"merge-{len(given)}", bench.plan(base, given))
        return command(name, bench.peer("merge.py", base, plan, out), given)

    one, three = ours("loratool, 1 adapter", adapters[:1]), ours("loratool, 3 adapters", adapters)
    cp = command("cp", [*copy, base, out])
    synced = command("cp and sync", ["sh", "-c", '"$@" && sync "$0"', out, *copy, base, out])
    commands = [cp, synced, one, three, peer("torch, 1 adapter", adapters[:1]),
                peer("torch, 3 adapters", adapters)]
    alternate(commands, bench.rounds)
    section.note(f"{base.stat().st_size / 1e9:.2f} GB, rank {bench.rank(64)}; outputs are removed "
                 "and the disk is at rest before each run. loratool flushes its output to the "
                 "disk, as `cp and sync` does; the others do not.")
    section.runs(commands, one)
    section.at_most("1 adapter, time over cp", one.median / cp.median, 1.3)
    section.at_most("3 adapters, time over cp", three.median / cp.median, 1.6)
    section.table(["over", "1 adapter", "3 adapters"],
                  [(c.name, f"{one.median / c.median:.2f}", f"{three.median / c.median:.2f}")
                   for c in (cp, synced)])


# ---- info ----------------------------------------------------------------------------

def info(bench, section):
    model = bench.base("sdxl")
    empty = Command("/bin/true", [shutil.which("true")])
    ours = Command("loratool info", [bench.program, "info", model])
    alternate([empty, ours], bench.many, settle=False)
    section.note(f"A file of {model.stat().st_size / 1e9:.2f} GB.")
    section.runs([ours, empty], ours)
    section.at_most("time above that of an empty process",
                    1000 * (ours.median - empty.median), 3, " ms")


def bandwidth():
    """Bytes copied in a second."""
    source = np.ones(1 << 27)
    target, best = np.zeros_like(source), math.inf
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return source.nbytes / best


def hashes(bench, section):
    known = subprocess.run([bench.program, "help", "info"], capture_output=True, text=True).stdout
    if "--hash" not in known:
        section.note("Skipped: `loratool info` has no `--hash`.")
        return
    model = bench.base("sdxl")
    ours = Command("loratool info --hash", [bench.program, "info", "--hash", model], [model])
    commands = [ours] + [Command(" ".join(words), [*words, model], [model])
                         for words in (["openssl", "dgst", "-sha256"], ["sha256sum"])
                         if shutil.which(words[0])]
    alternate(commands, bench.rounds)
    size = model.stat().st_size
    section.runs(commands, ours)
    section.table(["command", "GB/s"], [(c.name, f"{size / c.median / 1e9:.2f}") for c in commands]
                  + [("copy in memory (numpy)", f"{bandwidth() / 1e9:.2f}")])
    for command in commands[1:]:
        if command.name.startswith("openssl"):
            section.at_least(f"speed over {command.name}", command.median / ours.median, 0.95)


# ---- resize --------------------------------------------------------------------------

def resize(bench, section):
    new = bench.rank(32)
    adapter, out = bench.adapter("sdxl", 4 * new), bench.work / "resized.safetensors"
    base = bench.base("sdxl")
    shapes = shapes_of(base, bench.plan(base, [adapter]))
    ours = Command("loratool", [bench.program, "resize", adapter, "--rank", new, "-q", "-o", out],
                   [adapter], out)

    def peer(method, counts):
        names, times = bench.store(method, list(counts or shapes)), bench.work / f"{method}-times"
        output = bench.work / f"resized-{method}.safetensors"
        words = bench.peer("resize.py", method, adapter, names, output, new, times)
        return Command(method, words, [adapter], output, once=method == "product",
                       times=times if counts else None, counts=counts)

    core = peer("qr-core", None)
    product = peer("product", None if bench.options.whole else sample_of(shapes))
    alternate([ours, core, product], bench.rounds)
    for command in (ours, core, product):
        assert modules_in(command.writes) == len(command.counts or shapes), command.name
    section.note(f"{len(shapes)} modules, rank {4 * new} to {new}, "
                 f"{adapter.stat().st_size / 1e9:.2f} GB. `product` multiplies the "
                 "factors and takes all singular vectors, `qr-core` goes through "
                 "the small matrix between their QR factors.")
    if product.times:
        section.note(SAMPLED.format(len(product.counts)))
    section.runs([ours, core, product], ours)
    section.at_least("time of product over loratool", product.median / ours.median, 200)
    section.at_least("time of qr-core over loratool", core.median / ours.median, 4)


# ---- scaling -------------------------------------------------------------------------

def reported_seconds(bench, pair, rank):
    """Module -> seconds, if the report has them."""
    out = bench.work / "reported.safetensors"
    report = bench.loratool(*extraction(pair, rank), "-j", 1, "-v", "-o", out)
    remove(out)
    return {m["name"]: m["seconds"] for m in report["modules"] if "seconds" in m}


def single_seconds(bench, pair, rank, plan, shapes):
    """Shape -> seconds: a run with that module alone, less one with the smallest."""
    fused = Counter(item["tensor"] for item in plan)
    alone = {i["module"]: i["tensor"] for i in plan if fused[i["tensor"]] == 1}
    chosen = first_of_each({module: shapes[module] for module in alone})
    chosen.sort(key=lambda module: math.prod(shapes[module]))
    out, commands = bench.work / "single.safetensors", []
    for module in chosen:
        only = "^" + alone[module].replace(".", "\\.") + "$"
        words = [*extraction(pair, rank), "-j", 1, "--include", only, "-q", "-o", out]
        commands.append(Command(module, [bench.program, *words], writes=out))
    alternate(commands, bench.rounds, settle=False)
    floor = min(commands[0].seconds)
    return {shapes[c.name]: min(c.seconds) - floor for c in commands[1:]}


def cost_of_shapes(bench, section, pair, rank, plan):
    shapes = shapes_of(pair[0], plan)
    reported, seconds = reported_seconds(bench, pair, rank), {}
    for module, taken in reported.items():
        seconds.setdefault(shapes[module], []).append(taken)
    seconds = {shape: sum(taken) / len(taken) for shape, taken in seconds.items()}
    how = "mean of what the report says"
    if not reported:
        seconds = single_seconds(bench, pair, rank, plan, shapes)
        how = "a run with one such module alone, less a run with the smallest"
    counts = Counter(shapes.values())
    flops = {(m, n): 4 * m * n * (min(rank, m, n) + 8) for m, n in seconds}
    shown = sorted((s for s in seconds if seconds[s] > 0), key=flops.get)
    section.note(f"Cost of a module with `-j 1` ({how}) against 4 m n (r + 8) operations: Δᵀ "
                 "times a block of r + 8 vectors and Δ times that, one step. GFLOP/s is that over the "
                 "whole time, so it is lower the more steps are taken.")
    section.table(["shape", "modules", "time of one", "GFLOP/s"],
                  [(f"{m} x {n}", counts[m, n], duration(seconds[m, n]),
                    f"{flops[m, n] / seconds[m, n] / 1e9:.1f}") for m, n in shown])
    draw(bench, section, [(flops[s], seconds[s], f"{s[0]} x {s[1]}") for s in shown])


def draw(bench, section, points):
    if bench.options.output is None or not points:
        return
    path = bench.options.output.with_suffix(".svg")
    rate = float(np.median([x / y for x, y, _ in points]))
    path.write_text(plot(f"extract, one module; the line is {rate / 1e9:.1f} GFLOP/s",
                         "operations of one step, 4 m n (r + 8)", "seconds", points, rate))
    section.note(f"![time against operations]({path.name})")


def scaling(bench, section):
    pair, rank = bench.pair("sd15"), bench.rank(64)
    commands = []
    for jobs in dict.fromkeys((1, CORES)):
        out = bench.work / f"threads-{jobs}" / "adapter.safetensors"  # its name is in the file
        out.parent.mkdir()
        words = [bench.program, *extraction(pair, rank), "-j", jobs, "-q", "-o", out]
        commands.append(Command(f"loratool -j {jobs}", words, list(pair), out))
    alternate(commands, bench.rounds)
    first, last = commands[0], commands[-1]
    assert first.writes.read_bytes() == last.writes.read_bytes()
    section.note("All modules of the Stable Diffusion 1.5 pair; the outputs are the same bytes.")
    section.runs(commands, first)
    if CORES > 1:
        section.at_least(f"speed of {CORES} threads over one", first.median / last.median,
                         0.85 * CORES)
    cost_of_shapes(bench, section, pair, rank, bench.plan(pair[0], [last.writes]))


# ---- the run -------------------------------------------------------------------------

CASES = {
    "sd15-linear": (sd15_linear, "extract, Stable Diffusion 1.5, linear layers"),
    "sd15-conv": (sd15_conv, "extract, Stable Diffusion 1.5, all modules"),
    "sdxl": (sdxl, "extract, Stable Diffusion XL, all modules"),
    "llama": (llama, "extract, a language model of 1.2 billion parameters, into a PEFT folder"),
    "merge": (merge, "adapters into Stable Diffusion XL"),
    "info": (info, "what a Stable Diffusion XL file is"),
    "hash": (hashes, "SHA-256 of a Stable Diffusion XL file"),
    "resize": (resize, "a Stable Diffusion XL adapter"),
    "scaling": (scaling, "threads, and the cost of a module"),
}


def parse():
    parser = argparse.ArgumentParser(
        prog="tools/bench/run", description="Time and check loratool against alternatives.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="cases:\n" + "\n".join(f"  {name:12} {title}" for name, (_, title) in CASES.items()))
    parser.add_argument("cases", nargs="*", metavar="CASE", help="by default all")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE",
                        help="the tables, in markdown; a plot goes beside it")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each command")
    parser.add_argument("--rank", type=int, metavar="R", help="instead of each case's own")
    parser.add_argument("--pair", nargs=2, type=Path, metavar=("BASE", "TUNED"),
                        help="instead of every synthetic model")
    parser.add_argument("--whole", action="store_true", help="do not sample slow alternatives")
    parser.add_argument("--keep", action="store_true", help="keep the inputs and outputs")
    parser.add_argument("--quick", action="store_true",
                        help="one round, slow alternatives and errors sampled; without cases "
                             "or --pair only sd15-linear")
    options = parser.parse_intermixed_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}")
    if not options.cases:
        options.cases = ["sd15-linear"] if options.quick and not options.pair else list(CASES)
    return options


def run_case(bench, name):
    function, title = CASES[name]
    section = Section(name, title)
    say(f"{name}: {title}")
    start, good = time.monotonic(), True
    try:
        function(bench, section)
    except Exception as error:
        traceback.print_exc()
        section.note(f"Failed: {type(error).__name__} {error}")
        good = False
    section.note(f"The case took {time.monotonic() - start:.0f} s, inputs that it made included.")
    return section, good


def run(options, work):
    bench, sections, good = Bench(options, work), [], True
    where = place(bench.program, SOURCE)
    measure([bench.program, "--version"])  # it must start at all
    for name in options.cases:
        section, went_well = run_case(bench, name)
        good = good and went_well
        sections.append(section)
        if options.output:
            options.output.write_text(document(where, sections))
    if not options.output:
        print(document(where, sections), end="")
    return 0 if good else 1


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse()
    if options.keep:
        work = Path(tempfile.mkdtemp(prefix="loratool-bench-"))
        say(f"files are kept in {work}")
        return run(options, work)
    with tempfile.TemporaryDirectory(prefix="loratool-bench-") as work:
        return run(options, Path(work))


sys.exit(main())
