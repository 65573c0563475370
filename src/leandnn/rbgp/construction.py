"""RBGP4: G_o ⊗ G_r ⊗ G_i ⊗ G_b with Ramanujan G_o and G_i, complete G_r and G_b (arXiv 2006.13486).

What the paper's own sizes were is not published here; ours suit the panel kernels: |G_r|·|G_b| = 16 rows share
their columns, and columns come in runs of four.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from leandnn.blocksparse import Pattern
from leandnn.rbgp.lifts import ramanujan

Size = tuple[int, int]
REPEATS: tuple[Size, ...] = ((4, 2), (4, 1), (2, 2), (2, 1), (1, 1))  # of G_r, best first
BLOCKS: tuple[Size, ...] = ((4, 4), (4, 2), (2, 2), (4, 1), (2, 1), (1, 1))  # of G_b


def rbgp4(
    rows: int,
    cols: int,
    sparsity: float,
    *,
    kernel: Size = (1, 1),
    repeat: Size | None = None,
    block: Size | None = None,
    inner: Size | None = None,
    lifts: Size | None = None,
    seed: int = 0,
) -> Pattern:
    """An RBGP4 pattern of rows × (cols · kernel area).

    - rows, cols: outputs and inputs of a linear layer, channels of a convolution.
    - sparsity: 1 − 2^−k.
    - kernel: (height, width) of a convolution's window, which belongs to G_b: columns are in the order of
      weight.flatten(1).
    - repeat, block, inner: sizes (left, right) of G_r, G_b (without the window) and G_i, picked if None.
    - lifts: (of G_o, of G_i), ⌈k/2⌉ and ⌊k/2⌋ if None; a factor without lifts is complete.
    - seed: of G_o; that of G_i is seed + 1.

    Raises ValueError where the sizes do not divide, or no factors of these sizes have this sparsity.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 ≤ sparsity < 1")
    k = -math.log2(1 - sparsity)
    if not math.isclose(k, round(k), abs_tol=1e-9):
        near = [1 - 2.0 ** -math.floor(k), 1 - 2.0 ** -math.ceil(k)]
        raise ValueError(
            f"sparsity is {sparsity:g}, expected 1 − 2^−k, the nearest are {near[0]:g} and {near[1]:g}"
        )
    outer_lifts, inner_lifts = lifts or (math.ceil(round(k) / 2), round(k) // 2)
    if outer_lifts + inner_lifts != round(k) or min(outer_lifts, inner_lifts) < 0:
        raise ValueError(f"lifts are {(outer_lifts, inner_lifts)}, expected two numbers with sum {round(k)}")
    for found_repeat, found_block in _sizes(repeat, block):
        fixed = (found_repeat[0] * found_block[0], found_repeat[1] * found_block[1])
        if rows % fixed[0] or cols % fixed[1]:
            continue
        sides = (rows // fixed[0], cols // fixed[1])
        inner_size = _inner(sides, outer_lifts, inner_lifts, inner)
        if inner_size is None:
            continue
        outer_size = (sides[0] // inner_size[0], sides[1] // inner_size[1])
        area = kernel[0] * kernel[1]
        return Pattern.rbgp4(
            ramanujan(*outer_size, 1 - 2.0**-outer_lifts, seed).edges,
            found_repeat,
            ramanujan(*inner_size, 1 - 2.0**-inner_lifts, seed + 1).edges,
            (found_block[0], found_block[1] * area),
        )
    raise ValueError(
        f"no factors with {outer_lifts} and {inner_lifts} lifts make a {rows} × {cols} pattern of sparsity {sparsity:g}"
    )


def _sizes(repeat: Size | None, block: Size | None) -> Iterator[tuple[Size, Size]]:
    """Sizes of G_r and G_b, those that the kernels like best first."""
    for found_block in (block,) if block else BLOCKS:
        for found_repeat in (repeat,) if repeat else REPEATS:
            yield found_repeat, found_block


def _inner(sides: Size, outer_lifts: int, inner_lifts: int, wanted: Size | None) -> Size | None:
    """The size of G_i that leaves both graphs room for their lifts, as near to the sides' roots as can be."""

    def least(lifts: int) -> int:
        return 2 << lifts if lifts else 1  # the graph that is lifted has at least two vertices a side

    picked = []
    for at, side in enumerate(sides):
        candidates = [
            size
            for size in range(1, side + 1)
            if side % size == 0
            and size >= least(inner_lifts)
            and size % (1 << inner_lifts) == 0
            and side // size >= least(outer_lifts)
            and (side // size) % (1 << outer_lifts) == 0
            and (wanted is None or size == wanted[at])
        ]
        if not candidates:
            return None
        picked.append(min(candidates, key=lambda size: (abs(math.log(size * size / side)), size)))
    return picked[0], picked[1]
