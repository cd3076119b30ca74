"""What the fault tests share: small inputs made here, the commands that are run on them, runs under
the preloaded library (preload.c), and the promise that is checked after each of them."""

import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

LORATOOL = os.environ["LORATOOL"]
PRELOAD = os.environ["LORATOOL_PRELOAD"]
SOURCE = Path(os.environ["LORATOOL_SOURCE"])
EXHAUSTIVE = os.environ.get("LORATOOL_FAULTS") == "all"
TESTDATA = SOURCE / "testdata"

if not PRELOAD:
    print("skipped: no library to preload with sanitizers, or with another C library than glibc")
    sys.exit(77)


class Checks:
    def __init__(self):
        self.done = self.failed = 0

    def __call__(self, condition, message):
        self.done += 1
        if not condition:
            self.failed += 1
            if self.failed <= int(os.environ.get("LORATOOL_FAULTS_SHOWN", 60)):
                print("FAILED", message, flush=True)
        return bool(condition)

    def finish(self):
        print(f"{self.done} checks, {self.failed} failed")
        sys.exit(0 if self.done and not self.failed else 1)


check = Checks()

RENAMES = "rename,rename2,link" # all that gives a file a name

# ---- inputs --------------------------------------------------------------------------


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (shape, values); everything is F32."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def noise(rng, shape, scale=1.0):
    n = 1
    for d in shape:
        n *= d
    return shape, [scale * rng.uniform(-1, 1) for _ in range(n)]


def llm_tensors(rng):
    tensors = {"model.embed_tokens.weight": noise(rng, [12, 8])}
    for i in range(2):
        at = f"model.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{at}self_attn.{name}.weight"] = noise(rng, [8, 8])
        tensors[f"{at}mlp.gate_proj.weight"] = noise(rng, [16, 8])
        tensors[f"{at}input_layernorm.weight"] = noise(rng, [8])
    return tensors


SD_BLOCK = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0."


def sd_tensors(rng):
    return {
        f"{SD_BLOCK}attn1.to_q.weight": noise(rng, [8, 8]),
        f"{SD_BLOCK}attn2.to_k.weight": noise(rng, [8, 6]),
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": noise(rng, [8, 8, 1, 1]),
        "model.diffusion_model.input_blocks.1.0.in_layers.2.weight": noise(rng, [8, 4, 3, 3]),
        "model.diffusion_model.middle_block.1.proj_in.weight": noise(rng, [8, 8, 1, 1]),
        "model.diffusion_model.input_blocks.0.0.weight": noise(rng, [8, 4, 3, 3]),
        "model.diffusion_model.input_blocks.0.0.bias": noise(rng, [8]),
        "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight": noise(rng, [12, 6]),
    }


def tune(rng, tensors):
    return {name: (shape, [v + 0.1 * rng.uniform(-1, 1) for v in values])
            for name, (shape, values) in tensors.items()}


def make_inputs(folder):
    rng = random.Random(7)
    for name, tensors in ("llm", llm_tensors(rng)), ("sd", sd_tensors(rng)):
        write_safetensors(folder / name / "base" / "model.safetensors", tensors, {"format": "pt"})
        write_safetensors(folder / name / "tuned.safetensors", tune(rng, tensors), {"format": "pt"})
    (folder / "llm" / "base" / "config.json").write_text('{"model_type": "llama"}\n')
    for name, output in ("llm", "lora/"), ("sd", "lora.safetensors"):
        plain("extract", "--base", folder / name / "base" / "model.safetensors", "--tuned",
              folder / name / "tuned.safetensors", "--rank", 4, "--dtype", "f32", "-o",
              f"{folder / name}/{output}")
    plain("convert", folder / "llm" / "base", "-o", f"{folder}/llm/sharded/", "--max-shard-size", "1KB")
    subprocess.run([os.environ["LORATOOL_SYNTH"], "flux:d=64 h=16 n=1 s=1 i=16 c=32 p=24 g=1", "-o",
                    folder / "flux.safetensors", "--dtype", "bf16"], check=True, capture_output=True)
    for name in "lightning.ckpt", "legacy.pt":
        shutil.copy(TESTDATA / "mini-torch" / name, folder)


def plain(*arguments):
    done = subprocess.run([LORATOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SystemExit(f"cannot make the inputs: {done.stderr}")
    return done


# ---- commands ------------------------------------------------------------------------


class Command:
    """output: what -o names, relative to the run's folder; None: only standard output.
    piped: the input that comes through a pipe."""

    def __init__(self, title, arguments, output=None, piped=None):
        self.title, self.output, self.piped = title, output, piped
        self.arguments = [a for a in arguments.split() if a]
        self.to_stdout = output == "-"
        self.folder = bool(output) and output.endswith("/")

    def line(self, force):
        line = [*self.arguments, *(["-o", self.output] if self.output else [])]
        if self.output and "--to" not in line:
            line += ["-j", "1"]
        return line + (["-f"] if force and not self.to_stdout else [])


SD = "--base in/sd/base/model.safetensors"
COMMANDS = [
    Command("info", "info in/sd/lora.safetensors in/llm/lora"),
    Command("info json", "info --json --tensors in/sd/base/model.safetensors"),
    Command("info hash", "info --hash in/sd/lora.safetensors"),
    Command("info folder", "info in/llm/sharded"),
    Command("info torch", "info --json in/lightning.ckpt in/legacy.pt"),
    Command("map", f"map in/sd/lora.safetensors {SD}"),
    Command("map json", f"map --json in/sd/lora.safetensors {SD}"),
    Command("extract", f"extract {SD} --tuned in/sd/tuned.safetensors --rank 2", "out.safetensors"),
    Command("extract folder", "extract --base in/llm/sharded --tuned in/llm/tuned.safetensors --rank 2",
            "out/"),
    Command("extract pipe", f"extract {SD} --tuned in/sd/tuned.safetensors --rank 2 -q", "-"),
    Command("merge", f"merge {SD} in/sd/lora.safetensors:0.5", "out.safetensors"),
    Command("merge json", f"merge --json {SD} in/sd/lora.safetensors:0.5", "out.safetensors"),
    Command("merge torch", f"merge {SD} in/sd/lora.safetensors", "out.ckpt"),
    Command("merge folder", "merge --base in/llm/sharded in/llm/lora", "out/"),
    Command("merge pipes", "merge --base - in/sd/lora.safetensors -q", "-", "in/sd/base/model.safetensors"),
    Command("resize", "resize in/sd/lora.safetensors --rank 2", "out.safetensors"),
    Command("resize folder", "resize in/llm/lora --rank 2", "out/"),
    Command("convert", "convert in/lightning.ckpt", "out.safetensors"),
    Command("convert legacy", "convert in/legacy.pt --dtype f16", "out.pt"),
    Command("convert folder", "convert in/llm/base --max-shard-size 1KB", "out/"),
    Command("convert to", f"convert in/sd/lora.safetensors --to diffusers {SD}", "out.safetensors"),
    Command("convert model", "convert in/flux.safetensors --to diffusers", "out.safetensors"),
    Command("convert pipe", "convert in/sd/lora.safetensors --format torch -q", "-"),
]

# ---- runs ----------------------------------------------------------------------------


class Result:
    """code: of the exit, minus the signal, or "hang". askers: the libraries that were refused memory."""

    def __init__(self, code, stdout, stderr, counts, askers=""):
        self.code, self.stdout, self.stderr, self.counts = code, stdout, stderr, counts
        self.askers = askers


class Bench:
    """A folder in which commands are run again and again; in/ holds the inputs."""

    def __init__(self, inputs):
        self.root = Path(tempfile.mkdtemp(prefix="loratool-faults-"))
        self.temp = Path(tempfile.mkdtemp(prefix="loratool-faults-tmp-"))
        shutil.copytree(inputs, self.root / "in", copy_function=shutil.copy2)

    def close(self):
        shutil.rmtree(self.root)
        shutil.rmtree(self.temp)

    def clear(self):
        for path in self.root.iterdir():
            if path.name == "in":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self.temp.iterdir():
            path.unlink()

    def run(self, command, force=False, fault=None, library=PRELOAD, timeout=60):
        """fault: {class, at, do, for}, or None for a good run."""
        counts, asker = self.temp / "counts", self.temp / "asker"
        env = {**os.environ, "TMPDIR": str(self.temp), "LD_PRELOAD": library,
               "FAULT_COUNTS": str(counts), "FAULT_ASKER": str(asker)}
        for key, value in (fault or {}).items():
            env[f"FAULT_{key.upper()}"] = str(value)
        with open(self.root / command.piped if command.piped else os.devnull, "rb") as file:
            feeder = None
            if command.piped:
                feeder = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
            try:
                done = subprocess.run([LORATOOL, *command.line(force)], cwd=self.root, env=env,
                                      stdin=feeder.stdout if feeder else file, capture_output=True,
                                      timeout=timeout)
            except subprocess.TimeoutExpired as late:
                return Result("hang", late.stdout or b"", "", {})
            finally:
                if feeder:
                    feeder.stdout.close()
                    feeder.wait()
        seen = {}
        if counts.exists():
            seen = {k: int(v) for k, v in (line.split() for line in counts.read_text().splitlines())}
            counts.unlink()
        askers = asker.read_text() if asker.exists() else ""
        asker.unlink(missing_ok=True)
        return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"), seen, askers)

    def files(self):
        """Everything there is but the inputs: name -> bytes, None for a folder."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root)
            if name.parts[0] != "in":
                found[str(name)] = path.read_bytes() if path.is_file() else None
        return found

    def strays(self):
        return [p.name for p in self.temp.iterdir()]


def steady(data):
    """A report without what differs from run to run."""
    text = data.decode(errors="replace")
    text = re.sub(r"[0-9.]+ s, peak memory [0-9.]+ [KMG]?B", "TIME", text)
    return re.sub(r'"(seconds|peak_memory_bytes)":[-0-9.e+]+', r'"\1":0', text)


class Reference:
    """The good run of a command: what it makes and how many calls of each class it needs."""

    def __init__(self, bench, command):
        bench.clear()
        done = bench.run(command)
        if done.code or bench.strays():
            raise SystemExit(f"{command.title}: {done.code} {done.stderr} {bench.strays()}")
        self.made, self.stdout, self.counts = bench.files(), done.stdout, done.counts
        self.stderr = done.stderr
        self.old = {name: b"the old " + name.encode() for name, data in self.made.items() if data is not None}

    def place_old(self, bench, command):
        """An earlier output of the same names, and in a folder something else."""
        if not command.output or command.to_stdout:
            return {}
        for name, data in self.made.items():
            if data is None:
                (bench.root / name).mkdir()
        for name, data in self.old.items():
            (bench.root / name).write_bytes(data)
        if command.folder:
            (bench.root / command.output / "notes.txt").write_text("mine")
        return bench.files()


# Words that the message about a failed call must hold.
CAUSES = {"EIO": "Input/output error", "ENOSPC": "No space left on device", "EACCES": "Permission denied",
          "EROFS": "Read-only file system", "EMFILE": "Too many open files", "ENOMEM": "emory",
          "EAGAIN": "temporarily unavailable"}


def says_what(stderr, action):
    return CAUSES.get(action, "") in stderr and bool(re.search(
        r"(in/|out[./:]|standard (in|out)put|loratool-faults|temporary file|load |thread|emory)", stderr))


# Libraries that end the process, or crash, when they get no memory: OpenBLAS's kernels for small
# matrices do not look at what malloc gives; libgfortran, which it needs, calls exit while it is loaded;
# libcrypto takes a lock that it could not make when its first digest is looked up.
FRAGILE = re.compile(r"/lib(openblas|gfortran|crypto)[^/]*$", re.M)


def died_in_library(done):
    """The process was ended by such a library: there is no message of ours, all else holds."""
    told = done.stderr.startswith("loratool")
    return bool(FRAGILE.search(done.askers)) and done.code not in (0, "hang") and not told


def put_back(made, old):
    """Where no name could be changed any more, not even back, the old files lie under their temporary
    names: nothing is lost. What is left after it is taken from there."""
    kept = {}
    for name in [n for n in made if n.endswith(".lt-part")]:
        home = re.sub(r"\.([^/]+)\.\w{6}\.lt-part$", r"\1", name)
        data = made.pop(name)
        if check(data == old.get(home), f"{name} is not the old file"):
            kept[home] = data
    return {**made, **kept}


def judge(bench, command, reference, fault, done, old):
    """The promise; returns whether something was lost."""
    label = f"{command.title}{' -f' if old else ''}, {fault}"
    lost = False
    fragile = died_in_library(done)
    # The end of a pipe cannot be told from a pipe that is cut off.
    known = (0, 1, 5) if command.piped and fault["do"] == "eof" else (0, 1)
    if not fragile and not check(done.code in known, f"{label}: exit {done.code}: {done.stderr[-300:]!r}"):
        lost = isinstance(done.code, str) or done.code < 0
    made = bench.files()
    if fault["class"] == RENAMES and fault["for"] == 0 and command.folder and old:
        made = put_back(made, old)
    for name in sorted(set(made) | set(old) | set(reference.made)):
        now, good, before = (group.get(name, False) for group in (made, reference.made, old))
        if name.endswith(".lt-part") or name not in {**reference.made, **old}:
            check("remove" in fault["class"], f"{label}: {name} was left")
        elif done.code == 0:
            fine = now == (good if good is not False else before)
            lost |= not check(fine, f"{label}: exit 0, but {name} is not complete")
        else:
            fine = now in (good, before)
            lost |= not check(fine, f"{label}: {name} is neither the old file nor the new one")
    if command.folder and done.code:
        check(made in (old, {**reference.made, **{k: v for k, v in old.items() if k not in reference.made}}),
              f"{label}: a part of the folder is there: {sorted(made)}")
    check(not bench.strays() or "remove" in fault["class"], f"{label}: left in TMPDIR: {bench.strays()}")
    leaked = done.counts.get("leaked", 0)
    # libzip 1.7 forgets a small block of its own when it gets no memory for the next.
    excused = leaked <= 2 and "/libzip." in done.askers
    check(not leaked or fragile or excused, f"{label}: {leaked} blocks leaked")
    if done.code == 0:
        same = done.stdout == reference.stdout if command.to_stdout else \
            steady(done.stdout) == steady(reference.stdout)
        lost |= not check(same, f"{label}: exit 0, but standard output differs")
        check(steady(done.stderr.encode()) == steady(reference.stderr.encode()),
              f"{label}: exit 0, but says {done.stderr!r}")
    elif not fragile:
        lines = done.stderr.splitlines()
        files = len(re.findall(r" in/", " ".join(command.arguments))) if command.title.startswith("info") else 1
        check(1 <= len(lines) <= files and all(line.startswith("loratool") for line in lines),
              f"{label}: says {done.stderr!r}")
        check(says_what(done.stderr, fault["do"]), f"{label}: what and why is not in {done.stderr!r}")
    return lost
