"""What each unit of a model costs at each batch size, measured: seconds, and bytes at the peak."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leandnn.errors import LeandnnError
from leandnn.huffman.buffers import like
from leandnn.huffman.chain import Unit, units
from leandnn.huffman.decoders import Decoder
from leandnn.huffman.layers import HuffmanConv2d
from leandnn.huffman.model import Compressed
from leandnn.machine import memory

BATCHES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, eq=False)
class Costs:
    """Cost tables of a model's units.

    - units: their names, L. batches: batch sizes, ascending, B.
    - seconds: float64 (repeats, L, B), of one call.
    - copy_seconds: float64 (repeats, L), of copying one item into a buffer of such items before unit l.
    - peak_nbytes: int64 (L, B), of one call beyond what is held and its input; its result is included.
    - item_nbytes: int64 (L,), of one item of a unit's input.
    - held_nbytes: at all times: coded weights and their tables, other tensors, the convolutions' workspace, threads'
      scratch memory.
    - decoder: name of what the coded layers computed by. threads: torch's, when this was measured.

    Raises ValueError for arrays that do not fit together.
    """

    units: tuple[str, ...]
    batches: tuple[int, ...]
    seconds: NDArray[np.float64]
    copy_seconds: NDArray[np.float64]
    peak_nbytes: NDArray[np.int64]
    item_nbytes: NDArray[np.int64]
    held_nbytes: int
    decoder: str = "fused"
    threads: int = 1

    def __post_init__(self) -> None:
        repeats, count, sizes = len(self.seconds), len(self.units), len(self.batches)
        if list(self.batches) != sorted(set(self.batches)) or sizes == 0 or self.batches[0] < 1:
            raise ValueError(f"batches are {self.batches}, expected ascending sizes of at least 1")
        for name, shape in (
            ("seconds", (repeats, count, sizes)),
            ("copy_seconds", (repeats, count)),
            ("peak_nbytes", (count, sizes)),
            ("item_nbytes", (count,)),
        ):
            if (found := np.shape(getattr(self, name))) != shape or repeats == 0 or count == 0:
                raise ValueError(f"{name} has shape {found}, expected {shape} with no zero in it")

    @classmethod
    def measure(
        cls,
        model: Compressed,
        shape: Sequence[int] = (3, 224, 224),
        batches: Sequence[int] = BATCHES,
        repeats: int = 5,
        *,
        decoder: Decoder | None = None,
        progress: bool = False,
    ) -> Costs:
        """Measure a model on random inputs, with torch's present number of threads.

        - shape: of one input item. batches: sizes to measure, in any order. repeats: rounds over all of them; a round
          takes the whole net at one size after another, so that a slow spell of the machine hits all alike.
        - decoder: how the coded layers compute (decoders.py); their own way if None.
        - progress: show a bar.

        Raises LeandnnError for a model that cannot be cut (chain.py), a unit whose items depend on the batch, or a
        system that does not count peaks of memory (leandnn/memory.py).
        """
        from tqdm import tqdm  # not for training on machines that have few libraries

        sizes = tuple(sorted(set(batches)))
        if not sizes or sizes[0] < 1 or repeats < 1:
            raise ValueError(
                f"batches are {sizes} and repeats {repeats}, expected sizes and repeats of at least 1"
            )
        chain = units(model, decoder)
        seconds = np.zeros((repeats, len(chain), len(sizes)))
        copied = np.zeros((repeats, len(chain)))
        images = torch.randn(sizes[-1], *shape, generator=torch.Generator().manual_seed(0))
        peaks, items = _peaks(chain, images, sizes)
        rounds = range(repeats)
        with torch.no_grad():
            for repeat in tqdm(rounds, desc="costs", leave=False, disable=None if progress else True):
                for column, size in enumerate(sizes):
                    for row, (x, own) in enumerate(timed(chain, images[:size])):
                        seconds[repeat, row, column] = own
                        if size == sizes[-1]:
                            copied[repeat, row] = copy_seconds(x)
        return cls(
            units=tuple(unit.name for unit in chain),
            batches=sizes,
            seconds=seconds,
            copy_seconds=copied,
            peak_nbytes=peaks,
            item_nbytes=items,
            held_nbytes=held_nbytes(model),
            decoder="fused" if decoder is None else decoder.__name__,
            threads=torch.get_num_threads(),
        )

    def split(self) -> tuple[Costs, Costs]:
        """The even and the odd repeats: to choose plans on one half and to score them on the other.

        ValueError for fewer than two repeats.
        """
        if len(self.seconds) < 2:
            raise ValueError(f"there are {len(self.seconds)} repeats, expected at least 2 to split")
        halves = [slice(0, None, 2), slice(1, None, 2)]
        even, odd = (
            replace(self, seconds=self.seconds[half], copy_seconds=self.copy_seconds[half]) for half in halves
        )
        return even, odd

    def only(self, batches: Sequence[int]) -> Costs:
        """The tables of some of the sizes; ValueError for one that was not measured."""
        sizes = tuple(sorted(set(batches)))
        if missing := [size for size in sizes if size not in self.batches]:
            raise ValueError(f"batch size {missing[0]} was not measured, {self.batches} were")
        columns = [self.batches.index(size) for size in sizes]
        return replace(
            self, batches=sizes, seconds=self.seconds[:, :, columns], peak_nbytes=self.peak_nbytes[:, columns]
        )

    def typical(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Medians over the repeats: seconds (L, B) and copy_seconds (L,)."""
        return np.median(self.seconds, axis=0), np.median(self.copy_seconds, axis=0)


def timed(chain: Sequence[Unit], x: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Of each unit in turn, each on the result of the one before: its input, and the seconds of its call."""
    for unit in chain:
        begin = time.perf_counter()
        y = unit.call(x)
        yield x, time.perf_counter() - begin
        x = y


def held_nbytes(model: Compressed) -> int:
    """Bytes that a model holds while it runs, whatever the batch size: see Costs.held_nbytes."""
    scratch = max((layer.scratch_nbytes for layer in model.layers().values()), default=0)
    return kept_nbytes(model) + scratch


def kept_nbytes(model: Compressed) -> int:
    """The part of it that belongs to the model: coded weights and tables, other tensors, convolutions' workspace."""
    layers = model.layers().values()
    convolutions = [layer.workspace_nbytes(1) for layer in layers if isinstance(layer, HuffmanConv2d)]
    tables = sum(layer.table_nbytes for layer in layers)
    other: int = sum(tensor.nbytes for tensor in model.model.state_dict().values())
    return model.weight_nbytes + tables + other + max(convolutions, default=0)


def _peaks(
    chain: list[Unit], images: Tensor, sizes: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Peaks of all calls, and bytes of one input item of each unit. Also warms up what the timed rounds will use."""
    peaks = np.zeros((len(chain), len(sizes)), np.int64)
    items = np.zeros(len(chain), np.int64)
    shapes: dict[str, tuple[int, ...]] = {}
    with torch.no_grad():
        for column, size in enumerate(sizes):
            x = images[:size]
            for row, unit in enumerate(chain):
                y = _checked(unit, x)
                # The result is at least as large as what the call allocates: small ones hide in pages that are there.
                peaks[row, column] = max(memory.growth(partial(unit.call, x)), y.nbytes)
                items[row] = x[0].nbytes
                known, found = shapes.setdefault(unit.name, tuple(y.shape[1:])), tuple(y.shape[1:])
                if known != found:
                    raise LeandnnError(
                        f"unit {unit.name} makes items of shape {known} and {found} by batch size"
                    )
                x = y
    return peaks, items


def copy_seconds(x: Tensor) -> float:
    """Seconds of copying one item of x into a new buffer, measured with all of them."""
    begin = time.perf_counter()
    like(x, len(x)).copy_(x)
    return (time.perf_counter() - begin) / len(x)


def _checked(unit: Unit, x: Tensor) -> Tensor:
    y = unit.call(x)
    if not isinstance(y, Tensor) or y.dtype != torch.float32 or y.dim() == 0 or len(y) != len(x):
        found = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise LeandnnError(
            f"unit {unit.name} makes {found} of {len(x)} items, expected float32 ({len(x)}, …)"
        )
    return y
