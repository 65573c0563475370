"""Random patterns for the tests of the panel products, and the tolerance they share."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from leandnn.kernels.panels.format import Graph, Panels

SIZES = (1, 1, 2, 3, 4, 4, 8)


def random_graph(left: int, right: int, density: float, seed: int) -> Graph:
    return Graph.from_mask(np.random.default_rng(seed).random((left, right)) < density)


def random_panels(seed: int) -> Panels:
    """Any heights and widths, odd ones and empty panels included."""
    rng = np.random.default_rng(seed)
    left, right, fine_left, fine_right = (int(rng.integers(1, top)) for top in (5, 5, 12, 12))
    repeat, block = ((int(rng.choice(SIZES)), int(rng.choice(SIZES))) for _ in range(2))
    return Panels(
        random_graph(left, right, 0.6, seed),
        repeat,
        random_graph(fine_left, fine_right, 0.5, seed + 1),
        block,
    )


KINDS = {
    "rbgp4": Panels(random_graph(3, 4, 0.6, 1), (4, 1), random_graph(4, 5, 0.5, 2), (4, 4)),
    "rbgp4_8": Panels(random_graph(2, 3, 0.6, 3), (4, 2), random_graph(4, 5, 0.5, 4), (4, 4)),
    "block4x4": Panels(Graph.complete(1, 1), (1, 1), random_graph(9, 7, 0.4, 5), (4, 4)),
    "block16x1": Panels(Graph.complete(1, 1), (1, 1), random_graph(3, 50, 0.4, 6), (16, 1)),
    "block8x1": Panels(
        Graph.complete(1, 1), (1, 1), random_graph(5, 300, 0.2, 11), (8, 1)
    ),  # several bands of dX
    "block128x128": Panels(Graph.complete(1, 1), (1, 1), random_graph(2, 2, 0.7, 7), (128, 128)),
    "block3x5": Panels(Graph.complete(1, 1), (1, 1), random_graph(7, 6, 0.5, 8), (3, 5)),
    "unstructured": Panels(Graph.complete(1, 1), (1, 1), random_graph(37, 53, 0.2, 9), (1, 1)),
    "dense": Panels(Graph.complete(1, 1), (1, 1), Graph.complete(5, 3), (8, 8)),
    "empty": Panels(Graph.complete(1, 1), (1, 1), random_graph(4, 4, 0.0, 10), (4, 4)),
}
columns = st.one_of(st.sampled_from([0, 1, 8, 16, 32, 48, 64, 96]), st.integers(0, 200))


def assert_close(found: Tensor, exact: Tensor, scale: Tensor) -> None:
    """Within the rounding of a float32 (bfloat16) sum: a few units of the sum of the terms' sizes.

    - exact: by float64; scale: the same product of absolute values.
    """
    assert found.shape == exact.shape
    unit = 2**-8 if found.dtype == torch.bfloat16 else 2**-20
    error = (found.double() - exact).abs()
    bad = error > unit * scale + 1e-30
    assert not bad.any(), f"{int(bad.sum())} of {bad.numel()} entries are off by up to {error.max().item():g}"
