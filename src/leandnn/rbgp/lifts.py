"""Ramanujan bipartite graphs by repeated 2-lifts of a complete graph.

A 2-lift doubles every vertex and replaces every edge by the parallel or the crossed pair of edges. Its spectrum
is that of the graph and that of the graph's biadjacency matrix with signs, + for parallel and − for crossed (Bilu
and Linial 2006). So a lift of a Ramanujan graph is Ramanujan if the signed matrix meets the bound, which most
random signings do (Marcus, Spielman and Srivastava, arXiv 1304.4132, prove that one always does).

`ramanujan` draws signings until one passes, or takes deterministic ones (module hadamard).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.panels.format import Graph
from leandnn.rbgp.graphs import TOLERANCE, BipartiteGraph, connected, largest_singular_value, ramanujan_bound
from leandnn.rbgp.hadamard import hadamard

TRIES = 200  # of a lift; a signing passes in about nine cases of ten, at degree 2 in one of two
Construction = Literal["random", "hadamard"]


def lift(mask: NDArray[np.bool_], signs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The 2-lift of a biadjacency matrix whose edges are parallel where `signs`, else crossed."""
    parallel, crossed = mask & signs, mask & ~signs
    return np.block([[parallel, crossed], [crossed, parallel]])


def ramanujan(
    n_left: int, n_right: int, sparsity: float, seed: int = 0, *, construction: Construction = "random"
) -> BipartiteGraph:
    """A connected Ramanujan bipartite graph of n_left × n_right vertices, the same for a seed on every machine.

    - sparsity: 1 − 2^−k for a k ≥ 0 whose 2^k divides both sides; k lifts of the complete graph of
      n_left / 2^k × n_right / 2^k vertices.
    - seed: of the signings; each is drawn anew until the lift is connected and meets the bound.
    - construction: "random" signings, or "hadamard" for deterministic ones (the seed has no effect), whose
      singular values are far below the bound where both sides of the complete graph are 2^t.

    Raises ValueError for another sparsity (the nearest reachable ones are named), or where no connected Ramanujan
    graph is found.
    """
    lifts = lifts_for(n_left, n_right, sparsity)
    if construction == "hadamard":
        return hadamard(n_left >> lifts, n_right >> lifts, lifts)
    if construction != "random":
        raise ValueError(f"construction is {construction!r}, expected 'random' or 'hadamard'")
    generator = np.random.Generator(np.random.Philox(seed))  # its stream is the same everywhere
    mask = np.ones((n_left >> lifts, n_right >> lifts), dtype=bool)
    bound = ramanujan_bound(mask.shape[1], mask.shape[0])
    for _ in range(lifts):
        for _ in range(TRIES):
            signs = generator.integers(0, 2, mask.shape).astype(bool)
            if largest_singular_value(np.where(signs, 1.0, -1.0) * mask) > bound + TOLERANCE:
                continue
            lifted = lift(mask, signs)
            if connected(Graph.from_mask(lifted)):
                mask = lifted
                break
        else:
            raise ValueError(
                f"no signing of {mask.shape} gave a Ramanujan graph in {TRIES} tries, expected one in ten"
            )
    return BipartiteGraph.from_biadjacency(mask)


def lifts_for(n_left: int, n_right: int, sparsity: float) -> int:
    """k of sparsity 1 − 2^−k, if `ramanujan` can reach it; ValueError with what it can reach otherwise."""
    if min(n_left, n_right) < 1:
        raise ValueError(f"the graph has {n_left} × {n_right} vertices, expected at least 1 × 1")
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 ≤ sparsity < 1")
    reachable = [0]
    while n_left % (2 << reachable[-1]) == 0 and n_right % (2 << reachable[-1]) == 0:
        if min(n_left, n_right) >> (reachable[-1] + 1) < 2:
            break  # a vertex of degree 1: the graph would fall apart
        reachable.append(reachable[-1] + 1)
    k = -math.log2(1 - sparsity)
    if round(k) in reachable and math.isclose(k, round(k), abs_tol=1e-9):
        return round(k)
    nearest = sorted(reachable, key=lambda known: abs(2.0**-known - (1 - sparsity)))[:2]
    named = " and ".join(f"{1 - 2.0**-known:g}" for known in sorted(nearest))
    raise ValueError(
        f"no lifts make a {n_left} × {n_right} graph of sparsity {sparsity:g}, the nearest are {named}"
    )
