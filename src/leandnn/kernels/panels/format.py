"""`Panels`: one storage format for RBGP4, hierarchical, block and unstructured sparse matrices.

A pattern is the bipartite graph product of four factors, G_o ⊗ G_r ⊗ G_i ⊗ G_b (RBGP, arXiv 2006.13486):
G_o and G_i are sparse graphs, G_r and G_b are complete, so they are given by their sizes. Unstructured and
block patterns have G_o = G_r = (1, 1), a hierarchical one too: its G_i holds the smallest blocks. A row's
number is ((o·|G_r| + r)·|G_i| + i)·|G_b| + b with the left sizes, a column's the same with the right sizes.

The rows (o, ·, i, ·) form panel p = o·|G_i| + i: R = |G_r|·|G_b| rows whose non-zeros lie in the same C
columns. Their values are stored in chunks of h rows (h = 4, 2 or 1, the largest that divides R):
values[panel][R/h][C][h], so that with h = 4 a 4×4 block fills one cache line.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Graph:
    """A bipartite graph as compressed rows.

    - right: number of right vertices (columns); the left ones are ptr.size - 1.
    - ptr, idx: int64; the neighbours of left vertex v are idx[ptr[v]:ptr[v + 1]], ascending, no double edge.

    Raises ValueError for arrays that are not that.
    """

    right: int
    ptr: Ints
    idx: Ints

    def __post_init__(self) -> None:
        ptr, idx, right = self.ptr, self.idx, self.right
        for name, array in (("ptr", ptr), ("idx", idx)):
            if array.dtype != np.int64 or array.ndim != 1:
                raise ValueError(
                    f"{name} is {array.dtype} of shape {array.shape}, expected int64, one dimension"
                )
        object.__setattr__(self, "right", operator.index(right))  # a NumPy integer may overflow
        if ptr.size < 2 or right < 1:
            raise ValueError(f"the graph has {ptr.size - 1} × {right} vertices, expected at least 1 × 1")
        if ptr[0] != 0 or ptr[-1] != idx.size or (np.diff(ptr) < 0).any():
            raise ValueError(
                f"ptr must rise from 0 to the {idx.size} edges, it goes from {ptr[0]} to {ptr[-1]}"
            )
        if idx.size and (idx.min() < 0 or idx.max() >= right):
            raise ValueError(f"an edge ends at {idx.min()} or {idx.max()}, expected 0 to {right - 1}")
        falls = np.diff(idx) <= 0
        falls[ptr[1:-1][(ptr[1:-1] > 0) & (ptr[1:-1] < idx.size)] - 1] = False  # where a new vertex begins
        if falls.any():
            raise ValueError("the neighbours of a vertex must ascend, without double edges")

    @property
    def left(self) -> int:
        """Number of left vertices (rows)."""
        return self.ptr.size - 1

    @property
    def edges(self) -> int:
        """Number of edges."""
        return self.idx.size

    @classmethod
    def complete(cls, left: int, right: int) -> Graph:
        """Every left vertex with every right one."""
        return cls(right, np.arange(left + 1) * right, np.tile(np.arange(right), left))

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> Graph:
        """From a biadjacency matrix (left × right)."""
        mask = np.asarray(mask, dtype=bool)
        if mask.ndim != 2:
            raise ValueError(f"the mask has shape {mask.shape}, expected two dimensions")
        ptr = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int64)
        return cls(mask.shape[1], ptr, np.nonzero(mask)[1].astype(np.int64))

    def mask(self) -> NDArray[np.bool_]:
        """The biadjacency matrix, left × right."""
        found = np.zeros((self.left, self.right), dtype=bool)
        found[self.sources(), self.idx] = True
        return found

    def sources(self) -> Ints:
        """The left vertex of each edge."""
        return np.repeat(np.arange(self.left), np.diff(self.ptr))

    def transpose(self) -> Graph:
        """The graph with its sides exchanged."""
        order = np.lexsort((self.sources(), self.idx))
        ptr = np.concatenate([[0], np.cumsum(np.bincount(self.idx, minlength=self.right))]).astype(np.int64)
        return Graph(self.left, ptr, self.sources()[order])


@dataclass(frozen=True, eq=False)
class Panels:
    """A sparse pattern of M × K as the product G_o ⊗ G_r ⊗ G_i ⊗ G_b; see the module.

    - outer, inner: the sparse factors G_o and G_i.
    - repeat, block: (left, right) sizes of the complete factors G_r and G_b.

    Raises ValueError for a size below 1, or a pattern too large for 32-bit indices.
    """

    outer: Graph
    repeat: tuple[int, int]
    inner: Graph
    block: tuple[int, int]

    def __post_init__(self) -> None:
        for name, size in (("repeat", self.repeat), ("block", self.block)):
            if len(size) != 2 or min(size) < 1:
                raise ValueError(f"{name} is {size}, expected two sizes of at least 1")
            object.__setattr__(self, name, tuple(map(operator.index, size)))
        if max(*self.shape, self.panels + 1) >= 1 << 31:
            raise ValueError(f"the pattern has shape {self.shape}, expected sides below 2^31")
        if self.nnz >= 1 << 31:
            raise ValueError(f"the pattern has {self.nnz} non-zeros, expected fewer than 2^31")

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)."""
        rows = self.outer.left * self.repeat[0] * self.inner.left * self.block[0]
        return rows, self.outer.right * self.repeat[1] * self.inner.right * self.block[1]

    @property
    def nnz(self) -> int:
        """Number of non-zeros."""
        return self.outer.edges * self.inner.edges * int(np.prod(self.repeat)) * int(np.prod(self.block))

    @property
    def panels(self) -> int:
        """Number of panels."""
        return self.outer.left * self.inner.left

    @property
    def rows(self) -> int:
        """R, the rows of a panel."""
        return self.repeat[0] * self.block[0]

    @property
    def chunk(self) -> int:
        """h, the rows of a chunk: 4, 2 or 1."""
        return next(h for h in (4, 2, 1) if self.rows % h == 0)

    @functools.cached_property
    def bases(self) -> Ints:
        """First column of the tile of each edge of G_o."""
        return self.outer.idx * (self.repeat[1] * self.inner.right * self.block[1])

    @functools.cached_property
    def offsets(self) -> tuple[Ints, Ints]:
        """(ptr, idx): the columns within a tile of each left vertex of G_i, G_r and G_b multiplied in."""
        (_, n_r), (_, n_b) = self.repeat, self.block
        parts, width = [], self.inner.right * n_b
        ptr = self.inner.ptr * (n_r * n_b)
        fine = (self.inner.idx[:, None] * n_b + np.arange(n_b)).reshape(-1)
        if n_r == 1:
            return ptr, fine
        for v in range(self.inner.left):
            own = fine[self.inner.ptr[v] * n_b : self.inner.ptr[v + 1] * n_b]
            parts.append((np.arange(n_r)[:, None] * width + own).reshape(-1))
        return ptr, np.concatenate(parts)

    @functools.cached_property
    def columns(self) -> Ints:
        """C, the number of columns, of each panel."""
        per_outer, per_inner = np.diff(self.outer.ptr), np.diff(self.offsets[0])
        return (per_outer[:, None] * per_inner[None, :]).reshape(-1)

    @functools.cached_property
    def starts(self) -> Ints:
        """Where each panel's values begin (panels + 1 numbers)."""
        return np.concatenate([[0], np.cumsum(self.columns * self.rows)]).astype(np.int64)

    def panel_rows(self) -> Ints:
        """The rows of each panel, panels × R, in the order of storage."""
        (m_r, _), (m_b, _), m_i = self.repeat, self.block, self.inner.left
        o, r, i, b = np.ogrid[: self.outer.left, :m_r, :m_i, :m_b]
        rows = ((o * m_r + r) * m_i + i) * m_b + b
        return np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(self.panels, self.rows)

    def panel_columns(self, panel: int) -> Ints:
        """The columns of one panel, in the order of storage (ascending)."""
        o, i = divmod(panel, self.inner.left)
        ptr, idx = self.offsets
        bases = self.bases[self.outer.ptr[o] : self.outer.ptr[o + 1]]
        return (bases[:, None] + idx[ptr[i] : ptr[i + 1]]).reshape(-1)

    @functools.cached_property
    def _all_columns(self) -> Ints:
        """The columns of all panels, one after another."""
        found = [self.panel_columns(p) for p in range(self.panels)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def coordinates(self) -> tuple[Ints, Ints]:
        """(rows, columns) of every stored value, in the order of storage."""
        h, rows = self.chunk, self.panel_rows().reshape(self.panels, self.rows // self.chunk, self.chunk)
        row_parts, column_parts = [], []
        first = np.concatenate([[0], np.cumsum(self.columns)])
        for p in range(self.panels):
            columns = self._all_columns[first[p] : first[p + 1]]
            shape = (rows.shape[1], columns.size, h)
            row_parts.append(np.broadcast_to(rows[p][:, None, :], shape).reshape(-1))
            column_parts.append(np.broadcast_to(columns[None, :, None], shape).reshape(-1))
        return np.concatenate(row_parts), np.concatenate(column_parts)

    def mask(self) -> NDArray[np.bool_]:
        """The pattern as a dense M × K matrix of booleans."""
        found = np.ones((1, 1), dtype=bool)
        for factor in (
            self.outer.mask(),
            np.ones(self.repeat, bool),
            self.inner.mask(),
            np.ones(self.block, bool),
        ):
            found = np.kron(found, factor)
        return found

    def transpose(self) -> Panels:
        """The pattern of the transposed matrix: the product of the transposed factors."""
        return Panels(self.outer.transpose(), self.repeat[::-1], self.inner.transpose(), self.block[::-1])
