"""Random masks and graphs with exact counts, for benches, tests and random baselines.

All draw from a torch.Generator on the CPU, so a seed gives one result on every machine.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from leandnn.kernels.panels.format import Graph

Mask = NDArray[np.bool_]


def mask_of_count(rows: int, columns: int, count: int, generator: torch.Generator) -> Mask:
    """A mask with `count` entries, every place equally likely."""
    mask = np.zeros(rows * columns, dtype=bool)
    mask[torch.randperm(rows * columns, generator=generator)[:count].numpy()] = True
    return mask.reshape(rows, columns)


def mask_of_row_count(rows: int, columns: int, count: int, generator: torch.Generator) -> Mask:
    """A mask with `count` entries in every row, every choice of them equally likely."""
    mask = np.zeros((rows, columns), dtype=bool)
    order = torch.rand(rows, columns, generator=generator, dtype=torch.float64).argsort(dim=1)
    np.put_along_axis(mask, order[:, :count].numpy(), True, axis=1)
    return mask


def biregular(left: int, right: int, edges: int, generator: torch.Generator) -> Graph:
    """A random graph in which all vertices of a side have one degree.

    Vertex after vertex takes the right vertices with the most free places, ties by lot: their free places
    never differ by more than one, so it always ends well. Random, not uniform, and no Ramanujan graph.

    Raises ValueError unless `edges` is a multiple of both sides, at most left · right.
    """
    if edges % left or edges % right or not 0 <= edges <= left * right:
        raise ValueError(f"no biregular graph has {left} × {right} vertices and {edges} edges")
    free = torch.full((right,), edges // right, dtype=torch.float64)
    mask = np.zeros((left, right), dtype=bool)
    for row in mask:
        lot = torch.rand(right, generator=generator, dtype=torch.float64)
        taken = (free + lot).argsort(descending=True)[: edges // left]
        free[taken] -= 1
        row[taken.numpy()] = True
    return Graph.from_mask(mask)


class Split(NamedTuple):
    """Sides (left, right) and edges of two biregular graphs."""

    outer: tuple[int, int]
    inner: tuple[int, int]
    outer_edges: int
    inner_edges: int


def split(rows: int, columns: int, density: float) -> Split:
    """G_o and G_i whose product has these sides and exactly this density.

    The densities of a biregular graph are the multiples of 1/gcd of its sides. Of all splits of the sides that
    allow the density it is the most even one (if two are, that with the larger G_o); then the density is split
    as evenly as can be (if two are, with the sparser G_o).

    Raises ValueError where there is none.
    """
    sides = [(i, j) for i in _divisors(rows) for j in _divisors(columns)]
    sides.sort(key=lambda inner: round(_unevenness(rows, inner[0]) + _unevenness(columns, inner[1]), 9))
    for inner in sides:
        outer = (rows // inner[0], columns // inner[1])
        most_o, most_i = math.gcd(*outer), math.gcd(*inner)  # the numbers of steps to density 1
        steps = round(density * most_o * most_i)
        if not math.isclose(steps, density * most_o * most_i):
            continue
        if exact := [k for k in range(1, most_o + 1) if steps % k == 0 and steps // k <= most_i]:
            k_o = min(exact, key=lambda k: (max(k * most_i, steps // k * most_o), k))
            edges = (math.prod(outer) * k_o // most_o, math.prod(inner) * steps // k_o // most_i)
            return Split(outer, inner, *edges)
    raise ValueError(f"no product of two biregular graphs is {rows} × {columns} of density {density:g}")


def _divisors(size: int) -> list[int]:
    return [d for d in range(1, size + 1) if size % d == 0]


def _unevenness(size: int, part: int) -> float:
    """0 for a part that is the square root."""
    return abs(math.log(part * part / size))
