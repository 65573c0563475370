"""Prepared CIFAR images in memory, batches made of them, and a synthetic substitute.

The whole data set is one uint8 tensor, so a batch is one gather, without workers and without any Python per
image. What a batch holds depends on (seed, epoch, step) alone: a resumed run sees what an unbroken one saw.
"""

from __future__ import annotations

from collections.abc import Iterator
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

PADDING = 4  # pixels on each side, as in He et al. (2016), section 4.2
SYNTHETIC_CLASSES = 10


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
    LeandnnError for an unknown name or split, a `count` out of range, and a file that is missing or whose
    size, header, shapes, types or labels are wrong; only `sources.verify` reads the pixels for damage.
    """
    if name not in DATASETS:
        raise LeandnnError(f"there is no data set {name!r}, only {', '.join(DATASETS)}")
    _check_split(split)
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
"""Training and test images."""


def pair(train_examples: int, test_examples: int) -> Pair:
    """CIFAR-10's training and test images, the first of each class."""
    return load("cifar10", "train", count=train_examples), load("cifar10", "test", count=test_examples)


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


# --- batches ---------------------------------------------------------------------------------------------


class Batches:
    """Shuffled training batches from images that lie on `device`, augmented if asked, and normalised.

    A batch is (float32 (B, 3, H, W), int64 (B,)) on `device`; the images are (pixel - 255 mean) / (255 std),
    in channels-last memory format where `channels_last` is set. `augment` shifts every image by up to four
    pixels each way (a random crop after padding by four) and flips every other one, left to right. What
    moves in from outside is 0 after normalisation, that is the mean colour; it is not black.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        augment: bool,
        mean: Triple,
        std: Triple,
        seed: int,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise LeandnnError(
                f"the batch size is {batch_size}, expected 1 to {len(images)}, the number of images"
            )
        if seed < 0:
            raise LeandnnError(f"the seed is {seed}, expected 0 or more")
        self.batch_size, self.augment, self.seed, self.channels_last = (
            batch_size,
            augment,
            seed,
            channels_last,
        )
        _, self._channels, self._height, self._width = images.images.shape
        # One pixel's channels lie side by side: a gathered row then is one run of memory, and the batch comes
        # out in channels-last order by itself.
        self._pixels = images.images.to(device).permute(0, 2, 3, 1).contiguous()
        self._labels = images.labels.to(device)
        self._device = self._labels.device
        self._mean = 255 * torch.tensor(mean, dtype=torch.float64).repeat(self._width)
        self._scale = (1 / (255 * torch.tensor(std, dtype=torch.float64))).repeat(self._width)
        self._mean = self._mean.to(self._device, torch.float32)
        self._scale = self._scale.to(self._device, torch.float32)
        self._rows = torch.arange(self._height, device=device)
        self._columns = torch.arange(self._width, device=device)
        self._planes = torch.arange(self._channels, device=device)

    def __len__(self) -> int:
        """Steps per epoch; the images left over after the last whole batch sit this epoch out."""
        return len(self._labels) // self.batch_size

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `start` to the end of epoch `index` (from 0), the same whatever was drawn before."""
        if index < 0 or not 0 <= start <= len(self):
            raise LeandnnError(
                f"epoch {index}, step {start} is not in the data: an epoch has {len(self)} steps"
            )
        return self._epoch(index, start)

    def _epoch(self, index: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self._labels), generator=_generator(self.seed, index)).to(self._device)
        for step in range(start, len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            if self.augment:
                images = self._augmented(chosen, _generator(self.seed, index, step))
            else:
                images = self._normalised(self._pixels.index_select(0, chosen))
            yield self._formatted(images), self._labels.index_select(0, chosen)

    def evaluation(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order and not augmented; the last batch may be smaller."""
        if batch_size < 1:
            raise LeandnnError(f"the batch size is {batch_size}, expected 1 or more")
        for first in range(0, len(self._labels), batch_size):
            part = slice(first, first + batch_size)
            yield self._formatted(self._normalised(self._pixels[part])), self._labels[part]

    def _augmented(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """The chosen images (B,), moved and flipped at random: normalised float32 (B, H, W C)."""
        count, height, width = len(chosen), self._height, self._width
        # Drawn on the CPU, so that every device sees the same images; 3 B numbers travel there, not 3 B H W.
        shift = torch.randint(-PADDING, PADDING + 1, (2, count), generator=generator)
        flip = torch.randint(0, 2, (1, count), generator=generator)
        down, right, flipped = torch.cat([shift, flip]).to(self._device)[:, :, None]
        rows = self._rows + down
        columns = torch.where(flipped == 1, width - 1 - self._columns, self._columns) + right
        row_inside = ((rows >= 0) & (rows < height)).float()[:, :, None]
        column_inside = ((columns >= 0) & (columns < width)).float()[:, :, None]
        first = (chosen[:, None] * height + rows.clamp_(0, height - 1)) * (width * self._channels)
        within = columns.clamp_(0, width - 1)[:, :, None] * self._channels + self._planes
        indices = first[:, :, None] + within.view(count, 1, -1)
        pixels = self._pixels.view(-1).index_select(0, indices.view(-1)).view(count, height, -1)
        # Masking after normalisation is what makes the padding exactly 0.
        inside = column_inside.expand(-1, -1, self._channels).reshape(count, 1, -1)
        return self._normalised(pixels).mul_(row_inside).mul_(inside)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Float32 (B, H, W C) of uint8 pixels; a new tensor."""
        # Two separate operations, each rounded once: a fused one would differ from processor to processor.
        return pixels.float().view(len(pixels), self._height, -1).sub_(self._mean).mul_(self._scale)

    def _formatted(self, images: Tensor) -> Tensor:
        batch = images.view(len(images), self._height, self._width, self._channels).permute(0, 3, 1, 2)
        return batch if self.channels_last else batch.contiguous()


def _generator(seed: int, *place: int) -> torch.Generator:
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
