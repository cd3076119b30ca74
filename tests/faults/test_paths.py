#!/usr/bin/env python3
"""Names in files lead nowhere but where they may; outputs have the permissions that the umask gives, and
go where links lead; nothing in the program can start another one."""

import itertools
import stat
import zipfile

from faults import *

OUTSIDE = ["../secret.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ".", "",
           "sub/../../secret.safetensors", "-"]


def run(bench, *line, umask=None):
    return subprocess.run([LORATOOL, *map(str, line)], cwd=bench.root, capture_output=True, text=True,
                          errors="replace", timeout=60, umask=-1 if umask is None else umask,
                          env={**os.environ, "TMPDIR": str(bench.temp)})


def refused(bench, done, before, label):
    check(done.returncode == 5, f"{label}: exit {done.returncode} {done.stderr!r}")
    check(bench.files() == before, f"{label}: files changed")


def indices_stay_in_their_folder(bench):
    for name in OUTSIDE:
        bench.clear()
        model = bench.root / "model"
        shutil.copytree(bench.root / "in" / "llm" / "sharded", model)
        shutil.copy(model / "model-00001-of-00005.safetensors", bench.root / "secret.safetensors")
        (model / "sub").mkdir()
        shutil.copy(model / "model-00001-of-00005.safetensors", model / "sub" / "model.safetensors")
        index = model / "model.safetensors.index.json"
        tree = json.loads(index.read_text())
        for tensor, file in tree["weight_map"].items():
            if file.startswith("model-00001"):
                tree["weight_map"][tensor] = name
        index.write_text(json.dumps(tree))
        before = bench.files()
        refused(bench, run(bench, "info", "model"), before, f"shard '{name}'")
        done = run(bench, "merge", "--base", "model", "in/llm/lora", "-o", "out/")
        refused(bench, done, before, f"shard '{name}', merged")


def components_stay_in_their_folder(bench):
    for name in "../other", "/tmp", "a/b", "..":
        bench.clear()
        model = bench.root / "pipe"
        model.mkdir()
        write_safetensors(bench.root / "other" / "model.safetensors", llm_tensors(random.Random(1)))
        (model / "model_index.json").write_text(json.dumps({"_class_name": "X", name: ["diffusers", "Y"]}))
        before = bench.files()
        refused(bench, run(bench, "convert", "pipe", "-o", "out/"), before, f"component '{name}'")


def pipes_and_devices_are_no_files(bench):
    """What lies in a folder under a file's name is neither waited for nor read without end."""
    kinds = {"a pipe": lambda path: os.mkfifo(path), "a device": lambda path: path.symlink_to("/dev/zero")}
    places = (("in/llm/lora", "adapter_config.json", 5), ("in/llm/lora", "adapter_model.safetensors", 5),
              ("in/llm/sharded", "model-00002-of-00005.safetensors", 5),
              ("in/llm/sharded", "model.safetensors.index.json", None), ("in/sd/base", "model.safetensors", 3))
    for (source, name, code), (kind, make) in itertools.product(places, kinds.items()):
        bench.clear()
        shutil.copytree(bench.root / source, bench.root / "model")
        (bench.root / "model" / name).unlink()
        make(bench.root / "model" / name)
        done = run(bench, "info", "model")
        check(done.returncode == code if code else done.returncode in (0, 3, 5),
              f"{name}, {kind}: exit {done.returncode} {done.stderr!r}")
        check(code != 5 or f"{name}: is a pipe or a device" in done.stderr, f"{name}, {kind}: {done.stderr!r}")
    bench.clear()
    shutil.copytree(bench.root / "in" / "llm" / "sharded", bench.root / "model")
    index = bench.root / "model" / "model.safetensors.index.json"
    index.rename(bench.root / "index")
    os.mkfifo(index)
    done = run(bench, "info", "model/model.safetensors.index.json")
    check(done.returncode == 5 and "is a pipe" in done.stderr, f"an index: exit {done.returncode} {done.stderr!r}")


def zip_entries_stay_in_their_archive(bench):
    for name in "../evil", "archive/../../evil", "/evil", "archive\\..\\evil":
        bench.clear()
        with zipfile.ZipFile(bench.root / "in" / "lightning.ckpt") as good, \
                zipfile.ZipFile(bench.root / "bad.ckpt", "w") as bad:
            for entry in good.infolist():
                bad.writestr(entry, good.read(entry))
            bad.writestr(name, b"boo")
        before = bench.files()
        done = run(bench, "convert", "bad.ckpt", "-o", "out.safetensors")
        refused(bench, done, before, f"zip entry '{name}'")
        check("leads out" in done.stderr, f"zip entry '{name}': {done.stderr!r}")


def tensor_names_are_no_paths(bench):
    """Names of tensors and modules never become names of files."""
    bench.clear()
    rng = random.Random(3)
    write_safetensors(bench.root / "odd.safetensors", {"../../x/../y.weight": noise(rng, [4, 4]),
                                                       "/abs.weight": noise(rng, [4, 4])})
    for line in (["convert", "odd.safetensors", "-o", "out/", "--max-shard-size", "64"],
                 ["convert", "odd.safetensors", "-o", "odd.pt"]):
        done = run(bench, *line)
        check(done.returncode in (0, 1, 2, 3, 5), f"{line}: {done.returncode}")
    check({Path(n).parts[0] for n in bench.files()} <= {"odd.safetensors", "odd.pt", "out"}, list(bench.files()))


def permissions_follow_the_umask(bench):
    for mask in 0o022, 0o077, 0o027, 0o000:
        for c in COMMANDS:
            if not c.output or c.to_stdout or c.piped:
                continue
            bench.clear()
            done = run(bench, *c.line(False), umask=mask)
            check(done.returncode == 0, f"{c.title}: {done.stderr}")
            for name in bench.files():
                path = bench.root / name
                want = (0o777 if path.is_dir() else 0o666) & ~mask
                got = stat.S_IMODE(path.stat().st_mode)
                check(got == want, f"{c.title}, umask {mask:03o}: {name} has {got:03o}")


def links_are_followed(bench):
    line = ["resize", "in/sd/lora.safetensors", "--rank", "2"]
    bench.clear()
    (bench.root / "far").mkdir()
    (bench.root / "far" / "target.safetensors").write_text("old")
    (bench.root / "link.safetensors").symlink_to("far/target.safetensors")
    check(run(bench, *line, "-o", "link.safetensors").returncode == 1, "a link to a file, without -f")
    check(run(bench, *line, "-o", "link.safetensors", "-f").returncode == 0, "a link to a file")
    check((bench.root / "link.safetensors").is_symlink(), "the link is gone")
    check((bench.root / "far" / "target.safetensors").read_bytes()[:3] != b"old", "the target is the old one")
    check(sorted(os.listdir(bench.root / "far")) == ["target.safetensors"], "something lies beside the target")
    (bench.root / "dangling.safetensors").symlink_to("nowhere/else.safetensors")
    for force in [], ["-f"]:
        done = run(bench, *line, "-o", "dangling.safetensors", *force)
        check(done.returncode == 1 and "link that leads nowhere" in done.stderr, f"a dangling link: {done.stderr!r}")
        check((bench.root / "dangling.safetensors").is_symlink(), "the dangling link is gone")
    (bench.root / "real").mkdir()
    (bench.root / "linked").symlink_to("real")
    done = run(bench, "resize", "in/llm/lora", "--rank", "2", "-o", "linked/")
    check(done.returncode == 0 and sorted(os.listdir(bench.root / "real")) ==
          ["adapter_config.json", "adapter_model.safetensors"], f"a link to a folder: {done.stderr!r}")


def names_may_be_long(bench):
    """The longest name there is: the temporary one is cut, not refused."""
    bench.clear()
    name = "n" * 243 + ".safetensors"
    done = run(bench, "resize", "in/sd/lora.safetensors", "--rank", "2", "-o", name)
    check(done.returncode == 0 and list(bench.files()) == [name], f"a long name: {done.stderr!r}")


def no_other_program():
    """Neither source nor binary can start a program."""
    calls = r"\b(system|popen|fork|vfork|posix_spawnp?|exec[lv][pe]*|fexecve|execvpe|wordexp)\b"
    for path in sorted((SOURCE / "src").rglob("*.[ch]")):
        code = re.sub(r"/\*.*?\*/|\"(\\.|[^\"\\])*\"", "", path.read_text(), flags=re.S)
        check(not re.search(calls + r"\s*\(", code), f"{path.name} may start a program")
    if shutil.which("nm"):
        names = subprocess.run(["nm", "-D", "--undefined-only", LORATOOL], capture_output=True, text=True).stdout
        check("renameat2" in names and not re.search(calls, names), "the program links what starts others")


def gives_up_first(bench):
    """The sandbox stands before the first input is opened, by default, in every command."""
    tracer = shutil.which("strace")
    if not os.environ.get("LORATOOL_PRELOAD"):
        print("skipped: the order of system calls (a build with sanitizers gives nothing up)")
        return
    if not tracer or subprocess.run([tracer, "-qq", "-o", os.devnull, "true"]).returncode:
        print("skipped: the order of system calls (strace is missing or not allowed)")
        return
    log = bench.temp.parent / f"{bench.temp.name}.trace"
    trace = [tracer, "-qq", "-o", str(log), "-e", "trace=prctl,openat,landlock_restrict_self,landlock_create_ruleset"]
    seen = 0
    for c in COMMANDS:
        if c.piped:
            continue
        for flag in [], ["--no-sandbox"]:
            bench.clear()
            subprocess.run([*trace, LORATOOL, *map(str, c.line(False)), *flag], cwd=bench.root, capture_output=True,
                           timeout=60, env={**os.environ, "TMPDIR": str(bench.temp)})
            lines = log.read_text(errors="replace").splitlines()
            first = next(i for i, line in enumerate(lines) if 'openat(' in line and '"in/' in line)
            filtered = [i for i, line in enumerate(lines) if "PR_SET_SECCOMP" in line and line.endswith("= 0")]
            locked = [i for i, line in enumerate(lines) if "landlock_restrict_self" in line and line.endswith("= 0")]
            if flag:
                check(not filtered and not locked, f"{c.title} {flag[0]}: gives something up")
                continue
            check(len(filtered) == 1 and filtered[0] < first, f"{c.title}: seccomp at {filtered}, input at {first}")
            can = not any("LANDLOCK_CREATE_RULESET_VERSION" in line and line.endswith(("= 1", ")")) for line in lines)
            check(not can or len(locked) == 1 and locked[0] < first, f"{c.title}: landlock at {locked}, input at {first}")
            seen += can
    log.unlink()
    check(seen > 10 or not can, f"{seen} commands were seen under Landlock")
    print(f"{seen} commands under Landlock" if seen else "this kernel has no Landlock")


def main():
    with tempfile.TemporaryDirectory(prefix="loratool-faults-in-") as inputs:
        make_inputs(Path(inputs))
        bench = Bench(inputs)
        for test in (indices_stay_in_their_folder, components_stay_in_their_folder,
                     pipes_and_devices_are_no_files, zip_entries_stay_in_their_archive, tensor_names_are_no_paths,
                     permissions_follow_the_umask, links_are_followed, names_may_be_long, gives_up_first):
            test(bench)
        bench.close()
    no_other_program()
    check.finish()


main()
