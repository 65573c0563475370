"""Click logs in Criteo's shape: in memory, in batches, and in the prepared file of the made-up log.

What a batch holds depends on (seed, epoch, step) alone: a resumed run sees what an unbroken one saw. The real
log is read by data/criteo.py into the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leandnn import paths
from leandnn.data import clicks_synthesis
from leandnn.data.clicks_synthesis import CLICKS, SIZES, SPLITS
from leandnn.data.prepared import layout, read_header
from leandnn.errors import LeandnnError
from leandnn.paths import relative

MISSING = -(2**31)  # an integer feature that is empty; a category that is empty is 0


@dataclass(frozen=True, eq=False)
class Clicks:
    """Rows of a click log, on the CPU, in the order in which they were logged.

    - integers: int32 (N, 13), MISSING where empty.
    - categories: int32 (N, 26), entries of tables with `sizes` rows; 0 where empty.
    - labels: uint8 (N,), 1 for a click.
    - sizes: rows of each category's table.
    - probabilities: float32 (N,), the true probability of a click; None where nobody knows it.
    """

    integers: Tensor
    categories: Tensor
    labels: Tensor
    sizes: tuple[int, ...]
    probabilities: Tensor | None = None

    def __len__(self) -> int:
        return self.labels.shape[0]

    def part(self, start: int, stop: int) -> Clicks:
        """Rows `start` to `stop` - 1, sharing memory."""
        chosen = slice(start, stop)
        return Clicks(
            self.integers[chosen],
            self.categories[chosen],
            self.labels[chosen],
            self.sizes,
            None if self.probabilities is None else self.probabilities[chosen],
        )


def split_days(log: Clicks, days: int = 7) -> tuple[Clicks, Clicks]:
    """All days but the last, and the last: what is predicted lies later than what was learned from.

    A log has no dates: its rows are in order, and a day is an equal part of them (the last one takes the rest).
    LeandnnError for fewer than 2 days, or fewer rows than days.
    """
    if not 2 <= days <= len(log):
        raise LeandnnError(f"a split into {days} days was asked for, expected 2 to {len(log)}, the rows")
    last = len(log) // days * (days - 1)
    return log.part(0, last), log.part(last, len(log))


# --- the made-up log -------------------------------------------------------------------------------------


def synthetic(split: str, count: int, seed: int = 0) -> Clicks:
    """The first `count` rows of a made-up log with known probabilities; see clicks_synthesis for its formula.

    It is NOT Criteo's log, and no figure obtained with it says anything about Criteo's. Row i does not depend
    on `count`, and the bytes are the same on every machine. LeandnnError for an unknown split, or a count or
    seed out of range.
    """
    _check_split(split)
    if count < 1 or seed < 0:
        raise LeandnnError(f"{count} made-up rows from seed {seed} were asked for, expected at least 1 and 0")
    return _clicks(clicks_synthesis.arrays(clicks_synthesis.World(seed), split, count))


def load(split: str = "train", *, count: int | None = None, prepared: Path = paths.PREPARED) -> Clicks:
    """A split of the prepared made-up log: "train" (six days) or "test" (the seventh).

    `count` takes its first rows. LeandnnError for an unknown split, a `count` out of range, and a file that is
    missing or whose size, header, shapes, types or values are wrong; only `prepared.verify` reads it for damage.
    """
    _check_split(split)
    whole = CLICKS.train if split == "train" else CLICKS.test
    count = whole if count is None else count
    if not 1 <= count <= whole:
        raise LeandnnError(f"{count} rows of clicks {split} were asked for, expected 1 to {whole}")
    path = prepared / f"{CLICKS.name}.safetensors"
    start, _ = read_header(path, CLICKS)
    prefix = f"{split}_"
    tensors: dict[str, npt.NDArray[np.uint8]] = {}
    for name, (_, begin, end) in layout(CLICKS).items():
        if name.startswith(prefix):
            size = (end - begin) // whole * count
            tensors[name.removeprefix(prefix)] = np.fromfile(path, np.uint8, size, offset=start + begin)
    arrays = clicks_synthesis.viewed(tensors, count)
    largest = arrays["categories"].max(0)
    if (largest >= SIZES).any() or arrays["labels"].max() > 1:
        raise LeandnnError(
            f"{relative(path)} is damaged: categories reach {largest.tolist()} and labels "
            f"{arrays['labels'].max()}, expected less than {list(SIZES)} and 2: run `leandnn data fetch clicks`"
        )
    return _clicks(arrays)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise LeandnnError(f"there is no split {split!r}, only 'train' and 'test'")


def _clicks(arrays: dict[str, npt.NDArray[Any]]) -> Clicks:
    integers = arrays["integers"].astype(np.int32)
    return Clicks(
        torch.from_numpy(np.where(integers < 0, np.int32(MISSING), integers)),
        torch.from_numpy(arrays["categories"].astype(np.int32)),
        torch.from_numpy(arrays["labels"].copy()),
        SIZES,
        torch.from_numpy(arrays["probabilities"].astype(np.float32)),
    )


# --- batches ---------------------------------------------------------------------------------------------


def dense(integers: Tensor) -> Tensor:
    """What a net reads of integer features: log(1 + x), 0 for missing and negative ones; float32, same shape.

    Source: the preprocessing of DLRM's reference code (github.com/facebookresearch/dlrm).
    """
    return torch.log1p(integers.clamp(min=0).float())


class Batches:
    """Shuffled batches of a click log that lies on `device`: (dense float32 (B, 13), entries int64 (B, 26), labels
    float32 (B,)).
    """  # fmt: skip

    def __init__(
        self, log: Clicks, batch_size: int, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        if not 1 <= batch_size <= len(log):
            raise LeandnnError(
                f"the batch size is {batch_size}, expected 1 to {len(log)}, the number of rows"
            )
        if seed < 0:
            raise LeandnnError(f"the seed is {seed}, expected 0 or more")
        self.batch_size, self.seed = batch_size, seed
        self._dense = dense(log.integers).to(device)
        self._categories = log.categories.to(device)
        self._labels = log.labels.to(device)

    def __len__(self) -> int:
        """Steps per epoch; the rows left over after the last whole batch sit this epoch out."""
        return len(self._labels) // self.batch_size

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches `start` to the end of epoch `index` (from 0), the same whatever was drawn before."""
        if index < 0 or not 0 <= start <= len(self):
            raise LeandnnError(
                f"epoch {index}, step {start} is not in the data: an epoch has {len(self)} steps"
            )
        return self._epoch(index, start)

    def _epoch(self, index: int, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        mixed = np.random.SeedSequence(self.seed, spawn_key=(index,)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        order = torch.randperm(len(self._labels), generator=generator).to(self._labels.device)
        for step in range(start, len(self)):
            yield self._rows(order[step * self.batch_size : (step + 1) * self.batch_size])

    def evaluation(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All rows once, in order; the last batch may be smaller."""
        if batch_size < 1:
            raise LeandnnError(f"the batch size is {batch_size}, expected 1 or more")
        for chosen in torch.arange(len(self._labels), device=self._labels.device).split(batch_size):
            yield self._rows(chosen)

    def _rows(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self._dense.index_select(0, chosen),
            self._categories.index_select(0, chosen).long(),
            self._labels.index_select(0, chosen).float(),
        )
