"""`Pattern`: which weights of a matrix may be non-zero. Unstructured, block, hierarchical and RBGP4 in one type.

All are products G_o ⊗ G_r ⊗ G_i ⊗ G_b of bipartite graphs (RBGP, arXiv 2006.13486) held as `Panels`, so one
kernel serves them. They differ in which factors are not trivial, and in what must be stored:

    unstructured   G_i: the non-zeros
    block          G_i: the blocks                 G_b: complete, a block
    hierarchical   G_i: the smallest blocks        G_b: complete, a smallest block; larger ones nest them
    rbgp4          G_o, G_i: sparse                G_r, G_b: complete
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leandnn.blocksparse import index_bits, sampling, storage
from leandnn.blocksparse.index_bits import Level
from leandnn.kernels.panels.format import Graph, Panels
from leandnn.kernels.panels.ops import Plan

KINDS = ("unstructured", "block", "hierarchical", "rbgp4")
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where an M × K weight matrix may be non-zero; immutable. Use the constructors below.

    - kind: "unstructured", "block", "hierarchical" or "rbgp4".
    - panels: the four factors.
    - coarse: (height, width) in elements of the blocks above `panels.block`, coarsest first; of a
      hierarchical pattern only. Where they do not divide the matrix, those at its edges are cut off there.
    - cut: of a hierarchical pattern whose smallest level does not divide the matrix either; that level is then
      coarse[-1], and `panels.block` is the largest block that divides both.
    - plan: what the kernels prepare once; layers of one pattern share it.

    The order of `panels.coordinates()` is the order of the values of a layer. Two patterns are equal if kind,
    factors and levels are, not merely the mask: the factors decide that order.

    Raises ValueError for factors that the kind does not have, or blocks that do not nest.
    """

    kind: str
    panels: Panels
    coarse: tuple[Size, ...] = ()
    cut: bool = False
    plan: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is unknown, expected one of {', '.join(KINDS)}")
        panels, sizes = self.panels, (*self.coarse, self.panels.block)
        if self.kind != "rbgp4" and (panels.outer.left, panels.outer.right, *panels.repeat) != (1, 1, 1, 1):
            raise ValueError(
                f"a {self.kind} pattern has G_o of {panels.outer.left} × {panels.outer.right} and G_r of "
                f"{panels.repeat}, expected one vertex a side: they are for rbgp4"
            )
        if self.kind == "unstructured" and panels.block != (1, 1):
            raise ValueError(f"an unstructured pattern has blocks of {panels.block}, expected (1, 1)")
        if (self.kind == "hierarchical") != bool(self.coarse):
            raise ValueError(
                f"a {self.kind} pattern has coarse blocks {self.coarse}: they are for hierarchical"
            )
        for large, small in itertools.pairwise(sizes):
            _divided(large, small)
        if self.cut and not (self.coarse and panels.block == index_bits.common(self.shape, self.coarse[-1])):
            raise ValueError(
                f"{panels.block} are not the largest blocks of {self.shape} and {self.coarse[-1:]}"
            )
        object.__setattr__(self, "plan", Plan(panels))

    @classmethod
    def unstructured(cls, mask: Any) -> Pattern:
        """Any mask (M × K, bool tensor or array)."""
        return cls("unstructured", _single(Graph.from_mask(_bools(mask)), (1, 1)))

    @classmethod
    def blocks(cls, block_mask: Any, block: Size) -> Pattern:
        """Dense blocks of (height, width) where `block_mask` (M/height × K/width, bool) is true."""
        return cls("block", _single(Graph.from_mask(_bools(block_mask)), block))

    @classmethod
    def hierarchical(cls, block_mask: Any, blocks: tuple[Size, ...], shape: Size | None = None) -> Pattern:
        """Small dense blocks inside large non-zero ones (our reading of HBsNN, arXiv 1808.03420).

        - block_mask: which of the smallest blocks are non-zero (M/height × K/width, rounded up, bool). A larger
          block is non-zero if one inside it is.
        - blocks: (height, width) of every level, coarsest first, such as ((64, 64), (4, 4)). Those of a level need
          not divide the matrix.
        - shape: (M, K), where the smallest blocks do not divide it.

        Raises ValueError where a level's blocks do not divide those of the level above, where the only level
        divides the matrix (see `blocks`), and for a shape that the mask does not cover.
        """
        mask, finest = _bools(block_mask), blocks[-1]
        shape = shape or (mask.shape[0] * finest[0], mask.shape[1] * finest[1])
        if mask.shape != (-(-shape[0] // finest[0]), -(-shape[1] // finest[1])):
            raise ValueError(f"a mask of {mask.shape} blocks of {finest} does not cover {shape}")
        block = index_bits.common(shape, finest)
        cut = block != finest
        if len(blocks) < 2 and not cut:
            raise ValueError(f"blocks is {blocks}, expected two levels or more, such as ((64, 64), (4, 4))")
        rows, columns = (np.arange(shape[i] // block[i]) * block[i] // finest[i] for i in (0, 1))
        panels = _single(Graph.from_mask(mask[rows][:, columns] if cut else mask), block)
        return cls("hierarchical", panels, tuple(blocks if cut else blocks[:-1]), cut)

    @classmethod
    def rbgp4(cls, outer: Graph, repeat: Size, inner: Graph, block: Size) -> Pattern:
        """The product of sparse G_o (`outer`) and G_i (`inner`) and complete G_r, G_b of (left, right) sizes."""
        return cls("rbgp4", Panels(outer, repeat, inner, block))

    @classmethod
    def from_mask(cls, mask: Any, block: Size = (1, 1)) -> Pattern:
        """The pattern of blocks that a mask (M × K, bool) is made of; unstructured for blocks of (1, 1).

        Raises ValueError for a mask that is not made of such blocks, naming the first that is neither full
        nor empty.
        """
        array = _bools(mask)
        if block == (1, 1):
            return cls.unstructured(array)
        (rows, columns), (height, width) = _divided(array.shape, block), block
        filled = array.reshape(rows, height, columns, width).sum((1, 3))
        partial = np.argwhere((filled > 0) & (filled < height * width))
        if partial.size:
            i, j = partial[0]
            raise ValueError(
                f"the mask is not made of blocks of {block}: the block at row {i * height}, column "
                f"{j * width} has {filled[i, j]} of {height * width} entries"
            )
        return cls.blocks(filled > 0, block)

    @classmethod
    def random_unstructured(
        cls, rows: int, cols: int, sparsity: float, generator: torch.Generator
    ) -> Pattern:
        """The nearest count of non-zeros to `sparsity` (0 ≤ sparsity < 1), at least one, anywhere."""
        count = max(1, round(_density(sparsity) * rows * cols))
        return cls.unstructured(sampling.mask_of_count(rows, cols, count, generator))

    @classmethod
    def random_blocks(
        cls, rows: int, cols: int, block: Size, sparsity: float, generator: torch.Generator
    ) -> Pattern:
        """Random blocks: in every block row the nearest count to `sparsity` (0 ≤ sparsity < 1), at least one."""
        grid = _divided((rows, cols), block)
        count = max(1, round(_density(sparsity) * grid[1]))
        return cls.blocks(sampling.mask_of_row_count(*grid, count, generator), block)

    @classmethod
    def random_product(
        cls, rows: int, cols: int, sparsity: float, repeat: Size, block: Size, generator: torch.Generator
    ) -> Pattern:
        """An RBGP4 pattern of random biregular G_o and G_i, which are not Ramanujan graphs.

        The sides that `repeat` and `block` leave and the density are split between G_o and G_i as evenly as can
        be (see sampling.split): 4096 × 4096 with G_r (4, 1), G_b (4, 4) and sparsity 0.75 gives two graphs
        of 16 × 32 with density 1/2.

        Raises ValueError where the sides do not divide, or no two biregular graphs give `sparsity` exactly.
        """
        rest = _divided((rows, cols), (repeat[0] * block[0], repeat[1] * block[1]))
        split = sampling.split(*rest, _density(sparsity))
        g_o = sampling.biregular(*split.outer, split.outer_edges, generator)
        g_i = sampling.biregular(*split.inner, split.inner_edges, generator)
        return cls.rbgp4(g_o, repeat, g_i, block)

    @property
    def shape(self) -> Size:
        """(M, K)."""
        return self.panels.shape

    @property
    def nnz(self) -> int:
        """How many weights may be non-zero."""
        return self.panels.nnz

    @property
    def density(self) -> float:
        """Share of the weights that may be non-zero."""
        return self.nnz / (self.shape[0] * self.shape[1])

    @property
    def sparsity(self) -> float:
        """Share of the weights that are zero."""
        return 1 - self.density

    @property
    def block(self) -> Size:
        """(height, width) of the smallest dense blocks."""
        return self.panels.block

    @property
    def factors(self) -> tuple[Graph, Graph, Graph, Graph]:
        """(G_o, G_r, G_i, G_b), whose product is the pattern."""
        panels = self.panels
        return panels.outer, Graph.complete(*panels.repeat), panels.inner, Graph.complete(*panels.block)

    @functools.cached_property
    def levels(self) -> tuple[Level, ...]:
        """Block size, count, density and index bytes of each level, coarsest first; one for a flat pattern."""
        if self.kind == "rbgp4":
            return index_bits.product_levels(self.panels)
        return index_bits.nested_levels(self.panels.inner, self.panels.block, self._sizes)

    @property
    def _sizes(self) -> tuple[Size, ...]:
        """Of the blocks of each level of nested blocks."""
        return self.coarse if self.cut else (*self.coarse, self.panels.block)

    @property
    def index_nbytes(self) -> int:
        """Bytes to store where the non-zeros are: RBGP4 the edges of G_o and G_i, block patterns block CSR.

        A hierarchical pattern stores each level, an unstructured one CSR. index_bits has the rule.
        """
        return sum(level.index_nbytes for level in self.levels)

    @property
    def csr_index_nbytes(self) -> int:
        """Bytes to store the same non-zeros one by one as CSR, by the same rule."""
        return index_bits.csr_nbytes(*self.shape, self.nnz)

    def mask(self) -> Tensor:
        """The pattern as a bool tensor (M, K)."""
        return torch.from_numpy(self.panels.mask())

    def places(self) -> Tensor:
        """Where each value, in storage order, lies in the flattened M × K matrix (int64, nnz)."""
        rows, columns = self.panels.coordinates()
        return torch.from_numpy(rows * self.shape[1] + columns)

    def gather(self, weight: Tensor) -> Tensor:
        """The values of a dense weight (M rows, K elements each; any dtype and device) in storage order.

        Differentiable. Raises ValueError for another shape.
        """
        if weight.dim() < 2 or weight.flatten(1).shape != self.shape:
            raise ValueError(f"the weight has shape {tuple(weight.shape)}, the pattern is {self}")
        return weight.reshape(-1)[self.places().to(weight.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """The dense (M, K) weight of values (nnz) in storage order; zero elsewhere. Differentiable."""
        rows, columns = self.shape
        flat = values.new_zeros(rows * columns).index_copy(0, self.places().to(values.device), values)
        return flat.reshape(rows, columns)

    def spectrum(self) -> Tensor:
        """The min(M, K) singular values of the mask, descending, float64: products of the factors' ones.

        The mask is a Kronecker product, so the factors' small matrices are decomposed, never the mask. For an
        unstructured or block pattern that is G_i, whose size is that of the mask in blocks.
        """
        found = torch.ones(1, dtype=torch.float64)
        for factor in self.factors:
            values = torch.linalg.svdvals(torch.from_numpy(factor.mask()).double())
            found = torch.outer(found, values).flatten()
        found = found.sort(descending=True).values
        return torch.nn.functional.pad(found, (0, min(self.shape) - found.numel()))

    def transpose(self) -> Pattern:
        """The pattern of the transposed matrix."""
        coarse = tuple(size[::-1] for size in self.coarse)
        return Pattern(self.kind, self.panels.transpose(), coarse, self.cut)

    def digest(self) -> str:
        """SHA-256 of kind, factors and levels: the same on every machine."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return self._fields.digest()

    @property
    def _fields(self) -> storage.Fields:
        return storage.Fields(self.kind, self.panels, self.coarse, self.cut)

    def to_state(self) -> dict[str, Tensor]:
        """The pattern as a few small tensors, for a state dict; see storage."""
        return storage.to_state(self._fields)

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Pattern:
        """What `to_state` gave. Raises ValueError for anything else."""
        return storage.from_state(state, cls)

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically. LeandnnError where it cannot be written."""
        storage.save(self._fields, path)

    @classmethod
    def load(cls, path: Path) -> Pattern:
        """Read what `save` wrote; no code runs. LeandnnError for a missing, damaged or newer file."""
        return storage.load(path, cls)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __deepcopy__(self, memo: dict[int, Any]) -> Pattern:
        return self  # immutable: copies of a layer share it, and its plan

    def __reduce__(self) -> tuple[Any, ...]:
        return Pattern, tuple(self._fields)

    def __str__(self) -> str:
        rows, columns = self.shape
        blocks = "".join(f", {h}×{w} blocks" for h, w in self._sizes if (h, w) != (1, 1))
        return f"{self.kind} {rows}×{columns}, {self.sparsity:.2%} sparse{blocks}"


def _single(inner: Graph, block: Size) -> Panels:
    """One tile: a graph of blocks."""
    return Panels(Graph.complete(1, 1), (1, 1), inner, block)


def _bools(mask: Any) -> sampling.Mask:
    """A mask as an array; ValueError unless it is boolean with two dimensions."""
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.dtype != np.bool_ or array.ndim != 2:
        raise ValueError(f"the mask is {array.dtype} of shape {array.shape}, expected bool, two dimensions")
    return array


def _density(sparsity: float) -> float:
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 ≤ sparsity < 1")
    return 1 - sparsity


def _divided(shape: Size, block: Size) -> Size:
    """How many blocks a shape has; ValueError unless they divide it."""
    if min(block) < 1 or shape[0] % block[0] or shape[1] % block[1]:
        raise ValueError(f"blocks of {block} do not divide {shape}")
    return shape[0] // block[0], shape[1] // block[1]
