#!/usr/bin/env python3
"""What others found dangerous in pickles: every global of their lists, in every way to call it, in
every container.  loratool refuses the file, names the global, and nothing is run.

The lists are picklescan's of version 1.0.5, fickling's of 0.1.12 and ModelScan's of 0.8.8 (module ->
names; "*" is everything in the module) and more of the kind.  SPARED is what is listed there and
taken for data here, with the reason.  test_constructs has the files that picklescan's own tests
make.  test_pickles.py has the files that are damaged.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import check
from test_pickles import payloads
from torchfiles import (
    Entry, archive, dictionary, legacy, legacy_tensor, name, parts, program, tensor, text, torch_zip, tuple_of,
)

LORATOOL = os.environ["LORATOOL"]

# "*": some names that are in it, one of them below a class.
STAR = ["anything", "Class.method"]
PICKLESCAN = {
    "__builtin__": "eval compile getattr apply exec open breakpoint", "builtins": "eval compile getattr apply exec open breakpoint",
    "cloudpickle.cloudpickle": "_builtin_type _make_function _function_setstate _make_cell _make_empty_cell subimport",
    "types": "CodeType", "aiohttp": "*", "asyncio": "*", "bdb": "*", "commands": "*", "ctypes": "*", "functools": "partial",
    "httplib": "*", "logging": "FileHandler", "_io": "FileIO", "numpy.f2py": "*", "numpy.testing._private.utils": "*", "nt": "*",
    "posix": "*", "_operator": "attrgetter itemgetter methodcaller", "operator": "attrgetter itemgetter methodcaller", "os": "*",
    "requests.api": "*", "runpy": "*", "shutil": "*", "socket": "*", "ssl": "*", "subprocess": "*", "sys": "*",
    "code": "InteractiveInterpreter.runcode", "cProfile": "*", "distutils.file_util": "*", "doctest": "debug_script",
    "ensurepip": "_run_pip", "idlelib.autocomplete": "AutoComplete.get_entity AutoComplete.fetch_completions",
    "idlelib.calltip": "Calltip.fetch_tip get_entity", "idlelib.debugobj": "ObjectTreeItem.SetText",
    "idlelib.pyshell": "ModifiedInterpreter.runcode ModifiedInterpreter.runcommand", "idlelib.run": "Executive.runcode",
    "imaplib": "IMAP4_stream", "lib2to3.pgen2.grammar": "Grammar.loads", "lib2to3.pgen2.pgen": "ParserGenerator.make_label",
    "pdb": "*", "pickle": "*", "_pickle": "*", "pip": "*", "pkgutil": "resolve_name", "pty": "*", "profile": "*", "pydoc": "*",
    "test": "*", "timeit": "*", "torch._dynamo.guards": "GuardBuilder.get", "torch._inductor.codecache": "compile_file",
    "torch.fx.experimental.symbolic_shapes": "ShapeEnv.evaluate_guards_expression",
    "torch.jit.unsupported_tensor_ops": "execWrapper", "torch.serialization": "load",
    "torch.utils._config_module": "ConfigModule.load_config", "torch.utils.bottleneck.__main__": "run_cprofile run_autograd_prof",
    "torch.utils.collect_env": "run", "torch.utils.data.datapipes.utils.decoder": "basichandlers", "trace": "Trace.run Trace.runctx",
    "urllib.request": "*", "uuid": "*", "venv": "*", "webbrowser": "*", "_osx_support": "*", "_aix_support": "*", "_pyrepl": "*",
}
FICKLING = {
    "__builtins__": "*", "builtins": "hasattr globals locals vars input setattr delattr __loader__ __spec__ __build_class__ help",
    "code": "interact compile_command InteractiveConsole", "_signal": "*", "_sqlite3": "*", "_imp": "*", "_posixsubprocess": "*",
    "filecmp": "*", "difflib": "*", "select": "*", "selectors": "*", "syslog": "*", "platform": "*", "types": "*", "sqlite3": "*",
    "torch._dynamo": "*", "torch._inductor": "*", "torch.jit": "*", "torch.hub": "*", "numpy.distutils": "*",
    "torch": "load compile", "torch.storage": "_load_from_bytes", "torch.utils._config_module": "ConfigModule",
    "torch.distributed.elastic.rendezvous.api": "basichandlers", "_io": "FileIO open", "io": "FileIO open",
    "logging": "FileHandler basicConfig handlers.SocketHandler config.listen", "trace": "Trace.run main", "_ctypes": "*", "http": "*",
    **dict.fromkeys("""os posix nt subprocess sys pty commands multiprocessing codeop runpy marshal doctest importlib
        _frozen_importlib _frozen_importlib_external pkgutil zipimport gc site unittest inspect test _operator operator
        cProfile profile pdb bdb timeit socket ssl httplib urllib urllib2 requests aiohttp asyncio webbrowser smtplib imaplib ftplib
        poplib telnetlib nntplib ctypes pickle _pickle dill cloudpickle joblib shutil tempfile distutils pydoc pexpect venv ensurepip
        pip idlelib lib2to3 socketserver xmlrpc signal threading _thread atexit fileinput glob linecache compileall py_compile mmap
        tarfile zipfile shelve uuid _osx_support _aix_support""".split(), "*"),
    "functools": "partial partialmethod reduce",
}
MODELSCAN = {
    "__builtin__": "eval compile getattr apply exec open breakpoint __import__", "operator": "attrgetter",
    "builtins": "eval compile getattr apply exec open breakpoint __import__", "aiohttp.client": "*", "requests.api": "*",
    **dict.fromkeys("runpy os nt posix socket subprocess sys pty pickle _pickle bdb pdb shutil asyncio webbrowser httplib".split(), "*"),
}
# In a module that is listed whole, or whole but for what fickling takes for safe.
SPARED = {
    "uuid.UUID": "16 bytes", "uuid.SafeUUID": "three names", "types.SimpleNamespace": "attributes, as arguments are kept in",
    "types.GenericAlias": "list[int]", "logging.getLogger": "what a logger is pickled as", "functools.lru_cache": "keeps results",
    "code.models.Net": "a folder of that name", "trace.models.Net": "likewise", "builtins.set": "a set", "builtins.complex": "a number",
}
OTHERS = {
    "six.moves.builtins": "eval", "six.moves": "builtins.eval", "future.builtins": "open", "past.builtins": "execfile",
    "logging.handlers": "SocketHandler HTTPHandler", "logging.config": "listen dictConfig",
    "torch.hub": "load", "torch": "load", "marshal": "loads", "dill": "loads", "joblib": "load", "cPickle": "loads", "shelve": "open",
    "importlib": "import_module", "code": "interact", "codeop": "compile_command", "multiprocessing": "Process", "threading": "Thread",
    "numpy": "load", "pandas": "read_pickle eval", "http.client": "HTTPSConnection", "smtplib": "SMTP", "ftplib": "FTP",
    "telnetlib": "Telnet", "requests": "get", "builtins": "__import__ globals delattr setattr", "io": "open FileIO", "tempfile": "mktemp",
    "signal": "signal", "atexit": "register", "linecache": "getline updatecache", "fileinput": "input", "ptyprocess": "PtyProcess",
    "glob": "glob", "zipfile": "ZipFile", "tarfile": "open", "mmap": "mmap", "gc": "get_objects", "inspect": "getsource",
    "modulefinder": "ModuleFinder", "py_compile": "compile", "compileall": "compile_dir",
    "_winapi": "CreateProcess", "winreg": "OpenKey", "msvcrt": "getch",
    "pexpect": "spawn", "platform": "popen",
}


def listed():
    seen = set()
    for table in (PICKLESCAN, FICKLING, MODELSCAN, OTHERS):
        for module, names in table.items():
            for attribute in STAR if names == "*" else names.split():
                if (module, attribute) not in seen:
                    seen.add((module, attribute))
                    yield module, attribute


def containers(body, old):
    """An object beside a tensor, in each container; old: the same for the legacy one."""
    yield "zip", torch_zip(program(dictionary(weight=tensor(), extra=body)))
    if b"storage" not in old:  # the legacy format has another form of storages
        yield "legacy", legacy(program(dictionary(weight=legacy_tensor(), extra=old)))
    yield "raw", program(dictionary(extra=body))


def files_of(folder):
    """(path, global, container) of every file, written there."""
    made = []
    for module, attribute in listed():
        for way, body in payloads(module, attribute):
            for container, data in containers(body, body):
                path = folder / f"{len(made):06}.pt"
                path.write_bytes(data)
                made.append((path, f"{module}.{attribute}", way, container))
    return made


def in_hundreds(items, size=1000):
    for start in range(0, len(items), size):
        yield items[start:start + size]


def test_refused_and_named(folder):
    made = files_of(folder)
    missed = set()
    for some in in_hundreds(made):
        paths = [path for path, *_ in some]
        strict = subprocess.run([LORATOOL, "info", "--strict", "-q", *paths], capture_output=True, text=True, errors="replace")
        told = dict(re.findall(r"(\d{6})\.pt: (.*)", strict.stderr))
        shown = subprocess.run([LORATOOL, "info", "--json", *paths], capture_output=True, text=True, errors="replace")
        reports = {Path(r["path"]).stem: r for r in map(json.loads, shown.stdout.splitlines())}
        for path, named, way, container in some:
            label = f"{named}, {way}, {container}"
            check(path.stem in told, f"{label}: accepted")
            if path.stem not in told:
                missed.add(named)
            if container != "raw" and path.stem in reports:
                globals_ = {g["name"]: g["verdict"] for g in reports[path.stem].get("globals", [])}
                spelled = named.replace("__builtin__.", "builtins.")
                check(globals_.get(named, globals_.get(spelled)) == "dangerous", f"{label}: {globals_}")
            elif container != "raw":
                check("persistent" in way or path.stem in told, f"{label}: no report")
    print(f"{len(list(listed()))} globals, {len(made)} files" + (f", missed: {sorted(missed)}" if missed else ""))
    return made


def test_two_spellings():
    """A name split in another place first does not hide what the second mention reaches."""
    inert = name("foo.os", "system")
    through = text("foo") + text("os.system") + b"\x93" + tuple_of(text("true")) + b"R"
    Path("two.pt").write_bytes(torch_zip(b"\x80\x04" + dictionary(weight=tensor(), a=inert, b=through) + b"."))
    done = subprocess.run([LORATOOL, "info", "--strict", "two.pt"], capture_output=True, text=True)
    check(done.returncode == 5 and "foo.os.system" in done.stderr, f"two spellings: {done}")
    Path("two.pt").unlink()


def test_spared():
    """Named, and not refused."""
    for spared, why in SPARED.items():
        module, attribute = spared.rsplit(".", 1)
        Path("spared.pt").write_bytes(torch_zip(program(dictionary(weight=tensor(), extra=name(module, attribute) + b")R"))))
        done = subprocess.run([LORATOOL, "info", "--strict", "-q", "spared.pt"], capture_output=True, text=True)
        check(done.returncode == 0, f"{spared} ({why}): {done}")
    Path("spared.pt").unlink()


# ---- what picklescan's tests make ----------------------------------------------------

def short(*words):
    return b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in words)


SAFE_PICKLE = b"Vos\np2\n0Vsystem\np3\n0Vtorch\np0\n0VLongStorage\np1\n0g2\ng3\n\x93(Vcat flag.txt\ntR."
# Its pickles that are more than a call of a listed name; the name, or what is told when they cannot be read at all.
CONSTRUCTS = {
    "sour pickles": (b"c__builtin__\nglobals\n(tRp100\n0c__builtin__\ncompile\n(S'fl=open(\"/etc/passwd\");picklesmashed=fl.read();'\n"
                     b"S''\nS'exec'\ntRp101\n0c__builtin__\neval\n(g101\ng100\ntRp102\n0c__builtin__\ngetattr\n(c__builtin__\n"
                     b"dict\nS'get'\ntRp103\n0c__builtin__\napply\n(g103\n(g100\nS'picklesmashed'\nltRp104\n0g104\n.", "'builtins.globals'"),
    "INST": (b"(S'raise RuntimeError(\"Injection running\")'\ni__builtin__\nexec\n.", "'builtins.exec'"),
    "names from the memo": (SAFE_PICKLE, "'os.system'"),
    "bytes behind the end": (SAFE_PICKLE + b"\n\n\t\t", "'os.system'"),
    "names as Python 2's strings": (b"S'os'\nS'system'\n\x93S'ls'\n\x85R.", "'os.system'"),
    "attrgetter of an import": (b"\x80\x04" + short("operator", "attrgetter") + b"\x93" + short("system") + b"\x85R"
                                + short("builtins", "__import__") + b"\x93" + short("os") + b"\x85R\x85R" + short("echo pwned") + b"\x85R.",
                                "'operator.attrgetter'"),
    "methodcaller": (b"c_operator\nmethodcaller\n(S'system'\nS'echo pwned'\ntR(cbuiltins\n__import__\n(S'os'\ntRtR.", "'_operator.methodcaller'"),
    "a list as argument": (b"cpip\nmain\np0\n((lp1\nVinstall\np2\naVsome_malicious_package\np3\natp9\nRp10\n.", "'pip.main'"),
    "a frame": (b"\x80\x04\x95\x2b" + bytes(7) + short("pydoc") + b"\x94" + short("pipepager") + b"\x94\x93\x94" + short("") + b"\x94"
                + short("echo pwned") + b"\x94\x86\x94R\x94.", "'pydoc.pipepager'"),
    "a danger in a danger": (b"\x80\x04" + short("functools", "partial") + b"\x93" + short("torch", "load") + b"\x93\x85R.", "'functools.partial'"),
    "keyword arguments": (b"\x80\x04" + short("functools", "partial") + b"\x93" + short("torch", "load") + b"\x93\x85}"
                          + short("weights_only") + b"\x89s\x92.", "'functools.partial'"),
    "a key that the memo has not": (b"\x80\x04cos\nsystem\nVecho\n\x85R0" + short("os") + b"\x94h\x03h\x00\x93K\x42.",
                                    "BINGET names a value that was not remembered"),
    "a number for a module": (b"\x80\x04cos\nsystem\nVecho\n\x85R0J*\0\0\0\x94" + short("os") + b"\x94h\x00h\x01\x93K\x42.",
                              "STACK_GLOBAL finds no names on the stack"),
    "sys.modules overwritten": (b"csys\nmodules\np0\n}S'sys'\ng0\nsb.", "BUILD on a global"),
    "a text that ends behind the file": (b"cbuiltins\nexec\n(X>\nf = open('my_file.txt', 'a'); f.write('Malicious'); f.close()tRX.",
                                         "BINUNICODE goes past the end"),
    "a name that is no UTF-8": (b"cmod\n\xf8\n", "the data ends early"),
    "CodeType and a function": (b"\x80\x04" + short("types", "CodeType") + b"\x93(K\0K\0K\0tR0" + short("cloudpickle.cloudpickle", "_make_function")
                                + b"\x93(NNtR.", "'types.CodeType'"),
}
BYPASS = (b"\x80\x02c__builtin__\neval\nX\x16\0\0\x000x1950A86A20F9469CFC6C\x85R.", b"\x80\x02M\xe9\x03.", b"\x80\x02}.", b"\x80\x02].",
          b"\x80\x02cposix\nsystem\nX\x0a\0\0\0echo pwned\x85R.", b"\x80\x02N.")


def constructs():
    """(label, file, message, exit code)"""
    for label, (pickled, message) in CONSTRUCTS.items():
        yield f"{label}, zip", torch_zip(pickled), message, 5
        packed = archive(Entry("archive/data.pkl", pickled, deflate=True), *parts(pickled)[1:])
        yield f"{label}, deflated", packed, message, 5
        yield f"{label}, legacy", legacy(pickled, ()), "" if "UTF-8" in label or "behind" in label else message, 5  # they end in what follows
        modern = pickled if pickled[0] == 0x80 else b"\x80\x02" + pickled
        yield f"{label}, bare", modern, "" if "UTF-8" in label else message, 5
        if modern != pickled:
            yield f"{label}, bare and old", pickled, "", 5
    danger = program(dictionary(weight=tensor(), extra=name("builtins", "eval") + tuple_of(text("1")) + b"R"))
    entries = parts(danger)
    told = "'builtins.eval'"
    yield "torch's number from eval", b"".join(BYPASS), told, 5
    yield "a harmless pickle first", program(dictionary(a=b"N", b=b"N")) + danger, "not one that torch saved tensors with", 1
    for flags in (0x20, 0x40, 0x800):
        yield f"flags {flags:#x}", archive(Entry("archive/data.pkl", danger, flags=flags), *entries[1:]), told, 5
    yield "encrypted, it says", archive(Entry("archive/data.pkl", danger, flags=1), *entries[1:]), "'archive/data.pkl': zip: the entry is encrypted", 1
    yield "another checksum", archive(Entry("archive/data.pkl", danger, crc=1), *entries[1:]), told, 5
    yield "another name in front", torch_zip(danger).replace(b"data.pkl", b"datap.kl", 1), "tells another name", 5
    yield "another ending", archive(Entry("archive/data.txt", danger), *entries[1:]), "zip archive without data.pkl", 1
    yield "no directory", torch_zip(danger)[:-22], "no directory at its end", 5
    yield "in front of the archive", b"#!/bin/sh\n" + torch_zip(danger), "", 5
    for label, head in (("PNG", b"\x89PNG\r\n\x1a\n"), ("7z", b"7z\xbc\xaf\x27\x1c" + bytes(20)), ("npy", b"\x93NUMPY\x01\0" + b"v\0{'descr': '|O'}" + danger)):
        yield label, head, "", 5


def test_constructs(folder):
    folder.mkdir()
    paths = []
    for label, data, message, code in constructs():
        paths.append(folder / f"{len(paths)}.pt")
        paths[-1].write_bytes(data)
        for command in (["info", "--strict", "-q"], ["convert", "-o", folder / "out.safetensors"]):
            done = subprocess.run([LORATOOL, *command, paths[-1]], capture_output=True, text=True, errors="replace", timeout=60)
            lines = done.stderr.splitlines()
            check(done.returncode == code, f"{label}, {command[0]}: exit {done.returncode}: {done.stderr!r}")
            check(len(lines) == 1 and f"{paths[-1].name}: " in done.stderr and message in done.stderr, f"{label}, {command[0]}: {done.stderr!r}")
    check(not (folder / "out.safetensors").exists(), "a construct was converted")
    print(f"{len(paths)} constructs")
    return [(path, "", "REDUCE", "") for path in paths]


FORBIDDEN = re.compile(r"\b(execveat|execve|fork|vfork|socket|connect|bind|sendto|unlink|unlinkat|rename\w*|mkdir\w*|rmdir|kill|ptrace)\(")


def test_nothing_happens(made, folder):
    """Traced, one file for each global and container: no process, no connection, nothing else opened."""
    tracer = shutil.which("strace")
    if not tracer or subprocess.run([tracer, "-f", "-o", "/dev/null", "true"], capture_output=True).returncode:
        print("skipped: system calls (strace is missing or not allowed)")
        return
    paths = [path for path, _, way, _ in made if way in ("REDUCE", "BUILD")]
    log = folder.parent / "trace"
    subprocess.run([tracer, "-f", "-qq", "-e", "trace=process,network,file", "-o", log, LORATOOL, "info", *paths], capture_output=True)
    lines = log.read_text(errors="replace").splitlines()
    calls = [line for line in lines if FORBIDDEN.search(line)]
    check(len(calls) == 1 and "execve(" in calls[0], f"calls: {calls[:3]}")
    # O_PATH reads nothing: the sandbox names a folder so.
    opened = [line for line in lines if "openat(" in line and "ENOENT" not in line and "O_PATH" not in line]
    own = re.compile(r'"(/etc/ld\.so\.|/etc/localtime"|/lib|/usr/lib|/proc/|/sys/|%s)' % re.escape(str(folder)))
    check(len(opened) >= len(paths), f"only {len(opened)} files opened")
    check(not [line for line in opened if not own.search(line)], f"opened: {[l for l in opened if not own.search(l)][:3]}")
    check(not [line for line in opened if re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)], "something is opened for writing")
    print(f"{len(paths)} files, {len(lines)} system calls traced")


def main():
    with tempfile.TemporaryDirectory(prefix="loratool-") as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        os.chdir(scratch)
        made = test_refused_and_named(folder)
        test_two_spellings()
        test_spared()
        test_nothing_happens(made, folder)
        others = Path(scratch) / "constructs"
        test_nothing_happens(test_constructs(others), others)
        check(not Path("pwned").exists() and not (folder / "pwned").exists(), "a payload ran")
        os.chdir("/")
    check.finish()


if __name__ == "__main__":
    main()
