#!/usr/bin/env python3
"""Full disks, inputs that change while they are read, outputs that are inputs, two runs at once."""

import resource
import threading

from faults import *

WRITERS = [c for c in COMMANDS if c.output and not c.to_stdout]


def command(title):
    return next(c for c in COMMANDS if c.title == title)


def start(bench, line, **options):
    return subprocess.run([LORATOOL, *map(str, line)], cwd=bench.root, capture_output=True, text=True,
                          env={**os.environ, "TMPDIR": str(bench.temp)}, timeout=60, **options)


# ---- no room -------------------------------------------------------------------------


def under_size_limits(bench):
    """The limit's signal does not kill: it is a failed write like any other."""
    full = 0
    for c in WRITERS:
        reference = Reference(bench, c)
        size = max(len(d) for d in reference.made.values() if d is not None)
        for limit in 0, 1, size // 3, size - 1:
            for force in False, True:
                bench.clear()
                old = reference.place_old(bench, c) if force else {}
                done = start(bench, c.line(force), preexec_fn=lambda: resource.setrlimit(
                    resource.RLIMIT_FSIZE, (limit, limit)))
                label = f"{c.title}, files of at most {limit} bytes"
                check(done.returncode == 1 and "File too large" in done.stderr,
                      f"{label}: exit {done.returncode} {done.stderr!r}")
                check(bench.files() == old and not bench.strays(), f"{label}: {list(bench.files())}")
                full += 1
    print(f"size limit: {full} runs")


def on_a_small_disk(bench):
    """A tmpfs, in a namespace of its own: sizes from nothing to too little."""
    probe = subprocess.run(["unshare", "-Urm", "true"], capture_output=True)
    if probe.returncode:
        print("skipped: small disk (no user namespaces)")
        return
    script = r"""
mount -t tmpfs -o size=$1 tmpfs small || exit 77
shift
printf old >small/out.safetensors
"$@" -o small/out.safetensors -f 2>small.err
echo $? >small.code
cp small/out.safetensors small.out
ls -A small >small.list
"""
    sd = TESTDATA / "mini-sd"
    lines = {"merge": ["merge", "--base", sd / "base.safetensors", sd / "lora.safetensors"],
             "torch": ["convert", sd / "lora.safetensors", "--format", "torch"],
             "extract": ["extract", "--base", sd / "base.safetensors", "--tuned", sd / "tuned.safetensors",
                         "--rank", "8"]}
    full = 0
    for title, line in lines.items():
        for size in "8k", "64k", "400k":
            bench.clear()
            (bench.root / "small").mkdir()
            done = subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", size, LORATOOL,
                                   *map(str, line)], cwd=bench.root, capture_output=True, text=True, timeout=60)
            if done.returncode == 77:
                print("skipped: small disk (no tmpfs)")
                return
            text = {n: (bench.root / f"small.{n}").read_text() for n in ("err", "code", "list", "out")}
            label = f"{title} on a disk of {size}"
            check(text["code"] == "1\n" and "No space left on device" in text["err"],
                  f"{label}: exit {text['code']} {text['err']!r}")
            check(text["out"] == "old" and text["list"] == "out.safetensors\n", f"{label}: {text['list']}")
            full += 1
    print(f"small disk: {full} runs")


def in_a_closed_folder(bench):
    """A folder without write permission, for somebody whom permissions bind."""
    bench.clear()
    closed = bench.root / "closed"
    closed.mkdir()
    (closed / "out.safetensors").write_text("old")
    for path in (bench.root, closed, bench.root / "in", bench.root / "in" / "sd"):
        path.chmod(0o555)
    line = ["resize", "in/sd/lora.safetensors", "--rank", "2", "-f", "-o", "closed/out.safetensors"]
    drop = (lambda: os.setuid(65534)) if os.getuid() == 0 else None
    try:
        done = start(bench, line, preexec_fn=drop)
        check(done.returncode == 1 and "closed/out.safetensors: cannot create the output: Permission denied"
              in done.stderr, f"closed folder: exit {done.returncode} {done.stderr!r}")
    except PermissionError:
        print("skipped: closed folder (the program cannot be run by another user)")
    for path in (bench.root, closed, bench.root / "in", bench.root / "in" / "sd"):
        path.chmod(0o755)
    check((closed / "out.safetensors").read_text() == "old" and len(os.listdir(closed)) == 1, "closed folder")


# ---- inputs that change --------------------------------------------------------------


def while_it_is_read(bench, inputs):
    """Half of an input goes, or two of its values change, before a read: never a mixture, never SIGBUS."""
    changed = 0
    for c in WRITERS:
        if c.piped:
            continue
        reference = Reference(bench, c)
        victims = [w.split(":")[0] for w in c.arguments if w.startswith("in/")]
        for victim in victims:
            path = Path(inputs) / Path(victim).relative_to("in")
            if path.is_dir():
                path = max(path.glob("*.safetensors"))
            name = Path("in") / path.relative_to(inputs)
            reads = reference.counts["read"] + reference.counts["copy"]
            step = 1 if EXHAUSTIVE else max(1, reads // 12)
            for how in "truncate", "touch":
                for at in range(1, reads + 1, step):
                    bench.clear()
                    shutil.copy2(path, bench.root / name)
                    fault = {"class": "read,copy", "at": at, "do": f"{how}={name}"}
                    done = bench.run(c, False, fault)
                    label = f"{c.title}, {fault}"
                    if done.code == 0: # it was changed before it was opened, or after it was closed
                        made = bench.files()
                        same = made == reference.made or (not bench.run(c, True).code and made == bench.files())
                        check(same, f"{label}: exit 0 with a mixture")
                    else:
                        check(done.code in (1, 3, 5), f"{label}: exit {done.code} {done.stderr!r}")
                        check(done.stderr.startswith("loratool") and done.stderr.count("\n") == 1,
                              f"{label}: {done.stderr!r}")
                        check(not bench.files() and not bench.strays(), f"{label}: {list(bench.files())}")
                    shutil.copy2(path, bench.root / name)
                    changed += 1
    print(f"changed inputs: {changed} runs")


# ---- outputs that are inputs ---------------------------------------------------------


def onto_an_input(bench):
    """With -f the input is replaced when all of it has been read; without, it is refused."""
    base, lora = Path("in/sd/base/model.safetensors"), Path("in/sd/lora.safetensors")
    keep = {p: (bench.root / p).read_bytes() for p in (base, lora)}
    bench.clear()
    check(start(bench, ["merge", "--base", base, lora, "-o", "good.safetensors"]).returncode == 0, "merge")
    good = (bench.root / "good.safetensors").read_bytes()
    for how in "itself", "symbolic link", "hard link":
        (bench.root / base).write_bytes(keep[base])
        output = Path("link.safetensors") if how != "itself" else base
        (bench.root / "link.safetensors").unlink(missing_ok=True)
        if how == "symbolic link":
            (bench.root / output).symlink_to(bench.root / base)
        if how == "hard link":
            os.link(bench.root / base, bench.root / output)
        done = start(bench, ["merge", "--base", base, lora, "-o", output])
        check(done.returncode == 1 and (bench.root / base).read_bytes() == keep[base],
              f"merge onto its base ({how}) without -f: {done.returncode}")
        done = start(bench, ["merge", "--base", base, lora, "-o", output, "-f"])
        check(done.returncode == 0 and (bench.root / output).read_bytes() == good,
              f"merge onto its base ({how}): {done.returncode} {done.stderr!r}")
        if how == "symbolic link":
            check((bench.root / output).is_symlink() and (bench.root / base).read_bytes() == good, how)
        if how == "hard link": # the other name keeps the old file
            check((bench.root / base).read_bytes() == keep[base], how)
    (bench.root / base).write_bytes(keep[base])
    for line in (["resize", lora, "--rank", "2"], ["convert", lora]):
        bench.clear()
        start(bench, [*line, "-o", "good.safetensors"])
        start(bench, [*line, "-o", lora, "-f"])
        named = (bench.root / lora).read_bytes()
        check(len(named) == len((bench.root / "good.safetensors").read_bytes()), f"{line[0]} onto its input")
        check(start(bench, ["info", "--hash", lora]).returncode == 0, f"{line[0]} onto its input: hashes")
        (bench.root / lora).write_bytes(keep[lora])


def folder_onto_itself(bench, inputs):
    bench.clear()
    line = ["merge", "--base", "in/llm/sharded", "in/llm/lora"]
    check(start(bench, [*line, "-o", "good/"]).returncode == 0, "merge folder")
    done = start(bench, [*line, "-o", "in/llm/sharded/", "-f"])
    check(done.returncode == 0, f"merge folder onto itself: {done.stderr!r}")
    good, now = bench.root / "good", bench.root / "in" / "llm" / "sharded"
    check({p.name: p.read_bytes() for p in good.iterdir()} == {p.name: p.read_bytes() for p in now.iterdir()},
          "merge folder onto itself: another result")
    shutil.rmtree(now)
    shutil.copytree(Path(inputs) / "llm" / "sharded", now)


# ---- two at once ---------------------------------------------------------------------


def both(bench, lines):
    done = [None, None]

    def one(i):
        done[i] = start(bench, lines[i])
    threads = [threading.Thread(target=one, args=(i,)) for i in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return done


def race(bench, base, lora, output):
    """Different weights tell whose output it is."""
    lines = [["merge", "--base", base, f"{lora}:{w}", "-o", output] for w in ("0.5", "0.25")]
    goods = []
    for line in lines:
        bench.clear()
        check(start(bench, line).returncode == 0, "race: a run alone")
        goods.append(bench.files())
    for i in range(60 if EXHAUSTIVE else 15):
        bench.clear()
        done = both(bench, lines)
        codes = sorted(d.returncode for d in done)
        check(codes == [0, 1], f"race for {output}: exits {codes}")
        loser = max(done, key=lambda d: d.returncode)
        check("exists" in loser.stderr.lower() or "appeared" in loser.stderr, f"race: {loser.stderr!r}")
        check(bench.files() == goods[done[0].returncode != 0], f"race for {output}: not the winner's")
        done = both(bench, [[*line, "-f"] for line in lines])
        check([d.returncode for d in done] == [0, 0], f"race for {output} with -f: {[d.stderr for d in done]}")
        made = bench.files()
        check(set(made) == set(goods[0]), f"race for {output} with -f: {sorted(made)}")
        for name, data in made.items():
            check(data in [g[name] for g in goods], f"race for {output} with -f: {name} is neither's")


def main():
    with tempfile.TemporaryDirectory(prefix="loratool-faults-in-") as inputs:
        make_inputs(Path(inputs))
        bench = Bench(inputs)
        under_size_limits(bench)
        on_a_small_disk(bench)
        in_a_closed_folder(bench)
        while_it_is_read(bench, inputs)
        onto_an_input(bench)
        folder_onto_itself(bench, inputs)
        race(bench, "in/sd/base/model.safetensors", "in/sd/lora.safetensors", "out.safetensors")
        race(bench, "in/llm/sharded", "in/llm/lora", "out/")
        bench.close()
    check.finish()


main()
