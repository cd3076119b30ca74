"""What the tests against PEFT, diffusers and other consumers of adapters share, beyond common.py."""

import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

from common import SOURCE, at_most, check, report

try:
    import diffusers
    import peft
    import torch
    import transformers
    from safetensors import safe_open
except ImportError as absent:
    print(f"skipped: {absent}")
    sys.exit(77)

DATA = SOURCE / "testdata"
MODULE_TYPES = torch.nn.Linear, torch.nn.Conv2d, transformers.pytorch_utils.Conv1D

torch.set_num_threads(1)  # small models; tests may run side by side
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()


def extract(base, tuned, output, *options):
    return report("extract", "--base", base, "--tuned", tuned, "-o", output, "-f", "-v", *options)


def merge(base, adapters, output, *options):
    """Merge into `output`, a file in a folder that is made when it is not there."""
    Path(output).parent.mkdir(exist_ok=True, parents=True)
    return report("merge", "--base", base, *adapters, "-o", output, "-f", *options)


def measured(value, limit, group, what):
    """Print a figure and check that it is at most `limit`."""
    print(f"{group}: {what}: {value:.6g} (at most {limit:g})", flush=True)
    at_most(value, limit, group, what)


def same_set(found, wanted, group, what):
    """Print the size of a set and check it against another set."""
    found, wanted = set(found), set(wanted)
    extra, lacking = sorted(found - wanted), sorted(wanted - found)
    print(f"{group}: {what}: {len(found)} of {len(wanted)}")
    check(not extra and not lacking, f"{what}: extra {extra[:3]}, lacking {lacking[:3]}", group)


def skip(reason):
    print("skipped:", reason)
    sys.exit(77)


def keys_of(path):
    with safe_open(path, "pt") as file:
        return set(file.keys())


def difference(ours, theirs):
    """Largest difference relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


class Catcher(logging.Handler):
    """Collects the messages of loggers and of the warnings module."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())

    def add_warnings(self, recorded):
        deprecated = DeprecationWarning, FutureWarning
        self.messages += [str(w.message) for w in recorded if not issubclass(w.category, deprecated)]


@contextmanager
def caught():
    """The list of what PEFT, transformers and diffusers complain of, deprecations aside."""
    catcher = Catcher()
    loggers = [logging.getLogger(name) for name in ("peft", "transformers", "diffusers")]
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        for logger in loggers:
            logger.addHandler(catcher)
        try:
            yield catcher.messages
        finally:
            for logger in loggers:
                logger.removeHandler(catcher)
            catcher.add_warnings(recorded)


@torch.no_grad()
def perturb(model, scale, seed):
    """Move the matrices of linear and convolution modules by `scale` times their own size.

    The singular values of each change fall off geometrically.  Embeddings stay as they are,
    also where the output head shares them.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = [m.weight for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    for module in model.modules():
        shared = any(getattr(module, "weight", None) is weight for weight in embeddings)
        if isinstance(module, MODULE_TYPES) and not shared:
            weight = module.weight
            u, s, vh = torch.linalg.svd(
                torch.randn(weight.shape, generator=generator).flatten(1), full_matrices=False)
            change = (u * s * 0.9 ** torch.arange(len(s))) @ vh
            weight += scale * weight.norm() / change.norm() * change.view_as(weight)
