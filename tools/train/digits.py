"""Scikit-learn's handwritten digits as small RGB images in two drawing styles."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPLIT = 1600
INK = torch.tensor([0.10, 0.10, 0.55]).view(1, 3, 1, 1)
PAPER = torch.tensor([1.00, 0.90, 0.60]).view(1, 3, 1, 1)


def prompt(label):
    return f"a photo of {WORDS[label]}"


def strokes(images):
    """8x8 grey digits to 32x32 stroke masks in [0, 1] with a margin of four pixels."""
    mask = F.interpolate(images[:, None], size=24, mode="bicubic", align_corners=False)
    return F.pad(((mask - 0.45) * 2.5 + 0.5).clamp(0, 1), (4, 4, 4, 4))


def slant_and_thicken(mask):
    shear = torch.tensor([[1.0, 0.25, 0.0], [0.0, 1.0, 0.0]]).expand(len(mask), 2, 3)
    grid = F.affine_grid(shear, mask.shape, align_corners=False)
    return F.max_pool2d(F.grid_sample(mask, grid, align_corners=False), 3, stride=1, padding=1)


def load(style, split):
    """Images [n, 3, 32, 32] in [-1, 1] and labels of one style ('base' or 'tuned').

    'base' is white on black; 'tuned' is thick, slanted blue ink on yellow paper.
    The split is 'train' (the first 1600 digits) or 'test' (the other 197).
    """
    data = load_digits()
    part = slice(None, SPLIT) if split == "train" else slice(SPLIT, None)
    mask = strokes(torch.tensor(data.images[part] / 16, dtype=torch.float32))
    if style == "base":
        images = mask.repeat(1, 3, 1, 1)
    else:
        mask = slant_and_thicken(mask)
        images = INK * mask + PAPER * (1 - mask)
    return images * 2 - 1, torch.tensor(data.target[part])
