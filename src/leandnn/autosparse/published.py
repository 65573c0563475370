"""Published numbers that ours are set beside; each with its source. What could not be verified is not here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Point:
    """One published net: a method at a sparsity, its top-1 accuracy (percent) and MACs as fractions of dense.

    - training: None where it is not published.
    """

    net: str
    method: str
    sparsity: float
    top1: float
    inference: float
    training: float | None
    source: str


_STR = "github RAIVNLab/STR README.md"
_RIGL = "github google-research/rigl README.md"
DENSE_MACS = {"ResNet50": 4.09e9, "MobileNetV1": 569e6}  # likewise, at 224 × 224
POINTS = (
    Point("ResNet50", "STR", 81.27, 76.12, 705e6 / 4.09e9, None, _STR),
    Point("ResNet50", "STR", 90.23, 74.31, 343e6 / 4.09e9, None, _STR),
    Point("ResNet50", "RigL ERK", 80, 75.12, 0.42, 0.42, _RIGL),
    Point("ResNet50", "RigL uniform", 80, 74.60, 0.23, 0.23, _RIGL),
    Point("ResNet50", "RigL ERK", 90, 73.07, 0.24, 0.24, _RIGL),
    Point("ResNet50", "RigL uniform", 90, 72.02, 0.13, 0.13, _RIGL),
    Point("MobileNetV1", "STR", 75.28, 68.35, 101e6 / 569e6, None, _STR),
    Point("MobileNetV1", "STR", 89.01, 62.10, 42e6 / 569e6, None, _STR),
)
# STR's ResNet50s: overall sparsity in percent (a column of str_resnet50.csv) → published MACs.
STR_RESNET50_MACS = {
    "81.27": 705e6,
    "90.23": 343e6,
    "95.15": 162e6,
    "96.11": 127e6,
    "98.05": 73e6,
    "98.98": 47e6,
}
# AutoSparse's abstract (arXiv 2304.06941): ResNet50 at 80 %, dense over AutoSparse, and MEST (uniform) over AutoSparse.
TRAINING_RATIO, INFERENCE_RATIO = 2.0, 7.0
MEST_TRAINING, MEST_INFERENCE = 1.12, 1.5
# Images/s at which NVIDIA trains a dense ResNet50 (v1.5, mixed precision, A100 of 80 GB), by how many of them share
# it: github NVIDIA/DeepLearningExamples PyTorch/Classification/ConvNets/resnet50v1.5/README.md.
A100_IMAGES_PER_S = {1: 2470.0, 8: 16621.0}


def str_densities(sparsity: str) -> dict[str, float]:
    """Share of non-zeros by layer (torchvision's names) of STR's ResNet50 of this overall sparsity ("81.27", …).

    MobileNetV1's layer budgets are not public. Raises ValueError for another sparsity.
    """
    text = resources.files("leandnn.autosparse").joinpath("str_resnet50.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    if sparsity not in rows[0] or sparsity == "layer":
        raise ValueError(
            f"there is no STR budget for {sparsity} %, expected one of {', '.join(list(rows[0])[1:])}"
        )
    return {row["layer"]: 1 - float(row[sparsity]) / 100 for row in rows}
