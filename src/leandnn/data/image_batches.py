"""Training batches of images in memory: shuffled, augmented, normalised.

The whole data set is one uint8 tensor, so a batch is one gather, without workers and without any Python per
image. What a batch holds depends on (seed, epoch, step) alone: a resumed run sees what an unbroken one saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from leandnn.data.cifar import Images, Triple, generator
from leandnn.errors import LeandnnError


@dataclass(frozen=True)
class Augmentation:
    """How training images are moved and mirrored.

    - shift: pixels by which an image moves up or down, and left or right, at most (a random crop after padding
      by as many).
    - border: what moves in from outside. "mean" is 0 after normalisation, that is the mean colour and not black;
      "reflect" is the image mirrored at its outermost pixels.
    - flip: left to right. "random" draws for each image in every epoch; "alternating" draws in the first epoch
      and then shows the other side in every next one (Jordan 2024, arXiv 2404.00498).

    The defaults are those of He et al. (2016), section 4.2. LeandnnError for other values.
    """

    shift: int = 4
    border: Literal["mean", "reflect"] = "mean"
    flip: Literal["random", "alternating"] = "random"

    def __post_init__(self) -> None:
        if self.border not in ("mean", "reflect"):
            raise LeandnnError(f"the border is {self.border!r}, expected 'mean' or 'reflect'")
        if self.flip not in ("random", "alternating"):
            raise LeandnnError(f"the flip is {self.flip!r}, expected 'random' or 'alternating'")
        if self.shift < 0:
            raise LeandnnError(f"the shift is {self.shift} pixels, expected 0 or more")


STANDARD = Augmentation()


class Batches:
    """Shuffled training batches from images that lie on `device`, augmented if asked, and normalised.

    A batch is (float32 (B, 3, H, W), int64 (B,)) on `device`; the images are (pixel - 255 mean) / (255 std),
    in channels-last memory format where `channels_last` is set.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        augment: Augmentation | None,
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
        side = min(images.images.shape[2:])
        if augment is not None and augment.shift >= side:
            raise LeandnnError(
                f"the shift is {augment.shift} pixels, expected less than the images' side of {side}"
            )
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
        self._first_flips = torch.randint(0, 2, (len(images),), generator=generator(seed)).to(device)
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
        order = torch.randperm(len(self._labels), generator=generator(self.seed, index)).to(self._device)
        for step in range(start, len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            if self.augment is not None:
                images = self._augmented(chosen, self.augment, index, step)
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

    def _augmented(self, chosen: Tensor, augment: Augmentation, epoch: int, step: int) -> Tensor:
        """The chosen images (B,), moved and flipped at random: normalised float32 (B, H, W C)."""
        count, height, width = len(chosen), self._height, self._width
        # Drawn on the CPU, so that every device sees the same images; 3 B numbers travel there, not 3 B H W.
        drawn = generator(self.seed, epoch, step)
        shift = torch.randint(-augment.shift, augment.shift + 1, (2, count), generator=drawn)
        flipped = torch.randint(0, 2, (count,), generator=drawn).to(self._device)
        if augment.flip == "alternating":
            flipped = self._first_flips.index_select(0, chosen) ^ (epoch % 2)
        down, right = shift.to(self._device)[:, :, None]
        rows = self._rows + down
        columns = torch.where(flipped[:, None] == 1, width - 1 - self._columns, self._columns) + right
        if augment.border == "reflect":
            return self._normalised(
                self._gathered(chosen, _reflected(rows, height), _reflected(columns, width))
            )
        row_inside = ((rows >= 0) & (rows < height)).float()[:, :, None]
        column_inside = ((columns >= 0) & (columns < width)).float()[:, :, None]
        pixels = self._gathered(chosen, rows.clamp_(0, height - 1), columns.clamp_(0, width - 1))
        # Masking after normalisation is what makes the padding exactly 0.
        inside = column_inside.expand(-1, -1, self._channels).reshape(count, 1, -1)
        return self._normalised(pixels).mul_(row_inside).mul_(inside)

    def _gathered(self, chosen: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels (B, H, W C) of the chosen images (B,) at these rows (B, H) and columns (B, W)."""
        first = (chosen[:, None] * self._height + rows) * (self._width * self._channels)
        within = (columns[:, :, None] * self._channels + self._planes).view(len(chosen), 1, -1)
        indices = first[:, :, None] + within
        return self._pixels.view(-1).index_select(0, indices.view(-1)).view(len(chosen), self._height, -1)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Float32 (B, H, W C) of uint8 pixels; a new tensor."""
        # Two separate operations, each rounded once: a fused one would differ from processor to processor.
        return pixels.float().view(len(pixels), self._height, -1).sub_(self._mean).mul_(self._scale)

    def _formatted(self, images: Tensor) -> Tensor:
        batch = images.view(len(images), self._height, self._width, self._channels).permute(0, 3, 1, 2)
        return batch if self.channels_last else batch.contiguous()


def _reflected(places: Tensor, size: int) -> Tensor:
    """Places outside 0 to size - 1, by less than `size`, mirrored at the first or the last one."""
    return size - 1 - (size - 1 - places.abs()).abs()
