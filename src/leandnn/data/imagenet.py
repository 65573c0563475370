"""Images in folders, one folder per class: ImageNet-1K as it is unpacked, or anything laid out alike.

    <root>/train/<class>/<image>.JPEG        <root>/val/<class>/<image>.JPEG

What a batch holds depends on (seed, epoch, step) alone, whatever the number of worker processes, so a resumed run
sees what an unbroken one saw. A group of processes shares an epoch's batches: process r of w takes every w-th.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leandnn.errors import LeandnnError
from leandnn.machine import card, libraries

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
# Mean and standard deviation of ImageNet's training pixels / 255, as every published recipe has them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COMPLETE = {"train": 1_281_167, "val": 50_000}  # of ImageNet-1K
CLASSES = 1000
Policy = Literal["stop", "skip"]


@dataclass(frozen=True)
class Split:
    """The images of a split, sorted by class and name.

    - files: paths; labels: index of each one's class in `classes`.
    - problems: a sentence for each folder or number that is not as expected.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    problems: tuple[str, ...] = ()


def scan(root: Path, *, missing: Policy = "stop") -> tuple[Split, Split]:
    """What is in a folder: (train, val).

    - missing: "stop" refuses a class without images, and an ImageNet-1K (1000 classes) with fewer or more images
      than it has; "skip" says so on stderr and goes on with what there is.

    Raises LeandnnError, saying what to put where, if a folder is missing, holds no images, or the splits have
    different classes.
    """
    found = [_scan(root, name) for name in ("train", "val")]
    train, val = found
    if train.classes != val.classes:
        only = sorted(set(train.classes) ^ set(val.classes))
        raise LeandnnError(
            f"{root} has {len(train.classes)} classes in train and {len(val.classes)} in val, expected the same; "
            f"{len(only)} are in one alone, such as {', '.join(only[:3])}"
        )
    for split in found:
        if split.problems and missing == "stop":
            raise LeandnnError(
                f"{root / split.name} is not complete: {'; '.join(split.problems[:5])}"
                f"{' and more' if len(split.problems) > 5 else ''}; restore the images, or pass --missing skip"
            )
        for problem in split.problems:
            print(f"{root / split.name}: {problem}", file=sys.stderr)
    return train, val


def _scan(root: Path, name: str) -> Split:
    folder = root / name
    try:
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        names = [
            sorted(p.name for p in (folder / c).iterdir() if p.suffix.lower() in SUFFIXES) for c in classes
        ]
    except OSError as error:
        raise LeandnnError(
            f"{folder} cannot be read ({error.strerror}), expected {folder}/<class>/<image>.JPEG: unpack ImageNet-1K "
            f"(image-net.org, after registration) so that {root} has train and val with {CLASSES} class folders each"
        ) from error
    files = tuple(
        str(folder / c / image) for c, images in zip(classes, names, strict=True) for image in images
    )
    labels = tuple(i for i, images in enumerate(names) for _ in images)
    if not files:
        raise LeandnnError(f"{folder} holds no images, expected {folder}/<class>/<image>.JPEG")
    problems = [f"class {c} has no images" for c, images in zip(classes, names, strict=True) if not images]
    if len(classes) == CLASSES and len(files) != COMPLETE[name]:
        problems.append(f"{len(files)} images, expected {COMPLETE[name]} of ImageNet-1K")
    return Split(name, tuple(classes), files, labels, tuple(problems))


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why."""

    path: str
    reason: str


Sample = tuple[Tensor, int] | Failure


@dataclass(frozen=True)
class _Images(Dataset[Sample]):
    """Decoded images, uint8 (3, size, size): of an epoch's random parts, or the middle where that is None."""

    split: Split
    size: int
    seed: int
    epoch: int | None

    def __len__(self) -> int:
        return len(self.split.files)

    def __getitem__(self, index: int) -> Sample:
        path = self.split.files[index]
        seed = None if self.epoch is None else _mixed(self.seed, self.epoch, index)
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("ignore")  # about odd metadata; the pixels count
                pixels = _cropped(image.convert("RGB"), self.size, seed)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return Failure(path, f"{type(error).__name__}: {error}".replace(path, "").strip())
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous(), self.split.labels[index]


def _cropped(image: Image.Image, size: int, seed: int | None) -> Image.Image:
    """A random part flipped at random, or the middle after a resize by 8/7, as the published recipes have it."""
    libraries.torchvision_operators()
    from torchvision.transforms import RandomResizedCrop

    if seed is None:
        scale = size * 8 / 7 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        left, top = (width - size) / 2, (height - size) / 2
        box = (left / scale, top / scale, (left + size) / scale, (top + size) / scale)
        box = (max(0.0, box[0]), max(0.0, box[1]), min(image.size[0], box[2]), min(image.size[1], box[3]))
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which turns to the GPUs too
        top, left, height, width = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        flip = bool(torch.rand(()) < 0.5)
    part = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else part


def _collate(samples: list[Sample]) -> tuple[Tensor, Tensor, list[Failure]]:
    good = [s for s in samples if not isinstance(s, Failure)]
    images = torch.stack([image for image, _ in good]) if good else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    return images, torch.tensor([label for _, label in good]), [s for s in samples if isinstance(s, Failure)]


class Batches:
    """Batches of a split: (float32 (B, 3, size, size) normalised and channels-last, int64 (B,)) on `device`.

    - batch_size: images in one process's batch.
    - augment: random crops and flips (training), else the middle of the image.
    - rank, world: this process and how many there are.
    - workers: processes that decode, never more than cores; 0 for none.
    - unreadable: "stop" raises LeandnnError at the first image that cannot be read; "skip" names it on stderr, once,
      leaves it out (its batch is smaller) and keeps it in `failures`.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        size: int = 224,
        augment: bool,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        unreadable: Policy = "stop",
    ) -> None:
        if not 1 <= batch_size * world <= len(split.files):
            raise LeandnnError(
                f"{world} batches of {batch_size} images were asked for, expected 1 to {len(split.files)} images, "
                f"which {split.name} has"
            )
        if not 0 <= rank < world:
            raise LeandnnError(f"process {rank} of {world} was asked for, expected 0 to {world - 1}")
        self.split, self.batch_size, self.size, self.augment, self.seed = (
            split,
            batch_size,
            size,
            augment,
            seed,
        )
        self.device, self.rank, self.world = torch.device(device), rank, world
        self.workers, self.unreadable = min(workers, card.cores()), unreadable
        self.failures: dict[str, str] = {}
        self._mean = torch.tensor(MEAN, device=device).view(3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(STD, device=device).view(3, 1, 1) * 255)

    def __len__(self) -> int:
        """Steps per epoch; the images left over sit this epoch out."""
        return len(self.split.files) // (self.batch_size * self.world)

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `start` to the end of epoch `index` that are this process's."""
        if index < 0 or not 0 <= start <= len(self):
            raise LeandnnError(
                f"epoch {index}, step {start} is not in the data: an epoch has {len(self)} steps"
            )
        order = torch.randperm(len(self.split.files), generator=_generator(self.seed, index)).tolist()
        chunks = []
        for step in range(start, len(self)):
            first = (step * self.world + self.rank) * self.batch_size
            chunks.append(order[first : first + self.batch_size])
        return self._read(chunks, index if self.augment else None)

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of all images, once, in order; the last batch may be smaller."""
        mine = list(range(self.rank, len(self.split.files), self.world))
        chunks = [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]
        return self._read(chunks, None, may_be_empty=True)

    def _read(
        self, chunks: list[list[int]], epoch: int | None, may_be_empty: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            _Images(self.split, self.size, self.seed, epoch),
            batch_sampler=chunks,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from the run's own generator
        )
        for images, labels, failures in loader:
            self._note(failures)
            if len(labels):
                yield self._normalised(images), labels.to(self.device, non_blocking=True)
            elif not may_be_empty:
                raise LeandnnError(
                    f"none of the {len(failures)} images of a batch can be read, such as {failures[0].path} "
                    f"({failures[0].reason}), expected at least one"
                )

    def _note(self, failures: list[Failure]) -> None:
        for failure in failures:
            if self.unreadable == "stop":
                raise LeandnnError(
                    f"{failure.path} cannot be read ({failure.reason}), expected an image: restore it, or pass "
                    "--unreadable skip"
                )
            if failure.path not in self.failures:
                self.failures[failure.path] = failure.reason
                print(f"left out: {failure.path} cannot be read ({failure.reason})", file=sys.stderr)

    def _normalised(self, images: Tensor) -> Tensor:
        moved = images.to(self.device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
        return moved.sub_(self._mean).mul_(self._scale)


def _mixed(seed: int, *place: int) -> int:
    """One number from all arguments; no two places share one, but by chance."""
    return int(np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(seed: int, *place: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mixed(seed, *place))
