#!/usr/bin/env python3
"""Hostile torch files: refused with exit 5 and a reason, and nothing in them has any effect.

Every file is made here, byte by byte.  The effects that its pickle would have are looked for in
two ways: the payloads would leave a file behind, and the system calls of the runs are traced.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import check
from torchfiles import (
    Entry, archive, dictionary, good, integer, legacy, legacy_tensor, name, parts, program, storage,
    tensor, text, torch_zip, tuple_of,
)

LORATOOL = os.environ["LORATOOL"]


def run(*arguments, **options):
    return subprocess.run([LORATOOL, *map(str, arguments)], capture_output=True, text=True,
                          errors="replace", timeout=120, **options)


def refused(label, data, reason="", folder=Path(".")):
    """info ends with 5 and names the file and the reason; convert too, and leaves nothing."""
    path = folder / "bad.pt"
    path.write_bytes(data)
    for command in (["info", "--strict", path], ["convert", path, "-o", folder / "out.safetensors"]):
        done = run(*command)
        check(done.returncode == 5, f"{label}: {command[0]} exits {done.returncode}: {done.stderr.strip()}")
        check("bad.pt" in done.stderr and done.stderr.count("\n") == 1, f"{label}: {done.stderr!r}")
        check(reason in done.stderr, f"{label}: {reason!r} is not in {done.stderr.strip()!r}")
    check(os.listdir(folder) == ["bad.pt"], f"{label}: left {os.listdir(folder)}")


def all_refused(label, files):
    """Many files in one run: each is told, with code 5 when it is the only one."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{i:05}.pt" for i in range(len(files))]
        for path, data in zip(paths, files):
            path.write_bytes(data)
        for start in range(0, len(paths), 1000):
            some = paths[start:start + 1000]
            done = run("info", "--strict", "-q", *some)
            told = set(re.findall(r"(\d{5})\.pt: ", done.stderr))
            check(done.returncode == 5, f"{label}: exit {done.returncode}: {done.stderr[-300:]}")
            for path in some:
                check(path.stem in told, f"{label}: {path.name} is accepted")
            check(len(done.stderr.splitlines()) == len(some), f"{label}: {len(done.stderr.splitlines())} lines")
    return len(files)


# ---- globals that run code -----------------------------------------------------------

DANGEROUS = """
os.system os.popen os.execv os.remove os.unlink os.rename os.spawnl os.kill os.putenv
posix.system posix.popen posix.fork nt.system nt.startfile
subprocess.Popen subprocess.call subprocess.run subprocess.check_output
builtins.eval builtins.exec builtins.compile builtins.open builtins.getattr builtins.__import__
builtins.breakpoint builtins.input builtins.setattr builtins.globals builtins.vars
__builtin__.eval __builtin__.execfile __builtin__.file __builtin__.apply
sys.exit sys.modules sys.settrace
runpy.run_path runpy._run_code pty.spawn shutil.rmtree shutil.copyfile
socket.socket socket.create_connection ssl.wrap_socket
webbrowser.open http.client.HTTPConnection urllib.request.urlopen requests.get requests.api.get
httplib.HTTPSConnection aiohttp.client.ClientSession ftplib.FTP smtplib.SMTP telnetlib.Telnet
importlib.import_module importlib.reload imp.load_source pkgutil.resolve_name zipimport.zipimporter
operator.attrgetter operator.methodcaller functools.partial
pickle.loads pickle.load _pickle.loads cPickle.loads dill.loads cloudpickle.loads marshal.loads
joblib.load numpy.load shelve.open
code.InteractiveInterpreter codeop.compile_command timeit.timeit bdb.Bdb pdb.run pdb.Pdb
cProfile.run profile.run trace.Trace doctest.debug_script
ctypes.CDLL ctypes.cdll.LoadLibrary ctypes.util.find_library
asyncio.subprocess.create_subprocess_exec asyncio.unix_events._UnixSubprocessTransport._start
multiprocessing.Process concurrent.futures.ProcessPoolExecutor
commands.getoutput pip.main venv.create ensurepip.bootstrap
torch.load torch.hub.load torch.utils.cpp_extension.load torch.jit.load
numpy.testing._private.utils.runstring numpy.f2py.compile
lib2to3.pgen2.grammar.Grammar.loadGrammar idlelib.run.Executive idlelib.pyshell.ModifiedInterpreter
distutils.file_util.write_file logging.config.listen test.support.script_helper.assert_python_ok
types.FunctionType types.CodeType
""".split()


def payloads(module, attribute):
    """The ways in which a pickle can call something, each with a harmless-looking tensor beside it."""
    words = text("touch pwned")
    called = name(module, attribute)
    stacked = text(module) + text(attribute) + b"\x93"
    line = f"{module}\n{attribute}\n".encode()
    yield "REDUCE", called + tuple_of(words) + b"R"
    yield "STACK_GLOBAL", stacked + tuple_of(words) + b"R"
    yield "INST", b"(" + words + b"i" + line
    yield "OBJ", b"(" + called + words + b"o"
    yield "NEWOBJ", called + tuple_of(words) + b"\x81"
    yield "NEWOBJ_EX", called + tuple_of(words) + b"}\x92"
    yield "BUILD", called + b")R" + b"}(" + text("__setstate__") + called + b"ub"
    yield "named only", called
    yield "dict key", b"}(" + called + integer(1) + b"u"
    yield "persistent id", tuple_of(text("storage"), called, text("0"), text("cpu"), integer(1)) + b"Q"
    yield "tensor argument", name("torch._utils", "_rebuild_tensor_v2") + tuple_of(
        called + tuple_of(words) + b"R", integer(0), b")", b")", b"\x89", b"N") + b"R"
    yield "parameter state", name("torch._utils", "_rebuild_parameter_with_state") + tuple_of(
        tensor(), b"\x89", b"N", called + tuple_of(words) + b"R") + b"R"
    yield "hooks", name("torch._utils", "_rebuild_parameter") + tuple_of(
        tensor(), b"\x89", called + tuple_of(words) + b"R") + b"R"


def test_dangerous_globals(folder):
    """Each global, called in each way, in each format: named by info --strict."""
    files = []
    for item in DANGEROUS:
        module, attribute = item.rsplit(".", 1)
        for _, body in payloads(module, attribute):
            pickled = program(dictionary(weight=tensor(), extra=body))
            files.append(torch_zip(pickled))
    print(f"{len(DANGEROUS)} globals, {all_refused('dangerous', files)} files")
    for way, body in payloads("os", "system"):
        pickled = program(dictionary(weight=tensor(), extra=body))
        refused(f"zip, {way}", torch_zip(pickled), "'os.system'", folder)
        old = program(dictionary(weight=legacy_tensor(), extra=body.replace(tensor(), legacy_tensor())))
        if way != "persistent id":
            refused(f"legacy, {way}", legacy(old), "'os.system'", folder)
    # What a person sees, and the way out.
    path = folder / "bad.pt"
    path.write_bytes(torch_zip(program(dictionary(weight=tensor(), extra=next(payloads("os", "system"))[1]))))
    shown = run("info", path)
    check(shown.returncode == 0 and "os.system (1): DANGEROUS" in shown.stdout, f"info: {shown}")
    done = run("convert", "--salvage", path, "-o", folder / "saved.safetensors")
    check(done.returncode == 0 and "os.system: dangerous" in done.stdout, f"salvage: {done}")
    listed = run("info", "-t", folder / "saved.safetensors").stdout
    check(listed.startswith("weight\tF32\t[2,2]\t"), f"salvaged: {listed!r}")
    (folder / "saved.safetensors").unlink()


def test_unknown_globals(folder):
    """Left alone and named, not refused: training checkpoints are full of them."""
    path = folder / "fine.pt"
    body = name("some_trainer.config", "Settings") + tuple_of(integer(1)) + b"R"
    path.write_bytes(torch_zip(program(dictionary(state_dict=dictionary(weight=tensor()), settings=body))))
    done = run("info", "--strict", path)
    check(done.returncode == 0 and "some_trainer.config.Settings (1): unknown" in done.stdout, f"{done}")
    path.unlink()


# ---- opcodes and lengths -------------------------------------------------------------

def test_opcodes(folder):
    """Every byte as an opcode where an object could begin: no crash, and those that are none are told."""
    known = set(b"().0123456789") | set(b"CFGHIJKLMNPQRSTUVXB]abcdefghijloprstu}q") | set(range(0x80, 0x97))
    out_of_band = {0x97, 0x98}
    extensions = {0x82, 0x83, 0x84}
    files = [torch_zip(b"\x80\x02" + bytes([op]) + b"." * 40) for op in range(256) if op not in known]
    files += [torch_zip(program(bytes([op]) + b"\1\1\1\1")) for op in out_of_band | extensions]
    all_refused("not an opcode", files)
    for op, label in ((0x82, "EXT1"), (0x97, "NEXT_BUFFER"), (0x98, "READONLY_BUFFER")):
        refused(label, torch_zip(program(bytes([op]) + b"\1")), label, folder)


def test_lengths(folder):
    """Lengths that go past the end, and those that are negative or overflow."""
    big = (2**31 - 1, 2**32 - 1)
    huge = (2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 8)
    bodies = [op + struct.pack("<I", n) + b"abc" for op in (b"X", b"T", b"B", b"\x8b") for n in big]
    bodies += [op + struct.pack("<Q", n) + b"abc" for op in (b"\x8d", b"\x8e", b"\x96", b"\x95") for n in huge]
    bodies += [b"U\xff" + b"abc", b"C\xff" + b"abc", b"\x8c\xff" + b"abc", b"\x8a\xff" + b"abc"]
    bodies += [b"X" + struct.pack("<I", 4) + b"\xff\xfe\xfd\xfc" * 3]
    # Memo slots: never put, far away, not numbers.
    bodies += [b"h\x07", b"j" + struct.pack("<I", 2**32 - 1), b"N" + b"r" + struct.pack("<I", 2**32 - 1) + b"0",
               b"g999999999999\n", b"gx\n", b"Np-1\n0", b"g\n"]
    # The stack: too little on it, no mark, wrong types.
    bodies += [b"0", b"1", b"2", b"t", b"u", b"e", b"a", b"s", b"R", b"b", b"\x81", b"\x85", b"\x86", b"\x87",
               b"\x90", b"\x91", b"o", b"Q", b"\x93", b"}NNNs" * 2 + b"u", b"(u", b"(e", b"N(Nu", b"N(Ne",
               b"]Ns", b"}Na", b"}(Nu", b"NNR", b"NNb0", b"K\1K\2\x93", b"(i\n\n", b"c\n\n", b"cos"]
    files = [torch_zip(b"\x80\x02" + body + b".") for body in bodies]
    files += [torch_zip(b"\x80\x7f."), torch_zip(b""), torch_zip(b"."), torch_zip(b"\x80"),
              torch_zip(b"\x80\x02"), torch_zip(b"\x80\x02N"), torch_zip(b"\x80\x02N" * 10)]
    all_refused("lengths and stack", files)


def test_truncated(folder):
    """Cut at every byte: the pickle inside a whole archive, the archive, the old format."""
    whole = good()
    cut = [torch_zip(whole[:n]) for n in range(len(whole))]
    zipped = torch_zip(whole)
    old = legacy(program(dictionary(weight=legacy_tensor(), bias=legacy_tensor((4,), (1,)))))
    count = all_refused("truncated pickle", cut)
    count += all_refused("truncated zip", [zipped[:n] for n in range(len(zipped))])
    count += all_refused("truncated legacy", [old[:n] for n in range(len(old))])
    print(f"{count} truncated files")


def test_bombs(folder):
    laughs = b"]q\x00"
    for level in range(1, 13):
        laughs += b"](" + (b"h" + bytes([level - 1])) * 10 + b"eq" + bytes([level])
    refused("shared lists", torch_zip(program(laughs)), "", folder)
    tuples = b")q\x00"
    for level in range(1, 41):
        tuples += b"0" + (b"h" + bytes([level - 1])) * 2 + b"\x86q" + bytes([level])
    refused("shared tuples", torch_zip(program(tuples)), "", folder)
    for label, body in {"lists": b"]" * 100_000 + b"a" * 99_999, "tuples": b")" + b"\x85" * 100_000,
                        "dicts": b"}" + b"}" * 100_000 + (b"K\1" + b"0") * 1}.items():
        refused(f"deep {label}", torch_zip(program(body)), "", folder)
    refused("a list that holds itself", torch_zip(program(b"]q\x00h\x00a")), "", folder)
    refused("a dict that holds itself", torch_zip(program(b"}q\x00(" + text("a") + b"h\x00u")), "", folder)
    refused("marks", torch_zip(b"\x80\x02" + b"(" * 5_000_000 + b"."), "", folder)
    refused("duplicates", torch_zip(b"\x80\x02N" + b"2" * 20_000_000 + b"."), "", folder)
    refused("memo", torch_zip(b"\x80\x02N" + b"\x94" * 20_000_000 + b"."), "", folder)


# ---- text ----------------------------------------------------------------------------

def test_text_that_is_none(folder):
    """Reports are UTF-8 (RFC 8259), whatever bytes the file has for text."""
    strings = {b"\xed\xa0\x80\xff\xfe": 5, b"a\xc3": 1, "é\U0001f600".encode(): 0, b"\xf5": 1, b"\xc0\x80x": 2}
    for raw, replaced in strings.items():
        binary = b"X" + struct.pack("<I", len(raw)) + raw
        (folder / "text.pt").write_bytes(torch_zip(program(dictionary(weight=tensor(), note=binary))))
        for command in (["info", "--json", "--tensors"], ["convert", "--json", "-f", "-o", folder / "out.safetensors"]):
            done = subprocess.run([LORATOOL, *map(str, command), str(folder / "text.pt")], capture_output=True)
            check(done.returncode == 0, f"{raw}: {command[0]} exits {done.returncode} {done.stderr}")
            try:
                json.loads(done.stdout.decode())
                found = done.stdout.decode().count("\ufffd")
                check(found == replaced, f"{raw}: {command[0]} has {found} replaced of {replaced}")
            except UnicodeDecodeError as e:
                check(False, f"{raw}: {command[0]}: {e}")
    for path in folder.iterdir():
        path.unlink()


# ---- tensors -------------------------------------------------------------------------

def test_tensors(folder):
    far = 2**62
    cases = {
        "storage past its entry": dict(count=5, shape=(5,), strides=(1,)),
        "storage far past its entry": dict(count=far, shape=(4,), strides=(1,)),
        "negative storage": dict(count=-1, shape=(4,), strides=(1,)),
        "no such entry": dict(key="1"),
        "entry outside": dict(key="../../etc/passwd"),
        "view past the storage": dict(shape=(5,), strides=(1,)),
        "offset past the storage": dict(offset=4, shape=(1,), strides=(1,)),
        "offset far past": dict(offset=far, shape=(1,), strides=(1,)),
        "negative offset": dict(offset=-1),
        "negative stride": dict(shape=(4,), strides=(-1,), offset=3),
        "negative size": dict(shape=(-1, 2)),
        "stride past": dict(shape=(2, 2), strides=(4, 1)),
        "stride overflows": dict(shape=(2, 2), strides=(2**63 - 1, 1)),
        "sizes overflow": dict(shape=(2**32, 2**32), strides=(0, 0)),
        "sizes overflow 64 bits": dict(shape=(2**63 - 1, 3), strides=(0, 0)),
        "sizes overflow bytes": dict(shape=(2**62,), strides=(0,)),
        "expanded beyond any use": dict(shape=(2**40,), strides=(0,)),
        "sizes above 64 bits": dict(shape=(2**70,), strides=(0,)),
        "more strides than sizes": dict(shape=(4,), strides=(1, 1)),
        "too many dimensions": dict(shape=(1,) * 40, strides=(1,) * 40),
    }
    for label, options in cases.items():
        refused(label, torch_zip(program(dictionary(weight=tensor(**options)))), "", folder)
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    for label, body in {
        "no arguments": rebuild + b")R",
        "arguments of other types": rebuild + tuple_of(b"N", b"N", b"N", b"N", b"N", b"N") + b"R",
        "no storage": rebuild + tuple_of(text("x"), integer(0), b")", b")", b"\x89", b"N") + b"R",
        "storage of no type": rebuild + tuple_of(
            tuple_of(text("storage"), text("FloatStorage"), text("0"), text("cpu"), integer(4)) + b"Q",
            integer(0), b")", b")", b"\x89", b"N") + b"R",
        "short persistent id": rebuild + tuple_of(
            tuple_of(text("storage")) + b"Q", integer(0), b")", b")", b"\x89", b"N") + b"R",
        "sizes of other types": rebuild + tuple_of(
            storage(), integer(0), tuple_of(text("2")), tuple_of(integer(1)), b"\x89", b"N") + b"R",
    }.items():
        refused(label, torch_zip(program(dictionary(weight=body))), "", folder)
    same = dictionary(a=dictionary(b=tensor())) [:-1] + text("a.b") + tensor() + b"u"
    refused("two tensors of one name", torch_zip(program(same)), "a.b", folder)
    all_refused("legacy tensors", [
        legacy(program(dictionary(weight=legacy_tensor())), storages) for storages in (
            (), (("0", 5, bytes(16)),), (("0", 4, bytes(15)),), (("1", 4, bytes(16)),),
            (("0", -1, bytes(16)),), (("0", 2**62, bytes(16)),), (("0", 4, bytes(16)), ("0", 4, bytes(16))))])


# ---- archives ------------------------------------------------------------------------

def test_archives(folder):
    ordinary = parts(good())
    data = ordinary[-1]
    at = len(archive(*ordinary[:-1]))  # not a position: only made to differ
    cases = {
        "duplicate data": (archive(*ordinary, data), ""),
        "duplicate pickle": (archive(ordinary[0], *ordinary), ""),
        "overlapping data": (archive(*ordinary, Entry("archive/data/1", b"", absent=True, size=16, csize=16,
                                                      offset=0)), ""),
        "parent folder": (archive(*ordinary, Entry("archive/../../evil", b"x")), ".."),
        "parent folder first": (archive(Entry("../evil/data.pkl", good()), *ordinary[1:]), ".."),
        "absolute name": (archive(*ordinary, Entry("/etc/passwd", b"x")), "/etc/passwd"),
        "backslashes": (archive(*ordinary, Entry("archive\\..\\evil", b"x")), ""),
        "NUL in a name": (archive(*ordinary, Entry(b"archive/data/0\0.txt", b"x")), ""),
        "two pickles": (archive(*ordinary, Entry("other/data.pkl", good())), ""),
        "pickle larger than said": (archive(Entry("archive/data.pkl", good(), csize=8, size=8), *ordinary[1:]), ""),
        "data behind the end": (archive(*ordinary[:-1], Entry("archive/data/0", bytes(16), size=2**31, csize=2**31)), ""),
        "local header elsewhere": (archive(*ordinary[:-1], Entry("archive/data/0", bytes(16), offset=2**31)), ""),
        "local header in data": (archive(*ordinary[:-1], Entry("archive/data/0", bytes(16), offset=at)), ""),
        "bomb in the pickle": (archive(Entry("archive/data.pkl", bytes(300 << 20), deflate=True), *ordinary[1:]), ""),
        "bomb in the data": (archive(*ordinary[:-1], Entry("archive/data/0", bytes(100 << 20), deflate=True)), ""),
        "bomb that lies low": (archive(*ordinary[:-1], Entry("archive/data/0", bytes(1 << 20), deflate=True,
                                                            size=2**31)), ""),
        "deflated pickle is cut": (archive(Entry("archive/data.pkl", good(), deflate=True, csize=20),
                                           *ordinary[1:]), ""),
        "no end record": (archive(*ordinary)[:-22], ""),
        "not an archive": (b"PK\3\4 and so on", ""),
    }
    for label, (bytes_, reason) in cases.items():
        refused(label, bytes_, reason, folder)
    # Valid, but not for us: exit 1 and the reason.
    for label, bytes_, reason in (
        ("encrypted", archive(Entry("archive/data.pkl", good(), flags=1), *ordinary[1:]), "encrypted"),
        ("another method", archive(Entry("archive/data.pkl", good(), method=12), *ordinary[1:]), ""),
        ("TorchScript", archive(*ordinary, Entry("archive/constants.pkl", program(b")"))), "TorchScript"),
        ("some zip", archive(Entry("readme.txt", b"hello")), "data.pkl"),
    ):
        path = folder / "other.pt"
        path.write_bytes(bytes_)
        done = run("info", path)
        check(done.returncode in (1, 5) and reason in done.stderr, f"{label}: {done}")
        path.unlink()


# ---- proof ---------------------------------------------------------------------------

FORBIDDEN = re.compile(
    r"\b(execve|execveat|fork|vfork|socket|connect|bind|sendto|unlink|unlinkat|rename|renameat2?|mkdir|"
    r"mkdirat|rmdir|chmod|fchmodat|symlink|link|kill|ptrace)\(")


def test_system_calls(folder):
    """A trace of runs over hostile files: no process, no network, nothing opened for writing."""
    tracer = shutil.which("strace")
    probe = tracer and subprocess.run([tracer, "-f", "-o", "/dev/null", "true"], capture_output=True)
    if not tracer or probe.returncode:
        print("skipped: system calls (strace is missing or not allowed)")
        return
    paths = []
    for index, item in enumerate(DANGEROUS):
        module, attribute = item.rsplit(".", 1)
        for way, body in payloads(module, attribute):
            paths.append(folder / f"{index}-{len(paths)}.pt")
            paths[-1].write_bytes(torch_zip(program(dictionary(weight=tensor(), extra=body))))
    before = set(os.listdir(folder))
    log = folder.parent / f"{folder.name}.trace"
    for command in (["info"], ["info", "--strict"], ["info", "--json", "--all-tensors"]):
        subprocess.run([tracer, "-f", "-qq", "-e", "trace=process,network,file", "-o", log, LORATOOL, *command,
                        *paths], capture_output=True, cwd=folder, timeout=300)
        lines = log.read_text(errors="replace").splitlines()
        opened = sum("openat(" in line for line in lines)
        check(opened >= len(paths), f"{command}: the trace shows {opened} opened files only")
        calls = [line for line in lines if FORBIDDEN.search(line)]
        check(len(calls) == 1 and "execve(" in calls[0], f"{command}: {calls[1:4]}")  # the run's own
        written = [line for line in lines if "openat(" in line and re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)]
        check(not written, f"{command}: opened for writing: {written[:3]}")
        # A thread shares its memory, so does a leak checker's helper; a process does not, or waits.
        processes = [line for line in lines if re.search(r"\bclone3?\(", line)
                     and ("CLONE_VM" not in line or "CLONE_VFORK" in line)]
        check(not processes, f"{command}: processes: {processes[:3]}")
        allowed = re.compile(r'"(/etc/ld\.so\.|/etc/localtime"|/lib|/usr/lib|/proc/|/sys/|%s|\d+-\d+\.pt)' % re.escape(str(folder)))
        # O_PATH reads nothing: the sandbox names a folder so.
        others = [line for line in lines if "openat(" in line and "ENOENT" not in line and "O_PATH" not in line and not allowed.search(line)]
        check(not others, f"{command}: other files: {others[:3]}")
        print(f"{' '.join(command)}: {len(paths)} files, {len(lines)} system calls traced")
    check(set(os.listdir(folder)) == before, f"left {set(os.listdir(folder)) - before}")
    log.unlink()


def main():
    for test in (test_dangerous_globals, test_unknown_globals, test_opcodes, test_lengths, test_truncated,
                 test_bombs, test_text_that_is_none, test_tensors, test_archives, test_system_calls):
        with tempfile.TemporaryDirectory(prefix="loratool-") as scratch:
            folder = Path(scratch) / "work"
            folder.mkdir()
            os.chdir(folder)
            test(folder)
            check(not (folder / "pwned").exists(), f"{test.__name__}: a payload ran")
            os.chdir("/")
    check.finish()


if __name__ == "__main__":
    main()
