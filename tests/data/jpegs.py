"""A small made-up data set in ImageNet's layout: gratings under noise as JPEGs. It is NOT ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write(root: Path, *, classes: int = 4, train: int = 16, val: int = 5, side: int = 40) -> Path:
    """`train` and `val` images of each class; returns `root`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0 : side + 8] / side
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / split / f"class{label:03d}"
            folder.mkdir(parents=True)
            angle = np.pi * label / classes
            for i in range(count):
                wave = np.sin(2 * np.pi * (4 * (x * np.cos(angle) + y * np.sin(angle)) + rng.random()))
                pixels = 128 + 60 * wave[:, :, None] + rng.normal(0, 25, (*wave.shape, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                    folder / f"{i:04d}.JPEG", quality=90
                )
    return root
