"""RBGP4: G_o ⊗ G_r ⊗ G_i ⊗ G_b with Ramanujan G_o and G_i, complete G_r and G_b (arXiv 2006.13486).

What the paper's own sizes were is not published here; ours suit the panel kernels: |G_r|·|G_b| = 16 rows share
their columns where the matrix is large enough, and columns come in runs of four.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from leandnn.blocksparse import Pattern
from leandnn.rbgp.graphs import BipartiteGraph
from leandnn.rbgp.lifts import Construction, ramanujan

Size = tuple[int, int]
# Of G_r and G_b, best first. G_r repeats rows only: repeated columns would take vertices from G_o and G_i, whose
# spectra decide the product's, and the kernels gain nothing from them.
REPEATS: tuple[Size, ...] = ((4, 1), (2, 1), (1, 1))
BLOCKS: tuple[Size, ...] = ((4, 4), (4, 2), (2, 2), (4, 1), (2, 1), (1, 1))


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
    construction: Construction = "random",
    seed: int = 0,
) -> Pattern:
    """An RBGP4 pattern of rows × (cols · kernel area).

    - rows, cols: outputs and inputs of a linear layer, channels of a convolution.
    - sparsity: 1 − 2^−k.
    - kernel: (height, width) of a convolution's window, which belongs to G_b: columns are in the order of
      weight.flatten(1).
    - repeat, block, inner: sizes (left, right) of G_r, G_b (without the window) and G_i, picked if None.
    - lifts: (of G_o, of G_i), ⌈k/2⌉ and ⌊k/2⌋ if None; a factor without lifts is complete.
    - construction, seed: of G_o, see ramanujan; the seed of G_i is seed + 1.

    Raises ValueError where the sizes do not divide, or no factors of these sizes have this sparsity, naming the
    nearest that they have.
    """
    k = nearest_halvings(sparsity)
    own = lifts or ((k + 1) // 2, k // 2)
    found = None
    if math.isclose(sparsity, 1 - 2.0**-k, abs_tol=1e-12):
        if sum(own) != k or min(own) < 0:
            raise ValueError(f"lifts are {own}, expected two numbers with sum {k}")
        found = _sizes(rows, cols, own, repeat, block, inner)
    if found is None:
        raise ValueError(_unreachable(rows, cols, sparsity, lifts, repeat, block, inner))
    (outer_size, found_repeat, inner_size, found_block), area = found, kernel[0] * kernel[1]
    return Pattern.rbgp4(
        ramanujan(*outer_size, 1 - 2.0 ** -own[0], seed, construction=construction).edges,
        found_repeat,
        ramanujan(*inner_size, 1 - 2.0 ** -own[1], seed + 1, construction=construction).edges,
        (found_block[0], found_block[1] * area),
    )


def from_factors(outer: BipartiteGraph, repeat: Size, inner: BipartiteGraph, block: Size) -> Pattern:
    """The RBGP4 pattern of graphs given by hand.

    - outer, inner: G_o and G_i.
    - repeat, block: sizes (left, right) of the complete G_r and G_b; a convolution's window is a factor of
      block's right size.

    Raises ValueError, naming singular value and bound, unless both graphs are connected and Ramanujan. A pattern of
    other graphs can be had from Pattern.rbgp4, which asks nothing.
    """
    for name, graph in (("G_o", outer), ("G_i", inner)):
        if not graph.is_connected():
            raise ValueError(f"{name} is not connected, expected a connected Ramanujan graph")
        if not graph.is_ramanujan():
            raise ValueError(
                f"{name} has the second singular value {graph.second_singular_value:.4f}, expected at most "
                f"√({graph.left_degree} − 1) + √({graph.right_degree} − 1) = {graph.bound:.4f}: it is not Ramanujan"
            )
    return Pattern.rbgp4(outer.edges, repeat, inner.edges, block)


def nearest_halvings(sparsity: float) -> int:
    """The k whose 1 − 2^−k is nearest to a sparsity; ValueError for one outside [0, 1)."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}, expected 0 ≤ sparsity < 1")
    return round(-math.log2(1 - sparsity))


def reachable(
    rows: int, cols: int, *, repeat: Size | None = None, block: Size | None = None, inner: Size | None = None
) -> tuple[float, ...]:
    """The sparsities that rbgp4 reaches with its own lifts, ascending; empty where sizes do not divide.

    - rows, cols, repeat, block, inner: as of rbgp4.
    """
    most = max(rows, cols).bit_length()
    splits = ((k, ((k + 1) // 2, k // 2)) for k in range(2 * most))
    return tuple(1 - 2.0**-k for k, own in splits if _sizes(rows, cols, own, repeat, block, inner))


def other_lifts(rows: int, cols: int, sparsity: float) -> tuple[Size, ...]:
    """Lifts (of G_o, of G_i) other than rbgp4's own that reach a sparsity of 1 − 2^−k, the evenest first."""
    k = nearest_halvings(sparsity)
    splits = [(outer, k - outer) for outer in range(k + 1) if (outer, k - outer) != ((k + 1) // 2, k // 2)]
    splits.sort(key=lambda own: (abs(own[0] - own[1]), -own[0]))
    return tuple(own for own in splits if _sizes(rows, cols, own, None, None, None))


def _unreachable(
    rows: int,
    cols: int,
    sparsity: float,
    lifts: Size | None,
    repeat: Size | None,
    block: Size | None,
    inner: Size | None,
) -> str:
    """What to say of a sparsity that these sizes do not have."""
    given = {"lifts": lifts, "repeat": repeat, "block": block, "inner": inner}
    asked = "".join(f", {name} {size}" for name, size in given.items() if size)
    head = f"no factors make a {rows} × {cols} RBGP4 pattern of sparsity {sparsity:g}{asked}"
    near = sorted(
        reachable(rows, cols, repeat=repeat, block=block, inner=inner),
        key=lambda known: abs(math.log2((1 - known) / (1 - sparsity))),
    )[:2]
    k = nearest_halvings(sparsity)
    others = other_lifts(rows, cols, sparsity) if 1 - 2.0**-k == sparsity and not asked else ()
    if others:
        head += f" with lifts {((k + 1) // 2, k // 2)} (lifts {others[0]} would)"
    if not near:
        return f"{head}: the sizes do not divide"
    return f"{head}; the nearest reachable: {', '.join(f'{known:g}' for known in sorted(near))}"


def _sizes(
    rows: int, cols: int, lifts: Size, repeat: Size | None, block: Size | None, inner: Size | None
) -> tuple[Size, Size, Size, Size] | None:
    """Sizes of G_o, G_r, G_i and G_b (without window), those that the kernels like best; None if there are none."""
    for found_repeat, found_block in _fixed(repeat, block):
        fixed = (found_repeat[0] * found_block[0], found_repeat[1] * found_block[1])
        if min(fixed) < 1 or rows % fixed[0] or cols % fixed[1]:
            continue
        sides = (rows // fixed[0], cols // fixed[1])
        if (inner_size := _inner(sides, *lifts, inner)) is not None:
            outer_size = (sides[0] // inner_size[0], sides[1] // inner_size[1])
            return outer_size, found_repeat, inner_size, found_block
    return None


def _fixed(repeat: Size | None, block: Size | None) -> Iterator[tuple[Size, Size]]:
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
