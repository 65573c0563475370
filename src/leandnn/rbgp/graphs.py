"""Bi-regular bipartite graphs, their spectra, and their product."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leandnn.kernels.panels.format import Graph

DENSE = 1024  # shorter sides up to which all singular values are computed where one is asked for
# Singular values this close count as equal: degree 2 meets its bound exactly, and libraries differ in the last bits.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class BipartiteGraph:
    """A bipartite graph in which all vertices of a side have the same degree.

    - edges: its compressed rows; left vertices are rows, right ones columns.

    Raises ValueError where the degrees of a side differ.
    """

    edges: Graph

    def __post_init__(self) -> None:
        right = np.bincount(self.edges.idx, minlength=self.edges.right)
        for name, degrees in (("left", np.diff(self.edges.ptr)), ("right", right)):
            if degrees.min() != degrees.max():
                raise ValueError(
                    f"the {name} vertices have degrees from {degrees.min()} to {degrees.max()}, expected one degree"
                )

    @classmethod
    def complete(cls, n_left: int, n_right: int) -> BipartiteGraph:
        """Every left vertex with every right one."""
        return cls(Graph.complete(n_left, n_right))

    @classmethod
    def from_biadjacency(cls, mask: NDArray[np.bool_]) -> BipartiteGraph:
        """From n_left × n_right booleans."""
        return cls(Graph.from_mask(mask))

    @property
    def biadjacency(self) -> Tensor:
        """Bool tensor, n_left × n_right."""
        return torch.from_numpy(self.edges.mask())

    @property
    def left_degree(self) -> int:
        """Edges of a left vertex."""
        return self.edges.edges // self.edges.left

    @property
    def right_degree(self) -> int:
        """Edges of a right vertex."""
        return self.edges.edges // self.edges.right

    @property
    def sparsity(self) -> float:
        """Part of all pairs that has no edge."""
        return 1 - self.edges.edges / (self.edges.left * self.edges.right)

    @functools.cached_property
    def _spectrum(self) -> Tensor:
        values: Tensor = torch.linalg.svdvals(self.biadjacency.double())
        return values

    def singular_values(self) -> Tensor:
        """All min(n_left, n_right) singular values of the biadjacency matrix, descending, float64.

        The largest is √(left_degree · right_degree), as often as the graph has components.
        """
        return self._spectrum.clone()

    @functools.cached_property
    def second_singular_value(self) -> float:
        """The second largest, 0 for a single one: of all up to 1024 vertices a side, above by Lanczos iteration."""
        if min(self.edges.left, self.edges.right) <= DENSE:
            return float(self._spectrum[1]) if self._spectrum.numel() > 1 else 0.0
        # The first pair of singular vectors is constant: without it the second value is the largest.
        mask = self.edges.mask().astype(np.float64)
        return largest_singular_value(mask - self.edges.edges / (self.edges.left * self.edges.right))

    @property
    def bound(self) -> float:
        """√(d_l − 1) + √(d_r − 1): what the second singular value of a Ramanujan graph does not exceed."""
        return ramanujan_bound(self.left_degree, self.right_degree)

    def is_connected(self) -> bool:
        """Whether every vertex can be reached from every other."""
        return connected(self.edges)

    def is_ramanujan(self) -> bool:
        """Connected, and every singular value but the largest within the bound."""
        return self.is_connected() and self.second_singular_value <= self.bound + TOLERANCE


def ramanujan_bound(left_degree: int, right_degree: int) -> float:
    """√(d_l − 1) + √(d_r − 1)."""
    return math.sqrt(left_degree - 1) + math.sqrt(right_degree - 1)


def largest_singular_value(matrix: NDArray[np.float64]) -> float:
    """Of a dense matrix: from all eigenvalues of its Gram matrix, above 1024 × 1024 by Lanczos iteration."""
    if min(matrix.shape) <= DENSE:
        short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        return math.sqrt(max(0.0, float(np.linalg.eigvalsh(short @ short.T)[-1])))
    from scipy.sparse.linalg import svds

    found: Any = svds(matrix, k=1, return_singular_vectors=False, tol=1e-10, random_state=0)
    return float(found[0])


def connected(graph: Graph) -> bool:
    """Whether a bipartite graph has one component, isolated vertices counted."""
    transposed = graph.transpose()
    seen_left, seen_right = np.zeros(graph.left, bool), np.zeros(graph.right, bool)
    seen_left[0] = True
    while True:
        right = np.zeros(graph.right, bool)
        right[graph.idx[seen_left[graph.sources()]]] = True
        left = np.zeros(graph.left, bool)
        left[transposed.idx[right[transposed.sources()]]] = True
        left |= seen_left
        if (left == seen_left).all() and (right == seen_right).all():
            return bool(left.all() and right.all())
        seen_left, seen_right = left, right


def product(*graphs: BipartiteGraph) -> BipartiteGraph:
    """G_1 ⊗_b G_2 ⊗_b …: the biadjacency matrix is the Kronecker product, the left factor outermost.

    Sides, degrees and densities multiply, and so do singular values: the spectrum of the product is all products
    of the factors' values (and zeros, where a matrix is not square). Two Ramanujan factors do not in general
    make a Ramanujan product.
    """
    found = np.ones((1, 1), dtype=bool)
    for graph in graphs:
        found = np.kron(found, graph.edges.mask())
    return BipartiteGraph.from_biadjacency(found)
