"""What the Triton kernels read besides numbers: a pattern's factor graphs, and how operands lie in memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leandnn.kernels.panels.format import Graph, Panels

MATRIX, IMAGES, WINDOWS = 0, 1, 2  # MODE of `gpu_kernels.load`
VARIANTS = ("panels", "tiles", "rows")


def power_of_two(n: int) -> int:
    """The smallest power of two ≥ n."""
    return 1 << max(n - 1, 0).bit_length()


def _transposed_edges(graph: Graph) -> NDArray[np.int64]:
    """The number that each edge of graph.transpose() has in graph."""
    return np.lexsort((graph.sources(), graph.idx)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class PanelsIndex:
    """A pattern on a device. Its size is that of G_o and G_i (their edges multiplied by one row of G_r and G_b).

    - panels: the pattern. device: where the tensors below are.

    Build it once per pattern and device; raises ValueError for 2^31 or more non-zeros (32-bit offsets).
    """

    panels: Panels
    device: torch.device

    def __post_init__(self) -> None:
        if self.panels.nnz >= 1 << 31:
            raise ValueError(f"the pattern has {self.panels.nnz} non-zeros, expected fewer than 2^31")

    @classmethod
    def build(cls, panels: Panels, device: torch.device | str) -> PanelsIndex:
        """The index of a pattern on a device; nothing is copied there before a product needs it."""
        return cls(panels, torch.device(device))

    def _put(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int32)).to(self.device)

    @functools.cached_property
    def outer_ptr(self) -> Tensor:
        """int32 (left of G_o + 1): where the edges of each row of tiles begin."""
        return self._put(self.panels.outer.ptr)

    @functools.cached_property
    def outer_row(self) -> Tensor:
        """int32 (edges of G_o): the row of tiles of each."""
        return self._put(self.panels.outer.sources())

    @functools.cached_property
    def bases(self) -> Tensor:
        """int32 (edges of G_o): `Panels.bases`."""
        return self._put(self.panels.bases)

    @functools.cached_property
    def inner_ptr(self) -> Tensor:
        """int32 (left of G_i + 1): the first half of `Panels.offsets`."""
        return self._put(self.panels.offsets[0])

    @functools.cached_property
    def inner_row(self) -> Tensor:
        """int32 (edges of G_i): the left vertex of each."""
        return self._put(self.panels.inner.sources())

    @functools.cached_property
    def offsets(self) -> Tensor:
        """int32 (edges of G_i × row of G_r × row of G_b): the second half of `Panels.offsets`."""
        return self._put(self.panels.offsets[1])

    @functools.cached_property
    def slots(self) -> Tensor:
        """int32 (left of G_i × width): the place of a tile's column among a vertex's offsets, -1 if none."""
        ptr, idx = self.panels.offsets
        found = np.full((self.panels.inner.left, self.width), -1, dtype=np.int64)
        row = np.repeat(np.arange(self.panels.inner.left), np.diff(ptr))
        found[row, idx] = np.arange(idx.size) - ptr[row]
        return self._put(found)

    @functools.cached_property
    def transposed(self) -> PanelsIndex:
        """The index of the transposed pattern."""
        return PanelsIndex(self.panels.transpose(), self.device)

    @functools.cached_property
    def transposed_edges(self) -> tuple[Tensor, Tensor]:
        """int32: the numbers that the edges of the transposed G_o and G_i have here."""
        graphs = (self.panels.outer, self.panels.inner)
        outer, inner = (self._put(_transposed_edges(graph)) for graph in graphs)
        return outer, inner

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.panels.repeat[1] * self.panels.inner.right * self.panels.block[1]

    @property
    def height(self) -> int:
        """Rows of a tile."""
        return self.panels.rows * self.panels.inner.left

    @functools.cached_property
    def most_columns(self) -> int:
        """The columns of the longest panel."""
        return int(self.panels.columns.max(initial=0))

    @functools.cached_property
    def held(self) -> int:
        """Width of the block that holds every left vertex's offsets with little waste; 0 if there is none."""
        counts = np.diff(self.panels.offsets[0])
        width = power_of_two(int(counts.max()))
        shared = self.panels.outer.edges > self.panels.outer.left  # else there is nothing to hold them for
        return width if shared and 32 <= width <= 128 and 4 * counts.min() >= 3 * width else 0

    def choose(self, tensor_cores: bool) -> str:
        """Which kernel multiplies: "panels", "tiles" (of G_o, expanded on chip) or "rows" (no tensor cores).

        The one with the lowest count of fused multiply-adds per non-zero, where a tensor core makes 8 in the
        time of one and bringing an input element from the cache to the arithmetic costs 4 (a streaming
        multiprocessor of sm_90 makes 128 multiply-adds and reads 32 words a cycle). A count, not a
        measurement: benches can name the variant themselves.
        """
        rows, speed = self.panels.rows, 8 if tensor_cores else 1
        reads = {"panels": rows, "rows": rows, "tiles": min(self.height, 128)}
        work = {"panels": max(power_of_two(rows), 16) / rows / speed, "rows": 1.0}  # panels if they are equal
        inner = self.panels.inner
        density = inner.edges / (inner.left * inner.right)
        # A tile's map of slots is worth its memory only if several tiles share it.
        several = self.panels.outer.edges > 1 and inner.left * self.width <= max(
            1 << 16, self.panels.nnz // 4
        )
        if several and density > 0 and min(self.height, self.width) >= 16:
            work["tiles"] = 1 / density / speed
        return min(work, key=lambda name: max(work[name], 4 / reads[name]))


@dataclass(frozen=True, eq=False)
class Operand:
    """A rows × tokens matrix as it lies in memory, for `gpu_kernels.load` and `store`."""

    data: Tensor
    at: tuple[int, ...]
    mode: int
    rows: int
    tokens: int

    @classmethod
    def matrix(cls, data: Tensor, token_major: bool) -> Operand:
        """Of rows × tokens, or tokens × rows, any strides."""
        row, token = (1, 0) if token_major else (0, 1)
        at = (data.stride(row), data.stride(token), 0, 1)
        return cls(data, at, MATRIX, data.shape[row], data.shape[token])

    @classmethod
    def images(cls, data: Tensor) -> Operand:
        """Of (batch, rows, height, width): the tokens are the pixels. Copies where pixels have uneven gaps."""
        batch, rows, height, width = data.shape
        if height > 1 and width > 1 and data.stride(2) != width * data.stride(3):
            data = data.contiguous()
        pixel = data.stride(3) if width > 1 else data.stride(2)
        at = (data.stride(1), pixel, data.stride(0), max(height * width, 1))
        return cls(data, at, IMAGES, rows, batch * height * width)

    @classmethod
    def windows(
        cls,
        data: Tensor,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Operand:
        """The unfolded windows of images (batch, channels, height, width), rows as torch's unfold orders them."""
        batch, channels, height, width = data.shape
        down, right = output_size((height, width), kernel, stride, padding, dilation)
        by_image, by_channel, by_row, by_column = data.stride()
        strides = (by_channel, by_row, by_column, by_image)
        sizes = (kernel[0] * kernel[1], kernel[1], max(down * right, 1), max(right, 1))
        at = (*strides, *sizes, *stride, *padding, *dilation, height, width)
        return cls(data, at, WINDOWS, channels * sizes[0], batch * down * right)

    @property
    def wide(self) -> bool:
        """Whether offsets need 64 bits."""
        sides = zip(self.data.shape, self.data.stride(), strict=True)
        return sum((size - 1) * stride for size, stride in sides) >= 1 << 31


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """(height, width) of a convolution's output; raises ValueError where there is none."""
    down, right = (
        (size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in (0, 1)
    )
    if down < 1 or right < 1:
        raise ValueError(f"a convolution of {kernel} has an output of {down} × {right} on an input of {size}")
    return down, right
