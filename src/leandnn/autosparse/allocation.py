"""How a budget of non-zeros is divided among layers: uniform, and Erdős–Rényi with kernel sizes (ERK)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]


def uniform(shapes: Shapes, density: float) -> dict[str, float]:
    """The same density for every layer."""
    _check(density)
    return dict.fromkeys(shapes, density)


def erk(shapes: Shapes, density: float) -> dict[str, float]:
    """Densities in proportion to (n_out + n_in + kernel sizes) / (their product), in all `density`.

    RigL (Evci et al. 2020, arXiv 1911.11134, section 3 and its code): a layer whose share would be more than
    1 is dense, and the rest is divided anew.

    - shapes: of every weight, (out, in, kernel…).
    """
    _check(density)
    numbers = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / numbers[name] for name, shape in shapes.items()}
    budget = density * sum(numbers.values())
    full: set[str] = set()
    while True:
        sparse = [name for name in shapes if name not in full]
        left = budget - sum(numbers[name] for name in full)
        scale = left / sum(raw[name] * numbers[name] for name in sparse) if sparse else 0.0
        over = {name for name in sparse if scale * raw[name] > 1}
        if not over:
            break
        largest = max(raw[name] for name in over)
        full |= {name for name in over if raw[name] == largest}
    return {name: 1.0 if name in full else scale * raw[name] for name in shapes}


def _check(density: float) -> None:
    if not 0 < density <= 1:
        raise ValueError(f"the density is {density}, expected a share in (0, 1]")
