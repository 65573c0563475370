"""Index arrays that a plan derives from a pattern: tiles of the transposed values, pairs of BF16 columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.panels.format import Ints, Panels


@dataclass(frozen=True)
class Tiles:
    """Where the values of the transposed matrix stand among the matrix's own.

    Both orders hold tiles of `height` rows × `width` columns of the matrix, each column (or, transposed, each
    row) contiguous.

    - source: int32; the first value of each tile, in the transposed matrix's order of storage.
    """

    height: int
    width: int
    source: NDArray[np.int32]


def _largest(*sizes: int) -> int:
    """The largest of 4, 2 and 1 that divides all sizes."""
    return next(d for d in (4, 2, 1) if all(size % d == 0 for size in sizes))


def transposed_tiles(panels: Panels, transposed: Panels) -> Tiles:
    """How the values of `panels` become those of `transposed`, which is panels.transpose()."""
    (m_b, n_b), wide = panels.block, panels.shape[1]
    height, width = _largest(panels.chunk, m_b), _largest(transposed.chunk, n_b)

    def firsts(rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
        """Positions of the values that begin a tile, and a number for each that both orders share."""
        at = np.nonzero((rows % m_b % height == 0) & (columns % n_b % width == 0))[0]
        return at, rows[at] * wide + columns[at]

    at, own = firsts(*panels.coordinates())
    columns, rows = transposed.coordinates()
    _, wanted = firsts(rows, columns)
    order = np.argsort(own)
    source = at[order[np.searchsorted(own, wanted, sorter=order)]] if own.size else at
    return Tiles(height, width, source.astype(np.int32))


@dataclass(frozen=True)
class ColumnPairs:
    """The pattern with its columns taken in pairs (2k, 2k + 1), as BF16 products want them.

    A pair of which the pattern has one column has a zero in the other's place.

    - bases, ptr, idx, starts: as of Panels, in pairs.
    - source: int64; for each number of the paired values where it stands among the pattern's, nnz for zero;
      None if the pairs are whole, so that values of [C][h] need only become [C/2][h][2].
    """

    bases: Ints
    ptr: Ints
    idx: Ints
    starts: Ints
    source: Ints | None


def column_pairs(panels: Panels) -> ColumnPairs | None:
    """The pattern in pairs of columns; None where tiles have an odd width, so that no pairing fits all."""
    if (panels.bases % 2).any():
        return None
    ptr, idx = panels.offsets
    lists, places = [], []  # of each left vertex of G_i: its pairs, and where both columns of each stand
    for v in range(panels.inner.left):
        own = idx[ptr[v] : ptr[v + 1]]
        pairs, which = np.unique(own // 2, return_inverse=True)
        place = np.full((pairs.size, 2), -1, dtype=np.int64)
        place[which, own % 2] = np.arange(own.size)
        lists.append(pairs)
        places.append(place)
    counts = np.array([pairs.size for pairs in lists], dtype=np.int64)
    pair_ptr = np.concatenate([[0], np.cumsum(counts)])
    per_panel = (np.diff(panels.outer.ptr)[:, None] * counts[None, :]).reshape(-1)
    starts = np.concatenate([[0], np.cumsum(per_panel * panels.rows)])
    whole = all((place >= 0).all() for place in places)
    source = None if whole else _pair_source(panels, places)
    return ColumnPairs(panels.bases // 2, pair_ptr, np.concatenate(lists), starts, source)


def _pair_source(panels: Panels, places: list[Ints]) -> Ints:
    """ColumnPairs.source where some pairs are halves."""
    h, ptr = panels.chunk, panels.offsets[0]
    found = []
    for p in range(panels.panels):
        o, i = divmod(p, panels.inner.left)
        bases = np.arange(panels.outer.ptr[o + 1] - panels.outer.ptr[o])
        chunks = np.arange(0, panels.rows, h)
        column = bases[:, None, None] * (ptr[i + 1] - ptr[i]) + places[i]  # base, pair, half
        at = (
            panels.starts[p]
            + chunks[:, None, None, None, None] * panels.columns[p]
            + column[None, :, :, None, :] * h
            + np.arange(h)[None, None, None, :, None]
        )  # chunk, base, pair, row, half
        missing = np.broadcast_to((places[i] < 0)[None, None, :, None, :], at.shape)
        found.append(np.where(missing, panels.nnz, at).reshape(-1))
    return np.concatenate(found) if found else np.zeros(0, np.int64)
