#!/usr/bin/env python3
"""What others found dangerous in pickles: every global of their lists, in every way to call it, in
every container.  loratool refuses the file, names the global, and nothing is run.

The lists are picklescan's of version 1.0.5 (module -> names; "*" is everything in the module) and
more of the kind. Of uuid, all of which picklescan lists, UUID is data; the names here are those
that start programs.  test_pickles.py has the files that are damaged.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from test_pickles import payloads
from torchfiles import dictionary, legacy, legacy_tensor, name, program, tensor, text, torch_zip, tuple_of

LORATOOL = os.environ["LORATOOL"]
checks = failures = 0

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
    "urllib.request": "*", "uuid": "_get_command_stdout _popen getnode", "venv": "*", "webbrowser": "*", "_osx_support": "*", "_aix_support": "*", "_pyrepl": "*",
}
OTHERS = {
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


def check(cond, message):
    global checks, failures
    checks += 1
    if not cond:
        failures += 1
        if failures < 40:
            print("FAILED", message)


def listed():
    for table in (PICKLESCAN, OTHERS):
        for module, names in table.items():
            for attribute in STAR if names == "*" else names.split():
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
        test_nothing_happens(made, folder)
        check(not Path("pwned").exists() and not (folder / "pwned").exists(), "a payload ran")
        os.chdir("/")
    print(f"{checks} checks, {failures} failed")
    sys.exit(1 if failures or not checks else 0)


if __name__ == "__main__":
    main()
