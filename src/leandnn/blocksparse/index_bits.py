"""What must be stored of a pattern beside its values, level by level.

Every index and every row pointer takes 2 bytes where the largest one fits in 16 bits, else 4; a handful of
sizes (the matrix, the blocks) is not counted. So all kinds of pattern are counted by one rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.panels.format import Graph, Panels


class Level(NamedTuple):
    """One level of a pattern.

    - block: (height, width) of the level's blocks, in elements.
    - blocks: how many of them hold a non-zero.
    - density: their share, in elements, of the non-zero blocks of the level above (of the matrix, for the first).
      The density of the pattern is the product over its levels.
    - index_nbytes: bytes to store which of them do.
    """

    block: tuple[int, int]
    blocks: int
    density: float
    index_nbytes: int


def csr_nbytes(rows: int, columns: int, entries: int) -> int:
    """Bytes of compressed rows: rows + 1 pointers and one column index per entry."""
    return (rows + 1) * _width(entries) + entries * _width(columns - 1)


def _width(largest: int) -> int:
    """Bytes of an index."""
    return 2 if largest < 1 << 16 else 4


def _graph_nbytes(graph: Graph) -> int:
    """Bytes of a factor: its edges alone if all rows have one degree, else compressed rows."""
    if np.ptp(np.diff(graph.ptr)) == 0:
        return graph.edges * _width(graph.right - 1)
    return csr_nbytes(graph.left, graph.right, graph.edges)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def common(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """The largest block that divides both."""
    return math.gcd(shape[0], block[0]), math.gcd(shape[1], block[1])


def product_levels(panels: Panels) -> tuple[Level, ...]:
    """Levels of an RBGP4 pattern: the tiles that G_o chooses, in each of them the blocks that G_i chooses.

    All tiles share one G_i (and G_r only repeats), so the edges of G_o and G_i are all that is stored.
    """
    outer, inner, (rows, columns) = panels.outer, panels.inner, panels.shape
    tile = (rows // outer.left, columns // outer.right)
    blocks = panels.nnz // int(np.prod(panels.block))
    return (
        Level(tile, outer.edges, outer.edges / (outer.left * outer.right), _graph_nbytes(outer)),
        Level(panels.block, blocks, inner.edges / (inner.left * inner.right), _graph_nbytes(inner)),
    )


def nested_levels(
    finest: Graph, part: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> tuple[Level, ...]:
    """Levels of a matrix of nested blocks: the first as block CSR, each later one inside its parents.

    - finest: which of the smallest dense blocks are non-zero; part: their (height, width).
    - sizes: (height, width) of the blocks of each level, coarsest first; each divides the one before, and `part`
      divides all. Where they do not divide the matrix, those at its edges are cut off there: a smaller part of
      them counts, and they take as many bytes as the others.

    A level below the first stores one pointer per block of the level above, and for each of its own blocks
    the place inside that parent.
    """
    (height, width), edges = part, (finest.left * part[0], finest.right * part[1])
    top, left = finest.sources() * height, finest.idx * width  # of each smallest block, in elements
    parents, inside, area = -(-edges[0] // sizes[0][0]), -(-edges[1] // sizes[0][1]), edges[0] * edges[1]
    levels = []
    for i, (h, w) in enumerate(sizes):
        found = np.zeros((-(-edges[0] // h), -(-edges[1] // w)), dtype=bool)
        found[top // h, left // w] = True
        blocks = int(found.sum())
        own = int(_lengths(edges[0], h) @ found @ _lengths(edges[1], w))
        levels.append(Level((h, w), blocks, _share(own, area), csr_nbytes(parents, inside, blocks)))
        if i + 1 < len(sizes):
            inside = (h // sizes[i + 1][0]) * (w // sizes[i + 1][1])
        parents, area = blocks, own
    return tuple(levels)


def _lengths(whole: int, size: int) -> NDArray[np.int64]:
    """Lengths of the pieces of `whole` cut at multiples of `size`."""
    return np.minimum(size, whole - np.arange(0, whole, size))
