"""Hierarchical block patterns of a weight: which large blocks are kept, which smaller ones in them, and so on.

Only the abstracts of HBsNN (arXiv 1808.03420) are public here, so this definition is OUR INTERPRETATION: large
blocks are kept or dropped, inside each kept block smaller blocks are kept or dropped, down to the smallest
size. Every level has its own density; the density of the matrix is their product.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from leandnn.blocksparse import Pattern
from leandnn.blocksparse.saliency import Mask, Scores, keep_top, weight_scores

Size = tuple[int, int]
Number = TypeVar("Number", bound=np.generic)
SHARES = ("parent", "level")
LEVELS = 3  # at most
_NOWHERE = -1.0  # score of a block in the padding: below all others


def hierarchical(
    weight: Tensor,
    blocks: Sequence[int | Size] = (64, 4),
    densities: Sequence[float] = (0.5, 0.25),
    *,
    saliency: str | Sequence[str] = "l1",
    share: str = "parent",
    survivors: bool = False,
    gradient: Tensor | None = None,
    seed: int = 0,
) -> Pattern:
    """The hierarchical pattern that keeps the most salient blocks of a weight, level by level (our interpretation).

    - weight: (M, …), of a linear layer or a convolution; blocks lie in the M × K matrix weight.flatten(1).
    - blocks: the size of each level's blocks, coarsest first, one to three; a number means a square, otherwise
      (height, width). Each level's divide those above. The matrix is padded to whole blocks; the padding is
      neither kept nor counted.
    - densities: of each level, in (0, 1]: the share of its blocks that is kept inside the blocks kept above.
    - saliency: how blocks are scored, one for all levels or one each: "l1", "l2", "gradient" or "random", summed
      over a block (see blocksparse/saliency.py).
    - share: "parent" keeps the same number of blocks in every block kept above, which makes the work regular;
      "level" keeps the best of the whole level, wherever their parents are. The first level's parent is the
      matrix, so there the two are one.
    - survivors: score a block by what the levels below would keep of it instead of by all of it: with one
      saliency, no other pattern of these shares keeps a larger sum. For share "parent" only.
    - gradient, seed: for the saliencies "gradient" and "random".

    Numbers of blocks are rounded to the nearest, halves up; a parent that is cut off at an edge of the matrix keeps
    one at least. What came out stands in the pattern's `levels` and `density`. One level gives a block pattern,
    or with 1 × 1 blocks an unstructured one.

    Raises ValueError for blocks that do not nest, other than one to three levels, a density outside (0, 1] or
    so low that a level keeps nothing, more or fewer densities or saliencies than sizes, an unknown share, a
    weight that is all zero or not finite, and as saliency.weight_scores does.
    """
    sizes = _sizes(blocks)
    names = (saliency,) * len(sizes) if isinstance(saliency, str) else tuple(saliency)
    _check(sizes, densities, names, share, survivors)
    scores = _scores(weight, names, gradient, seed)
    shape = (weight.shape[0], weight[0].numel())
    levels = [_Level(shape, sizes, i) for i in range(len(sizes))]
    # From the smallest blocks up: what they are worth, which of them each parent keeps, what that leaves of it.
    sums = {name: levels[-1].block_sums(table) for name, table in scores.items()}
    worth: list[Scores] = []
    kept: list[Mask] = []
    for i in reversed(range(len(sizes))):
        worth.insert(0, sums[_key(names, i)])
        if share == "parent":
            kept.insert(0, levels[i].best_of_parents(worth[0], densities[i]))
        if i:
            sums = {name: levels[i].parent_sums(s * kept[0] if survivors else s) for name, s in sums.items()}
    mask = np.ones((1, 1), dtype=bool)
    for i, level in enumerate(levels):
        inside = level.spread(mask)
        mask = inside & (kept[i] if share == "parent" else level.best(worth[i], inside, densities[i]))
    rows, columns = levels[-1].grid
    return _pattern(mask[:rows, :columns], sizes, shape)


class _Level:
    """One level's blocks of a matrix that is padded to whole blocks of the coarsest size.

    Arrays of a level have an entry per block, those in the padding included.

    - grid: rows and columns of blocks that have a part in the matrix.
    - padded: of all blocks; parents: of the blocks above (one for the first level: the matrix).
    - children: rows and columns of blocks in a parent.
    """

    def __init__(self, shape: Size, sizes: Sequence[Size], level: int) -> None:
        self.number, self.size, self.shape = level + 1, sizes[level], shape
        wholes = [-(-shape[i] // sizes[0][i]) * sizes[0][i] for i in (0, 1)]
        above = sizes[level - 1] if level else (wholes[0], wholes[1])
        self.grid = (-(-shape[0] // self.size[0]), -(-shape[1] // self.size[1]))
        self.padded = (wholes[0] // self.size[0], wholes[1] // self.size[1])
        self.parents = (wholes[0] // above[0], wholes[1] // above[1])
        self.children = (above[0] // self.size[0], above[1] // self.size[1])

    def block_sums(self, table: Tensor) -> Scores:
        """Sums over the blocks of a table of scores (M × K)."""
        (height, width), (rows, columns) = self.size, self.padded
        missing = (0, columns * width - self.shape[1], 0, rows * height - self.shape[0])
        full = F.pad(table, missing) if any(missing) else table
        sums: Scores = full.view(rows, height, columns, width).sum((1, 3)).numpy()
        return sums

    def parent_sums(self, scores: Scores) -> Scores:
        """Sums over the children of every parent."""
        table = torch.from_numpy(np.ascontiguousarray(scores))
        sums: Scores = table.view(*self._by_parent()).sum((1, 3)).numpy()
        return sums

    def spread(self, mask: Mask) -> Mask:
        """For every block whether its parent is in the mask of parents."""
        return mask.repeat(self.children[0], axis=0).repeat(self.children[1], axis=1)

    def best_of_parents(self, scores: Scores, density: float) -> Mask:
        """The best blocks of every parent, of each the same share of those that are in the matrix."""
        there = self._there()
        groups = self._grouped(np.where(there, scores, np.float32(_NOWHERE)))
        members = np.count_nonzero(self._grouped(there), axis=1)
        counts = np.floor(density * members + 0.5).astype(np.int64)
        self._refuse_empty(int(counts.max()), density, int(members.max()), "a parent's")
        kept = keep_top(groups, np.where(members > 0, np.maximum(counts, 1), 0))
        of_parent = kept.reshape(*self.parents, *self.children).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(of_parent).reshape(self.padded)

    def best(self, scores: Scores, inside: Mask, density: float) -> Mask:
        """The best blocks among those of a mask that are in the matrix."""
        candidates = inside & self._there()
        members = int(np.count_nonzero(candidates))
        count = int(np.floor(density * members + 0.5))
        self._refuse_empty(count, density, members, "the level's")
        ranked = np.where(candidates, scores, np.float32(_NOWHERE))
        return keep_top(ranked.reshape(1, -1), count).reshape(self.padded)

    def _by_parent(self) -> tuple[int, int, int, int]:
        return self.parents[0], self.children[0], self.parents[1], self.children[1]

    def _grouped(self, table: NDArray[Number]) -> NDArray[Number]:
        """A row of children for every parent."""
        parents = self.parents[0] * self.parents[1]
        return table.reshape(self._by_parent()).transpose(0, 2, 1, 3).reshape(parents, -1)

    def _there(self) -> Mask:
        """Which blocks have a part in the matrix."""
        rows, columns = np.ogrid[: self.padded[0], : self.padded[1]]
        there: Mask = (rows < self.grid[0]) & (columns < self.grid[1])
        return there

    def _refuse_empty(self, count: int, density: float, members: int, whose: str) -> None:
        if count < 1:
            raise ValueError(
                f"density {density:g} keeps none of {whose} {members} blocks of {self.size} at level "
                f"{self.number}, expected at least {0.5 / members:g}"
            )


def _key(names: Sequence[str], level: int) -> str:
    """A name for the scores of a level: those of "random" are drawn for each anew."""
    return f"random {level}" if names[level] == "random" else names[level]


def _scores(weight: Tensor, names: Sequence[str], gradient: Tensor | None, seed: int) -> dict[str, Tensor]:
    """The weights' scores by `_key`."""
    found: dict[str, Tensor] = {}
    for level, name in enumerate(names):
        if (key := _key(names, level)) not in found:
            found[key] = weight_scores(weight, name, gradient=gradient, seed=seed + level)
    if "random" in names and not bool(weight.any()):  # the other scores would be all zero, an error
        raise ValueError(f"the weight of shape {tuple(weight.shape)} is all zero")
    return found


def _sizes(blocks: Sequence[int | Size]) -> tuple[Size, ...]:
    """(height, width) of every level."""
    sizes = tuple((size, size) if isinstance(size, int) else tuple(size) for size in blocks)
    if not 1 <= len(sizes) <= LEVELS:
        raise ValueError(f"blocks is {blocks}, expected one to {LEVELS} sizes")
    for size in sizes:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"blocks of {size} were asked for, expected two sizes of at least 1")
    for large, small in itertools.pairwise(sizes):
        if large[0] % small[0] or large[1] % small[1]:
            raise ValueError(f"blocks of {small} do not nest in those of {large}, expected sizes that divide")
    return sizes  # type: ignore[return-value]


def _check(
    sizes: Sequence[Size], densities: Sequence[float], names: Sequence[str], share: str, survivors: bool
) -> None:
    """ValueError for arguments that do not belong together."""
    for what, given in (("densities", densities), ("saliencies", names)):
        if len(given) != len(sizes):
            raise ValueError(
                f"{len(given)} {what} were given, expected {len(sizes)}: one for each size of blocks"
            )
    for density in densities:
        if not 0 < density <= 1:
            raise ValueError(f"a density is {density}, expected more than 0 and at most 1")
    if share not in SHARES:
        raise ValueError(f"share {share!r} is unknown, expected one of {', '.join(SHARES)}")
    if survivors and share != "parent":
        raise ValueError("survivors are known beforehand for share 'parent' alone, not for 'level'")


def _pattern(mask: Mask, sizes: tuple[Size, ...], shape: Size) -> Pattern:
    """The pattern of a mask of the smallest blocks."""
    if sizes == ((1, 1),):
        return Pattern.unstructured(mask)
    if len(sizes) == 1 and mask.shape == (shape[0] / sizes[0][0], shape[1] / sizes[0][1]):
        return Pattern.blocks(mask, sizes[0])
    return Pattern.hierarchical(mask, sizes, shape)
