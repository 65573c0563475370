"""Prepared CIFAR images in memory, what is held out of them, and a synthetic substitute."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leandnn import paths
from leandnn.data.prepared import CHANNELS, DATASETS, SIDE, layout, read_header
from leandnn.errors import LeandnnError
from leandnn.paths import relative

Triple = tuple[float, float, float]

# Mean and population standard deviation of the training pixels / 255, per channel (red, green, blue).
MEAN: Triple = (0.49139968, 0.48215841, 0.44653091)
STD: Triple = (0.24703223, 0.24348513, 0.26158784)
CIFAR100_MEAN: Triple = (0.50707516, 0.48654887, 0.44091784)
CIFAR100_STD: Triple = (0.26733429, 0.25643846, 0.27615047)

SYNTHETIC_CLASSES = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Images:
    """`images` is uint8 (N, 3, 32, 32) in RGB order, `labels` int64 (N,); both lie on the CPU."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]


def load(
    name: str = "cifar10", split: str = "train", *, count: int | None = None, prepared: Path = paths.PREPARED
) -> Images:
    """A split ("train" or "test") of a prepared data set; CIFAR-100 comes with its 100 fine labels.

    `count` takes a subset: the first images of each class in file order, as many of every class as of any
    other (where `count` is no multiple of the classes, the lower classes have one more), in file order.
    Nothing else reads test images, and that they are read is logged; choose on what `held_out` gives.
    LeandnnError for an unknown name or split, a `count` out of range, and a file that is missing or whose
    size, header, shapes, types or labels are wrong; only `sources.verify` reads the pixels for damage.
    """
    if name not in DATASETS:
        raise LeandnnError(f"there is no data set {name!r}, only {', '.join(DATASETS)}")
    _check_split(split)
    if split == "test":
        _log.info("the test images of %s are read", name)
    dataset = DATASETS[name]
    path = prepared / f"{name}.safetensors"
    start, _ = read_header(path, dataset)

    def read(tensor: str) -> npt.NDArray[np.uint8]:
        shape, begin, end = layout(dataset)[tensor]
        return np.fromfile(path, np.uint8, end - begin, offset=start + begin).reshape(shape)

    images, labels = read(f"{split}_images"), read(f"{split}_labels").astype(np.int64)
    if labels.max() >= dataset.classes:
        raise LeandnnError(
            f"{relative(path)} is damaged: {split}_labels reach {labels.max()}, expected at most "
            f"{dataset.classes - 1}: run `leandnn data fetch {name}`"
        )
    if count is not None:
        if not 1 <= count <= len(labels):
            raise LeandnnError(
                f"{count} images of {name} {split} were asked for, expected 1 to {len(labels)}"
            )
        chosen = _balanced(labels, count, dataset.classes)
        if len(chosen) != count:
            raise LeandnnError(
                f"{relative(path)} has too few images of some class for {count} balanced ones of {split}, "
                f"found {len(chosen)}: run `leandnn data fetch {name}`"
            )
        images, labels = images[chosen], labels[chosen]
    return Images(torch.from_numpy(images), torch.from_numpy(labels))


Pair = tuple[Images, Images]
"""Images to train on, and images to judge by."""


def pair(train_examples: int, test_examples: int) -> Pair:
    """CIFAR-10's training and test images, the first of each class."""
    return load("cifar10", "train", count=train_examples), load("cifar10", "test", count=test_examples)


def held_out(images: Images, share: float, seed: int = 0) -> Pair:
    """Training images in two: those that still train, and a share of every class to choose by (validation).

    - share: of each class, rounded to whole images; seed: of the draw, the same for all runs that are compared.

    Both in the order of `images`. LeandnnError for a share that leaves either side without images of a class.
    """
    if not 0 < share < 1:
        raise LeandnnError(f"the validation share is {share}, expected more than 0 and less than 1")
    chosen = torch.zeros(len(images), dtype=torch.bool)
    for label in images.labels.unique().tolist():
        members = (images.labels == label).nonzero().flatten()
        count = round(share * len(members))
        if not 0 < count < len(members):
            raise LeandnnError(
                f"the validation share {share} takes {count} of the {len(members)} images of class {label}, "
                f"expected 1 to {len(members) - 1}"
            )
        order = torch.randperm(len(members), generator=generator(seed, label))
        chosen[members[order[:count]]] = True
    return (
        Images(images.images[~chosen], images.labels[~chosen]),
        Images(images.images[chosen], images.labels[chosen]),
    )


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise LeandnnError(f"there is no split {split!r}, only 'train' and 'test'")


def _balanced(labels: npt.NDArray[np.int64], count: int, classes: int) -> npt.NDArray[np.intp]:
    """Ascending indices of the first images of each class, `count` in all."""
    order = np.argsort(labels, kind="stable")  # by class, and in file order within a class
    sizes = np.bincount(labels, minlength=classes)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    quota = count // classes + (np.arange(classes) < count % classes)
    return np.sort(order[rank < quota[labels[order]]])


def generator(seed: int, *place: int) -> torch.Generator:
    """A CPU generator that depends on all of its arguments; no two steps share one."""
    mixed = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


# --- the synthetic substitute ----------------------------------------------------------------------------

_QUARTER = (0, 25, 49, 71, 90, 106, 117, 125, 127)  # 127 sin(2 pi k / 32) for k = 0 to 8
_HALF = (*_QUARTER, *_QUARTER[-2:0:-1])
_SINE = np.array([*_HALF, *(-value for value in _HALF)], np.int16)
# Class k has texture k % 5 (waves per image, across and down) and colour k // 5; none mirrors another.
_WAVES = np.array([(1, 2), (2, 4), (4, 1), (5, 5), (0, 6)], np.int16)
_COLOURS = np.array([(2, -1, -1), (-1, -1, 2)], np.int16)
_PARAMETERS = 32  # random bytes per image before those of its noise
_BLOCK = 1024


def synthetic(split: str, count: int, seed: int = 0) -> Images:
    """Made-up images for machines without the data: ten classes of coloured gratings under noise.

    The class sets a grating's direction, frequency and colours; phase, contrast, sense of direction, base
    colour, a grey distracting grating and noise are drawn for each image. It is NOT CIFAR, and no figure
    obtained with it says anything about CIFAR. Integer arithmetic on the raw bits of PCG64 throughout, so
    the bytes are the same on every machine; image i does not depend on `count`, and its label is i mod 10.
    LeandnnError for an unknown split, or a count or seed out of range.
    """
    _check_split(split)
    if count < 1 or seed < 0:
        raise LeandnnError(
            f"{count} synthetic images from seed {seed} were asked for, expected at least 1 and 0"
        )
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(("train", "test").index(split),)))
    labels = np.arange(count) % SYNTHETIC_CLASSES
    images = np.empty((count, CHANNELS, SIDE, SIDE), np.uint8)
    words = (_PARAMETERS + CHANNELS * SIDE * SIDE) // 8
    for first in range(0, count, _BLOCK):
        block = labels[first : first + _BLOCK]
        # Raw words, for NumPy promises their values for ever, which it does not for a Generator's methods.
        drawn = stream.random_raw(len(block) * words).astype("<u8").view(np.uint8).reshape(len(block), -1)
        images[first : first + _BLOCK] = _gratings(block, drawn.astype(np.int16))
    return Images(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _gratings(labels: npt.NDArray[np.int_], drawn: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """The images of some labels from their random bytes: parameters first, then noise."""

    def parameter(at: int) -> npt.NDArray[np.int16]:
        return drawn[:, at, None, None]

    def grating(waves: npt.NDArray[np.int16], phase: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        across, down = waves[:, 0, None, None], waves[:, 1, None, None]
        place = np.arange(SIDE, dtype=np.int16)
        return _SINE[(across * place + down * place[:, None] + phase) % len(_SINE)]

    waves = _WAVES[labels % len(_WAVES)] * np.stack([1 - 2 * (drawn[:, 0] % 2), np.ones_like(drawn[:, 0])], 1)
    wave = grating(waves, parameter(1)) * (8 + parameter(2) % 8) // 16
    other = grating(drawn[:, 3:5] % 8, parameter(5)) // 4
    colours = _COLOURS[labels // len(_WAVES)][:, :, None, None]
    base = 96 + drawn[:, 6:9, None, None] // 4
    noise = (drawn[:, _PARAMETERS:].reshape(-1, CHANNELS, SIDE, SIDE) - 128) // 2
    pixels: npt.NDArray[np.int16] = base + colours * wave[:, None] // 8 + other[:, None] + noise
    return pixels.clip(0, 255).astype(np.uint8)
