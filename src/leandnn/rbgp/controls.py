"""Graphs of the same degrees that are not Ramanujan: what the property itself is worth is measured against them."""

from __future__ import annotations

import numpy as np

from leandnn.kernels.panels.format import Graph
from leandnn.rbgp.graphs import BipartiteGraph, connected
from leandnn.rbgp.lifts import lift, lifts_for


def nearly_disconnected(n_left: int, n_right: int, sparsity: float, seed: int = 0) -> BipartiteGraph:
    """Lifts of the complete graph in which a single edge is crossed: connected, with hardly a spectral gap.

    - n_left, n_right, sparsity: as of ramanujan, with the same degrees.
    - seed: of the edges that are crossed.

    Raises ValueError as ramanujan does, and where the graph meets the bound all the same, as with degrees of 2,
    of which one cycle is the only connected graph.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    lifts = lifts_for(n_left, n_right, sparsity)
    mask = np.ones((n_left >> lifts, n_right >> lifts), dtype=bool)
    for _ in range(lifts):
        signs = np.ones_like(mask)
        rows, columns = np.nonzero(mask)
        crossed = generator.integers(rows.size)
        signs[rows[crossed], columns[crossed]] = False
        mask = lift(mask, signs)
    graph = BipartiteGraph.from_biadjacency(mask)
    assert connected(graph.edges)  # every edge lies on a cycle, which crossing it alone makes unbalanced
    if graph.is_ramanujan():
        raise ValueError(
            f"every connected {n_left} × {n_right} graph like this is Ramanujan: degrees {graph.left_degree} and "
            f"{graph.right_degree}, σ₂ = {graph.second_singular_value:.3f}, bound {graph.bound:.3f}"
        )
    return graph


def disconnected(n_left: int, n_right: int, sparsity: float) -> BipartiteGraph:
    """Lifts without a crossed edge: 2^k complete graphs side by side, what a grouped convolution is."""
    lifts = lifts_for(n_left, n_right, sparsity)
    whole = np.ones((n_left >> lifts, n_right >> lifts), dtype=bool)
    return BipartiteGraph(Graph.from_mask(np.kron(np.eye(1 << lifts, dtype=bool), whole)))
