"""Images for a net that was trained on ImageNet, from files, one after another; and its answers in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from leandnn.errors import LeandnnError
from leandnn.files import unreadable
from leandnn.machine import libraries

# Of ImageNet's pixels, as torchvision normalises them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Queue:
    """Images by name, read when they are asked for.

    - names: one an image. paths: their files, or the one that holds `batch`. size: side of what is cut out.
    """

    names: Sequence[str]
    paths: Sequence[Path]
    size: int
    batch: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        if self.batch is not None:
            yield from self.batch
            return
        for path in self.paths:
            yield read(path, self.size)

    @property
    def described(self) -> str:
        """For messages."""
        if self.batch is not None:
            return f"{self.paths[0].name}, float32 {tuple(self.batch.shape)}"
        return f"images of (3, {self.size}, {self.size})"


def queue(paths: Sequence[Path], size: int = 224) -> Queue:
    """Images of files, or of one .npy or .safetensors file of float32 (N, C, H, W).

    LeandnnError for files that are not there, or arrays of another type or shape.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise LeandnnError(f"{missing[0]} is no file")
    if any(path.suffix in (".npy", ".safetensors") for path in paths):
        if len(paths) != 1:
            raise LeandnnError(f"{paths[0].name} is one of {len(paths)} files, expected one batch, or images")
        batch = _batch(paths[0])
        return Queue([f"{paths[0].name}[{number}]" for number in range(len(batch))], paths, size, batch)
    return Queue([path.name for path in paths], paths, size)


def read(path: Path, size: int = 224) -> Tensor:
    """(3, size, size) float32: the shorter side scaled to size · 8/7, the middle, normalised as for ImageNet."""
    libraries.torchvision_operators()
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    convert = Compose([Resize(round(size * 8 / 7)), CenterCrop(size), ToTensor(), Normalize(MEAN, STD)])
    try:
        with Image.open(path) as image:
            return cast(Tensor, convert(image.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LeandnnError(f"{path} is no image that can be read: {error}") from error


def top(logits: Tensor, count: int) -> str:
    """The most likely classes with their probabilities; ImageNet's names where there are 1000 classes."""
    probabilities = logits.softmax(0)
    best = probabilities.topk(min(count, len(logits)))
    names = _names() if len(logits) == 1000 else None
    return ", ".join(
        f"{number if names is None else f'{number} {names[number]}'} {100 * share:.1f} %"
        for share, number in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def _names() -> list[str]:
    libraries.torchvision_operators()
    from torchvision.models import AlexNet_Weights

    return list(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def _batch(path: Path) -> Tensor:
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            found = torch.from_numpy(array) if array.dtype == np.float32 else None
            described = f"{array.dtype} {array.shape}"
        else:
            tensors = load_file(path)
            if len(tensors) != 1:
                raise LeandnnError(f"{path.name} holds {len(tensors)} tensors, expected one")
            (found,) = tensors.values()
            described = f"{found.dtype} {tuple(found.shape)}"
    except OSError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, ValueError, EOFError) as error:
        raise LeandnnError(f"{path.name} holds no array: {error}") from error
    if found is None or found.dtype != torch.float32 or found.dim() != 4 or len(found) == 0:
        raise LeandnnError(f"{path.name} is {described}, expected float32 (N, C, H, W) with N of at least 1")
    return found
